// How ranks run, as people write it: limits, umask, cores, stdin, signals, setup lines, variables of single ranks.
#include <fmt/format.h>

#include <csignal>

#include "launcher/config.hpp"
#include "launcher/env_template.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/config_text.hpp"

namespace launcher_config_process_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::testing::message;
using llmlaunch::testing::parsed;
using Names = std::vector<std::string>;

namespace {

/// The message about line 2, "  " + `line`, with the caret in `column`.
std::string about(const std::string& line, std::size_t column, const std::string& what, const std::string& note = "") {
  return fmt::format("cfg.yaml:2:{}: {}\n    2 |   {}\n      | {:{}}^{}{}", column, what, line, "", column - 1,
                     note.empty() ? "" : " ", note);
}

}  // namespace

TEST_CASE("every key about how ranks run is read") {
  const Config config = parsed(
      "llmlaunch:\n"
      "  limits: {nofile: 65536, core: unlimited, memlock: 64M, stack: 8K, nproc: 100}\n"
      "  umask: '027'\n"
      "  cpu_bind: gpu\n"
      "  stdin: 0\n"
      "  forward_signals: [USR2, sighup, RTMIN+1]\n"
      "  setup: ['source ~/venv/bin/activate', module load cuda]\n"
      "  rank_env: {CACHE: '/tmp/{rank}'}\n"
      "  hosts:\n"
      "    - {name: 'a[1-2]', setup: echo one, rank_env: {X: '{host}'}, gpu_ids: 0, slots: 1}\n");
  CHECK(config.process.limits ==
        std::vector<agent::LimitSpec>{
            {"core", agent::kUnlimited}, {"memlock", 64u << 20}, {"nofile", 65'536}, {"nproc", 100}, {"stack", 8'192}});
  CHECK(config.process.umask == 027u);
  CHECK(config.process.cpu_bind == agent::CpuBind::gpu);
  CHECK(config.process.stdin_to == StdinTo::rank_0);
  CHECK(config.process.forward_signals == std::vector<int>{SIGUSR2, SIGHUP, SIGRTMIN + 1});
  CHECK(config.process.setup == Names{"source ~/venv/bin/activate", "module load cuda"});
  CHECK(config.rank_env == EnvList{{"CACHE", "/tmp/{rank}"}});
  REQUIRE(config.hosts.size() == 2);
  CHECK(config.hosts[1].setup == Names{"echo one"});
  CHECK(config.hosts[1].rank_env == EnvList{{"X", "{host}"}});
  CHECK(config.hosts[1].gpu_ids == "0");
}

TEST_CASE("without these keys ranks run as the host has it, and nobody reads stdin") {
  const Config config = parsed("llmlaunch: {hosts: a}");
  CHECK(config.process.limits.empty());
  CHECK_FALSE(config.process.umask.has_value());
  CHECK_FALSE(config.process.cpu_bind.has_value());
  CHECK(config.process.stdin_to == StdinTo::none);
  CHECK(config.process.forward_signals.empty());
  CHECK(config.process.setup.empty());
}

TEST_CASE("values about how ranks run are refused with their place and what they can be") {
  struct Row {
    std::string line;
    std::size_t column;
    std::string what;
    std::string note;
  };
  const std::string numbers = "must be a number, or unlimited, not ";
  const std::string sizes = "must be a number of bytes, one such as 64M, or unlimited, not ";
  const std::vector<Row> rows = {
      {"limits: {nofile: many}", 20, "llmlaunch.limits.nofile " + numbers + "'many'", ""},
      {"limits: {nofile: 64K}", 20, "llmlaunch.limits.nofile " + numbers + "'64K'", ""},
      {"limits: {stack: -1}", 19, "llmlaunch.limits.stack " + sizes + "'-1'", ""},
      {"limits: {stack: 99999999T}", 19, "llmlaunch.limits.stack " + sizes + "'99999999T'", ""},
      {"limits: {nofiles: 1}", 12, "unknown key 'nofiles' in llmlaunch.limits", "did you mean 'nofile'?"},
      {"limits: 5", 11, "llmlaunch.limits must be a mapping of keys to values, not '5'", ""},
      {"umask: 0x1b", 10, "llmlaunch.umask must be octal, such as 022 or 027, not '0x1b'", ""},
      {"umask: 1000", 10, "llmlaunch.umask must be octal, such as 022 or 027, not '1000'", ""},
      {"umask: 028", 10, "llmlaunch.umask must be octal, such as 022 or 027, not '028'", ""},
      {"cpu_bind: socket", 13, "llmlaunch.cpu_bind must be one of none, core, numa, gpu, not 'socket'", ""},
      {"stdin: 1", 10, "llmlaunch.stdin must be one of none, 0, all, not '1'", ""},
      {"forward_signals: [USR1, FOO]", 20, "llmlaunch.forward_signals: 'FOO' is no signal",
       "a name such as USR1, HUP or RTMIN+1; kill -l lists them"},
      {"forward_signals: KILL", 20, "llmlaunch.forward_signals: 'KILL' cannot be forwarded: no program can catch it",
       ""},
      {"rank_env: {A: 'x-{rnk}'}", 17, "llmlaunch.rank_env.A: '{rnk}' stands for nothing",
       "known are {rank}, {local_rank}, {node_rank}, {world_size} and {host}; {{ stands for one brace"},
      {"rank_env: {A: 'x-{rank'}", 17, "llmlaunch.rank_env.A: '{rank' is not closed",
       "known are {rank}, {local_rank}, {node_rank}, {world_size} and {host}; {{ stands for one brace"},
      {"rank_env: {RANK: 5}", 14, "llmlaunch.rank_env.RANK: llmlaunch gives every rank its own RANK", ""},
      {"env: {OMPI_COMM_WORLD_RANK: 5}", 9,
       "llmlaunch.env.OMPI_COMM_WORLD_RANK: llmlaunch gives every rank its own OMPI_COMM_WORLD_RANK", ""},
      {"forward_env: ['!HF_TOKEN']", 16, "llmlaunch.forward_env only takes away, and forwards nothing",
       "what begins with '!' is taken from what the other patterns pick, for example ['*', '!HF_TOKEN']"},
      {"forward_env: ['*', '!']", 16, "llmlaunch.forward_env has a '!' without a name", ""},
  };
  for (const Row& row : rows) {
    INFO(row.line);
    CHECK(message("llmlaunch:\n  " + row.line + "\n") == about(row.line, row.column, row.what, row.note));
  }
}

