// What a rank's process is given beside its program: stdin, limits, setup lines, a cgroup. No process and no file.
#include <map>

#include "launcher/agent/job_cgroup.hpp"
#include "launcher/agent/rank_input.hpp"
#include "launcher/agent/rank_limits.hpp"
#include "launcher/agent/setup_script.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_conditions_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using Lines = std::vector<std::string>;

namespace {

Input input_at(std::uint64_t offset, std::string_view text) {
  const ByteView bytes = as_bytes(text);
  return {offset, Bytes(bytes.begin(), bytes.end())};
}

std::string text_of(ByteView bytes) {
  return std::string(as_text(bytes));
}

}  // namespace

TEST_CASE("each reader gets all input at its own pace, and the slowest gives the credit") {
  RankInput input(2);
  REQUIRE(input.add(input_at(0, "abc")));
  CHECK(text_of(input.waiting(0)) == "abc");
  input.took(0, 3);
  CHECK(input.waiting(0).empty());
  CHECK(text_of(input.waiting(1)) == "abc");
  CHECK_FALSE(input.credit());
  input.took(1, 1);
  CHECK_FALSE(input.credit());  // one byte is not worth a frame
  REQUIRE(input.add(input_at(3, "de")));
  CHECK(text_of(input.waiting(0)) == "de");
  CHECK(text_of(input.waiting(1)) == "bcde");
  input.took(0, 2);
  input.took(1, 4);
  CHECK(input.credit()->bytes == 5);
  CHECK_FALSE(input.credit());
  input.tell_again();  // over a new connection
  CHECK(input.credit()->bytes == 5);
}

TEST_CASE("credit comes with every quarter of the window") {
  RankInput input(1);
  REQUIRE(input.add({0, Bytes(kInputWindowBytes)}));
  input.took(0, kInputWindowBytes / 4 - 1);
  CHECK_FALSE(input.credit());
  input.took(0, 1);
  CHECK(input.credit()->bytes == kInputWindowBytes / 4);
}

TEST_CASE("a reader that is gone holds nobody back, and without any the head is told to stop") {
  RankInput input(2);
  REQUIRE(input.add(input_at(0, "abc")));
  input.took(0, 3);
  input.drop(1);
  CHECK(input.credit()->bytes == 3);
  input.drop(0);
  CHECK(input.credit()->bytes == kNobodyReads);
  CHECK_FALSE(input.credit());
  REQUIRE(input.add({3, Bytes(kInputWindowBytes)}));  // on its way already
  REQUIRE(input.add({3 + kInputWindowBytes, Bytes(kInputWindowBytes)}));
  CHECK(input.waiting(0).empty());
}

TEST_CASE("the end of the input is the end for a reader that has all of it") {
  RankInput input(1);
  REQUIRE(input.add(input_at(0, "x")));
  input.end();
  CHECK_FALSE(input.complete(0));
  input.took(0, 1);
  CHECK(input.complete(0));
  CHECK(input.add(input_at(1, "y")).error().what == "input after its end");
}

TEST_CASE("input beyond the window or with a gap breaks the protocol, repeated input does not") {
  RankInput input(1);
  REQUIRE(input.add(input_at(0, "abc")));
  REQUIRE(input.add(input_at(1, "bcd")));
  CHECK(text_of(input.waiting(0)) == "abcd");
  CHECK(input.add(input_at(9, "x")).error().what == "input from byte 9 on, where byte 4 is the next one");
  CHECK(input.add({4, Bytes(kInputWindowBytes)}).error().what == "more input than its window of 65536 bytes");
}

TEST_CASE("soft limits are set and hard ones kept; one above is refused with both values") {
  const std::map<int, rlimit> host = {
      {RLIMIT_NOFILE, {1024, 4096}}, {RLIMIT_CORE, {0, RLIM_INFINITY}}, {RLIMIT_MEMLOCK, {65536, 65536}}};
  const auto limit_of = [&](int resource) { return host.at(resource); };
  RankSettings settings;
  settings.umask = 0777;
  settings.limits = {{"nofile", 4096}, {"core", kUnlimited}};
  const auto limits = check_limits(settings, limit_of);
  REQUIRE(limits);
  REQUIRE(limits->size() == 2);
  CHECK((*limits)[0].resource == RLIMIT_NOFILE);
  CHECK((*limits)[0].value.rlim_cur == 4096);
  CHECK((*limits)[0].value.rlim_max == 4096);
  CHECK((*limits)[1].value.rlim_cur == RLIM_INFINITY);
  settings.limits = {{"nofile", 4097}, {"core", 1}, {"memlock", kUnlimited}};
  const auto refused = check_limits(settings, limit_of);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::out_of_resources);
  CHECK(to_string(refused.error()) ==
        "limit nofile 4097 is above the hard limit there, 4096; limit memlock unlimited is above the hard limit there, "
        "65536\n   hint: lower llmlaunch.limits, or raise it on the host: /etc/security/limits.conf for logins, Limit… "
        "in the unit of its sshd");
  settings.limits = {{"speed", 1}};
  CHECK(check_limits(settings, limit_of).error().what == "no limit has the name 'speed'");
  settings.umask = 01000;
  CHECK(check_limits(settings, limit_of).error().what == "a umask of 512");
}

TEST_CASE("the setup script sets what was configured, marks each line and reports the environment") {
  CHECK(setup_script({"module load cuda", "echo 'a'"}, {{"A", "x'y"}, {"B.C", "no name of a shell"}}) ==
        R"(exec 8<&-
export A='x'\''y'
printf 'line 1\n' >&9
eval 'module load cuda' || exit
printf 'line 2\n' >&9
eval 'echo '\''a'\''' || exit
printf 'env\n' >&9
/usr/bin/env -0 >&9 || exit
)");
}

