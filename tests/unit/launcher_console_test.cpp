// Bytes of ranks → what the terminal gets: rows of one stream, folding over ranks, prefixes, colours, time as a number.
#include "launcher/console.hpp"

#include <fmt/format.h>

#include "launcher/live_line.hpp"
#include "launcher/log_mux.hpp"
#include "tests/support/catch.hpp"

namespace launcher_console_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;

namespace {

constexpr auto kOut = agent::Stream::out;
constexpr auto kErr = agent::Stream::err;

/// What one stream shows at last, its lines ended with '|' for "\n".
std::string shown(std::string_view bytes, std::size_t piece) {
  ScreenLines screen;
  std::string lines;
  const auto take = [&lines](std::string_view text) { lines.append(text).append("|"); };
  for (std::size_t at = 0; at < bytes.size(); at += piece) screen.feed(bytes.substr(at, piece), take);
  screen.end(take);
  return lines;
}

/// What it shows when somebody looks after each piece.
std::string watched(const std::vector<std::string>& pieces) {
  ScreenLines screen;
  std::string lines;
  const auto take = [&lines](std::string_view text) { lines.append(text).append("|"); };
  for (const std::string& piece : pieces) {
    screen.feed(piece, take);
    screen.show_updates(take);
  }
  screen.end(take);
  return lines;
}

struct Bench {
  explicit Bench(const LogSettings& settings, ConsoleColors colors = {},
                 std::vector<RankPlace> places = {{"a", 0, 0}, {"a", 1, 0}, {"big", 0, 1}})
      : console(settings, std::move(places), colors) {}
  void out(std::uint32_t rank, std::string_view text) { feed(rank, kOut, text); }
  void err(std::uint32_t rank, std::string_view text) { feed(rank, kErr, text); }
  void feed(std::uint32_t rank, agent::Stream stream, std::string_view text) {
    console.feed(Rank{rank}, stream, as_bytes(text), now, pieces);
  }
  void tick(std::chrono::milliseconds passed) {
    now += passed;
    console.tick(now, pieces);
  }
  /// All that came since the last call; what went to stderr in <>.
  std::string take() {
    std::string text;
    for (const Console::Piece& piece : std::exchange(pieces, {}))
      text += piece.stream == kErr ? "<" + piece.text + ">" : piece.text;
    return text;
  }
  Console console;
  TimePoint now{};
  Console::Pieces pieces;
};

}  // namespace

