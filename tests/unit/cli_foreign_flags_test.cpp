// Command lines of accelerate launch and torchrun → what llmlaunch makes of them.
#include "cli/foreign_flags.hpp"

#include "cli/python_command.hpp"
#include "cli/run.hpp"
#include "tests/support/catch.hpp"

namespace cli_foreign_flags_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using Words = std::vector<std::string>;

namespace {

RunOptions parsed(Words words) {
  words.insert(words.begin(), "run");
  auto options = parse_options(words);
  INFO((options ? "" : to_string(options.error())));
  REQUIRE(options.has_value());
  return std::move(options->run);
}

/// `included`: the text of each file that the configuration includes.
Result<launcher::Config> config_with(const std::string& text, const RunOptions& options,
                                     const std::string& included = {}) {
  return launcher::parse_config(text, {"cfg.yaml", options.settings, {}, options.overrides},
                                [&](const std::string&) -> Result<std::string> { return included; });
}

std::string message(Words words) {
  words.insert(words.begin(), "run");
  words.push_back("x.py");
  const auto options = parse_options(words);
  if (!options) {
    CHECK(options.error().code == Errc::usage);
    return to_string(options.error());
  }
  const auto config = config_with("", options->run);
  return config ? "no error" : to_string(config.error());
}

/// As run makes it of a file's text.
launcher::Config config_of(const std::string& text, Words words, const std::string& included = {}) {
  words.push_back("x.py");
  const RunOptions options = parsed(std::move(words));
  auto config = config_with(text, options, included);
  INFO((config ? "" : to_string(config.error())));
  REQUIRE(config.has_value());
  auto overlaid = with_options(std::move(*config), options, {});
  INFO((overlaid ? "" : to_string(overlaid.error())));
  REQUIRE(overlaid.has_value());
  return std::move(*overlaid);
}

launcher::Command command_of(const Words& words, const std::string& python = {}) {
  return python_command(parsed(words), python);
}

}  // namespace

TEST_CASE("accelerate's options set the file's keys, in either spelling, and win over the file") {
  const auto config =
      config_of("mixed_precision: fp16\nnum_processes: 2\ndistributed_type: NO\n",
                {"--mixed_precision", "bf16", "--multi-gpu", "--num_processes=8", "--main_process_ip", "10.0.0.1",
                 "--main-process-port=29501", "--gpu_ids", "0,1", "--debug", "--enable_cpu_affinity"});
  CHECK(config.mixed_precision == "bf16");
  CHECK(config.distributed_type == "MULTI_GPU");
  CHECK(config.num_processes == 8u);
  CHECK(config.main_process_ip == "10.0.0.1");
  CHECK(config.main_process_port == 29501);
  CHECK(config.gpu_ids == "0,1");
  CHECK(config.debug);
  CHECK(config.enable_cpu_affinity);
  CHECK(config_of("", {"--cpu"}).use_cpu);
  CHECK(parsed({"--config_file", "a.yaml", "x.py"}).config == "a.yaml");
  CHECK(config_of("", {"--num_cpu_threads_per_process", "4"}).env == launcher::EnvList{{"OMP_NUM_THREADS", "4"}});
}

TEST_CASE("torchrun's options mean what they say") {
  const auto config =
      config_of("", {"--nnodes", "1", "--nproc-per-node=2", "--master-addr", "h1", "--master-port", "123",
                     "--rdzv-conf", "timeout=90", "--shutdown-timeout", "7", "--role", "trainer"});
  CHECK(config.num_machines == 1u);
  CHECK(config.num_processes == 2u);
  CHECK(config.main_process_ip == "h1");
  CHECK(config.main_process_port == 123);
  CHECK(config.timeouts.rendezvous == std::chrono::seconds(90));
  CHECK(config.timeouts.grace == std::chrono::seconds(7));
  CHECK(config.env == launcher::EnvList{{"ROLE_NAME", "trainer"}});
  const auto endpoint = config_of("", {"--rdzv_endpoint", "[::1]:29400"});
  CHECK(endpoint.main_process_ip == "::1");
  CHECK(endpoint.main_process_port == 29400);
  CHECK(config_of("", {"--rdzv-endpoint=h2:1"}).main_process_ip == "h2");
  CHECK(config_of("", {"--rdzv-endpoint=h2"}).main_process_port == 0);
  CHECK(config_of("", {"--rdzv-endpoint=h2", "--nnodes", "2"}).main_process_port == 29400);  // torchrun's
  CHECK(config_of("", {"--rdzv-endpoint=h2", "--nnodes", "2", "--master-port", "7"}).main_process_port == 7);
  const auto bound = config_of("", {"--numa-binding", "node"});
  CHECK(bound.process.cpu_bind == launcher::agent::CpuBind::gpu);
  CHECK(parsed({"--local-ranks-filter", "0,2-3", "x.py"}).local_ranks ==
        std::vector<launcher::RankRange>{{0, 0}, {2, 3}});
}

