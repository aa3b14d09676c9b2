/// \file
/// A configuration's text and the places in it: turns "line 14, column 1" into the message a person reads. Used by the
/// parser (config_yaml) and by everything that checks what it parsed.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/error.hpp"

namespace llmlaunch::launcher {

/// A place in the text, both from 1. Columns count characters, not bytes. line 0: the file as a whole, or with a
/// column an option of the command line, counted from 1.
struct ConfigMark {
  std::size_t line = 0;
  std::size_t column = 0;
};

class ConfigSource {
 public:
  /// `text` is copied. `name` stands in messages; `options` are what stands there for keys of the command line.
  ConfigSource(std::string name, std::string_view text, std::vector<std::string> options = {});
  ConfigSource(const ConfigSource&) = delete;  // the lines point into the text
  ConfigSource& operator=(const ConfigSource&) = delete;

  const std::string& name() const { return name_; }
  /// "cfg.yaml:14:1"
  std::string place(ConfigMark mark) const;
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
  std::vector<std::string_view> lines_;
  std::vector<std::string> options_;
};

}  // namespace llmlaunch::launcher