TEST_CASE("a stream's lines are what its own terminal would show at last") {
  struct Row {
    const char* name;
    std::string bytes;
    std::string lines;
  };
  const std::vector<Row> rows{
      {"nothing", "", ""},
      {"lines", "a\nb\n", "a|b|"},
      {"empty lines stay", "\n\na\n", "||a|"},
      {"a partial last line", "a\nb", "a|b|"},
      {"CR LF is a line end", "a\r\n\r\nb\r\n", "a||b|"},
      {"a bar that ends with a newline", "10%\r20%\r100%\n", "100%|"},
      {"a bar that begins with CR", "\r10%\r20%\r100%\nnext\n", "100%|next|"},
      {"a bar that never ended", "10%\r20%\r", "20%|"},
      {"a bar that was wiped out", "\r10%\r    \rdone\n", "done|"},
      {"a bar that was wiped out and left so", "\r10%\r    \r", ""},
      {"a line erased and written again", "\r\x1b[2K10%\r\x1b[K20%\n", "20%|"},
      {"erased without CR", "half\x1b[2Kfull\n", "full|"},
      {"colours pass", "\x1b[1;31mred\x1b[0m plain\n", "\x1b[1;31mred\x1b[0m plain|"},
      {"an open colour ends with its line and begins the next", "\x1b[31mred\nalso\x1b[m\nplain\n",
       "\x1b[31mred\x1b[0m|\x1b[31malso\x1b[m|plain|"},
      {"several open colours", "\x1b[1m\x1b[38;5;9mx\n\x1b[0;32my\nz\n",
       "\x1b[1m\x1b[38;5;9mx\x1b[0m|\x1b[1m\x1b[38;5;9m\x1b[0;32my\x1b[0m|\x1b[0;32mz\x1b[0m|"},
      {"hyperlinks pass", "\x1b]8;;http://x\x1b\\x\x1b]8;;\a\n", "\x1b]8;;http://x\x1b\\x\x1b]8;;\a|"},
      {"an open string is closed", "\x1b]0;title\nnext\n", "\x1b]0;title\x1b\\|next|"},
      {"the cursor is not moved",
       "\x1b[2J\x1b[H\x1b[5;5Ha\x1b[?25lb\x1b"
       "7c\x1b"
       "cd\x1b(0e\x0e\x0f\n",
       "abcde|"},
      {"what looks like a colour and is none", "\x1b[>4;1ma\n", "a|"},
      {"an escape sequence that ends nowhere", "a\x1b\nb\x1b[3\nc\x1b[", "a|b|c|"},
      {"bytes that are no text", std::string("\0\xff\xfe\b\a\x80\x9b\n", 8), std::string("\0\xff\xfe\b\a\x80\x9b|", 8)},
      {"no ASCII in an escape sequence", "\x1b\xc3\xa4\x1b[3\xc3\xb6\n", "\xc3\xa4\xc3\xb6|"},
      {"an endless escape sequence", "\x1b[" + std::string(100, '1') + "mx\n", std::string(100 - 64, '1') + "mx|"},
      {"two bars below each other", "\router 0%\n\rinner 0%\x1b[A\router 1%\n\rinner 9%\x1b[A\router 2%\n\n",
       "outer 0%|outer 2%|inner 9%|"},
      {"as rich draws them", "a 0\nb 0\r\x1b[2K\x1b[1A\x1b[2Ka 1\nb 1\r\x1b[2K\x1b[1A\x1b[2Ka 2\nb 2\n",
       "a 0|a 2|b 2|"},
      {"up beyond everything", "x\x1b[99Ay\nb\n", "y|b|x|"},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(shown(row.bytes, 1 << 20) == row.lines);
    CHECK(shown(row.bytes, 1) == row.lines);
    CHECK(shown(row.bytes, 3) == row.lines);
  }
}

TEST_CASE("who looks in time sees the states between, each once") {
  CHECK(watched({"\r 1%", "\r 2%", "", "\r 3%\r 4%", "\r 4%\n"}) == " 1%| 2%| 4%|");
  CHECK(watched({"50%\r", "", "100%\r", "\n", "end\n"}) == "50%|100%|end|");
  CHECK(watched({"half a li", "ne\n"}) == "half a line|");  // not redrawn: nothing to see before its end
  CHECK(watched({"same\r", "\n", "same\n"}) == "same|same|");
  CHECK(watched({"\ra\n\rb\x1b[A", "\n\rb\x1b[A", "\rc", "\n\rd\x1b[A"}) == "a|b|c|d|");
}

TEST_CASE("a line beyond the limit is cut as merged.log cuts it") {
  const std::string a(kMaxLineBytes, 'a'), b(kMaxLineBytes, 'b'), mark(kCutMark);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20}) {
    INFO(piece);
    CHECK(shown(a + "\n", piece) == a + "|");
    CHECK(shown(a + b + "c\nd\n", piece) == a + mark + "|" + mark + b + mark + "|" + mark + "c|d|");
    CHECK(shown(a + "c", piece) == a + mark + "|" + mark + "c|");
  }
  const std::string red = "\x1b[31m", plain = "\x1b[0m";
  CHECK(shown(red + a, 1 << 20) ==
        red + a.substr(0, a.size() - red.size()) + plain + mark + "|" + mark + red + "aaaaa" + plain + "|");
}

