// Bytes → whole prefixed lines; every case is also fed one byte at a time.
#include "launcher/log_mux.hpp"

#include "tests/support/catch.hpp"

namespace launcher_log_mux_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

constexpr auto kOut = agent::Stream::out;
constexpr auto kErr = agent::Stream::err;

LogMux mux_of(const std::vector<std::string>& hosts) {
  std::vector<RankPlace> places;
  for (const std::string& host : hosts) places.push_back({host, 0, static_cast<std::uint32_t>(places.size())});
  return {LinePrefix(places), places.size()};
}

std::string muxed(const std::string& bytes, std::size_t piece) {
  LogMux mux = mux_of({"gpu01"});
  std::string lines;
  for (std::size_t at = 0; at < bytes.size(); at += piece)
    mux.feed(Rank{0}, kOut, as_bytes(std::string_view(bytes).substr(at, piece)), lines);
  mux.end(Rank{0}, kOut, lines);
  return lines;
}

}  // namespace

TEST_CASE("bytes become whole lines with rank and host in front, however they are split") {
  struct Row {
    const char* name;
    std::string bytes;
    std::string lines;
  };
  const std::vector<Row> rows = {
      {"nothing", "", ""},
      {"one line", "hello\n", "[rank 0 gpu01] hello\n"},
      {"two lines", "a\nb\n", "[rank 0 gpu01] a\n[rank 0 gpu01] b\n"},
      {"empty lines stay", "\n\n", "[rank 0 gpu01] \n[rank 0 gpu01] \n"},
      {"a partial last line gets its newline", "a\nb", "[rank 0 gpu01] a\n[rank 0 gpu01] b\n"},
      {"CR LF is a newline", "a\r\nb\r\n", "[rank 0 gpu01] a\n[rank 0 gpu01] b\n"},
      {"a CR LF alone is an empty line", "\r\n", "[rank 0 gpu01] \n"},
      {"a CR inside is kept", "10%\r20%\n", "[rank 0 gpu01] 10%\r20%\n"},
      {"a progress bar that never ended keeps its CR", "10%\r20%\r", "[rank 0 gpu01] 10%\r20%\r\n"},
      {"bytes that are no text", std::string("\0\xff\xfe\x1b[31m\x80\n", 10),
       "[rank 0 gpu01] " + std::string("\0\xff\xfe\x1b[31m\x80\n", 10)},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(muxed(row.bytes, 1 << 20) == row.lines);
    CHECK(muxed(row.bytes, 1) == row.lines);
    CHECK(muxed(row.bytes, 3) == row.lines);
  }
}

TEST_CASE("prefixes have the same width") {
  std::vector<std::string> hosts(11, "gpu1");
  hosts[10] = "big-one";
  LogMux mux = mux_of(hosts);
  std::string lines;
  mux.feed(Rank{3}, kOut, as_bytes("x\n"), lines);
  mux.feed(Rank{10}, kErr, as_bytes("y\n"), lines);
  CHECK(lines == "[rank  3 gpu1]    x\n[rank 10 big-one] y\n");
}

TEST_CASE("streams and ranks do not mix") {
  LogMux mux = mux_of({"a", "b"});
  std::string lines;
  mux.feed(Rank{0}, kOut, as_bytes("out "), lines);
  mux.feed(Rank{1}, kOut, as_bytes("other\n"), lines);
  mux.feed(Rank{0}, kErr, as_bytes("err\n"), lines);
  mux.feed(Rank{0}, kOut, as_bytes("end\n"), lines);
  CHECK(lines == "[rank 1 b] other\n[rank 0 a] err\n[rank 0 a] out end\n");
}

TEST_CASE("a line beyond the limit is cut into marked pieces and loses no byte") {
  const std::string a(kMaxLineBytes, 'a'), b(kMaxLineBytes, 'b');
  const std::string prefix = "[rank 0 gpu01] ", mark(kCutMark);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20}) {
    INFO(piece);
    CHECK(muxed(a + "\n", piece) == prefix + a + "\n");  // just within it
    CHECK(muxed(a + b + "c\nd\n", piece) ==
          prefix + a + mark + "\n" + prefix + mark + b + mark + "\n" + prefix + mark + "c\n" + prefix + "d\n");
    CHECK(muxed(a + "c", piece) == prefix + a + mark + "\n" + prefix + mark + "c\n");
  }
}

TEST_CASE("what is held back is bounded") {
  LogMux mux = mux_of({"a"});
  const std::string endless(1 << 20, 'x');
  std::string lines;
  std::size_t written = 0;
  for (int i = 0; i < 16; ++i) {
    mux.feed(Rank{0}, kOut, as_bytes(endless), lines);
    for (const char c : lines) written += c == 'x';
    lines.clear();
  }
  CHECK((std::size_t{16} << 20) - written <= kMaxLineBytes);
}

TEST_CASE("end_all flushes what hosts that were lost left behind, and only once") {
  LogMux mux = mux_of({"a", "b"});
  std::string lines, out, err;
  mux.feed(Rank{1}, kOut, as_bytes("half"), lines);
  mux.feed(Rank{0}, kErr, as_bytes("part"), lines);
  CHECK(lines.empty());
  mux.end_all(out, err);
  mux.end_all(out, err);
  CHECK(out == "[rank 1 b] half\n");
  CHECK(err == "[rank 0 a] part\n");
}

}  // namespace launcher_log_mux_test
