#include "launcher/config.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "launcher/config_yaml.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/config_text.hpp"

namespace launcher_config_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::testing::message;

namespace {

struct Row {
  std::string text;
  std::string message;
};

void check_messages(const std::vector<Row>& rows) {
  for (const auto& row : rows) {
    INFO(row.text);
    CHECK(message(row.text) == row.message);
  }
}

}  // namespace

TEST_CASE("accelerate's own keys mean what they mean to accelerate") {
  const auto config = parse_config(
      "compute_environment: LOCAL_MACHINE\n"
      "distributed_type: MULTI_GPU\n"
      "mixed_precision: bf16\n"
      "use_cpu: false\n"
      "debug: true\n"
      "num_processes: 16\n"
      "num_machines: 2\n"
      "machine_rank: 1\n"
      "gpu_ids: 0, 1,2\n"
      "main_process_ip: 10.0.0.1\n"
      "main_process_port: 29501\n",
      "cfg.yaml");
  REQUIRE(config.has_value());
  CHECK(config->distributed_type == "MULTI_GPU");
  CHECK(config->mixed_precision == "bf16");
  CHECK(config->debug);
  CHECK_FALSE(config->use_cpu);
  CHECK(config->num_processes == 16u);
  CHECK(config->num_machines == 2u);
  CHECK(config->machine_rank == 1u);
  CHECK(config->gpu_ids == "0,1,2");
  CHECK(config->main_process_ip == "10.0.0.1");
  CHECK(config->main_process_port == 29501);
  CHECK(config->places.at("num_processes").text == "cfg.yaml:6:1");
}

TEST_CASE("every key of accelerate's file is known") {
  const auto config = parse_config(
      "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: null\nuse_cpu: false\ndebug: "
      "false\n"
      "num_processes: -1\nnum_machines: 1\nmachine_rank: 0\ngpu_ids: null\nmain_process_ip: null\nmain_process_port: "
      "null\n"
      "rdzv_backend: static\nsame_network: false\nmain_training_function: main\nenable_cpu_affinity: false\n"
      "downcast_bf16: 'no'\nfp8_config: {}\ndeepspeed_config: {}\nfsdp_config: {}\nparallelism_config: {}\n"
      "megatron_lm_config: {}\nmpirun_config: {}\ndynamo_config: {}\ntpu_name: null\ntpu_zone: null\ncommand_file: "
      "null\n"
      "commands: null\ntpu_vm: null\ntpu_env: []\ntpu_use_cluster: false\ntpu_use_sudo: false\nfp16: false\n"
      "dynamo_backend: 'NO'\n",
      "cfg.yaml");
  REQUIRE(config.has_value());
  CHECK_FALSE(config->num_processes.has_value());
  CHECK_FALSE(config->gpu_ids.has_value());
  CHECK(config->main_process_port == 0);
  CHECK(config->mixed_precision == "no");
  CHECK(config->notes.empty());
}

TEST_CASE("what a run would lack in silence is said aloud") {
  const auto config = parse_config(
      "distributed_type: FSDP\nfsdp_config:\n  fsdp_version: 2\nrdzv_backend: c10d\nenable_cpu_affinity: true\n"
      "num_machines: 2\nmachine_rank: 1\ndynamo_backend: inductor\ntpu_name: x\ntpu_env: [a]\ncommands: []\n",
      "cfg.yaml");
  REQUIRE(config.has_value());
  CHECK(config->notes ==
        std::vector<std::string>{
            "cfg.yaml:4:1: rdzv_backend 'c10d' has no effect: llmlaunch serves the rendezvous itself",
            "cfg.yaml:7:1: machine_rank 1 has no effect: the order of the hosts is the order of the ranks",
            "cfg.yaml:9:1: tpu_name has no effect: it is for TPU pods",
            "cfg.yaml:10:1: tpu_env has no effect: it is for TPU pods"});
}

