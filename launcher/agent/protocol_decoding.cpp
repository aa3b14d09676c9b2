// Frames of the channel between head and agent → messages. Both programs link it. It checks that a frame has the fields
// of its type and keeps the protocol's limits; whether the values make sense is for their user to say.
#include "launcher/agent/protocol.hpp"
#include "launcher/agent/protocol_types.hpp"

namespace llmlaunch::launcher::agent {
namespace {

using wire::Type;

// Smallest encodings, for the check that a list's count is no lie.
constexpr std::size_t kMinEnvBytes = 2 * kMinTextBytes;
constexpr std::size_t kMinRankBytes = 4 + 4;
constexpr std::size_t kMinFileBytes = 2 * kMinTextBytes + 8;

EnvList take_env(FieldReader& in) {
  EnvList env(in.count(kMinEnvBytes));
  for (auto& [name, value] : env) {
    name = in.text();
    value = in.text();
  }
  return env;
}

Error wrong_version(const char* who, std::uint16_t version) {
  return make_error(Errc::version_mismatch,
                    std::string(who) + " speaks version " + std::to_string(version) +
                        " of the agent protocol, this side speaks version " + std::to_string(kProtocolVersion),
                    {}, "use the llmlaunch and llmlaunch-agent of one build");
}

// A flag that is neither 0 nor 1 makes `bad` true.
bool take_flag(FieldReader& in, bool& bad) {
  const std::uint8_t value = in.u8();
  if (value > 1) bad = true;
  return value == 1;
}

Stream take_stream(FieldReader& in, bool& bad) {
  const std::uint8_t value = in.u8();
  if (value != 1 && value != 2) bad = true;
  return static_cast<Stream>(value);
}

Result<Bytes> take_greeting(FieldReader& in) {
  const ByteView bytes = in.bytes();
  if (bytes.size() > kMaxGreetingBytes) return too_many("bytes of a greeting", bytes.size(), kMaxGreetingBytes);
  return Bytes(bytes.begin(), bytes.end());
}

Result<HeadWays> take_ways(FieldReader& in) {
  HeadWays ways;
  const std::uint32_t addresses = in.count(kMinTextBytes);
  if (addresses > kMaxHeadAddresses) return too_many("addresses of the head", addresses, kMaxHeadAddresses);
  ways.addresses.resize(addresses);
  for (std::string& address : ways.addresses) address = in.text();
  ways.port = in.u16();
  for (Bytes* bytes : {&ways.greeting, &ways.answer}) {
    auto taken = take_greeting(in);
    if (!taken) return taken.error();
    *bytes = std::move(*taken);
  }
  const std::uint8_t carry = in.u8();
  if (carry > 1) return make_error(Errc::protocol, "neither carried nor not: " + std::to_string(carry));
  ways.carry = carry == 1;
  return ways;
}

Result<HeadMessage> read_prepare(FieldReader& in) {
  Prepare m;
  m.version = in.u16();
  if (!in.failed() && m.version != kProtocolVersion) return wrong_version("the head", m.version);
  m.job_id = in.text();
  m.host = in.text();
  m.window_bytes = in.u64();
  m.grace_ms = in.u32();
  m.head_timeout_ms = in.u32();
  m.workdir = in.text();
  m.argv.resize(in.count(kMinTextBytes));
  for (std::string& word : m.argv) word = in.text();
  const std::uint8_t python = in.u8();
  if (python > static_cast<std::uint8_t>(PythonRuns::module))
    return make_error(Errc::protocol, "no kind of Python program: " + std::to_string(python));
  m.python = static_cast<PythonRuns>(python);
  m.env = take_env(in);
  const std::uint32_t ranks = in.count(kMinRankBytes);
  if (ranks > kMaxRanksPerHost) return too_many("ranks", ranks, kMaxRanksPerHost);
  m.ranks.resize(ranks);
  for (RankSpec& rank : m.ranks) {
    rank.rank = in.u32();
    rank.env = take_env(in);
  }
  const std::uint32_t files = in.count(kMinFileBytes);
  if (files > kMaxFilesPerHost) return too_many("files", files, kMaxFilesPerHost);
  m.files.resize(files);
  for (FileSpec& file : m.files) {
    file.name = in.text();
    file.hash = in.text();
    file.size = in.u64();
  }
  m.resume_name = in.text();
  m.resume_key = in.text();
  Result<RankSettings> settings = take_settings(in);
  if (!settings) return settings.error();
  m.settings = std::move(*settings);
  Result<HeadWays> ways = take_ways(in);
  if (!ways) return ways.error();
  m.ways = std::move(*ways);
  return HeadMessage(std::move(m));
}

Ack take_ack(FieldReader& in) {
  Ack m;
  m.output_bytes = in.u64();
  m.outputs = in.u64();
  m.events = in.u64();
  m.carried = in.u64();
  return m;
}

Result<CarriedData> take_carried(FieldReader& in) {
  CarriedData m;
  m.id = in.u32();
  const ByteView data = in.bytes();
  if (data.size() > kCarriedChunkBytes) return too_many("carried bytes", data.size(), kCarriedChunkBytes);
  m.data.assign(data.begin(), data.end());
  return m;
}

CarriedTaken take_credit(FieldReader& in) {
  CarriedTaken m;
  m.id = in.u32();
  m.bytes = in.u32();
  return m;
}

Result<HeadMessage> read_resume(FieldReader& in) {
  Resume m;
  m.version = in.u16();
  if (!in.failed() && m.version != kProtocolVersion) return wrong_version("the head", m.version);
  m.name = in.text();
  m.key = in.text();
  m.job_id = in.text();
  m.host = in.text();
  m.state = take_ack(in);
  return HeadMessage(std::move(m));
}

Error malformed(const char* sender, std::uint8_t type) {
  return make_error(Errc::protocol, std::string("a message of type ") + std::to_string(type) + " from the " + sender +
                                        " whose fields do not fit");
}

}  // namespace

Result<HeadMessage> decode_head_message(const FrameView& frame) {
  FieldReader in(frame.payload);
  HeadMessage message;
  bool bad = false;
  switch (static_cast<Type>(frame.type)) {
    case Type::prepare: {
      Result<HeadMessage> prepare = read_prepare(in);
      if (!prepare) return prepare;
      message = std::move(*prepare);
      break;
    }
    case Type::file_chunk: {
      FileChunk m;
      m.index = in.u32();
      m.last = take_flag(in, bad);
      const ByteView data = in.bytes();
      if (data.size() > kFileChunkBytes) return too_many("file bytes", data.size(), kFileChunkBytes);
      m.data.assign(data.begin(), data.end());
      message = std::move(m);
      break;
    }
    case Type::go: {
      Go m;
      m.env = take_env(in);
      m.defaults = take_env(in);
      message = std::move(m);
      break;
    }
    case Type::ack: message = take_ack(in); break;
    case Type::signal: message = Signal{static_cast<std::int32_t>(in.u32())}; break;
    case Type::stop: {
      Stop m;
      m.signal = static_cast<std::int32_t>(in.u32());
      m.grace_ms = in.u32();
      message = m;
      break;
    }
    case Type::input: {
      Input m;
      m.offset = in.u64();
      const ByteView data = in.bytes();
      if (data.size() > kInputWindowBytes) return too_many("input bytes", data.size(), kInputWindowBytes);
      m.data.assign(data.begin(), data.end());
      message = std::move(m);
      break;
    }
    case Type::input_end: message = InputEnd{}; break;
    case Type::pause: message = Pause{take_flag(in, bad)}; break;
    case Type::head_ping: message = Ping{}; break;
    case Type::resume: {
      Result<HeadMessage> resume = read_resume(in);
      if (!resume) return resume;
      message = std::move(*resume);
      break;
    }
    case Type::bye: message = Bye{}; break;
    case Type::head_carried_data: {
      Result<CarriedData> data = take_carried(in);
      if (!data) return data.error();
      message = std::move(*data);
      break;
    }
    case Type::head_carried_end: message = CarriedEnd{in.u32()}; break;
    case Type::head_carried_taken: message = take_credit(in); break;
    case Type::head_carried_reset: message = CarriedReset{in.u32()}; break;
    default:
      return make_error(Errc::protocol, "a message of unknown type " + std::to_string(frame.type) + " from the head");
  }
  if (!in.done() || bad) return malformed("head", frame.type);
  return message;
}

Result<AgentMessage> decode_agent_message(const FrameView& frame) {
  FieldReader in(frame.payload);
  AgentMessage message;
  bool bad = false;
  switch (static_cast<Type>(frame.type)) {
    case Type::hello: {
      Hello m;
      m.version = in.u16();
      if (!in.failed() && m.version != kProtocolVersion) return wrong_version("the agent", m.version);
      m.hostname = in.text();
      m.pid = in.i64();
      m.cores = in.u32();
      const std::uint32_t addresses = in.count(kMinTextBytes);
      if (addresses > kMaxAddressesPerHost) return too_many("addresses", addresses, kMaxAddressesPerHost);
      m.addresses.resize(addresses);
      for (std::string& address : m.addresses) address = in.text();
      message = std::move(m);
      break;
    }
    case Type::need_file: message = NeedFile{in.u32()}; break;
    case Type::ready: {
      Ready m;
      m.free_port = in.u16();
      m.omp_threads = in.u32();
      m.reach.way = in.u32();
      m.reach.interface = in.text();
      m.reach.carried_port = in.u16();
      m.reach.failures = in.text();
      if (m.reach.interface.size() > kMaxInterfaceBytes) bad = true;
      message = std::move(m);
      break;
    }
    case Type::failed: {
      Failed m;
      m.code = static_cast<std::int32_t>(in.u32());
      m.rank = in.i64();
      m.what = in.text();
      m.hint = in.text();
      message = std::move(m);
      break;
    }
    case Type::started: {
      Started m;
      m.rank = in.u32();
      m.pid = in.i64();
      message = m;
      break;
    }
    case Type::output: {
      Output m;
      m.rank = in.u32();
      m.stream = take_stream(in, bad);
      const ByteView data = in.bytes();
      if (data.size() > kMaxOutputBytes) return too_many("output bytes", data.size(), kMaxOutputBytes);
      m.data.assign(data.begin(), data.end());
      message = std::move(m);
      break;
    }
    case Type::output_end: {
      OutputEnd m;
      m.rank = in.u32();
      m.stream = take_stream(in, bad);
      message = m;
      break;
    }
    case Type::exited: {
      Exited m;
      m.rank = in.u32();
      m.signaled = take_flag(in, bad);
      m.value = static_cast<std::int32_t>(in.u32());
      m.core_dumped = take_flag(in, bad);
      m.stopped = take_flag(in, bad);
      m.wall_time_ns = in.u64();
      message = m;
      break;
    }
    case Type::done: message = Done{}; break;
    case Type::noise: message = Noise{in.text()}; break;
    case Type::input_taken: message = InputTaken{in.u64()}; break;
    case Type::paused: message = Paused{}; break;
    case Type::agent_ping: message = Ping{}; break;
    case Type::resumed: message = Resumed{in.u64()}; break;
    case Type::taken: message = Taken{in.u64()}; break;
    case Type::carried_open: message = CarriedOpen{in.u32()}; break;
    case Type::agent_carried_data: {
      Result<CarriedData> data = take_carried(in);
      if (!data) return data.error();
      message = std::move(*data);
      break;
    }
    case Type::agent_carried_end: message = CarriedEnd{in.u32()}; break;
    case Type::agent_carried_taken: message = take_credit(in); break;
    case Type::agent_carried_reset: message = CarriedReset{in.u32()}; break;
    default:
      return make_error(Errc::protocol, "a message of unknown type " + std::to_string(frame.type) + " from the agent");
  }
  if (!in.done() || bad) return malformed("agent", frame.type);
  return message;
}

}  // namespace llmlaunch::launcher::agent