TEST_CASE("a template of a secret is refused without its text") {
  CHECK(message("llmlaunch:\n  rank_env: {HF_TOKEN: '{hf_secret}'}\n").find("hf_secret") == std::string::npos);
  CHECK(check_template("{hf_secret}", true).error().what == "a brace stands for nothing");
}

TEST_CASE("setup lines have limits") {
  std::string lines;
  for (int i = 0; i < 129; ++i) lines += "    - 'true'\n";
  CHECK(message("llmlaunch:\n  setup:\n" + lines).find("llmlaunch.setup has 129 lines; at most 128 are possible") !=
        std::string::npos);
  CHECK(message("llmlaunch:\n  setup: " + std::string(70'000, 'x') + "\n")
            .find("llmlaunch.setup has a line of 70000 bytes; at most 65536 are possible") != std::string::npos);
}

TEST_CASE("templates put the place of a rank into a text") {
  const RankPlace place{7, 1, 3, 16, "gpu04"};
  for (const auto& [text, expanded] : std::vector<std::pair<const char*, const char*>>{
           {"", ""},
           {"plain", "plain"},
           {"{rank}/{local_rank}/{node_rank}/{world_size}/{host}", "7/1/3/16/gpu04"},
           {"{rank}{rank}", "77"},
           {"{{rank}}", "{rank}"},
           {"{{{rank}}}", "{7}"},
           {"a}b", "a}b"},
           {"a}}b", "a}b"},
           {"{{", "{"}}) {
    INFO(text);
    CHECK(check_template(text, false));
    CHECK(expand_template(text, place) == expanded);
  }
  for (const char* text : {"{", "{}", "{ rank}", "{Rank}", "{rank", "{{{", "x{rank}{y}"}) {
    INFO(text);
    CHECK_FALSE(check_template(text, false));
  }
}

TEST_CASE("signals are known by name, number and place among the real-time ones; what cannot be passed on is refused") {
  const auto number = [](std::string_view text) { return parse_forwarded_signal(text).value(); };
  CHECK(number("USR1") == SIGUSR1);
  CHECK(number("SIGUSR2") == SIGUSR2);
  CHECK(number("hup") == SIGHUP);
  CHECK(number("2") == SIGINT);
  CHECK(number("WINCH") == SIGWINCH);
  CHECK(number("RTMIN") == SIGRTMIN);
  CHECK(number("RTMAX-1") == SIGRTMAX - 1);
  for (const char* text : {"", "0", "-1", "65", "USR", "RTMIN-1", "RTMIN+99", "RTMAX+1", "RTMIN+", "SIG"}) {
    INFO(text);
    CHECK(parse_forwarded_signal(text).error().what == fmt::format("'{}' is no signal", text));
  }
  for (const char* text : {"KILL", "STOP", "TERM", "TSTP", "CONT", "CHLD", "PIPE", "SEGV", "ABRT"}) {
    INFO(text);
    CHECK(parse_forwarded_signal(text).error().what.starts_with(fmt::format("'{}' cannot be forwarded: ", text)));
  }
}

}  // namespace launcher_config_process_test