TEST_CASE("older and looser spellings are understood") {
  CHECK(parse_config("fp16: true", "c")->mixed_precision == "fp16");
  CHECK(parse_config("fp16: true\nmixed_precision: bf16", "c")->mixed_precision == "bf16");
  CHECK(parse_config("mixed_precision: no", "c")->mixed_precision == "no");
  CHECK(parse_config("mixed_precision: false", "c")->mixed_precision == "no");
  CHECK(parse_config("distributed_type: NO", "c")->distributed_type == "NO");
  CHECK(parse_config("gpu_ids: [0, 1]", "c")->gpu_ids == "0,1");
  CHECK(parse_config("gpu_ids: 3", "c")->gpu_ids == "3");
  CHECK(parse_config("main_process_ip: ''", "c")->main_process_ip == std::nullopt);
  CHECK(parse_config("main_process_ip: fe80::1%eth0", "c")->main_process_ip == "fe80::1%eth0");
  CHECK(parse_config("use_cpu: yes", "c")->use_cpu);
  CHECK(parse_config("", "c")->hosts.empty());
  CHECK(parse_config("# nothing\n", "c")->hosts.empty());
  CHECK(parse_config("\xef\xbb\xbfnum_processes: 2\r\ndebug: true\r\n", "c")->num_processes == 2u);
  CHECK(parse_config("...\n", "c")->hosts.empty());
  CHECK(parse_config("%YAML 1.2\n---\nnum_processes: 2\n...\n", "c")->num_processes == 2u);
  CHECK(parse_config("num_processes: 2", "c")->num_processes == 2u);
  CHECK(parse_config("num_processes: 2   \n\n\n", "c")->num_processes == 2u);
  CHECK(parse_config("llmlaunch: {workdir: /x y}", "c")->workdir == "/x y");
  CHECK(parse_config("llmlaunch:\n  workdir: |\n    a\n    b", "c")->workdir == "a\nb\n");
  CHECK(parse_config("llmlaunch:\n  workdir: |+\n    a\n\n", "c")->workdir == "a\n\n");
  CHECK(parse_config("{\"distributed_type\": \"NO\", \"num_processes\": 2}", "c.json")->num_processes == 2u);
}

TEST_CASE("an unknown key is shown with its line and what was meant") {
  check_messages({
      {"distributed_type: 'NO'\nnum_machine: 8\n",
       "cfg.yaml:2:1: unknown key 'num_machine'\n    2 | num_machine: 8\n      | ^ did you mean 'num_machines'?"},
      {"llmlaunh: {}\n",
       "cfg.yaml:1:1: unknown key 'llmlaunh'\n    1 | llmlaunh: {}\n      | ^ did you mean 'llmlaunch'?"},
      {"debug: true\nnum_machines:2\n",
       "cfg.yaml:2:1: unknown key 'num_machines:2'\n    2 | num_machines:2\n"
       "      | ^ a blank is missing behind 'num_machines:'"},
      {"API_KEY: sesame\n",
       "cfg.yaml:1:1: unknown key 'API_KEY'\n    1 | API_KEY: …\n      | ^ llmlaunch docs reference lists the keys"},
      {"completely_else: 1\n",
       "cfg.yaml:1:1: unknown key 'completely_else'\n    1 | completely_else: 1\n      | ^ llmlaunch docs reference "
       "lists the keys"},
      {"llmlaunch:\n  hsots: [a]\n",
       "cfg.yaml:2:3: unknown key 'hsots' in llmlaunch\n    2 |   hsots: [a]\n      |   ^ did you mean 'hosts'?"},
      {"llmlaunch:\n  ssh: {user: ü, prot: 22}\n",
       "cfg.yaml:2:18: unknown key 'prot' in llmlaunch.ssh\n    2 |   ssh: {user: ü, prot: 22}\n"
       "      |                  ^ did you mean 'port'?"},
      {"llmlaunch:\n  hosts:\n    - {name: a, slot: 2}\n",
       "cfg.yaml:3:17: unknown key 'slot' in llmlaunch.hosts[0]\n    3 |     - {name: a, slot: 2}\n"
       "      |                 ^ did you mean 'slots'?"},
      {"llmlaunch:\n  timeouts: {conect: 1}\n",
       "cfg.yaml:2:14: unknown key 'conect' in llmlaunch.timeouts\n    2 |   timeouts: {conect: 1}\n"
       "      |              ^ did you mean 'connect'?"},
  });
}

