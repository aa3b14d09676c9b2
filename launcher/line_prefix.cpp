// Prefixes are the same for every line of a stream, but for the time: they are made once, with a mark where it goes.
#include "launcher/line_prefix.hpp"

#include <fmt/format.h>

#include <algorithm>

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

// Columns of a terminal: letters, not their bytes.
std::size_t prefix_width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
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

LinePrefix LinePrefix::of_hosts(const std::vector<RankPlace>& places) {
  LinePrefix prefix;
  for (const RankPlace& place : places) prefix.texts_.insert(prefix.texts_.end(), 2, place.host + ": ");
  return prefix;
}

void LinePrefix::pad() {
  std::size_t width = 0;
  for (const std::string& text : texts_) width = std::max(width, prefix_width(text));
  for (std::string& text : texts_) text.append(width - prefix_width(text), ' ');
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
