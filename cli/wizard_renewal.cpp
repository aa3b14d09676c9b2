// One change at a time: made in the text, read again, and kept when it means the same. So no style of YAML has to be
// known here: where a change does not fit (anchors, a mapping in {…} over several lines), the file keeps its older
// word.
#include "cli/wizard_renewal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "launcher/config_schema.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Config;

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr const char* kVersion = "fsdp_config.fsdp_version";

std::optional<std::size_t> number_behind(std::string_view place, std::size_t colon) {
  std::size_t number = 0;
  const char* const end = place.data() + place.size();
  if (std::from_chars(place.data() + colon + 1, end, number).ec != std::errc{} || number == 0) return std::nullopt;
  return number;
}

bool continues_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

/// The key's own place in this file; nothing for one that another file or a variable has.
std::optional<std::size_t> own_place(const std::string& text, const std::string& name, const Config& config,
                                     std::string_view path) {
  const auto place = config.places.find(path);
  if (place == config.places.end() || place->second.origin != launcher::ConfigOrigin::file ||
      !place->second.text.starts_with(name + ":"))
    return std::nullopt;
  return offset_of(text, place->second.text);
}

class Renewing {
 public:
  Renewing(std::string text, const std::string& name, Config config, const ReadConfig& read)
      : done_{std::move(text), {}, {}}, name_(name), config_(std::move(config)), read_(read) {}

  Renewal all() && {
    precision();
    dynamo();
    for (const auto& setting : launcher::settings()) key_of_section(setting);
    fsdp_version();
    return std::move(done_);
  }

 private:
  /// Keeps the text when it reads as before, but for one more value `added` of accelerate's sections.
  bool keep(std::string text, const std::string& added_key = {}, const std::string& added_value = {}) {
    auto read = read_(text);
    if (!read) return false;
    auto expected = config_.accelerate;
    if (!added_key.empty()) expected.emplace(added_key, added_value);
    const bool same = read->accelerate == expected && read->mixed_precision == config_.mixed_precision &&
                      read->distributed_type == config_.distributed_type && read->env == config_.env;
    if (!same) return false;
    done_.text = std::move(text);
    config_ = std::move(*read);
    return true;
  }

  std::optional<std::size_t> place(std::string_view path) const { return own_place(done_.text, name_, config_, path); }

  /// fp16: true (before accelerate 0.8) → mixed_precision: fp16.
  void precision() {
    const auto at = place("fp16");
    if (!at || config_.places.contains("mixed_precision")) return;
    std::string text = done_.text;
    const std::size_t value = text.find_first_not_of(" \t", text.find(':', *at) + 1);
    if (value == text.npos) return;
    const std::size_t end = std::min(text.find_first_of(" \t\r\n,}#", value), text.size());
    const std::string word = config_.mixed_precision == "no" ? "\"no\"" : config_.mixed_precision;
    if (keep(text.replace(*at, end - *at, "mixed_precision: " + word)))
      done_.renamed.push_back("fp16 to mixed_precision");
  }

  /// dynamo_backend: X (before accelerate 0.15) → dynamo_config: {dynamo_backend: X}.
  void dynamo() {
    const auto at = place("dynamo_backend");
    if (!at || config_.places.contains("dynamo_config")) return;
    std::string text = done_.text;
    if (keep(text.insert(*at, "dynamo_config:\n  ")))
      done_.renamed.push_back("dynamo_backend to dynamo_config.dynamo_backend");
  }

  /// A key under a name that a worker never sees. One without its section's prefix is none: accelerate adds that.
  void key_of_section(const launcher::Setting& other) {
    const std::string_view written = launcher::key_of(other), key = other.instead;
    if (key.empty() || key.ends_with(written)) return;
    const std::string section(launcher::section_of(other));
    const auto place = config_.places.find(fmt::format("{}.{}", section, key));
    if (place == config_.places.end() || key_at(done_.text, place->second.text) != written) return;
    const auto at = own_place(done_.text, name_, config_, place->first);
    if (!at) return;
    const std::string_view prefix = key.substr(0, key.find('_') + 1);  // "fp8_"
    const std::string_view now = written.starts_with(prefix) ? key : key.substr(prefix.size());
    std::string text = done_.text;
    if (keep(text.replace(text.find(written, *at), written.size(), now)))
      done_.renamed.push_back(fmt::format("{}.{} to {}", section, written, now));
  }

  /// accelerate's dialogue proposes version 2, and a file that says nothing is of version 1.
  void fsdp_version() {
    if (config_.distributed_type != "FSDP" || config_.places.contains(kVersion)) return;
    std::optional<std::size_t> first;
    for (const auto& [path, where] : config_.places)
      if (const auto at = path.starts_with("fsdp_config.") ? place(path) : std::nullopt)
        first = std::min(first.value_or(*at), *at);
    if (!first) return;
    const std::size_t line = done_.text.rfind('\n', *first) + 1;  // npos + 1 is the first line
    const std::string before = done_.text.substr(line, *first - line);
    const bool block = before.find_first_not_of(' ') == before.npos;
    std::string text = done_.text;
    if (keep(text.insert(*first, block ? "fsdp_version: 1\n" + before : "fsdp_version: 1, "), kVersion, "1"))
      done_.added.push_back(kVersion);
  }

  Renewal done_;
  const std::string& name_;
  Config config_;
  const ReadConfig& read_;
};

}  // namespace

std::optional<std::size_t> offset_of(std::string_view text, std::string_view place) {
  const std::size_t second = place.rfind(':');
  if (second == place.npos || second == 0) return std::nullopt;
  const std::size_t first = place.rfind(':', second - 1);
  if (first == place.npos) return std::nullopt;
  auto line = number_behind(place, first), column = number_behind(place, second);
  if (!line || !column) return std::nullopt;
  std::size_t at = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  for (; *line > 1; --*line) {
    const std::size_t end = text.find('\n', at);
    if (end == text.npos) return std::nullopt;
    at = end + 1;
  }
  for (; *column > 1 && at < text.size() && text[at] != '\n'; --*column) do
      ++at;
    while (at < text.size() && continues_character(text[at]));
  return *column == 1 && at < text.size() ? std::optional(at) : std::nullopt;
}

std::string_view key_at(std::string_view text, std::string_view place) {
  const auto at = offset_of(text, place);
  if (!at) return {};
  text.remove_prefix(*at);
  if (text.starts_with('"') || text.starts_with('\'')) text.remove_prefix(1);
  return text.substr(0, text.find_first_of(":\"' \r\n"));
}

Renewal renewed(std::string text, const std::string& name, launcher::Config config, const ReadConfig& read) {
  return Renewing(std::move(text), name, std::move(config), read).all();
}

}  // namespace llmlaunch::cli
