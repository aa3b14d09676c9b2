// From bytes of all ranks to what stdout and stderr get. Each stream has a little screen of its own; lines that it
// completes go out at once, states of lines that are redrawn at most so many times a second, or to the live line.
#include "launcher/console.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "launcher/screen_text.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kPlainColor = "\x1b[0m";
// Of lines from stderr, where there are colours: behind the prefix.
constexpr std::string_view kErrMark = "\x1b[1;31m!\x1b[0m ";
// Neighbours differ; red is left to errors.
constexpr std::array<std::string_view, 10> kColors{"\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[35m", "\x1b[34m",
                                                   "\x1b[96m", "\x1b[92m", "\x1b[93m", "\x1b[95m", "\x1b[94m"};

std::vector<bool> shown_ranks(const LogSettings& settings, std::size_t ranks) {
  std::vector<bool> shown(ranks, settings.ranks.empty());
  for (const auto& [first, last] : settings.ranks)
    for (std::size_t rank = first; rank <= last && rank < ranks; ++rank) shown[rank] = true;
  return shown;
}

}  // namespace

Console::Console(const LogSettings& settings, std::vector<RankPlace> places, ConsoleColors colors, bool live)
    : prefix_(LinePrefix::of(settings, places)),
      colors_(colors),
      color_by_(settings.color_by),
      places_(std::move(places)),
      shown_(shown_ranks(settings, places_.size())),
      screens_(2 * places_.size()) {
  if (live && shows_updates(settings))
    bars_.emplace();
  else if (shows_updates(settings))
    update_interval_ = std::chrono::milliseconds(1000 / settings.updates_per_second);
  if (settings.fold_lines)
    folder_.emplace(places_.size(), static_cast<std::size_t>(std::count(shown_.begin(), shown_.end(), true)));
}

void Console::feed(Rank rank, agent::Stream stream, ByteView bytes, TimePoint now, Pieces& out) {
  if (!shown_[number(rank)]) return;
  const std::size_t index = 2 * number(rank) + (stream == agent::Stream::err ? 1 : 0);
  screens_[index].lines.feed(as_text(bytes), [&](std::string_view text) { take_line(index, text, now, out); });
  if (bars_) return look_at_bar(index, now);
  if (screens_[index].lines.redraws()) expect_update(index, now);
}

void Console::expect_update(std::size_t index, TimePoint now) {
  Screen& screen = screens_[index];
  if (screen.waits || update_interval_.count() == 0) return;
  screen.waits = true;
  waiting_.emplace(std::max(screen.next_update, now + kUpdateSettles), index);
}

void Console::tick(TimePoint now, Pieces& out) {
  while (!waiting_.empty() && waiting_.begin()->first <= now) {
    const std::size_t index = waiting_.begin()->second;
    waiting_.erase(waiting_.begin());
    Screen& screen = screens_[index];
    screen.waits = false;
    screen.next_update = now + update_interval_;
    screen.lines.show_updates([&](std::string_view text) { take_line(index, text, now, out); });
  }
  if (folder_) folder_->take(now, [&](const LineFolder::Folded& line) { take_folded(line, out); });
}

void Console::settle(Pieces& out) {
  if (folder_) folder_->take_all([&](const LineFolder::Folded& line) { take_folded(line, out); });
}

std::optional<TimePoint> Console::due() const {
  std::optional<TimePoint> due = folder_ ? folder_->due() : std::nullopt;
  if (!waiting_.empty()) due = std::min(due.value_or(TimePoint::max()), waiting_.begin()->first);
  if (bars_ && bars_->due()) due = std::min(due.value_or(TimePoint::max()), *bars_->due());
  return due;
}

void Console::end_screen(std::size_t index, TimePoint now, Pieces& out) {
  screens_[index].lines.end([&](std::string_view text) { take_line(index, text, now, out); });
  if (bars_) look_at_bar(index, now);
}

void Console::end(Rank rank, agent::Stream stream, TimePoint now, Pieces& out) {
  end_screen(2 * number(rank) + (stream == agent::Stream::err ? 1 : 0), now, out);
}

void Console::end_all(Pieces& out) {
  // All of stdout, then all of stderr: few pieces.
  for (const std::size_t which : {0, 1})
    for (std::size_t index = which; index < screens_.size(); index += 2) end_screen(index, TimePoint{}, out);
  settle(out);
}

// --- lines that are redrawn, on a terminal -----------------------------------------------------------------------------

void Console::look_at_bar(std::size_t index, TimePoint now) {
  Screen& screen = screens_[index];
  const bool redraws = screen.lines.redraws();
  if (redraws)
    bars_->redrawn(index, now);
  else if (screen.is_live)
    bars_->ended(index);
  screen.is_live = redraws;
}

void Console::update_live_line(std::size_t columns, TimePoint now) {
  const auto is_seen = [this](std::size_t index) { return !is_blank_row(screens_[index].lines.redrawn_state()); };
  bars_->update(columns, now, is_seen, [this](std::size_t index) { return bar_of(index); });
}

// Without colours: a cut could leave one open, and the prefix is enough to tell ranks apart.
std::string Console::bar_of(std::size_t index) const {
  std::string line;
  prefix_.append(Rank{static_cast<std::uint32_t>(index / 2)}, index % 2 == 0 ? agent::Stream::out : agent::Stream::err,
                 time_, line);
  return line + row_text(screens_[index].lines.redrawn_state());
}

// --- lines -----------------------------------------------------------------------------------------------------------

void Console::take_line(std::size_t index, std::string_view text, TimePoint now, Pieces& out) {
  const auto rank = static_cast<std::uint32_t>(index / 2);
  const agent::Stream stream = index % 2 == 0 ? agent::Stream::out : agent::Stream::err;
  if (!folder_) return write_line(rank, stream, text, out);
  folder_->add(rank, stream, text, now);
  folder_->take(now, [&](const LineFolder::Folded& line) { take_folded(line, out); });
}

void Console::take_folded(const LineFolder::Folded& line, Pieces& out) {
  if (line.ranks.size() == 1) return write_line(line.ranks.front(), line.stream, line.text, out);
  std::vector<std::uint32_t> ranks = line.ranks;
  std::sort(ranks.begin(), ranks.end());
  const bool mark = line.stream == agent::Stream::err && colored(line.stream);
  piece(line.stream, out) +=
      fmt::format("[{}] ×{} {}{}\n", ranks_in_words(ranks), ranks.size(), mark ? kErrMark : "", line.text);
}

void Console::write_line(std::uint32_t rank, agent::Stream stream, std::string_view text, Pieces& out) {
  std::string& to = piece(stream, out);
  const bool color = colored(stream);
  const bool colored_prefix = color && !prefix_.empty();
  if (colored_prefix) to += color_of(rank);
  prefix_.append(Rank{rank}, stream, time_, to);
  if (colored_prefix) to += kPlainColor;
  if (color && stream == agent::Stream::err) to += kErrMark;
  to += text;
  to += '\n';
}

// Lines of one stream that follow each other are one piece: one write, and their order with the other stream's is kept.
std::string& Console::piece(agent::Stream stream, Pieces& out) {
  if (out.empty() || out.back().stream != stream) out.push_back({stream, {}});
  return out.back().text;
}

std::string_view Console::color_of(std::uint32_t rank) const {
  return kColors[(color_by_ == ColorBy::host ? places_[rank].node_rank : rank) % kColors.size()];
}

}  // namespace llmlaunch::launcher
