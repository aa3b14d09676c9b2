/// \file
/// The one table of llmlaunch-train's flags, with their checks, behind which CLI11 stands. The command line and files
/// of settings go through it, so that both know the same names and refuse the same values.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/options.hpp"

namespace llmlaunch::trainer {

/// What was said of things that are no option of the job themselves.
struct OptionWords {
  std::string config;                ///< --config
  std::optional<bool> use_cpu;       ///< --use_cpu
  std::optional<bool> disable_tqdm;  ///< --disable_tqdm
  std::optional<bool> bf16;          ///< --bf16
  std::optional<bool> fp16;          ///< --fp16
  std::vector<std::string> report_to;
};

class OptionTable {
 public:
  /// Both outlive the table; what is set goes there, and what is not set stays.
  OptionTable(TrainOptions& options, OptionWords& words);
  ~OptionTable();
  OptionTable(const OptionTable&) = delete;
  OptionTable& operator=(const OptionTable&) = delete;

  struct Typed {
    std::string answer;               ///< to --help and --version
    std::vector<std::string> extras;  ///< what is no flag of the table, and belongs to none
  };
  /// The command line; `Errc::usage`.
  Result<Typed> parse(std::span<const std::string> arguments);
  /// Whether the last `parse` or `set` had this flag.
  bool has(const std::string& name) const;

  /// Of a setting that a file may have; nothing for one that is not known.
  std::optional<FlagKind> kind_of(const std::string& name) const;
  /// A value from a file. The message is as that of the command line, without the hyphens; `Errc::usage`, whose hint
  /// may be empty.
  Result<void> set(const std::string& name, std::span<const std::string> values);

  std::vector<std::string> names() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace llmlaunch::trainer
