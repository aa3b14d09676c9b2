// Words of the command line → `Options`. Nothing is touched: no file, no environment.
#include "cli/options.hpp"

#include <csignal>

#include "tests/support/catch.hpp"

namespace cli_options_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using Words = std::vector<std::string>;

namespace {

RunOptions parsed(const Words& words) {
  auto options = parse_options(words);
  INFO((options ? "" : to_string(options.error())));
  REQUIRE(options.has_value());
  REQUIRE(options->action == Options::Action::run);
  return std::move(options->run);
}

std::string message(const Words& words) {
  const auto options = parse_options(words);
  if (options) return "no error";
  CHECK(options.error().code == Errc::usage);
  return to_string(options.error());
}

const std::string kLists = "\n   hint: llmlaunch run --help lists the options";

const std::string kRunHelp =
    "Run a program on all hosts, or the built-in trainer ('train')\n"
    "Usage: llmlaunch run [OPTIONS] PROGRAM [ARGS…]\n"
    "       llmlaunch run [OPTIONS] train [TRAINER FLAGS…]\n"
    "\n"
    "Configuration and hosts:\n"
    "  -c,--config FILE            Configuration: accelerate's YAML, with or without 'llmlaunch:'\n"
    "  --set KEY=VALUE ...         A setting over the configuration: llmlaunch.ssh.port=2222\n"
    "  --hosts LIST                Hosts instead of the file's: gpu[01-16],login0\n"
    "  --hostfile FILE             Hosts and slots from a file: Open MPI, DeepSpeed, PBS, Slurm …\n"
    "  --from FORMAT               How it is written; slurm, pbs and lsf without a file: the hosts of this allocation\n"
    "  --include LIST              These hosts alone; n1:0,2@n2 also chooses GPUs\n"
    "  -x,--exclude LIST           All hosts but these; n1:3 leaves out a GPU\n"
    "  --nodes N|A-B               The first N hosts, or those from place A to B (from 1)\n"
    "  --token-file FILE           The secret of machines that are started one by one\n"
    "\n"
    "Ranks:\n"
    "  -n,--num-processes N        Ranks on all hosts together\n"
    "  --nproc-per-node N          Ranks on each host\n"
    "  --workdir DIR               Where the ranks start, on every host\n"
    "  --timeout TIME              Stop the job after this time: 90, 30s, 5m, 2h\n"
    "  --stdin none|0|all          Which ranks read llmlaunch's stdin; none is the default\n"
    "  --cpu-bind none|core|numa|gpu\n"
    "                              Give each rank cores of its own\n"
    "  --forward-signal NAME[,NAME] ...\n"
    "                              Signals that go to the ranks: HUP, RTMIN+1; USR1 and USR2 always do\n"
    "  --env NAME[=VALUE] ...      Set a variable for all ranks; NAME alone passes the value on that it has here\n"
    "  -m,--module                 PROGRAM is a Python module, as after python -m\n"
    "  --no-python                 Run a .py file as the program that it is\n"
    "  --python PATH               Instead of python3 for .py files and modules\n"
    "\n"
    "Output:\n"
    "  --log-dir DIR               Where the run directory is made\n"
    "  --prefix TEXT               Before each line, with {host} {rank} {local_rank} {node_rank} {time} …\n"
    "  --color auto|always|never   Colours; auto: on a terminal\n"
    "  --color-by host|rank        One colour for each host, or for each rank\n"
    "  --ranks LIST                Show these ranks alone: 0,8-15; the files keep all\n"
    "  --fold-lines                Show a line that many ranks write at once one time\n"
    "  --updates-per-second N      Of a rank's progress bar off a terminal; 0: its end\n"
    "  --no-progress               No line on the terminal that is drawn again\n"
    "  --timeline FILE             Write how long each host took for what (trace and table)\n"
    "  -q,--quiet                  Say nothing but warnings and errors\n"
    "  -v,--verbose                Say more\n"
    "  --json-events FILE|FD       Write what happens as JSON, one object a line\n"
    "\n"
    "ssh:\n"
    "  --ask-pass                  Ask for a password, once, for hosts that take no key\n"
    "  --batch                     Ask for nothing, not even a key's passphrase\n"
    "\n"
    "Instead of a run:\n"
    "  --dry-run                   Print the plan; start nothing, contact no host\n"
    "  --json                      With --dry-run: the plan as JSON\n"
    "  --explain                   Print every setting and where it comes from; start nothing\n"
    "  -h,--help                   Print this help and exit\n"
    "\n"
    "cron:\n"
    "  --lock                      One run of this configuration at a time; the second ends with 75\n"
    "  --cron                      Print nothing unless something fails, then a summary; ask for nothing\n"
    "\n"
    "A .py file is run by Python. The options of accelerate launch and torchrun work under their own names as well.\n"
    "PROGRAM and everything behind it are passed on as they are. The program 'train' is llmlaunch's own trainer\n"
    "(llmlaunch run train --help lists its flags); write ./train for a program of yours with that name.\n"
    "Without --config: accelerate's default file if there is one, else this machine alone,\n"
    "with a rank for each of its GPUs.\n"
    "\n"
    "Examples:\n"
    "  llmlaunch run train.py                               # on this machine alone\n"
    "  llmlaunch run -c cfg.yaml train.py --lr 1e-4         # on the hosts of the file\n"
    "  llmlaunch run --hosts 'gpu[01-04]' --nproc-per-node 8 -m my.trainer\n"
    "  llmlaunch run -c cfg.yaml --dry-run train            # what would be started, and where\n";

const std::string kHelp =
    "Starts a training job on any number of machines over ssh.\n"
    "Usage: llmlaunch [OPTIONS] [SUBCOMMAND]\n"
    "\n"
    "Options:\n"
    "  -V,--version                Display program version information and exit\n"
    "  -h,--help                   Print this help and exit\n"
    "\n"
    "Subcommands:\n"
    "  run                         Run a program on all hosts, or the built-in trainer ('train')\n"
    "  exec                        Run a command on all hosts and show what they said, grouped\n"
    "  hosts                       Expand, fold, count, split and convert lists of hosts\n"
    "  env                         Show GPUs, driver, network and limits of this machine or of all hosts\n"
    "  store                       Look into a running job: read, set and watch the keys of its store\n"
    "  docs                        Manual pages, shell completion, and the reference of configuration keys\n"
    "  config                      Write a configuration by questions and a look at the hosts; check one\n"
    "  version                     Tell the versions of llmlaunch, its protocols and libraries\n"
    "\n"
    "llmlaunch COMMAND --help tells more about a command.\n"
    "\n"
    "Examples:\n"
    "  llmlaunch config                                     # write a configuration by questions\n"
    "  llmlaunch run -c llmlaunch.yaml train.py             # any program, on all of its hosts\n"
    "  llmlaunch run --multi_gpu --num_processes 2 train.py # as accelerate launch, or torchrun, is called\n";

}  // namespace

