// The mapping `llmlaunch:`: hosts, ssh, environment, timeouts.
#include <fmt/format.h>

#include "launcher/config.hpp"
#include "launcher/hostlist.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/config_text.hpp"

namespace launcher_config_section_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::testing::message;
using llmlaunch::testing::parsed;
using namespace std::chrono_literals;
using Names = std::vector<std::string>;

namespace {

/// A message about the third line of a file.
struct Row {
  std::string line;
  std::size_t column;
  std::string what;
  std::string note;
};

void check_third_line(const std::string& first_two, const std::vector<Row>& rows) {
  for (const auto& row : rows) {
    INFO(row.line);
    CHECK(message(first_two + row.line + "\n") == fmt::format("cfg.yaml:3:{}: {}\n    3 | {}\n      | {:{}}^{}{}",
                                                              row.column, row.what, row.line, "", row.column - 1,
                                                              row.note.empty() ? "" : " ", row.note));
  }
}

Names names_of(const Config& config) {
  Names names;
  for (const auto& host : config.hosts) names.push_back(host.name);
  return names;
}

}  // namespace

TEST_CASE("every key below llmlaunch is read") {
  const Config config = parsed(
      "llmlaunch:\n"
      "  hosts: [a]\n"
      "  ssh:\n"
      "    user: train\n"
      "    port: 2222\n"
      "    identity_file: ~/.ssh/one\n"
      "    identity_files: [two, three]\n"
      "    config_file: none\n"
      "    known_hosts_file: k1\n"
      "    known_hosts_files: [k2]\n"
      "    host_key_policy: accept-new\n"
      "    use_agent: false\n"
      "    fanout: 8\n"
      "  env: {NCCL_DEBUG: INFO}\n"
      "  forward_env: [HF_*, WANDB_API_KEY]\n"
      "  workdir: /data/run\n"
      "  log_dir: logs\n"
      "  rendezvous: {via: ssh, use_agent_store: false, allow_from: [10.1.0.0/16, fd00::7]}\n"
      "  timeouts: {connect: 5, start: 90s, rendezvous: 2m, grace: 0, head: 1500ms, run: 2h}\n");
  CHECK(names_of(config) == Names{"a"});
  CHECK(config.hosts[0].where == "cfg.yaml:2:11");
  CHECK(config.ssh.user == "train");
  CHECK(config.ssh.port == 2222);
  CHECK(config.ssh.identity_files == Names{"~/.ssh/one", "two", "three"});
  CHECK(config.ssh.config_file == "none");
  CHECK(config.ssh.known_hosts_files == Names{"k1", "k2"});
  CHECK(config.ssh.host_key_policy == HostKeyPolicy::accept_new);
  CHECK_FALSE(config.ssh.use_agent);
  CHECK(config.ssh.fanout == 8u);
  CHECK(config.env == EnvList{{"NCCL_DEBUG", "INFO"}});
  CHECK(config.forward_env == Names{"HF_*", "WANDB_API_KEY"});
  CHECK(config.workdir == "/data/run");
  CHECK(config.log_dir == "logs");
  CHECK(config.rendezvous_via == RendezvousWay::ssh);
  CHECK_FALSE(config.use_agent_store);
  CHECK(config.store_allow_from == Names{"10.1.0.0/16", "fd00::7"});
  CHECK(config.timeouts.connect == 5s);
  CHECK(config.timeouts.start == 90s);
  CHECK(config.timeouts.rendezvous == 2min);
  CHECK(config.timeouts.grace == 0s);
  CHECK(config.timeouts.head == 1500ms);
  CHECK(config.timeouts.run == std::chrono::milliseconds(2h));
  CHECK(config.places.at("llmlaunch.forward_env").text == "cfg.yaml:15:3");
}

TEST_CASE("an empty section leaves the defaults") {
  for (const char* text :
       {"llmlaunch:\n", "llmlaunch: {}\n", "llmlaunch:\n  ssh:\n  env:\n  timeouts:\n  forward_env:\n"}) {
    const Config config = parsed(text);
    CHECK(config.hosts.empty());
    CHECK(config.env.empty());
    CHECK(config.forward_env.empty());
    CHECK(config.log_dir == "llmlaunch-logs");
    CHECK(config.ssh.use_agent);
    CHECK(config.rendezvous_via == RendezvousWay::direct);
    CHECK(config.use_agent_store);
    CHECK(config.ssh.fanout == std::nullopt);
    CHECK(config.ssh.host_key_policy == std::nullopt);
    CHECK(config.timeouts.connect == 10s);
    CHECK(config.timeouts.run == std::nullopt);
  }
}

