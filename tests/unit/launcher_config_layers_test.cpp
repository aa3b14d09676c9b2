// Where a value comes from: --set over variables over the file over what it includes; references; the places of all.
#include <fmt/format.h>

#include <cctype>
#include <map>

#include "launcher/config.hpp"
#include "launcher/config_schema.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/layered_config.hpp"

namespace launcher_config_layers_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::testing;

namespace {

Result<Config> read(const std::string& text, std::vector<std::string> settings = {}, EnvList environment = {},
                    Files files = {}, const std::string& name = "cfg.yaml") {
  return read_layers(text, {name, std::move(settings), std::move(environment)}, std::move(files));
}

std::string where(const Config& config, const std::string& path) {
  for (const auto& value : config.values)
    if (value.path == path) return fmt::format("{} ({})", value.text, value.where);
  return "not given";
}

}  // namespace

TEST_CASE("--set wins over the file and makes the sections that it lacks") {
  const Config config = good(read("num_processes: 2\nllmlaunch:\n  hosts: [a]\n",
                                  {"num_processes=4", "llmlaunch.ssh.port=22", "llmlaunch.ssh.port=2222",
                                   "llmlaunch.hosts=[b, {name: c, slots: 3}]", "llmlaunch.env.A.B=x"}));
  CHECK(config.num_processes == 4u);
  CHECK(config.ssh.port == 2222);
  REQUIRE(config.hosts.size() == 2);
  CHECK(config.hosts[1].slots == 3u);
  CHECK(config.hosts[1].where == "--set llmlaunch.hosts");
  CHECK(config.env == EnvList{{"A.B", "x"}});
  CHECK(config.places.at("num_processes").text == "--set num_processes");
  CHECK(where(config, "llmlaunch.ssh.port") == "2222 (--set llmlaunch.ssh.port)");
}

TEST_CASE("--set needs no file, and takes a value away by an empty one") {
  CHECK(good(read("", {"llmlaunch.ssh.user=me"}, {}, {}, "")).ssh.user == "me");
  CHECK_FALSE(good(read("llmlaunch: {ssh: {port: 1}}", {"llmlaunch.ssh.port="})).ssh.port.has_value());
}

TEST_CASE("--set replaces another spelling of its key") {
  const Config config = good(read("llmlaunch: {ssh: {identity_files: [one]}}", {"llmlaunch.ssh.identity_file=two"}));
  CHECK(config.ssh.identity_files == std::vector<std::string>{"two"});
}

TEST_CASE("what is wrong with --set is said at its value") {
  CHECK(message(read("", {"llmlaunch.ssh.port=x"})) ==
        "--set llmlaunch.ssh.port: llmlaunch.ssh.port must be a whole number from 1 to 65535, not 'x'\n"
        "    1 | llmlaunch.ssh.port=x\n"
        "      |                    ^");
  CHECK(message(read("", {"llmlaunch.ssh={prot: 1}"})) ==
        "--set llmlaunch.ssh: unknown key 'prot' in llmlaunch.ssh\n"
        "    1 | llmlaunch.ssh={prot: 1}\n"
        "      |                ^ did you mean 'port'?");
}

TEST_CASE("an unknown key of --set names the one that was meant") {
  const std::vector<std::pair<std::string, std::string>> rows{
      {"llmlaunch.ssh.prot=1",
       "--set llmlaunch.ssh.prot: unknown key 'llmlaunch.ssh.prot' (did you mean "
       "'llmlaunch.ssh.port'?)"},
      {"ssh.port=1", "--set ssh.port: unknown key 'ssh.port' (did you mean 'llmlaunch.ssh.port'?)"},
      {"num_machine=1", "--set num_machine: unknown key 'num_machine' (did you mean 'num_machines'?)"},
      {"llmlaunch.hosts[0].port=1",
       "--set llmlaunch.hosts[0].port: a list is set as a whole, not item by item "
       "(--set 'llmlaunch.hosts=[…, …]')"},
      {"num_processes", "--set num_processes: it has no value (--set num_processes=VALUE)"},
      {"llmlaunch.env.=1", "--set llmlaunch.env.: unknown key 'llmlaunch.env.' (did you mean 'llmlaunch.env'?)"},
  };
  for (const auto& [setting, expected] : rows) {
    const auto config = read("", {setting});
    REQUIRE_FALSE(config.has_value());
    const Error& error = config.error();
    CHECK(fmt::format("{}: {} ({})", error.where, error.what, error.hint) == expected);
  }
}

