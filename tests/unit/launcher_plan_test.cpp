// Who runs what, where, with which environment; and every way in which numbers of a file do not fit together.
#include "launcher/plan.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "tests/support/catch.hpp"
#include "tests/support/config_text.hpp"

namespace launcher_plan_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::testing::parsed;
using Names = std::vector<std::string>;

namespace {

HeadFacts head_with(EnvList environment = {}) {
  return {"20260102-030405-abcd", std::move(environment), "/here"};
}

LaunchPlan planned(const std::string& text, const HeadFacts& head = head_with(),
                   const Command& command = {{"prog"}, {}}) {
  auto plan = make_plan(parsed(text), command, head);
  INFO(text << (plan ? "" : to_string(plan.error())));
  REQUIRE(plan.has_value());
  return std::move(*plan);
}

std::string message(const std::string& text) {
  const auto plan = make_plan(parsed(text), {{"prog"}, {}}, head_with());
  if (plan) return "no error";
  CHECK(plan.error().code == Errc::invalid_config);
  return to_string(plan.error());
}

/// "name=value …", in order, without what other launchers' workers read.
std::string shown(const EnvList& env) {
  std::string text;
  for (const auto& [name, value] : env)
    if (!repeats_place(name)) text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  return text;
}

std::string value(const EnvList& env, std::string_view name) {
  std::string found = "(none)";
  for (const auto& [key, text] : env) {
    if (key != name) continue;
    CHECK(found == "(none)");  // a variable is there once, or programs differ in which one they see
    found = text;
  }
  return found;
}

/// "a:0-7 b:8" from the plan's hosts.
std::string placement(const LaunchPlan& plan) {
  std::string text;
  for (const auto& host : plan.hosts) {
    text += fmt::format("{}{}:{}-{}", text.empty() ? "" : " ", host.name, number(host.ranks.front().rank),
                        number(host.ranks.back().rank));
  }
  return text;
}

}  // namespace

TEST_CASE("a plan without any file is one rank on this machine") {
  const auto plan = make_plan(Config{}, {{"prog", "--flag"}, {}}, head_with({{"PATH", "/bin"}}));
  REQUIRE(plan.has_value());
  CHECK(plan->job_id == "20260102-030405-abcd");
  CHECK(plan->world_size == 1);
  CHECK(plan->argv == Names{"prog", "--flag"});
  CHECK_FALSE(plan->program.has_value());
  CHECK(plan->rendezvous_address.empty());
  CHECK(plan->rendezvous_port == 0);
  CHECK(plan->log_dir == "llmlaunch-logs");
  CHECK(plan->notes.empty());
  REQUIRE(plan->hosts.size() == 1);
  CHECK(plan->hosts[0].name == "localhost");
  CHECK(plan->hosts[0].local);
  CHECK(plan->hosts[0].workdir.empty());
  CHECK(shown(plan->hosts[0].env) ==
        "PYTHONUNBUFFERED=1 TORCH_NCCL_ASYNC_ERROR_HANDLING=1 ROLE_NAME=default ACCELERATE_MIXED_PRECISION=no "
        "ACCELERATE_USE_CPU=false WORLD_SIZE=1 "
        "LOCAL_WORLD_SIZE=1 LOCAL_SIZE=1 GROUP_RANK=0 NODE_RANK=0 CROSS_RANK=0 GROUP_WORLD_SIZE=1 CROSS_SIZE=1 "
        "LLMLAUNCH_JOB_ID=20260102-030405-abcd LLMLAUNCH_GENERATION=0 "
        "LLMLAUNCH_RENDEZVOUS_TIMEOUT=300000 LLMLAUNCH_HOST=localhost");
  REQUIRE(plan->hosts[0].ranks.size() == 1);
  CHECK(shown(plan->hosts[0].ranks[0].env) == "RANK=0 LOCAL_RANK=0");
}

TEST_CASE("ranks are numbered in the order of the hosts, by slots or by an equal share") {
  CHECK(placement(planned("llmlaunch: {hosts: 'b,a'}")) == "b:0-0 a:1-1");
  CHECK(placement(planned("num_processes: 6\nllmlaunch: {hosts: 'c,b,a'}")) == "c:0-1 b:2-3 a:4-5");
  CHECK(placement(planned("llmlaunch: {hosts: [{name: b, slots: 3}, {name: a, slots: 1}]}")) == "b:0-2 a:3-3");
  CHECK(placement(planned("num_processes: 4\nllmlaunch: {hosts: [{name: b, slots: 3}, {name: a, slots: 1}]}")) ==
        "b:0-2 a:3-3");
  CHECK(placement(planned("num_processes: 7\nllmlaunch: {hosts: [{name: b, slots: 3}, a, c]}")) == "b:0-2 a:3-4 c:5-6");
  CHECK(placement(planned("num_processes: 3")) == "localhost:0-2");
  CHECK(placement(planned("num_processes: -1")) == "localhost:0-0");
}