TEST_CASE("every option of run is read, in each of its spellings") {
  const RunOptions run =
      parsed({"run", "--config", "c.yaml", "--hosts=gpu[01-02]", "-n", "4", "--log_dir=logs", "--workdir", "/w x",
              "--timeout", "90s", "--env", "A=b c", "--env=B", "-v", "--dry-run", "prog"});
  CHECK(run.config == "c.yaml");
  CHECK(run.hosts == "gpu[01-02]");
  CHECK(run.num_processes == 4u);
  CHECK(run.nproc_per_node == std::nullopt);
  CHECK(run.log_dir == "logs");
  CHECK(run.workdir == "/w x");
  CHECK(run.timeout == std::chrono::seconds(90));
  CHECK(run.env == Words{"A=b c", "B"});
  CHECK(run.verbosity == Verbosity::verbose);
  CHECK(run.dry_run);
  CHECK(run.command == Words{"prog"});

  CHECK(parsed({"run", "-cx.yaml", "p"}).config == "x.yaml");
  CHECK(parsed({"run", "--config=x=y.yaml", "p"}).config == "x=y.yaml");
  CHECK(parsed({"run", "--num_processes", "12", "p"}).num_processes == 12u);
  CHECK(parsed({"run", "--num-processes=12", "p"}).num_processes == 12u);
  CHECK(parsed({"run", "-n12", "p"}).num_processes == 12u);
  CHECK(parsed({"run", "--nproc_per_node=3", "p"}).nproc_per_node == 3u);
  CHECK(parsed({"run", "-q", "p"}).verbosity == Verbosity::quiet);
  CHECK(parsed({"run", "--dry_run", "p"}).dry_run);
}

