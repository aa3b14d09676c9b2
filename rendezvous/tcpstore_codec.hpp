/// \file
/// PyTorch's TCPStore on the wire, as bytes ↔ commands; no socket. Served beside the native protocol (message.hpp), so
/// that an unmodified PyTorch script finds a store. PyTorch documents nothing of it: tests run real releases.
///
///     stream  = command*                            one direction; answers have no header and come in order
///     command = u8 number, then its fields          integers are little-endian
///     k = v   = u64 length + data                   a key, a value
///     k… v…   = u64 count, then so many
///
///      0 VALIDATE    u32 0x3c85f7ce → nothing       the first command of each stream, and never again
///      1 SET         k v            → nothing
///      2 COMPARE_SET k v v          → v             key, expected, desired → what is stored then. A missing key counts
///                                                   as empty, and the answer for it is what was expected or desired
///      3 GET         k              → v             clients WAIT first; empty when there is none
///      4 ADD         k i64          → i64           the sum, kept as decimal text
///      5 CHECK       k…             → u8            0: all are there, 1: not
///      6 WAIT        k…             → u8 0          when all are there, however long that takes
///      7 NUM_KEYS                   → i64
///      8 DELETE_KEY  k              → i64           how many went: 0 or 1
///      9 APPEND      k v            → nothing
///     10 MULTI_GET   k…             → v v v …       so many as were asked for
///     11 MULTI_SET   (k v)…         → nothing
///     12 CANCEL_WAIT                → u8 1          a 0 may have gone out just before
///     13 PING        u32            → u32           the same
///     14 QUEUE_PUSH  k v            → nothing       wakes one who waits for the key
///     15 QUEUE_POP   k              → i64, v        length before; v only when it is not 0
///     16 QUEUE_LEN   k              → i64
///     17 LIST_KEYS                  → k…            no queues; since PyTorch 2.15 or a little before, as is the next
///     18 BARRIER     k i64          → u8 0          adds 1 to the key, and waits until somebody finds there as much as
///                                                   its own number says, or the key is written in another way
///
/// There is no answer for "no": a peer that asks for what cannot be is disconnected, and its client raises an error.
/// PyTorch before 2.1 has no VALIDATE and other numbers; it is told apart and refused.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::rendezvous::tcpstore {

inline constexpr std::uint32_t kMagic = 0x3c85f7ce;

/// Keys and values as PyTorch's own server has them.
inline constexpr std::size_t kMaxKeyBytes = 8 * 1024;
inline constexpr std::size_t kMaxValueBytes = 8 * 1024 * 1024;
/// Keys of one request, as there.
inline constexpr std::size_t kMaxRequestKeys = 128 * 1024;
/// LIST_KEYS' answer.
inline constexpr std::size_t kMaxKeyListBytes = 32 * 1024 * 1024;
/// All keys and values of one request: what a peer can make the server hold before it is understood.
inline constexpr std::size_t kMaxRequestBytes = 32 * 1024 * 1024;

enum class Verb : std::uint8_t {
  validate,
  set,
  compare_set,
  get,
  add,
  check,
  wait,
  num_keys,
  delete_key,
  append,
  multi_get,
  multi_set,
  cancel_wait,
  ping,
  queue_push,
  queue_pop,
  queue_len,
  list_keys,
  barrier,
};
inline constexpr std::size_t kVerbs = static_cast<std::size_t>(Verb::barrier) + 1;

/// "COMPARE_SET", for messages.
std::string_view verb_name(Verb verb);

/// May a stream of this dialect, an old PyTorch's included, begin so? No letter does, and no TLS.
inline bool may_begin(std::byte first) {
  return std::to_integer<std::size_t>(first) < kVerbs;
}

struct Command {
  Verb verb = Verb::validate;
  std::vector<std::string> keys;  ///< in the order of the request
  std::vector<Bytes> values;      ///< likewise
  std::int64_t number = 0;        ///< VALIDATE's and PING's, unsigned; ADD's; how many BARRIER waits for
  friend bool operator==(const Command&, const Command&) = default;
};

/// Bytes → commands | need more | error that ends the stream. Each byte is looked at once, wherever a stream is split.
class Decoder {
 public:
  /// Takes what it uses off the front of `input`. Nothing: all was used, and the command goes on. After an error every
  /// further call gives it again.
  Result<std::optional<Command>> next(ByteView& input);
  /// Bytes held of a command that is not whole.
  std::size_t held() const { return held_; }

 private:
  Result<void> begin(ByteView& input);
  Result<void> step(ByteView& input);
  Result<void> take_integer(std::uint64_t value);
  Result<void> open_text(std::uint64_t size);
  void end_field();
  Error refuse(Errc code, std::string what) const;

  std::optional<Command> command_;
  std::string_view fields_;     // of one round: see kFields
  std::size_t field_ = 0;       // index in fields_
  std::uint64_t rounds_ = 0;    // still to come, this one included
  std::uint64_t integer_ = 0;   // as far as it has come
  unsigned integer_bytes_ = 0;  // of them
  std::size_t text_missing_ = 0;
  bool in_text_ = false;
  std::size_t held_ = 0;
  std::optional<Error> error_;
};

/// The bytes of a command: what a client sends.
Bytes encode(const Command& command);

/// Answers.
Bytes answer_u8(std::uint8_t value);
Bytes answer_u32(std::uint32_t value);
Bytes answer_i64(std::int64_t value);
/// What stands before a value of this size.
Bytes answer_value_head(std::size_t size);

}  // namespace llmlaunch::rendezvous::tcpstore
