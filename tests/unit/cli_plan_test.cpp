// From typed words and a file to what is printed by --dry-run: the overlay, the plan as text, this machine's own facts.
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "cli/dry_run.hpp"
#include "cli/head.hpp"
#include "cli/run.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace cli_plan_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using launcher::Config;
using launcher::EnvList;
using launcher::LaunchPlan;
using Words = std::vector<std::string>;

namespace {

/// As `run_command` does it, with a file's text and without its helpers.
Result<Config> overlaid(const std::string& text, Words words, const EnvList& environment = {}) {
  words.insert(words.begin(), "run");
  words.push_back("prog");
  const auto options = parse_options(words);
  REQUIRE(options.has_value());
  auto config = launcher::parse_config(text, "cfg.yaml");
  INFO((config ? "" : to_string(config.error())));
  REQUIRE(config.has_value());
  return with_options(std::move(*config), options->run, environment);
}

Config good(const std::string& text, const Words& words, const EnvList& environment = {}) {
  auto config = overlaid(text, words, environment);
  INFO((config ? "" : to_string(config.error())));
  REQUIRE(config.has_value());
  return std::move(*config);
}

std::string message(const std::string& text, const Words& words, const EnvList& environment = {}) {
  const auto config = overlaid(text, words, environment);
  if (!config) {
    CHECK(config.error().code == Errc::usage);
    return to_string(config.error());
  }
  const auto plan = launcher::make_plan(*config, {{"prog"}, {}}, {"job", environment, "/here"});
  return plan ? "no error" : to_string(plan.error());
}

Error plan_error(const std::string& text, const Words& words) {
  const auto plan = launcher::make_plan(good(text, words), {{"prog"}, {}}, {"job", {}, "/here"});
  REQUIRE_FALSE(plan.has_value());
  return plan.error();
}

std::string described(const Config& config, const launcher::Command& command, const EnvList& environment = {}) {
  const auto plan = launcher::make_plan(config, command, {"20260102-030405-abcd", environment, "/here"});
  INFO((plan ? "" : to_string(plan.error())));
  REQUIRE(plan.has_value());
  return describe_plan(*plan);
}

/// A directory of this test, gone afterwards.
struct TemporaryDirectory : llmlaunch::test::TemporaryDirectory {
  void put(const std::string& name) const {
    std::filesystem::create_directories((path / name).parent_path());
    std::ofstream(path / name) << "x\n";
  }
};

}  // namespace

TEST_CASE("what is typed of the output wins over the file, and ranks that do not exist are refused") {
  const std::string file =
      "llmlaunch:\n  hosts: [a, b]\n  logs: {prefix: '{rank} ', color: never, ranks: 1, fold_lines: true, keep: 3}\n";
  const Config as_file = good(file, {});
  CHECK(as_file.logs.prefix == "{rank} ");
  CHECK(as_file.logs.ranks == std::vector<launcher::RankRange>{{1, 1}});
  CHECK(as_file.logs.fold_lines);
  const Config typed = good(file, {"--prefix", "none", "--color=auto", "--ranks", "0", "--updates-per-second", "9"});
  CHECK(typed.logs.prefix == "none");
  CHECK(typed.logs.color == launcher::ColorWhen::automatic);
  CHECK(typed.logs.ranks == std::vector<launcher::RankRange>{{0, 0}});
  CHECK(typed.logs.updates_per_second == 9);
  CHECK(typed.logs.keep == 3);
  CHECK(message(file, {"--ranks", "0,2"}) == "--ranks: rank 2 does not exist: the job has 2 ranks, 0-1");
  CHECK(plan_error(file, {"--ranks", "0,2"}).code == Errc::usage);
  CHECK(plan_error("llmlaunch:\n  logs: {ranks: 1}\n", {}).code == Errc::invalid_config);
  CHECK(message("llmlaunch:\n  logs: {ranks: 1}\n", {}) ==
        "cfg.yaml:2:17: ranks to be shown: rank 1 does not exist: the job has rank 0 alone");
}