TEST_CASE("every option of the output is read") {
  const RunOptions run =
      parsed({"run", "--prefix", "{rank}: ", "--color=always", "--color-by", "rank", "--ranks", "0,8-15",
              "--fold_lines", "--updates-per-second=5", "--no-progress", "--timeline", "t.json", "prog"});
  CHECK(run.prefix == "{rank}: ");
  CHECK(run.color == launcher::ColorWhen::always);
  CHECK(run.color_by == launcher::ColorBy::rank);
  CHECK(run.ranks == std::vector<launcher::RankRange>{{0, 0}, {8, 15}});
  CHECK(run.fold_lines);
  CHECK(run.updates_per_second == 5u);
  CHECK(run.no_progress);
  CHECK(run.timeline == "t.json");
  CHECK(parsed({"run", "--prefix=", "p"}).prefix == "");
}

TEST_CASE("options about how ranks run are read, and refused with what they can be") {
  const RunOptions run = parsed({"run", "--stdin", "0", "--cpu_bind=gpu", "--forward-signal", "HUP,SIGWINCH",
                                 "--forward-signal", "RTMIN", "prog"});
  CHECK(run.stdin_to == launcher::StdinTo::rank_0);
  CHECK(run.cpu_bind == launcher::agent::CpuBind::gpu);
  CHECK(run.forward_signals == std::vector<int>{SIGHUP, SIGWINCH, SIGRTMIN});
  CHECK(message({"run", "--stdin", "1", "prog"}) == "--stdin must be one of none, 0, all, not '1'" + kLists);
  CHECK(message({"run", "--cpu-bind", "", "prog"}) ==
        "--cpu-bind must be one of none, core, numa, gpu, not ''" + kLists);
  CHECK(message({"run", "--forward-signal", "HUP,,USR1", "prog"}) ==
        "--forward-signal: '' is no signal\n   hint: a name such as USR1, HUP or RTMIN+1; kill -l lists them");
  CHECK(message({"run", "--forward-signal", "TERM", "prog"}) ==
        "--forward-signal: 'TERM' cannot be forwarded: it stops the job, and its ranks get it then: something must be "
        "left that does");
}

TEST_CASE("nothing given leaves everything open") {
  const RunOptions run = parsed({"run", "prog"});
  CHECK_FALSE(run.config.has_value());
  CHECK_FALSE(run.hosts.has_value());
  CHECK_FALSE(run.num_processes.has_value());
  CHECK_FALSE(run.nproc_per_node.has_value());
  CHECK_FALSE(run.log_dir.has_value());
  CHECK_FALSE(run.workdir.has_value());
  CHECK_FALSE(run.timeout.has_value());
  CHECK(run.env.empty());
  CHECK(run.verbosity == Verbosity::normal);
  CHECK_FALSE(run.dry_run);
  CHECK_FALSE(run.prefix.has_value());
  CHECK_FALSE(run.color.has_value());
  CHECK_FALSE(run.color_by.has_value());
  CHECK(run.ranks.empty());
  CHECK_FALSE(run.fold_lines);
  CHECK_FALSE(run.updates_per_second.has_value());
  CHECK_FALSE(run.no_progress);
  CHECK(run.timeline.empty());
}

