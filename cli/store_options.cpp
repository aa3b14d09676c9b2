// `llmlaunch store get|set|add|delete|list|watch`: words and options in any order.
#include "cli/store_options.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <memory>

#include "cli/examples.hpp"
#include "cli/option_values.hpp"
#include "cli/option_words.hpp"
#include "launcher/config.hpp"

namespace llmlaunch::cli {
namespace {

using Verb = StoreOptions::Verb;

struct VerbWords {
  Verb verb;
  const char* name;
  const char* words;  // behind JOB, in the usage
  const char* text;
  const char* notes;
};
constexpr std::array<VerbWords, 6> kVerbs{{
    {Verb::get, "get", "JOB KEY…", "Print the values of keys, byte for byte",
     "On a terminal each value is one line, with what it would not show as \\xNN. A key is looked for among "
     "llmlaunch's\n"
     "own, then among PyTorch's. Exit status: 1 when a key is missing, 124 when it did not come within --wait."},
    {Verb::set, "set", "JOB KEY VALUE|-", "Set a key; -: its value is what stdin has",
     "Who waits for the key goes on: this changes the running job. Behind -- a value may begin with '-'."},
    {Verb::add, "add", "JOB KEY N", "Add to a number, and print the sum",
     "A missing key is 0, and N may be negative: llmlaunch store add latest k -1"},
    {Verb::remove, "delete", "JOB KEY…", "Delete keys", "Exit status: 1 when a key was missing."},
    {Verb::list, "list", "[JOB [PREFIX]]", "List keys, with the bytes that each holds, and whose they are",
     "native: llmlaunch's own; pytorch: what PyTorch's TCPStore has, where the head serves it. Without JOB: latest."},
    {Verb::watch, "watch", "[JOB [PREFIX]]", "Print each change as it is made, until the job ends",
     "Exit status: 0 when the job has ended, 69 when its llmlaunch died or changes were lost, as stdout took them too\n"
     "slowly or the connection ended before the job. Without JOB: latest."},
}};

constexpr const char* kStoreFooter =
    "JOB is a job id below --log-dir, the path of a run directory, or latest: the newest job that runs. It is that of\n"
    "the same user, and runs from this machine. Exit status: 1 when the store says no, 69 when there is no such "
    "running\n"
    "job.";

class StoreHelp final : public CLI::Formatter {
 public:
  explicit StoreHelp(const VerbWords& verb) : verb_(verb) {}
  std::string make_usage(const CLI::App*, std::string) const override {
    return fmt::format("Usage: llmlaunch store {} [OPTIONS] {}\n", verb_.name, verb_.words);
  }