TEST_CASE("what was typed wins over the file") {
  const Config config = good(
      "num_processes: 2\n"
      "llmlaunch:\n"
      "  hosts: [a, {name: b, workdir: /own, env: {X: own, Y: own}}]\n"
      "  env: {X: file}\n"
      "  workdir: /file\n"
      "  log_dir: file-logs\n"
      "  timeouts: {run: 1h}\n",
      {"-n", "6", "--workdir", "/typed", "--log-dir", "typed-logs", "--timeout", "5m", "--env", "X=typed", "--env",
       "X=last"});
  CHECK(config.num_processes == 6u);
  CHECK(config.workdir == "/typed");
  CHECK(config.hosts[1].workdir == std::nullopt);
  CHECK(config.log_dir == "typed-logs");
  CHECK(config.timeouts.run == std::chrono::minutes(5));
  CHECK(config.env.back() == std::pair<std::string, std::string>{"X", "last"});
  CHECK(config.hosts[1].env == EnvList{{"Y", "own"}});
}

TEST_CASE("--hosts names the hosts of the run, and the file still knows them") {
  const std::string file =
      "num_machines: 3\nllmlaunch: {hosts: [a, {name: b, address: 10.0.0.2, port: 2200, slots: 2, user: u}, c]}";
  const Config config = good(file, {"--hosts", "x[1-2],b,me@a"});
  REQUIRE(config.hosts.size() == 4);
  CHECK(config.num_machines == std::nullopt);
  CHECK(config.hosts[0].name == "x1");
  CHECK(config.hosts[0].slots == std::nullopt);
  CHECK(config.hosts[2].name == "b");
  CHECK(config.hosts[2].address == "10.0.0.2");
  CHECK(config.hosts[2].port == 2200);
  CHECK(config.hosts[2].slots == 2u);
  CHECK(config.hosts[2].user == "u");
  CHECK(config.hosts[3].name == "a");
  CHECK(config.hosts[3].user == "me");
  CHECK(good(file, {"--hosts", "me@b"}).hosts[0].user == "me");
  CHECK(message("", {"--hosts", "a,a"}) ==
        "--hosts: host 'a' is listed twice\n   hint: for more ranks on one host set its 'slots'");
  CHECK(message("", {"--hosts", "n[3-1]"}) ==
        "--hosts: bad range '3-1' in 'n[3-1]': it runs backwards\n   n[3-1]\n     ^");
  CHECK(message("", {"--hosts", "a b"}) ==
        "--hosts: blank inside 'a b'\n   a b\n    ^\n   hint: separate hosts by commas");
  CHECK(message("", {"--hosts", " "}) == "--hosts names no host");
}

TEST_CASE("a choice of the file's hosts has the ranks that they have in the file") {
  struct Row {
    const char* file;
    const char* hosts;
    std::uint32_t ranks;
  };
  const Row rows[] = {
      {"num_processes: 4\nmachine_rank: 1\nllmlaunch: {hosts: 'a,b'}", "a", 2},
      {"num_processes: 4\nllmlaunch: {hosts: 'a,b'}", "me@b", 2},
      {"num_processes: 4\nllmlaunch: {hosts: 'a,b'}", "b,a", 4},
      {"num_processes: 8\nllmlaunch: {hosts: [{name: a, slots: 2}, b, c]}", "a,c", 5},
      {"num_processes: 3\nllmlaunch: {hosts: [{name: a, slots: 2}, {name: b, slots: 1}]}", "b", 1},
      {"num_processes: 4\nllmlaunch: {hosts: 'a,b'}", "a,c", 4},  // of a stranger nothing is known
      {"num_processes: 4", "a", 4},
      {"num_processes: 5\nllmlaunch: {hosts: 'a,b'}", "a", 5},  // the file cannot say how many
  };
  for (const Row& row : rows) {
    INFO(row.file << " --hosts " << row.hosts);
    CHECK(good(row.file, {"--hosts", row.hosts}).num_processes == row.ranks);
    CHECK(message(row.file, {"--hosts", row.hosts}) == "no error");
  }
  CHECK(good(rows[0].file, {"--hosts", "a", "-n", "3"}).num_processes == 3u);
  CHECK(good("llmlaunch: {hosts: 'a,b'}", {"--hosts", "a"}).num_processes == std::nullopt);
}

