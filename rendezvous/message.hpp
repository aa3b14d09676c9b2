/// \file
/// The rendezvous protocol, version 1.2, and its messages as types. Used by `Server`/`WorldState` and by `Client`.
///
///     stream    = preamble frame*              the preamble goes from client to server only
///     preamble  = "LLMRDV" version             6 bytes + u16; tells this protocol from others on the same port
///     frame     = length type payload          rendezvous/base/frame.hpp: u32, u8, length - 1 bytes
///     text      = bytes = u32 length + data    integers are little-endian
///     nonce     = 32 bytes                     proof = 32 bytes          id = 128 bytes
///     request   = u32, not 0                   chosen by the client, unique among its open requests
///     timeout   = u32 milliseconds             how long the server may hold the request back
///
///     handshake                                                                      (c: from client, s: from server)
///      1 c Hello       minor:u16 client:nonce job:text generation:u32 rank:u32 world:u32 host:text pid:u32 nccl:u32
///      2 s Challenge   server:nonce proof
///      3 c Proof       proof
///      4 s Welcome     minor:u16
///     requests, all from the client; each is answered by one reply with the same number
///     16 c PublishId   request index:u32 id            → Done
///     17 c GetId       request index:u32 timeout       → Id        held back until the id is published
///     18 c Set         request key:text value:bytes    → Done
///     19 c Get         request key:text timeout        → Value     held back until the key exists
///     20 c Wait        request timeout count:u32 key…  → Done      held back until all keys exist at once
///     21 c Add         request key:text delta:i64      → Number    a missing key is 0; kept as decimal text
///     22 c Barrier     request name:text timeout       → Done      held back until all ranks of the world asked
///     since minor 1
///     23 c CompareSet  request key:text expected:u8 old:bytes new:bytes → Compared   expected 0: that the key is missing
///     24 c Append      request key:text value:bytes    → Number    the value's new length; a missing key is empty
///     25 c Delete      request key:text                → Number    1 when the key existed, else 0
///     26 c List        request prefix:text after:text limit:u32 → Keys   in byte order, those greater than `after`
///     27 c Watch       request prefix:u8 key:text      → Done, and then a Change for every later change of the key, or of
///                                                        every key that begins with it; a Failure ends it
///     since minor 2
///     28 c Peek        request keyspace:u8 key:text   → Value, or Failure(not_found; invalid_argument: queue) at once
///     29 c Entries     request keyspace:u8 prefix:text after:text limit:u32 → Sizes   as List
///        c Set, Add, Delete and Watch may have one field more at the end, keyspace:u8
///     replies
///     64 s Done        request
///     65 s Value       request value:bytes
///     66 s Number      request value:i64
///     67 s Id          request id
///     68 s Failure     request code:u16 what:text hint:text        request 0: about the connection, which then closes
///                      code: 1 timed_out 2 canceled 3 refused 4 closed 5 protocol 6 too_large 7 version_mismatch
///                      8 unauthenticated 9 duplicate_rank 10 stale_generation 11 wrong_world 12 generation_ended
///                      13 not_found 14 invalid_argument 15 unsupported 16 out_of_resources; any other: refused
///     69 s Compared    request swapped:u8 exists:u8 value:bytes    not swapped: what the key has instead
///     70 s Keys        request more:u8 count:u32 key…              more 1: go on behind the last one
///     71 s Change      request deleted:u8 key:text value:bytes     in the order in which the changes were made
///     72 s Sizes       request more:u8 count:u32 (key:text bytes:u64 queued:u32)…   queued: values, when it is a queue
///     without an answer
///     96 c Cancel      request                         an open request or watch is answered with Failure(canceled)
///     97 c Leave       (nothing)                       the rank leaves in order; the server closes
///     98 s Ended       generation:u32 reason:text      the generation has ended; open requests have failed before
///
/// Authentication: both sides hold the job's 256-bit token, and neither sends it. A proof is HMAC-SHA256 under the
/// token over (the word "server" or "client", both nonces, the hello's fields as listed above). The server proves
/// first, so a client never answers a stranger; identity is judged after the proof, so a stranger learns nothing about
/// the job. What follows the handshake is neither encrypted nor signed: who can change packets between the hosts can
/// change this stream.
///
/// Observer, since minor 1: a hello with rank 2^32-1 (and any world) proves the token like any other and is no rank: it
/// has the store and may ask for unique ids, but publishes none, enters no barrier, and nobody waits for it.
///
/// Watch: a watcher that does not read gets at most kMaxWatchQueuedBytes of changes; then its watch, not its
/// connection, ends with Failure(out_of_resources), and no later change is sent. What is between two watches a list and
/// gets tell.
///
/// Keyspace, since minor 2: 0, also when the field is missing, is this protocol's own store; 1 is that of PyTorch's
/// TCPStore on the same port, whose keys are others (Failure(unsupported) where it is not served). It is for those who
/// look into a job, as a TCPStore itself has no list and no watch. Its queues are listed; they are not watched or set.
///
/// Version rule: the preamble's version changes when old readers would misread; preamble and Failure keep their layout
/// for ever, so that both sides can say which versions met. `minor` counts additions: new fields at the end of a
/// payload, which readers ignore, and new types. A hello never grows, as the proof covers it. Unknown types: in a
/// handshake they end the connection; later the server answers Failure(unsupported) to the u32 that every request
/// starts with, and a client ignores them.
///
/// Example: after the handshake a client sets key "k" to ":".
///
///     0f 00 00 00  12  07 00 00 00  01 00 00 00 6b  01 00 00 00 3a      (length 15 = type 1 + payload 14)
///     length = 15  Set request = 7  "k"             ":"
///     05 00 00 00  40  07 00 00 00                                       the server's answer: Done, request 7
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"
#include "rendezvous/limits.hpp"