TEST_CASE("a redrawn line comes at most so many times a second, its last state always") {
  LogSettings settings;
  settings.updates_per_second = 2;
  Bench bench(settings);
  bench.err(0, "\r 1%\r 2%");
  CHECK(bench.take().empty());
  CHECK(bench.console.due() == bench.now + kUpdateSettles);
  bench.tick(kUpdateSettles);
  CHECK(bench.take() == "<[rank 0 a]    2%\n>");
  CHECK(bench.console.due() == std::nullopt);
  bench.err(0, "\r 3%");
  bench.err(0, "\r 4%");
  CHECK(bench.console.due() == bench.now + 500ms);
  bench.tick(499ms);
  CHECK(bench.take().empty());
  bench.tick(1ms);
  CHECK(bench.take() == "<[rank 0 a]    4%\n>");
  bench.err(0, "\r 5%");
  bench.out(0, "a line does not wait\n");
  bench.err(0, "\r 6%\n");
  CHECK(bench.take() == "[rank 0 a]   a line does not wait\n<[rank 0 a]    6%\n>");
  bench.tick(1s);
  CHECK(bench.take().empty());
  bench.err(2, "\r 7%\r");
  bench.console.end_all(bench.pieces);
  CHECK(bench.take() == "<[rank 2 big]  7%\n>");
}

TEST_CASE("without updates a redrawn line comes once") {
  LogSettings settings;
  settings.updates_per_second = 0;
  Bench bench(settings);
  bench.out(1, "1%\r2%\r");
  CHECK(bench.console.due() == std::nullopt);
  bench.tick(10s);
  CHECK(bench.take().empty());
  bench.out(1, "3%\n");
  CHECK(bench.take() == "[rank 1 a]   3%\n");
}

TEST_CASE("ranks that are not asked for are not shown") {
  LogSettings settings;
  settings.ranks = {{1, 2}};
  Bench bench(settings);
  for (const std::uint32_t rank : {0u, 1u, 2u}) bench.out(rank, "x\npart");
  CHECK(bench.take() == "[rank 1 a]   x\n[rank 2 big] x\n");
  bench.console.end(Rank{0}, kOut, bench.now, bench.pieces);
  bench.console.end(Rank{1}, kOut, bench.now, bench.pieces);
  bench.console.end_all(bench.pieces);
  CHECK(bench.take() == "[rank 1 a]   part\n[rank 2 big] part\n");
}

TEST_CASE("a prefix is what its template says, and as wide as the others") {
  LogSettings settings;
  settings.prefix = "{time} {host}/{node_rank}.{local_rank} {rank}/{world_size} {stream}: ";
  Bench bench(settings);
  bench.console.set_time("10:15");
  bench.out(1, "x\n");
  bench.err(2, "y\n");
  CHECK(bench.take() == "10:15 a/0.1 1/3 out:   x\n<10:15 big/1.0 2/3 err: y\n>");
  bench.console.set_time("10:16");
  bench.out(1, "z\n");
  CHECK(bench.take() == "10:16 a/0.1 1/3 out:   z\n");
  settings.prefix = "none";
  Bench bare(settings, {true, true});
  bare.out(0, "x\n");
  CHECK(bare.take() == "x\n");
}

TEST_CASE("colours are each host's or each rank's, stderr is marked, and each descriptor has its own choice") {
  Bench bench({}, {true, true});
  bench.out(0, "x\n");
  bench.err(0, "y\n");
  bench.out(2, "z\n");
  CHECK(bench.take() ==
        "\x1b[36m[rank 0 a]   \x1b[0mx\n"
        "<\x1b[36m[rank 0 a]   \x1b[0m\x1b[1;31m!\x1b[0m y\n>"
        "\x1b[32m[rank 2 big] \x1b[0mz\n");
  LogSettings by_rank;
  by_rank.color_by = ColorBy::rank;
  Bench other(by_rank, {true, false});
  other.out(1, "x\n");
  other.err(1, "y\n");
  CHECK(other.take() == "\x1b[32m[rank 1 a]   \x1b[0mx\n<[rank 1 a]   y\n>");
}

