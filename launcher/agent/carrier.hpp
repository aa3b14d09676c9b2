/// \file
/// `Carrier`: the rendezvous at a port of 127.0.0.1 for ranks whose host reaches the head by nothing but ssh. Takes
/// their connections, and turns their bytes into messages for the head and back. Owns the sockets and never waits; what
/// is on its way of one connection is bounded by its window, so that one whose peer stands still holds up no other.
///
/// Any user of the host can connect to a port of 127.0.0.1, and PyTorch's store knows no secret: a connection is taken
/// only if /proc/net says that this user made it.
///
///     connection   open ─peer's end→ rank ended ─head's End, all written→ gone
///                  open ─head's End, all written→ head ended ─peer's end→ gone
///                  any ─Reset, an error of the socket→ gone
#pragma once

#include <poll.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::agent {

class Carrier {
 public:
  /// The port of 127.0.0.1, for at most so many connections at a time; more wait until one ends.
  Result<std::uint16_t> listen(std::size_t most_connections);

  /// The descriptors to be polled now; `turn` wants the same entries.
  void add_polls(std::vector<pollfd>& polls);
  /// Moves what can be moved, and gives what the head is to be told of it.
  std::vector<AgentMessage> turn(std::span<const pollfd> ready);
  /// From the head; other messages are not for it. `Errc::protocol`: what its window does not hold, a connection that
  /// never was.
  Result<void> take(const HeadMessage& message);

  /// No rank is left: what they had sent is read, and nothing is waited for.
  void finish() { finishing_ = true; }
  /// Something that ranks had sent is not read yet.
  bool busy() const { return finishing_ && !streams_.empty(); }
  void close();
  /// Users whose connections were refused since the last call, as lines for people; a few in all.
  std::vector<std::string> take_refusals();

 private:
  struct Stream {
    UniqueFd socket;
    std::size_t credit = kCarriedWindowBytes;  // for bytes of the rank
    bool rank_ended = false;                   // End was sent
    bool head_ended = false;
    bool shut = false;  // the rank was told so
    bool deaf = false;  // it takes no more bytes; what it has sent is read to its end
    Bytes to_rank;      // from `written` on
    std::size_t written = 0;
    std::size_t untold = 0;  // written, and no credit given for it
  };
  using Streams = std::map<std::uint32_t, Stream>;
  void accept_all(std::vector<AgentMessage>& out);
  bool read_rank(std::uint32_t id, Stream& stream, std::vector<AgentMessage>& out);
  void write_rank(std::uint32_t id, Stream& stream, std::vector<AgentMessage>& out);
  bool goes_on(std::uint32_t id, Stream& stream, short events, std::vector<AgentMessage>& out);

  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::size_t most_ = 0;
  Streams streams_;
  std::uint32_t next_id_ = 0;
  std::vector<std::uint32_t> polled_;  // whose the polled entries are, behind the listener's
  Bytes buffer_;
  std::vector<std::string> refusals_;
  std::size_t refused_ = 0;
  bool finishing_ = false;
};

/// Whose the other end of a connection over 127.0.0.1 is, from the text of /proc/net/tcp or tcp6: the line whose own
/// address is `peer_port` and whose peer is `port`. `address`: the peer's, in network byte order.
std::optional<uid_t> owner_in_line(std::string_view line, std::uint32_t address, std::uint16_t peer_port,
                                   std::uint16_t port);

}  // namespace llmlaunch::launcher::agent
