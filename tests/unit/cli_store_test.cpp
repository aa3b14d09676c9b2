// The words of `llmlaunch store`.
#include "cli/options.hpp"
#include "tests/support/catch.hpp"

namespace cli_store_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using Words = std::vector<std::string>;
using Verb = StoreOptions::Verb;

namespace {

StoreOptions parsed(Words words) {
  words.insert(words.begin(), "store");
  auto options = parse_options(words);
  INFO((options ? "" : to_string(options.error())));
  REQUIRE(options.has_value());
  REQUIRE(options->action == Options::Action::store);
  return std::move(options->store);
}

std::string message(Words words) {
  words.insert(words.begin(), "store");
  const auto options = parse_options(words);
  if (options) return "no error";
  CHECK(options.error().code == Errc::usage);
  return to_string(options.error());
}

}  // namespace

TEST_CASE("each verb takes a job and what it needs, and options anywhere") {
  const StoreOptions get = parsed({"get", "--wait", "5m", "job-1", "a", "--json", "b", "--log-dir", "logs"});
  CHECK(get.verb == Verb::get);
  CHECK(get.job == "job-1");
  CHECK(get.keys == Words{"a", "b"});
  CHECK(get.wait == std::chrono::minutes(5));
  CHECK(get.json);
  CHECK(get.log_dir == "logs");
  CHECK_FALSE(get.pytorch);
  const StoreOptions set = parsed({"set", "latest", "k", "-", "--pytorch"});
  CHECK(set.verb == Verb::set);
  CHECK(set.keys == Words{"k"});
  CHECK(set.value == "-");
  CHECK(set.pytorch);
  CHECK(parsed({"set", "latest", "k", ""}).value.empty());
  CHECK(parsed({"set", "latest", "k", "--", "-v"}).value == "-v");
  CHECK(parsed({"add", "latest", "k", "7"}).delta == 7);
  CHECK(parsed({"add", "latest", "k", "+7"}).delta == 7);
  CHECK(parsed({"add", "latest", "k", "-7"}).delta == -7);
  CHECK(parsed({"add", "latest", "k", "--", "-7"}).delta == -7);
  const StoreOptions removed = parsed({"delete", "/logs/job-1", "a", "b"});
  CHECK(removed.verb == Verb::remove);
  CHECK(removed.keys == Words{"a", "b"});
  CHECK(parsed({"list"}).job == "latest");
  CHECK(parsed({"list"}).keys.empty());
  CHECK(parsed({"list", "job-1", "p/", "--native"}).keys == Words{"p/"});
  CHECK(parsed({"watch", "-c", "cfg.yaml"}).config == "cfg.yaml");
  CHECK(parsed({"watch", "job-1", "k", "--exact"}).exact);
}

