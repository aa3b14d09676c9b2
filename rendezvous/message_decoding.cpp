// Bytes as rendezvous messages; the page on top of message.hpp is the contract. Limits of meaning (a key's
// length, a world's size) are judged by WorldState, which can answer; only what makes a stream unreadable ends it here.
#include "rendezvous/message.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "rendezvous/message_types.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

using wire::Type;

Errc from_wire(std::uint16_t number) {
  for (const wire::WireCode& known : wire::kWireCodes) {
    if (known.number == number) return known.code;
  }
  return Errc::refused;
}

template <std::size_t N>
std::array<std::byte, N> array_of(FieldReader& in) {
  std::array<std::byte, N> bytes{};
  const ByteView field = in.raw(N);
  std::copy(field.begin(), field.end(), bytes.begin());
  return bytes;
}

// A name is short or the message is not one of ours.
std::string message_name(FieldReader& in) {
  std::string name = in.text();
  if (name.size() > kMaxNameBytes) in.raw(in.remaining() + 1);  // marks the reader as failed
  return name;
}

std::vector<std::string> keys_of(FieldReader& in) {
  constexpr std::size_t kMinKeyBytes = 4;  // an empty one, too: who is asked for it refuses it by name
  const std::uint32_t count = in.count(kMinKeyBytes);
  std::vector<std::string> keys;
  if (count > kMaxWaitKeys) in.raw(in.remaining() + 1);
  for (std::uint32_t i = 0; i < count && !in.failed(); ++i) keys.push_back(in.text());
  return keys;
}

// A keyspace that this version does not know makes the message unreadable: nothing may be done to another's keys.
Keyspace keyspace_of(FieldReader& in) {
  const std::uint8_t number = in.u8();
  if (number > static_cast<std::uint8_t>(Keyspace::pytorch)) in.raw(in.remaining() + 1);
  return static_cast<Keyspace>(number);
}

Keyspace trailing_keyspace(FieldReader& in) {
  return in.remaining() > 0 ? keyspace_of(in) : Keyspace::native;
}

std::vector<StoreEntry> entries_of(FieldReader& in) {
  constexpr std::size_t kMinEntryBytes = 4 + 8 + 4;  // PyTorch's keys may be empty
  const std::uint32_t count = in.count(kMinEntryBytes);
  std::vector<StoreEntry> entries;
  if (count > kMaxListKeys) in.raw(in.remaining() + 1);
  for (std::uint32_t i = 0; i < count && !in.failed(); ++i) {
    StoreEntry entry;
    entry.key = in.text();
    entry.bytes = in.u64();
    entry.queued = in.u32();
    entries.push_back(std::move(entry));
  }
  return entries;
}

Bytes owned(ByteView bytes) {
  return Bytes(bytes.begin(), bytes.end());
}

SharedBytes shared(ByteView bytes) {
  return std::make_shared<const Bytes>(owned(bytes));
}

const char* message_name(Type type) {
  switch (type) {
    case Type::hello: return "Hello";
    case Type::challenge: return "Challenge";
    case Type::proof: return "Proof";
    case Type::welcome: return "Welcome";
    case Type::publish_id: return "PublishId";
    case Type::get_id: return "GetId";
    case Type::set: return "Set";
    case Type::get: return "Get";
    case Type::wait: return "Wait";
    case Type::add: return "Add";
    case Type::barrier: return "Barrier";
    case Type::compare_set: return "CompareSet";
    case Type::append: return "Append";
    case Type::remove: return "Delete";
    case Type::list: return "List";
    case Type::watch: return "Watch";
    case Type::peek: return "Peek";
    case Type::entries: return "Entries";
    case Type::done: return "Done";
    case Type::value: return "Value";
    case Type::number: return "Number";
    case Type::id: return "Id";
    case Type::failure: return "Failure";
    case Type::compared: return "Compared";
    case Type::keys: return "Keys";
    case Type::change: return "Change";
    case Type::sizes: return "Sizes";
    case Type::cancel: return "Cancel";
    case Type::leave: return "Leave";
    case Type::ended: return "Ended";
  }
  return "unknown";
}