TEST_CASE("every rank and every host knows its place under every launcher's name for it") {
  const LaunchPlan plan = planned("llmlaunch: {hosts: [{name: b, slots: 1}, {name: a, slots: 2}]}");
  CHECK(plan.world_size == 3);
  const HostPlan& host = plan.hosts[1];
  CHECK(number(host.node_rank) == 1);
  CHECK(shown(host.env) ==
        "PYTHONUNBUFFERED=1 TORCH_NCCL_ASYNC_ERROR_HANDLING=1 ROLE_NAME=default ACCELERATE_MIXED_PRECISION=no "
        "ACCELERATE_USE_CPU=false WORLD_SIZE=3 LOCAL_WORLD_SIZE=2 "
        "LOCAL_SIZE=2 GROUP_RANK=1 NODE_RANK=1 CROSS_RANK=1 GROUP_WORLD_SIZE=2 CROSS_SIZE=2 "
        "LLMLAUNCH_JOB_ID=20260102-030405-abcd LLMLAUNCH_GENERATION=0 "
        "LLMLAUNCH_RENDEZVOUS_TIMEOUT=300000 LLMLAUNCH_HOST=a");
  REQUIRE(host.ranks.size() == 2);
  CHECK(host.ranks[0].rank == Rank{1});
  CHECK(host.ranks[1].local_rank == 1);
  CHECK(shown(host.ranks[0].env) == "RANK=1 LOCAL_RANK=0");
  CHECK(shown(host.ranks[1].env) == "RANK=2 LOCAL_RANK=1");
}

TEST_CASE("numbers that do not fit together are refused with their place and the remedy") {
  struct Row {
    const char* text;
    const char* message;
  };
  const Row rows[] = {
      {"num_processes: 7\nllmlaunch: {hosts: 'a,b'}",
       "cfg.yaml:1:1: num_processes 7 is not divisible by 2 hosts\n   hint: set slots for each host, or change "
       "num_processes"},
      {"num_processes: 1\nllmlaunch: {hosts: 'a,b'}",
       "cfg.yaml:1:1: num_processes 1 is less than one rank for each of 2 hosts\n"
       "   hint: it counts the ranks of all hosts together"},
      {"num_processes: 5\nllmlaunch: {hosts: [{name: 'a[1-2]', slots: 2}]}",
       "cfg.yaml:1:1: num_processes is 5, but the slots of 2 hosts add up to 4\n"
       "   hint: set num_processes: 4, or change the slots"},
      {"num_processes: 6\nllmlaunch: {hosts: [{name: a, slots: 1}, b, c]}",
       "cfg.yaml:1:1: num_processes 6 less 1 rank on hosts with slots = 5 is not divisible by 2 hosts without slots\n"
       "   hint: set slots for each host, or change num_processes"},
      {"num_processes: 2\nllmlaunch: {hosts: [{name: a, slots: 4}, b]}",
       "cfg.yaml:1:1: num_processes 2 less 4 ranks on hosts with slots leaves 0 for 1 host without slots\n"
       "   hint: num_processes counts the ranks of all hosts together, those with slots included"},
      {"llmlaunch:\n  hosts:\n    - {name: a, slots: 4}\n    - b\n",
       "cfg.yaml:4:7: host 'b' has no slots, and there is no num_processes to share\n"
       "   hint: set slots for it, or add num_processes"},
      {"distributed_type: MULTI_GPU\nllmlaunch: {hosts: 'a,b'}",
       "cfg.yaml:1:1: distributed_type MULTI_GPU needs num_processes, the ranks on all hosts together\n"
       "   hint: add num_processes, or slots for each host"},
      {"num_machines: 3\nllmlaunch: {hosts: 'a,b'}",
       "cfg.yaml:1:1: num_machines is 3, but 2 hosts are given\n   hint: make them equal, or leave num_machines out"},
      {"num_machines: 3\nllmlaunch: {hosts: a}",
       "cfg.yaml:1:1: num_machines is 3, but 1 host is given\n   hint: make them equal, or leave num_machines out"},
      {"num_machines: 2\n",
       "cfg.yaml:1:1: num_machines is 2, but no hosts are given\n"
       "   hint: list the machines under llmlaunch.hosts, or with --hosts; or start each by itself, with "
       "main_process_ip "
       "(--rdzv-endpoint) for where machine 0 is"},
      {"num_machines: 2\nmain_process_ip: 10.0.0.1\nmachine_rank: 0\nnum_processes: 3",
       "cfg.yaml:4:1: num_processes 3 is not divisible by 2 hosts\n"
       "   hint: set slots for each host, or change num_processes"},
      {"machine_rank: 1\n",
       "cfg.yaml:1:1: machine_rank is 1, but there is only 1 host\n"
       "   hint: leave it out: the order of the hosts is the order of the ranks"},
      {"machine_rank: 2\nllmlaunch: {hosts: 'a,b'}",
       "cfg.yaml:1:1: machine_rank is 2, but there are only 2 hosts\n"
       "   hint: leave it out: the order of the hosts is the order of the ranks"},
      {"num_processes: 4097\n", "cfg.yaml:1:1: 4097 ranks on host 'localhost': at most 4096 are possible"},
      {"num_processes: 266240\nllmlaunch: {hosts: 'a[1-65]'}",
       "cfg.yaml:1:1: 266240 ranks: at most 262144 are possible"},
      {"num_processes: 2147483647\nllmlaunch: {hosts: a}",
       "cfg.yaml:1:1: 2147483647 ranks on host 'a': at most 4096 are possible"},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    CHECK(message(row.text) == row.message);
  }
}