 private:
  const VerbWords& verb_;
};

class StoreOverview final : public CLI::Formatter {
 public:
  std::string make_usage(const CLI::App*, std::string) const override {
    return "Usage: llmlaunch store get|set|add|delete|list|watch JOB …\n";
  }
};

}  // namespace

void StoreParser::add_to(CLI::App& parent) {
  app = parent.add_subcommand("store", "Look into a running job: read, set and watch the keys of its store");
  app->formatter(std::make_shared<StoreOverview>());
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->footer(kStoreFooter);
  for (const VerbWords& each : kVerbs) {
    CLI::App* verb = app->add_subcommand(each.name, each.text);
    verb->formatter(std::make_shared<StoreHelp>(each));
    verb->set_help_flag("-h,--help", "Print this help and exit");
    verb->footer(each.notes);
    add_value(*verb, "--log-dir", values_.log_dir, "DIR",
              "Where runs make their directories (default: as the run has it)");
    add_value(*verb, "-c,--config", values_.config, "FILE", "The job's configuration, for its log_dir");
    const bool reads = each.verb == Verb::get || each.verb == Verb::list || each.verb == Verb::watch;
    if (reads) {
      verb->add_flag("--native", values_.native, "llmlaunch's own keys alone");
      verb->add_flag("--pytorch", values_.pytorch, "PyTorch's keys alone");
      verb->add_flag("--json", values_.json,
                     each.verb == Verb::list ? "One JSON object" : "A JSON object on a line for each");
    } else {
      verb->add_flag("--pytorch", values_.pytorch, "A key of PyTorch's store, not of llmlaunch's own");
    }
    if (each.verb == Verb::get)
      add_value(*verb, "--wait", wait_, "TIME", "Wait for keys that are missing, for so long: 90, 30s, 5m");
    if (each.verb == Verb::watch) verb->add_flag("--exact", values_.exact, "PREFIX is a key: this one alone");
  }
}

const CLI::App* StoreParser::verb() const {
  const auto named = app->get_subcommands();
  return named.empty() ? nullptr : named.front();
}

// JOB and what follows it.
Result<void> StoreParser::take_words(const std::string& name, std::vector<std::string>& words) {
  const std::string hint = fmt::format("llmlaunch store {} --help shows how it is called", name);
  const bool may_lack_job = values_.verb == Verb::list || values_.verb == Verb::watch;
  if (words.empty() && may_lack_job) words.emplace_back("latest");
  if (words.empty()) return usage(fmt::format("store {}: no job is named", name), hint);
  if (words.front().empty())
    return usage(fmt::format("store {}: the job's name is empty", name), "a variable in its place may not be set");
  values_.job = std::move(words.front());
  words.erase(words.begin());
  if (!may_lack_job && words.empty()) return usage(fmt::format("store {}: no key is named", name), hint);
  const bool many = values_.verb == Verb::get || values_.verb == Verb::remove;
  const std::size_t most = may_lack_job ? 1 : 2;
  if (!many && words.size() > most)
    return usage(fmt::format("store {}: '{}' is one word too many", name, words[most]), hint);
  if (!may_lack_job && !many && words.size() < 2)
    return usage(fmt::format("store {}: {} is missing", name, values_.verb == Verb::set ? "the value" : "the number"),
                 hint);
  if (values_.verb == Verb::set) values_.value = words[1];
  if (values_.verb == Verb::add) {
    const std::string& text = words[1];
    const char* first = text.data() + (text.starts_with('+') ? 1 : 0);
    const auto [end, code] = std::from_chars(first, text.data() + text.size(), values_.delta);
    if (code != std::errc() || end != text.data() + text.size())
      return usage(fmt::format("store add: '{}' is no whole number of 64 bits", text), hint);
  }
  if (!many && !may_lack_job) words.resize(1);
  for (const std::string& key : words)
    if (key.empty() && !may_lack_job)
      return usage(fmt::format("store {}: a key is empty", name), "a variable in its place may not be set");
  values_.keys = std::move(words);
  return ok;
}

Result<Options> StoreParser::options(std::vector<std::string> words) {
  const CLI::App* named = verb();
  if (named == nullptr)
    return usage(words.empty() ? "store: nothing is asked for" : fmt::format("store: '{}' is not known", words.front()),
                 "it is one of get, set, add, delete, list, watch");
  for (const VerbWords& each : kVerbs)
    if (named->get_name() == each.name) values_.verb = each.verb;
  const std::string hint = full_name(*named) + " --help lists the options";
  for (const auto& [name, value] : {std::pair{"--log-dir", &values_.log_dir}, std::pair{"--config", &values_.config}})
    if (*value && (*value)->empty()) return usage(fmt::format("{} is empty", name), hint);
  if (values_.native && values_.pytorch) return usage("--native and --pytorch exclude each other", hint);
  if (values_.verb == Verb::get && named->count("--wait") > 0) {
    values_.wait = launcher::parse_duration(wait_);
    if (!values_.wait || values_.wait->count() <= 0)
      return usage(fmt::format("--wait must be a time such as 90, 30s, 5m or 2h, not '{}'", wait_), hint);
  }
  if (auto taken = take_words(named->get_name(), words); !taken) return taken.error();
  if (values_.exact && (values_.keys.empty() || values_.keys.front().empty()))
    return usage("--exact: no key is named", hint);
  Options options;
  options.action = Options::Action::store;
  options.store = std::move(values_);
  return options;
}

}  // namespace llmlaunch::cli
