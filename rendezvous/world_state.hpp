/// \file
/// What the rendezvous decides, without a socket or a clock: events in, actions out. `Server` feeds it and carries out
/// what it says; tests and fuzz targets do the same with numbers for time. Private to this directory and to tests.
///
/// A peer: expects_preamble → expects_hello → expects_proof → admitted; each step that does not fit closes it.
/// A rank: absent → present → left (in order; may come again) | lost (comes again only as the same process).
/// The generation: open → ended; the join clock runs from the first admission until all ranks have been present.
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <variant>
#include <vector>

#include "rendezvous/auth.hpp"
#include "rendezvous/message.hpp"
#include "rendezvous/store.hpp"
#include "rendezvous/watch_index.hpp"

namespace llmlaunch::rendezvous {

enum class PeerId : std::uint64_t {};
using TimePoint = std::chrono::steady_clock::time_point;

struct Send {
  PeerId peer{};
  Message message;
};
/// Ends the connection once everything sent before is out. No reason: the peer left in order.
struct Close {
  PeerId peer{};
  std::optional<Error> reason;
};
/// All ranks have joined.
struct Complete {};
/// A rank's connection ended without a Leave.
struct RankLost {
  Rank rank{};
  Error reason;
};
/// This generation cannot succeed; its waiters have been told.
struct FailJob {
  Error reason;
};
/// A request for PyTorch's keys, which are not the world's: to be answered by the store that has them.
struct AskPyTorch {
  PeerId peer{};
  Message request;
};
using Action = std::variant<Send, Close, Complete, RankLost, FailJob, AskPyTorch>;
using Actions = std::vector<Action>;

struct WorldOptions {
  std::string job_id;
  Token token;
  Generation generation{};
  std::vector<std::string> hosts;                   ///< host of each rank; its size is the world size
  std::chrono::milliseconds join_timeout{300'000};  ///< from the first rank's admission
  bool pytorch = false;                             ///< PyTorch's keys can be asked for
};

class WorldState {
 public:
  explicit WorldState(WorldOptions options);

  /// A connection came in. `address` is for messages, `nonce` is fresh randomness for this peer. Ids never come again.
  Actions on_connect(PeerId peer, std::string address, const Nonce& nonce, TimePoint now);
  Actions on_message(PeerId peer, Message message, TimePoint now);
  /// The peer's bytes are no messages.
  Actions on_malformed(PeerId peer, const Error& error, TimePoint now);
  /// The connection is gone. Needs no call, and does nothing, after a `Close`.
  Actions on_disconnect(PeerId peer, const Error& reason, TimePoint now);
  /// A Change for this watch was not queued, as too much waits for its peer already: the watch ends. `on_message` and
  /// all others may not be called between the actions that held the Change and this.
  Actions on_slow_watcher(PeerId peer, std::uint32_t request);
  /// One of PyTorch's keys was set, or, without a value, deleted. Needs to be told only while `watches_pytorch`.
  Actions on_pytorch_change(const std::string& key, const SharedBytes& value);
  bool watches_pytorch() const { return !watches_[1].empty(); }
  Actions on_tick(TimePoint now);
  /// The launcher saw this rank's process end, and well. One that had not joined will not: whoever waits for anything
  /// then is told, and not only at the join deadline.
  Actions on_rank_ended(Rank rank);
  /// Ends the generation: open requests fail, every admitted peer is told, later requests are refused. Once.
  Actions end_generation(std::string reason, TimePoint now);

  /// When `on_tick` has something to do.
  std::optional<TimePoint> next_deadline() const;
  /// Whether the peer has proved itself, so that its frames may be large.
  bool is_admitted(PeerId peer) const;
  std::uint32_t joined() const { return joined_; }
  std::size_t connections() const { return peers_.size(); }
  std::size_t max_connections() const { return max_connections(options_.hosts.size()); }
  static std::size_t max_connections(std::size_t world_size) { return 2 * world_size + kSpareConnections; }

 private:
  friend struct WorldStateProbe;  // a test's, which compares states whole
  enum class Step { expects_preamble, expects_hello, expects_proof, admitted };
  using OpenId = std::uint64_t;
  struct Peer {
    std::string address;
    Nonce nonce{};
    Step step = Step::expects_preamble;
    TimePoint handshake_deadline;
    Hello hello;
    std::map<std::uint32_t, OpenId> open;  // its requests that are held back
    std::size_t open_bytes = 0;
  };
  enum class Presence { absent, present, left, lost };
  struct Slot {
    Presence presence = Presence::absent;
    PeerId peer{};
    std::uint32_t pid = 0;
    std::string host;  // as the rank itself says
  };
  struct ForId {
    std::uint32_t index;
  };
  struct ForValue {
    std::string key;
  };
  struct ForKeys {
    std::map<std::string, bool> exist;
    std::size_t missing = 0;
  };
  struct ForBarrier {
    std::string name;
  };
  struct ForChanges {
    std::string key;
    bool prefix;
    Keyspace keyspace;
  };
  /// Ended and forgotten with its last waiter, so that names that nobody waits for cost nothing.
  struct OpenBarrier {
    std::map<Rank, OpenId> waiting;
    std::set<Rank> arrived;  // those whose time has passed, too
  };
  /// What the messages of one tick have in common, put together once.
  struct TimeoutWords {
    std::optional<std::string> unjoined;
    std::map<std::string, std::string> barriers;
  };
  using Subject = std::variant<ForId, ForValue, ForKeys, ForBarrier, ForChanges>;
  /// A request that is held back, or a watch, which has no deadline.
  struct Open {
    PeerId peer{};
    std::uint32_t request = 0;
    Rank rank{};
    std::chrono::milliseconds timeout{};
    std::optional<TimePoint> deadline;
    std::size_t bytes = 0;
    Subject subject;
  };