TEST_CASE("everything from the program's name on belongs to the program") {
  CHECK(parsed({"run", "python", "train.py", "--config", "x", "--help", "-n", "8", "--", "-q"}).command ==
        Words{"python", "train.py", "--config", "x", "--help", "-n", "8", "--", "-q"});
  CHECK(parsed({"run", "-q", "--", "--odd-name", "--config"}).command == Words{"--odd-name", "--config"});
  CHECK(parsed({"run", "--", "--", "x"}).command == Words{"--", "x"});
  CHECK(parsed({"run", "p", "", " ", "a b", "'q'", "\"r\"", "[1,2]", "{x}", "\xff\n", "--log_dir=y"}).command ==
        Words{"p", "", " ", "a b", "'q'", "\"r\"", "[1,2]", "{x}", "\xff\n", "--log_dir=y"});
  CHECK(parsed({"run", "-n", "2", "run", "run"}).command == Words{"run", "run"});
  CHECK(parsed({"run", "train", "--use_cpu"}).command == Words{"train", "--use_cpu"});
}

TEST_CASE("values that look like options, lists or quoted words stay as they are") {
  CHECK(parsed({"run", "--config", "--help", "p"}).config == "--help");
  CHECK(parsed({"run", "--config", "--", "p"}).config == "--");
  CHECK(parsed({"run", "--hosts", "[1-2]", "p"}).hosts == "[1-2]");
  CHECK(parsed({"run", "--hosts=[1-2].lab,[3].lab", "p"}).hosts == "[1-2].lab,[3].lab");
  CHECK(parsed({"run", "--log-dir", "[a,b]", "p"}).log_dir == "[a,b]");
  CHECK(
      parsed({"run", "--env", "A=\"x\"", "--env", "B='y'", "--env", "C=[1,2]", "--env", "D=--env", "--env", "E=", "p"})
          .env == Words{"A=\"x\"", "B='y'", "C=[1,2]", "D=--env", "E="});
  CHECK(parsed({"run", "--env", "A_B=c_d", "--env=E_F=g_h", "p"}).env == Words{"A_B=c_d", "E_F=g_h"});
}

