// The agent protocol: every message survives encode and decode, and what no peer of ours sends is refused by name.
#include "launcher/agent/protocol.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_protocol_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;

namespace {

FrameView view_of(const Bytes& frame) {
  return {std::to_integer<std::uint8_t>(frame[4]), ByteView(frame).subspan(kFrameHeaderBytes)};
}

template <class T>
T through_head(const T& message) {
  const Bytes frame = encode(HeadMessage(message));
  Result<HeadMessage> decoded = decode_head_message(view_of(frame));
  REQUIRE(decoded);
  CHECK(encode(*decoded) == frame);
  return std::get<T>(*decoded);
}

template <class T>
T through_agent(const T& message) {
  const Bytes frame = encode(AgentMessage(message));
  Result<AgentMessage> decoded = decode_agent_message(view_of(frame));
  REQUIRE(decoded);
  CHECK(encode(*decoded) == frame);
  return std::get<T>(*decoded);
}

Bytes data_of(std::size_t size) {
  return Bytes(size, std::byte{0x5a});
}

Prepare sample_prepare() {
  Prepare m;
  m.job_id = "job-1";
  m.host = "gpu01";
  m.window_bytes = 123'456'789'012;
  m.grace_ms = 1;
  m.head_timeout_ms = 4'000'000'000;
  m.workdir = "/with space/\xc3\xa4";
  m.argv = {"python3", "", "a b", "$(x)", "new\nline", std::string("nul\0inside", 10)};
  m.env = {{"A", "1"}, {"EMPTY", ""}, {"LONG", std::string(100'000, 'x')}};
  m.ranks = {{7, {{"RANK", "7"}}}, {8, {}}};
  m.files = {{"llmlaunch-train", std::string(64, 'a'), 1ull << 40}};
  m.settings.limits = {{"nofile", 65'536}, {"core", kUnlimited}};
  m.settings.umask = 027;
  m.settings.cpu_bind = CpuBind::gpu;
  m.settings.choose_omp_threads = true;
  m.settings.setup = {"source ~/venv/bin/activate", "echo 'two\nlines'"};
  m.settings.start_timeout_ms = 7;
  m.settings.stdin_ranks = {7, 4'000'000'000};
  m.ways.addresses = {"10.0.0.1", "fd00::1"};
  m.ways.port = 29'400;
  m.ways.greeting = data_of(kMaxGreetingBytes);
  m.ways.answer = data_of(5);
  m.ways.carry = true;
  return m;
}

}  // namespace

TEST_CASE("every message of the head survives the way to the agent") {
  const Prepare sent = sample_prepare();
  const Prepare prepare = through_head(sent);
  CHECK(prepare.version == kProtocolVersion);
  CHECK(prepare.job_id == sent.job_id);
  CHECK(prepare.host == sent.host);
  CHECK(prepare.window_bytes == sent.window_bytes);
  CHECK(prepare.grace_ms == 1);
  CHECK(prepare.head_timeout_ms == 4'000'000'000);
  CHECK(prepare.workdir == sent.workdir);
  CHECK(prepare.argv == sent.argv);
  CHECK(prepare.env == sent.env);
  REQUIRE(prepare.ranks.size() == 2);
  CHECK(prepare.ranks[0].rank == 7);
  CHECK(prepare.ranks[0].env == EnvList{{"RANK", "7"}});
  CHECK(prepare.ranks[1].rank == 8);
  REQUIRE(prepare.files.size() == 1);
  CHECK(prepare.files[0].name == "llmlaunch-train");
  CHECK(prepare.files[0].hash == std::string(64, 'a'));
  CHECK(prepare.files[0].size == 1ull << 40);

  CHECK(prepare.settings == sent.settings);
  CHECK(prepare.ways.addresses == sent.ways.addresses);
  CHECK(prepare.ways.port == 29'400);
  CHECK(prepare.ways.greeting == sent.ways.greeting);
  CHECK(prepare.ways.answer == sent.ways.answer);
  CHECK(prepare.ways.carry);

  const FileChunk chunk = through_head(FileChunk{3, true, data_of(kFileChunkBytes)});
  CHECK(chunk.index == 3);
  CHECK(chunk.last);
  CHECK(chunk.data == data_of(kFileChunkBytes));
  const Go go = through_head(Go{{{"MASTER_PORT", "29400"}}, {{"GLOO_SOCKET_IFNAME", "eth0"}}});
  CHECK(go.env == EnvList{{"MASTER_PORT", "29400"}});
  CHECK(go.defaults == EnvList{{"GLOO_SOCKET_IFNAME", "eth0"}});
  CHECK(through_head(Ack{1ull << 63}).output_bytes == 1ull << 63);
  CHECK(through_head(Signal{-1}).signal == -1);
  const Stop stop = through_head(Stop{2, 10'000});
  CHECK(stop.signal == 2);
  CHECK(stop.grace_ms == 10'000);
  const Input input = through_head(Input{1ull << 40, data_of(kInputWindowBytes)});
  CHECK(input.offset == 1ull << 40);
  CHECK(input.data == data_of(kInputWindowBytes));
  through_head(InputEnd{});
  CHECK(through_head(Pause{true}).paused);
  CHECK_FALSE(through_head(Pause{false}).paused);
  through_head(Ping{});
  through_head(Bye{});
  const Resume resume = through_head(Resume{kProtocolVersion, "name", "key", "job", "gpu01", {1, 2, 3, 4}});
  CHECK(resume.name == "name");
  CHECK(resume.key == "key");
  CHECK(resume.job_id == "job");
  CHECK(resume.host == "gpu01");
  CHECK(resume.state.output_bytes == 1);
  CHECK(resume.state.outputs == 2);
  CHECK(resume.state.events == 3);
  CHECK(resume.state.carried == 4);
  const CarriedData carried = through_head(CarriedData{7, data_of(kCarriedChunkBytes)});
  CHECK(carried.id == 7);
  CHECK(carried.data == data_of(kCarriedChunkBytes));
  CHECK(through_head(CarriedEnd{8}).id == 8);
  CHECK(through_head(CarriedTaken{9, 10}).bytes == 10);
  CHECK(through_head(CarriedReset{11}).id == 11);
}

TEST_CASE("every message of the agent survives the way to the head") {
  const Hello hello = through_agent(Hello{kProtocolVersion, "gpu01", 4'194'304, 128, {"10.0.0.1", "fd00::1"}});
  CHECK(hello.hostname == "gpu01");
  CHECK(hello.pid == 4'194'304);
  CHECK(hello.cores == 128);
  CHECK(hello.addresses == std::vector<std::string>{"10.0.0.1", "fd00::1"});
  CHECK(through_agent(NeedFile{9}).index == 9);
  const Ready ready = through_agent(Ready{65535, 64, {1, "a-name-of-15-by", 29'401, "10.0.0.1:29400: refused"}});
  CHECK(ready.reach.way == 1);
  CHECK(ready.reach.interface == "a-name-of-15-by");
  CHECK(ready.reach.carried_port == 29'401);
  CHECK(ready.reach.failures == "10.0.0.1:29400: refused");
  CHECK(through_agent(CarriedOpen{5}).id == 5);
  CHECK(through_agent(CarriedData{6, data_of(1)}).data == data_of(1));
  CHECK(through_agent(CarriedEnd{7}).id == 7);
  CHECK(through_agent(CarriedTaken{8, 9}).bytes == 9);
  CHECK(through_agent(CarriedReset{10}).id == 10);
  CHECK(ready.free_port == 65535);
  CHECK(ready.omp_threads == 64);
  CHECK(through_agent(Noise{"Loading cuda/12"}).text == "Loading cuda/12");
  CHECK(through_agent(InputTaken{kNobodyReads}).bytes == kNobodyReads);
  through_agent(Paused{});
  const Failed failed = through_agent(Failed{22, -1, "no program", "install it"});
  CHECK(failed.code == 22);
  CHECK(failed.rank == -1);
  CHECK(failed.what == "no program");
  CHECK(failed.hint == "install it");
  const Started started = through_agent(Started{5, 77});
  CHECK(started.rank == 5);
  CHECK(started.pid == 77);
  const Output output = through_agent(Output{4'294'967'295, Stream::err, data_of(kMaxOutputBytes)});
  CHECK(output.rank == 4'294'967'295);
  CHECK(output.stream == Stream::err);
  CHECK(output.data == data_of(kMaxOutputBytes));
  CHECK(through_agent(OutputEnd{1, Stream::out}).stream == Stream::out);
  const Exited exited = through_agent(Exited{2, true, 11, true, true, 1'700'000'000'000'000'000});
  CHECK(exited.rank == 2);
  CHECK(exited.signaled);
  CHECK(exited.value == 11);
  CHECK(exited.core_dumped);
  CHECK(exited.stopped);
  CHECK(exited.wall_time_ns == 1'700'000'000'000'000'000);
  CHECK_FALSE(through_agent(Exited{2, false, 3, false, false, 0}).signaled);
  through_agent(Done{});
  through_agent(Ping{});
  CHECK(through_agent(Resumed{7}).orders == 7);
  CHECK(through_agent(Taken{8}).orders == 8);
}

TEST_CASE("every frame cut short is refused, and never read beyond its end") {
  const HeadMessage from_head[] = {sample_prepare(),
                                   FileChunk{1, false, data_of(3)},
                                   Go{{{"A", "b"}}},
                                   Ack{1},
                                   Signal{2},
                                   Stop{2, 3},
                                   Input{1, data_of(2)},
                                   CarriedData{1, data_of(2)},
                                   CarriedEnd{1},
                                   CarriedTaken{1, 2},
                                   CarriedReset{1},
                                   Pause{true}};
  for (const HeadMessage& message : from_head) {
    const Bytes frame = encode(message);
    // The long value of the sample needs no cut at each of its bytes.
    const std::size_t step = frame.size() > 1000 ? 97 : 1;
    for (std::size_t size = kFrameHeaderBytes; size < frame.size(); size += step) {
      const Bytes cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
      const auto decoded = decode_head_message(view_of(cut));
      REQUIRE_FALSE(decoded);
      REQUIRE(decoded.error().code == Errc::protocol);
    }
  }
  const AgentMessage from_agent[] = {Hello{kProtocolVersion, "h", 1, 1},
                                     NeedFile{1},
                                     Ready{1},
                                     Failed{1, 1, "w", "h"},
                                     Started{1, 1},
                                     Output{1, Stream::out, data_of(2)},
                                     OutputEnd{1, Stream::err},
                                     Noise{"n"},
                                     InputTaken{1},
                                     CarriedOpen{1},
                                     CarriedData{1, data_of(2)},
                                     CarriedTaken{1, 2},
                                     Exited{}};
  for (const AgentMessage& message : from_agent) {
    const Bytes frame = encode(message);
    for (std::size_t size = kFrameHeaderBytes; size < frame.size(); ++size) {
      const Bytes cut(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
      const auto decoded = decode_agent_message(view_of(cut));
      REQUIRE_FALSE(decoded);
      REQUIRE(decoded.error().code == Errc::protocol);
    }
  }
}

TEST_CASE("unknown types, also those of the other direction, are protocol errors") {
  const Bytes ping_of_agent = encode(AgentMessage(Ping{}));
  const auto head = decode_head_message(view_of(ping_of_agent));
  REQUIRE_FALSE(head);
  CHECK(head.error().code == Errc::protocol);
  CHECK(head.error().what == "a message of unknown type 74 from the head");
  const auto agent = decode_agent_message({0, {}});
  REQUIRE_FALSE(agent);
  CHECK(agent.error().what == "a message of unknown type 0 from the agent");
}

TEST_CASE("another version is named before any other field is read") {
  const Bytes future = std::move(FrameEncoder(1).u16(kProtocolVersion + 1)).finish();
  const auto head = decode_head_message(view_of(future));
  REQUIRE_FALSE(head);
  CHECK(head.error().code == Errc::version_mismatch);
  CHECK(head.error().what == "the head speaks version 6 of the agent protocol, this side speaks version 5");
  const Bytes hello = encode(AgentMessage(Hello{9, "h", 1, 1}));
  const auto agent = decode_agent_message(view_of(hello));
  REQUIRE_FALSE(agent);
  CHECK(agent.error().code == Errc::version_mismatch);
  CHECK(agent.error().what == "the agent speaks version 9 of the agent protocol, this side speaks version 5");
  CHECK(agent.error().hint == "use the llmlaunch and llmlaunch-agent of one build");
}

TEST_CASE("limits of the agent protocol are enforced by name") {
  const auto output = decode_agent_message(view_of(encode(AgentMessage(Output{1, Stream::out, data_of(65'537)}))));
  REQUIRE_FALSE(output);
  CHECK(output.error().code == Errc::too_large);
  CHECK(output.error().what == "65537 output bytes in one message; the limit is 65536");
  const auto chunk = decode_head_message(view_of(encode(HeadMessage(FileChunk{0, true, data_of(262'145)}))));
  REQUIRE_FALSE(chunk);
  CHECK(chunk.error().what == "262145 file bytes in one message; the limit is 262144");
  Prepare many;
  many.ranks.resize(kMaxRanksPerHost + 1);
  const auto ranks = decode_head_message(view_of(encode(HeadMessage(many))));
  REQUIRE_FALSE(ranks);
  CHECK(ranks.error().what == "4097 ranks in one message; the limit is 4096");
  many.ranks.resize(kMaxRanksPerHost);
  many.files.resize(kMaxFilesPerHost + 1);
  const auto files = decode_head_message(view_of(encode(HeadMessage(many))));
  REQUIRE_FALSE(files);
  CHECK(files.error().what == "65 files in one message; the limit is 64");
}

TEST_CASE("limits of settings and input are enforced by name") {
  const auto refusal = [](const HeadMessage& message) {
    const auto decoded = decode_head_message(view_of(encode(message)));
    return decoded ? std::string("taken") : decoded.error().what;
  };
  Prepare prepare;
  prepare.settings.setup.assign(kMaxSetupLines + 1, "true");
  CHECK(refusal(prepare) == "257 setup lines in one message; the limit is 256");
  prepare.settings.setup = {std::string(kMaxSetupLineBytes + 1, 'x')};
  CHECK(refusal(prepare) == "65537 bytes of a setup line in one message; the limit is 65536");
  prepare.settings.setup.clear();
  prepare.settings.limits.assign(kMaxLimits + 1, {"nofile", 1});
  CHECK(refusal(prepare) == "65 limits in one message; the limit is 64");
  prepare.settings.limits.clear();
  prepare.settings.cpu_bind = static_cast<CpuBind>(4);
  CHECK(refusal(prepare) == "settings of ranks with a value that means nothing");
  CHECK(refusal(Input{0, data_of(kInputWindowBytes + 1)}) == "65537 input bytes in one message; the limit is 65536");
}

TEST_CASE("a count that the frame cannot hold costs no memory") {
  const Bytes lie = std::move(FrameEncoder(3).u32(0xffff'ffff)).finish();  // Go
  const auto decoded = decode_head_message(view_of(lie));
  REQUIRE_FALSE(decoded);
  CHECK(decoded.error().code == Errc::protocol);
}

TEST_CASE("flags and streams have no third value") {
  const auto stream = decode_agent_message(view_of(std::move(FrameEncoder(71).u32(1).u8(3)).finish()));
  REQUIRE_FALSE(stream);
  CHECK(stream.error().what == "a message of type 71 from the agent whose fields do not fit");
  const auto flag = decode_head_message(view_of(std::move(FrameEncoder(2).u32(1).u8(2).u32(0)).finish()));
  REQUIRE_FALSE(flag);
  CHECK(flag.error().what == "a message of type 2 from the head whose fields do not fit");
}

TEST_CASE("a text that does not fit a frame is cut and marked") {
  const Failed failed = through_agent(Failed{1, -1, std::string(kMaxTextBytes + 1, 'p'), std::string(200'000, 'h')});
  CHECK(failed.what == std::string(kMaxTextBytes, 'p') + " [cut]");
  CHECK(failed.hint.size() == kMaxTextBytes + 6);
  CHECK(encode(AgentMessage(failed)).size() < kMaxAgentFrameBytes);
}

}  // namespace launcher_agent_protocol_test
