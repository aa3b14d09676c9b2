/// \file
/// `LogMux`: bytes of many ranks in, whole lines with "[rank 48 gpu07] " in front out, every byte kept: merged.log.
/// What the console shows of them is console.hpp's. Sees no descriptor and no clock.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/line_prefix.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/types.hpp"

namespace llmlaunch::launcher {

// Held back per stream while a line has no end; longer lines are cut. Also what one write can hold.
inline constexpr std::size_t kMaxLineBytes = 64u << 10;
/// Ends a piece of a line that was cut; the next piece begins with it as well.
inline constexpr std::string_view kCutMark = "[…]";

class LogMux {
 public:
  LogMux(LinePrefix prefix, std::size_t ranks);

  /// What {time} stands for in the lines that end from now on.
  void set_time(std::string_view time) { time_ = time; }
  /// Appends to `lines` every line that these bytes complete. "\r\n" ends a line as "\n" does; a "\r" inside is kept,
  /// and so is every other byte.
  void feed(Rank rank, agent::Stream stream, ByteView bytes, std::string& lines);
  /// The stream has ended: its partial last line, with a newline.
  void end(Rank rank, agent::Stream stream, std::string& lines);
  /// The same for every stream that is still open, by rank; `out` gets stdout's lines, `err` stderr's.
  void end_all(std::string& out, std::string& err);

 private:
  struct Partial {
    std::string bytes;
    bool continued = false;  // its line's beginning was written already
  };
  Partial& partial(Rank rank, agent::Stream stream);
  void write_line(Rank rank, agent::Stream stream, std::string_view rest, bool whole, std::string& lines);

  LinePrefix prefix_;
  std::string time_;
  std::vector<Partial> partials_;  // 2 per rank: stdout, stderr
};

}  // namespace llmlaunch::launcher
