// The wizard without its terminal: what it proposes, what it accepts, what comes of it.
#include "cli/options.hpp"
#include "cli/wizard_import.hpp"
#include "cli/wizard_questions.hpp"
#include "tests/support/catch.hpp"

namespace cli_wizard_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using launcher::GpuFacts;
using launcher::HostFacts;
using launcher::HostSurvey;
using launcher::InterfaceFacts;

namespace {

InterfaceFacts interface(const std::string& name, std::uint64_t speed,
                         InterfaceFacts::Kind kind = InterfaceFacts::Kind::device) {
  return {name, true, speed, 1500, kind, {"10.0.0.7/24"}};
}

HostSurvey host(const std::string& name, std::size_t gpus, const std::string& route = "eth0",
                const std::string& capability = "9.0") {
  HostFacts facts;
  facts.gpus.assign(gpus, GpuFacts{"H100", 81559, capability});
  facts.interfaces = {interface(route, 25000), interface("docker0", 100000, InterfaceFacts::Kind::virtual_),
                      interface("lo", 0, InterfaceFacts::Kind::loopback)};
  facts.route_interface = route;
  facts.head = "10.0.0.1";
  return {name, facts, std::nullopt, {}};
}

WizardCore core_with(std::vector<HostSurvey> survey) {
  WizardCore core(HostWorld{});
  std::string names;
  for (const auto& one : survey) names += (names.empty() ? "" : ",") + one.name;
  REQUIRE(core.answer("hosts", names));
  core.set_survey(std::move(survey));
  return core;
}

launcher::Config config_by_proposals(WizardCore& core) {
  for (const auto key : question_keys()) {
    if (key == "hosts" || !core.applies(key)) continue;
    const auto taken = core.answer(key, core.question(key).fallback);
    INFO(key << (taken ? "" : to_string(taken.error())));
    REQUIRE(taken);
  }
  return core.config();
}

}  // namespace

TEST_CASE("the wizard proposes a rank for each GPU, the way of ssh and bf16") {
  WizardCore core = core_with({host("n1", 8), host("n2", 8)});
  CHECK(core.question("slots").fallback_text == "8, one for each GPU");
  CHECK(core.question("interface").fallback == "route");
  CHECK(core.question("mixed_precision").fallback == "bf16");
  REQUIRE(core.question("main_process_ip").choices.size() == 2);
  CHECK(core.question("main_process_ip").choices[1].answer == "10.0.0.1");
  const auto config = config_by_proposals(core);
  CHECK(config.num_processes == 16);
  CHECK(config.distributed_type == "MULTI_GPU");
  CHECK(!config.main_process_ip);
  CHECK(config.env == launcher::EnvList{{"NCCL_SOCKET_IFNAME", "=eth0"}, {"GLOO_SOCKET_IFNAME", "eth0"}});
  CHECK(core.summary() == "2 hosts × 8 = 16 ranks on GPUs, precision: bf16");
}

TEST_CASE("hosts that differ get slots and interfaces of their own") {
  WizardCore core = core_with({host("n1", 8), host("n2", 8), host("n3", 7, "ens3")});
  CHECK(core.question("slots").fallback_text == "n[1-2]=8 n3=7, one for each GPU");
  const auto config = config_by_proposals(core);
  CHECK(config.num_processes == 23);
  CHECK(config.env.empty());
  REQUIRE(config.hosts.size() == 3);
  CHECK(config.hosts[0].env.front() == std::pair<std::string, std::string>{"NCCL_SOCKET_IFNAME", "=eth0"});
  CHECK(config.hosts[2].env.front() == std::pair<std::string, std::string>{"NCCL_SOCKET_IFNAME", "=ens3"});
  CHECK(config.hosts[2].slots == 7);
}

TEST_CASE("a faster interface that all hosts have is proposed, a virtual one never") {
  HostSurvey one = host("n1", 8), two = host("n2", 8);
  one.facts->interfaces.push_back(interface("ib0", 200000));
  two.facts->interfaces.push_back(interface("ib0", 200000));
  CHECK(core_with({one, two}).question("interface").fallback == "ib0");
  two.facts->interfaces.back().up = false;
  CHECK(core_with({one, two}).question("interface").fallback == "route");
}

