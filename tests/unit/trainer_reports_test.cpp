// What --report_to writes: lines and event files, byte by byte, what a resumed job keeps, and a disk that is full.
#include "trainer/reports.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/support/catch.hpp"
#include "trainer/event_file.hpp"
#include "trainer/step_lines.hpp"

namespace trainer_reports_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "llmlaunch-reports-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

std::string contents(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

LogRecord record_of(std::uint64_t step) {
  return {.step = step, .epoch = 0.5, .values = {{"loss", 0.25}, {"eval_loss", 0.5}}};
}

std::vector<std::string> event_files(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

/// Files end at so many bytes, as on a disk that is full by then.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
    old_ = std::signal(SIGXFSZ, SIG_IGN);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, old_);
  }

 private:
  rlimit before_{};
  void (*old_)(int) = nullptr;
};

}  // namespace

TEST_CASE("CRC-32C and its masked form are those of TFRecord") {
  CHECK(crc32c("") == 0);
  CHECK(crc32c("123456789") == 0xe3069283);            // the check value of the catalogue of CRCs
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aa);  // RFC 3720, B.4
}

TEST_CASE("the first record of an event file is the one that TensorBoard's own writer makes") {
  // The length's crc is known from any file of TensorFlow's: 18 00 00 00 00 00 00 00 a3 7f 4b 22.
  CHECK(hex(version_event(0)).substr(0, 24) == "1800000000000000a37f4b22");
  CHECK(hex(version_event(0)).substr(24, 48) == "0900000000000000001a0d627261696e2e4576656e743a32");
  CHECK(version_event(0).size() == 8 + 4 + 24 + 4);
}

TEST_CASE("a scalar is an Event with a summary of one value") {
  CHECK(hex(scalar_event(1, 300, "a", 0.5)).substr(24, 48) ==
        "09000000000000f03f10ac022a0a0a080a016115"
        "0000003f");
}

TEST_CASE("a line has the record and its time; a number that is none is null") {
  CHECK(metrics_line({.step = 3, .epoch = 1.5, .values = {{"loss", 0.25}, {"grad_norm", std::nan("")}}}, 7.0625) ==
        "{\"step\": 3, \"epoch\": 1.5, \"loss\": 0.25, \"grad_norm\": null, \"time\": 7.062}\n");
}

TEST_CASE("what a resumed job keeps are the whole lines of the steps that are done") {
  const std::string first = "{\"step\": 1, \"loss\": 1}\n";
  const std::string second = "{\"step\": 20, \"loss\": 1}\n";
  CHECK(kept_step_lines(first + second, 20) == first + second);
  CHECK(kept_step_lines(first + second, 19) == first);
  CHECK(kept_step_lines(first + second, 0).empty());
  CHECK(kept_step_lines(first + "{\"step\": 2", 20) == first);
  CHECK(kept_step_lines(first + "no line of ours\n" + second, 20) == first + second);
  CHECK(kept_step_lines("", 20).empty());
  const std::string tested = "{\"step\": 20, \"eval_loss\": 1}\n";
  const std::string tested_before = "{\"step\": 1, \"eval_loss\": 1}\n";
  CHECK(kept_step_lines(first + tested_before + second + tested, 20) == first + tested_before + second + tested);
  CHECK(kept_step_lines(first + tested_before + second + tested, 20, true) == first + tested_before + second);
  CHECK(count_step_lines(first + "no line of ours\n" + second + "{\"step\": 3") == 2);
}

TEST_CASE("a resumed job goes on with its files") {
  const Folder folder;
  const auto never = [](const Error& error) { FAIL_CHECK(to_string(error)); };
  {
    Reports reports({.json = folder.path(), .tensorboard = folder / "runs"}, never);
    REQUIRE(reports.begin(0));
    for (const std::uint64_t step : {1, 2, 3}) reports.add(record_of(step));
    REQUIRE(reports.finish());
  }
  Reports resumed({.json = folder.path(), .tensorboard = folder / "runs"}, never);
  REQUIRE(resumed.begin(2));
  resumed.add(record_of(3));
  REQUIRE(resumed.finish());
  std::ifstream lines(folder / "metrics.jsonl");
  std::vector<std::string> starts;
  for (std::string line; std::getline(lines, line);) starts.push_back(line.substr(0, 10));
  CHECK(starts == std::vector<std::string>{"{\"step\": 1", "{\"step\": 2", "{\"step\": 3"});
  const auto files = event_files(folder / "runs");
  REQUIRE(files.size() == 2);  // in the order of their names
  const std::string second = contents(fs::path(folder / "runs") / files[1]);
  const std::string start = start_event(0, 3);
  CHECK(second.find(start.substr(21, 6)) == 8 + 4 + 24 + 4 + 21);  // step 3, START
}

