// What is written is what is read: configurations as text, genders files, files of answers.
#include "launcher/config_text.hpp"

#include "launcher/config_answers.hpp"
#include "launcher/genders.hpp"
#include "tests/support/catch.hpp"

namespace launcher_config_text_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

Config again(const Config& config) {
  const std::string text = config_text(config, "a comment\nof two lines");
  const auto read = parse_config(text, "cfg.yaml");
  INFO(text << (read ? "" : to_string(read.error())));
  REQUIRE(read);
  return *read;
}

Config whole() {
  Config config;
  config.distributed_type = "MULTI_GPU";
  config.mixed_precision = "no";
  config.num_machines = 4;
  config.num_processes = 20;
  config.main_process_ip = "10.0.0.1";
  config.main_process_port = 29500;
  for (const char* name : {"gpu01", "gpu02", "gpu03", "fd00::7"}) config.hosts.push_back(host_named(name));
  config.hosts[3] = host_named("[fd00::7]:2222");
  for (auto& host : config.hosts) host.slots = 6;
  config.hosts[2].slots = 2;
  config.hosts[2].env = {{"NCCL_SOCKET_IFNAME", "=ens3"}};
  config.hosts[0].address = "10.0.0.2";
  config.ssh.user = "train";
  config.ssh.identity_files = {"~/.ssh/big"};
  config.env = {{"A", "1"},
                {"B", "yes"},
                {"C", "line\nwith \"quotes\", # and \\ and \t and ü"},
                {"D", ""},
                {"E", "$$ ${HOME} $(x) $1"}};
  config.forward_env = {"HF_*", "!HF_TOKEN"};
  config.process.setup = {"source ~/venv/bin/activate", "echo 'a: b' $$ ${HOME}"};
  config.workdir = "~/run dir";
  config.log_dir = "/var/tmp/logs";
  config.groups = {{"gpu", "gpu[01-03]"}};
  config.rendezvous_via = RendezvousWay::ssh;
  config.use_agent_store = false;
  config.store_allow_from = {"10.1.0.0/16", "fd00::/64"};
  return config;
}

}  // namespace

TEST_CASE("a configuration that is written is read as the same") {
  const Config wanted = whole(), read = again(wanted);
  CHECK(read.distributed_type == wanted.distributed_type);
  CHECK(read.mixed_precision == "no");
  CHECK(read.num_processes == 20);
  CHECK(read.main_process_ip == "10.0.0.1");
  CHECK(read.main_process_port == 29500);
  CHECK(read.rendezvous_via == RendezvousWay::ssh);
  CHECK_FALSE(read.use_agent_store);
  CHECK(read.store_allow_from == wanted.store_allow_from);
  REQUIRE(read.hosts.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(read.hosts[i].name == wanted.hosts[i].name);
    CHECK(read.hosts[i].slots == wanted.hosts[i].slots);
    CHECK(read.hosts[i].address == wanted.hosts[i].address);
    CHECK(read.hosts[i].env == wanted.hosts[i].env);
  }
  CHECK(read.ssh.user == "train");
  CHECK(read.ssh.identity_files == wanted.ssh.identity_files);
  CHECK(read.env == wanted.env);
  CHECK(read.forward_env == wanted.forward_env);
  CHECK(read.process.setup == wanted.process.setup);
  CHECK(read.workdir == wanted.workdir);
  CHECK(read.log_dir == wanted.log_dir);
  CHECK(read.groups == wanted.groups);
}

TEST_CASE("hosts that are told the same are one range") {
  Config config;
  config.num_machines = 3;
  for (const char* name : {"n1", "n2", "n3"}) config.hosts.push_back(host_named(name));
  CHECK(llmlaunch_section(config) == "llmlaunch:\n  hosts:\n    - \"n[1-3]\"\n");
  config.hosts[1].slots = 2;
  CHECK(llmlaunch_section(config) == "llmlaunch:\n  hosts:\n    - n1\n    - {name: n2, slots: 2}\n    - n3\n");
  CHECK(llmlaunch_section(Config{}).empty());
}

TEST_CASE("a text that YAML would take for something else is quoted") {
  CHECK(config_scalar("gpu01") == "gpu01");
  CHECK(config_scalar("~/run") == "~/run");
  for (const char* text : {"no", "Yes", "null", "8", "1e3", "", "a: b", "*x", "-", "@a", "0x10", "~"})
    CHECK(config_scalar(text).front() == '"');
  CHECK(config_scalar("a\x01") == "\"a\\x01\"");
}

TEST_CASE("a genders file gives hosts in their order and a group for each attribute") {
  const std::string text = "# cluster\nlogin\nn[1-3]  gpu,rack=r1 # the old ones\nn4 gpu,rack=r2,serial=%n\nn1 spare\n";
  CHECK(looks_like_genders(text));
  const auto read = parse_genders(text, "genders");
  REQUIRE(read);
  std::vector<std::string> names;
  for (const auto& host : read->hosts) names.push_back(host.name);
  CHECK(names == std::vector<std::string>{"login", "n1", "n2", "n3", "n4"});
  CHECK(read->groups == std::map<std::string, std::string, std::less<>>{
                            {"gpu", "n[1-4]"}, {"rack-r1", "n[1-3]"}, {"rack-r2", "n4"}, {"spare", "n1"}});
  const auto wrong = parse_genders("n1 a\nn[1-\n", "genders");
  REQUIRE(!wrong);
  CHECK(wrong.error().where == "genders:2");
  CHECK(parse_genders("n1 a b\n", "genders").error().what == "'a b' has a blank in it");
}

TEST_CASE("host files are not taken for genders") {
  for (const char* text :
       {"n1 slots=8\nn2 slots=8\n", "n1\nn2\n", "n1 8\nn2 8\n", "n1:8\n", "n1 slots=8 max_slots=9\n"})
    CHECK(!looks_like_genders(text));
}

TEST_CASE("answers are a flat mapping") {
  const auto read = parse_answers("hosts: [n1, n2]\nslots: 8\n", "a.yaml");
  REQUIRE(read);
  REQUIRE(read->size() == 2);
  CHECK((*read)[0].value == "n1\nn2\n");
  CHECK((*read)[1].value == "8");
  CHECK((*read)[1].where == "a.yaml:2:1");
  CHECK(parse_answers("hosts: {a: b}\n", "a.yaml").error().where == "a.yaml:1:8");
  CHECK(parse_answers("- a\n", "a.yaml").error().code == Errc::invalid_config);
}

}  // namespace launcher_config_text_test