TEST_CASE("--nproc-per-node counts on each host, whatever the file says") {
  const std::string file = "num_processes: 3\nllmlaunch: {hosts: [a, {name: b, slots: 2}]}";
  const Config config = good(file, {"--nproc-per-node", "4"});
  CHECK(config.num_processes == 8u);
  CHECK(config.hosts[0].slots == 4u);
  CHECK(config.hosts[1].slots == 4u);
  CHECK(good("", {"--nproc-per-node", "4"}).num_processes == 4u);
  CHECK(good("", {"--nproc-per-node", "2", "--hosts", "a,b,c"}).num_processes == 6u);
}

TEST_CASE("a number that was typed is blamed by its flag, one of the file by its line") {
  const std::string file = "num_processes: 4\nllmlaunch: {hosts: 'a,b'}";
  CHECK(message(file, {"-n", "5"}) ==
        "--num-processes: num_processes 5 is not divisible by 2 hosts\n   hint: -n is the number of ranks on all hosts "
        "together, for example -n 4");
  CHECK(message(file, {"--hosts", "a,b,c"}) ==
        "cfg.yaml:1:1: num_processes 4 is not divisible by 3 hosts\n   hint: -n is the number of ranks on all hosts "
        "together, for example -n 3");
  CHECK(
      message(file, {"--hosts", "a,b,c,d,e"}) ==
      "cfg.yaml:1:1: num_processes 4 is less than one rank for each of 5 hosts\n   hint: -n is the number of ranks on "
      "all hosts together, for example -n 5");
  CHECK(message("llmlaunch: {hosts: [{name: a, slots: 2}, b]}", {"-n", "2"}) ==
        "--num-processes: num_processes 2 less 2 ranks on hosts with slots leaves 0 for 1 host without slots\n   hint: "
        "-n is the number of ranks on all hosts together, for example -n 3");
  CHECK(
      message("llmlaunch: {hosts: [{name: a, slots: 2}]}", {"-n", "3"}) ==
      "--num-processes: num_processes is 3, but the slots of 1 host add up to 2\n   hint: -n is the number of ranks on "
      "all hosts together, for example -n 2");
  CHECK(message(file, {"--nproc-per-node", "5000"}) ==
        "--nproc-per-node: 5000 ranks on host 'a': at most 4096 are possible");
  CHECK(message(file, {}) == "no error");
}

TEST_CASE("how ranks run is shown where it is not as always, and secrets of setup lines are not") {
  const Config config = good(
      "llmlaunch:\n"
      "  limits: {nofile: 65536, core: unlimited}\n"
      "  umask: '027'\n"
      "  cpu_bind: numa\n"
      "  stdin: all\n"
      "  setup: [module load cuda, export HF_TOKEN=hf_secret]\n",
      {"--stdin", "0", "--cpu-bind", "core"});
  const std::string text = described(config, {{"prog"}, {}});
  CHECK(text.find("limits: core unlimited, nofile 65536\numask: 027\ncpu_bind: core\nstdin: to rank 0\n") != text.npos);
  CHECK(text.find("  setup    'module load cuda'\n  setup    'export HF_TOKEN=********'\n") != text.npos);
}

TEST_CASE("what was typed wins also over what the file says of single ranks") {
  const Config config =
      good("llmlaunch: {rank_env: {X: 'a{rank}', Y: b}, hosts: [{name: a, rank_env: {X: c}}], forward_signals: HUP}",
           {"--env", "X=typed", "--forward-signal", "QUIT"});
  CHECK(config.rank_env == EnvList{{"Y", "b"}});
  CHECK(config.hosts[0].rank_env.empty());
  CHECK(config.process.forward_signals == std::vector<int>{SIGHUP, SIGQUIT});
}

TEST_CASE("--env NAME passes on what is set here, and says when it is not") {
  CHECK(good("", {"--env", "A", "--env", "B"}, {{"A", "a=b\n"}, {"B", ""}}).env == EnvList{{"A", "a=b\n"}, {"B", ""}});
  CHECK(good("", {"--env", "A=x=y", "--env", "B="}).env == EnvList{{"A", "x=y"}, {"B", ""}});
  CHECK(message("", {"--env", "A"}) == "--env A: it is not set here\n   hint: give it a value: --env A=…");
}