TEST_CASE("where the last step's test is to come once more, nothing of an earlier one is left") {
  const Folder folder;
  const auto never = [](const Error& error) { FAIL_CHECK(to_string(error)); };
  const LogRecord loss{.step = 2, .epoch = 0.5, .values = {{"loss", 0.25}}};
  const LogRecord test{.step = 2, .epoch = 0.5, .values = {{"eval_loss", 0.5}}};
  const std::vector<LogRecord> history = {record_of(1), loss};
  for (int run = 0; run < 3; ++run) {
    Reports reports({.json = folder.path(), .tensorboard = folder / "runs"}, never);
    const bool first = run == 0;
    const auto begun = first ? reports.begin(0) : reports.begin(2, true, history);
    REQUIRE(begun);
    if (first) {
      for (const LogRecord& record : history) reports.add(record);
    }
    reports.add(test);
    REQUIRE(reports.finish());
  }
  const std::string text = contents(folder / "metrics.jsonl");
  CHECK(count_step_lines(text) == 3);
  CHECK(text.find("{\"step\": 2, \"epoch\": 0.5, \"eval_loss\"") == text.rfind("{\"step\": 2"));
  // The mark makes TensorBoard forget step 2, and the file tells of it again.
  const auto files = event_files(folder / "runs");
  const std::string last = contents(fs::path(folder / "runs") / files.back());
  const std::size_t head = version_event(0).size();
  CHECK(last.substr(head + 12 + 9, 6) == start_event(0, 2).substr(12 + 9, 6));
  CHECK_THAT(last, Catch::Contains("train/loss") && Catch::Contains("eval/loss"));
}

TEST_CASE("a record that does not fit leaves the others whole, and is said once") {
  const Folder folder;
  std::vector<std::string> said;
  Reports reports({.json = folder.path(), .tensorboard = {}},
                  [&](const Error& error) { said.push_back(to_string(error)); });
  REQUIRE(reports.begin(0));
  std::size_t line = 0;
  {
    const FullDisk full(240);
    for (const std::uint64_t step : {1, 2, 3, 4}) {
      reports.add(record_of(step));
      if (step == 1) line = contents(folder / "metrics.jsonl").size();
    }
  }
  reports.add(record_of(5));  // there is room again
  const std::string text = contents(folder / "metrics.jsonl");
  CHECK(text.size() == 3 * line);
  CHECK_THAT(text, Catch::Contains("{\"step\": 2,") && !Catch::Contains("{\"step\": 3,") &&
                       Catch::Contains("{\"step\": 5,") && Catch::EndsWith("}\n"));
  REQUIRE(said.size() == 1);
  CHECK_THAT(said[0], Catch::Contains(folder / "metrics.jsonl") && Catch::Contains("write: File too large"));
  const auto finished = reports.finish();
  REQUIRE_FALSE(finished);
  CHECK(finished.error().what == "2 of 5 records of --report_to could not be written");
}

TEST_CASE("the records of each file are counted by themselves, and each file's first failure is told") {
  const Folder folder;
  std::vector<std::string> said;
  Reports reports({.json = folder.path(), .tensorboard = folder / "runs"},
                  [&](const Error& error) { said.push_back(to_string(error)); });
  REQUIRE(reports.begin(0));
  reports.add(record_of(1));
  fs::remove(folder / "metrics.jsonl");
  reports.add(record_of(2));
  const auto finished = reports.finish();
  REQUIRE_FALSE(finished);
  CHECK(finished.error().what == "1 of 2 records of --report_to could not be written");
  fs::remove_all(folder / "runs");
  reports.add(record_of(3));
  REQUIRE(said.size() == 2);
  CHECK_THAT(said[0], Catch::Contains("metrics.jsonl"));
  CHECK_THAT(said[1], Catch::Contains("runs/events.out.tfevents."));
}

TEST_CASE("a file of another program with the name of ours is refused, and left as it is") {
  const Folder folder;
  const std::string path = folder / "metrics.jsonl";
  for (const char* text : {"{\"my\": \"own\"}\n", "\n"}) {
    std::ofstream(path) << text;
    for (const std::uint64_t steps_done : {0, 3}) {
      Reports reports({.json = folder.path(), .tensorboard = {}}, [](const Error&) {});
      const auto begun = reports.begin(steps_done);
      REQUIRE_FALSE(begun);
      CHECK(to_string(begun.error()) == path + ": --report_to json: is there already, and is no file of records\n" +
                                            "   hint: name another --logging_dir, or remove it");
      CHECK(contents(path) == text);
    }
  }
  for (const char* text : {"", "{\"st"}) {  // of a job that was killed
    std::ofstream(path) << text;
    Reports reports({.json = folder.path(), .tensorboard = {}}, [](const Error&) {});
    CHECK(reports.begin(0));
  }
}

TEST_CASE("a folder that cannot be made is an error at the start") {
  const Folder folder;
  std::ofstream(folder / "file") << "x";
  for (const ReportFolders& folders : {ReportFolders{.json = folder / "file/a", .tensorboard = {}},
                                       ReportFolders{.json = {}, .tensorboard = folder / "file/a"}}) {
    Reports reports(folders, [](const Error&) {});
    const auto begun = reports.begin(0);
    REQUIRE_FALSE(begun);
    CHECK_THAT(to_string(begun.error()), Catch::Contains("--report_to: mkdir"));
  }
}

}  // namespace trainer_reports_test
