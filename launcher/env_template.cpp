// One walk over the text serves check and expansion.
#include "launcher/env_template.hpp"

#include <fmt/format.h>

#include <optional>

#include "rendezvous/base/cut_text.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kKnown =
    "{rank}, {local_rank}, {node_rank}, {world_size} and {host}; {{ stands for one brace";

std::optional<std::string> place_value(std::string_view name, const RankPlace& place) {
  if (name == "rank") return fmt::format("{}", place.rank);
  if (name == "local_rank") return fmt::format("{}", place.local_rank);
  if (name == "node_rank") return fmt::format("{}", place.node_rank);
  if (name == "world_size") return fmt::format("{}", place.world_size);
  if (name == "host") return std::string(place.host);
  return std::nullopt;
}

/// The expanded text; what is unknown stays out, and is in `unknown`.
std::string walk(std::string_view text, const RankPlace& place, std::optional<std::string_view>& unknown) {
  std::string out;
  while (!text.empty()) {
    const bool doubled = text.starts_with("{{") || text.starts_with("}}");
    if (text.front() != '{' || doubled) {
      out += text.front();
      text.remove_prefix(doubled ? 2 : 1);
      continue;
    }
    const std::size_t close = text.find('}');
    const std::string_view name = text.substr(1, close == text.npos ? close : close - 1);
    const auto value = close == text.npos ? std::nullopt : place_value(name, place);
    if (value) out += *value;
    if (!value && !unknown) unknown = text.substr(0, close == text.npos ? close : close + 1);
    text.remove_prefix(close == text.npos ? text.size() : close + 1);
  }
  return out;
}

}  // namespace

Result<void> check_template(std::string_view text, bool secret) {
  std::optional<std::string_view> unknown;
  walk(text, {}, unknown);
  if (!unknown) return ok;
  constexpr std::size_t kShown = 40;
  const std::string shown = secret ? "a brace" : fmt::format("'{}'", cut_text(*unknown, kShown));
  const char* what = unknown->ends_with('}') ? "stands for nothing" : "is not closed";
  return make_error(Errc::invalid_config, fmt::format("{} {}", shown, what), {}, fmt::format("known are {}", kKnown));
}

std::string expand_template(std::string_view text, const RankPlace& place) {
  std::optional<std::string_view> unknown;
  return walk(text, place, unknown);
}

}  // namespace llmlaunch::launcher