TEST_CASE("hosts are one text, a list, or mappings, in the order written") {
  CHECK(names_of(parsed("llmlaunch: {hosts: 'gpu[01-03],login'}")) == Names{"gpu01", "gpu02", "gpu03", "login"});
  CHECK(names_of(parsed("llmlaunch:\n  hosts: gpu[9-11]\n")) == Names{"gpu9", "gpu10", "gpu11"});
  const Config config = parsed(
      "llmlaunch:\n"
      "  hosts:\n"
      "    - b\n"
      "    - me@a\n"
      "    - name: big[1-2]\n"
      "      address: 10.0.0.[8-9]\n"
      "      user: train\n"
      "      port: 2222\n"
      "      slots: 8\n"
      "      identity_file: key\n"
      "      workdir: /scratch\n"
      "      env: {X: '1'}\n"
      "    - {host: c}\n"
      "    - '[2001:db8::1]:2200'\n");
  REQUIRE(names_of(config) == Names{"b", "a", "big1", "big2", "c", "2001:db8::1"});
  CHECK(config.hosts[0].user == std::nullopt);
  CHECK(config.hosts[1].user == "me");
  CHECK(config.hosts[5].port == 2200);
  for (const std::size_t i : {2u, 3u}) {
    const HostConfig& host = config.hosts[i];
    CHECK(host.address == (i == 2 ? "10.0.0.8" : "10.0.0.9"));
    CHECK(host.user == "train");
    CHECK(host.port == 2222);
    CHECK(host.slots == 8u);
    CHECK(host.identity_files == Names{"key"});
    CHECK(host.workdir == "/scratch");
    CHECK(host.env == EnvList{{"X", "1"}});
    CHECK(host.where == "cfg.yaml:5:7");
  }
}

TEST_CASE("a host that is wrong is shown where it stands") {
  check_third_line(
      "llmlaunch:\n  hosts:\n",
      {
          {"    - gpu[3-1]", 7, "bad range '3-1' in 'gpu[3-1]': it runs backwards", ""},
          {"    - gpu[1-03]", 7, "bad range '1-03' in 'gpu[1-03]': the bounds are padded to different widths",
           "write 1-3 or 01-03"},
          {"    - gpu[1-100000000]", 7, "'gpu[1-100000000]' names more than 65536 hosts", ""},
          {"    - a:8", 7, "':' in 'a:8'",
           "give a port with the key 'port' and the number of ranks with the key 'slots'"},
          {"    - '[::1]:70000'", 7, "the port in '[::1]:70000' must be from 1 to 65535", ""},
          {"    - '@'", 7, "'@' begins with '@'", "exclusions and groups are not supported; write the host names"},
          {"    - me@", 7, "'me@' is no host name: expected name or user@name", ""},
          {"    - me@you@a", 7, "'me@you@a' is no host name: expected name or user@name", ""},
          {"    - a%b", 7, "'%' cannot stand in a host name: 'a%b'", ""},
          {"    - [a]", 7, "llmlaunch.hosts[0] must be a host name or a mapping with 'name'", ""},
          {"    - ~", 7, "llmlaunch.hosts[0] must be a host name or a mapping with 'name'", ""},
          {"    - {slots: 2}", 7, "llmlaunch.hosts[0] has no 'name'", ""},
          {"    - {name: ''}", 14, "llmlaunch.hosts[0].name is empty", ""},
          {"    - {name: ' '}", 14, "llmlaunch.hosts[0].name names no host", ""},
          {"    - {name: [a]}", 14, "llmlaunch.hosts[0].name must be a text, not a list", ""},
          {"    - {name: a, host: b}", 17, "llmlaunch.hosts[0] has both 'name' and 'host'", "they mean the same"},
          {"    - {name: a, port: 0}", 23, "llmlaunch.hosts[0].port must be a whole number from 1 to 65535, not '0'",
           ""},
          {"    - {name: a, slots: 4097}", 24,
           "llmlaunch.hosts[0].slots must be a whole number from 1 to 4096, not '4097'", ""},
          {"    - {name: a, slots: two}", 24,
           "llmlaunch.hosts[0].slots must be a whole number from 1 to 4096, not 'two'", ""},
          {"    - {name: 'a[1-3]', address: '10.0.0.[1-2]'}", 33,
           "llmlaunch.hosts[0].address gives 2 addresses for the 3 hosts of 'a[1-3]'", ""},
          {"    - {name: a, address: '10.0.0.[1-2]'}", 26,
           "llmlaunch.hosts[0].address gives 2 addresses for the 1 host of 'a'", ""},
          {"    - {name: a, address: me@b}", 26, "llmlaunch.hosts[0].address holds more than an address: 'me@b'",
           "use the keys 'user' and 'port'"},
          {"    - {name: a, address: '[::1]:22'}", 26,
           "llmlaunch.hosts[0].address holds more than an address: '[::1]:22'", "use the keys 'user' and 'port'"},
          {"    - {name: a, env: [X]}", 22,
           "llmlaunch.hosts[0].env must be a mapping of variables to values, not a list", ""},
      });
}