TEST_CASE("a plan is printed whole: way, place, environment and command of every rank") {
  const Config config = good(
      "distributed_type: MULTI_GPU\n"
      "mixed_precision: bf16\n"
      "gpu_ids: 0,1\n"
      "main_process_ip: 10.0.0.1\n"
      "main_process_port: 29500\n"
      "llmlaunch:\n"
      "  hosts:\n"
      "    - {name: gpu01, slots: 2, address: 10.0.0.11, user: train, port: 2222}\n"
      "    - {name: gpu02, slots: 1, workdir: /scratch dir}\n"
      "  env: {HF_TOKEN: hf_secret, GREETING: \"it's\"}\n"
      "  workdir: ~/run\n",
      {});
  CHECK(described(config, {{"python", "train.py", "--name=two words"}, {}}) ==
        "plan: 3 ranks on 2 hosts: gpu[01-02]\n"
        "rendezvous: 10.0.0.1, port 29500\n"
        "logs: llmlaunch-logs/20260102-030405-abcd\n"
        "added at the start, on all ranks: MASTER_ADDR MASTER_PORT LLMLAUNCH_RENDEZVOUS LLMLAUNCH_TOKEN\n"
        "and where a terminal shows their lines: LLMLAUNCH_COLUMNS\n"
        "and on each host, where nothing else sets them, by its route here: NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME\n"
        "and their place under the names of torchrun, Horovod and Open MPI: ROLE_*, TORCHELASTIC_*, HOROVOD_*, "
        "OMPI_COMM_WORLD_*\n"
        "\n"
        "host gpu01 (node_rank 0, ranks 0-1)\n"
        "  by       ssh train@10.0.0.11:2222\n"
        "  workdir  ~/run\n"
        "  env      PYTHONUNBUFFERED=1\n"
        "  env      TORCH_NCCL_ASYNC_ERROR_HANDLING=1\n"
        "  env      ROLE_NAME=default\n"
        "  env      ACCELERATE_MIXED_PRECISION=bf16\n"
        "  env      ACCELERATE_USE_CPU=false\n"
        "  env      CUDA_VISIBLE_DEVICES=0,1\n"
        "  env      HF_TOKEN=********\n"
        "  env      GREETING='it'\\''s'\n"
        "  env      WORLD_SIZE=3\n"
        "  env      LOCAL_WORLD_SIZE=2\n"
        "  env      LOCAL_SIZE=2\n"
        "  env      GROUP_RANK=0\n"
        "  env      NODE_RANK=0\n"
        "  env      CROSS_RANK=0\n"
        "  env      GROUP_WORLD_SIZE=2\n"
        "  env      CROSS_SIZE=2\n"
        "  env      LLMLAUNCH_JOB_ID=20260102-030405-abcd\n"
        "  env      LLMLAUNCH_GENERATION=0\n"
        "  env      LLMLAUNCH_RENDEZVOUS_TIMEOUT=300000\n"
        "  env      LLMLAUNCH_HOST=gpu01\n"
        "  env      OMP_NUM_THREADS=(the cores of each rank, unless the host sets it)\n"
        "  rank 0: RANK=0 LOCAL_RANK=0 python train.py '--name=two words'\n"
        "  rank 1: RANK=1 LOCAL_RANK=1 python train.py '--name=two words'\n"
        "\n"
        "host gpu02 (node_rank 1, rank 2)\n"
        "  by       ssh gpu02\n"
        "  workdir  '/scratch dir'\n"
        "  env      PYTHONUNBUFFERED=1\n"
        "  env      TORCH_NCCL_ASYNC_ERROR_HANDLING=1\n"
        "  env      ROLE_NAME=default\n"
        "  env      ACCELERATE_MIXED_PRECISION=bf16\n"
        "  env      ACCELERATE_USE_CPU=false\n"
        "  env      CUDA_VISIBLE_DEVICES=0,1\n"
        "  env      HF_TOKEN=********\n"
        "  env      GREETING='it'\\''s'\n"
        "  env      WORLD_SIZE=3\n"
        "  env      LOCAL_WORLD_SIZE=1\n"
        "  env      LOCAL_SIZE=1\n"
        "  env      GROUP_RANK=1\n"
        "  env      NODE_RANK=1\n"
        "  env      CROSS_RANK=1\n"
        "  env      GROUP_WORLD_SIZE=2\n"
        "  env      CROSS_SIZE=2\n"
        "  env      LLMLAUNCH_JOB_ID=20260102-030405-abcd\n"
        "  env      LLMLAUNCH_GENERATION=0\n"
        "  env      LLMLAUNCH_RENDEZVOUS_TIMEOUT=300000\n"
        "  env      LLMLAUNCH_HOST=gpu02\n"
        "  env      OMP_NUM_THREADS=(the cores of each rank, unless the host sets it)\n"
        "  rank 2: RANK=2 LOCAL_RANK=0 python train.py '--name=two words'\n");
}