namespace llmlaunch::rendezvous {

inline constexpr std::uint16_t kProtocolVersion = 1;
inline constexpr std::uint16_t kProtocolMinor = 2;
inline constexpr std::array<std::uint8_t, 6> kPreambleMagic = {'L', 'L', 'M', 'R', 'D', 'V'};
inline constexpr std::size_t kPreambleBytes = 8;

/// What `ncclGetUniqueId` gives: opaque, 128 bytes.
using UniqueId = std::array<std::byte, 128>;
using Nonce = std::array<std::byte, 32>;
using ProofBytes = std::array<std::byte, 32>;
/// A value that many replies share.
using SharedBytes = std::shared_ptr<const Bytes>;
inline bool same_bytes(const SharedBytes& a, const SharedBytes& b) {
  return std::ranges::equal(a ? ByteView(*a) : ByteView(), b ? ByteView(*b) : ByteView());
}
/// The rank in an observer's hello.
inline constexpr Rank kNoRank{0xffffffff};

/// Whose keys a request is about.
enum class Keyspace : std::uint8_t { native = 0, pytorch = 1 };
/// "native", "pytorch".
std::string_view keyspace_name(Keyspace keyspace);

/// First message of a stream, made by `MessageDecoder` from the preamble.
struct Preamble {
  std::uint16_t version = kProtocolVersion;
  friend bool operator==(const Preamble&, const Preamble&) = default;
};
struct Hello {
  std::uint16_t minor = kProtocolMinor;
  Nonce nonce{};
  std::string job_id;
  Generation generation{};
  Rank rank{};
  std::uint32_t world_size = 0;
  std::string host;
  std::uint32_t pid = 0;
  std::uint32_t nccl_version = 0;  ///< ncclGetVersion's number, 0 without NCCL
  friend bool operator==(const Hello&, const Hello&) = default;
};
struct Challenge {
  Nonce nonce{};
  ProofBytes proof{};
  friend bool operator==(const Challenge&, const Challenge&) = default;
};
struct Proof {
  ProofBytes proof{};
  friend bool operator==(const Proof&, const Proof&) = default;
};
struct Welcome {
  std::uint16_t minor = kProtocolMinor;
  friend bool operator==(const Welcome&, const Welcome&) = default;
};

struct PublishId {
  std::uint32_t request = 0;
  std::uint32_t index = 0;
  UniqueId id{};
  friend bool operator==(const PublishId&, const PublishId&) = default;
};
struct GetId {
  std::uint32_t request = 0;
  std::uint32_t index = 0;
  std::uint32_t timeout_ms = 0;
  friend bool operator==(const GetId&, const GetId&) = default;
};
struct Set {
  std::uint32_t request = 0;
  std::string key;
  Bytes value;
  Keyspace keyspace{};
  friend bool operator==(const Set&, const Set&) = default;
};
struct Get {
  std::uint32_t request = 0;
  std::string key;
  std::uint32_t timeout_ms = 0;
  friend bool operator==(const Get&, const Get&) = default;
};
struct Wait {
  std::uint32_t request = 0;
  std::uint32_t timeout_ms = 0;
  std::vector<std::string> keys;
  friend bool operator==(const Wait&, const Wait&) = default;
};
struct Add {
  std::uint32_t request = 0;
  std::string key;
  std::int64_t delta = 0;
  Keyspace keyspace{};
  friend bool operator==(const Add&, const Add&) = default;
};
struct Barrier {
  std::uint32_t request = 0;
  std::string name;
  std::uint32_t timeout_ms = 0;
  friend bool operator==(const Barrier&, const Barrier&) = default;
};

struct CompareSet {
  std::uint32_t request = 0;
  std::string key;
  std::optional<Bytes> expected;  ///< nothing: the key is missing
  Bytes value;
  friend bool operator==(const CompareSet&, const CompareSet&) = default;
};
struct Append {
  std::uint32_t request = 0;
  std::string key;
  Bytes value;
  friend bool operator==(const Append&, const Append&) = default;
};
struct Delete {
  std::uint32_t request = 0;
  std::string key;
  Keyspace keyspace{};
  friend bool operator==(const Delete&, const Delete&) = default;
};
struct List {
  std::uint32_t request = 0;
  std::string prefix;
  std::string after;
  std::uint32_t limit = 0;
  friend bool operator==(const List&, const List&) = default;
};
struct Watch {
  std::uint32_t request = 0;
  bool prefix = false;
  std::string key;
  Keyspace keyspace{};
  friend bool operator==(const Watch&, const Watch&) = default;
};
struct Peek {
  std::uint32_t request = 0;
  Keyspace keyspace{};
  std::string key;
  friend bool operator==(const Peek&, const Peek&) = default;
};
struct Entries {
  std::uint32_t request = 0;
  Keyspace keyspace{};
  std::string prefix;
  std::string after;
  std::uint32_t limit = 0;
  friend bool operator==(const Entries&, const Entries&) = default;
};

struct Done {
  std::uint32_t request = 0;
  friend bool operator==(const Done&, const Done&) = default;
};
struct Value {
  std::uint32_t request = 0;
  SharedBytes value;  ///< null counts as empty
  friend bool operator==(const Value& a, const Value& b) {
    return a.request == b.request && same_bytes(a.value, b.value);
  }
};
struct Number {
  std::uint32_t request = 0;
  std::int64_t value = 0;
  friend bool operator==(const Number&, const Number&) = default;
};
struct Id {
  std::uint32_t request = 0;
  UniqueId id{};
  friend bool operator==(const Id&, const Id&) = default;
};
struct Failure {
  std::uint32_t request = 0;
  Errc code = Errc::internal;
  std::string what;
  std::string hint;
  friend bool operator==(const Failure&, const Failure&) = default;
};

struct Compared {
  std::uint32_t request = 0;
  bool swapped = false;
  bool exists = false;
  SharedBytes value;  ///< null counts as empty
  friend bool operator==(const Compared& a, const Compared& b) {
    return a.request == b.request && a.swapped == b.swapped && a.exists == b.exists && same_bytes(a.value, b.value);
  }
};
struct Keys {
  std::uint32_t request = 0;
  bool more = false;
  std::vector<std::string> keys;
  friend bool operator==(const Keys&, const Keys&) = default;
};
struct Change {
  std::uint32_t request = 0;
  bool deleted = false;
  std::string key;
  SharedBytes value;  ///< null counts as empty
  friend bool operator==(const Change& a, const Change& b) {
    return a.request == b.request && a.deleted == b.deleted && a.key == b.key && same_bytes(a.value, b.value);
  }
};

/// A key and what it holds: one value, or, of PyTorch's store, a queue of values.
struct StoreEntry {
  std::string key;
  std::uint64_t bytes = 0;   ///< of the value, or of all that are queued
  std::uint32_t queued = 0;  ///< values; 0: no queue
  friend bool operator==(const StoreEntry&, const StoreEntry&) = default;
};
struct Sizes {
  std::uint32_t request = 0;
  bool more = false;
  std::vector<StoreEntry> entries;
  friend bool operator==(const Sizes&, const Sizes&) = default;
};

struct Cancel {
  std::uint32_t request = 0;
  friend bool operator==(const Cancel&, const Cancel&) = default;
};
struct Leave {
  friend bool operator==(const Leave&, const Leave&) = default;
};
struct Ended {
  Generation generation{};
  std::string reason;
  friend bool operator==(const Ended&, const Ended&) = default;
};
/// A frame of a type that this version does not know. `request` is its first u32, or 0.
struct Unknown {
  std::uint8_t type = 0;
  std::uint32_t request = 0;
  friend bool operator==(const Unknown&, const Unknown&) = default;
};

using Message = std::variant<Preamble, Hello, Challenge, Proof, Welcome, PublishId, GetId, Set, Get, Wait, Add, Barrier,
                             CompareSet, Append, Delete, List, Watch, Peek, Entries, Done, Value, Number, Id, Failure,
                             Compared, Keys, Change, Sizes, Cancel, Leave, Ended, Unknown>;

/// The message's bytes on the stream, header included. `Unknown` gives a frame with its request alone.
Bytes encode(const Message& message);

/// The bytes in front of a value that many replies share and the value itself, which is not copied; for messages
/// without one, the second is null.
std::pair<Bytes, SharedBytes> encode_shared(const Message& message);

/// One frame as a message. `Errc::protocol` names the message whose fields are missing or lie about their length.
Result<Message> decode(const FrameView& frame);

/// Whether the text may be a key or a barrier's name: 1 … kMaxKeyBytes. `noun` is "key" or "barrier name".
Result<void> check_key(std::string_view key, std::string_view noun = "key");
/// Whether the text may be a prefix, or the key to list behind: up to kMaxKeyBytes, also empty.
Result<void> check_prefix(std::string_view prefix);
/// Whether a value fits: `Errc::too_large` names the key.
Result<void> check_value(std::string_view key, std::size_t value_bytes);

/// Bytes → messages | need more | error that ends the stream; no socket. After an error every further call gives it
/// again.
class MessageDecoder {
 public:
  enum class Side { server, client };  ///< the reader's side: a server's stream starts with a preamble
  explicit MessageDecoder(Side side);

  /// Appends received bytes. Takes a copy.
  void feed(ByteView bytes);
  Result<std::optional<Message>> next();

  /// The handshake is done: frames up to `kMaxFrameBytes` are allowed from here on.
  void allow_large_frames();
  std::size_t buffered() const { return preamble_.size() + frames_.buffered(); }

 private:
  bool preamble_due_;
  Bytes preamble_;
  FrameDecoder frames_;
  std::optional<Error> error_;
};

}  // namespace llmlaunch::rendezvous
