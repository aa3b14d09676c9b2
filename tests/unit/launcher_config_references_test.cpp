// ${VAR}, include and YAML's own anchors: what they come to, where they end, and the place of what is wrong.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "launcher/config.hpp"
#include "launcher/plan.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/layered_config.hpp"

namespace launcher_config_references_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::testing;

namespace {

Result<Config> read(const std::string& text, EnvList environment = {}, Files files = {},
                    const std::string& name = "cfg.yaml", std::vector<std::string> settings = {}) {
  return read_layers(text, {name, std::move(settings), std::move(environment)}, std::move(files));
}

}  // namespace

TEST_CASE("a reference becomes the variable's value, its default, or a dollar") {
  const EnvList environment{{"A", "one"}, {"EMPTY", ""}, {"PORT", "2222"}};
  const std::vector<std::pair<std::string, std::string>> rows{
      {"${A}", "one"},
      {"x${A}y${A}",
       "xoney"
       "one"},
      {"${B:-two}", "two"},
      {"${A:-two}", "one"},
      {"${EMPTY:-two}", "two"},
      {"${B:-${A}}", "one"},
      {"${B:-${C:-}}", ""},
      {"$${A}", "${A}"},
      {"$A $ 5$", "$A $ 5$"},
      {"{rank} ${A}", "{rank} one"},
      {"${B:-a:-b}", "a:-b"},
      {"$$$$", "$$"},
  };
  for (const auto& [text, expected] : rows) {
    INFO(text);
    CHECK(good(read(fmt::format("llmlaunch: {{env: {{X: '{}'}}}}", text), environment)).env ==
          EnvList{{"X", expected}});
  }
  CHECK(good(read("llmlaunch: {ssh: {port: '${PORT}', user: \"${A}\"}}", environment)).ssh.port == 2222);
  CHECK_FALSE(good(read("llmlaunch:\n  ssh:\n    user: ${NOBODY:-}\n", environment)).ssh.user.has_value());
}

TEST_CASE("setup lines, keys and accelerate's half keep their dollars") {
  const Config config =
      good(read("main_training_function: ${X}\nllmlaunch:\n  setup: ['cd ${X}']\n  env: {'${X}': y}\n"));
  CHECK(config.process.setup == std::vector<std::string>{"cd ${X}"});
  CHECK(config.env == EnvList{{"${X}", "y"}});
}

TEST_CASE("a reference that comes to nothing is said at its place") {
  CHECK(message(read("llmlaunch:\n  workdir: /data/${WHERE}/x\n")) ==
        "cfg.yaml:2:18: llmlaunch.workdir: the variable WHERE is not set\n"
        "    2 |   workdir: /data/${WHERE}/x\n"
        "      |                  ^ set it, or write ${WHERE:-default}");
  CHECK(message(read("llmlaunch:\n  hosts:\n    - a${\n")) ==
        "cfg.yaml:3:8: llmlaunch.hosts[0]: a '${' without '}'\n"
        "    3 |     - a${\n"
        "      |        ^ write '$$' for a plain dollar");
  CHECK(message(read("llmlaunch:\n  workdir: ${A?b}\n")) ==
        "cfg.yaml:2:12: llmlaunch.workdir: '${A?b}' names no variable\n"
        "    2 |   workdir: ${A?b}\n"
        "      |            ^ ${NAME} and ${NAME:-default} are known; '$$' is a plain dollar");
}

TEST_CASE("references that grow without end are refused") {
  const EnvList environment{{"A", std::string(1u << 20, 'x')}};
  CHECK(message(read("llmlaunch: {workdir: '${A}${A}${A}${A}${A}'}", environment)).find("more than 4194304 bytes") !=
        std::string::npos);
  std::string nested = "x";
  for (int i = 0; i < 20; ++i) nested = "${B:-" + nested + "}";
  CHECK(message(read("llmlaunch: {workdir: '" + nested + "'}")).find("nested deeper") != std::string::npos);
}

