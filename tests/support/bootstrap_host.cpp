// Runs one command as sshd would run it: argv, environment, stdin and stdout as one stream.
#include "tests/support/bootstrap_host.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

#include "launcher/agent_greeting.hpp"

namespace llmlaunch::launcher::test {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw std::system_error(errno, std::generic_category(), what);
}

struct Streams {
  int ours_in = -1, ours_out = -1, host_in = -1, host_out = -1;
};

Streams make_streams(bool pipes) {
  int a[2] = {-1, -1}, b[2] = {-1, -1};
  if (!pipes) {
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a) == 0, "socketpair");
    return {a[0], a[0], a[1], a[1]};
  }
  require(::pipe2(a, O_CLOEXEC) == 0 && ::pipe2(b, O_CLOEXEC) == 0, "pipe");
  return {b[0], a[1], a[0], b[1]};
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  for (const std::string& text : texts) all.push_back(const_cast<char*>(text.c_str()));
  all.push_back(nullptr);
  return all;
}

pid_t start(const HostRun& run, const Streams& streams) {
  const std::vector<char*> argv = pointers(run.argv), env = pointers(run.env);
  const pid_t pid = ::fork();
  require(pid >= 0, "fork");
  if (pid > 0) return pid;
  ::dup2(streams.host_in, STDIN_FILENO);
  ::dup2(streams.host_out, STDOUT_FILENO);
  ::execvpe(argv[0], argv.data(), env.data());
  ::_exit(127);
}

// A host that has ended does not read: that is for the test to see in what it said.
void send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t put = ::write(fd, text.data(), text.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return;
    text.remove_prefix(static_cast<std::size_t>(put));
  }
}

void end_sending(Streams& streams) {
  if (streams.ours_in == streams.ours_out)
    ::shutdown(streams.ours_out, SHUT_WR);
  else if (streams.ours_out >= 0)
    ::close(std::exchange(streams.ours_out, -1));
}

class Head {
 public:
  Head(const HostRun& run, Streams& streams) : run_(run), streams_(streams) {}

  Conversation talk() {
    std::string piece(65536, '\0');
    while (true) {
      const ssize_t got = ::read(streams_.ours_in, piece.data(), piece.size());
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      const std::string_view bytes(piece.data(), static_cast<std::size_t>(got));
      if (said_.marker)
        said_.rest += bytes;
      else
        hear(bytes);
    }
    return std::move(said_);
  }

 private:
  void hear(std::string_view bytes) {
    greeting_.feed(bytes);
    while (true) {
      auto event = greeting_.next();
      if (!event) throw std::runtime_error(to_string(event.error()));
      if (!*event) return;
      if (auto* noise = std::get_if<NoiseLine>(&**event)) said_.noise.push_back(noise->text);
      if (auto* failed = std::get_if<StartFailed>(&**event)) said_.failure = failed->reason;
      if (auto* need = std::get_if<NeedAgent>(&**event)) {
        said_.needed = true;
        said_.need_hash = need->hash;
        send_all(streams_.ours_out, run_.push + run_.frames);
        end_sending(streams_);
      }
      if (!std::holds_alternative<AgentMarker>(**event)) continue;
      said_.marker = true;
      said_.rest = greeting_.take_rest();
      if (!said_.needed) send_all(streams_.ours_out, run_.frames);
      end_sending(streams_);
      return;
    }
  }

  const HostRun& run_;
  Streams& streams_;
  AgentGreeting greeting_;
  Conversation said_;
};

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = std::filesystem::temp_directory_path() / "llmlaunch-test-XXXXXX";
  require(::mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;  // what cannot be removed is left to whoever cleans /tmp
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(const std::string& name, const std::string& text, mode_t mode) const {
  const std::string path = path_ + "/" + name;
  std::ofstream(path, std::ios::binary) << text;
  require(::chmod(path.c_str(), mode) == 0, "chmod");
  return path;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

Conversation run_host(const HostRun& run) {
  Streams streams = make_streams(run.pipes);
  const pid_t pid = start(run, streams);
  ::close(streams.host_in);
  if (streams.host_out != streams.host_in) ::close(streams.host_out);
  Conversation said = Head(run, streams).talk();
  ::close(streams.ours_in);
  if (streams.ours_out >= 0 && streams.ours_out != streams.ours_in) ::close(streams.ours_out);
  int status = 0;
  pid_t ended = 0;
  do ended = ::waitpid(pid, &status, 0);
  while (ended < 0 && errno == EINTR);
  require(ended == pid, "waitpid");
  said.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return said;
}

}  // namespace llmlaunch::launcher::test