TEST_CASE("the same line of many ranks is one, and no rank's lines change their order") {
  LogSettings settings;
  settings.fold_lines = true;
  Bench bench(settings);
  bench.out(0, "a\nb\n");
  bench.out(1, "a\nc\nb\n");
  CHECK(bench.take().empty());
  CHECK(bench.console.due() == bench.now + kFoldWindow);
  bench.out(2, "a\n");
  CHECK(bench.take() == "[0-2] \u00d73 a\n");  // nobody is left who could say it
  bench.tick(kFoldWindow);
  CHECK(bench.take() == "[rank 1 a]   c\n[0-1] \u00d72 b\n");
  bench.out(1, "x\nx\n");  // one rank twice is two lines
  bench.err(1, "x\n");     // and another stream is another line
  bench.out(2, "x\n");
  bench.tick(kFoldWindow);
  CHECK(bench.take() == "[1-2] \u00d72 x\n[rank 1 a]   x\n<[rank 1 a]   x\n>");
  bench.out(0, "step\nown 0\ndone\n");
  bench.out(1, "step\nown 1\ndone\n");
  bench.out(2, "step\nown 2\ndone\nmore\n");
  bench.out(0, "more\n");  // "done" is behind all of them now, so it came before this
  bench.tick(kFoldWindow);
  CHECK(bench.take() ==
        "[0-2] \u00d73 step\n[rank 0 a]   own 0\n[rank 1 a]   own 1\n[rank 2 big] own 2\n[0-2] \u00d73 done\n"
        "[0,2] \u00d72 more\n");
  bench.out(1, "before");
  bench.out(1, " a word of llmlaunch\n");
  bench.console.settle(bench.pieces);
  CHECK(bench.take() == "[rank 1 a]   before a word of llmlaunch\n");
  bench.err(2, "late");
  bench.err(0, "late");
  bench.console.end_all(bench.pieces);
  CHECK(bench.take() == "<[0,2] \u00d72 late\n>");
}

TEST_CASE("what waits to be folded is bounded, and nothing of it is lost") {
  LineFolder folder(2, 2);
  std::vector<std::string> lines;
  const auto take = [&lines](const LineFolder::Folded& line) { lines.push_back(line.text); };
  for (int i = 0; i < 10'000; ++i) {
    folder.add(0, kOut, std::to_string(i), TimePoint{});
    folder.take(TimePoint{}, take);
  }
  CHECK(lines.size() == 10'000 - kMaxFoldedLines);
  folder.take_all(take);
  REQUIRE(lines.size() == 10'000);
  for (int i = 0; i < 10'000; ++i) CHECK(lines[static_cast<std::size_t>(i)] == std::to_string(i));
  const std::string big(kMaxFoldedBytes, 'x');
  folder.add(0, kOut, big, TimePoint{});
  folder.add(1, kOut, "y", TimePoint{});
  folder.take(TimePoint{}, take);
  CHECK(lines.back() == big);
  CHECK(folder.due() == TimePoint{} + kFoldWindow);
}

TEST_CASE("a live line is drawn when it changes, and erased before anything else") {
  LiveLine line;
  CHECK(line.erase().empty());
  CHECK(line.draw().empty());
  line.set("one");
  CHECK(line.draw() == "one");
  CHECK(line.draw().empty());
  line.set("two");
  CHECK(line.draw() == "\r\x1b[Ktwo");
  CHECK(line.erase() == "\r\x1b[K");
  CHECK(line.erase().empty());
  CHECK(line.draw() == "two");
  line.set("");
  CHECK(line.draw() == "\r\x1b[K");
  CHECK(line.draw().empty());
}

}  // namespace launcher_console_test
