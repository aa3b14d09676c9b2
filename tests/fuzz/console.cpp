// The console: whatever ranks print, in whatever pieces, every piece of it is whole lines with a prefix, nothing in
// them moves the cursor, and what holds no control characters arrives once and in order. The live line is one row.
#include "launcher/console.hpp"

#include "launcher/log_mux.hpp"
#include "launcher/screen_text.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

constexpr std::size_t kRanks = 3;

// Escape sequences that are left are colours, and strings that end on their line.
void check_line(std::string_view line) {
  FUZZ_CHECK(line.find_first_of("\r\x0e\x0f") == line.npos);
  while (true) {
    const std::size_t escape = line.find('\x1b');
    if (escape == line.npos) return;
    line.remove_prefix(escape + 1);
    FUZZ_CHECK(!line.empty());
    if (line.front() == '[') {
      const std::size_t end = line.find_first_not_of("0123456789;:", 1);
      FUZZ_CHECK(end != line.npos && line[end] == 'm');
      line.remove_prefix(end + 1);
    } else if (line.front() != '\\') {
      FUZZ_CHECK(std::string_view("]P_^X").find(line.front()) != std::string_view::npos);
      const std::size_t end = line.find_first_of("\a\x1b");
      FUZZ_CHECK(end != line.npos);
    }
  }
}

// The live line is one row of the terminal: letters alone, and not too many.
void look_at_live_line(Console& console, TimePoint now) {
  constexpr std::size_t kColumns = 20;
  if (console.live_line_is_due(now)) console.update_live_line(kColumns, now);
  if (!console.live()) return;
  FUZZ_CHECK(row_text(console.live_line(), kColumns) == console.live_line());
  for (const char c : console.live_line()) FUZZ_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

struct Seen {
  std::string text[2];  // of rank 0, without prefixes
  void take(const Console::Pieces& pieces) {
    for (const Console::Piece& piece : pieces) {
      std::string_view rest = piece.text;
      FUZZ_CHECK(rest.ends_with('\n'));
      while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        const std::string_view line = rest.substr(0, end);
        rest.remove_prefix(end + 1);
        check_line(line);
        const std::size_t prefix = line.find(' ');
        FUZZ_CHECK(prefix != line.npos);
        std::string& own = text[piece.stream == agent::Stream::err ? 1 : 0];
        if (line.starts_with("0 ")) own.append(line.substr(2)) += '\n';
        if (line.starts_with("[0"))  // "[0-2] ×3 text"
          own.append(line.substr(line.find(' ', line.find("] ×") + 2) + 1)) += '\n';
      }
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  LogSettings settings;
  settings.prefix = "{rank} ";
  settings.fold_lines = (data[0] & 1) != 0;
  settings.updates_per_second = (data[0] & 2) != 0 ? 10 : 0;
  Console console(settings, std::vector<RankPlace>(kRanks, RankPlace{"a", 0, 0}), {}, (data[0] & 4) != 0);
  Seen seen;
  std::string in[2];
  TimePoint now{};
  // Pieces: one byte says whose, one how long; the top bit lets time pass.
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  while (rest.size() >= 2) {
    const auto who = static_cast<std::uint8_t>(rest[0]);
    const auto length = static_cast<std::uint8_t>(rest[1]);
    const std::string_view piece = rest.substr(2, length & 0x7f);
    rest.remove_prefix(2 + piece.size());
    const std::size_t which = (who / kRanks) % 2;
    Console::Pieces pieces;
    const Rank rank{static_cast<std::uint32_t>(who % kRanks)};
    console.feed(rank, which == 1 ? agent::Stream::err : agent::Stream::out, as_bytes(piece), now, pieces);
    if ((length & 0x80) != 0) console.tick(now += std::chrono::milliseconds(60), pieces);
    seen.take(pieces);
    look_at_live_line(console, now);
    if (who % kRanks == 0) in[which] += piece;
  }
  Console::Pieces pieces;
  console.end_all(pieces);
  seen.take(pieces);
  for (const std::size_t which : {0u, 1u}) {
    if (in[which].find_first_of("\r\x1b\x0e\x0f") != std::string::npos) continue;
    if (!in[which].empty() && in[which].back() != '\n') in[which] += '\n';
    FUZZ_CHECK(in[which].size() > kMaxLineBytes || seen.text[which] == in[which]);
  }
  return 0;
}
