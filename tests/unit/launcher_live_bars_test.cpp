// What a terminal shows of lines that ranks draw again: which one, how wide, when, and what becomes of it.
#include "launcher/live_bars.hpp"

#include "launcher/console.hpp"
#include "launcher/screen_text.hpp"
#include "tests/support/catch.hpp"

namespace launcher_live_bars_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;

namespace {

constexpr auto kOut = agent::Stream::out;
constexpr auto kErr = agent::Stream::err;

/// A console whose live line is looked at whenever it says so, as the output writer does.
struct Screen {
  explicit Screen(LogSettings settings = {}, std::size_t width = 60)
      : console(settings, {{"a", 0, 0}, {"a", 1, 0}, {"big", 0, 1}}, {}, true), columns(width) {}

  void out(std::uint32_t rank, std::string_view text) { feed(rank, kOut, text); }
  void err(std::uint32_t rank, std::string_view text) { feed(rank, kErr, text); }
  void feed(std::uint32_t rank, agent::Stream stream, std::string_view text) {
    console.feed(Rank{rank}, stream, as_bytes(text), now, pieces);
    look();
  }
  void end(std::uint32_t rank, agent::Stream stream) {
    console.end(Rank{rank}, stream, now, pieces);
    look();
  }
  void pass(std::chrono::milliseconds time) {
    now += time;
    console.tick(now, pieces);
    look();
  }
  void look() {
    for (; console.live_line_is_due(now); ++looks) console.update_live_line(columns, now);
  }
  /// The lines since the last call, and below them the live one.
  std::string take() {
    std::string text;
    for (const Console::Piece& piece : std::exchange(pieces, {})) text += piece.text;
    return text + ">" + console.live_line();
  }

  Console console;
  std::size_t columns;
  TimePoint now{1h};
  Console::Pieces pieces;
  int looks = 0;
};

}  // namespace

TEST_CASE("a line that is drawn again is the live line, and a line when it is complete") {
  Screen screen;
  screen.err(0, "\r 10%");
  CHECK(screen.take() == ">");  // the rest of it may be on its way
  screen.pass(kLiveLineSettles);
  CHECK(screen.take() == ">[rank 0 a]    10%");
  screen.out(0, "an ordinary line\n");
  CHECK(screen.take() == "[rank 0 a]   an ordinary line\n>[rank 0 a]    10%");
  screen.err(0, "\r 20%");
  screen.err(0, "\r 30%");
  CHECK(screen.take() == ">[rank 0 a]    10%");
  screen.pass(kBetweenLiveLines);
  CHECK(screen.take() == ">[rank 0 a]    30%");
  CHECK(screen.console.due() == std::nullopt);
  screen.err(0, "\r100%\nnext");
  CHECK(screen.take() == "[rank 0 a]   100%\n>");
  screen.err(0, "\r 5%");
  screen.pass(1s);
  screen.end(0, kErr);
  CHECK(screen.take() == "[rank 0 a]    5%\n>");
}

TEST_CASE("it is looked at ten times a second, however often it is drawn") {
  Screen screen;
  for (int i = 0; i < 1000; ++i) {
    screen.err(0, "\rstep " + std::to_string(i));
    screen.pass(1ms);
  }
  CHECK(screen.looks == 10);
  CHECK(screen.take() == ">[rank 0 a]   step 929");
}

TEST_CASE("of several lines the lowest rank's is shown, and then the next one's") {
  Screen screen;
  screen.out(2, "\r2 out");
  screen.err(1, "\r1 err");
  screen.out(1, "\r1 out");
  screen.pass(1s);
  CHECK(screen.take() == ">[rank 1 a]   1 out (+2 more)");
  screen.out(1, "\r1 ends\n");
  CHECK(screen.take() == "[rank 1 a]   1 ends\n>[rank 1 a]   1 err (+1 more)");
  screen.err(0, "\r0");
  screen.err(1, "\r     ");  // cleared: nothing to see
  screen.pass(1s);
  CHECK(screen.take() == ">[rank 0 a]   0 (+1 more)");
  screen.err(0, "\r \rline\n");
  CHECK(screen.take() == "[rank 0 a]   line\n>[rank 2 big] 2 out");
  screen.end(2, kOut);
  screen.end(1, kErr);
  CHECK(screen.take() == "[rank 2 big] 2 out\n>");
}

TEST_CASE("the live line is never wider than the terminal, and the number of others is seen") {
  Screen screen({}, 24);
  screen.err(0, "\r" + std::string(1000, '#'));
  screen.pass(1s);
  CHECK(screen.take() == ">[rank 0 a]   ###########");
  screen.err(1, "\rx");
  screen.pass(1s);
  CHECK(screen.take() == ">[rank 0 a]   # (+1 more)");
  screen.columns = 5;
  screen.err(1, "\ry");
  screen.pass(1s);
  CHECK(screen.console.live_line().size() == 5);
}

