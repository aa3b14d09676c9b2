// The run directory on a real file system, the record in it, and the thread that writes to terminals and files.
#include "launcher/log_files.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "launcher/job_record.hpp"
#include "launcher/output_writer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_log_files_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::content_of;
using llmlaunch::test::TemporaryDirectory;
namespace fs = std::filesystem;

namespace {

constexpr auto kOut = agent::Stream::out;
constexpr auto kErr = agent::Stream::err;

mode_t mode_of(const fs::path& file) {
  struct stat info {};
  REQUIRE(::stat(file.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

Bytes bytes_of(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

/// A pipe or socket pair with a reader that reads when it is told to.
struct Channel {
  explicit Channel(bool sockets = false) {
    int ends[2];
    REQUIRE((sockets ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : ::pipe(ends)) == 0);
    reader.reset(ends[0]);
    writer.reset(ends[1]);
  }
  /// Waits for so many bytes.
  std::string read_some(std::size_t size) {
    std::string text(size, '\0');
    std::size_t have = 0;
    for (ssize_t got; have < size && (got = ::read(reader.value(), text.data() + have, size - have)) > 0;)
      have += static_cast<std::size_t>(got);
    return text.substr(0, have);
  }
  std::string read_to_end() {
    writer.reset();
    std::string text, piece(1 << 16, '\0');
    for (ssize_t got; (got = ::read(reader.value(), piece.data(), piece.size())) > 0;)
      text.append(piece, 0, static_cast<std::size_t>(got));
    return text;
  }
  UniqueFd reader, writer;
};

struct Credit {
  std::mutex mutex;
  std::condition_variable changed;
  std::uint64_t bytes = 0;
  void take(const std::vector<std::pair<std::size_t, std::uint64_t>>& taken) {
    const std::scoped_lock lock(mutex);
    for (const auto& one : taken) bytes += one.second;
    changed.notify_all();
  }
  void wait_for(std::uint64_t wanted) {
    std::unique_lock lock(mutex);
    REQUIRE(changed.wait_for(lock, std::chrono::seconds(60), [&] { return bytes >= wanted; }));
  }
};

}  // namespace

TEST_CASE("rank files hold the bytes as they came, also with more ranks than open files") {
  const TemporaryDirectory top;
  constexpr std::uint32_t kRanks = kMaxOpenRankFiles;  // twice as many files
  auto files = LogFiles::create(top.path.string(), kRanks);
  REQUIRE(files);
  for (int round = 0; round < 2; ++round) {
    for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
      REQUIRE(files->write_rank(Rank{rank}, kOut, as_bytes("out\r\n\xff")));
      REQUIRE(files->write_rank(Rank{rank}, kErr, as_bytes(std::to_string(rank))));
    }
  }
  REQUIRE(files->write_merged("[rank 0 a] x\n"));
  CHECK_FALSE(files->incomplete());
  CHECK(content_of(top.path / "rank-00007.out") == "out\r\n\xffout\r\n\xff");
  CHECK(content_of(top.path / "rank-00127.err") == "127127");
  CHECK(content_of(top.path / "merged.log") == "[rank 0 a] x\n");
  CHECK(mode_of(top.path / "rank-00007.out") == 0600);
  CHECK(mode_of(top.path / "merged.log") == 0600);
}

TEST_CASE("a file at its limit is rotated where a line ends, and the oldest is removed and that said once") {
  const TemporaryDirectory top;
  LogSettings settings;
  settings.max_file_bytes = 10;
  settings.keep = 2;
  auto files = LogFiles::create(top.path.string(), 2, settings);
  REQUIRE(files);
  const auto out = [&](const char* name) { return content_of(top.path / name); };
  REQUIRE(files->write_rank(Rank{0}, kOut, as_bytes("aaaa\nbbb")));
  CHECK(out("rank-00000.out") == "aaaa\nbbb");
  REQUIRE(files->write_rank(Rank{0}, kOut, as_bytes("b\ncccc\ndddd\ne")));  // just fills it; then two lines and a half
  CHECK(out("rank-00000.out.2") == "aaaa\nbbbb\n");
  CHECK(out("rank-00000.out.1") == "cccc\ndddd\n");
  CHECK(out("rank-00000.out") == "e");
  CHECK_FALSE(files->take_notice());
  REQUIRE(files->write_rank(Rank{0}, kOut, as_bytes("0123456789xyz\n")));  // a line longer than a file
  CHECK(out("rank-00000.out.2") == "e");
  CHECK(out("rank-00000.out.1") == "0123456789");
  CHECK(out("rank-00000.out") == "xyz\n");
  CHECK(files->take_notice() ==
        (top.path / "rank-00000.out").string() +
            " has reached 10 bytes 3 times: from here on the oldest part of such a file is removed (llmlaunch.logs: "
            "max_file_bytes, keep)");
  for (int i = 0; i < 5; ++i) REQUIRE(files->write_rank(Rank{1}, kErr, as_bytes("123456789\n")));
  REQUIRE(files->write_merged("[rank 0 a] a long line\n"));
  CHECK_FALSE(files->take_notice());
  CHECK(out("merged.log.2") == "[rank 0 a]");
  CHECK(out("merged.log") == "ne\n");
  CHECK(mode_of(top.path / "rank-00000.out") == 0600);
  CHECK_FALSE(files->incomplete());
  CHECK(std::distance(fs::directory_iterator(top.path), fs::directory_iterator()) == 5 + 3 * 2);
}

TEST_CASE("with nothing to keep a file at its limit begins again") {
  const TemporaryDirectory top;
  LogSettings settings;
  settings.max_file_bytes = 4;
  settings.keep = 0;
  auto files = LogFiles::create(top.path.string(), 1, settings);
  REQUIRE(files);
  REQUIRE(files->write_rank(Rank{0}, kOut, as_bytes("abc\nde")));
  CHECK(content_of(top.path / "rank-00000.out") == "de");
  CHECK(files->take_notice()->find("rank-00000.out has reached 4 bytes 1 times: from here on") != std::string::npos);
  CHECK(std::distance(fs::directory_iterator(top.path), fs::directory_iterator()) == 3);
}

TEST_CASE("files that nobody asked for are not made") {
  const TemporaryDirectory top;
  LogSettings settings;
  settings.per_rank = false;
  auto files = LogFiles::create(top.path.string(), 2, settings);
  REQUIRE(files);
  CHECK(files->place() == top.path.string() + "/merged.log");
  REQUIRE(files->write_rank(Rank{0}, kOut, as_bytes("x\n")));
  CHECK(std::distance(fs::directory_iterator(top.path), fs::directory_iterator()) == 1);
  const TemporaryDirectory other;
  settings.merged = false;
  files = LogFiles::create(other.path.string(), 2, settings);
  REQUIRE(files);
  CHECK(files->place().empty());
  REQUIRE(files->write_merged("x\n"));
  CHECK(fs::is_empty(other.path));
  settings.per_rank = true;
  files = LogFiles::create(other.path.string(), 2, settings);
  REQUIRE(files);
  CHECK(files->place() == other.path.string() + "/rank-*.out and .err");
}

TEST_CASE("a full disk is reported once and makes the files incomplete") {
  const TemporaryDirectory top;
  auto files = LogFiles::create(top.path.string(), 1);
  REQUIRE(files);
  // The file size limit stands in for the full disk: write() fails in the same place.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{8, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const auto first = files->write_rank(Rank{0}, kOut, as_bytes("12345678 more"));
  const auto second = files->write_rank(Rank{0}, kOut, as_bytes("x"));
  const auto merged = files->write_merged("12345678 more");
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, old);
  REQUIRE_FALSE(first);
  CHECK(first.error().what.find("rank-00000.out: File too large") != std::string::npos);
  CHECK(second);
  CHECK(merged);
  CHECK(files->incomplete());
  CHECK(content_of(top.path / "rank-00000.out") == "12345678");  // a true beginning, without a hole
}

TEST_CASE("a file is replaced as a whole") {
  const TemporaryDirectory top;
  const std::string path = (top.path / "job.json").string();
  REQUIRE(replace_file(path, "first, and longer"));
  REQUIRE(replace_file(path, "second"));
  CHECK(content_of(path) == "second");
  CHECK(mode_of(path) == 0600);
  CHECK(std::distance(fs::directory_iterator(top.path), fs::directory_iterator()) == 1);
  CHECK_FALSE(replace_file((top.path / "none" / "job.json").string(), "x"));
}

TEST_CASE("the record names variables and shows no value") {
  LaunchPlan plan;
  plan.job_id = "job-1";
  plan.world_size = 2;
  plan.argv = {"python", "train.py", "not utf-8: \xff", "--hf_token=very secret", "--wandb-key", "very secret"};
  HostPlan host;
  host.name = "gpu01";
  host.env = {{"API_KEY", "very secret"}};
  host.ranks = {{Rank{0}, 0, {{"RANK", "0"}}}, {Rank{1}, 1, {{"RANK", "1"}}}};
  plan.hosts = {host};
  JobTimes times;
  times.started = std::chrono::system_clock::time_point(std::chrono::milliseconds(1'700'000'000'123));
  CHECK(nlohmann::json::parse(job_record(plan, times, nullptr))["exit_status"].is_null());

  JobResult result;
  result.exit_status = 139;
  result.failure = make_error(Errc::rank_failed, "rank 1 was killed");
  RankEnd well;
  well.kind = RankEnd::Kind::exited;
  well.pid = 17;
  RankEnd killed;
  killed.kind = RankEnd::Kind::signaled;
  killed.signaled = true;
  killed.value = SIGSEGV;
  killed.core_dumped = true;
  killed.ended_wall_ns = 1'700'000'001'500'000'000;
  result.ranks = {well, killed};
  times.ended = times.started + std::chrono::seconds(2);
  const std::string text = job_record(plan, times, &result);
  CHECK(text.find("very secret") == std::string::npos);
  const auto record = nlohmann::json::parse(text);
  CHECK(record["job_id"] == "job-1");
  CHECK(record["argv"][3] == "--hf_token=********");
  CHECK(record["argv"][5] == "********");
  CHECK(record["started_at"] == "2023-11-14T22:13:20.123Z");
  CHECK(record["ended_at"] == "2023-11-14T22:13:22.123Z");
  CHECK(record["exit_status"] == 139);
  CHECK(record["failure"] == "rank 1 was killed");
  CHECK(record["hosts"][0]["env_names"] == nlohmann::json({"API_KEY"}));
  CHECK(record["ranks"][0]["status"] == 0);
  CHECK(record["ranks"][0]["signal"].is_null());
  CHECK(record["ranks"][1]["signal"] == "SIGSEGV");
  CHECK(record["ranks"][1]["core_dumped"] == true);
  CHECK(record["ranks"][1]["ended_at"] == "2023-11-14T22:13:21.500Z");
}

namespace {

struct WriterBench {
  explicit WriterBench(Channel& out_channel, Channel& err_channel, bool live = false) {
    auto files = LogFiles::create(top.path.string(), 2);
    REQUIRE(files);
    const std::vector<RankPlace> places = {{"a", 0, 0}, {"b", 0, 1}};
    writer = std::make_unique<OutputWriter>(LogMux(LinePrefix(places), 2), Console(LogSettings{}, places, {}, live),
                                            std::move(*files), out_channel.writer.value(), err_channel.writer.value(),
                                            [this](auto taken) { credit.take(taken); });
  }
  TemporaryDirectory top;
  Credit credit;
  std::unique_ptr<OutputWriter> writer;
};

}  // namespace

TEST_CASE("the writer sends stdout and stderr their ways and everything to the files") {
  const bool sockets = GENERATE(false, true);
  Channel out(sockets), err(sockets);
  WriterBench bench(out, err);
  bench.writer->output(0, Rank{0}, kOut, bytes_of("one\ntw"));
  bench.writer->output(0, Rank{0}, kErr, bytes_of("bad\n"));
  bench.writer->say(LogLevel::warning, "a word of our own");
  bench.writer->say(LogLevel::info, "gpu07 said: \x1b]0;gr\u00fcn\x07");
  bench.writer->output(1, Rank{1}, kOut, bytes_of("other\n"));
  bench.writer->output(0, Rank{0}, kOut, bytes_of("o"));
  bench.writer->end(Rank{0}, kOut);
  bench.writer->finish();
  CHECK(bench.credit.bytes == 6 + 4 + 6 + 1);
  bench.writer.reset();
  CHECK(out.read_to_end() == "[rank 0 a] one\n[rank 1 b] other\n[rank 0 a] two\n");
  CHECK(err.read_to_end() ==
        "[rank 0 a] bad\nllmlaunch: warning: a word of our own\n"
        "llmlaunch: gpu07 said: \\x1b]0;gr\u00fcn\\x07\n");
  CHECK(content_of(bench.top.path / "merged.log") ==
        "[rank 0 a] one\n[rank 0 a] bad\n[rank 1 b] other\n[rank 0 a] two\n");
  CHECK(content_of(bench.top.path / "rank-00000.out") == "one\ntwo");
  CHECK(content_of(bench.top.path / "rank-00000.err") == "bad\n");
}

TEST_CASE("the status line goes away before every other line, comes back below it, and is gone at the end") {
  Channel out, err;
  WriterBench bench(out, err);
  bench.writer->status("2 connecting");
  std::string seen(12, '\0');
  REQUIRE(::read(err.reader.value(), seen.data(), seen.size()) == 12);
  CHECK(seen == "2 connecting");
  bench.writer->output(0, Rank{0}, kErr, bytes_of("bad\n"));
  bench.credit.wait_for(4);
  bench.writer->finish();
  bench.writer.reset();
  CHECK(err.read_to_end() == "\r\x1b[K[rank 0 a] bad\n2 connecting\r\x1b[K");
}

TEST_CASE("an update of a progress bar comes when its time has come, without another byte") {
  Channel out, err;
  WriterBench bench(out, err);
  bench.writer->output(0, Rank{0}, kErr, bytes_of("\r 10%\r 20%"));
  std::string seen(100, '\0');
  const ssize_t got = ::read(err.reader.value(), seen.data(), seen.size());  // waits for it
  CHECK(seen.substr(0, static_cast<std::size_t>(std::max<ssize_t>(got, 0))) == "[rank 0 a]  20%\n");
  bench.writer->output(0, Rank{0}, kErr, bytes_of("\r100%\n"));
  bench.writer->finish();
  bench.writer.reset();
  CHECK(err.read_to_end() == "[rank 0 a] 100%\n");
  CHECK(content_of(bench.top.path / "merged.log") == "[rank 0 a] \r 10%\r 20%\r100%\n");
}

TEST_CASE("a bar is drawn below all lines, makes room for those that come through a pipe, and ends as one line") {
  Channel out, err;
  WriterBench bench(out, err, true);
  bench.writer->output(0, Rank{0}, kErr, bytes_of("\r 10%\r 20%"));
  CHECK(err.read_some(15) == "[rank 0 a]  20%");
  bench.writer->output(0, Rank{1}, kOut, bytes_of("a line\n"));
  CHECK(out.read_some(18) == "[rank 1 b] a line\n");
  CHECK(err.read_some(4 + 15) == "\r\x1b[K[rank 0 a]  20%");  // by itself, when who reads the pipe has had time
  bench.writer->status("1 running, 1 exited");
  CHECK(err.read_some(4 + 19) == "\r\x1b[K1 running, 1 exited");
  bench.writer->output(0, Rank{0}, kErr, bytes_of("\r100%\n"));
  CHECK(err.read_some(4 + 16 + 19) == "\r\x1b[K[rank 0 a] 100%\n1 running, 1 exited");
  bench.writer->finish();
  bench.writer.reset();
  CHECK(err.read_to_end() == "\r\x1b[K");
}

TEST_CASE("the flags of a shared terminal stay as they are") {
  Channel out, err;
  const int before = ::fcntl(out.writer.value(), F_GETFL);
  WriterBench bench(out, err);
  bench.writer->output(0, Rank{0}, kOut, bytes_of("x\n"));
  bench.credit.wait_for(2);
  CHECK(::fcntl(out.writer.value(), F_GETFL) == before);
}

TEST_CASE("no credit is given for what the terminal has not taken") {
  Channel out, err;
  WriterBench bench(out, err);
  const std::string lines(1 << 20, '\n');  // 12 MiB with prefixes: far more than a pipe holds
  bench.writer->output(0, Rank{0}, kOut, bytes_of(lines));
  bench.writer->output(0, Rank{0}, kOut, bytes_of("last\n"));
  const std::size_t wanted =
      lines.size() * std::string("[rank 0 a] \n").size() + std::string("[rank 0 a] last\n").size();
  std::size_t total = 0;
  {
    const std::scoped_lock lock(bench.credit.mutex);
    CHECK(bench.credit.bytes == 0);
  }
  std::thread reader([&] {  // checks nothing itself: Catch2 does so on one thread only
    std::string piece(1 << 16, '\0');
    for (ssize_t got = 1; total < wanted && got > 0;) {
      got = ::read(out.reader.value(), piece.data(), piece.size());
      if (got > 0) total += static_cast<std::size_t>(got);
    }
  });
  bench.credit.wait_for(lines.size() + 5);
  reader.join();
  CHECK(total == wanted);
}

TEST_CASE("an abandoned terminal ends the waiting, and the files still get everything") {
  const bool sockets = GENERATE(false, true);
  Channel out(sockets), err(sockets);
  WriterBench bench(out, err);
  const std::string lines(1 << 20, '\n');
  bench.writer->output(0, Rank{0}, kOut, bytes_of(lines));
  bench.writer->abandon_terminal();
  bench.writer->output(0, Rank{0}, kOut, bytes_of("last\n"));
  bench.writer->finish();
  bench.writer.reset();
  CHECK(bench.credit.bytes == lines.size() + 5);
  CHECK(fs::file_size(bench.top.path / "rank-00000.out") == lines.size() + 5);
  CHECK(fs::file_size(bench.top.path / "merged.log") == lines.size() * 12 + 16);
  CHECK(err.read_to_end().find("llmlaunch: warning: stdout takes no more lines; the rest is only in ") == 0);
}

TEST_CASE("a pager that was quit is told once, and the files still get everything") {
  const bool sockets = GENERATE(false, true);
  Channel out(sockets), err(sockets);
  WriterBench bench(out, err);
  out.reader.reset();
  bench.writer->output(0, Rank{0}, kOut, bytes_of("one\n"));
  bench.credit.wait_for(4);
  bench.writer->output(0, Rank{0}, kOut, bytes_of("two\n"));
  bench.writer->finish();
  bench.writer.reset();
  const std::string said = err.read_to_end();
  CHECK(said.find("llmlaunch: warning: stdout: nobody reads it any more; the job goes on") == 0);
  CHECK(std::count(said.begin(), said.end(), '\n') == 1);
  CHECK(content_of(bench.top.path / "merged.log") == "[rank 0 a] one\n[rank 0 a] two\n");
}

}  // namespace launcher_log_files_test