TEST_CASE("setup lines run in the login shell when it is of the Bourne family") {
  std::string note;
  CHECK(setup_shell({"HOME=/h", "SHELL=/usr/local/bin/zsh"}, note) == "/usr/local/bin/zsh");
  CHECK(setup_shell({"HOME=/h"}, note) == "/bin/sh");
  CHECK(note.empty());
  CHECK(setup_shell({"SHELL=/usr/bin/tcsh"}, note) == "/bin/sh");
  CHECK(note == "setup lines run in /bin/sh: they are written for shells of its family, which '/usr/bin/tcsh' is not");
}

TEST_CASE("the environment after the setup lines is what the report says, but for the shell's own") {
  using namespace std::string_literals;
  SetupReport report({"one", "two"});
  const std::string all = "line 1\nline 2\nenv\nA=1\nenv\n2\0SHLVL=7\0_=/usr/bin/env\0EMPTY=\0"s;
  for (const char c : all) report.add_report(std::string_view(&c, 1));
  const auto environment = report.finish({}, {"SHLVL=1", "PWD=/w", "OLD=gone"}, 1000);
  REQUIRE(environment);
  CHECK(*environment == Lines{"SHLVL=1", "PWD=/w", "A=1\nenv\n2", "EMPTY="});
}

TEST_CASE("noise of setup lines comes in lines and is bounded") {
  SetupReport report({"x"});
  CHECK(report.add_noise("one\r\ntwo\nthr") == Lines{"one", "two"});
  CHECK(report.add_noise("ee\n") == Lines{"three"});
  CHECK(report.add_noise("no newline").empty());
  CHECK(report.end_noise() == Lines{"no newline"});
  CHECK(report.add_noise(std::string(5000, 'x')) == Lines{std::string(kMaxSetupNoiseLineBytes, 'x')});
  std::size_t shown = 5;
  std::string last;
  for (int i = 0; i < 2000; ++i) {
    for (const std::string& line : report.add_noise("more\n")) {
      ++shown;
      last = line;
    }
  }
  CHECK(shown == kMaxSetupNoiseLines + 1);
  CHECK(last == "more than 500 lines: the rest is not shown");
}

TEST_CASE("a setup line that fails is named with its status and its last output, and never with a secret") {
  const auto failure = [](const Lines& lines, std::string_view report, SetupEnd end, std::string_view noise = "") {
    SetupReport setup(lines);
    setup.add_report(report);
    setup.add_noise(noise);
    return to_string(setup.finish(end, {}, 1'500).error());
  };
  const std::string hint =
      "\n   hint: each line runs in the login shell of the host; try it there: ssh to it and type the line";
  CHECK(failure({"true", "module load cuda"}, "line 1\nline 2\n", {false, 1, false}, "no such module\n") ==
        "setup line 2 'module load cuda' failed with status 1\n   the last line that was printed:\n     | no such "
        "module" +
            hint);
  CHECK(failure({"login --token hf_secret"}, "line 1\n", {false, 3, false}) ==
        "setup line 1 'login …' failed with status 3\n   it printed nothing" + hint);
  CHECK(failure({"HF_TOKEN=hf_secret login"}, "line 1\n", {false, 3, false}) ==
        "setup line 1 '…' failed with status 3\n   it printed nothing" + hint);
  CHECK(failure({"sleep 100"}, "line 1\n", {true, 9, true}) ==
        "setup line 1 'sleep 100' did not end within 1.5 s\n   it printed nothing\n"
        "   hint: a slow one may need more: llmlaunch.timeouts.start");
  CHECK(failure({"kill $$"}, "line 1\n", {true, 15, false}) ==
        "setup line 1 'kill $$' was ended by signal 15\n   it printed nothing");
  CHECK(failure({"exit 0"}, "line 1\n", {false, 0, false}) ==
        "setup line 1 'exit 0' ended the shell\n   it printed nothing");
  CHECK(failure({"true"}, "", {false, 127, false}, "a\nb\n") ==
        "the login shell, before the first setup line, failed with status 127\n"
        "   the last lines that were printed:\n     | a\n     | b" +
            hint);
  CHECK(failure({"x"}, std::string(kMaxSetupReportBytes + 1, 'x'), {}) ==
        "the environment after the setup lines has more than 8388608 bytes");
}

TEST_CASE("the own cgroup is found in the version 2 hierarchy, wherever that is mounted") {
  const char* own = "9:name=systemd:/old\n0::/user.slice/me\n";
  CHECK(own_cgroup_directory(own, "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n") ==
        "/sys/fs/cgroup/user.slice/me");
  CHECK(own_cgroup_directory("0::/\n", "30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 none rw\n") ==
        "/sys/fs/cgroup/unified");
  CHECK(own_cgroup_directory(own, "30 23 0:26 /user.slice /mnt rw - cgroup2 cgroup2 rw\n") == "/mnt/me");
  CHECK(own_cgroup_directory(own, "30 23 0:26 /other /mnt rw - cgroup2 cgroup2 rw\n").empty());
  CHECK(own_cgroup_directory(own, "30 23 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n").empty());
  CHECK(own_cgroup_directory("1:cpu:/\n", "30 23 0:26 / /c rw - cgroup2 cgroup2 rw\n").empty());
  CHECK(own_cgroup_directory(own, "cut").empty());
  CHECK(cgroup_name("20260101-1", "user@gpu/../01") == "llmlaunch-20260101-1-user_gpu_.._01");
}

}  // namespace launcher_agent_conditions_test