  // Connections and admission: world_state.cpp.
  void handshake(PeerId id, Peer& peer, Message& message, TimePoint now);
  void admit(PeerId id, Peer& peer, TimePoint now);
  std::optional<Error> objection(const Hello& hello, const Peer& peer) const;
  std::optional<Error> nccl_objection(const Hello& hello) const;
  void reject(PeerId id, const Error& error);
  void remove(PeerId id, Presence presence, const Error& reason);
  void miss_join_deadline();
  void give_up_on_ended();
  void give_up(const Error& error);
  std::vector<Rank> missing_ranks() const;
  std::string served_host(Rank rank) const { return options_.hosts[number(rank)]; }

  std::string name_peer(const Peer& peer) const;

  // Requests: world_requests.cpp.
  void serve(PeerId id, Peer& peer, Message& message, TimePoint now);
  void on(PeerId id, Peer& peer, PublishId& message, TimePoint now);
  void on(PeerId id, Peer& peer, GetId& message, TimePoint now);
  void on(PeerId id, Peer& peer, Barrier& message, TimePoint now);
  bool hold(PeerId id, Peer& peer, std::uint32_t request, std::optional<std::uint32_t> timeout_ms, std::size_t bytes,
            Subject subject, TimePoint now);
  Open take(OpenId id);
  void fail_hopes_on(Rank rank);
  void fail_all_open(const Error& error);
  Error timeout_error(const Open& open, TimeoutWords& words) const;
  std::string who_is_late(const OpenBarrier& barrier) const;
  std::optional<Error> absence(const std::string& barrier) const;
  std::optional<Error> rootless(std::uint32_t index) const;

  // The store's requests: world_store.cpp.
  void on(PeerId id, Peer& peer, Set& message, TimePoint now);
  void on(PeerId id, Peer& peer, Get& message, TimePoint now);
  void on(PeerId id, Peer& peer, Wait& message, TimePoint now);
  void on(PeerId id, Peer& peer, Add& message, TimePoint now);
  void on(PeerId id, Peer& peer, CompareSet& message, TimePoint now);
  void on(PeerId id, Peer& peer, Append& message, TimePoint now);
  void on(PeerId id, Peer& peer, Delete& message, TimePoint now);
  void on(PeerId id, Peer& peer, List& message, TimePoint now);
  void on(PeerId id, Peer& peer, Watch& message, TimePoint now);
  void on(PeerId id, Peer& peer, Peek& message, TimePoint now);
  void on(PeerId id, Peer& peer, Entries& message, TimePoint now);
  bool lacks_pytorch(PeerId id, std::uint32_t request);
  template <class Request>
  bool is_for_pytorch(PeerId id, Request& message);
  void key_was_set(const std::string& key, bool existed);
  void key_was_deleted(const std::string& key);
  void tell_watchers(Keyspace keyspace, const std::string& key, const SharedBytes& value);

  void send(PeerId id, Message message) { out_.push_back(Send{id, std::move(message)}); }
  void fail(PeerId id, std::uint32_t request, const Error& error);
  Actions take_actions() { return std::exchange(out_, {}); }

  WorldOptions options_;
  Actions out_;
  std::map<PeerId, Peer> peers_;
  std::set<PeerId> handshakes_;  // ids ascend, so the first is the oldest
  std::vector<Slot> slots_;
  std::uint32_t joined_ = 0;
  std::uint32_t gone_ = 0;  // ranks left or lost now
  std::size_t observers_ = 0;
  bool complete_ = false;  // all ranks have joined
  std::set<Rank> ended_unjoined_;
  std::optional<TimePoint> join_deadline_;
  std::optional<Error> failed_;  // why this generation cannot succeed
  std::optional<std::string> end_reason_;
  std::optional<Rank> nccl_reference_;  // the first rank that named an NCCL version
  std::uint32_t nccl_version_ = 0;

  Store store_;
  std::map<std::uint32_t, UniqueId> ids_;
  OpenId next_open_ = 1;
  std::map<OpenId, Open> open_;
  std::set<std::pair<TimePoint, OpenId>> deadlines_;
  std::map<std::uint32_t, std::set<OpenId>> id_waiters_;
  std::unordered_map<std::string, std::set<OpenId>> key_waiters_;  // also of keys that one waits for others beside
  WatchIndex<OpenId> watches_[2];                                  // of each keyspace
  WatchIndex<OpenId>& watches(Keyspace keyspace) { return watches_[static_cast<std::size_t>(keyspace)]; }
  std::map<std::string, OpenBarrier> barriers_;
};

}  // namespace llmlaunch::rendezvous
