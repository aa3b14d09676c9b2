/// \file
/// A rank's side of the rendezvous: join, NCCL unique id, store, barrier, the news that the generation ended. For the
/// trainer and any C++ program started by llmlaunch. Calls block, have a deadline, and may come from any thread; one
/// background thread reads the connection.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"
#include "rendezvous/message.hpp"

namespace llmlaunch::rendezvous {

struct ClientOptions {
  std::string address;  ///< literal IP or name of the server
  std::uint16_t port = 0;
  std::string job_id;
  Generation generation{};
  Rank rank{};
  std::uint32_t world_size = 1;
  std::string token;                                      ///< 64 hex digits; never printed
  std::string host;                                       ///< for the server's messages
  int nccl_version = 0;                                   ///< ncclGetVersion's number, 0 without NCCL
  std::chrono::milliseconds timeout{300'000};             ///< for each call that is given no deadline of its own
  std::optional<std::chrono::milliseconds> join_timeout;  ///< for `join` as a whole, lookup included; unset: `timeout`
};

/// From RANK, WORLD_SIZE and the LLMLAUNCH_* variables (base/env.hpp). `Errc::not_found` names the missing variable.
Result<ClientOptions> client_options_from_environment();

class Client {
 public:
  /// Connects (again and again until the deadline), proves the token both ways, and is admitted.
  /// Errors: `unreachable` (an unknown name, too) or `timed_out` with address, port and a hint; `unauthenticated`,
  /// `duplicate_rank`, `stale_generation`, `wrong_world`, `version_mismatch` as the server says.
  static Result<std::unique_ptr<Client>> join(const ClientOptions& options);
  ~Client();  ///< leaves in order
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const ClientOptions& options() const;

  /// Rank 0: publishes a unique id under `index`. All: waits for it, also before it is published.
  Result<void> publish_unique_id(std::uint32_t index, const UniqueId& id);
  Result<UniqueId> unique_id(std::uint32_t index);

  // The store of this job. Keys are text of 1 … kMaxKeyBytes, values up to kMaxValueBytes.
  Result<void> set(std::string_view key, ByteView value);
  Result<Bytes> get(std::string_view key);  ///< waits until the key exists
  Result<Bytes> get(std::string_view key, std::chrono::milliseconds timeout);
  Result<void> wait(const std::vector<std::string>& keys, std::chrono::milliseconds timeout);
  Result<std::int64_t> add(std::string_view key, std::int64_t delta);  ///< a missing key is 0; kept as decimal text
  Result<void> barrier(std::string_view name);                         ///< all ranks of the generation

  /// True once the server pushed the end of the generation or the connection was lost; waiting calls then fail with
  /// `generation_ended` or `closed`.
  bool ended() const;
  /// Called once, from the reader thread, when that happens (at once if it already has).
  void on_end(std::function<void(const Error& reason)> callback);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace llmlaunch::rendezvous
