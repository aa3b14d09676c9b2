// Fixed times → the table and the trace.
#include "launcher/timeline.hpp"

#include <nlohmann/json.hpp>

#include "tests/support/catch.hpp"

namespace launcher_timeline_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace std::chrono_literals;

namespace {

constexpr TimePoint kBegan{};

/// gpu01 through ssh, gpu02 is this machine and silent, gpu03 failed while it signed in.
Timeline example() {
  Timeline timeline("job-1", {"gpu01", "gpu02", "gpu03"}, kBegan);
  StepTimes ssh{};
  std::chrono::milliseconds at{0};
  for (std::size_t step = 1; step < kOpenSteps; ++step) ssh[step] = kBegan + (at += std::chrono::milliseconds(step));
  timeline.open(0, ssh);  // 1, 3, 6, 10, 15, 21, 28, 36
  timeline.note(0, Moment::hello, kBegan + 40ms);
  timeline.note(0, Moment::ready, kBegan + 50ms);
  timeline.note(0, Moment::go, kBegan + 60ms);
  timeline.note(0, Moment::first_output, kBegan + 160ms);
  timeline.note(0, Moment::first_output, kBegan + 999ms);  // the first one counts
  timeline.note(0, Moment::end, kBegan + 300ms);           // its connection was cut, and came back
  timeline.open(0, StepTimes{});
  timeline.note(0, Moment::end, kBegan + 1160ms);
  StepTimes local{};
  local[static_cast<std::size_t>(OpenStep::starting)] = kBegan + 2ms;
  local[static_cast<std::size_t>(OpenStep::open)] = kBegan + 5500us;
  timeline.open(1, local);
  timeline.note(1, Moment::hello, kBegan + 6ms);
  timeline.note(1, Moment::ready, kBegan + 7ms);
  timeline.note(1, Moment::go, kBegan + 60ms);
  timeline.note(1, Moment::end, kBegan + 560ms);
  timeline.note(2, Moment::end, kBegan + 1ms);
  StepTimes refused{};
  for (std::size_t step = 1; step <= static_cast<std::size_t>(OpenStep::authenticating); ++step)
    refused[step] = kBegan + 2 * std::chrono::milliseconds(step);
  timeline.open(2, refused);  // tried again: the first end does not count
  timeline.note(2, Moment::end, kBegan + 30ms);
  return timeline;
}

}  // namespace

TEST_CASE("the table has each host's stages, their sum, median and slowest") {
  CHECK(
      timeline_table(example()) ==
      "job job-1: milliseconds of each host in each stage\n"
      "host        wait  resolve    TCP  key exchange  host key  authentication  shell start   push  agent hello  "
      "ready     go  first line     end   total\n"
      "gpu01        1.0      2.0    3.0           4.0       5.0             6.0          7.0    8.0          4.0   "
      "10.0   10.0       100.0  1000.0  1160.0\n"
      "gpu02        2.0        -      -             -         -               -          3.5      -          0.5    "
      "1.0   53.0           -   500.0   560.0\n"
      "gpu03        2.0      2.0    2.0           2.0       2.0            20.0            -      -            -      "
      "-      -           -       -    30.0\n"
      "(median)     2.0      2.0    2.5           3.0       3.5            13.0          5.2    8.0          2.2    "
      "5.5   31.5       100.0   750.0   560.0\n"
      "(slowest)    2.0      2.0    3.0           4.0       5.0            20.0          7.0    8.0          4.0   "
      "10.0   53.0       100.0  1000.0  1160.0\n"
      "(on host)  gpu02    gpu01  gpu01         gpu01     gpu01           gpu03        gpu01  gpu01        gpu01  "
      "gpu01  gpu02       gpu01   gpu01   gpu01\n");
}

TEST_CASE("the trace has a track for each host, and its stages follow each other without a hole") {
  const auto trace = nlohmann::json::parse(timeline_trace(example()));
  CHECK(trace["displayTimeUnit"] == "ms");
  CHECK(trace["traceEvents"][0] == nlohmann::json::parse(R"({"name": "process_name", "ph": "M", "pid": 1, "tid": 0,
                                                             "args": {"name": "llmlaunch job-1"}})"));
  CHECK(trace["traceEvents"][1]["args"]["name"] == "gpu01");
  CHECK(trace["traceEvents"][2] == nlohmann::json::parse(R"({"name": "wait", "cat": "launch", "ph": "X", "ts": 0.0,
                                                             "dur": 1000.0, "pid": 1, "tid": 1})"));
  std::map<int, double> ends;
  std::vector<std::string> silent;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] != "X") continue;
    CHECK(event["ts"].get<double>() == Approx(ends[event["tid"]]));
    ends[event["tid"]] = event["ts"].get<double>() + event["dur"].get<double>();
    if (event["tid"] == 2) silent.push_back(event["name"]);
  }
  CHECK(ends[1] == Approx(1'160'000));
  CHECK(ends[2] == Approx(560'000));
  CHECK(ends[3] == Approx(30'000));
  CHECK(silent == std::vector<std::string>{"wait", "shell start", "agent hello", "ready", "go", "end"});
}

TEST_CASE("a job without any event has its hosts and nothing else") {
  Timeline timeline("job-1", {"a"}, kBegan);
  CHECK(timeline.stages(0).empty());
  timeline.finish(kBegan + 3ms);
  REQUIRE(timeline.stages(0).size() == 1);
  CHECK(timeline_table(Timeline("job-1", {}, kBegan)).find("(median)      -") != std::string::npos);
}

TEST_CASE("the table is beside the trace, whichever of them is named") {
  CHECK(timeline_paths("t.json").trace == "t.json");
  CHECK(timeline_paths("t.json").table == "t.json.txt");
  CHECK(timeline_paths("dir/t.txt").table == "dir/t.txt");
  CHECK(timeline_paths("dir/t.txt").trace == "dir/t.json");
  const auto written = write_timeline("/proc/no/t.json", Timeline("job-1", {}, kBegan));
  REQUIRE_FALSE(written);
  CHECK(written.error().what.find("cannot create /proc/no/t.json.new: ") == 0);
}

}  // namespace launcher_timeline_test