TEST_CASE("a plan of the trainer on other machines says that its libraries go with it") {
  const launcher::Command train{{"llmlaunch-train"},
                                launcher::PushedProgram{"llmlaunch-train", "/opt/llmlaunch-train"}};
  const std::string text = described(good("llmlaunch: {hosts: [gpu01]}", {}), train);
  CHECK(text.find("\n  pushed   llmlaunch-train and its libraries (when the host lacks them)\n") != std::string::npos);
}

TEST_CASE("a plan of the trainer on this machine says what is pushed and where it starts") {
  const Config config = good("use_cpu: true", {});
  const launcher::Command train{{"llmlaunch-train"},
                                launcher::PushedProgram{"llmlaunch-train", "/opt/llmlaunch-train"}};
  CHECK(described(config, train) ==
        "plan: 1 rank on 1 host: localhost\n"
        "rendezvous: 127.0.0.1, a free port\n"
        "logs: llmlaunch-logs/20260102-030405-abcd\n"
        "added at the start, on all ranks: MASTER_ADDR MASTER_PORT LLMLAUNCH_RENDEZVOUS LLMLAUNCH_TOKEN\n"
        "and where a terminal shows their lines: LLMLAUNCH_COLUMNS\n"
        "and their place under the names of torchrun, Horovod and Open MPI: ROLE_*, TORCHELASTIC_*, HOROVOD_*, "
        "OMPI_COMM_WORLD_*\n"
        "\n"
        "host localhost (node_rank 0, rank 0)\n"
        "  by       this machine, without ssh\n"
        "  workdir  (the current directory)\n"
        "  pushed   llmlaunch-train (when the host lacks it)\n"
        "  env      PYTHONUNBUFFERED=1\n"
        "  env      TORCH_NCCL_ASYNC_ERROR_HANDLING=1\n"
        "  env      ROLE_NAME=default\n"
        "  env      ACCELERATE_MIXED_PRECISION=no\n"
        "  env      ACCELERATE_USE_CPU=true\n"
        "  env      KMP_BLOCKTIME=1\n"
        "  env      KMP_AFFINITY=granularity=fine,compact,1,0\n"
        "  env      WORLD_SIZE=1\n"
        "  env      LOCAL_WORLD_SIZE=1\n"
        "  env      LOCAL_SIZE=1\n"
        "  env      GROUP_RANK=0\n"
        "  env      NODE_RANK=0\n"
        "  env      CROSS_RANK=0\n"
        "  env      GROUP_WORLD_SIZE=1\n"
        "  env      CROSS_SIZE=1\n"
        "  env      LLMLAUNCH_JOB_ID=20260102-030405-abcd\n"
        "  env      LLMLAUNCH_GENERATION=0\n"
        "  env      LLMLAUNCH_RENDEZVOUS_TIMEOUT=300000\n"
        "  env      LLMLAUNCH_HOST=localhost\n"
        "  env      OMP_NUM_THREADS=(the cores of each rank, unless the host sets it)\n"
        "  rank 0: RANK=0 LOCAL_RANK=0 llmlaunch-train\n");
}

TEST_CASE("a printed plan holds no secret, no endless value and no byte that a terminal obeys") {
  const std::string odd = "\x1b[2J\n";
  const Config config = good("", {"--env", "MY_API_KEY", "--env", "LONG", "--env", "ODD"},
                             {{"MY_API_KEY", "sesame"}, {"LONG", std::string(1000, 'x')}, {"ODD", odd}});
  const std::string text = described(config, {{"prog", odd, "--password", "sesame", "--api-key=sesame"}, {}});
  CHECK(text.find("sesame") == text.npos);
  CHECK(text.find("  env      MY_API_KEY=********\n") != text.npos);
  CHECK(text.find(fmt::format("  env      LONG={:x>160}… (1000 bytes)\n", "")) != text.npos);
  CHECK(text.find("  env      ODD=$'\\x1b[2J\\n'\n") != text.npos);
  CHECK(text.find("prog $'\\x1b[2J\\n' --password '********' '--api-key=********'\n") != text.npos);
  CHECK(text.find('\x1b') == text.npos);
}