TEST_CASE("a value of the wrong type or range is shown where it stands") {
  check_messages({
      {"num_processes: eight\n",
       "cfg.yaml:1:16: num_processes must be a whole number from 1 to 2147483647, not 'eight'\n"
       "    1 | num_processes: eight\n      |                ^"},
      {"num_processes: 0\n",
       "cfg.yaml:1:16: num_processes must be a whole number from 1 to 2147483647, not '0'\n"
       "    1 | num_processes: 0\n      |                ^"},
      {"num_processes: 010\n",
       "cfg.yaml:1:16: num_processes must be a whole number from 1 to 2147483647, not '010'\n"
       "    1 | num_processes: 010\n      |                ^"},
      {"num_processes: 8.0\n",
       "cfg.yaml:1:16: num_processes must be a whole number from 1 to 2147483647, not '8.0'\n"
       "    1 | num_processes: 8.0\n      |                ^"},
      {"num_processes: [8]\n",
       "cfg.yaml:1:16: num_processes must be a whole number from 1 to 2147483647, not a list\n"
       "    1 | num_processes: [8]\n      |                ^"},
      {"main_process_port: 65536\n",
       "cfg.yaml:1:20: main_process_port must be a whole number from 0 to 65535, not '65536'\n"
       "    1 | main_process_port: 65536\n      |                    ^"},
      {"use_cpu: maybe\n",
       "cfg.yaml:1:10: use_cpu must be true or false, not 'maybe'\n    1 | use_cpu: maybe\n      |          ^"},
      {"mixed_precision: fp32\n",
       "cfg.yaml:1:18: mixed_precision must be one of no, fp16, bf16, fp8, not 'fp32'\n"
       "    1 | mixed_precision: fp32\n      |                  ^"},
      {"distributed_type: MULTIGPU\n",
       "cfg.yaml:1:19: unknown distributed_type 'MULTIGPU'\n    1 | distributed_type: MULTIGPU\n"
       "      |                   ^ did you mean 'MULTI_GPU'?"},
      {"distributed_type: XLA\n",
       "cfg.yaml:1:19: distributed_type XLA is not supported: TPU pods have a launcher of their own\n    1 | "
       "distributed_type: XLA\n      |                   ^ supported are NO, MULTI_CPU, MULTI_GPU, DEEPSPEED, FSDP, "
       "MEGATRON_LM"},
      {"ec2_instance_type: x\ncompute_environment: AMAZON_SAGEMAKER\n",
       "cfg.yaml:2:22: a SageMaker configuration: llmlaunch starts jobs on machines that it reaches by ssh\n"
       "    2 | compute_environment: AMAZON_SAGEMAKER\n      |                      ^"},
      {"main_process_ip: root@10.0.0.1\n",
       "cfg.yaml:1:18: main_process_ip must be an address or a host name, not 'root@10.0.0.1'\n"
       "    1 | main_process_ip: root@10.0.0.1\n      |                  ^ a user belongs to llmlaunch.ssh.user"},
      {"num_machines: 2\nmachine_rank: 2\n",
       "cfg.yaml:2:15: machine_rank 2 with num_machines 2\n    2 | machine_rank: 2\n      |               ^ it must be "
       "0 … 1"},
      {"gpu_ids: 0;1\n",
       "cfg.yaml:1:10: gpu_ids must be 'all' or a list like 0,1,2, not '0;1'\n    1 | gpu_ids: 0;1\n      |          "
       "^"},
      {"fsdp_config: 3\n",
       "cfg.yaml:1:14: fsdp_config must be a mapping of keys to values, not '3'\n    1 | fsdp_config: 3\n      |       "
       "       ^"},
      {"- a\n- b\n",
       "cfg.yaml:1:1: the file must hold a mapping of keys to values, not a list\n    1 | - a\n      | ^"},
      {"hello\n", "cfg.yaml: the file must hold a mapping of keys to values, not a text"},
      {"API_KEY=sesame\n", "cfg.yaml: the file must hold a mapping of keys to values, not a text"},
      {"llmlaunch: 3\n",
       "cfg.yaml:1:12: llmlaunch must be a mapping of keys to values, not '3'\n    1 | llmlaunch: 3\n      |           "
       " ^"},
  });
}

