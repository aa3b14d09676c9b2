// `llmlaunch.logs`: the console and the run directory's files.
#include <fmt/format.h>

#include "launcher/config_llmlaunch.hpp"
#include "launcher/config_schema.hpp"

namespace llmlaunch::launcher {
namespace {

/// What a word of `log_settings.hpp` refused, at the value's place.
void fail_at(MapReader& map, std::string_view key, const Error& error) {
  map.check().fail(map.find(key)->mark, fmt::format("{}: {}", map.path_of(key), error.what), error.hint);
}

void read_prefix(MapReader& map, LogSettings& logs) {
  logs.prefix = map.text("prefix");
  if (!logs.prefix) return;
  if (const auto parsed = parse_prefix(*logs.prefix); !parsed) fail_at(map, "prefix", parsed.error());
}

void read_color(MapReader& map, LogSettings& logs) {
  if (const auto when = map.text("color")) {
    if (const auto known = color_when(*when))
      logs.color = *known;
    else
      map.refuse("color", *map.find("color"), "auto, always or never");
  }
  if (const auto by = map.text("color_by")) {
    if (const auto known = color_by(*by))
      logs.color_by = *known;
    else
      map.refuse("color_by", *map.find("color_by"), "host or rank");
  }
}

// "0,8-15", or a list of such texts.
void read_ranks(MapReader& map, LogSettings& logs) {
  for (const std::string& text : map.texts("ranks")) {
    const auto ranges = parse_ranks(text);
    if (!ranges) return fail_at(map, "ranks", ranges.error());
    logs.ranks.insert(logs.ranks.end(), ranges->begin(), ranges->end());
  }
}

void read_file_limit(MapReader& map, LogSettings& logs) {
  const auto text = map.text("max_file_bytes");
  if (!text) return;
  const auto bytes = parse_bytes(*text);
  if (bytes && (*bytes == 0 || *bytes >= kMinFileBytes))
    logs.max_file_bytes = *bytes;
  else
    map.refuse(
        "max_file_bytes", *map.find("max_file_bytes"),
        fmt::format("a size such as 100MB or 64KiB, at least {}, or 0 for no limit", bytes_in_words(kMinFileBytes)));
}

}  // namespace

void read_logs(ConfigCheck& check, const YamlNode& section, Config& config) {
  LogSettings& logs = config.logs;
  MapReader map(check, section, "llmlaunch.logs", keys_of("llmlaunch.logs"));
  read_prefix(map, logs);
  read_color(map, logs);
  read_ranks(map, logs);
  if (const YamlNode* ranks = map.find("ranks"))
    config.places.emplace(map.path_of("ranks"), check.source.origin_of(ranks->mark));
  logs.fold_lines = map.boolean("fold_lines").value_or(logs.fold_lines);
  if (const auto updates = map.integer("updates_per_second", 0, kMaxUpdatesPerSecond))
    logs.updates_per_second = static_cast<std::uint32_t>(*updates);
  logs.per_rank = map.boolean("per_rank").value_or(logs.per_rank);
  logs.merged = map.boolean("merged").value_or(logs.merged);
  read_file_limit(map, logs);
  if (const auto text = map.text("keep_runs")) {
    if (const auto kept = parse_runs_kept(*text))
      logs.keep_runs = *kept;
    else
      map.refuse("keep_runs", *map.find("keep_runs"), "a number of runs, or an age such as 30d or 12h");
  }
  if (const auto keep = map.integer("keep", 0, kMaxKeep)) logs.keep = static_cast<std::uint32_t>(*keep);
}

}  // namespace llmlaunch::launcher
