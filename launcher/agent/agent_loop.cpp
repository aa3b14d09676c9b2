// The agent's main loop: pipes, signals and children in, frames out. Policy is in agent_state.cpp; the way from Prepare
// to running ranks in agent_start.cpp; processes in process.cpp.
#include "launcher/agent/agent_loop.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "rendezvous/base/own_addresses.hpp"

namespace llmlaunch::launcher::agent {
namespace {

// stdin, stdout, signals, who brings a connection (2), report and noise of the setup lines; then two per rank, then one
// per reader of stdin, then one per rank whose exec is not known to have succeeded, then those of the probe, then those
// of carrier_
constexpr std::size_t kFixedPolls = 7;
constexpr int kGroupPollMs = 100;  // a group's last process may be another's child: nobody tells us of its end

std::uint64_t wall_time_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(time.tv_nsec);
}

Hello hello() {
  Hello message;
  char name[256] = {};
  if (::gethostname(name, sizeof(name) - 1) == 0) message.hostname = name;
  message.pid = ::getpid();
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  if (::sched_getaffinity(0, sizeof(cores), &cores) == 0)
    message.cores = static_cast<std::uint32_t>(CPU_COUNT(&cores));
  else if (online > 0)
    message.cores = static_cast<std::uint32_t>(online);
  // Without them the head knows the address that it connected to.
  if (auto addresses = own_addresses()) message.addresses = std::move(*addresses);
  if (message.addresses.size() > kMaxAddressesPerHost) message.addresses.resize(kMaxAddressesPerHost);
  return message;
}

template <class... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <class... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

}  // namespace

void complain(const std::string& what) {
  const std::string line = "llmlaunch-agent: warning: " + what + "\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

AgentLoop::AgentLoop(std::vector<std::string> environment, std::string own_directory, CgroupPath cgroup)
    : environment_(std::move(environment)),
      state_(now()),
      decoder_(kMaxHeadFrameBytes),
      cache_(environment_, own_directory),
      cgroup_(cgroup),
      log_(Spool(Spool::usual_directories(environment_))),
      buffer_(kMaxOutputBytes) {}

int AgentLoop::run() {
  sigset_t wanted;
  ::sigemptyset(&wanted);
  for (const int number : {SIGCHLD, SIGTERM, SIGINT}) ::sigaddset(&wanted, number);
  signals_.reset(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return 71;  // EX_OSERR
  if (!set_nonblocking()) return 71;
  const std::string marker = std::string(kMarkerPrefix) + std::to_string(kProtocolVersion) + "\n";
  const ByteView bytes = as_bytes(marker);
  queue_.assign(bytes.begin(), bytes.end());
  apply({SendMessage{hello()}});

  while (!quitting_ || (flush_ && head_reads_ && (sent_ < queue_.size() || !log_.all_sent()))) {
    std::vector<pollfd> polls = poll_set();
    const std::size_t first_carried = polls.size();
    if (carries_) carrier_.add_polls(polls);
    const std::size_t first_reader = kFixedPolls + 2 * ranks_.size();
    if (::poll(polls.data(), polls.size(), poll_timeout_ms()) < 0) {
      if (errno != EINTR) return 71;
      for (pollfd& entry : polls) entry.revents = 0;
    }
    // The head first: its Ack opens the window, and its bytes prove that it lives before the tick asks.
    if (polls[0].revents != 0) read_head();
    if ((polls[1].revents & (POLLERR | POLLNVAL)) != 0 && head_reads_) {
      head_reads_ = false;
      cut();
    }
    if (setup_ && (polls[5].revents != 0 || polls[6].revents != 0)) read_setup();
    check_setup_deadline();
    read_start_reports();  // what a rank says comes after it has started
    if (polls[2].revents != 0) read_signals();
    if ((polls[3].revents | polls[4].revents) != 0) take_visitor();
    probe_head();
    check_groups();
    read_outputs(polls);
    write_inputs(std::span(polls).subspan(first_reader));
    if (carries_) carry(std::span(polls).subspan(first_carried));
    apply(state_.on_tick(now()));
    write_head();
  }
  // The watchman does that; but it may be the one whose death ends this.
  if (setup_) signal_descendants(SIGKILL);
  return status_;
}

std::vector<pollfd> AgentLoop::poll_set() const {
  std::vector<pollfd> polls;
  polls.reserve(kFixedPolls + 2 * ranks_.size());
  const short out_events = sent_ < queue_.size() ? POLLOUT : 0;
  polls.push_back({head_open_ ? STDIN_FILENO : -1, POLLIN, 0});
  polls.push_back({head_reads_ ? STDOUT_FILENO : -1, out_events, 0});
  polls.push_back({signals_.value(), POLLIN, 0});
  polls.push_back({attach_point_.listener(), POLLIN, 0});
  polls.push_back({attach_point_.visitor(), POLLIN, 0});
  polls.push_back({setup_ ? setup_->process.report.value() : -1, POLLIN, 0});
  polls.push_back({setup_ ? setup_->process.noise.value() : -1, POLLIN, 0});
  const bool outputs = wants_output();
  for (const Rank& rank : ranks_) {
    polls.push_back({outputs ? rank.process.out.value() : -1, POLLIN, 0});
    polls.push_back({outputs ? rank.process.err.value() : -1, POLLIN, 0});
  }
  for (std::size_t reader = 0; reader < readers_.size(); ++reader) {
    const short events = input_.waiting(reader).empty() ? 0 : POLLOUT;
    polls.push_back({ranks_[readers_[reader]].process.in.value(), events, 0});
  }
  for (const Rank& rank : ranks_)
    if (rank.process.report) polls.push_back({rank.process.report.value(), POLLIN, 0});
  probe_.add_polls(polls);
  return polls;
}

int AgentLoop::poll_timeout_ms() const {
  // What nobody can write to any more never becomes readable: it is looked at, not waited for.
  if (nobody_left_ && has_open_outputs() && wants_output() && !quitting_) return 0;
  TimePoint next = std::min(state_.next_tick(), probe_.next_look());
  if (setup_ && !setup_->timed_out) next = std::min(next, setup_->deadline);
  int timeout = -1;
  if (next != TimePoint::max()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - now()).count();
    timeout = static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
  }
  const bool lingering =
      std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.exited && rank.group_alive; });
  if (lingering && (timeout < 0 || timeout > kGroupPollMs)) timeout = kGroupPollMs;
  return timeout;
}