TEST_CASE("loopback is no way to other hosts") {
  WizardCore core = core_with({host("n1", 0, "eth0"), host("n2", 0, "eth0")});
  HostSurvey one = host("n1", 0), two = host("n2", 0);
  for (HostSurvey* each : {&one, &two}) each->facts->route_interface = "lo";
  core.set_survey({one, two});
  CHECK(core.question("interface").fallback == "auto");
  CHECK(core.answer("interface", "route").error().what == "it is not known which interface leads to the head");
}

TEST_CASE("the precision follows the oldest GPU") {
  CHECK(core_with({host("n1", 2), host("n2", 2, "eth0", "7.5")}).question("mixed_precision").fallback == "fp16");
  CHECK(core_with({host("n1", 2), host("n2", 2, "eth0", "")}).question("mixed_precision").fallback == "fp16");
  CHECK(core_with({host("n1", 0)}).question("mixed_precision").fallback == "no");
}

TEST_CASE("a host that failed may be left out, and is proposed nothing of its own") {
  HostSurvey away{"n2", std::nullopt, make_error(Errc::refused, "refused"), {}};
  WizardCore core = core_with({host("n1", 4), away});
  CHECK(core.question("slots").fallback_text == "4, one for each GPU");
  CHECK(core.question("interface").fallback == "auto");
  core.leave_out_failed();
  CHECK(core.hosts().size() == 1);
  CHECK(!core.applies("interface"));
}

TEST_CASE("answers are checked, and a wrong one changes nothing") {
  WizardCore core = core_with({host("n1", 8), host("n2", 8)});
  const auto what = [&core](std::string_view key, const std::string& text) {
    const auto taken = core.answer(key, text);
    return taken ? std::string("taken") : taken.error().what;
  };
  CHECK(what("port", "70000") == "a port is a number from 1 to 65535, not '70000'");
  CHECK(what("user", "a b") == "'a b' is no user name");
  CHECK(what("slots", "0") == "'0' is no number of ranks: 8, auto, or gpu[01-07]=8 gpu08=4");
  CHECK(what("slots", "n9=1") == "there is no host 'n9' among the hosts");
  CHECK(what("slots", "") == "a number of ranks is missing");
  CHECK(what("mixed_precision", "bf8") == "the precision is no, fp16, bf16 or fp8, not 'bf8'");
  CHECK(what("forward_env", "A=1") == "'A=1' is no name of a variable");
  CHECK(what("log_dir", "") == "the logs need a directory");
  CHECK(what("hosts", "n1,n1") == "host 'n1' is named twice");
  CHECK(core.hosts().size() == 2);
  CHECK(what("slots", "n1=1 n2=3") == "taken");
  CHECK(core.config().num_processes == 4);
}

TEST_CASE("lines of setup keep their semicolons when they come as a list") {
  WizardCore core = core_with({host("n1", 1)});
  REQUIRE(core.answer("setup", "a; b;c"));
  CHECK(core.config().process.setup == std::vector<std::string>{"a", "b", "c"});
  REQUIRE(core.answer("setup", "a; b\nc\n"));
  CHECK(core.config().process.setup == std::vector<std::string>{"a; b", "c"});
}

TEST_CASE("this machine alone is asked no questions of hosts") {
  WizardCore core(HostWorld{});
  REQUIRE(core.answer("hosts", ""));
  for (const char* key : {"user", "port", "identity_file", "main_process_ip", "interface"}) CHECK(!core.applies(key));
  core.set_survey({host("localhost", 2)});
  const auto config = config_by_proposals(core);
  CHECK(config.num_processes == 2);
  CHECK(config.hosts.empty());
  CHECK(config.distributed_type == "MULTI_GPU");
}