TEST_CASE("who types an option that torchrun alone has counts ranks as torchrun does") {
  for (const Words& words : {Words{"--nnodes", "1"}, Words{"--node-rank", "0"}, Words{"--master-addr", "h"},
                             Words{"--rdzv-endpoint", "h"}, Words{"--rdzv-id", "x"}, Words{"--standalone"},
                             Words{"--local-addr", "h"}, Words{"--log-line-prefix-template", "x"}, Words{"-r", "0"}}) {
    INFO(words.front());
    Words all = words;
    all.push_back("x.py");
    CHECK(parsed(all).torchrun);
  }
  for (const Words& words : {Words{"--rdzv-backend", "static"}, Words{"--rdzv-conf", "timeout=9"}, Words{"--role", "r"},
                             Words{"--max-restarts", "0"}, Words{"--monitor-interval", "1"}, Words{"--tee", "3"},
                             Words{"--num_machines", "1"}, Words{"--fsdp_version", "2"}}) {
    INFO(words.front());
    Words all = words;
    all.push_back("x.py");
    CHECK_FALSE(parsed(all).torchrun);
  }
}

TEST_CASE("what has no effect is said in one line, and what asks for nothing else is not") {
  const auto notes = [](Words words) {
    words.push_back("x.py");
    return parsed(std::move(words)).notes;
  };
  CHECK(notes({"--max_restarts", "3"}) == Words{"--max_restarts has no effect: a failed rank ends the job"});
  CHECK(notes({"--max-restarts=0", "--tee", "3", "-r0"}).empty());
  CHECK(notes({"-t", "0:3,1:0"}).empty());
  CHECK(notes({"--nnodes", "1:4"}) ==
        Words{"--nnodes 1:4: the job has 4 machines, no more and no fewer; --nnodes N starts it with N"});
  CHECK(notes({"--standalone"}) ==
        Words{"--standalone has no effect: llmlaunch serves a rendezvous of its own for every run"});
  CHECK(notes({"--rdzv_conf", "read_timeout=1,timeout=2"}) ==
        Words{"--rdzv_conf read_timeout has no effect: llmlaunch serves a rendezvous of its own for every run"});
  CHECK(notes({"-r", "3"}).front().starts_with("-r has no effect: every line goes to the run directory"));
  const auto config = config_of("", {"--rdzv_backend", "c10d"});
  CHECK(config.notes ==
        Words{"--rdzv_backend: rdzv_backend 'c10d' has no effect: llmlaunch serves the rendezvous itself"});
}

TEST_CASE("torchrun's command for several machines needs no place, and all that it says counts") {
  const Words words{"--nnodes",        "2",           "--nproc-per-node", "2", "--rdzv-backend", "c10d",
                    "--rdzv-endpoint", "gpu01:29400", "--rdzv-id",        "x"};
  const auto with = [&words](Words more) {
    more.insert(more.begin(), words.begin(), words.end());
    return more;
  };
  const auto config = config_of("", words);
  CHECK(config.num_machines == 2u);
  CHECK(config.num_processes == 4u);
  CHECK(config.main_process_ip == "gpu01");
  CHECK(config.run_id == "x");
  CHECK_FALSE(config.is_host);
  CHECK_FALSE(config.places.contains("machine_rank"));
  CHECK(config.notes.empty());
  CHECK(config_of("", with({"--rdzv-conf", "is_host=True"})).is_host == true);
  CHECK(config_of("", with({"--rdzv-conf=timeout=9,is_host=0"})).is_host == false);
  CHECK(config_of("", with({"--node-rank", "1"})).machine_rank == 1);
  // accelerate writes machine_rank: 0 into every file.
  CHECK_FALSE(config_of("machine_rank: 0\n", words).places.contains("machine_rank"));
  CHECK(config_of("machine_rank: 1\nnum_machines: 2\n", words).places.contains("machine_rank"));
  CHECK(config_of("", with({"--node-rank=0"})).places.contains("machine_rank"));
  CHECK(config_of("", with({"--set", "machine_rank=0"})).places.contains("machine_rank"));
  const std::string includes = "llmlaunch: {include: site.yaml}\n";
  CHECK_FALSE(config_of(includes, words, "machine_rank: 0\n").places.contains("machine_rank"));
  CHECK(config_of(includes, words, "machine_rank: 1\nnum_machines: 2\n").places.contains("machine_rank"));
  const Words fixed{"--num_machines", "2", "--main_process_ip", "gpu01"};
  CHECK(config_of("machine_rank: 0\n", fixed).places.contains("machine_rank"));
  CHECK(config_of(includes, fixed, "machine_rank: 0\n").places.contains("machine_rank"));
  // With hosts one command starts all, and c10d is what does not happen.
  const Words has_no_effect{
      "--rdzv-backend: rdzv_backend 'c10d' has no effect: llmlaunch serves the rendezvous itself"};
  CHECK(config_of("", with({"--hosts", "a,b"})).notes == has_no_effect);
  // On one machine the same words mean less.
  CHECK(config_of("", {"--rdzv_id", "x"}).run_id == "x");
  CHECK(config_of("", {"--rdzv_id", "x"}).notes.empty());
  CHECK(config_of("", {"--rdzv_conf", "is_host=1"}).notes ==
        Words{"--rdzv_conf is_host has no effect: llmlaunch serves a rendezvous of its own for every run"});
  CHECK(message({"--rdzv-conf", "is_host=maybe"}).starts_with("--rdzv-conf must be such as is_host=true"));
}