TEST_CASE("an address in brackets loses them") {
  CHECK(parsed("llmlaunch: {hosts: [{name: a, address: '[2001:db8::1]'}]}").hosts[0].address == "2001:db8::1");
}

TEST_CASE("a host is listed once") {
  CHECK(message("llmlaunch:\n  hosts:\n    - a[1-2]\n    - b\n    - x@a2\n") ==
        "cfg.yaml:5:7: host 'a2' is listed twice\n    5 |     - x@a2\n"
        "      |       ^ first on line 3; for more ranks on one host set its 'slots'");
  CHECK(message("llmlaunch:\n  hosts: a,b,a\n") ==
        "cfg.yaml:2:10: host 'a' is listed twice\n    2 |   hosts: a,b,a\n"
        "      |          ^ first on line 2; for more ranks on one host set its 'slots'");
}

TEST_CASE("hosts without a host are never a quiet run on this machine") {
  const std::string note = "^ leave it out to run on this machine alone";
  CHECK(message("llmlaunch:\n  hosts:\n  #  - gpu01\n  workdir: /x\n") ==
        "cfg.yaml:2:3: llmlaunch.hosts is empty\n    2 |   hosts:\n      |   " + note);
  CHECK(message("llmlaunch:\n  hosts: []\n") ==
        "cfg.yaml:2:10: llmlaunch.hosts is empty\n    2 |   hosts: []\n      |          " + note);
  CHECK(message("llmlaunch:\n  hosts: ''\n") ==
        "cfg.yaml:2:10: llmlaunch.hosts is empty\n    2 |   hosts: ''\n      |          " + note);
}

TEST_CASE("more hosts than a list may have are refused over all items") {
  CHECK(parsed("llmlaunch: {hosts: ['a[1-40000]', 'b[1-25536]']}").hosts.size() == kMaxHosts);
  CHECK(message("llmlaunch: {hosts: ['a[1-40000]', 'b[1-40000]']}") ==
        "cfg.yaml:1:35: more than 65536 hosts\n    1 | llmlaunch: {hosts: ['a[1-40000]', 'b[1-40000]']}\n"
        "      |                                   ^");
}

TEST_CASE("ssh settings that are wrong are shown where they stand") {
  const std::string path = "llmlaunch.ssh.";
  check_third_line(
      "llmlaunch:\n  ssh:\n",
      {
          {"    port: 65536", 11, path + "port must be a whole number from 1 to 65535, not '65536'", ""},
          {"    user: ''", 11, path + "user is empty", ""},
          {"    user: \"a\\0b\"", 11, path + "user holds a zero byte", ""},
          {"    host_key_policy: off", 22, path + "host_key_policy must be strict or accept-new, not 'off'", ""},
          {"    use_agent: 1", 16, path + "use_agent must be true or false, not '1'", ""},
          {"    fanout: 0", 13, path + "fanout must be a whole number from 1 to 4096, not '0'", ""},
          {"    identity_file: {a: b}", 20, path + "identity_file must be a text or a list of texts, not a mapping",
           ""},
          {"    identity_file: [a, [b]]", 24,
           path + "identity_file must be a text or a list of texts; a list is neither", ""},
          {"    identiy_file: a", 5, "unknown key 'identiy_file' in llmlaunch.ssh", "did you mean 'identity_file'?"},
      });
}