TEST_CASE(".deepspeed_env is taken over without its secrets") {
  launcher::Config config;
  std::vector<std::string> notes;
  const std::string text = "# written at each launch\nNCCL_DEBUG=INFO\nHF_TOKEN=sesame\nRANK=3\nNCCL_DEBUG=WARN\nE=\n";
  REQUIRE(import_deepspeed_env(text, ".deepspeed_env", config, notes));
  CHECK(config.env == launcher::EnvList{{"NCCL_DEBUG", "WARN"}, {"E", ""}});
  CHECK(config.forward_env == std::vector<std::string>{"HF_TOKEN"});
  REQUIRE(notes.size() == 2);
  CHECK(notes[0].starts_with(".deepspeed_env:3: the value of HF_TOKEN is not written"));
  CHECK(notes[1] == ".deepspeed_env:4: RANK is left out: llmlaunch sets it for each rank");
  CHECK(import_deepspeed_env("oops\n", "f", config, notes).error().where == "f:1");
}

TEST_CASE("what accelerate ignored in a file is named") {
  const std::string text = "rdzv_backend: c10d\nsame_network: true\nnum_processes: 1\n";
  const auto config = launcher::parse_config(text, "a.yaml");
  REQUIRE(config);
  CHECK(ignored_by_accelerate(*config, text) ==
        std::vector<std::string>{"a.yaml:1:1: accelerate launch never used rdzv_backend from a file",
                                 "a.yaml:2:1: accelerate launch never used same_network from a file"});
}

TEST_CASE("import names what accelerate never used of a section, at its place") {
  const auto ignored = [](const std::string& text) {
    const auto config = launcher::parse_config(text, "a.yaml");
    INFO((config ? "" : to_string(config.error())));
    REQUIRE(config);
    return ignored_by_accelerate(*config, text);
  };
  using Notes = std::vector<std::string>;
  CHECK(
      ignored("distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: 3\n  offload_param_device: nvme\n"
              "  offload_param_nvme_path: /nvme\ndynamo_config: {dynamo_backend: INDUCTOR}\n") ==
      Notes{
          "a.yaml:5:3: accelerate launch never used deepspeed_config.offload_param_nvme_path from a file; llmlaunch "
          "does",
          "a.yaml:6:17: accelerate launch never used dynamo_config.dynamo_backend of a DeepSpeed job; llmlaunch does"});
  CHECK(ignored("mixed_precision: fp8\nfp8_config: {'amax_history_length': 8, fp8_backend: TE}\n") ==
        Notes{"a.yaml:2:14: accelerate launch never used fp8_config.amax_history_length from a file; llmlaunch does"});
  CHECK(ignored("mixed_precision: fp8\nfp8_config: {amax_history_len: 8, backend: TE}\n").empty());
  CHECK(ignored("dynamo_config: {dynamo_backend: INDUCTOR}\n").empty());
}

TEST_CASE("the words of config and env are read") {
  const auto options = [](std::vector<std::string> words) { return parse_options(words); };
  const auto imported = options({"config", "import", "a", "b", "--from", "slurm", "-o", "x"});
  REQUIRE(imported);
  CHECK(imported->action == Options::Action::wizard);
  CHECK(imported->wizard.mode == WizardOptions::Mode::import);
  CHECK(imported->wizard.files == std::vector<std::string>{"a", "b"});
  CHECK(imported->wizard.from == "slurm");
  const auto answers = options({"config", "-y", "--mixed_precision=bf16", "-w", ""});
  REQUIRE(answers);
  CHECK(answers->wizard.answers == std::map<std::string, std::string>{{"hosts", ""}, {"mixed_precision", "bf16"}});
  CHECK(options({"config", "import"}).error().what == "config import: no file given");
  CHECK(options({"config", "update"}).error().what == "config update takes one file");
  CHECK(options({"config", "defualt"}).error().hint == "did you mean 'default'?");
  CHECK(options({"config", "import", "a", "--from", "slurn"}).error().hint == "did you mean 'slurm'?");
  CHECK(options({"config", "--from", "slurm"}).error().what == "--from goes with config import");
  CHECK(options({"config", "-w", "a", "--hostfile", "b"}).error().what == "--hosts and --hostfile exclude each other");
  const auto env = options({"env", "--all", "--json", "-w", "n[1-2]"});
  REQUIRE(env);
  CHECK((env->env.all && env->env.json));
  CHECK(options({"env", "n1"}).error().what == "env: 'n1' is no option");
}

}  // namespace cli_wizard_test
