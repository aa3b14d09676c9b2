// Log lines: whatever ranks print, in whatever pieces, every byte but line ends arrives once and in order, every line
// has its prefix, and no more than one line per stream is held back.
#include "launcher/log_mux.hpp"

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

constexpr std::size_t kRanks = 3;

// What must be left of a stream: prefixes, marks and line ends taken away, "\r\n" as one line end.
std::string text_of(std::string_view lines, const LinePrefix& prefixes, std::size_t rank) {
  std::string text, prefix;
  prefixes.append(Rank{static_cast<std::uint32_t>(rank)}, agent::Stream::out, "", prefix);
  bool cut = false;
  while (!lines.empty()) {
    FUZZ_CHECK(lines.substr(0, prefix.size()) == prefix);
    const std::size_t end = lines.find('\n');
    FUZZ_CHECK(end != std::string_view::npos);
    std::string_view line = lines.substr(prefix.size(), end - prefix.size());
    FUZZ_CHECK(line.size() <= kMaxLineBytes + 2 * kCutMark.size());
    lines.remove_prefix(end + 1);
    if (cut) {
      FUZZ_CHECK(line.starts_with(kCutMark));
      line.remove_prefix(kCutMark.size());
    }
    cut = line.size() == kMaxLineBytes + kCutMark.size() && line.ends_with(kCutMark);
    if (cut) line.remove_suffix(kCutMark.size());
    text += line;
    if (!cut) text += '\n';
  }
  if (cut) text += '\n';
  return text;
}

std::string expected(const std::string& bytes) {
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    const bool crlf = bytes[at] == '\r' && at + 1 < bytes.size() && bytes[at + 1] == '\n';
    if (!crlf) text += bytes[at];
  }
  if (!text.empty() && text.back() != '\n') text += '\n';
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const LinePrefix prefixes({{"a", 0, 0}, {"host-with-a-long-name", 0, 1}, {"b", 0, 2}});
  LogMux mux(prefixes, kRanks);
  std::string in[kRanks][2], out[kRanks][2];
  // Pieces: one byte says whose, one how long; the top bit repeats the piece a thousand times, for long lines.
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::size_t total = 0;
  while (rest.size() >= 2 && total < (1u << 20)) {
    const auto who = static_cast<std::uint8_t>(rest[0]);
    const std::size_t rank = who % kRanks;
    const std::size_t which = (who / kRanks) % 2;
    const auto length = static_cast<std::uint8_t>(rest[1]);
    const std::string_view piece = rest.substr(2, length & 0x7f);
    rest.remove_prefix(2 + piece.size());
    for (int times = (length & 0x80) != 0 ? 1000 : 1; times > 0; --times) {
      mux.feed(Rank{static_cast<std::uint32_t>(rank)}, which == 1 ? agent::Stream::err : agent::Stream::out,
               as_bytes(piece), out[rank][which]);
      in[rank][which] += piece;
      total += piece.size();
    }
    FUZZ_CHECK(in[rank][which].size() <= out[rank][which].size() + kMaxLineBytes);
  }
  for (std::size_t rank = 0; rank < kRanks; ++rank) {
    for (const std::size_t which : {0u, 1u}) {
      mux.end(Rank{static_cast<std::uint32_t>(rank)}, which == 1 ? agent::Stream::err : agent::Stream::out,
              out[rank][which]);
      // A "\r\n" that a cut has parted, and marks that a rank itself prints at a cut, are told apart by the unit tests.
      if (in[rank][which].size() <= kMaxLineBytes)
        FUZZ_CHECK(text_of(out[rank][which], prefixes, rank) == expected(in[rank][which]));
    }
  }
  return 0;
}
