// Text of the help that is more than one line for one option.
#include "cli/examples.hpp"

#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

namespace llmlaunch::cli {
namespace {

struct CommandExamples {
  std::string_view command;
  std::string_view lines;
};

constexpr std::array<CommandExamples, 5> kExamples{{
    {"llmlaunch",
     "  llmlaunch config                                     # write a configuration by questions\n"
     "  llmlaunch run -c llmlaunch.yaml train.py             # any program, on all of its hosts\n"
     "  llmlaunch run --multi_gpu --num_processes 2 train.py # as accelerate launch, or torchrun, is called\n"},
    {"run",
     "  llmlaunch run train.py                               # on this machine alone\n"
     "  llmlaunch run -c cfg.yaml train.py --lr 1e-4         # on the hosts of the file\n"
     "  llmlaunch run --hosts 'gpu[01-04]' --nproc-per-node 8 -m my.trainer\n"
     "  llmlaunch run -c cfg.yaml --dry-run train            # what would be started, and where\n"},
    {"exec",
     "  llmlaunch exec -w 'gpu[01-64]' -x gpu07 -- nvidia-smi -L\n"
     "  llmlaunch exec -c cfg.yaml --shell 'df -h /scratch | tail -1'\n"
     "  llmlaunch exec -w 'gpu[01-64]' -L -f 8 uptime        # lines as they come, 8 hosts at once\n"},
    {"hosts",
     "  llmlaunch hosts 'gpu[01-64]!gpu07' --count\n"
     "  llmlaunch hosts --hostfile hosts.mpi --fold\n"
     "  llmlaunch hosts -c cfg.yaml '@rack1' --split 4\n"},
    {"store",
     "  llmlaunch store list                                 # all keys of the newest job that runs\n"
     "  llmlaunch store get latest ready/0 --wait 30s        # a value, byte for byte\n"
     "  llmlaunch store set latest go 1                      # wakes who waits for the key\n"
     "  llmlaunch store watch 20261124-101530-4f2a0b1c --pytorch\n"},
}};

using Names = std::initializer_list<const char*>;
struct Subject {
  const char* title;
  Names options;
};

constexpr const char* kOther = "Other options";

}  // namespace

void add_examples(CLI::App& command) {
  for (const auto& [name, lines] : kExamples) {
    if (name == command.get_name())
      command.footer(
          fmt::format("{}\n\n{}{}", command.get_footer(), kExamplesHeading, lines.substr(0, lines.size() - 1)));
  }
}

void group_run_options(CLI::App& run) {
  const std::initializer_list<Subject> subjects{
      {"Configuration and hosts",
       {"--config", "--set", "--hosts", "--hostfile", "--from", "--include", "--exclude", "--nodes", "--token-file"}},
      {"Ranks",
       {"--num-processes", "--nproc-per-node", "--workdir", "--env", "--stdin", "--cpu-bind", "--forward-signal",
        "--timeout", "--module", "--no-python", "--python"}},
      {"Output",
       {"--log-dir", "--prefix", "--color", "--color-by", "--ranks", "--fold-lines", "--updates-per-second",
        "--no-progress", "--timeline", "--json-events", "--quiet", "--verbose"}},
      {"ssh", {"--ask-pass", "--batch"}},
      {"cron", {"--cron", "--lock"}},
      {"Instead of a run", {"--help", "--dry-run", "--json", "--explain"}},
  };
  run.set_help_flag("-h,--help",
                    "Print this help and exit");  // once more: subjects stand in the order of their options
  constexpr const char* kCliDefault = "Options";
  for (const auto& [title, options] : subjects)
    for (const char* name : options)
      if (CLI::Option* option = run.get_option_no_throw(name)) option->group(title);
  for (CLI::Option* option : run.get_options([](const CLI::Option* one) { return one->get_group() == kCliDefault; }))
    option->group(kOther);
}

}  // namespace llmlaunch::cli
