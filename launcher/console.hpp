/// \file
/// `Console`: what people see of the ranks' lines: the chosen ranks, prefixes and colours, progress bars slowed down or
/// as one line that is drawn again, lines that are the same folded. Bytes in, whole lines out, each for stdout or
/// stderr. Sees no descriptor and no clock. Used by the output writer; the run directory's files get their bytes
/// elsewhere, unchanged.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/line_folder.hpp"
#include "launcher/line_prefix.hpp"
#include "launcher/live_bars.hpp"
#include "launcher/log_settings.hpp"
#include "launcher/screen_lines.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/types.hpp"

namespace llmlaunch::launcher {

/// A state of a redrawn line is shown this much after its first byte: by then the rest of it has come as well.
inline constexpr std::chrono::milliseconds kUpdateSettles{50};

/// Which descriptors get colours; decided by who knows the terminal.
struct ConsoleColors {
  bool out = false;
  bool err = false;
};

class Console {
 public:
  /// Lines for one descriptor, each with its end.
  struct Piece {
    agent::Stream stream;
    std::string text;
  };
  using Pieces = std::vector<Piece>;

  /// `settings` are checked: their ranks exist. `live`: a line that is redrawn is seen by `live_line`, and becomes a
  /// line as it ended; otherwise, and where the settings want no updates, its states become lines now and then.
  Console(const LogSettings& settings, std::vector<RankPlace> places, ConsoleColors colors, bool live = false);

  /// What {time} stands for in the lines that end from now on.
  void set_time(std::string_view time) { time_ = time; }
  void feed(Rank rank, agent::Stream stream, ByteView bytes, TimePoint now, Pieces& out);
  /// The stream has ended: its partial last line.
  void end(Rank rank, agent::Stream stream, TimePoint now, Pieces& out);
  /// The same for every stream that is still open, and nothing waits any more.
  void end_all(Pieces& out);
  /// Lines that wait to be folded wait no longer: something else is about to be said.
  void settle(Pieces& out);
  /// What has waited for its time.
  void tick(TimePoint now, Pieces& out);
  /// When `tick` or `update_live_line` has something to do.
  std::optional<TimePoint> due() const;

  bool live() const { return bars_.has_value(); }
  /// There is something new of the lines that are redrawn. Never without `live`.
  bool live_line_is_due(TimePoint now) const { return bars_ && bars_->due() && *bars_->due() <= now; }
  void update_live_line(std::size_t columns, TimePoint now);
  /// What belongs below all lines: printable, and no wider than it was asked for. Only with `live`.
  const std::string& live_line() const { return bars_->line(); }
  /// Whether anything is seen of a line that is redrawn, before it is complete.
  static bool shows_updates(const LogSettings& settings) { return settings.updates_per_second > 0; }

 private:
  struct Screen {
    ScreenLines lines;
    TimePoint next_update{};
    bool waits = false;    // is in waiting_
    bool is_live = false;  // bars_ has it
  };
  void expect_update(std::size_t index, TimePoint now);
  void look_at_bar(std::size_t index, TimePoint now);
  std::string bar_of(std::size_t index) const;
  void take_line(std::size_t index, std::string_view text, TimePoint now, Pieces& out);
  void take_folded(const LineFolder::Folded& line, Pieces& out);
  void write_line(std::uint32_t rank, agent::Stream stream, std::string_view text, Pieces& out);
  std::string& piece(agent::Stream stream, Pieces& out);
  void end_screen(std::size_t index, TimePoint now, Pieces& out);
  bool colored(agent::Stream stream) const { return stream == agent::Stream::err ? colors_.err : colors_.out; }
  std::string_view color_of(std::uint32_t rank) const;

  LinePrefix prefix_;
  ConsoleColors colors_;
  ColorBy color_by_;
  std::chrono::milliseconds update_interval_{};  // 0: no updates
  std::vector<RankPlace> places_;
  std::vector<bool> shown_;                              // by rank
  std::vector<Screen> screens_;                          // 2 per rank: stdout, stderr
  std::set<std::pair<TimePoint, std::size_t>> waiting_;  // screens with an update to be shown
  std::optional<LineFolder> folder_;
  std::optional<LiveBars> bars_;
  std::string time_;
};

}  // namespace llmlaunch::launcher
