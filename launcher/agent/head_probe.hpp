/// \file
/// `HeadProbe`: which of the head's addresses this host can use. Each one is connected to and greeted; the first whose
/// answer is the rendezvous's wins. The best address has a head start, the others come all at once: so it is taken
/// where it works, and where it does not, a firewall that drops packets costs a moment and not a timeout for each.
/// Owns its sockets; never waits.
#pragma once

#include <poll.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

// What three lost packets of a connection take is 7 s; that one of them gets through, 3 s. Never more than half of
// what the host has to become ready.
inline constexpr std::chrono::milliseconds kProbeTime{5'000};
inline constexpr std::chrono::milliseconds kProbeHeadStart{250};

class HeadProbe {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  void begin(HeadWays ways, std::chrono::milliseconds limit, TimePoint now);
  /// The descriptors whose readiness means that there is something to `look` at.
  void add_polls(std::vector<pollfd>& polls) const;
  /// When to `look` at the latest; `TimePoint::max()` when nothing goes on.
  TimePoint next_look() const;
  /// Goes on as far as it can. The outcome, once.
  std::optional<HeadReach> look(TimePoint now);

 private:
  struct Attempt {
    std::string address;
    UniqueFd socket;
    bool greeted = false;
    Bytes answer;
    std::string failure;  // set: it is over
  };
  void start(Attempt& attempt) const;
  void fail(Attempt& attempt, std::string why) const;
  bool go_on(Attempt& attempt) const;
  bool take_answer(Attempt& attempt) const;
  HeadReach all_failed() const;

  HeadWays ways_;
  std::vector<Attempt> attempts_;  // empty: not begun, or over
  bool others_started_ = false;
  TimePoint others_at_;
  TimePoint until_;
  std::string limit_text_;
};

/// The interface by which packets to this address leave the host; nothing is sent. Empty: no route, or loopback.
std::string interface_towards(const std::string& address);

}  // namespace llmlaunch::launcher::agent
