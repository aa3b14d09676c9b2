/// \file
/// A small job whose steps depend on everything that a checkpoint keeps, and what it leaves: for the tests of
/// checkpoints and of stops.
#pragma once

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/integration/trainer/train_program.hpp"
#include "tests/support/sanitized.hpp"

namespace llmlaunch::test {

// Two epochs of 12 steps of 16 images: seven of a last batch of 5 on two ranks.
inline const Words kJob = {"--train_samples", "186", "--eval_samples",  "20",    "--logging_steps",     "1",
                           "--seed",          "3",   "--learning_rate", "0.002", "--lr_scheduler_type", "linear"};

inline const Words kShort = {"--train_samples", "186", "--eval_samples", "20", "--logging_steps", "1"};

inline Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

inline Words job(const std::string& batch, const Words& more, const std::string& epochs = "2") {
  return with(with(kJob, {"--per_device_train_batch_size", batch, "--num_train_epochs", epochs}), more);
}

inline std::string finished_alone(const Words& flags) {
  ChildProcess run(command(flags), kAlone);
  const int status = run.wait();
  INFO(run.output());
  REQUIRE(status == 0);
  return run.output();
}

/// Rank 0's output.
inline std::string finished_on(const std::vector<std::string>& hosts, const Words& flags) {
  const ServedRendezvous served(hosts);
  Ranks ranks = start_ranks(served, hosts.size(), flags);
  for (auto& rank : ranks) {
    const int status = rank->wait();
    INFO(rank->output());
    REQUIRE(status == 0);
  }
  return ranks[0]->output();
}

inline std::string finished_on_two(const Words& flags) {
  return finished_on({"alpha", "beta"}, flags);
}

/// The hash of the last epoch.
inline std::string last_hash(const std::string& output) {
  return parameter_hash(output.substr(output.rfind("parameter hash ")));
}

/// Until something else has made it.
inline void wait_for_folder(const std::string& path) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!std::filesystem::exists(path)) {
    REQUIRE(std::chrono::steady_clock::now() < end);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

inline nlohmann::json state_in(const std::string& output, int step) {
  std::ifstream in(output + "/checkpoint-" + std::to_string(step) + "/trainer_state.json");
  REQUIRE(in);
  return nlohmann::json::parse(in);
}

inline nlohmann::json records_in(const std::string& output) {
  std::ifstream in(output + "/metrics.jsonl");
  auto records = nlohmann::json::array();
  for (std::string line; std::getline(in, line);) records.push_back(nlohmann::json::parse(line));
  return records;
}

inline bool is_tested(const nlohmann::json& state, int step) {
  const auto& history = state.at("log_history");
  return std::any_of(history.begin(), history.end(), [&](const nlohmann::json& record) {
    return record.at("step") == step && record.contains("eval_loss");
  });
}

/// Records without what is another number in every run.
inline nlohmann::json told_by(nlohmann::json records) {
  for (auto& record : records) {
    for (const char* key :
         {"time", "samples_per_second", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"})
      record.erase(key);
  }
  return records;
}

/// But for the lock, which stays.
inline std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name != ".llmlaunch-train.lock") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Longer than it takes to look and to send a signal, of 12 steps each. Under sanitizers a step takes long.
inline constexpr int kEpochs = LLMLAUNCH_SANITIZED ? 5 : 10;
inline constexpr int kSteps = 12 * kEpochs;
inline const std::string kManyEpochs = std::to_string(kEpochs);
inline const std::string kOfSteps = "/" + std::to_string(kSteps);

}  // namespace llmlaunch::test
