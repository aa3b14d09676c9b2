// Messages of the channel between head and agent → frames, and which of them are counted. Both programs link it.
#include <type_traits>

#include "launcher/agent/protocol.hpp"
#include "launcher/agent/protocol_types.hpp"

namespace llmlaunch::launcher::agent {
namespace {

using wire::Type;

FrameEncoder frame_of(Type type) {
  return FrameEncoder(static_cast<std::uint8_t>(type));
}

void put_env(FrameEncoder& out, const EnvList& env) {
  out.u32(static_cast<std::uint32_t>(env.size()));
  for (const auto& [name, value] : env) out.text(name).text(value);
}

void put_ways(FrameEncoder& out, const HeadWays& ways) {
  out.u32(static_cast<std::uint32_t>(ways.addresses.size()));
  for (const std::string& address : ways.addresses) out.text(address);
  out.u16(ways.port).bytes(ways.greeting).bytes(ways.answer).u8(ways.carry ? 1 : 0);
}

std::string cut(const std::string& text) {
  return text.size() <= kMaxTextBytes ? text : text.substr(0, kMaxTextBytes) + " [cut]";
}

Bytes write(const Prepare& m) {
  FrameEncoder out = frame_of(Type::prepare);
  out.u16(m.version).text(m.job_id).text(m.host).u64(m.window_bytes).u32(m.grace_ms).u32(m.head_timeout_ms);
  out.text(m.workdir).u32(static_cast<std::uint32_t>(m.argv.size()));
  for (const std::string& word : m.argv) out.text(word);
  out.u8(static_cast<std::uint8_t>(m.python));
  put_env(out, m.env);
  out.u32(static_cast<std::uint32_t>(m.ranks.size()));
  for (const RankSpec& rank : m.ranks) {
    out.u32(rank.rank);
    put_env(out, rank.env);
  }
  out.u32(static_cast<std::uint32_t>(m.files.size()));
  for (const FileSpec& file : m.files) out.text(file.name).text(file.hash).u64(file.size);
  out.text(m.resume_name).text(m.resume_key);
  put(out, m.settings);
  put_ways(out, m.ways);
  return std::move(out).finish();
}
Bytes write(const FileChunk& m) {
  FrameEncoder out = frame_of(Type::file_chunk);
  out.u32(m.index).u8(m.last ? 1 : 0).bytes(m.data);
  return std::move(out).finish();
}
Bytes write(const Go& m) {
  FrameEncoder out = frame_of(Type::go);
  put_env(out, m.env);
  put_env(out, m.defaults);
  return std::move(out).finish();
}
Bytes write(const Ack& m) {
  return std::move(frame_of(Type::ack).u64(m.output_bytes).u64(m.outputs).u64(m.events).u64(m.carried)).finish();
}
Bytes write(const Resume& m) {
  FrameEncoder out = frame_of(Type::resume);
  out.u16(m.version).text(m.name).text(m.key).text(m.job_id).text(m.host);
  out.u64(m.state.output_bytes).u64(m.state.outputs).u64(m.state.events).u64(m.state.carried);
  return std::move(out).finish();
}
Bytes write(const Bye&) {
  return frame_of(Type::bye).finish();
}
Bytes write(const Signal& m) {
  return std::move(frame_of(Type::signal).u32(static_cast<std::uint32_t>(m.signal))).finish();
}
Bytes write(const Stop& m) {
  return std::move(frame_of(Type::stop).u32(static_cast<std::uint32_t>(m.signal)).u32(m.grace_ms)).finish();
}
Bytes write(const Input& m) {
  return std::move(frame_of(Type::input).u64(m.offset).bytes(m.data)).finish();
}
Bytes write(const InputEnd&) {
  return frame_of(Type::input_end).finish();
}
Bytes write(const Pause& m) {
  return std::move(frame_of(Type::pause).u8(m.paused ? 1 : 0)).finish();
}
Bytes write(const Hello& m) {
  FrameEncoder out = frame_of(Type::hello);
  out.u16(m.version).text(m.hostname).i64(m.pid).u32(m.cores).u32(static_cast<std::uint32_t>(m.addresses.size()));
  for (const std::string& address : m.addresses) out.text(address);
  return std::move(out).finish();
}
Bytes write(const NeedFile& m) {
  return std::move(frame_of(Type::need_file).u32(m.index)).finish();
}
Bytes write(const Ready& m) {
  FrameEncoder out = frame_of(Type::ready);
  out.u16(m.free_port).u32(m.omp_threads).u32(m.reach.way).text(m.reach.interface);
  out.u16(m.reach.carried_port).text(cut(m.reach.failures));
  return std::move(out).finish();
}
Bytes write(const Failed& m) {
  FrameEncoder out = frame_of(Type::failed);
  out.u32(static_cast<std::uint32_t>(m.code)).i64(m.rank).text(cut(m.what)).text(cut(m.hint));
  return std::move(out).finish();
}
Bytes write(const Started& m) {
  return std::move(frame_of(Type::started).u32(m.rank).i64(m.pid)).finish();
}
Bytes write(const Output& m) {
  return std::move(frame_of(Type::output).u32(m.rank).u8(static_cast<std::uint8_t>(m.stream)).bytes(m.data)).finish();
}
Bytes write(const OutputEnd& m) {
  return std::move(frame_of(Type::output_end).u32(m.rank).u8(static_cast<std::uint8_t>(m.stream))).finish();
}
Bytes write(const Exited& m) {
  FrameEncoder out = frame_of(Type::exited);
  out.u32(m.rank).u8(m.signaled ? 1 : 0).u32(static_cast<std::uint32_t>(m.value)).u8(m.core_dumped ? 1 : 0);
  out.u8(m.stopped ? 1 : 0).u64(m.wall_time_ns);
  return std::move(out).finish();
}
Bytes write(const Done&) {
  return frame_of(Type::done).finish();
}
Bytes write(const Resumed& m) {
  return std::move(frame_of(Type::resumed).u64(m.orders)).finish();
}
Bytes write(const Taken& m) {
  return std::move(frame_of(Type::taken).u64(m.orders)).finish();
}
Bytes write(const Noise& m) {
  return std::move(frame_of(Type::noise).text(cut(m.text))).finish();
}
Bytes write(const InputTaken& m) {
  return std::move(frame_of(Type::input_taken).u64(m.bytes)).finish();
}
Bytes write(const Paused&) {
  return frame_of(Type::paused).finish();
}

Bytes write(const CarriedOpen& m) {
  return std::move(frame_of(Type::carried_open).u32(m.id)).finish();
}

// What goes both ways has a number for each.
Bytes write(const CarriedData& m, bool head) {
  const Type type = head ? Type::head_carried_data : Type::agent_carried_data;
  return std::move(frame_of(type).u32(m.id).bytes(m.data)).finish();
}
Bytes write(const CarriedEnd& m, bool head) {
  return std::move(frame_of(head ? Type::head_carried_end : Type::agent_carried_end).u32(m.id)).finish();
}
Bytes write(const CarriedTaken& m, bool head) {
  const Type type = head ? Type::head_carried_taken : Type::agent_carried_taken;
  return std::move(frame_of(type).u32(m.id).u32(m.bytes)).finish();
}
Bytes write(const CarriedReset& m, bool head) {
  return std::move(frame_of(head ? Type::head_carried_reset : Type::agent_carried_reset).u32(m.id)).finish();
}
Bytes write(const Ping&, bool head) {
  return frame_of(head ? Type::head_ping : Type::agent_ping).finish();
}

template <class M>
Bytes write_from(const M& message, bool head) {
  constexpr bool kBothWays = std::is_same_v<M, Ping> || std::is_same_v<M, CarriedData> ||
                             std::is_same_v<M, CarriedEnd> || std::is_same_v<M, CarriedTaken> ||
                             std::is_same_v<M, CarriedReset>;
  if constexpr (kBothWays)
    return write(message, head);
  else
    return write(message);
}

}  // namespace

Counted counted(const AgentMessage& message) {
  return std::visit(
      [](const auto& m) {
        using M = std::decay_t<decltype(m)>;
        if constexpr (std::is_same_v<M, Output> || std::is_same_v<M, OutputEnd> || std::is_same_v<M, Done>)
          return Counted::output;
        else if constexpr (std::is_same_v<M, Started> || std::is_same_v<M, Exited> || std::is_same_v<M, Failed>)
          return Counted::event;
        else if constexpr (std::is_same_v<M, CarriedOpen> || std::is_same_v<M, CarriedData> ||
                           std::is_same_v<M, CarriedEnd> || std::is_same_v<M, CarriedTaken> ||
                           std::is_same_v<M, CarriedReset>)
          return Counted::carried;
        else
          return Counted::no;
      },
      message);
}

bool is_order(const HeadMessage& message) {
  return std::holds_alternative<Go>(message) || std::holds_alternative<Signal>(message) ||
         std::holds_alternative<Stop>(message) || std::holds_alternative<Pause>(message) ||
         std::holds_alternative<Input>(message) || std::holds_alternative<InputEnd>(message) ||
         std::holds_alternative<CarriedData>(message) || std::holds_alternative<CarriedEnd>(message) ||
         std::holds_alternative<CarriedTaken>(message) || std::holds_alternative<CarriedReset>(message);
}

Bytes encode(const HeadMessage& message) {
  return std::visit([](const auto& m) { return write_from(m, true); }, message);
}

Bytes encode(const AgentMessage& message) {
  return std::visit([](const auto& m) { return write_from(m, false); }, message);
}

}  // namespace llmlaunch::launcher::agent
