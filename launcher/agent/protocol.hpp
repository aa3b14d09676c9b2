/// \file
/// What head and agent say to each other, on the agent's stdin and stdout. The frames are those of base/frame.hpp.
///
///     agent → head   the text line "LLMLAUNCH AGENT <protocol version>\n"; everything before it is noise of rc files
///     agent → head   Hello
///     head  → agent  Prepare            argv, environment and workdir as data; files the host may lack
///     agent → head   NeedFile*          head answers FileChunk… (last one marked)
///     agent → head   Ready | Failed     checks are done: program found, workdir entered, pipes made, the head's
///                                       addresses tried; no rank started
///     head  → agent  Go                 after all hosts are ready; carries what is known only now (MASTER_PORT)
///     agent → head   Started*  then Output*, OutputEnd*, Exited* in any order, one Exited and two OutputEnd per rank;
///                    a rank that could not be started has one Failed with its number instead of all these
///     head  → agent  Ack                output bytes taken off the head's hands, as a running total: the credit
///     head  → agent  Signal | Stop      Stop: signal to main processes, grace, SIGKILL to the groups
///     head  → agent  Input*, InputEnd   stdin for the ranks of Prepare::settings.stdin_ranks, after Go
///     agent → head   InputTaken         what those ranks have taken of it: the credit, as a running total. A Taken
///                                       comes with it, so that the head need not keep the input
///     head  → agent  Pause              of the ranks' groups; the agent answers Paused, and while the connection lasts
///                                       has no `head_timeout` until the Pause that ends it. Between Prepare and Done
///     agent → head   CarriedOpen        a rank has connected to Ready's carried_port; after Go, where Prepare asks for it
///     both           Carried(Data|End)  of that connection: bytes, and the end of one direction
///     both           CarriedTaken       bytes that have left this side: the credit of the other, for this connection
///     both           CarriedReset       it is over in both directions, whatever was on its way
///     agent → head   Noise*             before Ready: what setup lines print
///     both           Ping               keeps `head_timeout` and the head's own deadline from firing; no answer needed
///     agent → head   Done               no process of the job is left on this host
///     head  → agent  Bye                everything was heard: the agent exits 0
///
/// No byte for `head_timeout_ms` is the head's death: Stop with the plan's grace, then exit. End of file is the same at
/// once where `resume_name` is empty (a head on this machine) or before Go. After Go it may be a connection that was
/// cut: the ranks run on, their output goes to a spool, and within `head_timeout_ms` the head may come again:
///
///     agent → head   Hello              of a second agent, started over the new connection
///     head  → agent  Resume             to that one, which hands its stdin and stdout to the first, by `resume_name`
///     agent → head   Resumed | Failed   of the first, or of the second: there is none of this name, and the job's
///                                       processes have been killed
///
/// Both sides count, since the start, what must arrive once: the agent's outputs (Output, OutputEnd, Done), its events
/// (Started, Exited, Failed), what it carries (all Carried…), the head's orders (Go, Signal, Stop, Pause, Input,
/// InputEnd, all Carried…). Each keeps what the other has not confirmed (Ack, Taken), says with Resume or Resumed how
/// many it has, and gets the rest again. Outputs, events and what is carried keep their order, and do not wait for each
/// other, but that Done comes behind everything that is carried. So a connection that is carried outlives a cut.
///
/// The agent sends at most `window_bytes` of Output payload beyond the last Ack, and stops reading the ranks' pipes at
/// that point, so a slow terminal slows the ranks down and nothing grows.
/// An unknown type from a peer of the same major version is an error (Errc::protocol): both sides are one release.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "launcher/agent/python_runs.hpp"
#include "launcher/agent/settings.hpp"
#include "rendezvous/base/frame.hpp"

