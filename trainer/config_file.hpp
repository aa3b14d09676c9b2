/// \file
/// The text of a file of settings → keys and values, each with its place. YAML, or JSON, which is read as the YAML that
/// it is. Knows no key's meaning; `file_settings` does. The only part of the trainer behind which yaml-cpp stands.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

// All of TrainingArguments as JSON has 4 KB.
inline constexpr std::size_t kMaxTrainFile = std::size_t{1} << 20U;
// The deepest of TrainingArguments' own values has 3.
inline constexpr std::size_t kMaxTrainFileDepth = 16;
// Keys and values, each use of an alias counted in full, so that aliases of aliases end here.
inline constexpr std::size_t kMaxTrainFileNodes = 10'000;

/// A place in the text, both from 1; columns count characters. Line 0: the file as a whole.
struct FilePlace {
  std::size_t line = 0;
  std::size_t column = 0;
};

struct FileValue {
  enum class Kind { null, scalar, list, mapping };
  Kind kind = Kind::null;
  FilePlace place;
  std::string text;              ///< of a scalar
  bool quoted = false;           ///< "8" and not 8: a text, whatever it looks like
  std::vector<FileValue> items;  ///< of a list; of a mapping key, value, key, value … (keys are scalars, all different)
};

struct FileSetting {
  std::string key;
  FilePlace place;
  FileValue value;
};

class ConfigFile {
 public:
  /// `name` stands in messages. `Errc::invalid_config` with place, line and caret: what is no YAML, no mapping, a key
  /// given twice, a second document, more than the limits above.
  static Result<ConfigFile> parse(std::string name, std::string text);

  /// In the file's order: all keys, or those below `train:` where that is the only one.
  const std::vector<FileSetting>& settings() const { return settings_; }

  /// `Errc::invalid_config`:
  ///
  ///     cfg.yaml:2:1: unknown key 'learning_rat'
  ///         2 | learning_rat: 0.1
  ///           | ^ did you mean 'learning_rate'?
  ///
  /// What stands behind the name of a secret ("hub_token") is not shown: not there, nor in `what` and `note`, wherever
  /// it came from.
  Error error_at(FilePlace place, std::string_view what, std::string_view note = {}) const;

  /// Whether a text has a secret in it: nothing may be told that is made of it.
  bool is_secret(std::string_view text) const;

  const std::string& name() const { return name_; }

 private:
  ConfigFile(std::string name, std::string text) : name_(std::move(name)), text_(std::move(text)) {}
  Result<void> read();
  Result<void> take_settings(FileValue root, bool top);
  void note_secrets(const FileValue& value, bool secret);
  std::string without_secrets(std::string_view message) const;

  std::string name_;
  std::string text_;
  std::vector<FileSetting> settings_;
  std::vector<std::string> secrets_;  // texts that no message has
};

}  // namespace llmlaunch::trainer
