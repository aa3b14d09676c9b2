/// \file
/// How a head comes back: a second agent, started over a new connection, hands that connection's stdin, stdout and
/// stderr to the first one, through an abstract socket, which leaves nothing on the disk and ends with its owner. Both
/// run as the same user; who else knocks is not heard.
#pragma once

#include <optional>
#include <string>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

/// A connection that was brought.
struct Attached {
  Resume resume;
  UniqueFd in, out, err;
  UniqueFd bearer;  ///< the second agent stays until this is closed
};

/// The first agent's side. Nothing of it blocks.
class AttachPoint {
 public:
  Result<void> listen(const std::string& name);
  /// For `poll`, POLLIN; -1 when there is nothing to wait for.
  int listener() const { return listener_.value(); }
  int visitor() const { return visitor_.value(); }
  /// To be called when one of the two is readable: what was brought, when it is whole and of this user.
  std::optional<Attached> take();

 private:
  UniqueFd listener_;
  UniqueFd visitor_;  // has connected and said nothing yet; a newer one takes its place
};

/// The second agent's side: gives its stdin, stdout and stderr away together with `resume`. The answer is what keeps
/// the connection: hold it until it becomes readable, which is the end. `Errc::not_found`: no agent listens by this
/// name.
Result<UniqueFd> hand_over(const Resume& resume);

}  // namespace llmlaunch::launcher::agent
