/// \file
/// llmlaunch-train as tests start it: alone, or as ranks of a served rendezvous, and what it printed.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rendezvous/base/env.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/rank_processes.hpp"
#include "tests/support/temporary_directory.hpp"

namespace llmlaunch::test {

using Words = std::vector<std::string>;
using Ranks = std::vector<std::unique_ptr<ChildProcess>>;

inline constexpr const char* kProgram = LLMLAUNCH_TRAIN_PROGRAM;

/// Without what an outer launcher may have left in the environment.
inline const std::map<std::string, std::string> kAlone = {{env::kRank, ""},       {env::kWorldSize, ""},
                                                          {env::kRendezvous, ""}, {env::kOmpNumThreads, "1"},
                                                          {env::kColumns, ""},    {env::kMixedPrecision, ""}};

inline Words command(const Words& flags) {
  Words words = {kProgram, "--use_cpu"};
  words.insert(words.end(), flags.begin(), flags.end());
  return words;
}

inline Ranks start_ranks(const ServedRendezvous& served, std::size_t count, const Words& flags) {
  Ranks ranks;
  for (std::size_t rank = 0; rank < count; ++rank) {
    ranks.push_back(std::make_unique<ChildProcess>(command(flags), served.environment(rank)));
  }
  return ranks;
}

/// What rank 0 said of an error that all ranks found, and that it ended with: the others wait, without a word, until
/// a launcher ends the job.
inline std::string told_by_rank_0(ServedRendezvous& served, const Ranks& ranks, int status) {
  const int ended = ranks[0]->wait();
  INFO(ranks[0]->output());
  CHECK(ended == status);
  served.end_generation("rank 0 exited with status " + std::to_string(ended));
  for (std::size_t rank = 1; rank < ranks.size(); ++rank) {
    CHECK(ranks[rank]->wait() == 75);
    CHECK_THAT(ranks[rank]->output(), !Catch::Contains("error"));
  }
  return ranks[0]->output();
}

class TemporaryFolder {
 public:
  std::string file(const std::string& name) const { return (directory_.path / name).string(); }

 private:
  TemporaryDirectory directory_;
};

inline std::vector<double> losses_in(const std::string& file) {
  std::ifstream in(file);
  std::vector<double> losses;
  for (std::string line; std::getline(in, line);) {
    const auto entry = nlohmann::json::parse(line);
    REQUIRE(entry.at("step").get<int>() == static_cast<int>(losses.size()) + 1);
    losses.push_back(entry.at("loss").get<double>());
  }
  return losses;
}

inline std::string parameter_hash(const std::string& output) {
  const std::string before = "parameter hash ";
  const std::size_t begin = output.find(before);
  REQUIRE(begin != std::string::npos);
  const std::string rest = output.substr(begin + before.size());
  const std::string hash = rest.substr(0, rest.find_first_not_of("0123456789abcdef"));
  REQUIRE(hash.size() == 16);
  return hash;
}

}  // namespace llmlaunch::test