TEST_CASE("a host that is listed twice is refused, also where no file was read") {
  Config config;
  config.hosts = {host_named("a"), host_named("x@a")};
  config.hosts[1].where = "--hosts";
  const auto plan = make_plan(config, {{"prog"}, {}}, head_with());
  REQUIRE_FALSE(plan.has_value());
  CHECK(to_string(plan.error()) ==
        "--hosts: host 'a' is listed twice\n   hint: for more ranks on one host set its 'slots'");
}

TEST_CASE("nothing to run is a wrong command line") {
  const auto plan = make_plan(Config{}, {}, head_with());
  REQUIRE_FALSE(plan.has_value());
  CHECK(plan.error().code == Errc::usage);
  CHECK(to_string(plan.error()) == "no program to run");
}

TEST_CASE("a host's own settings come before those of the ssh section") {
  const LaunchPlan plan = planned(
      "main_process_ip: 10.0.0.1\n"
      "main_process_port: 29500\n"
      "llmlaunch:\n"
      "  hosts:\n"
      "    - a\n"
      "    - {name: b, address: 10.0.0.2, user: u2, port: 2200, identity_file: k2, workdir: /w2}\n"
      "  ssh: {user: u1, port: 22, identity_file: k1, fanout: 3}\n"
      "  workdir: /w1\n"
      "  log_dir: logs\n"
      "  timeouts: {grace: 3}\n");
  CHECK(plan.rendezvous_address == "10.0.0.1");
  CHECK(plan.rendezvous_port == 29500);
  CHECK(plan.ssh.fanout == 3u);
  CHECK(plan.timeouts.grace == std::chrono::seconds(3));
  CHECK(plan.log_dir == "logs");
  const HostPlan& a = plan.hosts[0];
  CHECK((a.address == "a" && a.user == "u1" && a.port == 22 && a.identity_files == Names{"k1"} && a.workdir == "/w1"));
  const HostPlan& b = plan.hosts[1];
  CHECK((b.address == "10.0.0.2" && b.user == "u2" && b.port == 2200 && b.identity_files == Names{"k2"} &&
         b.workdir == "/w2"));
}

TEST_CASE("localhost needs no ssh, unless its entry says how to log in") {
  CHECK(planned("llmlaunch: {hosts: localhost}").hosts[0].local);
  CHECK(planned("llmlaunch: {hosts: localhost, ssh: {user: u, port: 22, identity_file: k}}").hosts[0].local);
  CHECK(planned("llmlaunch: {hosts: [{name: localhost, slots: 2, workdir: /x, env: {A: b}}]}").hosts[0].local);
  for (const char* entry : {"{name: localhost, address: 127.0.0.1}", "{name: localhost, port: 2222}", "me@localhost",
                            "{name: localhost, identity_file: k}", "127.0.0.1", "Localhost"}) {
    INFO(entry);
    CHECK_FALSE(planned(fmt::format("llmlaunch: {{hosts: [{}]}}", entry)).hosts[0].local);
  }
}

