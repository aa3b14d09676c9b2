/// \file
/// Several sources → one tree, before any key has a meaning: the file, what it includes, variables, --set; then the
/// references in what is left. Every place in the tree knows its source. Called by config.cpp alone; pure but for the
/// reader of included files.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config.hpp"
#include "launcher/config_yaml.hpp"

namespace llmlaunch::launcher {

// A file for the site, one for the cluster, one for the job and some to spare; more is a mistake.
inline constexpr std::size_t kMaxIncludeDepth = 8;
inline constexpr std::size_t kMaxIncludedFiles = 64;

struct ConfigLayers {
  YamlNode root;
  std::vector<std::unique_ptr<ConfigSource>> sources;  ///< the first one is the file; the tree's places point at them
  std::vector<std::string> secrets;                    ///< values of references whose names say so
  std::optional<YamlNode> include;                     ///< the file's own, which is no longer in the tree
};

/// The whole way. Errors: `Errc::invalid_config` at its place.
Result<void> read_layers(ConfigLayers& layers, const std::string& text, const ConfigInput& input,
                         const ConfigFileReader& read);

// Its steps.

/// LLMLAUNCH_SSH_PORT and the like, then --set, over the tree.
Result<void> apply_variables(ConfigLayers& layers, const EnvList& environment);
Result<void> apply_settings(ConfigLayers& layers, const std::vector<std::string>& settings);
/// Options that stand for a key: --mixed_precision, --fsdp_version.
Result<void> apply_overrides(ConfigLayers& layers, const std::vector<Override>& overrides);

/// `llmlaunch.include`: what the files say where the tree says nothing.
Result<void> apply_includes(ConfigLayers& layers, const ConfigInput& input, const ConfigFileReader& read);

/// ${VAR} and ${VAR:-x} in the texts below `node`, which stands at `path` ("llmlaunch", "llmlaunch.include"); not in
/// setup lines, nor in what came from a variable. What they come to is secret when the name says so.
Result<void> resolve_references(ConfigLayers& layers, YamlNode& node, const std::string& path,
                                const EnvList& environment);

/// The tree for people, in the order of the table of settings.
std::vector<ConfigValue> values_of(const ConfigLayers& layers);

// Mappings of the tree.
YamlNode* value_of(YamlNode& mapping, std::string_view key);
const YamlNode* value_of(const YamlNode& mapping, std::string_view key);
void set_value(YamlNode& mapping, std::string_view key, ConfigMark mark, YamlNode value);
void erase_key(YamlNode& mapping, std::string_view key);
bool is_mapping(const YamlNode* node);

}  // namespace llmlaunch::launcher
