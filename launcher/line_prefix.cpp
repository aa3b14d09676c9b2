// Prefixes are the same for every line of a stream, but for the time: they are made once, with a mark where it goes.
#include "launcher/line_prefix.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/screen_text.hpp"

namespace llmlaunch::launcher {
namespace {

// No prefix can hold it: parse_prefix refuses it, and so does the configuration in a host's name.
constexpr char kTimeMark = '\0';

std::string text_of(PrefixField field, std::size_t rank, const RankPlace& place, std::size_t world, bool err) {
  switch (field) {
    case PrefixField::host: return place.host;
    case PrefixField::rank: return std::to_string(rank);
    case PrefixField::local_rank: return std::to_string(place.local_rank);
    case PrefixField::node_rank: return std::to_string(place.node_rank);
    case PrefixField::time: return std::string(1, kTimeMark);
    case PrefixField::stream: return err ? "err" : "out";
    case PrefixField::world_size: return std::to_string(world);
  }
  return {};
}

}  // namespace

std::vector<RankPlace> rank_places(const LaunchPlan& plan) {
  std::vector<RankPlace> places(plan.world_size);
  for (const HostPlan& host : plan.hosts)
    for (const RankPlan& rank : host.ranks)
      places[number(rank.rank)] = {host.name, rank.local_rank, number(host.node_rank)};
  return places;
}

LinePrefix::LinePrefix(const std::vector<RankPlace>& places) {
  const std::size_t rank_width = places.empty() ? 1 : std::to_string(places.size() - 1).size();
  for (std::size_t rank = 0; rank < places.size(); ++rank)
    for (int stream = 0; stream < 2; ++stream)
      texts_.push_back(fmt::format("[rank {:>{}} {}] ", rank, rank_width, places[rank].host));
  pad();
}

LinePrefix::LinePrefix(const PrefixTemplate& pieces, const std::vector<RankPlace>& places) {
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    for (const bool err : {false, true}) {
      std::string text;
      for (const auto& piece : pieces) {
        const auto* field = std::get_if<PrefixField>(&piece);
        text +=
            field != nullptr ? text_of(*field, rank, places[rank], places.size(), err) : std::get<std::string>(piece);
        shows_time_ = shows_time_ || (field != nullptr && *field == PrefixField::time);
      }
      texts_.push_back(std::move(text));
    }
  }
  pad();
}

LinePrefix LinePrefix::of(const LogSettings& settings, const std::vector<RankPlace>& places) {
  if (settings.prefix_is_host) return of_hosts(places);
  if (!settings.prefix) return LinePrefix(places);
  const auto pieces = parse_prefix(*settings.prefix);
  return pieces ? LinePrefix(*pieces, places) : LinePrefix(places);  // the second cannot be: it was checked
}

LinePrefix LinePrefix::of_hosts(const std::vector<RankPlace>& places) {
  LinePrefix prefix;
  for (const RankPlace& place : places) prefix.texts_.insert(prefix.texts_.end(), 2, place.host + ": ");
  return prefix;
}

// kTimeMark takes no column, and is in all of them equally often.
void LinePrefix::pad() {
  std::vector<std::size_t> widths;
  widths.reserve(texts_.size());
  for (const std::string& text : texts_) widths.push_back(row_width(text));
  const std::size_t widest = widths.empty() ? 0 : *std::max_element(widths.begin(), widths.end());
  for (std::size_t i = 0; i < texts_.size(); ++i) texts_[i].append(widest - widths[i], ' ');
}

std::size_t LinePrefix::columns() const {
  constexpr std::string_view kSomeTime = "2000-01-01T00:00:00";  // all have the same width
  std::string first;
  if (!texts_.empty()) append(Rank{0}, agent::Stream::out, kSomeTime, first);
  return row_width(first);
}

void LinePrefix::append(Rank rank, agent::Stream stream, std::string_view time, std::string& to) const {
  const std::string_view text = texts_[2 * number(rank) + (stream == agent::Stream::err ? 1 : 0)];
  if (!shows_time_) {
    to += text;
    return;
  }
  for (const char c : text) {
    if (c == kTimeMark)
      to += time;
    else
      to += c;
  }
}

}  // namespace llmlaunch::launcher
