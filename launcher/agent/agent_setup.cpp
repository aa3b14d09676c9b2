// The part of `AgentLoop` that is over before the ranks start: setup lines, limits, cores. What they mean is decided in
// setup_script.cpp, rank_limits.cpp and cpu_bind.cpp; here they meet the host.
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "launcher/agent/agent_loop.hpp"
#include "launcher/agent/cpu_bind.hpp"
#include "launcher/agent/exec_spec.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher::agent {
namespace {

// As much as a pipe can hold (/proc/sys/fs/pipe-max-size), so that at the shell's end nothing of it is left behind; and
// no more, as a line that prints without end is always ready.
constexpr std::size_t kMaxSetupTurnBytes = 1u << 20;

}  // namespace

void AgentLoop::begin_setup() {
  const Prepare& prepare = state_.prepare();
  std::string note;
  const std::string shell = setup_shell(environment_, note);
  const std::string script = setup_script(prepare.settings.setup, host_env_);
  const std::vector<std::string> environment = overlay_env(environment_, {&host_env_});
  Result<SetupProcess> process = start_setup(shell, script, environment, directory_of(prepare.workdir));
  if (!process) return apply(state_.on_failed(process.error()));
  if (!note.empty()) apply(state_.on_noise(note));
  const auto limit = std::chrono::milliseconds(prepare.settings.start_timeout_ms);
  setup_.emplace(
      Setup{std::move(*process), SetupReport(prepare.settings.setup), std::chrono::steady_clock::now() + limit, false});
}

// What is there, without waiting: something that a line left in the background may hold the pipes open for ever, and
// fill them as fast as they are read.
void AgentLoop::read_setup() {
  const auto read_all = [this](UniqueFd& fd, auto take) {
    for (std::size_t taken = 0; fd && taken < kMaxSetupTurnBytes;) {
      const ssize_t got = ::read(fd.value(), buffer_.data(), buffer_.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && errno == EAGAIN) return;
      if (got <= 0) return fd.reset();
      taken += static_cast<std::size_t>(got);
      take(as_text(ByteView(buffer_).first(static_cast<std::size_t>(got))));
    }
  };
  const auto show = [this](const std::vector<std::string>& lines) {
    for (const std::string& line : lines) apply(state_.on_noise(line));
  };
  read_all(setup_->process.report, [this](std::string_view bytes) { setup_->report.add_report(bytes); });
  read_all(setup_->process.noise, [&](std::string_view bytes) { show(setup_->report.add_noise(bytes)); });
}

void AgentLoop::check_setup_deadline() {
  if (!setup_ || setup_->timed_out || std::chrono::steady_clock::now() < setup_->deadline) return;
  setup_->timed_out = true;
  ::kill(-setup_->process.pid, SIGKILL);  // its end is seen like any other
}

void AgentLoop::end_setup(int status) {
  read_setup();
  for (const std::string& line : setup_->report.end_noise()) apply(state_.on_noise(line));
  SetupEnd end;
  end.signaled = WIFSIGNALED(status);
  end.value = end.signaled ? WTERMSIG(status) : WEXITSTATUS(status);
  end.timed_out = setup_->timed_out;
  auto environment = setup_->report.finish(end, environment_, state_.prepare().settings.start_timeout_ms);
  setup_.reset();
  if (!environment) return apply(state_.on_failed(environment.error()));
  environment_ = std::move(*environment);
  // The script has set these, and its lines may have changed them since.
  std::erase_if(host_env_, [](const auto& variable) { return is_shell_name(variable.first); });
  check_ranks();
}

const std::string* AgentLoop::value_for(const RankSpec& rank, std::string_view name) const {
  for (const EnvList* list : {&rank.env, &host_env_})
    for (auto variable = list->rbegin(); variable != list->rend(); ++variable)
      if (variable->first == name) return &variable->second;
  return nullptr;
}

std::vector<std::optional<unsigned>> AgentLoop::gpus_of_ranks() const {
  const std::string* inherited = find_env(environment_, env::kCudaVisibleDevices);
  const std::string value =
      inherited == nullptr ? "" : inherited->substr(std::string_view(env::kCudaVisibleDevices).size() + 1);
  std::vector<std::optional<unsigned>> gpus;
  for (unsigned local = 0; local < state_.prepare().ranks.size(); ++local) {
    const std::string* own = value_for(state_.prepare().ranks[local], env::kCudaVisibleDevices);
    gpus.push_back(gpu_of_rank(own != nullptr ? own : inherited != nullptr ? &value : nullptr, local));
  }
  return gpus;
}

// Limits, cores and threads of each rank, into conditions_ and host_env_.
Result<void> AgentLoop::settle_conditions() {
  const RankSettings& settings = state_.prepare().settings;
  auto limits = check_limits(settings, own_limit);
  if (!limits) return limits.error();
  const auto before = make_room_for(state_.prepare().ranks.size());
  if (!before) return before.error();
  if (*before) limits->insert(limits->begin(), **before);  // what the job says of it comes after
  Binding binding;
  omp_threads_ = 0;
  const bool choose = settings.choose_omp_threads && find_env(environment_, env::kOmpNumThreads) == nullptr;
  if (settings.cpu_bind != CpuBind::none || choose) {
    auto bound = bind_ranks(settings.cpu_bind, read_topology("/sys", allowed_cpus()), gpus_of_ranks());
    if (!bound) return bound.error();
    binding = std::move(*bound);
  }
  if (!binding.note.empty()) apply(state_.on_noise(binding.note));
  if (choose) {
    omp_threads_ = std::max(1u, binding.least_cores);
    host_env_.emplace_back(env::kOmpNumThreads, std::to_string(omp_threads_));
  }
  conditions_.clear();
  for (std::size_t i = 0; i < state_.prepare().ranks.size(); ++i) {
    RankConditions conditions;
    conditions.limits = *limits;
    conditions.umask = settings.umask;
    if (!binding.cpus.empty()) conditions.cpus = binding.cpus[i];
    const auto& readers = settings.stdin_ranks;
    conditions.wants_input = std::find(readers.begin(), readers.end(), state_.prepare().ranks[i].rank) != readers.end();
    conditions_.push_back(std::move(conditions));
  }
  return ok;
}

}  // namespace llmlaunch::launcher::agent
