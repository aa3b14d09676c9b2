// What a new user mistypes or mistakes, and the answer.
#include "cli/exec.hpp"
#include "cli/hosts.hpp"
#include "cli/meant_trainer.hpp"
#include "launcher/config.hpp"
#include "launcher/file_kind.hpp"
#include "launcher/hostfile.hpp"
#include "tests/support/catch.hpp"

namespace cli_messages_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using Words = std::vector<std::string>;

namespace {

const std::string kConfig =
    "compute_environment: LOCAL_MACHINE\nnum_machines: 2\nnum_processes: 2\nllmlaunch:\n  hosts: [n1, n2]\n"
    "  groups: {rack: n1}\n";
const std::string kHostfile = "# two\nn1 slots=8\nn2 slots=8 max_slots=8\n";

HostWorld world() {
  HostWorld made;
  made.sources.read_file = [](const std::string& path) -> Result<std::string> {
    if (path == "cfg.yaml") return kConfig;
    if (path == "bad") return std::string("n7\nn8\n");
    return kHostfile;
  };
  made.sources.read_stdin = [] { return Result<std::string>("p[1-2]\n"); };
  return made;
}

Result<HostChoice> choice(const Words& words, const std::string& file = "") {
  Words all{"hosts"};
  all.insert(all.end(), words.begin(), words.end());
  const auto options = parse_options(all);
  REQUIRE(options);
  const auto config = file.empty() ? Result<launcher::Config>(launcher::Config{}) : launcher::parse_config(file, "c");
  REQUIRE(config);
  return choose_hosts(*config, options->hosts.hosts, world(), "hosts");
}

}  // namespace

TEST_CASE("a host that is left out and not there is said once, whatever names it") {
  const auto notes = [](const Words& words, const std::string& file = "") {
    const auto chosen = choice(words, file);
    REQUIRE(chosen);
    return chosen->notes;
  };
  CHECK(notes({"n[1-4]", "-x", "n2"}) == Words{});
  CHECK(notes({"n[1-4]", "-x", "n9"}) == Words{"--exclude: n9 is not among the hosts"});
  CHECK(notes({"n[1-4]", "-x", "n[4-6]", "-x", "x1"}) == Words{"--exclude: n[5-6],x1 are not among the hosts"});
  CHECK(notes({"me@n1,n2", "-x", "n1"}) == Words{});
  CHECK(notes({"-", "-x", "p1"}) == Words{});
  CHECK(notes({"-x", "n2"}, kConfig) == Words{});
  CHECK(notes({"-x", "n3"}, kConfig) == Words{"--exclude: n3 is not among the hosts"});
  CHECK(notes({"--hostfile", "hosts", "-x", "n2"}) == Words{});
  // A list of all that is broken, or a pattern, may have more.
  CHECK(notes({"n[1-4]", "-x", "^bad", "-x", "/n9/"}) == Words{});
  CHECK(choice({"n[1-4]", "-x", "n[4-6]"})->hosts.size() == 3);
}

TEST_CASE("a group that is mistyped is answered with the one that was meant") {
  CHECK(to_string(choice({"@rakc"}, kConfig).error()) ==
        "hosts: no group 'rakc' is known\n   @rakc\n   ^\n   hint: did you mean '@rack'?");
}

TEST_CASE("a configuration and a file of hosts are told apart") {
  CHECK(launcher::looks_like_configuration(kConfig));
  CHECK(launcher::looks_like_configuration("{\n\"num_machines\": 2}"));
  CHECK(launcher::looks_like_configuration("\xef\xbb\xbfllmlaunch:\r\n  hosts: [a]\r\n"));
  CHECK_FALSE(launcher::looks_like_configuration(kHostfile));
  CHECK_FALSE(launcher::looks_like_configuration("llmlaunch:2\n"));  // a host of that name in MPICH's words
  CHECK_FALSE(launcher::looks_like_configuration(""));
  for (const char* text :
       {"n1\nn2", "n1 slots=8\n", "n1:8\nn2:8\n", "gpu[01-16]\nlogin0\n", "me@n1 8\n", "[fd00::1]:22\n10.0.0.2\n"}) {
    INFO(text);
    CHECK(launcher::looks_like_hostfile(text));
  }
  for (const char* text : {"", "# nothing\n", "a: b\n", "- n1\n", "n1 n2 n3=4\n", "num_machines: 2\n", "{a: b}\n",
                           "hello world\n", "hello\n"}) {
    INFO(text);
    CHECK_FALSE(launcher::looks_like_hostfile(text));
  }
}

TEST_CASE("a file in the place of another kind is called what it is") {
  const auto config = launcher::parse_config(kHostfile, "hosts.txt");
  REQUIRE_FALSE(config);
  CHECK(to_string(config.error()) ==
        "hosts.txt: a list of hosts, and no configuration\n   hint: --hostfile takes such a file, with or without "
        "--config");
  const auto hosts = choice({"--hostfile", "cfg.yaml"});
  REQUIRE_FALSE(hosts);
  CHECK(hosts.error().code == Errc::invalid_config);
  CHECK(to_string(hosts.error()) ==
        "cfg.yaml: a configuration, and no list of hosts\n   hint: --config takes such a file, with the hosts that it "
        "names");
}

TEST_CASE("an empty name of a configuration is refused by hosts, too") {
  const auto options = parse_options({"hosts", "-c", "", "n1"});
  REQUIRE_FALSE(options);
  CHECK(to_string(options.error()) == "--config is empty\n   hint: llmlaunch hosts --help lists the options");
}

TEST_CASE("the trainer's word typed wrong has its answer behind the agent's, and another program has not") {
  const auto hint = [](const char* program, Errc code = Errc::no_program, const char* agents = "install it") {
    return with_meant_trainer(make_error(code, "no program", {}, agents), program).hint;
  };
  for (const char* word : {"trian", "tran", "trainn", "traim", "trai"}) {
    CHECK(hint(word) == "install it; or did you mean 'train', the built-in trainer?");
  }
  CHECK(hint("trian", Errc::no_program, "") == "did you mean 'train', the built-in trainer?");
  for (const char* word :
       {"train", "./train", "t/rain", "bin/train", "brain", "drain", "trainer", "strain", "tail", ""}) {
    CHECK(hint(word) == "install it");
  }
  CHECK(hint("trian", Errc::not_executable) == "install it");
}

}  // namespace cli_messages_test
