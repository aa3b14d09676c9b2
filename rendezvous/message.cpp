// The rendezvous messages as bytes and back; the page on top of message.hpp is the contract. Limits of meaning (a key's
// length, a world's size) are judged by WorldState, which can answer; only what makes a stream unreadable ends it here.
#include "rendezvous/message.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

enum class Type : std::uint8_t {
  hello = 1,
  challenge = 2,
  proof = 3,
  welcome = 4,
  publish_id = 16,
  get_id = 17,
  set = 18,
  get = 19,
  wait = 20,
  add = 21,
  barrier = 22,
  done = 64,
  value = 65,
  number = 66,
  id = 67,
  failure = 68,
  cancel = 96,
  leave = 97,
  ended = 98,
};

// Numbers of the conditions on the wire. Errc may be reordered, these may not.
struct WireCode {
  std::uint16_t number;
  Errc code;
};
constexpr WireCode kWireCodes[] = {
    {1, Errc::timed_out},      {2, Errc::canceled},          {3, Errc::refused},          {4, Errc::closed},
    {5, Errc::protocol},       {6, Errc::too_large},         {7, Errc::version_mismatch}, {8, Errc::unauthenticated},
    {9, Errc::duplicate_rank}, {10, Errc::stale_generation}, {11, Errc::wrong_world},     {12, Errc::generation_ended},
    {13, Errc::not_found},     {14, Errc::invalid_argument}, {15, Errc::unsupported},     {16, Errc::out_of_resources},
};

std::uint16_t to_wire(Errc code) {
  for (const WireCode& wire : kWireCodes) {
    if (wire.code == code) return wire.number;
  }
  return 3;
}

Errc from_wire(std::uint16_t number) {
  for (const WireCode& wire : kWireCodes) {
    if (wire.number == number) return wire.code;
  }
  return Errc::refused;
}

FrameEncoder frame(Type type) {
  return FrameEncoder(static_cast<std::uint8_t>(type));
}

std::string_view cut(std::string_view text) {
  return text.substr(0, kMaxReasonBytes);
}

struct Encoder {
  Bytes operator()(const Preamble& m) const {
    Bytes bytes;
    for (const std::uint8_t letter : kPreambleMagic) bytes.push_back(std::byte{letter});
    bytes.push_back(static_cast<std::byte>(m.version));
    bytes.push_back(static_cast<std::byte>(m.version >> 8));
    return bytes;
  }
  Bytes operator()(const Hello& m) const {
    FrameEncoder out = frame(Type::hello);
    out.u16(m.minor).raw(m.nonce).text(m.job_id).u32(number(m.generation)).u32(number(m.rank)).u32(m.world_size);
    out.text(m.host).u32(m.pid).u32(m.nccl_version);
    return std::move(out).finish();
  }
  Bytes operator()(const Challenge& m) const {
    return std::move(frame(Type::challenge).raw(m.nonce).raw(m.proof)).finish();
  }
  Bytes operator()(const Proof& m) const { return std::move(frame(Type::proof).raw(m.proof)).finish(); }
  Bytes operator()(const Welcome& m) const { return std::move(frame(Type::welcome).u16(m.minor)).finish(); }
  Bytes operator()(const PublishId& m) const {
    return std::move(frame(Type::publish_id).u32(m.request).u32(m.index).raw(m.id)).finish();
  }
  Bytes operator()(const GetId& m) const {
    return std::move(frame(Type::get_id).u32(m.request).u32(m.index).u32(m.timeout_ms)).finish();
  }
  Bytes operator()(const Set& m) const {
    return std::move(frame(Type::set).u32(m.request).text(m.key).bytes(m.value)).finish();
  }
  Bytes operator()(const Get& m) const {
    return std::move(frame(Type::get).u32(m.request).text(m.key).u32(m.timeout_ms)).finish();
  }
  Bytes operator()(const Wait& m) const {
    FrameEncoder out = frame(Type::wait);
    out.u32(m.request).u32(m.timeout_ms).u32(static_cast<std::uint32_t>(m.keys.size()));
    for (const std::string& key : m.keys) out.text(key);
    return std::move(out).finish();
  }
  Bytes operator()(const Add& m) const {
    return std::move(frame(Type::add).u32(m.request).text(m.key).i64(m.delta)).finish();
  }
  Bytes operator()(const Barrier& m) const {
    return std::move(frame(Type::barrier).u32(m.request).text(m.name).u32(m.timeout_ms)).finish();
  }
  Bytes operator()(const Done& m) const { return std::move(frame(Type::done).u32(m.request)).finish(); }
  Bytes operator()(const Value& m) const {
    return std::move(frame(Type::value).u32(m.request).bytes(m.value ? ByteView(*m.value) : ByteView())).finish();
  }
  Bytes operator()(const Number& m) const {
    return std::move(frame(Type::number).u32(m.request).i64(m.value)).finish();
  }
  Bytes operator()(const Id& m) const { return std::move(frame(Type::id).u32(m.request).raw(m.id)).finish(); }
  Bytes operator()(const Failure& m) const {
    FrameEncoder out = frame(Type::failure);
    out.u32(m.request).u16(to_wire(m.code)).text(cut(m.what)).text(cut(m.hint));
    return std::move(out).finish();
  }
  Bytes operator()(const Cancel& m) const { return std::move(frame(Type::cancel).u32(m.request)).finish(); }
  Bytes operator()(const Leave&) const { return frame(Type::leave).finish(); }
  Bytes operator()(const Ended& m) const {
    return std::move(frame(Type::ended).u32(number(m.generation)).text(cut(m.reason))).finish();
  }
  Bytes operator()(const Unknown& m) const { return std::move(FrameEncoder(m.type).u32(m.request)).finish(); }
};

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
  constexpr std::size_t kMinKeyBytes = 4 + 1;
  const std::uint32_t count = in.count(kMinKeyBytes);
  std::vector<std::string> keys;
  if (count > kMaxWaitKeys) in.raw(in.remaining() + 1);
  for (std::uint32_t i = 0; i < count && !in.failed(); ++i) keys.push_back(in.text());
  return keys;
}

