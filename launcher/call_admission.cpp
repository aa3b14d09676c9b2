// The checks of a hello, and their words. No socket: CallDesk brings hellos here.
#include "launcher/call_admission.hpp"

#include <fmt/format.h>
#include <openssl/sha.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>

#include "rendezvous/base/error.hpp"

namespace llmlaunch::launcher {
namespace {

// Enough to see which script and which flags.
constexpr std::size_t kShownCommandBytes = 200;

std::string shown_command(const std::vector<std::string>& argv) {
  std::string text = fmt::format("{}", fmt::join(without_secrets(argv), " "));
  if (text.size() > kShownCommandBytes) text = text.substr(0, kShownCommandBytes) + "…";
  return text;
}

// Words are kept apart by their lengths: "a b" is not "a", "b".
CommandDigest digest_of(const LaunchPlan& plan) {
  FrameEncoder words(0);
  words.u8(static_cast<std::uint8_t>(plan.python)).u8(plan.program ? 1 : 0);
  for (const std::string& word : plan.argv) words.text(word);
  const Bytes bytes = std::move(words).finish();
  CommandDigest digest{};
  ::SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
           reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

std::string own_hostname() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "?";
}

}  // namespace

CallHello call_hello(const LaunchPlan& plan, std::uint32_t machine_rank) {
  CallHello hello;
  hello.version = LLMLAUNCH_VERSION;
  hello.machine_rank = machine_rank;
  hello.num_machines = static_cast<std::uint32_t>(plan.hosts.size());
  hello.num_processes = plan.world_size;
  hello.hostname = own_hostname();
  hello.pid = static_cast<std::uint64_t>(::getpid());
  hello.digest = digest_of(plan);
  hello.command = shown_command(plan.argv);
  return hello;
}

std::string caller_name(const CallHello& hello) {
  return fmt::format("machine {} ({}, pid {})", hello.machine_rank, hello.hostname, hello.pid);
}

CalledSignal called_signal(std::uint32_t number, const std::vector<int>& forward_signals) {
  if (number == 0 || number >= NSIG || number == SIGKILL || number == SIGSTOP) return CalledSignal::impossible;
  const auto signal = static_cast<int>(number);
  for (const int always : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT})
    if (signal == always) return CalledSignal::taken;
  const bool wanted = std::find(forward_signals.begin(), forward_signals.end(), signal) != forward_signals.end();
  return wanted ? CalledSignal::taken : CalledSignal::not_ours;
}

CallAdmission::CallAdmission(CallHello own) : own_(std::move(own)), taken_(own_.num_machines) {}

Result<void> CallAdmission::admit(const CallHello& hello) {
  if (hello.protocol != own_.protocol || hello.version != own_.version) {
    return make_error(
        Errc::version_mismatch,
        fmt::format("a machine that calls in runs llmlaunch {}, machine 0 runs {}", hello.version, own_.version), {},
        "install the same llmlaunch on all machines");
  }
  const std::string who = caller_name(hello);
  const auto differs = [&](std::string_view key, std::uint32_t theirs, std::uint32_t ours) {
    return make_error(Errc::invalid_config,
                      fmt::format("{} was started with {} {}, machine 0 with {}", who, key, theirs, ours), {},
                      "start all machines with the same words and the same configuration, but for --machine_rank");
  };
  if (hello.num_machines != own_.num_machines) return differs("num_machines", hello.num_machines, own_.num_machines);
  if (hello.num_processes != own_.num_processes)
    return differs("num_processes", hello.num_processes, own_.num_processes);
  if (hello.machine_rank == 0 || hello.machine_rank >= own_.num_machines) {
    return make_error(Errc::invalid_config,
                      fmt::format("{}: the machines that call in are 1 to {}", who, own_.num_machines - 1));
  }
  if (hello.digest != own_.digest) {
    const bool look_alike = hello.command == own_.command;
    return make_error(Errc::invalid_config,
                      fmt::format("{} was started with '{}', machine 0 with '{}'{}", who, hello.command, own_.command,
                                  look_alike ? ": they differ in what is masked or cut here" : ""),
                      {},
                      "all machines run one program with one set of words; what differs between them belongs to "
                      "llmlaunch.rank_env, or to the program itself");
  }
  std::optional<CallHello>& place = taken_[hello.machine_rank];
  if (place) {
    return make_error(Errc::duplicate_rank,
                      fmt::format("machine {} is there already, {} with pid {}; another one called in, {} with pid {}",
                                  hello.machine_rank, place->hostname, place->pid, hello.hostname, hello.pid),
                      {}, "give each machine a --machine_rank of its own (srun: --machine_rank $SLURM_NODEID)");
  }
  place = hello;
  return ok;
}

}  // namespace llmlaunch::launcher