TEST_CASE("a wrong command line is answered with what was meant or where to look") {
  struct Row {
    Words words;
    std::string message;
  };
  const std::vector<Row> rows{
      {{"run"},
       "run: no program given\n   hint: llmlaunch run [OPTIONS] PROGRAM [ARGS…], or llmlaunch run [OPTIONS] train"},
      {{"run", "--config", "c", "", "x"},
       "run: the program's name is empty\n   hint: a variable in its place may not be set"},
      {{"run", "--", ""}, "run: the program's name is empty\n   hint: a variable in its place may not be set"},
      {{"run", "--"},
       "run: no program given\n   hint: llmlaunch run [OPTIONS] PROGRAM [ARGS…], or llmlaunch run [OPTIONS] train"},
      {{"rnu", "x"}, "unknown command 'rnu'\n   hint: did you mean 'run'?"},
      {{"python", "x.py"}, "unknown command 'python'\n   hint: a program is started by: llmlaunch run python"},
      {{"status"},
       "there is no command 'status'\n   hint: what the ranks of a running job wait for: llmlaunch store list; how one "
       "has ended: job.json in its run directory"},
      {{"stop", "x"},
       "there is no command 'stop'\n   hint: a run is stopped by Ctrl-C, or by SIGTERM to its llmlaunch (pgrep -x "
       "llmlaunch)"},
      {{"attach"},
       "there is no command 'attach'\n   hint: a run shows its output itself, and keeps it below its log_dir"},
      {{"run", "--detach", "x"},
       "there is no --detach: a run ends with its llmlaunch\n   hint: start it by systemd-run, with nohup or in tmux"},
      {{"launch"},
       "run: no program given\n   hint: llmlaunch run [OPTIONS] PROGRAM [ARGS…], or llmlaunch run [OPTIONS] train"},
      {{"train"}, "unknown command 'train'\n   hint: a program is started by: llmlaunch run train"},
      {{""}, "unknown command ''\n   hint: a program is started by: llmlaunch run PROGRAM"},
      {{"--"}, "unknown command '--'\n   hint: a program is started by: llmlaunch run PROGRAM"},
      {{"--verson"}, "unknown option '--verson'\n   hint: did you mean '--version'?"},
      {{"--config", "x", "run", "p"},
       "option '--config' in front of the command\n   hint: options stand behind it: llmlaunch run --config …"},
      {{"run", "--bind-to=core", "p"}, "option '--bind-to' is another launcher's\n   hint: here: --cpu-bind"},
      {{"exec", "--nnodes=2", "p"}, "unknown option '--nnodes'\n   hint: llmlaunch exec --help lists the options"},
      {{"run", "--confg", "x", "p"}, "unknown option '--confg'\n   hint: did you mean '--config'?"},
      {{"run", "--num_proceses=2", "p"}, "unknown option '--num-proceses'\n   hint: did you mean '--num-processes'?"},
      {{"run", "--whatever-it-is", "p"}, "unknown option '--whatever-it-is'" + kLists},
      {{"run", "-y", "p"}, "unknown option '-y'" + kLists},
      {{"run", "--config"}, "option '--config' needs a value" + kLists},
      {{"run", "--config="}, "--config is empty" + kLists},
      {{"run", "--config", "", "p"}, "--config is empty" + kLists},
      {{"run", "--hosts", "", "p"}, "--hosts is empty" + kLists},
      {{"run", "--log-dir=", "p"}, "--log-dir is empty" + kLists},
      {{"run", "--workdir=", "p"}, "--workdir is empty" + kLists},
      {{"run", "-c", "a", "--config=b", "p"}, "option '--config' is given twice" + kLists},
      {{"run", "--quiet=3", "p"}, "option '--quiet' takes no value" + kLists},
      {{"run", "--dry_run=no", "p"}, "option '--dry-run' takes no value" + kLists},
      {{"run", "--prefix", "{rnak} ", "p"},
       "--prefix: the prefix names '{rnak}', which is none of {host}, {rank}, {local_rank}, {node_rank}, {time}, "
       "{stream}, {world_size}\n   hint: did you mean '{rank}'?"},
      {{"run", "--color", "yes", "p"}, "--color must be auto, always or never, not 'yes'" + kLists},
      {{"run", "--color-by=", "p"}, "--color-by must be host or rank, not ''" + kLists},
      {{"run", "--ranks", "a", "p"}, "--ranks: 'a' is no rank and no range of ranks\n   hint: ranks look like 0,8-15"},
      {{"run", "--ranks", "", "p"}, "--ranks: '' is no rank and no range of ranks\n   hint: ranks look like 0,8-15"},
      {{"run", "--updates-per-second", "101", "p"},
       "--updates-per-second must be a number from 0 to 100, not '101'" + kLists},
      {{"run", "--timeline=", "p"}, "--timeline is empty" + kLists},
      {{"run", "-q", "-v", "p"}, "--quiet and --verbose exclude each other" + kLists},
      {{"run", "-n", "0", "p"}, "--num-processes must be a number from 1 to 262144, not '0'" + kLists},
      {{"run", "-n", "-1", "p"}, "--num-processes must be a number from 1 to 262144, not '-1'" + kLists},
      {{"run", "-n", "010", "p"}, "--num-processes must be a number from 1 to 262144, not '010'" + kLists},
      {{"run", "-n", "8x", "p"}, "--num-processes must be a number from 1 to 262144, not '8x'" + kLists},
      {{"run", "-n", "", "p"}, "--num-processes must be a number from 1 to 262144, not ''" + kLists},
      {{"run", "-n", "262145", "p"}, "--num-processes must be a number from 1 to 262144, not '262145'" + kLists},
      {{"run", "--nproc-per-node=two", "p"}, "--nproc-per-node must be a number from 1 to 262144, not 'two'" + kLists},
      {{"run", "-n", "2", "--nproc-per-node", "2", "p"},
       "--num-processes and --nproc-per-node exclude each other" + kLists},
      {{"run", "--timeout", "0", "p"}, "--timeout must be a time such as 90, 30s, 5m or 2h, not '0'" + kLists},
      {{"run", "--timeout", "-5", "p"}, "--timeout must be a time such as 90, 30s, 5m or 2h, not '-5'" + kLists},
      {{"run", "--timeout", "soon", "p"}, "--timeout must be a time such as 90, 30s, 5m or 2h, not 'soon'" + kLists},
      {{"run", "--timeout=", "p"}, "--timeout must be a time such as 90, 30s, 5m or 2h, not ''" + kLists},
      {{"run", "--env", "=x", "p"}, "--env needs NAME=VALUE or NAME" + kLists},
      {{"run", "--set", "=x", "p"}, "--set must be KEY=VALUE, and nothing stands before its '='" + kLists},
      {{"run", "--set", "x", "p"}, "--set must be KEY=VALUE, not 'x'" + kLists},
      {{"run", "--env", "", "p"}, "--env needs NAME=VALUE or NAME" + kLists},
      {{"run", "--env", "RANK=3", "p"}, "--env RANK: llmlaunch gives every rank its own RANK"},
      {{"-h", "--version", "x"}, "unknown command 'x'\n   hint: a program is started by: llmlaunch run x"},
  };
  for (const auto& row : rows) {
    std::string typed;
    for (const auto& word : row.words) typed += word + " ";
    INFO(typed);
    CHECK(message(row.words) == row.message);
  }
}