TEST_CASE("a working directory below home is one on every host") {
  const auto workdir = [](const char* written, const char* host, EnvList environment) {
    return planned(fmt::format("llmlaunch: {{hosts: {}, workdir: '{}'}}", host, written),
                   head_with(std::move(environment)))
        .hosts[0]
        .workdir;
  };
  CHECK(workdir("~/run", "a", {{"HOME", "/home/me"}}) == "~/run");
  CHECK(workdir("~//run", "a", {}) == "~/run");
  CHECK(workdir("run", "a", {}) == "run");
  CHECK(workdir("~", "a", {{"HOME", "/home/me"}}).empty());
  CHECK(workdir("~/run/x", "localhost", {{"HOME", "/home/me"}}) == "/home/me/run/x");
  CHECK(workdir("~/", "localhost", {{"HOME", "/home/me"}}) == "/home/me");
  CHECK(workdir("~you/run", "a", {{"HOME", "/home/me"}}) == "~you/run");
  CHECK(workdir("/x/~/y", "a", {}) == "/x/~/y");
}

TEST_CASE("a working directory below home is each machine's own where they are started one by one") {
  const auto workdir_of_machine_1 = [](const char* written) {
    const std::string text = fmt::format(
        "num_machines: 2\nnum_processes: 2\nmachine_rank: 0\nmain_process_ip: 10.0.0.1\nllmlaunch: {{workdir: '{}'}}",
        written);
    return planned(text, head_with({{"HOME", "/home/me"}})).hosts[1].workdir;
  };
  CHECK(workdir_of_machine_1("~") == "~");
  CHECK(workdir_of_machine_1("~//run") == "~/run");
  CHECK(workdir_of_machine_1("/data") == "/data");
  CHECK(workdir_of_machine_1("run") == "run");
}

TEST_CASE("OMP_NUM_THREADS is for the agent to choose, unless somebody has said otherwise") {
  const auto chosen = [](const std::string& text, EnvList environment = {}) {
    return planned(text, head_with(std::move(environment))).hosts[0].choose_omp_threads;
  };
  CHECK(chosen("num_processes: 3"));
  CHECK(chosen("llmlaunch: {hosts: a}"));
  CHECK_FALSE(chosen("num_processes: 2\nllmlaunch: {env: {OMP_NUM_THREADS: 5}}"));
  CHECK_FALSE(chosen("llmlaunch: {hosts: [{name: localhost, env: {OMP_NUM_THREADS: 6}}]}"));
  CHECK_FALSE(chosen("llmlaunch: {rank_env: {OMP_NUM_THREADS: '1'}}"));
  CHECK_FALSE(chosen("llmlaunch: {forward_env: OMP_*}", {{"OMP_NUM_THREADS", "7"}}));
}

TEST_CASE("gpu_ids become CUDA_VISIBLE_DEVICES, where there are GPUs to be used") {
  const auto devices = [](const std::string& text) {
    return value(planned(text).hosts[0].env, "CUDA_VISIBLE_DEVICES");
  };
  CHECK(devices("gpu_ids: 1,3") == "1,3");
  CHECK(devices("gpu_ids: [1, 3]") == "1,3");
  CHECK(devices("gpu_ids: all") == "(none)");
  CHECK(devices("debug: false") == "(none)");
  CHECK(devices("gpu_ids: 1,3\nuse_cpu: true") == "(none)");
  CHECK(devices("gpu_ids: 1,3\ndistributed_type: MULTI_CPU") == "(none)");
  CHECK(devices("gpu_ids: 1,3\nllmlaunch: {env: {CUDA_VISIBLE_DEVICES: 7}}") == "7");
  const std::string host = "llmlaunch: {hosts: [{name: a, slots: 2, gpu_ids: '4,5'}]}";
  CHECK(devices("gpu_ids: 1,3\n" + host) == "4,5");
  CHECK(devices("gpu_ids: 1,3\nllmlaunch: {hosts: [{name: a, slots: 2, gpu_ids: all}]}") == "(none)");
  // A GPU job's slots are its GPUs, as under DeepSpeed; `all` says otherwise.
  const std::string slots = "llmlaunch: {hosts: [{name: a, slots: 3}]}";
  for (const char* type : {"MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM"})
    CHECK(devices(fmt::format("distributed_type: {}\n{}", type, slots)) == "0,1,2");
  CHECK(devices(slots) == "(none)");
  CHECK(devices("distributed_type: MULTI_GPU\ngpu_ids: all\n" + slots) == "(none)");
  CHECK(devices("distributed_type: MULTI_GPU\nuse_cpu: true\n" + slots) == "(none)");
}