TEST_CASE("without a file and without a number there is a rank for each GPU of this machine, as accelerate has it") {
  const auto run = [](Words words, const launcher::EnvList& environment, const std::string& file = "") {
    words.push_back("x.py");
    const RunOptions options = parsed(std::move(words));
    auto config = launcher::parse_config("", {file, {}, {}, options.overrides},
                                         [](const std::string&) -> Result<std::string> { return std::string(); });
    REQUIRE(config.has_value());
    auto overlaid = with_options(std::move(*config), options, environment);
    INFO((overlaid ? "" : to_string(overlaid.error())));
    REQUIRE(overlaid.has_value());
    return std::move(*overlaid);
  };
  const auto ranks = [&run](const Words& words, const launcher::EnvList& environment, const std::string& file = "") {
    return run(words, environment, file).num_processes.value_or(0);
  };
  const launcher::EnvList two{{"CUDA_VISIBLE_DEVICES", "0,3"}};
  const auto both = run({}, two);
  CHECK(both.num_processes == 2u);
  CHECK(both.distributed_type == "MULTI_GPU");
  CHECK(both.notes == Words{"no configuration and no number of ranks: 2 ranks, one for each GPU of this machine (-n 1 "
                            "is one rank alone)"});
  CHECK(ranks({"--mixed_precision", "bf16", "--num_machines", "1"}, two) == 2);
  CHECK(ranks({"--gpu_ids", "1,2,5"}, two) == 3);
  CHECK(ranks({"--nproc-per-node", "gpu"}, two) == 2);
  CHECK(ranks({"--nproc-per-node", "auto"}, two) == 2);
  CHECK(ranks({"-n", "1"}, two) == 1);
  CHECK(ranks({"--cpu"}, two) == 0);
  CHECK(ranks({}, two, "cfg.yaml") == 0);
  CHECK(ranks({"--hosts", "a,b"}, two) == 0);
  for (const Words& torchrun : {Words{"--standalone"}, Words{"--nnodes", "1"}, Words{"--master-port=0"}})
    CHECK(ranks(torchrun, two) == 0);  // which is one rank
  for (const std::string none : {"", "-1", "5"}) {
    const auto one = run({}, {{"CUDA_VISIBLE_DEVICES", none}});
    CHECK_FALSE(one.num_processes);
    CHECK(one.distributed_type.empty());
    CHECK(one.notes.empty());
  }
}

TEST_CASE("details of FSDP, DeepSpeed and the like are keys of the file's sections") {
  const RunOptions options =
      parsed({"--use_fsdp", "--fsdp_version=2", "--fsdp-auto-wrap-policy", "NO_WRAP", "--zero_stage", "3",
              "--dynamo_backend", "inductor", "--parallelism_config_tp_size", "2", "--fp8_backend", "TE", "x.py"});
  const auto value = [&](const std::string& key) {
    for (const auto& one : options.overrides)
      if (one.key == key) return one.value;
    return std::string("not there");
  };
  CHECK(value("distributed_type") == "FSDP");
  CHECK(value("fsdp_config.fsdp_version") == "2");
  CHECK(value("fsdp_config.fsdp_auto_wrap_policy") == "NO_WRAP");
  CHECK(value("deepspeed_config.zero_stage") == "3");
  CHECK(value("dynamo_config.dynamo_backend") == "inductor");
  CHECK(value("parallelism_config.parallelism_config_tp_size") == "2");
  CHECK(value("fp8_config.fp8_backend") == "TE");
}

