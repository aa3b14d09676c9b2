/// \file
/// Text → tree, with the place of every key and value. The only file behind which yaml-cpp stands. JSON is read as the
/// YAML that it is. What yaml-cpp lets pass in silence is an error here: a key given twice, a second document, a tag.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "launcher/config_source.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

// A host list of 65536 written-out names is below 2 MiB; the rest is room for environment values.
inline constexpr std::size_t kMaxConfigBytes = 4u << 20;
// accelerate's files have a depth of 2, ours of 5.
inline constexpr std::size_t kMaxConfigDepth = 32;
// Keys, values and items together, each use of an alias counted in full: "billion laughs" ends here.
inline constexpr std::size_t kMaxConfigNodes = 500'000;
inline constexpr std::size_t kMaxConfigAliases = 1'000;

struct YamlNode {
  enum class Kind { null, scalar, sequence, mapping };
  Kind kind = Kind::null;
  ConfigMark mark;
  std::string text;     ///< of a scalar
  bool quoted = false;  ///< "8" and not 8: a text, whatever it looks like
  std::vector<YamlNode>
      items;            ///< of a sequence; of a mapping key, value, key, value … (keys are scalars, all different)
  bool secret = false;  ///< the value, or a part of it, is one: it is shown nowhere
};

/// An empty document is an empty mapping. Errors: `Errc::invalid_config` with place and line.
Result<YamlNode> parse_yaml(const ConfigSource& source, const std::string& text);
/// The same for one value: an empty document is a null.
Result<YamlNode> parse_yaml_value(const ConfigSource& source, const std::string& text);

}  // namespace llmlaunch::launcher
