/// \file
/// The options of `llmlaunch run`: how they are declared, and how their texts become values.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "cli/options.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

inline constexpr const char* kListsRunOptions = "llmlaunch run --help lists the options";

/// CLI11's side of RunOptions. It points into itself: not to be moved.
class RunParser {
 public:
  CLI::App* app = nullptr;
  RunOptions values;

  void add_to(CLI::App& parent);
  /// After CLI11 has read the words: the checks that need more than one of them, and texts as values. Errors:
  /// `Errc::usage`.
  Result<void> check_values();

 private:
  void add_output_options();
  void add_launcher_options();
  Result<void> check_output();
  Result<void> check_process_values();

  std::string num_processes_;  // numbers as text: CLI11 would read 010 as 8
  std::string nproc_per_node_;
  std::string timeout_;
  std::string prefix_;
  std::string color_;
  std::string color_by_;
  std::string ranks_;
  std::string updates_per_second_;
  std::string stdin_to_;
  std::string cpu_bind_;
  std::vector<std::string> forward_signals_;
  bool quiet_ = false;
  bool verbose_ = false;
};

}  // namespace llmlaunch::cli