TEST_CASE("a variable wins over the file and --set over the variable") {
  const std::string file = "num_processes: 2\nllmlaunch: {ssh: {port: 1, user: file}}\n";
  const EnvList environment{{"LLMLAUNCH_SSH_PORT", "2"}, {"LLMLAUNCH_NUM_PROCESSES", "8"}, {"LLMLAUNCH_SSH_USER", ""}};
  const Config config = good(read(file, {"llmlaunch.ssh.port=3"}, environment));
  CHECK(config.ssh.port == 3);
  CHECK(config.num_processes == 8u);
  CHECK(config.ssh.user == "file");  // an empty variable is none
  CHECK(where(config, "num_processes") == "8 (LLMLAUNCH_NUM_PROCESSES)");
  CHECK(where(config, "llmlaunch.ssh.user") == "file (cfg.yaml:2:34)");
}

TEST_CASE("a variable of one word is taken as it is, a list is read as YAML") {
  const Config config = good(read("", {},
                                  {{"LLMLAUNCH_LOGS_PREFIX", "[{rank}] "},
                                   {"LLMLAUNCH_HOSTS", "gpu[1-2]"},
                                   {"LLMLAUNCH_ENV", "{A: b}"},
                                   {"LLMLAUNCH_WORKDIR", "/a/${B}"}}));
  CHECK(config.logs.prefix == "[{rank}] ");
  CHECK(config.hosts.size() == 2);
  CHECK(config.env == EnvList{{"A", "b"}});
  CHECK(config.workdir == "/a/${B}");
  CHECK(message(read("", {}, {{"LLMLAUNCH_SSH_PORT", "x"}})) ==
        "LLMLAUNCH_SSH_PORT: llmlaunch.ssh.port must be a whole number from 1 to 65535, not 'x'\n"
        "    1 | LLMLAUNCH_SSH_PORT=x\n"
        "      |                    ^");
}

TEST_CASE("no two keys have a variable in common, and none is one of a rank's") {
  std::map<std::string, std::string> keys;
  for (const Setting& setting : settings()) {
    if (setting.kind == SettingKind::section || setting.path.find('[') != setting.path.npos) continue;
    std::string name = "LLMLAUNCH_";
    for (const char c : setting.path.substr(setting.path.starts_with("llmlaunch.") ? 10 : 0))
      name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    INFO(setting.path << " " << keys[name]);
    CHECK(keys[name].empty());
    CHECK_FALSE(set_by_llmlaunch(name));
    keys[name] = setting.path;
  }
  CHECK(keys.at("LLMLAUNCH_SSH_PORT") == "llmlaunch.ssh.port");
}

TEST_CASE("what llmlaunch gives to its ranks sets nothing") {
  const Config config =
      good(read("", {}, {{"LLMLAUNCH_HOST", "a"}, {"LLMLAUNCH_TOKEN", "b"}, {"LLMLAUNCH_JOB_ID", "c"}}));
  CHECK(config.values.empty());
  CHECK(config.hosts.empty());
}

TEST_CASE("a variable near to one that is known is named, others are not") {
  const EnvList environment{{"LLMLAUNCH_SSH_PROT", "1"}, {"LLMLAUNCH_SSH_PORT", "1"}, {"LLMLAUNCH_HOST", "a"},
                            {"LLMLAUNCH_LIBEXEC", "/x"}, {"LLMLAUNCH_MINE", "1"},     {"LLMLAUNCH_BIN_DIR", "/b"}};
  CHECK(misspelt_variables(environment) ==
        std::vector<std::string>{"the variable LLMLAUNCH_SSH_PROT is no setting; did you mean LLMLAUNCH_SSH_PORT?"});
}

}  // namespace launcher_config_layers_test