TEST_CASE("more ranks than GPUs that they see is said aloud") {
  CHECK(planned("num_processes: 3\ngpu_ids: 0,2").notes ==
        Names{"host localhost: 3 ranks see 2 GPUs (CUDA_VISIBLE_DEVICES=0,2); local ranks from 2 on have none of their "
              "own"});
  CHECK(planned("num_processes: 2\ngpu_ids: 0,2").notes.empty());
}

TEST_CASE("each of accelerate's keys about the way between machines has its effect, or is said to have none") {
  const auto notes = [](const std::string& text) {
    const auto config = parse_config(text, "cfg.yaml");
    INFO((config ? "" : to_string(config.error())));
    REQUIRE(config);
    HeadFacts head;
    head.addresses = {"10.0.0.1"};
    const auto plan = make_plan(*config, Command{{"true"}, {}}, head);
    INFO((plan ? "" : to_string(plan.error())));
    REQUIRE(plan);
    return plan->notes;
  };
  using Notes = std::vector<std::string>;
  const std::string two = "num_processes: 2\nllmlaunch: {hosts: [a, b]}\n";
  CHECK(notes("same_network: true\n" + two).empty());
  CHECK(notes("same_network: false\n").empty());  // one machine
  CHECK(notes("same_network: false\n" + two) ==
        Notes{"cfg.yaml:1:1: same_network false has no effect: each host is told the address of this machine that its "
              "ssh connection comes from; main_process_ip names another"});
  CHECK(notes("same_network: false\nmain_process_ip: 10.0.0.1\n" + two) ==
        Notes{"cfg.yaml:1:1: same_network false has no effect: all machines use main_process_ip, wherever they are"});
  CHECK(notes("main_process_port: 0\n" + two).empty());  // a free port, which all hosts are told
  const std::string each = "num_machines: 2\nnum_processes: 2\nmachine_rank: 0\nmain_process_ip: 10.0.0.1\n";
  CHECK(notes(each).empty());
  CHECK(notes("main_process_port: null\n" + each).empty());
  CHECK(
      notes("main_process_port: 0\n" + each) ==
      Notes{"cfg.yaml:1:1: main_process_port 0 is 29500 here: machines that are started one by one cannot learn a free "
            "port"});
  for (const char* backend : {"c10d", "etcd", "etcd-v2"})
    CHECK(notes("rdzv_backend: " + std::string(backend) + "\n" + two) ==
          Notes{"cfg.yaml:1:1: rdzv_backend '" + std::string(backend) +
                "' has no effect: llmlaunch serves the rendezvous itself"});
  CHECK(notes("rdzv_backend: c10d\n" + each).empty());  // which is what happens there
  CHECK(notes("rdzv_backend: etcd\n" + each) ==
        Notes{"cfg.yaml:1:1: rdzv_backend 'etcd' has no effect: llmlaunch serves the rendezvous itself"});
  CHECK(notes("enable_cpu_affinity: true\nllmlaunch: {cpu_bind: gpu}\n").empty());
  CHECK(
      notes(
          "enable_cpu_affinity: true\nllmlaunch: {cpu_bind: core}\ndistributed_type: MULTI_GPU\nnum_processes: 1\n") ==
      Notes{"cfg.yaml:1:1: enable_cpu_affinity has no effect: cpu_bind decides which cores a rank gets "
            "(cfg.yaml:2:13)"});
}

TEST_CASE("cpu_bind comes from its key, or from accelerate's enable_cpu_affinity") {
  const auto bind = [](const std::string& text) { return *planned(text).process.cpu_bind; };
  CHECK(bind("debug: false") == agent::CpuBind::none);
  CHECK(bind("enable_cpu_affinity: true") == agent::CpuBind::gpu);
  CHECK(bind("enable_cpu_affinity: true\nuse_cpu: true") == agent::CpuBind::numa);
  CHECK(bind("enable_cpu_affinity: true\nllmlaunch: {cpu_bind: core}") == agent::CpuBind::core);
  CHECK(value(planned("llmlaunch: {cpu_bind: gpu}").hosts[0].env, "CUDA_DEVICE_ORDER") == "PCI_BUS_ID");
  CHECK(value(planned("llmlaunch: {cpu_bind: core}").hosts[0].env, "CUDA_DEVICE_ORDER") == "(none)");
}