TEST_CASE("what is missing, too much or wrong is named") {
  const auto how = [](const std::string& verb) {
    return "\n   hint: llmlaunch store " + verb + " --help shows how it is called";
  };
  const auto lists = [](const std::string& verb) {
    return "\n   hint: llmlaunch store " + verb + " --help lists the options";
  };
  const std::string verbs = "\n   hint: it is one of get, set, add, delete, list, watch";
  CHECK(message({}) == "store: nothing is asked for" + verbs);
  CHECK(message({"latest"}) == "store: 'latest' is not known" + verbs);
  CHECK(message({"get"}) == "store get: no job is named" + how("get"));
  CHECK(message({"get", "latest"}) == "store get: no key is named" + how("get"));
  CHECK(message({"get", "", "k"}) ==
        "store get: the job's name is empty\n   hint: a variable in its place may not be set");
  CHECK(message({"get", "latest", ""}) == "store get: a key is empty\n   hint: a variable in its place may not be set");
  CHECK(message({"set", "latest", "k"}) == "store set: the value is missing" + how("set"));
  CHECK(message({"set", "latest", "k", "v", "w"}) == "store set: 'w' is one word too many" + how("set"));
  CHECK(message({"add", "latest", "k"}) == "store add: the number is missing" + how("add"));
  CHECK(message({"add", "latest", "k", "1.5"}) == "store add: '1.5' is no whole number of 64 bits" + how("add"));
  CHECK(message({"add", "latest", "k", "9223372036854775808"}) ==
        "store add: '9223372036854775808' is no whole number of 64 bits" + how("add"));
  CHECK(message({"list", "latest", "a", "b"}) == "store list: 'b' is one word too many" + how("list"));
  CHECK(message({"list", "--native", "--pytorch"}) == "--native and --pytorch exclude each other" + lists("list"));
  CHECK(message({"watch", "latest", "--exact"}) == "--exact: no key is named" + lists("watch"));
  CHECK(message({"get", "--wait", "soon", "latest", "k"}) ==
        "--wait must be a time such as 90, 30s, 5m or 2h, not 'soon'" + lists("get"));
  CHECK(message({"get", "--wait", "", "latest", "k"}) ==
        "--wait must be a time such as 90, 30s, 5m or 2h, not ''" + lists("get"));
  CHECK(message({"list", "--log-dir", ""}) == "--log-dir is empty" + lists("list"));
  CHECK(message({"set", "latest", "k", "v", "--native"}) == "unknown option '--native'" + lists("set"));
  CHECK(message({"list", "--jsn"}) == "unknown option '--jsn'\n   hint: did you mean '--json'?");
}

TEST_CASE("the help of store and of its verbs says what they do, with examples") {
  const auto help = [](Words words) {
    const auto options = parse_options(words);
    REQUIRE(options);
    return options->text;
  };
  CHECK(help({"store", "--help"}) ==
        "Look into a running job: read, set and watch the keys of its store\n"
        "Usage: llmlaunch store get|set|add|delete|list|watch JOB …\n"
        "\n"
        "Options:\n"
        "  -h,--help                   Print this help and exit\n"
        "\n"
        "Subcommands:\n"
        "  get                         Print the values of keys, byte for byte\n"
        "  set                         Set a key; -: its value is what stdin has\n"
        "  add                         Add to a number, and print the sum\n"
        "  delete                      Delete keys\n"
        "  list                        List keys, with the bytes that each holds, and whose they are\n"
        "  watch                       Print each change as it is made, until the job ends\n"
        "\n"
        "JOB is a job id below --log-dir, the path of a run directory, or latest: the newest job that runs. It is that "
        "of\n"
        "the same user, and runs from this machine. Exit status: 1 when the store says no, 69 when there is no such "
        "running\n"
        "job.\n"
        "\n"
        "Examples:\n"
        "  llmlaunch store list                                 # all keys of the newest job that runs\n"
        "  llmlaunch store get latest ready/0 --wait 30s        # a value, byte for byte\n"
        "  llmlaunch store set latest go 1                      # wakes who waits for the key\n"
        "  llmlaunch store watch 20261124-101530-4f2a0b1c --pytorch\n");
  CHECK(help({"store", "get", "--help"}) ==
        "Print the values of keys, byte for byte\n"
        "Usage: llmlaunch store get [OPTIONS] JOB KEY…\n"
        "\n"
        "Options:\n"
        "  -h,--help                   Print this help and exit\n"
        "  --log-dir DIR               Where runs make their directories (default: as the run has it)\n"
        "  -c,--config FILE            The job's configuration, for its log_dir\n"
        "  --native                    llmlaunch's own keys alone\n"
        "  --pytorch                   PyTorch's keys alone\n"
        "  --json                      A JSON object on a line for each\n"
        "  --wait TIME                 Wait for keys that are missing, for so long: 90, 30s, 5m\n"
        "\n"
        "On a terminal each value is one line, with what it would not show as \\xNN. A key is looked for among "
        "llmlaunch's\n"
        "own, then among PyTorch's. Exit status: 1 when a key is missing, 124 when it did not come within --wait.\n");
}

}  // namespace cli_store_test