namespace llmlaunch::launcher::agent {

inline constexpr std::uint16_t kProtocolVersion = 5;
inline constexpr std::string_view kMarkerPrefix = "LLMLAUNCH AGENT ";  // + version + "\n", printed by the agent
inline constexpr std::string_view kNeedPrefix = "LLMLAUNCH NEED ";     // + hash + "\n", printed by the sh line
inline constexpr std::string_view kFailPrefix = "LLMLAUNCH FAIL ";     // + text + "\n", printed by the sh line

// argv and environment of a host's ranks: Linux lets one exec have 6 MiB by default; 64 MiB holds 8 ranks of it.
inline constexpr std::size_t kMaxHeadFrameBytes = 64u << 20;
inline constexpr std::size_t kMaxAgentFrameBytes = 128u << 10;  // Output payloads are at most 64 KiB
inline constexpr std::size_t kMaxOutputBytes = 64u << 10;
inline constexpr std::size_t kFileChunkBytes = 256u << 10;
inline constexpr std::uint64_t kDefaultWindowBytes = 256u << 10;
// No machine runs more ranks than this; each costs the agent a process and two pipes.
inline constexpr std::size_t kMaxRanksPerHost = 4096;
inline constexpr std::size_t kMaxFilesPerHost = 64;
inline constexpr std::size_t kMaxAddressesPerHost = 256;  // an agent leaves out what is more
// Addresses of the head that a host tries; more interfaces than that are a router's.
inline constexpr std::size_t kMaxHeadAddresses = 16;
// What is said to the rendezvous there, and the beginning of its answer: a handshake's first frames.
inline constexpr std::size_t kMaxGreetingBytes = 2048;
inline constexpr std::size_t kMaxInterfaceBytes = 15;  // IFNAMSIZ, without the byte behind the name
// Texts of Failed, so that they fit a frame whatever a path or a PATH holds. `encode` cuts longer ones, marked.
inline constexpr std::size_t kMaxTextBytes = 16u << 10;
// Of stdin, on the way to a host and waiting there; what a pipe holds as well.
inline constexpr std::uint64_t kInputWindowBytes = 64u << 10;
inline constexpr std::uint64_t kNobodyReads = UINT64_MAX;

// Of what is carried. A connection has so many bytes on their way in each direction, in frames of at most the second
// number; beyond that its reader is waited for, and nobody else is.
inline constexpr std::size_t kCarriedWindowBytes = 64u << 10;
inline constexpr std::size_t kCarriedChunkBytes = 16u << 10;
// Credit is given when so much was taken: a quarter of the window, so that it never runs out on the way.
inline constexpr std::size_t kCarriedCreditBytes = kCarriedWindowBytes / 4;
// PyTorch's store and the clones that process groups make of it; the rendezvous allows no more of a rank either.
inline constexpr std::size_t kCarriedPerRank = 18;
inline constexpr std::size_t kCarriedSpare = 16;

using EnvList = std::vector<std::pair<std::string, std::string>>;

enum class Stream : std::uint8_t { out = 1, err = 2 };

// head → agent
struct RankSpec {
  std::uint32_t rank = 0;
  EnvList env;  // on top of Prepare::env
};
// Becomes <cache>/<hash>/<name>. argv[0] = "llmlaunch-file:<name>" means it; the other files are then shared libraries
// of that program, and LD_LIBRARY_PATH of the ranks begins with their directories.
struct FileSpec {
  std::string name;
  std::string hash;  // SHA-256, 64 hex digits
  std::uint64_t size = 0;
};
inline constexpr std::string_view kPushedArgvPrefix = "llmlaunch-file:";
// The ways to the rendezvous on the head that the host tries before it is ready. No addresses: its ranks need none.
struct HeadWays {
  std::vector<std::string> addresses;  // as digits, the best first
  std::uint16_t port = 0;
  Bytes greeting;  // who listens there is sent this,
  Bytes answer;    // and is the head if what it says begins so
  /// Nothing is tried: the agent listens on 127.0.0.1 and carries what its ranks connect. The first address is that
  /// of the route whose interface is wanted.
  bool carry = false;
};
struct Prepare {
  std::uint16_t version = kProtocolVersion;
  std::string job_id;
  std::string host;
  std::uint64_t window_bytes = kDefaultWindowBytes;
  std::uint32_t grace_ms = 10'000;
  std::uint32_t head_timeout_ms = 15'000;
  std::string workdir;  // empty: where the agent was started; "~/x": x below that
  std::vector<std::string> argv;
  PythonRuns python = PythonRuns::nothing;
  EnvList env;
  std::vector<RankSpec> ranks;
  std::vector<FileSpec> files;
  std::string resume_name;  // of an abstract socket; empty: a connection that ends is not made again
  std::string resume_key;   // who comes again proves with it to be the same head
  RankSettings settings;
  HeadWays ways;
};
struct FileChunk {
  std::uint32_t index = 0;  // of Prepare::files
  bool last = false;
  Bytes data;
};
struct Go {
  EnvList env;         // for all ranks, over everything else
  EnvList defaults{};  // where neither the host nor the job sets them
};
struct Ack {
  std::uint64_t output_bytes = 0;  // Output payload bytes taken, since the start
  std::uint64_t outputs = 0;       // messages received, since the start: the agent need not keep them
  std::uint64_t events = 0;
  std::uint64_t carried = 0;
};
struct Signal {
  std::int32_t signal = 0;  // to the main process of each rank that runs
};
struct Stop {
  std::int32_t signal = 15;    // to the main processes now
  std::uint32_t grace_ms = 0;  // then SIGKILL to the groups; a second Stop with 0 skips what is left
};
struct Input {
  std::uint64_t offset = 0;  // of the first byte, since the start
  Bytes data;                // at most kInputWindowBytes beyond the last InputTaken
};
struct InputEnd {};
struct Pause {
  bool paused = true;  // false: go on
};
struct Ping {};  // both ways
// Both ways; `id` is CarriedOpen's.
struct CarriedData {
  std::uint32_t id = 0;
  Bytes data;
};
struct CarriedEnd {
  std::uint32_t id = 0;
};
struct CarriedTaken {
  std::uint32_t id = 0;
  std::uint32_t bytes = 0;  // since the last one
};
struct CarriedReset {
  std::uint32_t id = 0;
};
struct Resume {
  std::uint16_t version = kProtocolVersion;
  std::string name, key;     // Prepare's
  std::string job_id, host;  // the same: where no agent is left, its processes are known by them
  Ack state;                 // what the head has
};
struct Bye {};

// agent → head
struct Hello {
  std::uint16_t version = kProtocolVersion;
  std::string hostname;
  std::int64_t pid = 0;
  std::uint32_t cores = 0;
  std::vector<std::string> addresses{};  // of its interfaces: what its ranks send may come from any of them
};
struct NeedFile {
  std::uint32_t index = 0;
};
inline constexpr std::uint32_t kNotReached = UINT32_MAX;
// How the host comes to the head.
struct HeadReach {
  std::uint32_t way = kNotReached;  // of HeadWays::addresses, the one that works
  std::string interface {};         // by which it leaves the host; empty: not known, or loopback
  std::uint16_t carried_port = 0;   // of 127.0.0.1; 0: nothing is carried
  std::string failures{};           // when none does: "10.0.0.1: no answer within 5 s, fd00::1: no route to host"
};
struct Ready {
  std::uint16_t free_port = 0;    // a TCP port that was free on this host a moment ago: MASTER_PORT if rank 0 is here
  std::uint32_t omp_threads = 0;  // OMP_NUM_THREADS as the agent chose it for its ranks; 0: it did not
  HeadReach reach{};
};
struct Failed {            // before Go: the host cannot run the job. After Go: rank could not be started
                           // or, with rank -1, the host is lost: processes that not even SIGKILL ends
  std::int32_t code = 0;   // an Errc
  std::int64_t rank = -1;  // -1: the host as a whole
  std::string what;
  std::string hint;
};
struct Started {
  std::uint32_t rank = 0;
  std::int64_t pid = 0;
};
struct Output {
  std::uint32_t rank = 0;
  Stream stream = Stream::out;
  Bytes data;
};
struct OutputEnd {
  std::uint32_t rank = 0;
  Stream stream = Stream::out;
};
struct Exited {
  std::uint32_t rank = 0;
  bool signaled = false;
  std::int32_t value = 0;  // exit status, or signal number
  bool core_dumped = false;
  bool stopped = false;            // the agent had signalled it before (Stop, head lost)
  std::uint64_t wall_time_ns = 0;  // CLOCK_REALTIME of the host
};
struct Done {};
struct Noise {
  std::string text;  // one line
};
struct InputTaken {
  std::uint64_t bytes = 0;  // Input taken by all ranks that read; kNobodyReads: there is no such rank any more
};
struct Paused {};

struct CarriedOpen {
  std::uint32_t id = 0;  // one more than the last
};

struct Resumed {
  std::uint64_t orders = 0;  // received, since the start
};
struct Taken {
  std::uint64_t orders = 0;
};

using HeadMessage = std::variant<Prepare, FileChunk, Go, Ack, Signal, Stop, Input, InputEnd, Pause, Ping, Resume, Bye,
                                 CarriedData, CarriedEnd, CarriedTaken, CarriedReset>;
using AgentMessage =
    std::variant<Hello, NeedFile, Ready, Failed, Started, Output, OutputEnd, Exited, Done, Noise, InputTaken, Paused,
                 Ping, Resumed, Taken, CarriedOpen, CarriedData, CarriedEnd, CarriedTaken, CarriedReset>;

/// Which of the counts a message belongs to.
enum class Counted { no, output, event, carried };
Counted counted(const AgentMessage& message);
bool is_order(const HeadMessage& message);

Bytes encode(const HeadMessage& message);
Bytes encode(const AgentMessage& message);
/// `Errc::protocol` for an unknown type or fields that do not fit, `Errc::version_mismatch` for another version.
Result<HeadMessage> decode_head_message(const FrameView& frame);
Result<AgentMessage> decode_agent_message(const FrameView& frame);

}  // namespace llmlaunch::launcher::agent
