// run_job with the real agent on this machine: several hosts that are all local, real processes, real pipes.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "launcher/launch.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_local_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
namespace fs = std::filesystem;

namespace {

constexpr long kHeadLimitKib = 64 * 1024;
constexpr int kVolumeDivisor = LLMLAUNCH_SANITIZED ? 20 : 1;

std::string read(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file, std::ios::binary).rdbuf();
  return text.str();
}

/// The largest resident size of this process so far, and since the last call of `forget_peak`.
long peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("VmHWM:", 0) == 0) return std::stol(line.substr(6));
  return 0;
}
void forget_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

struct Bench {
  Bench(std::size_t hosts, std::uint32_t ranks_each, std::vector<std::string> argv) {
    plan.job_id = "job-1";
    plan.argv = std::move(argv);
    plan.log_dir = (top / "logs").string();
    for (std::size_t index = 0; index < hosts; ++index) {
      HostPlan host;
      host.name = "here" + std::to_string(index);
      host.node_rank = NodeRank{static_cast<std::uint32_t>(index)};
      host.local = true;
      for (std::uint32_t local = 0; local < ranks_each; ++local) {
        const std::string rank = std::to_string(plan.world_size);
        host.ranks.push_back({Rank{plan.world_size++}, local, {{"RANK", rank}, {"LOCAL_RANK", std::to_string(local)}}});
      }
      plan.hosts.push_back(std::move(host));
    }
    options.agent_path = LLMLAUNCH_AGENT;
    options.quiet = true;
    options.stdout_fd = out_fd = ::open((top / "out").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    options.stderr_fd = err_fd = ::open((top / "err").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  }
  ~Bench() {
    ::close(out_fd);
    ::close(err_fd);
  }
  JobResult run() {
    const auto result = run_job(plan, options);
    if (!result) FAIL(to_string(result.error()));
    return *result;
  }
  fs::path directory() const { return top / "logs" / "job-1"; }

  test::TemporaryDirectory directory_of_test;
  const fs::path& top = directory_of_test.path;
  LaunchPlan plan;
  LaunchOptions options;
  int out_fd = -1, err_fd = -1;
};

/// Checks "[rank r hereh] r:n:text" lines as they come: each rank's numbers without gap, every line whole. Keeps
/// nothing.
class LineChecker {
 public:
  explicit LineChecker(std::size_t ranks) : next_(ranks, 0) {}
  void feed(std::string_view bytes) {
    rest_ += bytes;
    std::size_t begin = 0;
    for (std::size_t end; (end = rest_.find('\n', begin)) != std::string::npos; begin = end + 1)
      line(std::string_view(rest_).substr(begin, end - begin));
    rest_.erase(0, begin);
  }
  const std::vector<long>& next() const { return next_; }
  const std::string& complaint() const { return complaint_; }

 private:
  void line(std::string_view text) {
    const std::size_t rank = static_cast<std::size_t>(text.size() > 6 ? text[6] - '0' : 99);
    const std::string number = rank < next_.size() ? std::to_string(next_[rank]++) : "?";
    const std::string r = std::to_string(rank);
    if (text == "[rank " + r + " here" + r + "] " + r + ":" + number + ":the quick brown fox jumps over the lazy dog")
      return;
    if (complaint_.empty()) complaint_ = "where " + r + ":" + number + " was next came: " + std::string(text);
  }
  std::vector<long> next_;
  std::string rest_, complaint_;
};

// Writes `lines` numbered lines to stdout.
std::vector<std::string> counting(long lines) {
  return {"awk", "BEGIN { for (n = 0; n < " + std::to_string(lines) +
                     "; n++) print ENVIRON[\"RANK\"] \":\" n \":the quick brown fox jumps over the lazy dog\" }"};
}

}  // namespace

TEST_CASE("ranks on two local hosts find their place and print it") {
  Bench bench(2, 2,
              {"sh", "-c", "echo $RANK at $MASTER_ADDR:${MASTER_PORT:+port} via $LLMLAUNCH_RENDEZVOUS; echo bad >&2"});
  const JobResult result = bench.run();
  CHECK(result.exit_status == 0);
  const std::string out = read(bench.top / "out"), err = read(bench.top / "err");
  for (const char* line :
       {"[rank 0 here0] 0 at 127.0.0.1:port via 127.0.0.1:", "[rank 3 here1] 3 at 127.0.0.1:port via 127.0.0.1:"})
    CHECK(out.find(line) != std::string::npos);
  CHECK(std::count(out.begin(), out.end(), '\n') == 4);
  CHECK(std::count(err.begin(), err.end(), '\n') == 4);
  CHECK(read(bench.directory() / "rank-00002.err") == "bad\n");
}

TEST_CASE("a rank's own status and a signal come through, and the others are stopped") {
  const auto [script, status, story] = GENERATE(table<const char*, int, const char*>(
      {{"if [ $RANK = 1 ]; then echo why >&2; exit 3; fi; exec sleep 600", 3, "exited with status 3\n"},
       {"if [ $RANK = 1 ]; then ulimit -c 0; echo why >&2; kill -SEGV $$; fi; exec sleep 600", 139,
        "was killed by SIGSEGV\n"}}));
  Bench bench(2, 1, {"sh", "-c", script});
  const JobResult result = bench.run();
  CHECK(result.exit_status == status);
  REQUIRE(result.failure);
  CHECK(result.failure->what.find(story) != std::string::npos);
  CHECK(result.failure->what.find("   its last line on stderr:\n     | why\n") != std::string::npos);
  CHECK(result.failure->what.find("   1 rank stopped by llmlaunch") != std::string::npos);
  for (const RankEnd& end : result.ranks) {
    REQUIRE(end.pid > 0);
    CHECK(::kill(static_cast<pid_t>(end.pid), 0) != 0);  // nothing is left
  }
}

TEST_CASE("a program that does not exist starts nowhere and is 127") {
  Bench bench(2, 1, {"no-such-program-here"});
  const JobResult result = bench.run();
  CHECK(result.exit_status == 127);
  CHECK(result.failure->what.find("no-such-program-here") != std::string::npos);
  CHECK(result.failure->where == "2 hosts here[0-1]");
}

TEST_CASE("a million lines from four hosts arrive complete and in order, in small memory") {
  const long per_rank = 250'000 / kVolumeDivisor;
  Bench bench(4, 1, counting(per_rank));
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  bench.options.stdout_fd = ends[1];
  LineChecker checker(4);
  std::thread reader([&] {
    std::string piece(1 << 16, '\0');
    for (ssize_t got; (got = ::read(ends[0], piece.data(), piece.size())) > 0;)
      checker.feed(std::string_view(piece).substr(0, static_cast<std::size_t>(got)));
  });
  forget_peak();
  const JobResult result = bench.run();
  const long peak = peak_kib();
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  CHECK(result.exit_status == 0);
  CHECK(checker.complaint() == "");
  CHECK(checker.next() == std::vector<long>(4, per_rank));
  if (!LLMLAUNCH_SANITIZED) CHECK(peak < kHeadLimitKib);
  const std::string merged = read(bench.directory() / "merged.log");
  CHECK(std::count(merged.begin(), merged.end(), '\n') == 4 * per_rank);
}

TEST_CASE("a terminal that is not read slows the ranks down, and loses nothing when it is read again") {
  const long per_rank = 200'000 / kVolumeDivisor;  // 10 MB each
  Bench bench(4, 1, counting(per_rank));
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  bench.options.stdout_fd = ends[1];
  LineChecker checker(4);
  std::uintmax_t written_meanwhile = 0;
  std::thread reader([&] {
    std::string piece(1 << 16, '\0');
    // Seen by looking: nobody reads, so at some point the pipe takes no more, however few bytes its pages hold.
    pollfd room{ends[1], POLLOUT, 0};
    while (::poll(&room, 1, 0) == 1) std::this_thread::yield();
    for (const auto& file : fs::directory_iterator(bench.directory()))
      if (file.path().extension() == ".out") written_meanwhile += fs::file_size(file.path());
    for (ssize_t got; (got = ::read(ends[0], piece.data(), piece.size())) > 0;)
      checker.feed(std::string_view(piece).substr(0, static_cast<std::size_t>(got)));
  });
  const JobResult result = bench.run();
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  CHECK(result.exit_status == 0);
  CHECK(checker.complaint() == "");
  CHECK(checker.next() == std::vector<long>(4, per_rank));
  // What the files may be ahead of the terminal: the windows of four hosts.
  CHECK(written_meanwhile < 4 * (256u << 10) + (256u << 10));
}

}  // namespace launcher_local_test