TEST_CASE("an IPv6 address and its port are told apart") {
  const std::string text =
      described(good("llmlaunch: {hosts: ['[2001:db8::1]:2222', '2001:db8::2']}", {}), {{"prog"}, {}});
  CHECK(text.find("  by       ssh [2001:db8::1]:2222\n") != text.npos);
  CHECK(text.find("  by       ssh 2001:db8::2\n") != text.npos);
}

TEST_CASE("words are quoted so that a shell gives them back") {
  struct Row {
    const char* word;
    const char* quoted;
  };
  const Row rows[] = {{"plain-1.0_x@y:z/%+,=", "plain-1.0_x@y:z/%+,="},
                      {"", "''"},
                      {"a b", "'a b'"},
                      {"$HOME", "'$HOME'"},
                      {"it's", "'it'\\''s'"},
                      {"*", "'*'"},
                      {"~", "'~'"},
                      {"a\nb", "$'a\\nb'"},
                      {"\t'\\\x01", "$'\\t\\'\\\\\\x01'"},
                      {"gr\u00fcn", "'gr\u00fcn'"}};
  for (const auto& row : rows) CHECK(shell_quoted(row.word) == row.quoted);
}

TEST_CASE("this machine's facts are those that a plan needs") {
  ::setenv("LLMLAUNCH_TEST_FACT", "a=b", 1);
  const auto facts = head_facts();
  REQUIRE(facts.has_value());
  CHECK(std::regex_match(facts->job_id, std::regex("\\d{8}-\\d{6}-[0-9a-f]{8}")));
  CHECK(facts->cwd == std::filesystem::current_path().string());
  CHECK(std::count(facts->addresses.begin(), facts->addresses.end(), "127.0.0.1") == 1);
  const EnvList one{{"LLMLAUNCH_TEST_FACT", "a=b"}};
  CHECK(std::search(facts->environment.begin(), facts->environment.end(), one.begin(), one.end()) !=
        facts->environment.end());
  ::unsetenv("LLMLAUNCH_TEST_FACT");
}

TEST_CASE("the secret of machines that are started one by one is taken out of the environment") {
  ::setenv("LLMLAUNCH_JOIN_TOKEN", "secret", 1);
  CHECK(take_join_token() == "secret");
  CHECK(std::getenv("LLMLAUNCH_JOIN_TOKEN") == nullptr);
  CHECK(take_join_token() == std::nullopt);
  ::setenv("LLMLAUNCH_JOIN_TOKEN", "", 1);
  CHECK(take_join_token() == std::nullopt);
}

TEST_CASE("a program of llmlaunch's own is found, or the places are named that lack it") {
  const TemporaryDirectory directory;
  ::setenv("LLMLAUNCH_LIBEXEC", directory.path.c_str(), 1);
  const auto missing = find_helper("llmlaunch-agent");
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == Errc::not_found);
  CHECK(to_string(missing.error()) ==
        fmt::format("llmlaunch's own program llmlaunch-agent is missing; looked in {}\n"
                    "   hint: install it there, or set LLMLAUNCH_LIBEXEC to the directory that has it",
                    directory.path.string()));
  std::filesystem::create_directory(directory.path / "llmlaunch-agent");
  CHECK_FALSE(find_helper("llmlaunch-agent").has_value());
  directory.put("llmlaunch-train");
  CHECK(find_helper("llmlaunch-train").value() == (directory.path / "llmlaunch-train").string());
  ::unsetenv("LLMLAUNCH_LIBEXEC");
  const std::string own = std::filesystem::read_symlink("/proc/self/exe").filename().string();
  CHECK(find_helper(own).value() == std::filesystem::read_symlink("/proc/self/exe").string());
}