TEST_CASE("wrong values and what cannot be done are refused, by the name that was typed") {
  const std::string lists = "\n   hint: llmlaunch run --help lists the options";
  CHECK(message({"--nnodes", "4:1"}) == "--nnodes must be a number of machines, or MIN:MAX, not '4:1'" + lists);
  CHECK(message({"--tee", "4"}) == "--tee must be 0, 1, 2 or 3, or such as 0:3,1:0, not '4'" + lists);
  CHECK(message({"--max_restarts", "x"}) == "--max_restarts must be a number, not 'x'" + lists);
  CHECK(message({"--mixed_precision", "fp7"}) ==
        "--mixed_precision: mixed_precision must be one of no, fp16, bf16, fp8, not 'fp7'\n"
        "    1 | --mixed_precision fp7\n      |                   ^");
  CHECK(message({"--main_process_port", "70000"}).starts_with("--main_process_port: main_process_port must be"));
  CHECK(message({"--tpu"}) == "--tpu: TPU pods are not supported");
  CHECK(message({"--multi_gpu", "--use_fsdp"}) == "no error");
  CHECK(message({"--use_deepspeed", "--use_fsdp"}) == "--use_deepspeed and --use_fsdp exclude each other" + lists);
  CHECK(message({"--debug=1"}) == "option '--debug' takes no value" + lists);
  CHECK(message({"--nnodes=1", "--nnodes", "2"}) == "option '--nnodes' is given twice" + lists);
  CHECK(message({"--node_rnk", "1"}) == "unknown option '--node-rnk'\n   hint: did you mean '--node-rank'?");
  CHECK(message({"-m", "--no_python"}) == "--module and --no-python exclude each other" + lists);
  CHECK(message({"--json"}).starts_with("--json is for --dry-run"));
}

TEST_CASE("a .py file and a module are run by Python, everything else as it is") {
  using launcher::agent::PythonRuns;
  CHECK(command_of({"train.py", "--lr", "1"}).argv == Words{"python3", "-u", "train.py", "--lr", "1"});
  CHECK(command_of({"train.py"}).python == PythonRuns::script);
  CHECK(command_of({"-m", "pkg.mod", "-v"}).argv == Words{"python3", "-u", "-m", "pkg.mod", "-v"});
  CHECK(command_of({"--module", "pkg.mod"}).python == PythonRuns::module);
  CHECK(command_of({"--no_python", "./train.py"}).argv == Words{"./train.py"});
  CHECK(command_of({"--no_python", "./train.py"}).python == PythonRuns::nothing);
  CHECK(parsed({"--python", "/opt/py", "a.py"}).python == "/opt/py");
  CHECK(command_of({"a.py"}, "/file/python").argv.front() == "/file/python");
  CHECK(command_of({"python", "a.py"}).argv == Words{"python", "a.py"});
  CHECK(command_of({"echo", "a.py"}).python == PythonRuns::nothing);
}

TEST_CASE("ranks for each of this machine's cores or GPUs") {
  const launcher::Config here;
  CHECK(devices_here("gpu", here, {{"CUDA_VISIBLE_DEVICES", "0,3"}}) == 2u);
  CHECK(devices_here("auto", here, {{"CUDA_VISIBLE_DEVICES", "5"}}) == 1u);
  CHECK(devices_here("auto", here, {{"CUDA_VISIBLE_DEVICES", ""}}) == devices_here("cpu", here, {}).value());
  CHECK(devices_here("gpu", here, {{"CUDA_VISIBLE_DEVICES", "-1"}}).error().what ==
        "--nproc-per-node gpu: this machine has no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides them");
  launcher::Config two;
  two.hosts = {launcher::host_named("a"), launcher::host_named("b")};
  CHECK(devices_here("gpu", two, {}).error().what ==
        "--nproc-per-node gpu: what other hosts have is not known before they are reached");
}