TEST_CASE("what yaml-cpp would pass over or say in its own way has the same form") {
  check_messages({
      {"num_machines: 1\ndebug: false\nnum_machines: 2\n",
       "cfg.yaml:3:1: key 'num_machines' is given twice\n    3 | num_machines: 2\n      | ^ first on line 1"},
      {"fsdp_config: {a: 1, \"a\": 2}\n",
       "cfg.yaml:1:21: key 'a' is given twice\n    1 | fsdp_config: {a: 1, \"a\": 2}\n      |                     ^ "
       "first on line 1"},
      {"llmlaunch:\n\tworkdir: x\n",
       "cfg.yaml:2:1: a tab in the indentation\n    2 |  workdir: x\n      | ^ YAML indents by spaces"},
      {"a: [1, 2\n", "cfg.yaml:1:4: a '[' without ']'\n    1 | a: [1, 2\n      |    ^"},
      {"llmlaunch:\n  env: {A: b, C: d\n\n",
       "cfg.yaml:2:8: a '{' without '}'\n    2 |   env: {A: b, C: d\n      |        ^"},
      {"debug: false\n use_cpu: true\n",
       "cfg.yaml:2:9: not valid YAML: illegal map value\n    2 |  use_cpu: true\n"
       "      |         ^ is this line indented further than the one above it by mistake?"},
      {"debug: true\n---\ndebug: false\n",
       "cfg.yaml:2:1: a second document; one file holds one configuration\n    2 | ---\n      | ^"},
      {"debug: !!python/object:os.system x\n",
       "cfg.yaml:1:8: the tag 'tag:yaml.org,2002:python/object:os.system' is not supported; write the plain value\n"
       "    1 | debug: !!python/object:os.system x\n      |        ^"},
      {"? [a]\n: 1\n", "cfg.yaml:1:3: a key must be a plain text\n    1 | ? [a]\n      |   ^"},
      {"debug: *nothing\n",
       "cfg.yaml:1:8: not valid YAML: the referenced anchor is not defined\n    1 | debug: *nothing\n"
       "      |        ^ a text that begins with '*' or '&' needs quotes"},
      {"llmlaunch:\n  forward_env: [*]\n",
       "cfg.yaml:2:18: not valid YAML: alias not found after *\n    2 |   forward_env: [*]\n"
       "      |                  ^ a text that begins with '*' or '&' needs quotes"},
      {"llmlaunch:\n  hosts: [gpu[01-02], login]\n",
       "cfg.yaml:2:14: not valid YAML: end of sequence flow not found\n    2 |   hosts: [gpu[01-02], login]\n"
       "      |              ^ inside a list, a name with brackets needs quotes: ['gpu[01-16]']"},
      {"llmlaunch:\n  workdir: @x\n",
       "cfg.yaml:2:12: not valid YAML: unknown token\n    2 |   workdir: @x\n"
       "      |            ^ a text that begins with '@', '%' or '`' needs quotes"},
      {"debug: true\ngpu_ids: \"0,1\nuse_cpu: true\n",
       "cfg.yaml:2:1: a text in quotes that begins here has no closing quote\n    2 | gpu_ids: \"0,1\n      | ^"},
      {"gpu_ids: '0,1\nuse_cpu: true",
       "cfg.yaml:1:1: a text in quotes that begins here has no closing quote\n    1 | gpu_ids: '0,1\n      | ^"},
      {"llmlaunch:\n  env:\n    HF_TOKEN: \"hf_secret\n    B: c\n",
       "cfg.yaml:3:5: a text in quotes that begins here has no closing quote\n    3 |     HF_TOKEN: …\n      |     ^"},
      {"num_machines:2\ndebug: true\n",
       "cfg.yaml:2:6: not valid YAML: illegal map value\n    2 | debug: true\n"
       "      |      ^ is a blank missing behind the ':' of the line before?"},
      {"debug: true\rnum_processes: 2\r",
       "cfg.yaml:1:26: not valid YAML: illegal map value\n    1 | debug: true num_processes: 2\n"
       "      |                          ^ a key begins a line of its own; a text with ': ' in it needs quotes"},
      {"a: &a {b: *a}\n",
       "cfg.yaml:1:11: an alias inside the value that it names\n    1 | a: &a {b: *a}\n      |           ^"},
      {"<<: 3\n", "cfg.yaml:1:5: '<<' needs a mapping to take keys from\n    1 | <<: 3\n      |     ^"},
      {std::string("debug: tr\0ue\n", 13),
       "cfg.yaml: this is no text file: it has a zero byte\n   hint: see cfg.yaml:1:10"},
      {"debug: true\nuse_cpu: \xff\n",
       "cfg.yaml: this is not UTF-8 text\n   hint: the first wrong byte is at cfg.yaml:2:10"},
  });
}