TEST_CASE("a secret that a reference names stands in no message and in no value that is shown") {
  const EnvList environment{{"HF_TOKEN", "sesame"}};
  const auto bad = message(read("llmlaunch:\n  ssh:\n    port: ${HF_TOKEN}\n", environment));
  CHECK(bad.find("sesame") == std::string::npos);
  CHECK(bad.find("must be a whole number from 1 to 65535, not '********'") != std::string::npos);
  CHECK(message(read("llmlaunch: {hosts: ['a b${HF_TOKEN}[']}", environment)).find("sesame") == std::string::npos);
  const Config config = good(read("llmlaunch: {env: {X: 'a ${HF_TOKEN}', Y: b}}", environment));
  CHECK(config.env == EnvList{{"X", "a sesame"}, {"Y", "b"}});
  CHECK(config.secrets == std::vector<std::string>{"sesame", "a sesame"});
  for (const auto& value : config.values) CHECK(value.text.find("sesame") == std::string::npos);
}

TEST_CASE("a plan that is shown or recorded has no secret of a reference, the plan itself has it") {
  const EnvList environment{{"HF_TOKEN", "sesame"}, {"MY_KEY", "k"}};
  const Config config =
      good(read("llmlaunch: {env: {X: 'a-${HF_TOKEN}', Y: 'y${MY_KEY}', Z: ok}, rank_env: {R: '{rank}-${HF_TOKEN}'},"
                " workdir: '/d/${HF_TOKEN}', log_dir: '${HF_TOKEN}/logs'}",
                environment));
  const auto plan = make_plan(config, {{"prog"}, {}}, {"job", {}, "/here"});
  REQUIRE(plan.has_value());
  const auto has = [](const EnvList& env, const std::string& name, const std::string& value) {
    return std::find(env.begin(), env.end(), std::pair(name, value)) != env.end();
  };
  CHECK(has(plan->hosts[0].env, "X", "a-sesame"));
  const LaunchPlan shown = without_secrets(*plan);
  CHECK(has(shown.hosts[0].env, "X", "a-********"));
  CHECK(has(shown.hosts[0].env, "Y", "********"));
  CHECK(has(shown.hosts[0].env, "Z", "ok"));
  CHECK(has(shown.hosts[0].ranks[0].env, "R", "0-********"));
  CHECK(shown.hosts[0].workdir == "/d/********");
  CHECK(shown.log_dir == "********/logs");
}

TEST_CASE("an included file counts where the including one says nothing, a later one over an earlier one") {
  const Files files{{"conf/site.yaml",
                     "num_processes: 2\nllmlaunch: {hosts: [a, b], ssh: {user: site, port: 1}, env: {A: '1', B: '1'}}"},
                    {"conf/team.yaml", "llmlaunch: {include: sub/more.yaml, ssh: {user: team}, env: {B: '2'}}"},
                    {"conf/sub/more.yaml", "llmlaunch: {workdir: /more}"}};
  const Config config =
      good(read("llmlaunch:\n  include: [site.yaml, ./team.yaml]\n  hosts: [c]\n  env: {A: '3'}\n"
                "  ssh:\n",
                {}, files, "conf/cfg.yaml"));
  CHECK(config.num_processes == 2u);
  REQUIRE(config.hosts.size() == 1);
  CHECK(config.hosts[0].name == "c");
  CHECK(config.ssh.user == "team");
  CHECK(config.ssh.port == 1);
  CHECK(config.workdir == "/more");
  const auto include = std::find_if(config.values.begin(), config.values.end(),
                                    [](const auto& value) { return value.path == "llmlaunch.include"; });
  REQUIRE(include != config.values.end());
  CHECK(include->text == "[site.yaml, ./team.yaml]");
  CHECK(config.env == EnvList{{"A", "3"}, {"B", "2"}});
  CHECK(config.places.at("num_processes").text == "conf/site.yaml:1:1");
}