TEST_CASE("workers of other launchers find their place under the names that they read") {
  const LaunchPlan plan = planned("llmlaunch: {hosts: [{name: b, slots: 1}, {name: a, slots: 2}]}");
  const HostPlan& host = plan.hosts[1];
  const RankPlan& rank = host.ranks[1];  // global 2 of 3, local 1 of 2, on host 1 of 2
  struct Row {
    const char* name;
    const char* value;
    bool of_rank;
  };
  const Row rows[] = {// torchrun
                      {"RANK", "2", true},
                      {"LOCAL_RANK", "1", true},
                      {"ROLE_RANK", "2", true},
                      {"ROLE_WORLD_SIZE", "3", false},
                      {"ROLE_NAME", "default", false},
                      {"WORLD_SIZE", "3", false},
                      {"LOCAL_WORLD_SIZE", "2", false},
                      {"GROUP_RANK", "1", false},
                      {"GROUP_WORLD_SIZE", "2", false},
                      {"TORCHELASTIC_RUN_ID", "20260102-030405-abcd", false},
                      {"TORCHELASTIC_RESTART_COUNT", "0", false},
                      {"TORCHELASTIC_MAX_RESTARTS", "0", false},
                      {"TORCHELASTIC_USE_AGENT_STORE", "True", false},
                      {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "1", false},
                      {"PYTHONUNBUFFERED", "1", false},
                      // DeepSpeed, Composer
                      {"LOCAL_SIZE", "2", false},
                      {"CROSS_RANK", "1", false},
                      {"CROSS_SIZE", "2", false},
                      {"NODE_RANK", "1", false},
                      // Horovod
                      {"HOROVOD_RANK", "2", true},
                      {"HOROVOD_SIZE", "3", false},
                      {"HOROVOD_LOCAL_RANK", "1", true},
                      {"HOROVOD_LOCAL_SIZE", "2", false},
                      {"HOROVOD_CROSS_RANK", "1", false},
                      {"HOROVOD_CROSS_SIZE", "2", false},
                      {"HOROVOD_HOSTNAME", "a", false},
                      // Open MPI
                      {"OMPI_COMM_WORLD_RANK", "2", true},
                      {"OMPI_COMM_WORLD_SIZE", "3", false},
                      {"OMPI_COMM_WORLD_LOCAL_RANK", "1", true},
                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "2", false},
                      {"OMPI_COMM_WORLD_NODE_RANK", "1", true},
                      // accelerate
                      {"ACCELERATE_MIXED_PRECISION", "no", false},
                      {"ACCELERATE_USE_CPU", "false", false}};
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(value(row.of_rank ? rank.env : host.env, row.name) == row.value);
    CHECK(value(row.of_rank ? host.env : rank.env, row.name) == "(none)");
  }
}

TEST_CASE("variables of single ranks have the rank's place in their values, and win over the host's") {
  const LaunchPlan plan = planned(
      "llmlaunch:\n"
      "  hosts: [{name: a, slots: 1, env: {C: host}}, {name: b, slots: 2, rank_env: {W: 'own {local_rank}'}}]\n"
      "  rank_env: {C: '/c/{rank}-{host}', W: '{node_rank}/{world_size}', J: '{{\"r\": {rank}}}'}\n");
  CHECK(value(plan.hosts[0].ranks[0].env, "C") == "/c/0-a");
  CHECK(value(plan.hosts[0].ranks[0].env, "W") == "0/3");
  CHECK(value(plan.hosts[1].ranks[1].env, "C") == "/c/2-b");
  CHECK(value(plan.hosts[1].ranks[1].env, "W") == "own 1");
  CHECK(value(plan.hosts[1].ranks[1].env, "J") == "{\"r\": 2}");
}

TEST_CASE("setup lines for all hosts come before a host's own") {
  const LaunchPlan plan = planned("llmlaunch: {setup: one, hosts: [{name: a, setup: [two, three]}, b]}");
  CHECK(plan.hosts[0].setup == Names{"one", "two", "three"});
  CHECK(plan.hosts[1].setup == Names{"one"});
}

