/// \file
/// What the TCPStore dialect decides: commands of numbered peers in, bytes and closed connections out; no socket, no
/// clock. `TcpStoreServer` feeds it. Its keys are its own: the native store (store.hpp) neither sees them nor is seen.
/// Who looks into a job by the native dialect reaches them by `on_request`, and watches them by `Changed`. Private to
/// this directory and to tests.
///
/// A peer: silent → valid (VALIDATE came) → waiting ⇄ valid. The store: open → ended, when every peer is closed.
/// A client waits for the answer to each command but WAIT and BARRIER, which CANCEL_WAIT alone may follow before they
/// are answered.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "rendezvous/message.hpp"
#include "rendezvous/tcpstore_codec.hpp"
#include "rendezvous/world_state.hpp"

namespace llmlaunch::rendezvous::tcpstore {

struct Limits {
  /// Gloo has some keys for each pair of ranks that meet; more than in the native store, as groups nest prefixes.
  std::size_t keys = 1024 * 1024;
  /// All keys, values and queued values, with kEntryOverhead each: what the head can spare for a job.
  std::size_t bytes = 256 * 1024 * 1024;
  /// Values in one queue.
  std::size_t queue_length = 64 * 1024;
  /// Pairs of a connection and a key that it waits for: 2,048 ranks, each waiting for a key of every rank.
  std::size_t waits = 4 * 1024 * 1024;
  /// A rank has a connection, and one more for each clone of its store: NCCL's watchdogs make some.
  std::size_t connections = 1024;  // as the server counts them
};
/// What a key costs beside its bytes.
inline constexpr std::size_t kEntryOverhead = 64;

/// A number as ADD and BARRIER keep it.
Bytes decimal_text(std::int64_t number);

/// `bytes`, and after them `value` where there is one.
struct Answer {
  PeerId peer{};
  Bytes bytes;
  SharedBytes value;
};
/// Ends the connection at once. `at_fault`: its client did what cannot be, so that its rank will fail.
struct Hangup {
  PeerId peer{};
  Error reason;
  bool at_fault = false;
};
/// While somebody watches: a key was set, or, without a value, deleted.
struct Changed {
  std::string key;
  SharedBytes value;
};
using StoreAction = std::variant<Answer, Hangup, Changed>;
using StoreActions = std::vector<StoreAction>;

class State {
 public:
  explicit State(Limits limits = {}) : limits_(limits) {}

  /// `address` is for messages. Ids never come again and ascend.
  StoreActions on_connect(PeerId peer, std::string address);
  StoreActions on_command(PeerId peer, Command command);
  /// The peer's bytes are no commands.
  StoreActions on_malformed(PeerId peer, const Error& error);
  /// The time for its VALIDATE is over; nothing if that has come.
  StoreActions on_late(PeerId peer);
  /// The connection is gone. Needs no call, and does nothing, after a `Hangup`.
  StoreActions on_disconnect(PeerId peer);
  /// Closes all, and whoever comes later.
  StoreActions end(std::string reason);

  /// A request of the native dialect for these keys, one of Set, Add, Delete, Peek and Entries: what it is answered,
  /// and what follows for the peers. It may do what a peer's command may, but that "no" is a Failure.
  std::pair<Message, StoreActions> on_request(Message request);
  /// Whether changes are told from now on.
  void observe(bool watched) { observed_ = watched; }

  std::size_t connections() const { return peers_.size(); }
  std::size_t keys() const { return values_.size() + queues_.size(); }
  std::size_t bytes() const { return bytes_; }
  std::size_t waits() const { return waits_held_; }

 private:
  using WaitId = std::uint64_t;
  using Value = std::shared_ptr<Bytes>;
  struct Peer {
    std::string address;
    bool valid = false;
    std::optional<WaitId> wait;
    std::optional<std::string> woken_for;  // a queue's key: it is expected to take what is there
  };
  /// Who waits for one key, first come first.
  struct Waiters {
    std::string key;
    std::deque<WaitId> ids;  // some are over already
    std::size_t live = 0;
    bool served = false;  // the key came: no longer in the index
  };
  struct Wait {
    PeerId peer{};
    std::size_t missing = 0;
    std::vector<std::shared_ptr<Waiters>> keys;
  };

  void serve(PeerId id, Peer& peer, Command& command);
  void serve_keys(PeerId id, Command& command);
  void serve_queue(PeerId id, Command& command);
  void compare_set(PeerId id, Command& command);
  void add(PeerId id, const std::string& key, std::int64_t delta);
  void append(PeerId id, const std::string& key, Bytes value);
  void wait(PeerId id, Peer& peer, std::vector<std::string>& keys);
  void barrier(PeerId id, Peer& peer, Command& command);
  void wait_for(PeerId id, Peer& peer, std::vector<std::string>& keys);
  void list_keys(PeerId id);
  bool set(PeerId id, const std::string& key, Bytes value);
  bool fits(PeerId id, const std::string& key, std::size_t freed, std::size_t needed, bool fresh);
  bool erase(const std::string& key);
  bool is_there(const std::string& key) const;
  Result<std::int64_t> sum_of(const std::string& key, std::int64_t delta) const;
  Result<void> room(const std::string& key, std::size_t freed, std::size_t needed, bool fresh) const;
  enum class Wake { all, nobody };
  Result<void> put(const std::string& key, Bytes value, Wake wake = Wake::all);
  void note_change(const std::string& key, const Value& value);

  // tcpstore_requests.cpp
  Message reply_to(Set& request);
  Message reply_to(Add& request);
  Message reply_to(Delete& request);
  Message reply_to(Peek& request);
  Message reply_to(Entries& request);

  void wake_all(const std::string& key);
  void wake_one(const std::string& key);
  void finish_wait(WaitId id);
  void drop_wait(WaitId id);
  void pass_on(Peer& peer, const Command* next);
  void hang_up(PeerId id, Error reason, bool at_fault);
  void refuse(PeerId id, Errc code, std::string what) { hang_up(id, make_error(code, std::move(what)), true); }
  void answer(PeerId id, Bytes bytes, SharedBytes value = nullptr);
  void answer_value(PeerId id, const std::string& key);
  StoreActions take_actions() { return std::exchange(out_, {}); }

  Limits limits_;
  StoreActions out_;
  std::map<PeerId, Peer> peers_;
  std::set<PeerId> silent_;  // ids ascend, so the first is the oldest
  std::unordered_map<std::string, Value> values_;
  std::unordered_map<std::string, std::deque<Value>> queues_;  // none is empty
  std::size_t bytes_ = 0;
  WaitId next_wait_ = 1;
  std::unordered_map<WaitId, Wait> waits_;
  std::unordered_map<std::string, std::shared_ptr<Waiters>> waiters_;
  std::size_t waits_held_ = 0;
  std::optional<std::string> ended_;
  bool observed_ = false;
};

}  // namespace llmlaunch::rendezvous::tcpstore
