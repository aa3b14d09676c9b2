// The rendezvous messages as bytes; the page on top of message.hpp is the contract.
#include <utility>

#include "rendezvous/message.hpp"
#include "rendezvous/message_types.hpp"

namespace llmlaunch::rendezvous {
namespace {

using wire::Type;

std::uint16_t to_wire(Errc code) {
  for (const wire::WireCode& known : wire::kWireCodes) {
    if (known.code == code) return known.number;
  }
  return 3;
}

FrameEncoder frame(Type type) {
  return FrameEncoder(static_cast<std::uint8_t>(type));
}

std::string_view cut(std::string_view text) {
  return text.substr(0, kMaxReasonBytes);
}

ByteView view(const SharedBytes& bytes) {
  return bytes ? ByteView(*bytes) : ByteView();
}

// A field that came with minor 2 and is not there where it says nothing: older servers know nothing else.
FrameEncoder& with_keyspace(FrameEncoder& out, Keyspace keyspace) {
  return keyspace == Keyspace::native ? out : out.u8(static_cast<std::uint8_t>(keyspace));
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
    FrameEncoder out = frame(Type::set);
    return std::move(with_keyspace(out.u32(m.request).text(m.key).bytes(m.value), m.keyspace)).finish();
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
    FrameEncoder out = frame(Type::add);
    return std::move(with_keyspace(out.u32(m.request).text(m.key).i64(m.delta), m.keyspace)).finish();
  }
  Bytes operator()(const Barrier& m) const {
    return std::move(frame(Type::barrier).u32(m.request).text(m.name).u32(m.timeout_ms)).finish();
  }
  Bytes operator()(const CompareSet& m) const {
    FrameEncoder out = frame(Type::compare_set);
    out.u32(m.request).text(m.key).u8(m.expected ? 1 : 0).bytes(m.expected ? ByteView(*m.expected) : ByteView());
    return std::move(out.bytes(m.value)).finish();
  }
  Bytes operator()(const Append& m) const {
    return std::move(frame(Type::append).u32(m.request).text(m.key).bytes(m.value)).finish();
  }
  Bytes operator()(const Delete& m) const {
    FrameEncoder out = frame(Type::remove);
    return std::move(with_keyspace(out.u32(m.request).text(m.key), m.keyspace)).finish();
  }
  Bytes operator()(const List& m) const {
    return std::move(frame(Type::list).u32(m.request).text(m.prefix).text(m.after).u32(m.limit)).finish();
  }
  Bytes operator()(const Watch& m) const {
    FrameEncoder out = frame(Type::watch);
    return std::move(with_keyspace(out.u32(m.request).u8(m.prefix ? 1 : 0).text(m.key), m.keyspace)).finish();
  }
  Bytes operator()(const Peek& m) const {
    return std::move(frame(Type::peek).u32(m.request).u8(static_cast<std::uint8_t>(m.keyspace)).text(m.key)).finish();
  }
  Bytes operator()(const Entries& m) const {
    FrameEncoder out = frame(Type::entries);
    out.u32(m.request).u8(static_cast<std::uint8_t>(m.keyspace)).text(m.prefix).text(m.after).u32(m.limit);
    return std::move(out).finish();
  }
  Bytes operator()(const Done& m) const { return std::move(frame(Type::done).u32(m.request)).finish(); }
  Bytes operator()(const Value& m) const {
    return std::move(frame(Type::value).u32(m.request).bytes(view(m.value))).finish();
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
  Bytes operator()(const Compared& m) const {
    FrameEncoder out = frame(Type::compared);
    out.u32(m.request).u8(m.swapped ? 1 : 0).u8(m.exists ? 1 : 0).bytes(view(m.value));
    return std::move(out).finish();
  }
  Bytes operator()(const Keys& m) const {
    FrameEncoder out = frame(Type::keys);
    out.u32(m.request).u8(m.more ? 1 : 0).u32(static_cast<std::uint32_t>(m.keys.size()));
    for (const std::string& key : m.keys) out.text(key);
    return std::move(out).finish();
  }
  Bytes operator()(const Change& m) const {
    FrameEncoder out = frame(Type::change);
    out.u32(m.request).u8(m.deleted ? 1 : 0).text(m.key).bytes(view(m.value));
    return std::move(out).finish();
  }
  Bytes operator()(const Sizes& m) const {
    FrameEncoder out = frame(Type::sizes);
    out.u32(m.request).u8(m.more ? 1 : 0).u32(static_cast<std::uint32_t>(m.entries.size()));
    for (const StoreEntry& entry : m.entries) out.text(entry.key).u64(entry.bytes).u32(entry.queued);
    return std::move(out).finish();
  }
  Bytes operator()(const Cancel& m) const { return std::move(frame(Type::cancel).u32(m.request)).finish(); }
  Bytes operator()(const Leave&) const { return frame(Type::leave).finish(); }
  Bytes operator()(const Ended& m) const {
    return std::move(frame(Type::ended).u32(number(m.generation)).text(cut(m.reason))).finish();
  }
  Bytes operator()(const Unknown& m) const { return std::move(FrameEncoder(m.type).u32(m.request)).finish(); }
};

}  // namespace

Bytes encode(const Message& message) {
  return std::visit(Encoder{}, message);
}

std::pair<Bytes, SharedBytes> encode_shared(const Message& message) {
  SharedBytes body;
  Message bare;  // the same with an empty value, which is the last field of each that has one
  std::visit(
      [&](const auto& m) {
        if constexpr (requires { SharedBytes(m.value); }) {
          body = m.value;
          if (!body) return;
          auto empty = m;
          empty.value = nullptr;
          bare = std::move(empty);
        }
      },
      message);
  if (!body) return {encode(message), nullptr};
  // Its frame with both lengths raised by the body's.
  Bytes head = encode(bare);
  const auto raise = [&](std::size_t at) {
    std::uint32_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) length |= std::to_integer<std::uint32_t>(head[at + i]) << (8 * i);
    length += static_cast<std::uint32_t>(body->size());
    for (std::size_t i = 0; i < 4; ++i) head[at + i] = static_cast<std::byte>(length >> (8 * i));
  };
  raise(0);
  raise(head.size() - 4);
  return {std::move(head), std::move(body)};
}

}  // namespace llmlaunch::rendezvous