TEST_CASE("accelerate's default file is looked for where accelerate writes it") {
  const TemporaryDirectory home;
  ::unsetenv("HF_HOME");
  ::unsetenv("XDG_CACHE_HOME");
  ::setenv("HOME", home.path.c_str(), 1);
  CHECK(default_config() == std::nullopt);
  home.put(".cache/huggingface/accelerate/default_config.json");
  CHECK(default_config() == (home.path / ".cache/huggingface/accelerate/default_config.json").string());
  home.put(".cache/huggingface/accelerate/default_config.yaml");
  CHECK(default_config() == (home.path / ".cache/huggingface/accelerate/default_config.yaml").string());
  ::setenv("XDG_CACHE_HOME", (home.path / "xdg").c_str(), 1);
  CHECK(default_config() == std::nullopt);
  home.put("xdg/huggingface/accelerate/default_config.yaml");
  CHECK(default_config() == (home.path / "xdg/huggingface/accelerate/default_config.yaml").string());
  ::setenv("HF_HOME", "~/hf", 1);
  CHECK(default_config() == std::nullopt);
  home.put("hf/accelerate/default_config.yml");
  CHECK(default_config() == (home.path / "hf/accelerate/default_config.yml").string());
  CHECK(expand_home("~") == home.path.string());
  CHECK(expand_home("~/x") == (home.path / "x").string());
  CHECK(expand_home("~you/x") == "~you/x");
  CHECK(expand_home("/x/~") == "/x/~");
  CHECK(good("", {"--log-dir", "~/logs"}).log_dir == (home.path / "logs").string());
  ::unsetenv("HF_HOME");
  ::unsetenv("XDG_CACHE_HOME");
  ::unsetenv("HOME");
  const passwd* entry = ::getpwuid(::getuid());
  const std::string of_password_file = entry != nullptr ? entry->pw_dir : "";
  CHECK(expand_home("~/x") == (of_password_file.empty() ? "~/x" : of_password_file + "/x"));
}

TEST_CASE("run takes hosts and slots from a host file") {
  const auto run_with = [](const std::string& config_text, const std::string& hostfile, Words words) {
    words.insert(words.begin(), {"run", "--hostfile", "h"});
    words.push_back("prog");
    launcher::HostSources sources;
    sources.read_file = [hostfile](const std::string&) { return Result<std::string>(hostfile); };
    return with_options(*launcher::parse_config(config_text, "cfg.yaml"), parse_options(words)->run, {}, sources);
  };
  const std::string file = "num_processes: 8\nllmlaunch: {hosts: [{name: a, port: 2222, slots: 8}]}\n";
  const auto config = run_with(file, "a slots=2\nb slots=4\n", {});
  REQUIRE(config.has_value());
  CHECK(config->num_processes == std::nullopt);
  REQUIRE(config->hosts.size() == 2);
  CHECK(config->hosts[0].port == 2222);
  CHECK(config->hosts[0].slots == 2u);
  CHECK(config->hosts[1].slots == 4u);
  const auto plan = launcher::make_plan(*config, {{"prog"}, {}}, {"job", {}, "/here"});
  REQUIRE(plan.has_value());
  CHECK(plan->world_size == 6);
  CHECK(run_with("num_processes: 8\n", "a\nb\n", {})->num_processes == 8u);  // no slots: the total stays, shared out
  CHECK(run_with("", "a\nb\n", {"-n", "4"})->num_processes == 4u);
  CHECK(to_string(run_with("", "# none\n", {}).error()) == "--hostfile names no host");
  CHECK(to_string(run_with("", "a slots=x\n", {}).error()) == "h:1:3: slots must be a number from 1 to 4096, not 'x'");
  const auto slurm = with_options({}, parse_options({"run", "--from", "slurm", "p"})->run,
                                  {{"SLURM_JOB_NODELIST", "n[1-2]"}, {"SLURM_TASKS_PER_NODE", "8,4"}});
  REQUIRE(slurm.has_value());
  CHECK(slurm->hosts[0].slots == 8u);
  CHECK(slurm->hosts[1].slots == 4u);
  CHECK(to_string(with_options({}, parse_options({"run", "--from", "pbs", "p"})->run, {}).error()) ==
        "--from pbs: PBS_NODEFILE is not set\n   hint: this is no PBS job; --hostfile names a file");
  CHECK(to_string(parse_options({"run", "--hosts", "a", "--hostfile", "h", "p"}).error())
            .starts_with("--hosts and --hostfile exclude each other"));
}

