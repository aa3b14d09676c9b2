/// \file
/// A rank's side of the rendezvous: join, NCCL unique ids, store, barrier, the news that the generation ended. For the
/// trainer and any C++ program started by llmlaunch; other languages have llmlaunch_rendezvous.h. Calls block, have a
/// deadline, and may come from any thread; one background thread reads the connection.
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
  /// No rank, and nobody waits for it: has the store and may ask for unique ids; `rank` and `world_size` mean nothing.
  bool observer = false;
};

/// From RANK, WORLD_SIZE and the LLMLAUNCH_* variables (base/env.hpp). `Errc::not_found` names the missing variable.
Result<ClientOptions> client_options_from_environment();

/// What compare-and-set did.
struct CompareResult {
  bool swapped = false;
  std::optional<Bytes> found;  ///< not swapped: the value that the key has instead; nothing: it is missing
};
struct KeyPage {
  std::vector<std::string> keys;
  bool more = false;  ///< there are keys behind the last one
};
/// A key that was set, or, without a value, deleted.
struct KeyChange {
  std::string key;
  std::optional<Bytes> value;
};

struct EntryPage {
  std::vector<StoreEntry> entries;
  bool more = false;  ///< there are keys behind the last one
};

/// Changes of the store since the watch began, in the order in which they were made. Calls may come from any thread.
class Watcher {
 public:
  ~Watcher();  ///< ends the watch; may come after the client's end
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  /// The next change, which it waits for; `timed_out` when there was none. All other errors end the watch:
  /// `out_of_resources` when changes were made faster than they were taken (more than kMaxWatchQueuedBytes waited, in
  /// the server or here) and some are lost, `generation_ended`, `closed` with the connection or after the client's end.
  Result<KeyChange> next(std::chrono::milliseconds timeout);

  /// A descriptor for poll() that is readable while `next` would not wait: a change is there, or the watch has ended.
  /// Made by the first call, belongs to the watcher: not to be closed. An event loop may read it empty before it takes
  /// all that `next` has without waiting. A system call's error when there is none to be had.
  Result<int> descriptor();

 private:
  friend class Client;
  struct Impl;
  explicit Watcher(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Which rank makes id `index` of `count`: spread evenly over the ranks, and so over the hosts.
constexpr Rank unique_id_maker(std::uint32_t index, std::uint32_t count, std::uint32_t world_size) {
  return Rank{static_cast<std::uint32_t>(std::uint64_t{index} * world_size / count)};
}

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
  Result<UniqueId> unique_id(std::uint32_t index, std::chrono::milliseconds timeout);
  /// For ncclCommInitRankScalable, whose ranks check in at several roots at once: `count` ids in order, the same on
  /// every rank of the world, all of which call this with the same count. Each is made by another rank
  /// (`unique_id_maker`), there by `make_id`, whose process must live until all ranks have initialised. They are the
  /// ids 0 … count-1 of this generation. `invalid_argument` unless 1 <= count <= world size.
  Result<std::vector<UniqueId>> share_unique_ids(std::uint32_t count, const std::function<Result<UniqueId>()>& make_id);

  // The store of this job. Keys are text of 1 … kMaxKeyBytes, values up to kMaxValueBytes. What came later than the
  // first launcher (compare_and_set and below) is `unsupported` by an older one.
  /// Returns when the value is on its way, as PyTorch's does: a round trip less. Whoever waits for the key gets it, and
  /// every later call of this client comes after it. Should the server refuse it (the store is full), the call of this
  /// client that waits then, or its next one, fails with "setting key …" and the reason.
  Result<void> set(std::string_view key, ByteView value);
  Result<Bytes> get(std::string_view key);  ///< waits until the key exists
  Result<Bytes> get(std::string_view key, std::chrono::milliseconds timeout);
  Result<void> wait(const std::vector<std::string>& keys, std::chrono::milliseconds timeout);
  /// A missing key is 0; the sum is kept as decimal text.
  Result<std::int64_t> add(std::string_view key, std::int64_t delta, Keyspace keyspace = Keyspace::native);
  /// Sets the key if its value is `expected`, or if it is missing and nothing is expected.
  Result<CompareResult> compare_and_set(std::string_view key, std::optional<ByteView> expected, ByteView value);
  Result<std::uint64_t> append(std::string_view key, ByteView value);  ///< the new length; a missing key is empty
  /// True when the key existed.
  Result<bool> remove(std::string_view key, Keyspace keyspace = Keyspace::native);
  /// Keys that begin with `prefix` and are greater than `after`, in byte order: as many as the server gives at once.
  Result<KeyPage> list(std::string_view prefix, std::string_view after = {}, std::uint32_t limit = kMaxListKeys);
  /// Every change of a key, or of all that begin with a prefix, from now on.
  Result<std::unique_ptr<Watcher>> watch(std::string_view key, Keyspace keyspace = Keyspace::native);
  Result<std::unique_ptr<Watcher>> watch_prefix(std::string_view prefix, Keyspace keyspace = Keyspace::native);

  // For who looks into a job: the keys that PyTorch's TCPStore clients have set there can be meant, too (above as
  // well). Since minor 2.
  /// As `set`, but waits until the server has it.
  Result<void> put(std::string_view key, ByteView value, Keyspace keyspace = Keyspace::native);
  /// The value, without waiting; nothing: it is missing. `invalid_argument`: a queue; `unsupported`: no such store.
  Result<std::optional<Bytes>> peek(std::string_view key, Keyspace keyspace = Keyspace::native);
  /// As `list`, with what each key holds.
  Result<EntryPage> entries(std::string_view prefix, std::string_view after = {}, Keyspace keyspace = Keyspace::native);

  Result<void> barrier(std::string_view name);  ///< all ranks of the generation
  Result<void> barrier(std::string_view name, std::chrono::milliseconds timeout);

  /// True once the server pushed the end of the generation or the connection was lost; waiting calls then fail with
  /// `generation_ended` or `closed`.
  bool ended() const;
  /// Called once, from the reader thread, when that happens (at once if it already has).
  void on_end(std::function<void(const Error& reason)> callback);

 private:
  struct Impl;
  explicit Client(std::shared_ptr<Impl> impl);
  Result<std::unique_ptr<Watcher>> start_watch(std::string_view key, bool prefix, Keyspace keyspace);
  std::shared_ptr<Impl> impl_;  // watchers have it, too
};

}  // namespace llmlaunch::rendezvous
