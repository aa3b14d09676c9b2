// One section at a time, each key by its row. A value is stored as its row spells it: booleans as true and false, words
// of a choice as they stand in the table, so that "yes", 'On' and "inductor" mean to a worker what they say.
#include "launcher/accelerate_sections.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "launcher/accelerate_env.hpp"
#include "launcher/accelerate_settings.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::array<std::string_view, 9> kSections{"fp8_config",         "deepspeed_config",   "fsdp_config",
                                                    "parallelism_config", "megatron_lm_config", "mpirun_config",
                                                    "dynamo_config",      "ipex_config",        "tp_config"};
constexpr std::array<std::string_view, 5> kStrategies{"FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD",
                                                      "HYBRID_SHARD_ZERO2"};

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

template <class Words>
std::optional<std::string> word_of(std::string_view text, const Words& words) {
  const auto found =
      std::find_if(words.begin(), words.end(), [&](std::string_view word) { return same_word(text, word); });
  if (found == words.end()) return std::nullopt;
  return std::string(*found);
}

std::optional<std::string> flag_of(std::string_view text) {
  for (const char* yes : {"true", "yes", "on"})
    if (same_word(text, yes)) return "true";
  for (const char* no : {"false", "no", "off"})
    if (same_word(text, no)) return "false";
  return std::nullopt;
}

bool is_whole_number(std::string_view text) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failed == std::errc{} && end == text.data() + text.size() && value >= 0 && value <= 1e300;
}

/// A text in the shape that its row asks for; nothing when it is not in it.
std::optional<std::string> shaped(const std::string& text, ValueShape shape) {
  switch (shape) {
    case ValueShape::plain:
    case ValueShape::three_flags: return text;
    case ValueShape::number: return is_whole_number(text) ? std::optional(text) : std::nullopt;
    case ValueShape::number_or_auto:
      if (same_word(text, "auto")) return "auto";
      return is_whole_number(text) ? std::optional(text) : std::nullopt;
    case ValueShape::count_or_auto: {
      if (same_word(text, "auto")) return "auto";
      const auto number = parse_integer(text);
      return number && *number >= 1 ? std::optional(text) : std::nullopt;
    }
    case ValueShape::flag_or_strategy:
      if (auto flag = flag_of(text)) return flag;
      [[fallthrough]];
    case ValueShape::strategy: {
      if (text.size() == 1 && text[0] >= '1' && text[0] <= '5') return text;
      return word_of(text, kStrategies);
    }
  }
  return std::nullopt;
}

std::string must_be(ValueShape shape) {
  const std::string strategies = fmt::format("one of {}", fmt::join(kStrategies, ", "));
  switch (shape) {
    case ValueShape::plain: return "a text";
    case ValueShape::number: return "a number";
    case ValueShape::number_or_auto: return "a number, or auto";
    case ValueShape::count_or_auto: return "a whole number from 1, or auto";
    case ValueShape::strategy: return strategies;
    case ValueShape::flag_or_strategy: return "true, false or " + strategies;
    case ValueShape::three_flags: return "three flags, as in [true, false, false]";
  }
  return {};
}

/// "[true, false, no]" or "true,false,no" → "true,false,false".
std::optional<std::string> three_flags(const std::vector<std::string>& given) {
  std::string joined = fmt::format("{}", fmt::join(given, ","));
  joined.erase(std::remove_if(joined.begin(), joined.end(), [](char c) { return c == ' ' || c == '(' || c == ')'; }),
               joined.end());
  std::vector<std::string> flags;
  for (std::size_t start = 0; start <= joined.size();) {
    const auto end = std::min(joined.find(',', start), joined.size());
    const auto flag = flag_of(std::string_view(joined).substr(start, end - start));
    if (!flag) return std::nullopt;
    flags.push_back(*flag);
    start = end + 1;
  }
  if (flags.size() != 3) return std::nullopt;
  return fmt::format("{}", fmt::join(flags, ","));
}

