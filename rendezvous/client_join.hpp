/// \file
/// The beginning of a rank's conversation with the rendezvous: to connect and be admitted. Private to client*.cpp.
#pragma once

#include <chrono>
#include <string>

#include "rendezvous/auth.hpp"
#include "rendezvous/client.hpp"
#include "rendezvous/connection.hpp"

namespace llmlaunch::rendezvous {

/// A connection that was admitted, and what has been read of it.
struct Joined {
  Connection connection;
  MessageDecoder decoder;
  std::uint16_t minor = 0;  ///< the server's
};

/// Tries again and again until the deadline of `options`; errors as Client::join has them.
Result<Joined> join_until_deadline(const ClientOptions& options, const Token& token);

/// "rendezvous 10.0.0.1:29400", the place of an error.
std::string where_of(const ClientOptions& options);
/// What the server said.
Error error_of(const Failure& failure, const ClientOptions& options);
/// The protocol's u32 of milliseconds ends at 49 days, which also keeps sums of times from overflowing.
std::chrono::milliseconds bounded(std::chrono::milliseconds timeout);
inline std::uint32_t to_ms(std::chrono::milliseconds timeout) {
  return static_cast<std::uint32_t>(bounded(timeout).count());
}

}  // namespace llmlaunch::rendezvous