TEST_CASE("accelerate's scripts find what its launcher would have set") {
  const EnvList env = planned("mixed_precision: bf16\nuse_cpu: true\ndebug: true").hosts[0].env;
  CHECK(value(env, "ACCELERATE_MIXED_PRECISION") == "bf16");
  CHECK(value(env, "ACCELERATE_USE_CPU") == "true");
  CHECK(value(env, "ACCELERATE_DEBUG_MODE") == "true");
  CHECK(value(planned("distributed_type: MULTI_CPU").hosts[0].env, "ACCELERATE_USE_CPU") == "true");
  CHECK(value(planned("debug: false").hosts[0].env, "ACCELERATE_DEBUG_MODE") == "(none)");
}

TEST_CASE("the later layer of the environment wins, and llmlaunch's own variables always do") {
  const EnvList head{{"A", "head"},         {"B", "head"}, {"C", "head"}, {"RANK", "99"}, {"LLMLAUNCH_TOKEN", "old"},
                     {"MASTER_ADDR", "old"}};
  const LaunchPlan plan = planned(
      "llmlaunch:\n"
      "  hosts: [{name: a, env: {C: host}}, b]\n"
      "  env: {B: all, C: all, PYTHONUNBUFFERED: '0'}\n"
      "  forward_env: ['*']\n",
      head_with(head));
  for (const auto& [name, text] : EnvList{{"A", "head"},
                                          {"B", "all"},
                                          {"C", "host"},
                                          {"PYTHONUNBUFFERED", "0"},
                                          {"RANK", "(none)"},
                                          {"LLMLAUNCH_TOKEN", "(none)"},
                                          {"MASTER_ADDR", "(none)"},
                                          {"WORLD_SIZE", "2"}}) {
    INFO(name);
    CHECK(value(plan.hosts[0].env, name) == text);
  }
  CHECK(value(plan.hosts[1].env, "C") == "all");
  CHECK(plan.notes.empty());
}

TEST_CASE("forward_env picks names and patterns, and says which name is not there") {
  const EnvList head{{"HF_HOME", "/hf"}, {"HF_TOKEN", "hf_secret"}, {"XHF_", "no"},
                     {"hf_low", "no"},   {"WANDB_API_KEY", ""},     {"N1", "1"},
                     {"N2", "2"}};
  const LaunchPlan plan =
      planned("llmlaunch:\n  forward_env: [HF_*, WANDB_API_KEY, 'N[1]', NO_*, AWS_KEY, RANK]\n", head_with(head));
  const EnvList& env = plan.hosts[0].env;
  CHECK(value(env, "HF_HOME") == "/hf");
  CHECK(value(env, "HF_TOKEN") == "hf_secret");
  CHECK(value(env, "WANDB_API_KEY").empty());
  CHECK(value(env, "N1") == "1");
  for (const char* name : {"XHF_", "hf_low", "N2"}) CHECK(value(env, name) == "(none)");
  CHECK(plan.notes == Names{"cfg.yaml:2:3: forward_env names AWS_KEY, which is not set here",
                            "cfg.yaml:2:3: forward_env names RANK, which llmlaunch sets for each rank itself"});
}

TEST_CASE(
    "options of the trainer that stand in the head's environment are those of all ranks, unless they are denied") {
  const EnvList head{{"LLMLAUNCH_TRAIN_SEED", "7"}, {"LLMLAUNCH_TRAIN_BF16", "true"}, {"LLMLAUNCH_LOG_DIR", "logs"}};
  const LaunchPlan plan = planned("llmlaunch:\n  forward_env: [HF_*, '!LLMLAUNCH_TRAIN_B*']\n", head_with(head));
  CHECK(value(plan.hosts[0].env, "LLMLAUNCH_TRAIN_SEED") == "7");
  for (const char* name : {"LLMLAUNCH_TRAIN_BF16", "LLMLAUNCH_LOG_DIR"}) {
    CHECK(value(plan.hosts[0].env, name) == "(none)");
  }
  CHECK(plan.notes.empty());
}

