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

/// Of all ranks, in one gather: what job_facts says is 1.3 kB.
constexpr std::size_t kFirstPiece = 2048;
constexpr std::size_t kFirstText = kFirstPiece - sizeof(std::uint64_t);

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

// Every rank finds it alike, so that none waits for another's second piece.
Error too_long(std::size_t rank, std::uint64_t length) {
  return make_error(
      Errc::protocol,
      fmt::format("rank {} has a text of {} bytes for the others, and {} are the most", rank, length, kMaxText), {},
      "start all ranks with the same program");
}

}  // namespace

// A piece of fixed size first: the length, and as much of the text as there is room for. Few texts need a second one.
Result<std::vector<std::string>> gather_texts(Comm& comm, const std::string& mine) {
  const std::uint64_t length = mine.size();
  std::string piece(kFirstPiece, '\0');
  std::memcpy(piece.data(), &length, sizeof length);
  mine.copy(piece.data() + sizeof length, kFirstText);
  const auto first = comm.all_gather(as_bytes(piece));
  if (!first) return first.error();
  std::vector<std::uint64_t> lengths(first->size());
  for (std::size_t rank = 0; rank < lengths.size(); ++rank) {
    std::memcpy(&lengths[rank], (*first)[rank].data(), sizeof length);
    if (lengths[rank] > kMaxText) return too_long(rank, lengths[rank]);
  }
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < lengths.size(); ++rank) {
    texts.emplace_back(
        as_text((*first)[rank]).substr(sizeof length, std::min<std::uint64_t>(lengths[rank], kFirstText)));
  }
  const std::uint64_t longest = *std::max_element(lengths.begin(), lengths.end());
  if (longest <= kFirstText) return texts;
  std::string rest = length > kFirstText ? mine.substr(kFirstText) : std::string();
  rest.resize(longest - kFirstText, '\0');
  const auto rests = comm.all_gather(as_bytes(rest));
  if (!rests) return rests.error();
  for (std::size_t rank = 0; rank < lengths.size(); ++rank) {
    if (lengths[rank] > kFirstText) texts[rank] += as_text((*rests)[rank]).substr(0, lengths[rank] - kFirstText);
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

Error told_once(Comm& comm, Error error, std::uint32_t by) {
  if (comm.rank() == by) return error;
  // That rank does not come: it ends, and with it this wait. Who left first could end it before it has said why.
  [[maybe_unused]] const auto left = comm.barrier();
  error.what.clear();
  return error;
}

}  // namespace llmlaunch::trainer
