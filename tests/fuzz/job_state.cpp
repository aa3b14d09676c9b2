// The head's decisions, under both policies, under agents that say anything in any order: nobody else's rank is
// touched, a job always comes to its end, and its end always has a story that fits its status.
#include "launcher/job_state.hpp"

#include <csignal>

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kHosts = 3;

LaunchPlan plan(StartPolicy policy) {
  LaunchPlan made;
  made.job_id = "job";
  made.policy = policy;
  made.hosts_at_once = 2;
  made.host_timeout = 5s;
  for (std::size_t index = 0; index < kHosts; ++index) {
    HostPlan host;
    host.name = "h" + std::to_string(index);
    for (int local = 0; local < (policy == StartPolicy::gang ? 2 : 1); ++local)
      host.ranks.push_back({Rank{made.world_size++}, 0, {}});
    made.hosts.push_back(std::move(host));
  }
  made.ssh.fanout = 2;
  made.rendezvous_via = RendezvousWay::ssh;
  made.hosts.back().local = true;  // which carries nothing
  made.process.stdin_to = StdinTo::all;
  return made;
}

struct Bench {
  explicit Bench(StartPolicy policy) : the_plan(plan(policy)) {}
  LaunchPlan the_plan;
  TimePoint now{};
  JobState state{the_plan, 2, "/logs", now};
  std::vector<std::pair<HostIndex, std::uint64_t>> held;
  int finishes = 0;
  bool closed[kHosts] = {};
  int go = 0;

  void take(Actions actions) {
    for (Action& action : actions) {
      FUZZ_CHECK(finishes == 0);
      if (const auto* open = std::get_if<OpenHost>(&action)) closed[open->host] = false;
      if (const auto* close = std::get_if<CloseHost>(&action)) closed[close->host] = true;
      if (const auto* send = std::get_if<SendMessage>(&action)) FUZZ_CHECK(!closed[send->host]);
      if (std::holds_alternative<SendGo>(action)) ++go;
      if (const auto* carry = std::get_if<Carry>(&action))
        FUZZ_CHECK(!closed[carry->host] && the_plan.policy == StartPolicy::gang && !the_plan.hosts[carry->host].local);
      if (auto* write = std::get_if<WriteOutput>(&action)) {
        FUZZ_CHECK(number(write->rank) / the_plan.hosts[0].ranks.size() == write->host);
        held.emplace_back(write->host, write->data.size());
      }
      if (std::holds_alternative<Finish>(action)) ++finishes;
    }
    const bool gang = the_plan.policy == StartPolicy::gang;  // all or nothing
    FUZZ_CHECK(gang ? go == 0 || go == static_cast<int>(kHosts) : go <= static_cast<int>(kHosts));
  }
  void taken() {
    for (const auto& [host, bytes] : std::exchange(held, {}))
      if (finishes == 0) take(state.on_taken(host, bytes, now));
  }
};

class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : data_(data), left_(size) {}
  bool empty() const { return left_ == 0; }
  std::uint8_t next() {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }

 private:
  const std::uint8_t* data_;
  std::size_t left_;
};

agent::AgentMessage message(Choices& choices) {
  const std::uint8_t kind = choices.next();
  const std::uint32_t rank = choices.next() % 8;
  const auto stream = rank % 2 == 0 ? agent::Stream::out : agent::Stream::err;
  switch (kind % 16) {
    case 0: return agent::Hello{};
    case 1: return agent::Ready{1};
    case 2:
      return agent::Failed{choices.next(), choices.next() % 2 == 0 ? -1 : static_cast<std::int64_t>(rank), "why", ""};
    case 3: return agent::NeedFile{rank};
    case 4: return agent::Output{rank, stream, Bytes(std::size_t{choices.next()} * 300)};
    case 5: return agent::OutputEnd{rank, stream};
    case 6: return agent::Exited{rank, false, choices.next() % 3, false, choices.next() % 2 == 0, 0};
    case 7: return agent::Exited{rank, true, choices.next(), false, choices.next() % 2 == 0, 0};
    case 8: return agent::Done{};
    case 9: return agent::Started{rank, 1};
    case 10: return agent::Noise{"noise"};
    case 11: return agent::InputTaken{choices.next() % 4 == 0 ? agent::kNobodyReads : std::uint64_t{rank}};
    case 12: return agent::Paused{};
    case 13: return agent::CarriedOpen{rank};
    case 14: {
      agent::Ready ready{1};
      ready.reach.failures = "10.0.0.1:1: refused";
      return ready;
    }
    default: return agent::Ping{};
  }
}

void drive(Choices choices, StartPolicy policy) {
  Bench bench(policy);
  bench.take(bench.state.start(bench.now));
  while (!choices.empty() && bench.finishes == 0) {
    const std::uint8_t what = choices.next();
    const HostIndex host = choices.next() % kHosts;
    switch (what % 14) {
      case 0: bench.take(bench.state.on_opened(host, bench.now)); break;
      case 1: {
        const auto step = choices.next() % 2 == 0 ? OpenStep::key_exchange : OpenStep::authenticating;
        bench.take(bench.state.on_open_failed(host, make_error(Errc::closed, "closed"), step, bench.now));
        break;
      }
      case 2: bench.take(bench.state.on_lost(host, make_error(Errc::closed, "ended"), bench.now)); break;
      case 3: bench.take(bench.state.on_signal(SIGINT, bench.now)); break;
      case 4:
        bench.now += choices.next() * 10ms;
        bench.take(bench.state.on_tick(bench.now));
        break;
      case 5: bench.taken(); break;
      case 10: bench.take(bench.state.on_signal(choices.next() % 2 == 0 ? SIGTSTP : SIGCONT, bench.now)); break;
      case 11: bench.take(bench.state.on_continued(bench.now)); break;
      case 12: bench.take(bench.state.on_signal(SIGUSR1, bench.now, choices.next() % 2 == 0 ? "" : "machine 1")); break;
      case 13: {
        const std::size_t bytes = std::min<std::size_t>(bench.state.input_allowance(), choices.next() * 400);
        if (bytes > 0) bench.take(bench.state.on_input(Bytes(bytes)));
        break;
      }
      default:
        bench.state.on_bytes(host, bench.now);
        bench.take(bench.state.on_message(host, message(choices), bench.now));
    }
  }
  // Nobody says anything any more: the deadlines must end it. Only the shell's own opening has its deadline elsewhere.
  if (bench.finishes == 0) bench.take(bench.state.on_continued(bench.now));
  for (int i = 0; i < 200 && bench.finishes == 0; ++i) {
    for (HostIndex host = 0; host < kHosts && bench.finishes == 0; ++host)
      bench.take(
          bench.state.on_open_failed(host, make_error(Errc::timed_out, "no answer"), OpenStep::connecting, bench.now));
    bench.taken();
    bench.now += 1s;
    if (bench.finishes == 0) bench.take(bench.state.on_tick(bench.now));
  }
  FUZZ_CHECK(bench.finishes == 1);
  const JobResult result = bench.state.result();
  FUZZ_CHECK(result.failure.has_value() == (result.exit_status != 0));
  FUZZ_CHECK(result.hosts.size() == (policy == StartPolicy::gang ? 0 : kHosts));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const StartPolicy policy : {StartPolicy::gang, StartPolicy::each_host}) drive(Choices(data, size), policy);
  return 0;
}
