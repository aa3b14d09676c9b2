/// \file
/// The one table of what a configuration file may say: every key with its kind, range, default and meaning. The parser
/// takes its known keys from here, `config --schema` its JSON Schema, the reference page its rows.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace llmlaunch::launcher {

enum class SettingKind {
  text,
  texts,      ///< one, or a list of them
  boolean,    ///< true, yes, on; false, no, off
  integer,    ///< from `least` to `most`
  duration,   ///< "500ms", "30s", 90; `least` in ms
  size,       ///< "100MB", "64KiB", 4096
  limit,      ///< a number, one with K, M, G, T, or "unlimited"
  octal,      ///< "027"
  choice,     ///< one of `words`
  section,    ///< a mapping, with settings of its own in this table
  mapping,    ///< of accelerate's, whose keys are not looked at
  variables,  ///< names to values
  groups,     ///< names to hosts
  hosts,      ///< names, ranges, or mappings with the settings below "llmlaunch.hosts[]"
  any,
};

struct Setting {
  std::string_view path;  ///< "num_processes", "llmlaunch.ssh.port", "llmlaunch.hosts[].port"
  SettingKind kind = SettingKind::text;
  std::string_view meaning{};        ///< one sentence, without its full stop
  std::string_view default_words{};  ///< what holds without the key; empty: nothing
  std::string_view words{};          ///< of a choice, with blanks between them; of others: what is taken beside
  std::uint64_t least = 0;
  std::uint64_t most = 0;
  std::string_view instead{};  ///< the key that this one is another spelling of
};

// More ranks than this on one host is a typing error; the agent's own limit is the same.
inline constexpr std::uint64_t kMaxSlots = 4096;
inline constexpr std::uint64_t kMaxFanout = 4096;
// The head says at least one word each few seconds; below this a busy head would cost the job.
inline constexpr std::uint64_t kShortestHeadMs = 1'000;

/// All of them: accelerate's, then those of `llmlaunch:`; a section stands before what is in it.
std::span<const Setting> settings();

/// Nothing for a path that is none. The number of an item is as good as none: "llmlaunch.hosts[3].port".
const Setting* find_setting(std::string_view path);

/// The keys of a mapping: "" for the file, "llmlaunch.ssh", "llmlaunch.hosts[3]".
std::vector<std::string_view> keys_of(std::string_view section);

/// "llmlaunch.ssh.port" → "port".
std::string_view key_of(const Setting& setting);
/// "llmlaunch.ssh.port" → "llmlaunch.ssh"; "" for a key of accelerate's.
std::string_view section_of(const Setting& setting);
/// The words of a choice, one by one.
std::vector<std::string_view> words_of(const Setting& setting);

}  // namespace llmlaunch::launcher
