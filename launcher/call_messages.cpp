// Messages ↔ frames between machines that are started one by one. Checks that a frame has the fields of its type and
// keeps the limits; what the values mean is CallAdmission's.
#include "launcher/call_messages.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace llmlaunch::launcher {
namespace {

enum class CallType : std::uint8_t { hello = 1, welcome, refused, started, failed, data, signal, end, wait };

FrameEncoder call_frame(CallType type) {
  return FrameEncoder(static_cast<std::uint8_t>(type));
}

std::string_view cut_text(const std::string& text) {
  return std::string_view(text).substr(0, kMaxCallTextBytes);
}

Bytes encode_one(const CallHello& m) {
  FrameEncoder out = call_frame(CallType::hello);
  out.u16(m.protocol).text(cut_text(m.version)).u32(m.machine_rank.value_or(kNoPlace));
  out.u32(m.num_machines).u32(m.num_processes).text(cut_text(m.hostname)).u64(m.pid).u64(m.instance);
  out.text(cut_text(m.run_id)).raw(m.digest).text(cut_text(m.command));
  return std::move(out).finish();
}
Bytes encode_one(const CallWait& m) {
  FrameEncoder out = call_frame(CallType::wait);
  out.u32(m.here).u32(m.num_machines);
  return std::move(out).finish();
}
Bytes encode_one(const CallWelcome& m) {
  FrameEncoder out = call_frame(CallType::welcome);
  out.u32(m.machine_rank).text(cut_text(m.name)).u32(m.first_rank).u32(m.last_rank);
  return std::move(out).finish();
}
Bytes encode_one(const CallRefused& m) {
  FrameEncoder out = call_frame(CallType::refused);
  out.u32(m.code).text(cut_text(m.what)).text(cut_text(m.hint));
  return std::move(out).finish();
}
Bytes encode_one(const CallStarted&) {
  return call_frame(CallType::started).finish();
}
Bytes encode_one(const CallFailed& m) {
  FrameEncoder out = call_frame(CallType::failed);
  out.u32(m.code).text(cut_text(m.what)).text(cut_text(m.hint));
  return std::move(out).finish();
}
Bytes encode_one(const CallData& m) {
  FrameEncoder out = call_frame(CallType::data);
  out.bytes(m.data);
  return std::move(out).finish();
}
Bytes encode_one(const CallSignal& m) {
  FrameEncoder out = call_frame(CallType::signal);
  out.u32(m.number);
  return std::move(out).finish();
}
Bytes encode_one(const CallEnd& m) {
  FrameEncoder out = call_frame(CallType::end);
  out.u32(m.status).text(cut_text(m.what));
  return std::move(out).finish();
}

CallHello take_hello(FieldReader& in) {
  CallHello m;
  m.protocol = in.u16();
  m.version = in.text();
  if (m.protocol != kCallProtocol) return m;
  if (const std::uint32_t place = in.u32(); place != kNoPlace) m.machine_rank = place;
  m.num_machines = in.u32();
  m.num_processes = in.u32();
  m.hostname = in.text();
  m.pid = in.u64();
  m.instance = in.u64();
  m.run_id = in.text();
  const ByteView digest = in.raw(m.digest.size());
  std::copy(digest.begin(), digest.end(), m.digest.begin());
  m.command = in.text();
  return m;
}

template <typename Reason>
Reason take_reason(FieldReader& in) {
  Reason m;
  m.code = in.u32();
  m.what = in.text();
  m.hint = in.text();
  return m;
}

std::optional<CallMessage> take_fields(CallType type, FieldReader& in) {
  switch (type) {
    case CallType::hello: return take_hello(in);
    case CallType::welcome: {
      CallWelcome m;
      m.machine_rank = in.u32();
      m.name = in.text();
      m.first_rank = in.u32();
      m.last_rank = in.u32();
      return m;
    }
    case CallType::refused: return take_reason<CallRefused>(in);
    case CallType::started: return CallStarted{};
    case CallType::failed: return take_reason<CallFailed>(in);
    case CallType::data: {
      const ByteView data = in.bytes();
      return CallData{Bytes(data.begin(), data.end())};
    }
    case CallType::signal: return CallSignal{in.u32()};
    case CallType::wait: {
      CallWait m;
      m.here = in.u32();
      m.num_machines = in.u32();
      return m;
    }
    case CallType::end: {
      CallEnd m;
      m.status = in.u32();
      m.what = in.text();
      return m;
    }
  }
  return std::nullopt;
}

}  // namespace

Bytes encode(const CallMessage& message) {
  return std::visit([](const auto& one) { return encode_one(one); }, message);
}

Result<CallMessage> decode_call_message(const FrameView& frame) {
  FieldReader in(frame.payload);
  std::optional<CallMessage> message = take_fields(static_cast<CallType>(frame.type), in);
  if (!message) return make_error(Errc::protocol, fmt::format("a message of the unknown type {}", frame.type));
  if (!in.done()) return make_error(Errc::protocol, fmt::format("a message of type {} lacks fields", frame.type));
  return *message;
}

}  // namespace llmlaunch::launcher