std::optional<std::string> read_value(MapReader& map, std::string_view key, const AccelerateSetting& row) {
  const YamlNode* node = map.find(key);
  if (node == nullptr) return std::nullopt;
  switch (row.setting.kind) {
    case SettingKind::boolean: {
      const auto value = map.boolean(key);
      return value ? std::optional<std::string>(*value ? "true" : "false") : std::nullopt;
    }
    case SettingKind::integer: {
      const auto value = map.integer(key, row.setting.least, row.setting.most);
      return value ? std::optional(fmt::format("{}", *value)) : std::nullopt;
    }
    case SettingKind::texts: {
      const auto flags = three_flags(map.texts(key));
      if (!flags) map.refuse(key, *node, must_be(row.shape));
      return flags;
    }
    default: break;
  }
  // What accelerate's own dialogue writes for an answer that was left out.
  const bool free_text = row.setting.kind != SettingKind::choice;
  if (free_text && node->kind == YamlNode::Kind::scalar && node->text.empty()) return std::nullopt;
  const auto text = map.text(key);
  if (!text) return std::nullopt;
  if (row.setting.kind != SettingKind::choice) {
    auto value = shaped(*text, row.shape);
    if (!value) map.refuse(key, *node, must_be(row.shape));
    return value;
  }
  const auto words = words_of(row.setting);
  auto word = word_of(*text, words);
  if (!word && same_word(*text, "false")) word = word_of("no", words);  // what other YAML readers make of a plain no
  if (!word) map.refuse(key, *node, fmt::format("one of {}", fmt::join(words, ", ")));
  return word;
}

void read_section(MapReader& top, std::string_view name, const YamlNode& node, Config& config) {
  MapReader map(top.check(), node, std::string(name), keys_of(name));
  if (top.check().error) return;
  for (std::size_t i = 0; i + 1 < node.items.size(); i += 2) {
    const std::string& key = node.items[i].text;
    const AccelerateSetting* row = find_accelerate_setting(fmt::format("{}.{}", name, key));
    if (row == nullptr) continue;  // refused above
    if (name == "deepspeed_config") config.deepspeed_fields.push_back(key);
    auto value = read_value(map, key, *row);
    if (!value) continue;
    const std::string path(row->setting.path);
    if (!config.accelerate.emplace(path, std::move(*value)).second) {
      top.check().fail(node.items[i].mark, fmt::format("{} has '{}' twice", name, key_of(row->setting)),
                       fmt::format("'{}' is another spelling of it", key));
    }
    config.places.emplace(path, top.check().source.origin_of(node.items[i].mark));
  }
}

/// What accelerate's own launcher refuses, too.
void check_fsdp(MapReader& top, const Config& config) {
  const auto is = [&](const char* path, const char* value) {
    const auto found = config.accelerate.find(path);
    return found != config.accelerate.end() && found->second == value;
  };
  if (config.distributed_type != "FSDP" || !is("fsdp_config.fsdp_sync_module_states", "false")) return;
  if (is("fsdp_config.fsdp_cpu_ram_efficient_loading", "false")) return;
  const YamlNode& section = *top.find("fsdp_config");
  for (std::size_t i = 0; i + 1 < section.items.size(); i += 2) {
    if (!section.items[i].text.ends_with("sync_module_states")) continue;
    top.check().fail(section.items[i].mark, "fsdp_sync_module_states is false, but rank 0 alone loads the weights",
                     "set it to true, or fsdp_cpu_ram_efficient_loading to false");
  }
}

}  // namespace

void read_accelerate_sections(MapReader& top, Config& config) {
  config.mixed_precision_given = top.find("mixed_precision") != nullptr;
  for (const std::string_view name : kSections) {
    const YamlNode* section = top.find(name);
    if (section == nullptr) continue;
    read_section(top, name, *section, config);
    if (top.check().error || section->items.empty()) continue;
    const std::string reason = why_without_effect(name, config);
    if (!reason.empty()) {
      config.notes.push_back(
          fmt::format("{}: {} has no effect: {}", top.check().source.place(top.key_mark(name)), name, reason));
    }
  }
  const AccelerateSetting& backend = *find_accelerate_setting("dynamo_config.dynamo_backend");
  const auto older = read_value(top, "dynamo_backend", backend);
  if (older && *older != "NO") config.accelerate.emplace(backend.setting.path, *older);
  check_fsdp(top, config);
}

}  // namespace llmlaunch::launcher