TEST_CASE("what may use PyTorch's store is an address or a network") {
  const std::string must =
      "llmlaunch.rendezvous.allow_from must be addresses (10.0.0.7, fd00::7) or networks (10.1.0.0/16), not ";
  check_third_line("llmlaunch:\n  rendezvous:\n",
                   {
                       {"    allow_from: gpu01", 17, must + "'gpu01'", ""},
                       {"    allow_from: [fd00::/8, gpu01]", 28, must + "'gpu01'", ""},
                       {"    allow_from: 10.0.0.0/33", 17, must + "'10.0.0.0/33'", ""},
                       {"    via: tunnel", 10, "llmlaunch.rendezvous.via must be direct or ssh, not 'tunnel'", ""},
                       {"    use_agent_store: no way", 22,
                        "llmlaunch.rendezvous.use_agent_store must be true or false, not 'no way'", ""},
                       {"    use_agent_stor: true", 5, "unknown key 'use_agent_stor' in llmlaunch.rendezvous",
                        "did you mean 'use_agent_store'?"},
                   });
}

TEST_CASE("timeouts are times, and have a shortest one") {
  const std::string path = "llmlaunch.timeouts.";
  const std::string must = " must be a time: seconds, or a number with ms, s, m or h, not ";
  check_third_line("llmlaunch:\n  timeouts:\n",
                   {
                       {"    connect: soon", 14, path + "connect" + must + "'soon'", ""},
                       {"    connect: -1", 14, path + "connect" + must + "'-1'", ""},
                       {"    connect: 5 min", 14, path + "connect" + must + "'5 min'", ""},
                       {"    connect: 1e3", 14, path + "connect" + must + "'1e3'", ""},
                       {"    run: 8761h", 10, path + "run" + must + "'8761h'", ""},
                       {"    start: [1]", 12, path + "start" + must + "a list", ""},
                       {"    connect: 0", 14, path + "connect must be at least 0.001 s, not '0'", ""},
                       {"    head: 500ms", 11, path + "head must be at least 1 s, not '500ms'", ""},
                   });
}

TEST_CASE("a value of an environment variable arrives as it is written") {
  const Config config = parsed(
      "llmlaunch:\n"
      "  env:\n"
      "    NUMBER: 08\n"
      "    YES: yes\n"
      "    FLOAT: 1.50\n"
      "    EMPTY: ''\n"
      "    QUOTED_NULL: 'null'\n"
      "    SHELL_WORDS: $HOME `id` \"x\" 'y' ;#\\\n"
      "    LINES: |\n"
      "      one\n"
      "      two\n"
      "    ESCAPES: \"a\\nb\\tc\\u00fc\"\n"
      "    'odd name.%': =\n");
  const EnvList expected{{"NUMBER", "08"},        {"YES", "yes"},
                         {"FLOAT", "1.50"},       {"EMPTY", ""},
                         {"QUOTED_NULL", "null"}, {"SHELL_WORDS", "$HOME `id` \"x\" 'y' ;#\\"},
                         {"LINES", "one\ntwo\n"}, {"ESCAPES", "a\nb\tc\u00fc"},
                         {"odd name.%", "="}};
  REQUIRE(config.env.size() == expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    CHECK(config.env[i].first == expected[i].first);
    CHECK(config.env[i].second == expected[i].second);
  }
}

