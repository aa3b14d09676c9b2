// The checks of a hello, and their words. No socket: CallDesk brings hellos here.
#include "launcher/call_admission.hpp"

#include <fmt/format.h>
#include <openssl/sha.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <tuple>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/error.hpp"
#include "rendezvous/base/own_addresses.hpp"

namespace llmlaunch::launcher {
namespace {

// Enough to see which script and which flags.
constexpr std::size_t kShownCommandBytes = 200;

std::string shown_command(const std::vector<std::string>& argv) {
  std::string text = fmt::format("{}", fmt::join(without_secrets(argv), " "));
  if (text.size() > kShownCommandBytes) text = fmt::format("{}…", cut_text(text, kShownCommandBytes));
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

bool is_number_digit(char c) {
  return c >= '0' && c <= '9';
}

/// The digits at the front of `text` without zeros before them, and taken from it.
std::string_view take_number(std::string_view& text) {
  const auto end =
      std::min(text.size(),
               static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), is_number_digit) - text.begin()));
  std::string_view number = text.substr(0, end);
  number.remove_prefix(std::min(number.find_first_not_of('0'), number.size()));
  text.remove_prefix(end);
  return number;
}

/// gpu2 before gpu10, and 10.0.0.9 before 10.0.0.10.
bool comes_before(const std::string& one, const std::string& other) {
  std::string_view a = one, b = other;
  while (!a.empty() && !b.empty()) {
    if (is_number_digit(a.front()) && is_number_digit(b.front())) {
      const std::string_view left = take_number(a), right = take_number(b);
      if (left.size() != right.size()) return left.size() < right.size();
      if (left != right) return left < right;
    } else {
      if (a.front() != b.front()) return a.front() < b.front();
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  if (a.empty() != b.empty()) return a.empty();
  return one < other;  // n1 and n01
}

}  // namespace

CallHello call_hello(const LaunchPlan& plan, std::optional<std::uint32_t> machine_rank, std::uint64_t instance) {
  CallHello hello;
  hello.version = LLMLAUNCH_VERSION;
  hello.machine_rank = machine_rank;
  hello.num_machines = static_cast<std::uint32_t>(plan.hosts.size());
  hello.num_processes = plan.world_size;
  hello.hostname = own_host_name();
  hello.pid = static_cast<std::uint64_t>(::getpid());
  hello.instance = instance;
  hello.run_id = plan.run_id.substr(0, kMaxCallTextBytes);  // as the other side has it
  hello.digest = digest_of(plan);
  hello.command = shown_command(plan.argv);
  return hello;
}

std::string caller_name(const CallHello& hello) {
  if (!hello.machine_rank) return fmt::format("a machine ({}, pid {})", hello.hostname, hello.pid);
  return fmt::format("machine {} ({}, pid {})", *hello.machine_rank, hello.hostname, hello.pid);
}

CalledSignal called_signal(std::uint32_t number, const std::vector<int>& forward_signals) {
  if (number == 0 || number >= NSIG || number == SIGKILL || number == SIGSTOP) return CalledSignal::impossible;
  const auto signal = static_cast<int>(number);
  for (const int always : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP, SIGCONT})
    if (signal == always) return CalledSignal::taken;
  const bool wanted = std::find(forward_signals.begin(), forward_signals.end(), signal) != forward_signals.end();
  return wanted ? CalledSignal::taken : CalledSignal::not_ours;
}

CallAdmission::CallAdmission(CallHello own) : own_(std::move(own)), taken_(std::max(own_.num_machines, 1u)) {
  own_.machine_rank = 0;
  taken_.front() = own_;
}

