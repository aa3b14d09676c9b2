// Words for messages; see wording.hpp.
#include "rendezvous/wording.hpp"

#include <fmt/format.h>

namespace llmlaunch::rendezvous {
namespace {

// A message stays readable on a terminal; the rest of the ranks is counted.
constexpr std::size_t kMaxNamedGroups = 8;
constexpr std::size_t kMaxQuotedBytes = 64;

}  // namespace

std::string name_rank(Rank rank, std::string_view host) {
  return fmt::format("rank {} ({})", number(rank), host);
}

std::string name_ranks(const std::vector<Rank>& ranks, const std::vector<std::string>& hosts) {
  const auto host_of = [&](std::size_t i) { return std::string_view(hosts.at(number(ranks[i]))); };
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  std::size_t groups = 0;
  for (std::size_t first = 0; first < ranks.size();) {
    std::size_t last = first;
    while (last + 1 < ranks.size() && number(ranks[last + 1]) == number(ranks[last]) + 1 &&
           host_of(last + 1) == host_of(first)) {
      ++last;
    }
    if (groups == kMaxNamedGroups) return text + fmt::format(" and {} more", ranks.size() - first);
    if (groups > 0) text += ", ";
    text += fmt::to_string(number(ranks[first]));
    if (last > first) text += fmt::format("-{}", number(ranks[last]));
    text += fmt::format(" ({})", host_of(first));
    ++groups;
    first = last + 1;
  }
  return text;
}

std::string name_duration(std::chrono::milliseconds duration) {
  const auto ms = duration.count();
  if (ms < 1000) return fmt::format("{} ms", ms);
  if (ms % 1000 == 0) return fmt::format("{} s", ms / 1000);
  return fmt::format("{:.1f} s", static_cast<double>(ms) / 1000);
}

std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char letter : text.substr(0, kMaxQuotedBytes)) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte < 0x20 || byte >= 0x7f || letter == '\'' || letter == '\\')
      out += fmt::format("\\x{:02x}", byte);
    else
      out += letter;
  }
  return out + (text.size() > kMaxQuotedBytes ? "…'" : "'");
}

std::string name_nccl_version(std::uint32_t version) {
  // From 2.9 on the number is major*10000 + minor*100 + patch; before, major*1000.
  const std::uint32_t scale = version >= 10000 ? 10000 : 1000;
  return fmt::format("{}.{}.{}", version / scale, version % scale / 100, version % 100);
}

}  // namespace llmlaunch::rendezvous