TEST_CASE("a thousand hosts that differ in nothing but their name are one block") {
  const std::string file =
      "num_processes: 8000\nllmlaunch:\n  hosts: ['gpu[0001-1000]']\n  env: {HF_TOKEN: hidden}\n"
      "  rank_env: {CACHE: '/tmp/{local_rank}'}\n";
  const std::string text = described(good(file, {}), {{"prog"}, {}});
  CHECK(std::count(text.begin(), text.end(), '\n') < 40);
  CHECK(text.find("\n1000 hosts gpu[0001-1000] (node_rank 0-999, ranks 0-7999, 8 on each)\n  by       ssh {host}\n") !=
        text.npos);
  CHECK(text.find("  local rank 7: CACHE=/tmp/7 RANK='{rank}' LOCAL_RANK=7 prog\n") != text.npos);
  CHECK(text.find("hidden") == text.npos);
  const std::string other =
      described(good("llmlaunch:\n  hosts: ['a[1-3]', {name: b, port: 2200}, 'a[4-5]']\n", {}), {{"prog"}, {}});
  CHECK(other.find("\n3 hosts a[1-3] (node_rank 0-2, ranks 0-2, 1 on each)\n") != other.npos);
  CHECK(other.find("\nhost b (node_rank 3, rank 3)\n") != other.npos);
  CHECK(other.find("\nhost a5 (node_rank 5, rank 5)\n") != other.npos);
}

TEST_CASE("hosts are one block when what is shown of them is the same, and only then") {
  const std::vector<std::pair<const char*, const char*>> rows = {
      {"'a[1-3]'", "3 hosts a[1-3]; "},
      {"a1, {name: a2, address: a1}, {name: a3, address: a1}, {name: a4, address: a1}", "host a1; 3 hosts a[2-4]; "},
      {"{name: a1, address: x}, {name: a2, address: y}, {name: a3, address: y}", "host a1; host a2; host a3; "},
      {"{name: a1, env: {A_TOKEN: x}}, {name: a2, env: {A_TOKEN: y}}, {name: a3, env: {A_TOKEN: z}}",
       "3 hosts a[1-3]; "},
      {"{name: a1, env: {A: x}}, {name: a2, env: {A: y}}, 'a[3-5]'", "host a1; host a2; 3 hosts a[3-5]; "},
      {"{name: a1, rank_env: {A: '{rank}'}}, {name: a2, rank_env: {A: '1'}}, {name: a3, rank_env: {A: '1'}}",
       "host a1; host a2; host a3; "},
      {"{name: a1, rank_env: {A: '{node_rank}'}}, {name: a2, rank_env: {A: '0'}}, {name: a3, rank_env: {A: '0'}}, b",
       "3 hosts a[1-3]; host b; "},
      {"{name: a1, slots: 1}, {name: a2, slots: 2}, {name: a3, slots: 2}, {name: a4, slots: 2}",
       "host a1; 3 hosts a[2-4]; "},
  };
  for (const auto& [hosts, blocks] : rows) {
    std::istringstream text(described(good(fmt::format("llmlaunch: {{hosts: [{}]}}\n", hosts), {}), {{"prog"}, {}}));
    std::string found;
    for (std::string line; std::getline(text, line);)
      if (line.starts_with("host ") || line.find(" hosts ") == 1) found += line.substr(0, line.find(" (")) + "; ";
    CHECK(found == blocks);
  }
}

TEST_CASE("the plan as JSON has every rank, and no secret") {
  const std::string file =
      "num_processes: 4\ngpu_ids: 0,1\nllmlaunch:\n  hosts: [a, b]\n  env: {HF_TOKEN: hidden, X: 'a \"b\"'}\n";
  const auto plan = launcher::make_plan(good(file, {}), {{"prog", "--api_key=hidden"}, {}}, {"job", {}, "/here"});
  REQUIRE(plan.has_value());
  const std::string json = launcher::plan_json(*plan);
  CHECK(json.find("hidden") == json.npos);
  CHECK(json.find("\"X\": \"a \\\"b\\\"\"") != json.npos);
  CHECK(json.find("\"rank\": 3,\n          \"local_rank\": 1") != json.npos);
  CHECK(json.find("\"gpus\": \"0,1\"") != json.npos);
  CHECK(json.ends_with("}\n"));
}

}  // namespace cli_plan_test
