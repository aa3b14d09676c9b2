/// \file
/// The rendezvous protocol, version 1, and its messages as types. Used by `Server`/`WorldState` and by `Client`.
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
///     20 c Wait        request timeout count:u32 key…  → Done      held back until all keys exist
///     21 c Add         request key:text delta:i64      → Number    a missing key is 0; kept as decimal text
///     22 c Barrier     request name:text timeout       → Done      held back until all ranks of the world asked
///     replies
///     64 s Done        request
///     65 s Value       request value:bytes
///     66 s Number      request value:i64
///     67 s Id          request id
///     68 s Failure     request code:u16 what:text hint:text        request 0: about the connection, which then closes
///                      code: 1 timed_out 2 canceled 3 refused 4 closed 5 protocol 6 too_large 7 version_mismatch
///                      8 unauthenticated 9 duplicate_rank 10 stale_generation 11 wrong_world 12 generation_ended
///                      13 not_found 14 invalid_argument 15 unsupported 16 out_of_resources; any other: refused
///     without an answer
///     96 c Cancel      request                         an open request is answered with Failure(canceled)
///     97 c Leave       (nothing)                       the rank leaves in order; the server closes
///     98 s Ended       generation:u32 reason:text      the generation has ended; open requests have failed before
///
/// Authentication: both sides hold the job's 256-bit token, and neither sends it. A proof is HMAC-SHA256 under the
/// token over (the word "server" or "client", both nonces, the hello's fields as listed above). The server proves
/// first, so a client never answers a stranger; identity is judged after the proof, so a stranger learns nothing about
/// the job. What follows the handshake is neither encrypted nor signed: who can change packets between the hosts can
/// change this stream.
///
/// Version rule: the preamble's version changes when old readers would misread; preamble and Failure keep their layout
/// for ever, so that both sides can say which versions met. `minor` counts additions: new fields at the end of a
/// payload, which readers ignore, and new types. Unknown types: in a handshake they end the connection; later the
/// server answers Failure(unsupported) to the u32 that every request starts with, and a client ignores them.
///
/// Example: after the handshake a client sets key "k" to ":".
///
///     0f 00 00 00  12  07 00 00 00  01 00 00 00 6b  01 00 00 00 3a      (length 15 = type 1 + payload 14)
///     length = 15  Set request = 7  "k"             ":"
///     05 00 00 00  40  07 00 00 00                                       the server's answer: Done, request 7
#pragma once

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

namespace llmlaunch::rendezvous {

inline constexpr std::uint16_t kProtocolVersion = 1;
inline constexpr std::uint16_t kProtocolMinor = 0;
inline constexpr std::array<std::uint8_t, 6> kPreambleMagic = {'L', 'L', 'M', 'R', 'D', 'V'};
inline constexpr std::size_t kPreambleBytes = 8;

// Limits. Everything that a peer can make the server hold is bounded by one of them.

/// Job id and host name in a hello: host names end at 253 characters.
inline constexpr std::size_t kMaxNameBytes = 255;
/// Store keys and barrier names, as PyTorch's TCPStore allows: its prefixes nest deeply.
inline constexpr std::size_t kMaxKeyBytes = 8 * 1024;
/// A store value, as TCPStore's: enough for the addresses of 10,000 ranks in one value.
inline constexpr std::size_t kMaxValueBytes = 8 * 1024 * 1024;
/// Keys per generation: gloo needs some per pair of ranks in its worst set-up, 65,536 serves 256 such ranks.
inline constexpr std::size_t kMaxKeys = 64 * 1024;
/// Keys and values of a generation together: what the head can spare for a job.
inline constexpr std::size_t kMaxStoreBytes = 256 * 1024 * 1024;
/// Keys in one Wait.
inline constexpr std::size_t kMaxWaitKeys = 4096;
/// The largest message is a Set of the largest key and value.
inline constexpr std::size_t kMaxFrameBytes = kMaxKeyBytes + kMaxValueBytes + 64;
/// Before the proof a peer is a stranger: a hello with two names fits, and nothing more.
inline constexpr std::size_t kMaxHandshakeFrameBytes = 1024;
/// NCCL unique ids per generation: communicators and their roots are a handful.
inline constexpr std::uint32_t kMaxUniqueIds = 1024;
/// Requests of one peer held back at a time: a rank's threads, each waiting for one thing.
inline constexpr std::size_t kMaxOpenRequests = 256;
/// Key bytes in the requests of one peer held back.
inline constexpr std::size_t kMaxOpenRequestBytes = 16 * 1024 * 1024;
/// From accept to proof. A handshake takes two round trips; 10 s survives three lost packets.
inline constexpr std::chrono::milliseconds kHandshakeTimeout{10'000};
/// Connections beyond two per rank; when all are taken, the oldest unfinished handshake makes room.
inline constexpr std::size_t kSpareConnections = 64;
/// Bytes queued for a peer that does not read, before it loses its connection.
inline constexpr std::size_t kMaxQueuedBytes = 8 * kMaxFrameBytes;
/// Bytes queued for a peer above which its further requests stay unread.
inline constexpr std::size_t kPauseQueuedBytes = 1024 * 1024;
/// Texts in Failure and Ended; longer ones are cut, keeping any answer readable.
inline constexpr std::size_t kMaxReasonBytes = 16 * 1024;

/// What `ncclGetUniqueId` gives: opaque, 128 bytes.
using UniqueId = std::array<std::byte, 128>;
using Nonce = std::array<std::byte, 32>;
using ProofBytes = std::array<std::byte, 32>;
/// A value that many replies share.
using SharedBytes = std::shared_ptr<const Bytes>;

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
  friend bool operator==(const Add&, const Add&) = default;
};
struct Barrier {
  std::uint32_t request = 0;
  std::string name;
  std::uint32_t timeout_ms = 0;
  friend bool operator==(const Barrier&, const Barrier&) = default;
};

struct Done {
  std::uint32_t request = 0;
  friend bool operator==(const Done&, const Done&) = default;
};
struct Value {
  std::uint32_t request = 0;
  SharedBytes value;  ///< null counts as empty
  friend bool operator==(const Value& a, const Value& b) {
    static const Bytes kEmpty;
    return a.request == b.request && (a.value ? *a.value : kEmpty) == (b.value ? *b.value : kEmpty);
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
                             Done, Value, Number, Id, Failure, Cancel, Leave, Ended, Unknown>;

/// The message's bytes on the stream, header included. `Unknown` gives a frame with its request alone.
Bytes encode(const Message& message);

/// The bytes in front of the value and the value itself, which is not copied; for all but `Value`, the second is null.
std::pair<Bytes, SharedBytes> encode_shared(const Message& message);

/// One frame as a message. `Errc::protocol` names the message whose fields are missing or lie about their length.
Result<Message> decode(const FrameView& frame);

/// Whether the text may be a key or a barrier's name: 1 … kMaxKeyBytes. `noun` is "key" or "barrier name".
Result<void> check_key(std::string_view key, std::string_view noun = "key");
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