TEST_CASE("help is printed by every spelling, and wins over a missing program") {
  for (const Words& words : {Words{"--help"}, Words{"-h"}, Words{"help"}}) {
    const auto options = parse_options(words);
    REQUIRE(options.has_value());
    CHECK(options->action == Options::Action::print);
    CHECK(options->text == kHelp);
  }
  for (const Words& words :
       {Words{"run", "--help"}, Words{"run", "-h"}, Words{"help", "run"}, Words{"run", "-n", "2", "--help", "p"}}) {
    const auto options = parse_options(words);
    REQUIRE(options.has_value());
    CHECK(options->action == Options::Action::print);
    CHECK(options->text == kRunHelp);
  }
}

TEST_CASE("no words at all are a wrong call, answered by the help") {
  const auto options = parse_options({});
  REQUIRE(options.has_value());
  CHECK(options->action == Options::Action::print_usage);
  CHECK(options->text == kHelp);
}

TEST_CASE("the version is printed by every spelling") {
  for (const char* word : {"--version", "-V"}) {
    const auto options = parse_options({word});
    REQUIRE(options.has_value());
    CHECK(options->action == Options::Action::print);
    CHECK(options->text == "llmlaunch " LLMLAUNCH_VERSION "\n");
  }
  const auto all = parse_options({"version"});
  REQUIRE(all.has_value());
  CHECK(all->action == Options::Action::version);
  const auto help = parse_options({"version", "--help"});
  REQUIRE(help.has_value());
  CHECK(help->text.find("Usage: llmlaunch version [OPTIONS]\n") != std::string::npos);
  const auto more = parse_options({"version", "2"});
  REQUIRE_FALSE(more.has_value());
  CHECK(to_string(more.error()) == "version: '2' is one word too many\n   hint: llmlaunch version");
}

}  // namespace cli_options_test