// Whether it belongs to this job, wherever its place is.
Result<void> CallAdmission::check(const CallHello& hello) const {
  if (hello.protocol != own_.protocol || hello.version != own_.version) {
    return make_error(
        Errc::version_mismatch,
        fmt::format("a machine that calls in runs llmlaunch {}, machine 0 runs {}{}", hello.version, own_.version,
                    hello.version == own_.version
                        ? fmt::format(" (call protocols {} and {})", hello.protocol, own_.protocol)
                        : ""),
        {}, "install the same llmlaunch on all machines");
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
  if (hello.run_id != own_.run_id) {
    return make_error(
        Errc::invalid_config,
        fmt::format("{} was started with --rdzv-id '{}', machine 0 with '{}'", who, hello.run_id, own_.run_id), {},
        "the machines of one job have one --rdzv-id; two jobs at a time need two ports");
  }
  if (hello.machine_rank && (*hello.machine_rank == 0 || *hello.machine_rank >= own_.num_machines)) {
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
  return ok;
}

Result<void> CallAdmission::check_place(const CallHello& hello) const {
  if (!hello.machine_rank) {
    if (free_places() > waiting_.size()) return ok;
    return make_error(Errc::duplicate_rank,
                      fmt::format("all {} machines of this job are there: {}; {} with pid {} would be one more",
                                  own_.num_machines, those_here(), hello.hostname, hello.pid),
                      {}, "start as many as num_machines (--nnodes) says");
  }
  const std::optional<CallHello>& place = taken_[*hello.machine_rank];
  if (!place) return ok;
  return make_error(Errc::duplicate_rank,
                    fmt::format("machine {} is there already, {} with pid {}; another one called in, {} with pid {}",
                                *hello.machine_rank, place->hostname, place->pid, hello.hostname, hello.pid),
                    {},
                    "give each machine a --machine_rank of its own (srun: --machine_rank $SLURM_NODEID), or none: "
                    "then machine 0 gives out the places");
}

Result<CallAdmission::Admitted> CallAdmission::admit(Caller caller, const CallHello& hello, std::string address) {
  if (auto fits = check(hello); !fits) return fits.error();
  Admitted admitted;
  const auto before = std::find_if(waiting_.begin(), waiting_.end(), [&hello](const Waiting& one) {
    return !hello.machine_rank && one.hello.instance == hello.instance;
  });
  if (before != waiting_.end()) {
    admitted.replaced = before->caller;
    waiting_.erase(before);
  }
  if (auto fits = check_place(hello); !fits) return fits.error();
  if (hello.machine_rank) {
    taken_[*hello.machine_rank] = hello;
    admitted.placed.push_back({caller, *hello.machine_rank});
  } else {
    waiting_.push_back({caller, hello, std::move(address)});
  }
  if (waiting_.size() == free_places()) {
    const std::vector<Place> given = give_out();
    admitted.placed.insert(admitted.placed.end(), given.begin(), given.end());
  }
  return admitted;
}

// All are there: whoever waits has one of the places that are left.
std::vector<CallAdmission::Place> CallAdmission::give_out() {
  std::sort(waiting_.begin(), waiting_.end(), [](const Waiting& one, const Waiting& other) {
    if (one.hello.hostname != other.hello.hostname) return comes_before(one.hello.hostname, other.hello.hostname);
    if (one.address != other.address) return comes_before(one.address, other.address);
    return std::tie(one.hello.pid, one.hello.instance) < std::tie(other.hello.pid, other.hello.instance);
  });
  std::vector<Place> given;
  auto next = waiting_.begin();
  for (std::uint32_t rank = 1; rank < taken_.size(); ++rank) {
    if (taken_[rank]) continue;
    taken_[rank] = std::move(next->hello);
    taken_[rank]->machine_rank = rank;
    given.push_back({next->caller, rank});
    ++next;
  }
  waiting_.clear();
  return given;
}

void CallAdmission::gone(Caller caller) {
  std::erase_if(waiting_, [caller](const Waiting& one) { return one.caller == caller; });
}

std::size_t CallAdmission::free_places() const {
  return static_cast<std::size_t>(std::count(taken_.begin(), taken_.end(), std::nullopt));
}

std::uint32_t CallAdmission::here() const {
  return static_cast<std::uint32_t>(taken_.size() - free_places() + waiting_.size());
}

std::string CallAdmission::those_here() const {
  std::vector<std::string> names;
  for (const auto& one : taken_)
    if (one) names.push_back(caller_name(*one));
  for (const Waiting& one : waiting_) names.push_back(caller_name(one.hello));
  const std::size_t more = names.size() - std::min(names.size(), kListedMachines);
  names.resize(names.size() - more);
  return fmt::format("{}{}", fmt::join(names, ", "), more > 0 ? fmt::format(" and {} more", more) : "");
}

}  // namespace llmlaunch::launcher
