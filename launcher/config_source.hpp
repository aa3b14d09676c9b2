/// \file
/// A configuration's text and the places in it: turns "line 14, column 1" into the message a person reads. Used by the
/// parser (config_yaml) and by everything that checks what it parsed. What is read may come from several: the file,
/// files that it includes, variables, --set; each place knows its own.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config.hpp"
#include "rendezvous/base/error.hpp"

namespace llmlaunch::launcher {

class ConfigSource;

/// A place in the text, both from 1. Columns count characters, not bytes. line 0: the file as a whole.
struct ConfigMark {
  std::size_t line = 0;
  std::size_t column = 0;
  const ConfigSource* source = nullptr;  ///< outlives the mark; none: the one that is asked
};

class ConfigSource {
 public:
  /// `text` is copied. `name` stands in messages.
  ConfigSource(std::string name, std::string_view text);
  /// A value that stands in no file: "--set llmlaunch.ssh.port" or "LLMLAUNCH_SSH_PORT", which alone is its place.
  /// `before` is shown before its first line: "llmlaunch.ssh.port=".
  static std::unique_ptr<ConfigSource> of_value(ConfigOrigin origin, std::string name, std::string_view text,
                                                std::string before);
  ConfigSource(const ConfigSource&) = delete;  // the lines point into the text
  ConfigSource& operator=(const ConfigSource&) = delete;

  const std::string& name() const { return name_; }
  bool is_file() const { return origin_ == ConfigOrigin::file; }
  /// "cfg.yaml:14:1"
  std::string place(ConfigMark mark) const;
  /// The same, with what the mark's own source is.
  ConfigPlace origin_of(ConfigMark mark) const;
  /// From the line's number (from 1) and a byte offset in it, as parsers count.
  ConfigMark mark_at(std::size_t line, std::size_t byte_offset) const;
  std::size_t line_count() const { return lines_.size(); }
  std::string_view line(std::size_t number) const { return lines_[number - 1]; }

  /// Errc::invalid_config, with the line, a caret and a note behind it:
  ///
  ///     cfg.yaml:14:1: unknown key 'num_machine'
  ///        14 | num_machine: 8
  ///           | ^ did you mean 'num_machines'?
  ///
  /// What stands behind the name of a secret ("HF_TOKEN: …") is not shown.
  Error error_at(ConfigMark mark, std::string_view what, std::string_view note = {}) const;

 private:
  std::string name_;
  std::string text_;
  std::string before_;
  ConfigOrigin origin_ = ConfigOrigin::file;
  std::vector<std::string_view> lines_;
};

}  // namespace llmlaunch::launcher