TEST_CASE("an environment variable that cannot be set is refused without its value") {
  const std::string path = "llmlaunch.env";
  check_third_line(
      "llmlaunch:\n  env:\n",
      {
          {"    RANK: 3", 5, path + ".RANK: llmlaunch gives every rank its own RANK", ""},
          {"    MASTER_ADDR: x", 5, path + ".MASTER_ADDR: llmlaunch gives every rank its own MASTER_ADDR", ""},
          {"    A=B: 3", 5, path + ": a variable's name cannot be empty or hold '='", ""},
          {"    '': 3", 5, path + ": a variable's name cannot be empty or hold '='", ""},
          {"    A:", 5, path + ".A has no value", "write '' for an empty one, or name it in forward_env"},
          {"    A: {b: c}", 5, path + ".A must be a text", ""},
          {"    A: \"x\\0\"", 5, path + ".A holds a zero byte", ""},
      });
  for (const char* value :
       {" [hf_secret]\n", "\n      - hf_secret\n", "\n      hf_secret: 1\n", " \"hf_secret\\0\"\n"}) {
    CHECK(message(fmt::format("llmlaunch:\n  env:\n    HF_TOKEN:{}", value)) ==
          fmt::format("cfg.yaml:3:5: llmlaunch.env.HF_TOKEN {}\n    3 |     HF_TOKEN: …\n      |     ^",
                      value[1] == '"' ? "holds a zero byte" : "must be a text"));
  }
  CHECK(
      message("llmlaunch:\n  env: [HF_TOKEN=hf_secret]\n") ==
      "cfg.yaml:2:8: llmlaunch.env must be a mapping of variables to values, not a list\n    2 |   env: [HF_TOKEN= …\n"
      "      |        ^");
}

TEST_CASE("forward_env takes names, never values, and repeats none") {
  CHECK(message("llmlaunch:\n  forward_env: [A, HF_TOKEN=hf_secret]\n") ==
        "cfg.yaml:2:16: llmlaunch.forward_env takes names and patterns; 'HF_TOKEN' has a value\n"
        "    2 |   forward_env: [A, HF_TOKEN= …\n      |                ^ values belong to llmlaunch.env");
  CHECK(parsed("llmlaunch: {forward_env: HF_*}").forward_env == Names{"HF_*"});
}

TEST_CASE("names tell secrets") {
  for (const char* name :
       {"HF_TOKEN", "hf_token", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MYSQL_PASSWORD", "PGPASSWD",
        "SSH_PASSPHRASE", "GOOGLE_APPLICATION_CREDENTIALS", "LLMLAUNCH_TOKEN", "TOKENIZER_TOKEN", "DB_PASS", "pgpass",
        "MYSQL_PWD", "PROXY_AUTH", "AUTHORIZATION", "http_auth_header", "--hf-token", "--author-token"}) {
    INFO(name);
    CHECK(names_secret(name));
  }
  for (const char* name : {"PATH", "NCCL_DEBUG", "MASTER_ADDR", "TOKENIZERS_PARALLELISM", "PWD", "OLDPWD",
                           "GIT_AUTHOR_NAME", "PASSES", ""})
    CHECK_FALSE(names_secret(name));
}

TEST_CASE("a command is shown without the values of flags that name secrets") {
  struct Row {
    Names argv;
    Names shown;
  };
  const std::vector<Row> rows = {
      {{"train", "--hf_token=xyz", "--lr=1"}, {"train", "--hf_token=********", "--lr=1"}},
      {{"train", "--hf-token", "xyz", "data"}, {"train", "--hf-token", "********", "data"}},
      {{"env", "DB_PASS=a=b", "train"}, {"env", "DB_PASS=********", "train"}},
      {{"train", "+wandb.api_key=xyz"}, {"train", "+wandb.api_key=********"}},
      {{"train", "--use_auth_token", "--lr", "1"}, {"train", "--use_auth_token", "--lr", "1"}},
      {{"train", "--tokenizer_name", "gpt2"}, {"train", "--tokenizer_name", "gpt2"}},
      {{"train", "--password"}, {"train", "--password"}},
      {{"sh", "-c", "echo token=$x; train"}, {"sh", "-c", "echo token=$x; train"}},
      {{"sh", "-c", "cd x; HF_TOKEN=xyz DB_PASS=\"a b\"'c d' train --api-key k1 --lr 1;KEY=k2"},
       {"sh", "-c", "cd x; HF_TOKEN=******** DB_PASS=******** train --api-key ******** --lr 1;KEY=********"}},
      {{"sh", "-c", "train --use_auth_token --lr 1 --token $T TOKEN= a"},
       {"sh", "-c", "train --use_auth_token --lr 1 --token $T TOKEN= a"}},
      {{"sh", "-c", "TOKEN='open end"}, {"sh", "-c", "TOKEN=********"}},
      {{"show", "token", "data"}, {"show", "token", "data"}},
  };
  for (const Row& row : rows) CHECK(without_secrets(row.argv) == row.shown);
}

