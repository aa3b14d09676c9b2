/// \file
/// The command line as it was typed: `parse_options` reads words, touches nothing else. What the words mean together
/// with a configuration file is decided in run.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/wizard_values.hpp"
#include "launcher/config.hpp"
#include "launcher/hostlist_fold.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

enum class Verbosity { quiet, normal, verbose };

/// A value, and the option as it was typed.
struct TypedText {
  std::string option;
  std::string value;
};

/// `llmlaunch run [options] PROGRAM [ARGS…]`
struct RunOptions {
  std::optional<std::string> config;
  std::vector<std::string> settings;  ///< --set: "KEY=VALUE"
  bool explain = false;
  std::optional<std::string> hosts;
  std::optional<std::string> hostfile;
  std::optional<std::string> from;              ///< how it is written, or the batch system whose allocation is meant
  std::optional<std::uint32_t> num_processes;   ///< over all hosts
  std::optional<std::uint32_t> nproc_per_node;  ///< on each host
  std::optional<std::string> log_dir;
  std::optional<std::string> workdir;
  std::optional<std::chrono::milliseconds> timeout;
  std::optional<std::string> prefix;  ///< checked
  std::optional<launcher::ColorWhen> color;
  std::optional<launcher::ColorBy> color_by;
  std::vector<launcher::RankRange> ranks;  ///< empty: as the file says
  std::optional<std::uint32_t> updates_per_second;
  bool fold_lines = false;
  bool no_progress = false;
  std::string timeline;  ///< a file; empty: none
  std::optional<launcher::StdinTo> stdin_to;
  std::optional<launcher::agent::CpuBind> cpu_bind;
  std::vector<int> forward_signals;
  std::vector<std::string> env;  ///< "K=V", or "K" alone: from llmlaunch's own environment
  Verbosity verbosity = Verbosity::normal;
  bool dry_run = false;
  std::vector<std::string> command;  ///< the program and its words, as they came
  bool ask_pass = false;             ///< ask for a password, once for all hosts
  bool batch = false;                ///< ask for nothing at all
  bool module = false;               ///< the program is a Python module
  bool no_python = false;            ///< a .py file is run as it is
  std::optional<std::string> python;
  std::optional<std::string> token_file;  ///< also an override of its key
  bool lock = false;                      ///< one run of this configuration at a time
  bool cron = false;                      ///< nothing is printed unless something fails
  bool json = false;                      ///< the plan of --dry-run for scripts
  std::string json_events;
  std::optional<std::string> include;  ///< host expression, or DeepSpeed's NODE:GPU,GPU@NODE
  std::optional<std::string> exclude;
  std::optional<std::string> nodes;  ///< "4", "2-4": by place
  // What options of accelerate and torchrun come to (foreign_flags.hpp).
  std::vector<launcher::Override> overrides;
  std::vector<std::string> notes;
  std::optional<std::chrono::milliseconds> rendezvous_timeout;
  std::optional<std::chrono::milliseconds> grace;
  std::vector<launcher::RankRange> local_ranks;  ///< show the lines of these alone
  std::optional<TypedText> is_host;              ///< --rdzv-conf is_host, "true" or "false": has this machine the store
  std::string run_id;                            ///< --rdzv-id
  bool endpoint = false;                         ///< --rdzv-endpoint says where machine 0 is
  bool torchrun = false;                         ///< an option that torchrun alone has: a rank where no number is given
  std::string nproc_device;                      ///< --nproc-per-node gpu, cpu or auto: as many as this machine has
};

/// Which hosts, as they were typed. What they come to is decided in cli/host_choice.cpp.
struct HostWords {
  std::vector<std::string> include;    ///< -w, or the words of `hosts`: host expressions
  std::vector<std::string> exclude;    ///< -x
  std::vector<std::string> hostfiles;  ///< --hostfile
  std::vector<std::string> groups;     ///< --groups: files of groups, beside those of the configuration
  std::optional<std::string> from;     ///< --from: how the hostfiles are written; unset: seen from their text
};