Bytes owned(ByteView bytes) {
  return Bytes(bytes.begin(), bytes.end());
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
    case Type::done: return "Done";
    case Type::value: return "Value";
    case Type::number: return "Number";
    case Type::id: return "Id";
    case Type::failure: return "Failure";
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
    case Type::set: return Set{in.u32(), in.text(), owned(in.bytes())};
    case Type::get: return Get{in.u32(), in.text(), in.u32()};
    case Type::wait: return Wait{in.u32(), in.u32(), keys_of(in)};
    case Type::add: return Add{in.u32(), in.text(), in.i64()};
    case Type::barrier: return Barrier{in.u32(), in.text(), in.u32()};
    case Type::done: return Done{in.u32()};
    case Type::value: return Value{in.u32(), std::make_shared<const Bytes>(owned(in.bytes()))};
    case Type::number: return Number{in.u32(), in.i64()};
    case Type::id: return Id{in.u32(), array_of<128>(in)};
    case Type::failure: return Failure{in.u32(), from_wire(in.u16()), in.text(), in.text()};
    case Type::cancel: return Cancel{in.u32()};
    case Type::leave: return Leave{};
    case Type::ended: return Ended{Generation{in.u32()}, in.text()};
  }
  return Unknown{raw_type, in.remaining() >= 4 ? in.u32() : 0};
}

}  // namespace

Bytes encode(const Message& message) {
  return std::visit(Encoder{}, message);
}

std::pair<Bytes, SharedBytes> encode_shared(const Message& message) {
  const Value* value = std::get_if<Value>(&message);
  if (value == nullptr || !value->value) return {encode(message), nullptr};
  // The head of a Value is the frame of an empty one, with both lengths raised by the body's.
  Bytes head = encode(Value{value->request, nullptr});
  const auto raise = [&](std::size_t at) {
    std::uint32_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length |= std::to_integer<std::uint32_t>(head[at + i]) << (8 * i);
    length += static_cast<std::uint32_t>(value->value->size());
    for (std::size_t i = 0; i < 4; ++i) head[at + i] = static_cast<std::byte>(length >> (8 * i));
  };
  raise(0);
  raise(head.size() - 4);
  return {std::move(head), value->value};
}

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

Result<void> check_key(std::string_view key, std::string_view noun) {
  if (key.empty()) return make_error(Errc::invalid_argument, fmt::format("an empty {}", noun));
  if (key.size() > kMaxKeyBytes) {
    return make_error(Errc::too_large,
                      fmt::format("{} {} has {} bytes; the limit is {}", noun, quoted(key), key.size(), kMaxKeyBytes));
  }
  return ok;
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