TEST_CASE("an option of accelerate for GPUs, without a number, is a rank for each GPU of this machine") {
  const auto ranks = [](const std::string& text, const Words& typed, const launcher::EnvList& environment) {
    Words words = typed;
    words.push_back("x.py");
    const RunOptions options = parsed(std::move(words));
    auto config = config_with(text, options);
    REQUIRE(config.has_value());
    const auto overlaid = with_options(std::move(*config), options, environment);
    if (!overlaid) return to_string(overlaid.error());
    std::string all = std::to_string(overlaid->num_processes.value_or(0));
    for (const std::string& note : overlaid->notes) all += "; " + note;
    return all;
  };
  const launcher::EnvList two{{"CUDA_VISIBLE_DEVICES", "0,3"}};
  for (const std::string option : {"--multi_gpu", "--use_fsdp", "--use-deepspeed", "--use_megatron_lm"})
    CHECK(ranks("", {option}, two) == "2; " + option + ": 2 ranks, one for each GPU of this machine");
  CHECK(ranks("", {"--multi_gpu", "--gpu_ids", "1,2,5"}, two).starts_with("3; "));
  CHECK(ranks("", {"--multi_gpu", "--num_processes", "4"}, two) == "4");
  CHECK(ranks("num_processes: 6", {"--multi_gpu"}, two) == "6");
  CHECK(ranks("", {"--multi_gpu", "--nproc_per_node", "3"}, two) == "3");
  CHECK(ranks("llmlaunch: {hosts: [a, b]}", {"--multi_gpu"}, two) == "0");  // which make_plan refuses
  CHECK(ranks("distributed_type: MULTI_GPU", {}, two) == "0");
  CHECK(ranks("", {"--multi_gpu"}, {{"CUDA_VISIBLE_DEVICES", ""}}) ==
        "--multi_gpu: no number of ranks is given, and this machine has no NVIDIA GPU, or CUDA_VISIBLE_DEVICES hides "
        "them\n   hint: add --num_processes N");
}

TEST_CASE("torchrun's template of a line's beginning is a prefix") {
  const auto prefix = [](Words words) {
    words.push_back("x.py");
    return parsed(std::move(words)).prefix.value_or("none given");
  };
  CHECK(prefix({"--log-line-prefix-template", "[${role_name}${rank}]:"}) == "[default{rank}]:");
  CHECK(prefix({"--log_line_prefix_template=${local_rank} {x} ", "--role", "trainer"}) == "{local_rank} {{x}} ");
  CHECK(prefix({"--log-line-prefix-template", "${role_name} ", "--role", "trainer"}) == "trainer ");
  CHECK(prefix({"--log-line-prefix-template", "a", "--prefix", "{rank}"}) == "{rank}");
  CHECK(message({"--log-line-prefix-template", "${host}"}) ==
        "--log-line-prefix-template must be text with ${rank}, ${local_rank} or ${role_name}, not '${host}'\n"
        "   hint: llmlaunch run --help lists the options");
  CHECK(message({"--print-completion", "bash"}) ==
        "--print-completion: llmlaunch docs completion prints one, for bash, zsh or fish");
}

TEST_CASE("hosts of the run are chosen by name, by place and by GPU") {
  const std::string file =
      "num_processes: 12\nllmlaunch:\n  hosts: ['n[1-3]', {name: g, slots: 3, port: 2200}]\n";  // 3 on each
  const auto names = [&](Words words) {
    std::string all;
    const auto config = config_of(file, std::move(words));
    for (const auto& host : config.hosts) all += host.name + " ";
    return all + std::to_string(config.num_processes.value_or(0));
  };
  CHECK(names({}) == "n1 n2 n3 g 12");
  CHECK(names({"--exclude", "n2"}) == "n1 n3 g 9");
  CHECK(names({"-x", "n[1-2]"}) == "n3 g 6");
  CHECK(names({"--nodes", "2"}) == "n1 n2 6");
  CHECK(names({"--nodes=2-3", "--exclude", "n1"}) == "n3 g 6");
  CHECK(names({"--include", "n[2-3]"}) == "n2 n3 6");
  CHECK(names({"--include", "g:0,2@n1"}) == "n1 g 5");
  const auto chosen = config_of(file, {"--include", "g:0,2"});
  CHECK(chosen.hosts[0].gpu_ids == "0,2");
  CHECK(chosen.hosts[0].slots == 2u);
  CHECK(chosen.hosts[0].port == 2200);
  const auto without = config_of(file, {"--exclude", "g:1"});
  CHECK(without.hosts[3].gpu_ids == "0,2");
  CHECK(without.num_processes == 11u);
}

}  // namespace cli_foreign_flags_test