TEST_CASE("a file that is too large, too deep or multiplies itself is refused") {
  CHECK(message(fmt::format("#{:x>{}}", "", kMaxConfigBytes)) ==
        "cfg.yaml: the file has 4194305 bytes; at most 4194304 are read");
  const std::string deep = fmt::format("commands: {:[>40}{:]>40}", "", "");
  CHECK(message(deep) ==
        fmt::format("cfg.yaml:1:42: nested deeper than 32 levels\n    1 | {}\n      | {:41}^", deep, ""));
  CHECK(message(fmt::format("commands: {:[>1000000}", "")).find("nested deeper than 32 levels\n") != std::string::npos);
  std::string laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 9; ++i) {
    laughs +=
        fmt::format("a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]\n", i, i - 1);
  }
  CHECK(message(laughs) ==
        "cfg.yaml:6:20: more than 500000 keys and values\n"
        "    6 | a5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]\n      |                    ^");
  std::string aliases = "commands: [&a x";
  for (int i = 0; i < 1001; ++i) aliases += ", *a";
  CHECK(message(aliases + "]").find("cfg.yaml:1:4018: more than 1000 aliases\n") == 0);
  // Each anchor keeps a copy of what is inside it, so that 30 of them around a long list are 30 long lists.
  std::string kept = "commands: ";
  for (int i = 0; i < 30; ++i) kept += fmt::format("&a{} [", i);
  for (int i = 0; i < 20'000; ++i) kept += "x,";
  CHECK(message(kept + std::string(30, ']')).find("more than 500000 keys and values") != std::string::npos);
}

TEST_CASE("a long line is cut around the caret and secrets are not shown") {
  const std::string filler(300, 'y');
  CHECK(message(fmt::format("num_processes: x{}\n", filler)) ==
        fmt::format("cfg.yaml:1:16: num_processes must be a whole number from 1 to 2147483647, not 'x{:y>59}…'\n"
                    "    1 | num_processes: x{:y>84}…\n      |                ^",
                    "", ""));
  CHECK(message(fmt::format("llmlaunch: {{env: {{A: {}}}, hots: [a]}}\n", filler)) ==
        fmt::format("cfg.yaml:1:325: unknown key 'hots' in llmlaunch\n    1 | …{:y>47}}}, hots: [a]}}\n"
                    "      | {:51}^ did you mean 'hosts'?",
                    "", ""));
  CHECK(message("llmlaunch:\n  env: {HF_TOKEN: hf_secret, HF_TOKEN: hf_other}\n") ==
        "cfg.yaml:2:30: key 'HF_TOKEN' is given twice\n    2 |   env: {HF_TOKEN: …\n      |                    ^ first "
        "on line 2");
}

TEST_CASE("aliases and merged keys work") {
  const auto config = parse_config(
      "llmlaunch:\n"
      "  hosts:\n"
      "    - &big {name: a, port: 2222, slots: 8}\n"
      "    - {<<: *big, name: b}\n"
      "    - {<<: [{port: 1}, *big], name: c, slots: 2}\n",
      "cfg.yaml");
  REQUIRE(config.has_value());
  REQUIRE(config->hosts.size() == 3);
  CHECK(config->hosts[1].name == "b");
  CHECK(config->hosts[1].port == 2222);
  CHECK(config->hosts[1].slots == 8u);
  CHECK(config->hosts[2].port == 1);
  CHECK(config->hosts[2].slots == 2u);
}

TEST_CASE("every example below configs/ loads") {
  std::set<std::string> names;
  const std::filesystem::path top = LLMLAUNCH_CONFIGS;
  for (const auto& file : std::filesystem::recursive_directory_iterator(top)) {
    if (!file.is_regular_file() || file.path().filename() == "REFERENCE.md")
      continue;  // tells of keys, is no file of them
    const auto config = load_config(file.path().string());
    INFO(file.path().string() << (config ? "" : to_string(config.error())));
    CHECK(config.has_value());
    names.insert(file.path().lexically_relative(top).string());
  }
  CHECK(names == std::set<std::string>{"accelerate/default_config.json", "accelerate/fsdp.yaml",
                                       "accelerate/multi_gpu_two_machines.yaml", "eight_gpus_two_hosts.yaml",
                                       "local.yaml", "one_by_one.yaml", "two_hosts.yaml", "unequal_slots.yaml"});
}

TEST_CASE("a file that cannot be read is named with the reason") {
  const auto missing = load_config("/no/such/config.yaml");
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == Errc::not_found);
  CHECK(to_string(missing.error()) == "/no/such/config.yaml: cannot read the configuration: No such file or directory");
  const auto directory = load_config("/");
  REQUIRE_FALSE(directory.has_value());
  CHECK(directory.error().code == Errc::io);
  CHECK(to_string(directory.error()) == "/: cannot read the configuration: Is a directory");
  const auto endless = load_config("/dev/zero");
  REQUIRE_FALSE(endless.has_value());
  CHECK(to_string(endless.error()) == "/dev/zero: the file is larger than 4194304 bytes");
}

}  // namespace launcher_config_test
