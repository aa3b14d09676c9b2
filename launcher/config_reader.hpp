/// \file
/// Typed reading of a parsed mapping. The first thing that is wrong is kept, everything after it reads as "not given",
/// so that a section is read in one go and checked once. Used by config.cpp and config_llmlaunch.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config.hpp"
#include "launcher/config_yaml.hpp"

namespace llmlaunch::launcher {

/// The source and the first error of one parse.
struct ConfigCheck {
  const ConfigSource& source;
  std::optional<Error> error;

  void fail(ConfigMark mark, std::string_view what, std::string_view note = {});
  std::string place(const YamlNode& node) const { return source.place(node.mark); }
};

/// One mapping with the keys it may have. `path` stands before the key in messages: "llmlaunch.ssh". The mapping must
/// outlive the reader. A key that is null counts as not given.
class MapReader {
 public:
  /// Fails on a node that is no mapping and on the first unknown key.
  MapReader(ConfigCheck& check, const YamlNode& mapping, std::string path, std::vector<std::string_view> known);

  const YamlNode* find(std::string_view key) const;
  /// The key's own place, for messages that come later; line 0 when it is not there.
  ConfigMark key_mark(std::string_view key) const;
  std::string path_of(std::string_view key) const;

  std::optional<std::string> text(std::string_view key);  ///< not empty, no zero byte
  std::vector<std::string> texts(std::string_view key);   ///< one text or a list of texts
  std::optional<bool> boolean(std::string_view key);
  std::optional<std::uint64_t> integer(std::string_view key, std::uint64_t least, std::uint64_t most);
  std::optional<std::chrono::milliseconds> duration(std::string_view key, std::chrono::milliseconds least);
  EnvList env(std::string_view key);

  /// "llmlaunch.ssh.port must be …, not 'x'", at the value.
  void refuse(std::string_view key, const YamlNode& value, std::string_view must_be);
  ConfigCheck& check() { return check_; }

 private:
  const YamlNode* scalar(std::string_view key, std::string_view must_be);

  ConfigCheck& check_;
  const YamlNode& mapping_;
  std::string path_;
};

/// "8", "-1": decimal digits that fit. Nothing for everything else.
std::optional<std::int64_t> parse_integer(std::string_view text);

}  // namespace llmlaunch::launcher