/// `llmlaunch exec [options] PROGRAM [ARGS…]`
struct ExecOptions {
  std::optional<std::string> config;
  std::vector<std::string> settings;  ///< --set: "KEY=VALUE"
  bool explain = false;
  HostWords hosts;
  std::optional<std::uint32_t> fanout;  ///< hosts at the same time, connecting or running
  std::optional<std::chrono::milliseconds> timeout;
  std::optional<std::chrono::milliseconds> connect_timeout;
  std::optional<std::string> user;
  std::optional<std::string> workdir;
  std::optional<std::string> log_dir;
  std::vector<std::string> env;
  bool shell = false;  ///< the command is one line for sh
  bool lines = false;  ///< "gpu01: line" as it comes
  bool json = false;
  bool table = false;  ///< a line for each host when all is over
  bool ask_pass = false;
  bool no_progress = false;
  std::string timeline;  ///< a file; empty: none
  Verbosity verbosity = Verbosity::normal;
  bool dry_run = false;
  std::vector<std::string> command;
};

/// `llmlaunch hosts [options] EXPR…`
struct HostsOptions {
  std::optional<std::string> config;
  std::vector<std::string> settings;
  HostWords hosts;
  std::optional<std::string> slice;  ///< "0-18/2,20": by place, from 0
  std::optional<std::uint32_t> pick;
  std::optional<std::uint32_t> split;
  std::string separator = "\n";
  launcher::FoldOptions folding;  ///< --autostep, --axis
  bool fold = false;
  bool contiguous = false;
  bool count = false;
  bool json = false;
};

/// `llmlaunch docs man [COMMAND]`, `llmlaunch docs completion SHELL`
struct DocsPagesOptions {
  enum class Kind { manual, completion };
  Kind kind = Kind::manual;
  std::string subject;  ///< a command or nothing; a shell
};

/// `llmlaunch config check [FILE]`
struct ConfigCheckOptions {
  std::optional<std::string> file;    ///< unset: accelerate's default file
  std::vector<std::string> settings;  ///< --set: "KEY=VALUE"
  bool quiet = false;
};

/// `llmlaunch env [options]`
struct EnvOptions {
  std::optional<std::string> config;
  HostWords hosts;
  std::optional<std::string> user;
  std::optional<std::chrono::milliseconds> connect_timeout;
  bool all = false;
  bool json = false;
  bool ask_pass = false;
  bool no_progress = false;
  Verbosity verbosity = Verbosity::normal;
};

/// `llmlaunch store VERB JOB …`
struct StoreOptions {
  enum class Verb { get, set, add, remove, list, watch };
  Verb verb = Verb::list;
  std::string job;                ///< an id, a path, or "latest"
  std::vector<std::string> keys;  ///< of list and watch: a prefix or nothing
  std::string value;              ///< of set; "-": stdin
  std::int64_t delta = 0;         ///< of add
  std::optional<std::chrono::milliseconds> wait;
  std::optional<std::string> config;
  std::optional<std::string> log_dir;
  bool native = false;   ///< llmlaunch's own keys alone
  bool pytorch = false;  ///< PyTorch's keys alone
  bool exact = false;    ///< the prefix is a key
  bool json = false;
};

struct Options {
  enum class Action {
    print,        ///< `text` to stdout, status 0: --help, --version
    print_usage,  ///< `text` to stderr, status 64: no arguments at all
    run,
    exec,
    hosts,
    docs_pages,
    config_check,
    version,  ///< with the protocols and libraries: `llmlaunch version`
    env,
    wizard,
    store,
  };
  Action action = Action::run;
  std::string text;
  RunOptions run;
  ExecOptions exec;
  HostsOptions hosts;
  DocsPagesOptions docs_pages;
  ConfigCheckOptions config_check;
  EnvOptions env;
  WizardOptions wizard;
  StoreOptions store;
};

/// `words` without argv[0]. Long flags may be written with hyphens or underscores. Everything from the program's name
/// on (or behind the first "--") belongs to the program and is not looked at. "help" stands for --help; "version" alone
/// says more than --version. Errors: `Errc::usage`.
Result<Options> parse_options(const std::vector<std::string>& words);

}  // namespace llmlaunch::cli