bool AgentLoop::has_open_outputs() const {
  return std::any_of(ranks_.begin(), ranks_.end(),
                     [](const Rank& rank) { return rank.process.out || rank.process.err; });
}

bool AgentLoop::wants_output() const {
  return state_.output_allowance() > 0 && (state_.head_lost() || log_.has_room(state_.connected()));
}

void AgentLoop::apply(Actions actions) {
  for (Action& action : actions) {
    std::visit(Overloaded{
                   [this](const SendMessage& sending) { send(sending.message); },
                   [this](const CheckHost&) { check_host(); },
                   [this](const WriteChunk& write) {
                     const std::uint32_t index = write.chunk.index;
                     const auto written = cache_.write(index, state_.prepare().files[index], write.chunk);
                     if (!written)
                       apply(state_.on_failed(written.error()));
                     else if (write.chunk.last)
                       apply(state_.on_file_done(index));
                   },
                   [this](const StartRanks& start) { start_ranks(start.go); },
                   [this](const AbandonStart& start) { abandon_start(ranks_[start.index]); },
                   [this](const SignalMain& signal) {
                     const Rank& rank = ranks_[signal.index];
                     if (!rank.exited) ::kill(rank.process.pid, signal.signal);
                   },
                   [this](const SignalGroup& signal) {
                     const Rank& rank = ranks_[signal.index];
                     if (rank.group_alive) ::kill(-rank.process.pid, signal.signal);
                   },
                   [this](const SignalDescendants& signal) {
                     // The common end: nobody is left, and /proc need not be read.
                     siginfo_t info{};
                     if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD) return;
                     if (signal.signal == SIGKILL) cgroup_.kill();
                     signal_descendants(signal.signal);
                   },
                   [this](const TakeInput& take) { take_input(take.input); },
                   [this](const EndInput&) { input_.end(); },
                   [this](const CloseOutputs&) { nobody_left_ = true; },
                   [this](const Carry& carried) { take_carried(carried.message); },
                   [this](const FindSurvivors&) {
                     std::vector<std::string> names;
                     for (const pid_t pid : descendants()) names.push_back(name_of(pid));
                     apply(state_.on_survivors(names));
                   },
                   [this](const Listen&) {
                     const auto listening = attach_point_.listen(state_.prepare().resume_name);
                     if (!listening) complain(to_string(listening.error()));
                   },
                   [this](const Attach& attach) { bear(attach.resume); },
                   [this](const Confirm& confirmed) { confirm(confirmed.state); },
                   [this](const Quit& quit) {
                     quitting_ = true;
                     flush_ = quit.flush;
                     status_ = quit.status;
                   },
               },
               action);
  }
}