TEST_CASE("of bars below each other the lowest is shown") {
  Screen screen;
  screen.err(0, "\router 1\n\rinner 1\x1b[A");
  screen.err(0, "\router 2\n\rinner 2\x1b[A");
  screen.pass(1s);
  CHECK(screen.take() == "[rank 0 a]   outer 1\n>[rank 0 a]   inner 2");
  screen.err(0, "\n\r       \r\x1b[A");
  screen.pass(1s);
  CHECK(screen.take() == ">[rank 0 a]   outer 2");
}

TEST_CASE("no control character, colour or link is in the live line, and no half a letter") {
  Screen screen;
  screen.err(0, "\r\x1b[32m50%\x1b[0m\x1b]8;;http://x\x1b\\link\x1b]8;;\a\t|\b\x07\x9b|\xc2\x9b|\xe2\x96");
  screen.pass(1s);
  CHECK(screen.take() == ">[rank 0 a]   50%link |?||??");
}

TEST_CASE("without updates, and without a terminal, there is no live line") {
  LogSettings settings;
  settings.updates_per_second = 0;
  const std::vector<RankPlace> places{{"a", 0, 0}};
  CHECK_FALSE(Console(settings, places, {}, true).live());
  CHECK_FALSE(Console({}, places, {}, false).live());
  Console console({}, places, {}, true);
  CHECK(console.live());
}

TEST_CASE("a prefix is as wide as a terminal shows it, and ranks of all names get the same") {
  struct Row {
    std::vector<const char*> hosts;
    std::optional<std::string> prefix;
    std::vector<std::string> prefixes;
    std::size_t columns;
  };
  const std::vector<Row> rows = {
      {{"a"}, {}, {"[rank 0 a] "}, 11},
      {{"a"}, "none", {""}, 0},
      {{"a"}, "{time} ", {"2030-12-31T23:59:59 "}, 20},
      {{"\u5b66", "abc"}, {}, {"[rank 0 \u5b66]  ", "[rank 1 abc] "}, 13},  // of two columns
      {{"e\u0301", "ab"}, "{host}|", {"e\u0301| ", "ab|"}, 3},              // an accent of its own
      {{"a", "bc"}, "\x1b[1m{host}\x1b[0m ", {"\x1b[1ma\x1b[0m  ", "\x1b[1mbc\x1b[0m "}, 3},
      {{"a"},
       "\xff{host} ",
       {"\xff"
        "a "},
       3},  // a byte that is no letter is shown as one
  };
  for (const Row& row : rows) {
    CAPTURE(row.prefixes.front());
    LogSettings settings;
    settings.prefix = row.prefix;
    std::vector<RankPlace> places;
    for (const char* host : row.hosts) places.push_back({host, 0, 0});
    const LinePrefix prefix = LinePrefix::of(settings, places);
    CHECK(prefix.columns() == row.columns);
    for (std::uint32_t rank = 0; rank < row.prefixes.size(); ++rank) {
      std::string text;
      prefix.append(Rank{rank}, kOut, "2030-12-31T23:59:59", text);
      CHECK(text == row.prefixes[rank]);
    }
  }
}

TEST_CASE("the room of a letter is what a terminal gives it") {
  struct Row {
    const char* text;
    std::size_t columns;
    const char* shown;
  };
  const std::vector<Row> rows = {
      {"plain", 3, "pla"},
      {"plain", 0, ""},
      {"gr\u00fcn", 3, "gr\u00fc"},
      {"45%|\u2588\u2588\u258c |", 7, "45%|\u2588\u2588\u258c"},
      {"\u5b66\u7fd2", 3, "\u5b66"},  // two columns each
      {"\u5b66\u7fd2", 4, "\u5b66\u7fd2"},
      {"e\u0301x", 1, "e\u0301"},  // an accent of its own
      {"\U0001F680x", 2, "\U0001F680"},
      {"a\xff"
       "b\xe2\x82",
       9, "a?b??"},
      {"\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80", 99, "?????????"},
      {"a\x1b[1;31mb\x1b[", 9, "ab"},
      {"a\x1b[1\u00fcb\x1b[\x7f", 9, "a\u00fcb"},  // no byte of another letter ends a sequence
      {"a\x1b]0;title", 9, "a"},
      {"a\x1b"
       "cb",
       9, "acb"},
      {"\x1b", 9, ""},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    CHECK(row_text(row.text, row.columns) == row.shown);
    CHECK(row_width(row.shown) <= row.columns);
  }
  CHECK(row_width("\u5b66e\u0301x") == 4);
  CHECK(row_width("\xff\x1b[1mx\t") == 3);
  CHECK(is_blank_row(" \t\x1b[1m\x07"));
  CHECK_FALSE(is_blank_row("  \x1b[1m \xff"));
}

}  // namespace launcher_live_bars_test
