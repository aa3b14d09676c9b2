/// \file
/// The user's ssh-agent: which keys it has, and a filtered view of it for libssh, which would offer all of them and so
/// run into sshd's MaxAuthTries (6 by default). Everything waits on the event loop, with a deadline.
/// Protocol: draft-miller-ssh-agent (message = u32 length, u8 type, body; big-endian).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rendezvous/asio.hpp"
#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

struct AgentIdentity {
  Bytes blob;           ///< the public key
  std::string comment;  ///< often the path of its file
  /// The key that the agent signs with for this one, which is a certificate that it does not have; empty: itself.
  Bytes signed_by = {};
};

/// One connection to ssh-agent. Calls one after the other, from the executor's thread.
class AgentClient : public std::enable_shared_from_this<AgentClient> {
 public:
  using Socket = asio::local::stream_protocol::socket;
  explicit AgentClient(asio::any_io_executor executor);

  /// `Errc::unreachable` when nobody listens at `path`, `Errc::out_of_resources` when its queue is full.
  asio::awaitable<Result<void>> connect(std::string path);
  /// `Errc::timed_out`, `Errc::closed`, `Errc::protocol`; an agent that is locked shows none.
  asio::awaitable<Result<std::vector<AgentIdentity>>> identities(std::chrono::milliseconds timeout);

  /// A socket for a program that shall see only `shown`; signing requests for these go on to the agent. It is served
  /// until one of the ends is closed, or the next view is opened.
  /// `sign_timeout`: for one signature.
  Result<int> open_view(std::vector<AgentIdentity> shown, std::chrono::milliseconds sign_timeout);

  /// Ends views and pending calls. Idempotent.
  void close();

 private:
  asio::awaitable<Result<Bytes>> ask(Bytes request, std::chrono::milliseconds timeout);
  static asio::awaitable<void> serve(std::shared_ptr<AgentClient> self, std::shared_ptr<Socket> view,
                                     std::vector<AgentIdentity> shown, std::chrono::milliseconds sign_timeout);

  asio::any_io_executor executor_;
  Socket agent_;
  std::shared_ptr<Socket> view_;
};

/// Bodies of the two messages that we read and write ourselves; for tests and the fuzz target.
Result<std::vector<AgentIdentity>> decode_identities(ByteView answer);
Bytes encode_identities(const std::vector<AgentIdentity>& identities);
/// What the agent is asked for when who sees only `shown` sends this request: nothing unless it is for a signature by
/// one of these.
std::optional<Bytes> signing_request(const Bytes& request, const std::vector<AgentIdentity>& shown);

}  // namespace llmlaunch::launcher::ssh