void AgentLoop::read_signals() {
  signalfd_siginfo info{};
  bool children = false;
  while (::read(signals_.value(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (info.ssi_signo == SIGCHLD)
      children = true;
    else
      apply(state_.on_terminate(now()));
  }
  if (children) check_children();
}

void AgentLoop::check_children() {
  int status = 0;
  pid_t pid = 0;
  while ((pid = ::waitpid(-1, &status, WNOHANG)) > 0) {
    read_start_reports();  // of this one, which may have come this far since the last look
    if (setup_ && pid == setup_->process.pid) {
      end_setup(status);
      continue;
    }
    const auto rank = std::find_if(ranks_.begin(), ranks_.end(), [pid](const Rank& candidate) {
      return candidate.started && !candidate.exited && candidate.process.pid == pid;
    });
    if (rank == ranks_.end()) continue;  // an orphan that came to us
    rank->exited = true;
    MainExit exit;
    exit.signaled = WIFSIGNALED(status);
    exit.value = exit.signaled ? WTERMSIG(status) : WEXITSTATUS(status);
    exit.core_dumped = exit.signaled && WCOREDUMP(status);
    exit.wall_time_ns = wall_time_ns();
    apply(state_.on_main_exit(static_cast<std::size_t>(rank - ranks_.begin()), exit, now()));
  }
  const bool nobody = pid < 0 && errno == ECHILD;
  check_groups();
  if (nobody) apply(state_.on_nobody_left());
}

void AgentLoop::check_groups() {
  for (std::size_t i = 0; i < ranks_.size(); ++i) {
    Rank& rank = ranks_[i];
    if (!rank.exited || !rank.group_alive || ::kill(-rank.process.pid, 0) == 0 || errno != ESRCH) continue;
    rank.group_alive = false;
    state_.on_group_gone(i);
  }
}

UniqueFd& AgentLoop::output_of(std::size_t index, Stream stream) {
  RankProcess& process = ranks_[index].process;
  return stream == Stream::out ? process.out : process.err;
}

void AgentLoop::read_outputs(const std::vector<pollfd>& ready) {
  const std::size_t count = 2 * ranks_.size();
  // `ready` is older than ranks that were started in this turn.
  const std::size_t polled = std::min(count, ready.size() - kFixedPolls);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t slot = (first_output_ + i) % count;
    const Stream stream = slot % 2 == 0 ? Stream::out : Stream::err;
    if (!output_of(slot / 2, stream)) continue;
    if (!nobody_left_ && (slot >= polled || ready[kFixedPolls + slot].revents == 0)) continue;
    if (!wants_output()) {
      first_output_ = slot;  // it is the first one next time
      return;
    }
    read_output(slot / 2, stream);
  }
}

void AgentLoop::read_output(std::size_t index, Stream stream) {
  UniqueFd& fd = output_of(index, stream);
  const std::size_t allowed = std::min(buffer_.size(), state_.output_allowance());
  const ssize_t got = ::read(fd.value(), buffer_.data(), allowed);
  if (got > 0) {
    const ByteView data = ByteView(buffer_).first(static_cast<std::size_t>(got));
    return apply(state_.on_output(index, stream, Bytes(data.begin(), data.end())));
  }
  if (got < 0 && (errno == EINTR || (errno == EAGAIN && !nobody_left_))) return;
  // The end; or empty, and held open only by a process that is none of the job's.
  fd.reset();
  apply(state_.on_output_end(index, stream));
}

}  // namespace llmlaunch::launcher::agent
