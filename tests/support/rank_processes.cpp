// Starts, reads and ends child processes, and serves a rendezvous; see rank_processes.hpp.
#include "tests/support/rank_processes.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>
#include <thread>
#include <utility>

#include "rendezvous/base/env.hpp"
#include "rendezvous/server.hpp"
#include "tests/support/catch.hpp"

extern char** environ;

namespace llmlaunch::test {
namespace {

std::vector<std::string> merged_environment(const std::map<std::string, std::string>& changes) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text(*entry);
    if (!changes.contains(text.substr(0, text.find('=')))) result.push_back(text);
  }
  for (const auto& [name, value] : changes) {
    if (!value.empty()) result.push_back(name + "=" + value);
  }
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& argv,
                           const std::map<std::string, std::string>& environment) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  fd_ = ends[0];
  std::vector<std::string> words = argv;
  std::vector<std::string> variables = merged_environment(environment);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  const int failed =
      ::posix_spawn(&pid_, words[0].c_str(), &actions, nullptr, pointers(words).data(), pointers(variables).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  REQUIRE(failed == 0);
}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && status_ < 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (fd_ >= 0) ::close(fd_);
}

bool ChildProcess::read_more() {
  pollfd wanted{fd_, POLLIN, 0};
  const int ready = ::poll(&wanted, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count()));
  if (ready == 0) FAIL("nothing new after a long time from:\n" << output_);
  char piece[4096];
  const ssize_t count = ::read(fd_, piece, sizeof piece);
  if (count <= 0) return false;
  output_.append(piece, static_cast<std::size_t>(count));
  return true;
}

bool ChildProcess::wait_for(const std::string& text) {
  while (output_.find(text) == std::string::npos) {
    if (!read_more()) return false;
  }
  return true;
}

void ChildProcess::wait_until(const std::function<bool()>& happened) {
  const auto give_up = std::chrono::steady_clock::now() + kPatience;
  while (!happened()) {
    if (ends_within(std::chrono::milliseconds(0))) {
      const int status = wait();
      FAIL("it has ended with " << status << ":\n" << output_);
    }
    if (std::chrono::steady_clock::now() > give_up) FAIL("it has not happened after a long time");
    std::this_thread::yield();
  }
}

bool ChildProcess::ends_within(std::chrono::milliseconds time) const {
  const auto end = std::chrono::steady_clock::now() + time;
  for (;;) {
    siginfo_t info{};
    const int failed = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    if (failed == 0 && info.si_pid == pid_) return true;
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void ChildProcess::kill(int signal) {
  REQUIRE(::kill(pid_, signal) == 0);
}

int ChildProcess::wait() {
  while (read_more()) {
  }
  int status = 0;
  REQUIRE(::waitpid(pid_, &status, 0) == pid_);
  status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return status_;
}

struct ServedRendezvous::Impl {
  rendezvous::ServerOptions options;
  asio::io_context context;
  std::unique_ptr<rendezvous::Server> server;
  std::thread thread;
};

ServedRendezvous::ServedRendezvous(std::vector<std::string> hosts) : impl_(std::make_unique<Impl>()) {
  impl_->options.job_id = "test-job";
  impl_->options.token = rendezvous::make_token();
  impl_->options.hosts = std::move(hosts);
  impl_->options.bind_address = "127.0.0.1";
  auto server = rendezvous::Server::start(impl_->context.get_executor(), impl_->options);
  if (!server) FAIL(to_string(server.error()));
  impl_->server = std::move(*server);
  impl_->thread = std::thread([impl = impl_.get()] { impl->context.run(); });
}

ServedRendezvous::~ServedRendezvous() {
  asio::post(impl_->context, [this] { impl_->server->close(); });
  impl_->thread.join();
}

std::map<std::string, std::string> ServedRendezvous::environment(std::size_t rank) const {
  const std::vector<std::string>& hosts = impl_->options.hosts;
  std::size_t local_rank = 0;
  std::size_t local_world_size = 0;
  for (std::size_t other = 0; other < hosts.size(); ++other) {
    if (hosts[other] != hosts[rank]) continue;
    ++local_world_size;
    if (other < rank) ++local_rank;
  }
  return {
      {env::kRank, std::to_string(rank)},
      {env::kWorldSize, std::to_string(hosts.size())},
      {env::kLocalRank, std::to_string(local_rank)},
      {env::kLocalWorldSize, std::to_string(local_world_size)},
      {env::kJobId, impl_->options.job_id},
      {env::kGeneration, "0"},
      {env::kRendezvous, "127.0.0.1:" + std::to_string(port())},
      {env::kToken, impl_->options.token},
      {env::kHost, hosts[rank]},
      {env::kOmpNumThreads, "1"},
      {env::kColumns, ""},  // what an outer launcher may have left
      {env::kMixedPrecision, ""},
  };
}

void ServedRendezvous::end_generation(const std::string& reason) {
  asio::post(impl_->context, [this, reason] { impl_->server->end_generation(reason); });
}

std::uint16_t ServedRendezvous::port() const {
  return impl_->server->port();
}
const std::string& ServedRendezvous::token() const {
  return impl_->options.token;
}
const std::string& ServedRendezvous::job_id() const {
  return impl_->options.job_id;
}

}  // namespace llmlaunch::test