TEST_CASE("--set and references work with include") {
  const Files files{{"/home/me/base.yaml", "llmlaunch: {ssh: {user: base, port: 7}}"},
                    {"x/a", "llmlaunch: {workdir: /w}"}};
  const EnvList environment{{"HOME", "/home/me"}, {"F", "base"}};
  const Config config = good(read("llmlaunch: {include: '~/${F}.yaml'}", environment, files, "dir/cfg.yaml",
                                  {"llmlaunch.ssh.user=set", "llmlaunch.ssh.port="}));
  CHECK(config.ssh.user == "set");
  CHECK_FALSE(config.ssh.port.has_value());  // taken away
  CHECK(good(read("", {}, files, "dir/cfg.yaml", {"llmlaunch.include=x/a"})).workdir == "/w");
}

TEST_CASE("an error in an included file names that file") {
  CHECK(message(read("llmlaunch: {include: base.yaml}", {}, {{"base.yaml", "llmlaunch:\n  ssh:\n    prot: 1\n"}})) ==
        "base.yaml:3:5: unknown key 'prot' in llmlaunch.ssh\n"
        "    3 |     prot: 1\n"
        "      |     ^ did you mean 'port'?");
  CHECK(message(read("llmlaunch:\n  include: base.yaml\n")) ==
        "cfg.yaml:2:12: cannot include 'base.yaml': No such file or directory\n"
        "    2 |   include: base.yaml\n"
        "      |            ^");
  CHECK(message(read("llmlaunch: {include: {a: b}}")).find("must be the name of a file or a list of them") !=
        std::string::npos);
  CHECK(message(read("llmlaunch: {include: l}", {}, {{"l", "- a\n"}})).starts_with("l:1:1: the file must hold"));
}

TEST_CASE("files that include each other, too deep, too many or too large, are refused") {
  CHECK(message(read("llmlaunch: {include: a}", {}, {{"a", "llmlaunch:\n  include: ./cfg.yaml\n"}})) ==
        "a:2:12: 'cfg.yaml' includes itself\n"
        "    2 |   include: ./cfg.yaml\n"
        "      |            ^ cfg.yaml includes a");
  Files deep;
  for (int i = 0; i < 12; ++i) deep[fmt::format("f{}", i)] = fmt::format("llmlaunch: {{include: f{}}}", i + 1);
  CHECK(message(read("llmlaunch: {include: f0}", {}, deep)).find("included deeper than 8 files") != std::string::npos);
  // Each file twice by the one above it: 2^8 without a limit.
  Files wide;
  for (int i = 0; i < 7; ++i)
    wide[fmt::format("f{}", i)] = fmt::format("llmlaunch: {{include: [f{}, f{}]}}", i + 1, i + 1);
  wide["f7"] = "llmlaunch: {}";
  CHECK(message(read("llmlaunch: {include: f0}", {}, wide)).find("more than 64 files") != std::string::npos);
  const Files large{{"l", "#" + std::string(3u << 20, 'x')}};
  CHECK(message(read("llmlaunch: {include: [l, l]}", {}, large)).find("more than 4194304 bytes") != std::string::npos);
}

TEST_CASE("anchors, aliases and merges work below llmlaunch") {
  const Config config =
      good(read("llmlaunch:\n"
                "  hosts:\n"
                "    - &big {name: a, slots: 4, env: {X: '${V}'}}\n"
                "    - {<<: *big, name: b}\n"
                "    - {<<: [{slots: 1}, *big], name: c}\n",
                {{"V", "v"}}));
  REQUIRE(config.hosts.size() == 3);
  CHECK(config.hosts[1].slots == 4u);
  CHECK(config.hosts[1].env == EnvList{{"X", "v"}});
  CHECK(config.hosts[2].slots == 1u);
}

}  // namespace launcher_config_references_test