TEST_CASE("a time is a number with or without a unit") {
  using std::chrono::milliseconds;
  CHECK(parse_duration("90") == milliseconds(90'000));
  CHECK(parse_duration("1.5") == milliseconds(1'500));
  CHECK(parse_duration("500ms") == milliseconds(500));
  CHECK(parse_duration("30s") == milliseconds(30'000));
  CHECK(parse_duration("5m") == milliseconds(300'000));
  CHECK(parse_duration("2h") == milliseconds(7'200'000));
  CHECK(parse_duration("0") == milliseconds(0));
  CHECK(parse_duration("8760h") == milliseconds(31'536'000'000));
  for (const char* wrong :
       {"", "s", "-1", "-0", "8761h", "1d", "1 s", "1s ", "+1", "nan", "inf", "1e3", "0x10", "1,5"}) {
    INFO(wrong);
    CHECK(parse_duration(wrong) == std::nullopt);
  }
}

TEST_CASE("groups are names for host expressions, read when they are used") {
  const auto config = parse_config(
      "llmlaunch:\n  groups:\n    gpu: gpu[01-16]\n    all: ['@gpu', login0]\n    none:\n    bad: n[2-1]\n",
      "cfg.yaml");
  REQUIRE(config.has_value());
  CHECK(config->groups == std::map<std::string, std::string, std::less<>>{
                              {"gpu", "gpu[01-16]"}, {"all", "@gpu,login0"}, {"none", ""}, {"bad", "n[2-1]"}});
  const auto wrong = parse_config("llmlaunch:\n  groups:\n    gpu: {a: b}\n", "cfg.yaml");
  REQUIRE_FALSE(wrong.has_value());
  CHECK(to_string(wrong.error()).starts_with("cfg.yaml:3:5: llmlaunch.groups.gpu must be a list of hosts"));
  const auto list = parse_config("llmlaunch:\n  groups: [a]\n", "cfg.yaml");
  REQUIRE_FALSE(list.has_value());
  CHECK(to_string(list.error()).starts_with("cfg.yaml:2:11: llmlaunch.groups must be a mapping of names to hosts"));
}

TEST_CASE("a key of the command line wins over the file's, and its messages name the option") {
  const auto with = [](const std::string& text, std::vector<Override> overrides) {
    return parse_config(text, {"c.yaml", {}, {}, std::move(overrides)}, [](const std::string&) -> Result<std::string> {
      return make_error(Errc::not_found, "no file");
    });
  };
  const auto config =
      with("mixed_precision: fp16\nnum_processes: 2\n",
           {{"mixed_precision", "bf16", "--mixed-precision"}, {"fsdp_config.fsdp_version", "2", "--fsdp_version"}});
  REQUIRE(config.has_value());
  CHECK(config->mixed_precision == "bf16");
  CHECK(config->num_processes == 2u);
  CHECK(config->places.at("mixed_precision").text == "--mixed-precision");
  const auto wrong = with("", {{"num_machines", "x", "--nnodes"}});
  REQUIRE_FALSE(wrong.has_value());
  CHECK(wrong.error().where == "--nnodes");
  const auto no_section = with("fsdp_config: 3\n", {{"fsdp_config.x", "1", "--x"}});
  REQUIRE_FALSE(no_section.has_value());
  CHECK(no_section.error().where == "c.yaml:1:14");
}

TEST_CASE("how many run directories stay is a number or an age") {
  CHECK(parse_runs_kept("20")->count == 20u);
  CHECK(parse_runs_kept("30d")->age == std::chrono::hours(720));
  CHECK(parse_runs_kept("12h")->age == std::chrono::hours(12));
  for (const char* text : {"", "0", "-1", "3w", "d", "1.5d", "99999999999"}) CHECK_FALSE(parse_runs_kept(text));
  CHECK(parse_config("llmlaunch: {python: /opt/py, logs: {keep_runs: 3}}", "c")->logs.keep_runs.count == 3u);
  CHECK(parse_config("llmlaunch: {python: /opt/py}", "c")->python == "/opt/py");
  CHECK_FALSE(parse_config("llmlaunch: {logs: {keep_runs: some}}", "c").has_value());
}

}  // namespace launcher_config_section_test