TEST_CASE("what forward_env denies is not forwarded, wherever the denial stands") {
  const EnvList head{{"HF_HOME", "/hf"}, {"HF_TOKEN", "hf_secret"}, {"HF_API_KEY", "k"}, {"A", "1"}};
  const LaunchPlan plan = planned("llmlaunch: {forward_env: ['!HF_TOKEN', 'HF_*', '!*_KEY', A]}", head_with(head));
  CHECK(value(plan.hosts[0].env, "HF_HOME") == "/hf");
  CHECK(value(plan.hosts[0].env, "A") == "1");
  CHECK(value(plan.hosts[0].env, "HF_TOKEN") == "(none)");
  CHECK(value(plan.hosts[0].env, "HF_API_KEY") == "(none)");
  CHECK(plan.notes.empty());
}

TEST_CASE("values reach the plan byte for byte, and never its command line") {
  const std::string odd = "a b\n'\"$(id)\\;\xff\x01";
  Config config;
  config.env = {{"ODD", odd}, {"API_TOKEN", "sesame"}};
  const auto plan = make_plan(config, {{"prog", odd, "", "--x=$HOME"}, {}}, head_with({{"HF_TOKEN", "hf_secret"}}));
  REQUIRE(plan.has_value());
  CHECK(value(plan->hosts[0].env, "ODD") == odd);
  CHECK(value(plan->hosts[0].env, "API_TOKEN") == "sesame");
  CHECK(plan->argv == Names{"prog", odd, "", "--x=$HOME"});
}

TEST_CASE("the built-in trainer is pushed, and its flags stay as they were typed") {
  const Command train{{"llmlaunch-train", "--max_steps", "3"},
                      PushedProgram{"llmlaunch-train", "/opt/llmlaunch-train"}};
  const LaunchPlan plan = planned("debug: false", head_with(), train);
  REQUIRE(plan.program.has_value());
  CHECK(plan.program->name == "llmlaunch-train");
  CHECK(plan.program->local_path == "/opt/llmlaunch-train");
  CHECK(plan.argv == Names{"llmlaunch-train", "--max_steps", "3"});
  // ACCELERATE_USE_CPU tells the trainer, as it tells accelerate's own scripts.
  CHECK(planned("use_cpu: true", head_with(), train).argv == train.argv);
}

TEST_CASE("ranks learn from their environment how long they may take to join") {
  const auto timeout = [](const std::string& text) {
    return value(planned(text).hosts[0].env, "LLMLAUNCH_RENDEZVOUS_TIMEOUT");
  };
  CHECK(timeout("debug: false") == "300000");
  CHECK(timeout("llmlaunch: {timeouts: {rendezvous: 1.5}}") == "1500");
  CHECK(set_by_llmlaunch("LLMLAUNCH_RENDEZVOUS_TIMEOUT"));
}

TEST_CASE("a main_process_ip that is not this machine's is said aloud") {
  HeadFacts head = head_with();
  const auto notes = [&](const std::string& address) {
    return planned("debug: false\nmain_process_ip: '" + address + "'", head).notes;
  };
  CHECK(notes("192.0.2.9").empty());  // nothing is known of this machine
  head.addresses = {"127.0.0.1", "::1", "10.0.0.1", "fd00::1", "fe80::1"};
  CHECK(notes("192.0.2.9") == Names{"cfg.yaml:2:1: main_process_ip 192.0.2.9 is no address of this machine, where the "
                                    "rendezvous is; leave it out, or take one of its own: 10.0.0.1, fd00::1"});
  CHECK(notes("fd00::2").size() == 1);
  for (const char* own : {"10.0.0.1", "127.0.0.1", "127.3.2.1", "::1", "fd00:0::1", "::ffff:10.0.0.1", "fe80::1",
                          "head.cluster", "nohost.invalid"}) {
    INFO(own);
    CHECK(notes(own).empty());
  }
  head.addresses = {"127.0.0.1"};
  CHECK(notes("192.0.2.9") == Names{"cfg.yaml:2:1: main_process_ip 192.0.2.9 is no address of this machine, where the "
                                    "rendezvous is; leave it out"});
}

TEST_CASE("a plan for many hosts has each of them once, in order") {
  const LaunchPlan plan = planned("num_processes: 8192\nllmlaunch: {hosts: 'gpu[0001-1024]'}");
  CHECK(plan.world_size == 8192);
  REQUIRE(plan.hosts.size() == 1024);
  std::uint32_t next = 0;
  for (const auto& host : plan.hosts) {
    REQUIRE(host.name == fmt::format("gpu{:04}", number(host.node_rank) + 1));
    for (const auto& rank : host.ranks) REQUIRE(number(rank.rank) == next++);
  }
  CHECK(next == 8192);
}

}  // namespace launcher_plan_test
