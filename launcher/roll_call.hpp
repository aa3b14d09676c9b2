/// \file
/// `RollCall`: how far each host is, in words: while a job starts and while it stops. As one line that is redrawn on a
/// terminal, or as a sentence now and then where there is none. Told by the job; sees no clock and no terminal.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace llmlaunch::launcher {

using TimePoint = std::chrono::steady_clock::time_point;

/// In the order in which a host goes through them.
enum class HostStage {
  waiting,
  connecting,
  authenticating,
  starting,
  pushing,
  checking,
  ready,
  running,
  exited,
  failed
};
inline constexpr std::size_t kHostStages = static_cast<std::size_t>(HostStage::failed) + 1;

/// A host that is in one stage for longer than this is named.
inline constexpr std::chrono::milliseconds kSlowStage{2'000};

class RollCall {
 public:
  explicit RollCall(std::vector<std::string> hosts, TimePoint now);

  void set(std::size_t host, HostStage stage, TimePoint now);
  /// Why it is not further, where more is known than the stage; a host said it, perhaps. "": nothing is.
  void set_reason(std::size_t host, const std::string& reason);
  /// From now on those are waited for whose ranks still run.
  void stopping(TimePoint now);

  /// Hosts that run are waited for as well: nothing is seen of them before they have ended.
  void until_ended() { until_ended_ = true; }

  /// "llmlaunch: 2 connecting, 126 ready; waiting for 2 of 128: gpu07 connecting 4 s (connection reset by peer), gpu09
  /// connecting 3 s": the second half when a host is slow, slowest first, and that one with its reason. At most `width`
  /// columns, names left out for "…" where it is longer, and the reason first.
  std::string line(std::size_t width, TimePoint now) const;
  /// "waiting for 3 of 128 hosts: gpu[07-08] connecting (5 s; gpu07: connection reset by peer), gpu09 in checks (3 s)":
  /// of hosts at the same stage one that has a reason gives it. Empty when all are there.
  std::string sentence(TimePoint now) const;

 private:
  struct Host {
    std::string name;
    HostStage stage = HostStage::waiting;
    TimePoint since;
    std::string reason;  // on one line, printable
  };
  bool is_awaited(const Host& host) const;
  std::string counts() const;
  std::vector<const Host*> slow_hosts(TimePoint now) const;
  std::size_t awaited() const;

  std::vector<Host> hosts_;
  bool stopping_ = false;
  bool until_ended_ = false;
};

}  // namespace llmlaunch::launcher