// Reads the fields in the order of the page; braces keep that order.
Message fields_of(Type type, std::uint8_t raw_type, FieldReader& in) {
  switch (type) {
    case Type::hello: {
      Hello m;
      m.minor = in.u16();
      m.nonce = array_of<32>(in);
      m.job_id = message_name(in);
      m.generation = Generation{in.u32()};
      m.rank = Rank{in.u32()};
      m.world_size = in.u32();
      m.host = message_name(in);
      m.pid = in.u32();
      m.nccl_version = in.u32();
      return m;
    }
    case Type::challenge: return Challenge{array_of<32>(in), array_of<32>(in)};
    case Type::proof: return Proof{array_of<32>(in)};
    case Type::welcome: return Welcome{in.u16()};
    case Type::publish_id: return PublishId{in.u32(), in.u32(), array_of<128>(in)};
    case Type::get_id: return GetId{in.u32(), in.u32(), in.u32()};
    case Type::set: return Set{in.u32(), in.text(), owned(in.bytes()), trailing_keyspace(in)};
    case Type::get: return Get{in.u32(), in.text(), in.u32()};
    case Type::wait: return Wait{in.u32(), in.u32(), keys_of(in)};
    case Type::add: return Add{in.u32(), in.text(), in.i64(), trailing_keyspace(in)};
    case Type::barrier: return Barrier{in.u32(), in.text(), in.u32()};
    case Type::compare_set: {
      CompareSet m{in.u32(), in.text(), std::nullopt, {}};
      const bool expected = in.u8() != 0;
      const ByteView old = in.bytes();
      if (expected) m.expected = owned(old);
      m.value = owned(in.bytes());
      return m;
    }
    case Type::append: return Append{in.u32(), in.text(), owned(in.bytes())};
    case Type::remove: return Delete{in.u32(), in.text(), trailing_keyspace(in)};
    case Type::list: return List{in.u32(), in.text(), in.text(), in.u32()};
    case Type::watch: return Watch{in.u32(), in.u8() != 0, in.text(), trailing_keyspace(in)};
    case Type::peek: return Peek{in.u32(), keyspace_of(in), in.text()};
    case Type::entries: return Entries{in.u32(), keyspace_of(in), in.text(), in.text(), in.u32()};
    case Type::done: return Done{in.u32()};
    case Type::value: return Value{in.u32(), shared(in.bytes())};
    case Type::number: return Number{in.u32(), in.i64()};
    case Type::id: return Id{in.u32(), array_of<128>(in)};
    case Type::failure: return Failure{in.u32(), from_wire(in.u16()), in.text(), in.text()};
    case Type::compared: return Compared{in.u32(), in.u8() != 0, in.u8() != 0, shared(in.bytes())};
    case Type::keys: return Keys{in.u32(), in.u8() != 0, keys_of(in)};
    case Type::change: return Change{in.u32(), in.u8() != 0, in.text(), shared(in.bytes())};
    case Type::sizes: return Sizes{in.u32(), in.u8() != 0, entries_of(in)};
    case Type::cancel: return Cancel{in.u32()};
    case Type::leave: return Leave{};
    case Type::ended: return Ended{Generation{in.u32()}, in.text()};
  }
  return Unknown{raw_type, in.remaining() >= 4 ? in.u32() : 0};
}

}  // namespace

Result<Message> decode(const FrameView& frame) {
  const auto type = static_cast<Type>(frame.type);
  FieldReader in(frame.payload);
  Message message = fields_of(type, frame.type, in);
  if (!in.done()) {
    return make_error(Errc::protocol, fmt::format("a {} of {} bytes whose fields do not fit", message_name(type),
                                                  frame.payload.size()));
  }
  return message;
}

std::string_view keyspace_name(Keyspace keyspace) {
  return keyspace == Keyspace::native ? "native" : "pytorch";
}

Result<void> check_key(std::string_view key, std::string_view noun) {
  if (key.empty()) return make_error(Errc::invalid_argument, fmt::format("an empty {}", noun));
  if (key.size() > kMaxKeyBytes) {
    return make_error(Errc::too_large,
                      fmt::format("{} {} has {} bytes; the limit is {}", noun, quoted(key), key.size(), kMaxKeyBytes));
  }
  return ok;
}

Result<void> check_prefix(std::string_view prefix) {
  return prefix.empty() ? Result<void>(ok) : check_key(prefix, "prefix");
}

Result<void> check_value(std::string_view key, std::size_t value_bytes) {
  if (value_bytes > kMaxValueBytes) {
    return make_error(Errc::too_large, fmt::format("the value of key {} has {} bytes; the limit is {}", quoted(key),
                                                   value_bytes, kMaxValueBytes));
  }
  return ok;
}

MessageDecoder::MessageDecoder(Side side) : preamble_due_(side == Side::server), frames_(kMaxHandshakeFrameBytes) {
  if (side == Side::client) allow_large_frames();
}

void MessageDecoder::allow_large_frames() {
  frames_.allow_frames_of(kMaxFrameBytes);
}

void MessageDecoder::feed(ByteView bytes) {
  if (error_) return;
  if (preamble_due_) {
    const std::size_t taken = std::min(kPreambleBytes - preamble_.size(), bytes.size());
    preamble_.insert(preamble_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    bytes = bytes.subspan(taken);
  }
  if (!bytes.empty()) frames_.feed(bytes);
}

Result<std::optional<Message>> MessageDecoder::next() {
  if (error_) return *error_;
  if (preamble_due_) {
    const auto compared = static_cast<std::ptrdiff_t>(std::min(preamble_.size(), kPreambleMagic.size()));
    const auto same = [](std::byte a, std::uint8_t b) { return a == std::byte{b}; };
    if (!std::equal(preamble_.begin(), preamble_.begin() + compared, kPreambleMagic.begin(), same)) {
      std::string shown;
      for (const std::byte byte : preamble_) shown += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
      error_ = make_error(Errc::protocol, "the first bytes are not the rendezvous protocol's:" + shown);
      return *error_;
    }
    if (preamble_.size() < kPreambleBytes) return std::optional<Message>();
    preamble_due_ = false;
    const auto low = std::to_integer<unsigned>(preamble_[6]);
    const auto high = std::to_integer<unsigned>(preamble_[7]);
    preamble_.clear();
    return std::optional<Message>(Preamble{static_cast<std::uint16_t>(low | high << 8)});
  }
  auto frame = frames_.next();
  if (!frame) {
    error_ = frame.error();
    return *error_;
  }
  if (!*frame) return std::optional<Message>();
  auto message = decode(**frame);
  if (!message) {
    error_ = message.error();
    return *error_;
  }
  return std::optional<Message>(std::move(*message));
}

}  // namespace llmlaunch::rendezvous
