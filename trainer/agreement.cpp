// Compares what the ranks are about to do. Called once, by the training loop.
#include "trainer/agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace llmlaunch::trainer {
namespace {

constexpr char kBetween = '\x1f';  // a name and its value, and the host and the first name
constexpr char kAfter = '\x1e';    // each value

/// Differences that are told; more of them have one cause.
constexpr std::size_t kShown = 4;

std::string packed(const std::string& host, const JobFacts& facts) {
  std::string text = host + kAfter;
  for (const auto& [name, value] : facts) text += fmt::format("{}{}{}{}", name, kBetween, value, kAfter);
  return text;
}

struct RankFacts {
  std::string host;
  JobFacts facts;
};

RankFacts unpacked(std::string_view text) {
  RankFacts result;
  bool first = true;
  for (std::size_t end = text.find(kAfter); end != std::string_view::npos; end = text.find(kAfter)) {
    const std::string_view entry = text.substr(0, end);
    text.remove_prefix(end + 1);
    const std::size_t between = entry.find(kBetween);
    if (first) {
      result.host = entry;
    } else if (between != std::string_view::npos) {
      result.facts.emplace_back(entry.substr(0, between), entry.substr(between + 1));
    }
    first = false;
  }
  return result;
}

const std::string* value_of(const JobFacts& facts, const std::string& name) {
  const auto found = std::find_if(facts.begin(), facts.end(), [&](const auto& fact) { return fact.first == name; });
  return found == facts.end() ? nullptr : &found->second;
}

}  // namespace

/// The lengths first, then all as long as the longest.
Result<std::vector<std::string>> gather_texts(Comm& comm, const std::string& mine) {
  const std::uint64_t length = mine.size();
  const auto lengths = comm.all_gather(std::as_bytes(std::span(&length, 1)));
  if (!lengths) return lengths.error();
  std::vector<std::uint64_t> sizes(lengths->size());
  for (std::size_t rank = 0; rank < sizes.size(); ++rank)
    std::memcpy(&sizes[rank], (*lengths)[rank].data(), sizeof length);
  std::string padded = mine;
  padded.resize(*std::max_element(sizes.begin(), sizes.end()), '\0');
  const auto all = comm.all_gather(as_bytes(padded));
  if (!all) return all.error();
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < sizes.size(); ++rank) {
    texts.emplace_back(as_text((*all)[rank]).substr(0, sizes[rank]));
  }
  return texts;
}

Result<void> check_same_job(Comm& comm, const std::string& host, const JobFacts& mine) {
  const auto texts = gather_texts(comm, packed(host, mine));
  if (!texts) return texts.error();
  std::vector<RankFacts> ranks;
  for (const std::string& text : *texts) ranks.push_back(unpacked(text));
  const RankFacts& zero = ranks.front();
  std::vector<std::string> differences;
  for (const auto& [name, expected] : zero.facts) {
    for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
      const RankFacts& other = ranks[rank];
      const std::string* value = value_of(other.facts, name);
      if (value != nullptr && *value == expected) continue;
      differences.push_back(fmt::format("{} is {} on rank {} ({}) and {} on rank 0 ({})", name,
                                        value == nullptr ? "not known" : *value, rank, other.host, expected,
                                        zero.host));
      break;
    }
  }
  if (differences.empty()) return ok;
  const std::size_t more = differences.size() > kShown ? differences.size() - kShown : 0;
  differences.resize(differences.size() - more);
  return told_once(comm, make_error(Errc::invalid_argument,
                                    fmt::format("the ranks are not of one job: {}{}", fmt::join(differences, "; "),
                                                more > 0 ? fmt::format("; and {} more", more) : std::string()),
                                    {}, "start all ranks with the same program, flags and data"));
}

Error told_once(Comm& comm, Error error) {
  if (comm.rank() == 0) return error;
  // Rank 0 does not come: it ends, and with it this wait. Who left first could end rank 0 before it has said why.
  [[maybe_unused]] const auto left = comm.barrier();
  error.what.clear();
  return error;
}

}  // namespace llmlaunch::trainer
