// exec and hosts: their words, the hosts that are meant, what is printed. Files and environment are given.
#include <map>

#include "cli/dry_run.hpp"
#include "cli/exec.hpp"
#include "cli/hosts.hpp"
#include "launcher/hostlist.hpp"
#include "tests/support/catch.hpp"

namespace cli_exec_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using launcher::Config;
using launcher::EnvList;
using Words = std::vector<std::string>;

namespace {

Options parsed(Words words) {
  auto options = parse_options(words);
  INFO((options ? "" : to_string(options.error())));
  REQUIRE(options.has_value());
  return std::move(*options);
}

std::string message(const Words& words) {
  const auto options = parse_options(words);
  if (options) return "no error";
  CHECK(options.error().code == Errc::usage);
  return to_string(options.error());
}

HostWorld world(EnvList environment = {}, std::map<std::string, std::string> files = {}) {
  HostWorld made;
  made.environment = std::move(environment);
  made.sources.read_file = [files = std::move(files)](const std::string& path) -> Result<std::string> {
    const auto found = files.find(path);
    if (found != files.end()) return found->second;
    return make_error(Errc::invalid_config, "cannot read the host file " + path + ": No such file or directory");
  };
  made.sources.read_stdin = [] { return Result<std::string>("p[1-2]\n"); };
  return made;
}

const char* const kFile =
    "num_processes: 12\nnum_machines: 3\nmachine_rank: 2\nmain_process_ip: 10.0.0.9\n"
    "llmlaunch:\n  hosts: [{name: 'gpu[01-03]', user: train, port: 2222, slots: 4}]\n  groups: {odd: 'gpu01,gpu03'}\n";

std::string exec_hosts(const Words& words, const HostWorld& from = world(), const std::string& file = "") {
  Words all{"exec"};
  all.insert(all.end(), words.begin(), words.end());
  all.insert(all.end(), {"true"});
  auto config = file.empty() ? Result<Config>(Config{}) : launcher::parse_config(file, "cfg.yaml");
  REQUIRE(config.has_value());
  const auto chosen = with_exec_options(std::move(*config), parsed(all).exec, from);
  if (!chosen) return to_string(chosen.error());
  Words names;
  for (const auto& host : chosen->hosts) {
    CHECK(host.slots == 1u);
    names.push_back(host.name);
  }
  return launcher::compress_hostlist(names);
}

std::string hosts_text(const Words& words, const HostWorld& from = world()) {
  Words all{"hosts"};
  all.insert(all.end(), words.begin(), words.end());
  const HostsOptions options = parsed(all).hosts;
  auto choice = choose_hosts({}, options.hosts, from, "hosts");
  if (!choice) return to_string(choice.error());
  const auto text = text_of_hosts(std::move(*choice), options, 42);
  return text ? *text : to_string(text.error());
}

}  // namespace

TEST_CASE("every option of exec is read, in each of its spellings") {
  const ExecOptions exec = parsed({"exec",       "-w",         "gpu[01-64]", "--hosts=login0",
                                   "-x",         "gpu07",      "-x^down",    "--hostfile",
                                   "h",          "--from=pbs", "-c",         "c.yaml",
                                   "-f",         "8",          "-u",         "30s",
                                   "-t",         "5",          "-l",         "me",
                                   "--workdir",  "/w",         "--log-dir",  "logs",
                                   "--env",      "A=b",        "-L",         "-q",
                                   "nvidia-smi", "-L"})
                               .exec;
  CHECK(exec.hosts.include == Words{"gpu[01-64]", "login0"});
  CHECK(exec.hosts.exclude == Words{"gpu07", "^down"});
  CHECK(exec.hosts.hostfiles == Words{"h"});
  CHECK(exec.hosts.from == "pbs");
  CHECK(exec.config == "c.yaml");
  CHECK(exec.fanout == 8u);
  CHECK(exec.timeout == std::chrono::seconds(30));
  CHECK(exec.connect_timeout == std::chrono::seconds(5));
  CHECK(exec.user == "me");
  CHECK(exec.workdir == "/w");
  CHECK(exec.log_dir == "logs");
  CHECK(exec.env == Words{"A=b"});
  CHECK(exec.lines);
  CHECK(exec.verbosity == Verbosity::quiet);
  CHECK(exec.command == Words{"nvidia-smi", "-L"});
  CHECK_FALSE(exec.no_progress);
  CHECK(exec.timeline.empty());
  CHECK_FALSE(exec.table);
  const ExecOptions more = parsed({"exec", "--no_progress", "--table", "--timeline", "t.json", "x"}).exec;
  CHECK(more.table);
  CHECK(more.no_progress);
  CHECK(more.timeline == "t.json");
  CHECK(parsed({"exec", "-w", "-", "x"}).exec.hosts.include == Words{"-"});
  CHECK(parsed({"exec", "-w", "-n6,n[1-9]", "x"}).exec.hosts.include == Words{"-n6,n[1-9]"});
  CHECK(parsed({"exec", "-wn[1-2]", "--", "-x"}).exec.command == Words{"-x"});
  CHECK(parsed({"exec", "--json", "--dry-run", "x", "a b", ""}).exec.command == Words{"x", "a b", ""});
}

TEST_CASE("--shell makes one line of sh of all words") {
  CHECK(parsed({"exec", "-s", "uptime; date"}).exec.command == Words{"/bin/sh", "-c", "uptime; date"});
  CHECK(parsed({"exec", "-s", "echo", "$HOME", "|", "wc"}).exec.command == Words{"/bin/sh", "-c", "echo $HOME | wc"});
  CHECK(parsed({"exec", "uptime"}).exec.command == Words{"uptime"});
  CHECK(parsed({"exec", "echo", "a;b"}).exec.command == Words{"echo", "a;b"});
}

TEST_CASE("a wrong exec or hosts is answered with what was meant") {
  const std::string lists = "\n   hint: llmlaunch exec --help lists the options";
  struct Row {
    Words words;
    std::string message;
  };
  const std::vector<Row> rows{
      {{"exec"}, "exec: no command given\n   hint: llmlaunch exec [OPTIONS] PROGRAM [ARGS…]"},
      {{"exec", "-w", "n1", ""}, "exec: the program's name is empty\n   hint: a variable in its place may not be set"},
      {{"exec", "-w", "n1", "ls | wc"},
       "exec: 'ls | wc' is one word, and no shell takes it apart\n   hint: --shell runs it as a line of sh; or write "
       "the "
       "program and its arguments without quotes around them all"},
      {{"exec", "-w", "", "x"}, "--hosts is empty" + lists},
      {{"exec", "-x", "", "x"}, "--exclude is empty" + lists},
      {{"exec", "--groups=", "x"}, "--groups is empty" + lists},
      {{"exec", "--log-dir=", "x"}, "--log-dir is empty" + lists},
      {{"exec", "--timeline=", "x"}, "--timeline is empty" + lists},
      {{"exec", "-f", "0", "x"}, "--fanout must be a number from 1 to 65536, not '0'" + lists},
      {{"exec", "-u", "0", "x"}, "--timeout must be a time such as 90, 30s, 5m or 2h, not '0'" + lists},
      {{"exec", "-t", "soon", "x"}, "--connect-timeout must be a time such as 90, 30s, 5m or 2h, not 'soon'" + lists},
      {{"exec", "-q", "-v", "x"}, "--quiet and --verbose exclude each other" + lists},
      {{"exec", "-L", "--json", "x"}, "--lines and --json exclude each other" + lists},
      {{"exec", "--from", "pbss", "x"}, "--from: 'pbss' is no format of hostfiles\n   hint: did you mean 'pbs'?"},
      {{"exec", "--from", "condor", "x"},
       "--from: 'condor' is no format of hostfiles\n   hint: it is one of auto, openmpi, deepspeed, mpich, pbs, lsf, "
       "slurm, pdsh"},
      {{"exec", "--env", "RANK=1", "x"}, "--env RANK: llmlaunch gives every rank its own RANK"},
      {{"exec", "--fanot", "1", "x"}, "unknown option '--fanot'\n   hint: did you mean '--fanout'?"},
      {{"exec", "-c", "a", "-c", "b", "x"}, "option '-c' is given twice" + lists},
      {{"exce", "x"}, "unknown command 'exce'\n   hint: did you mean 'exec'?"},
      {{"host", "x"}, "unknown command 'host'\n   hint: did you mean 'hosts'?"},
      {{"hosts", "--fold", "--count", "x"},
       "--fold, --contiguous, --count, --split and --json exclude each other\n   hint: llmlaunch hosts --help lists "
       "the options"},
      {{"hosts", "--axis", "1", "n1"},
       "--axis goes with --fold or --split\n   hint: llmlaunch hosts --help lists the options"},
      {{"hosts", "--fold", "--autostep", "2", "n1"},
       "--autostep must be at least 3: two hosts have a distance in any case\n   hint: llmlaunch hosts --help lists "
       "the "
       "options"},
      {{"hosts", "--fold", "--axis", "0", "n1"},
       "--axis: '0' is no axis\n   hint: 1 is the first index of a name, -1 the last one; 1,2 are two of them"},
      {{"hosts", ""}, "hosts: an expression is empty\n   hint: a variable in its place may not be set"},
      {{"hosts", "-n6"}, "unknown option '-n'\n   hint: llmlaunch hosts --help lists the options"},
      {{"hosts", "--split", "x", "n1"},
       "--split must be a number from 1 to 65536, not 'x'\n   hint: llmlaunch hosts --help lists the options"},
  };
  for (const auto& row : rows) {
    std::string typed;
    for (const auto& word : row.words) typed += word + " ";
    INFO(typed);
    CHECK(message(row.words) == row.message);
  }
}

TEST_CASE("help is there for each command") {
  for (const char* command : {"exec", "hosts"}) {
    const Options options = parsed({command, "--help"});
    CHECK(options.action == Options::Action::print);
    CHECK(options.text.find(std::string("Usage: llmlaunch ") + command) != std::string::npos);
    CHECK(parsed({"help", command}).text == options.text);
  }
}

TEST_CASE("exec takes hosts from words, else the configuration, else WCOLL") {
  const std::map<std::string, std::string> files{
      {"/w", "w[1-3]\n"}, {"mpi", "m1 slots=8\nm2 slots=4\n"}, {"nodes", "b1\nb1\nb2\n"}};
  CHECK(exec_hosts({"-w", "n[1-3]", "-w", "m1", "-x", "n2"}) == "n[1,3],m1");
  CHECK(exec_hosts({"-w", "-"}) == "p[1-2]");
  CHECK(exec_hosts({"--hostfile", "mpi"}, world({}, files)) == "m[1-2]");
  CHECK(exec_hosts({"--hostfile", "mpi", "-w", "n1", "-x", "m1"}, world({}, files)) == "n1,m2");
  CHECK(exec_hosts({}, world({{"WCOLL", "/w"}}, files)) == "w[1-3]");
  CHECK(exec_hosts({"-x", "w2"}, world({{"WCOLL", "/w"}}, files)) == "w[1,3]");
  CHECK(exec_hosts({"-w", "n1"}, world({{"WCOLL", "/w"}}, files)) == "n1");
  CHECK(exec_hosts({}, world({{"WCOLL", "/w"}}, files), kFile) == "gpu[01-03]");
  CHECK(exec_hosts({}, world({{"WCOLL", "/w"}}, files), "use_cpu: true\n") == "w[1-3]");
  CHECK(exec_hosts({"-w", "@odd"}, world(), kFile) == "gpu[01,03]");
  CHECK(exec_hosts({"-w", "gpu*!@odd"}, world(), kFile) == "gpu02");
  CHECK(exec_hosts({"--from", "slurm"},
                   world({{"SLURM_JOB_NODELIST", "s[1-2],t1"}, {"SLURM_TASKS_PER_NODE", "8(x3)"}})) == "s[1-2],t1");
  CHECK(exec_hosts({"--from", "pbs"}, world({{"PBS_NODEFILE", "nodes"}}, files)) == "b[1-2]");
  CHECK(exec_hosts({"--from", "lsf"}, world({{"LSB_MCPU_HOSTS", "l1 8 l2 8"}})) == "l[1-2]");
  CHECK(exec_hosts({"--from", "lsf"}, world({{"LSB_HOSTS", "l1 l1 l2"}})) == "l[1-2]");
}

TEST_CASE("without words exec takes the hosts that accelerate's sections name, as run does") {
  const HostWorld with_file = world({{"WCOLL", "/w"}}, {{"/w", "w1\n"}, {"hf", "gpu01 slots=4\ngpu02 slots=4\n"}});
  const auto file = [](const std::string& more) {
    return "distributed_type: DEEPSPEED\nnum_processes: 8\ndeepspeed_config: {deepspeed_hostfile: hf" + more + "}\n";
  };
  CHECK(exec_hosts({}, with_file, file("")) == "gpu[01-02]");
  CHECK(exec_hosts({"-x", "gpu01"}, with_file, file("")) == "gpu02");
  CHECK(exec_hosts({"-w", "n1"}, with_file, file("")) == "n1");
  CHECK(exec_hosts({}, with_file, file(", deepspeed_exclusion_filter: gpu01")) == "gpu02");
  CHECK(exec_hosts({}, with_file, file(", deepspeed_inclusion_filter: 'gpu02:0,3'")) == "gpu02");
  CHECK(exec_hosts({}, with_file, file("") + "llmlaunch: {hosts: n1}\n") == "n1");
  CHECK(exec_hosts({}, with_file, "use_cpu: true\nmpirun_config: {mpirun_hostfile: hf}\n") == "gpu[01-02]");
  CHECK(exec_hosts({}, world(), file("")) ==
        "cfg.yaml:3:20: cannot read the host file hf: No such file or directory\n"
        "   hint: deepspeed_hostfile names this file");
}

TEST_CASE("groups come from the configuration and from files, and what is typed wins") {
  const HostWorld with_groups = world({}, {{"g", "odd: n9\nracks: {r1: 'gpu[01-02]'}\n"}, {"bad", "a: {b: {}}\n"}});
  CHECK(exec_hosts({"-w", "@racks:r1,@odd", "--groups", "g"}, with_groups) == "gpu[01-02],n9");
  CHECK(exec_hosts({"-w", "@odd", "--groups", "g"}, with_groups, kFile) == "n9");
  CHECK(exec_hosts({"-w", "@r1", "-x", "@odd", "--groups", "g"}, with_groups, kFile) == "gpu[01-02]");
  CHECK(exec_hosts({"-w", "@odd", "--groups", "gone"}, with_groups) ==
        "--groups: cannot read the host file gone: No such file or directory");
  CHECK(exec_hosts({"-w", "@a", "--groups", "bad"}, with_groups).starts_with("bad:1:5: group 'b' must be a list of"));
  CHECK(hosts_text({"@@racks", "--groups", "g"}, with_groups) == "r1\n");
}

TEST_CASE("exec refuses what names no host, or one twice") {
  const std::string hint = "\n   hint: -w names hosts, --hostfile or WCOLL a file of them, --config a configuration";
  const std::string left = "\n   hint: what is named is also left out, by -x, '!' or '-', or a file is empty";
  CHECK(exec_hosts({}) == "exec: no hosts are named" + hint);
  CHECK(exec_hosts({"-w", "n1", "-x", "n1"}) == "exec: no host is left" + left);
  CHECK(exec_hosts({"-x", "gpu*"}, world(), kFile) == "exec: no host is left" + left);
  CHECK(exec_hosts({"-w", "n[1-3],u@n2"}) ==
        "host 'n2' is named twice\n   hint: leave one out; A!B,B is A and B without what is in both");
  CHECK(exec_hosts({"-w", "n[1"}) == "--hosts: '[' without ']' in 'n[1'\n   n[1\n    ^");
  CHECK(exec_hosts({"-w", "n1", "-x", "n["}) == "--exclude: '[' without ']' in 'n['\n   n[\n    ^");
  CHECK(exec_hosts({"-w", "^gone"}) ==
        "--hosts: cannot read the host file gone: No such file or directory\n   ^gone\n   ^");
  CHECK(exec_hosts({"--hostfile", "gone"}) == "cannot read the host file gone: No such file or directory");
  CHECK(exec_hosts({}, world({{"WCOLL", "gone"}})) ==
        "cannot read the host file gone: No such file or directory\n   hint: the variable WCOLL names this file");
  CHECK(exec_hosts({"--from", "slurm"}) ==
        "--from slurm: SLURM_JOB_NODELIST is not set\n   hint: this is no Slurm job");
  CHECK(exec_hosts({"--from", "openmpi"}) == "--from openmpi needs a file\n   hint: --hostfile names it");
  CHECK(exec_hosts({"--from", "slurm"}, world({{"SLURM_JOB_NODELIST", "s1"}, {"SLURM_TASKS_PER_NODE", "8,8"}})) ==
        "--from slurm: SLURM_TASKS_PER_NODE '8,8' speaks of more nodes, the node list of 1");
}

TEST_CASE("a host of the configuration keeps its way there, and nothing of its ranks") {
  auto config = launcher::parse_config(kFile, "cfg.yaml");
  const auto chosen = with_exec_options(
      *config, parsed({"exec", "-w", "gpu02,me@gpu03,other", "-l", "you", "--workdir", "/w", "-t", "3", "x"}).exec,
      world());
  REQUIRE(chosen.has_value());
  CHECK(chosen->hosts[0].port == 2222);
  CHECK(chosen->hosts[0].user == "train");
  CHECK(chosen->hosts[1].user == "me");
  CHECK(chosen->hosts[2].user == std::nullopt);
  CHECK(chosen->ssh.user == "you");
  CHECK(chosen->timeouts.connect == std::chrono::seconds(3));
  CHECK(chosen->log_dir.empty());
  const auto plan = launcher::make_plan(*chosen, {{"x"}, {}, launcher::StartPolicy::each_host}, {"job", {}, "/here"});
  REQUIRE(plan.has_value());
  CHECK(plan->world_size == 3);
  CHECK(plan->rendezvous_address.empty());
  CHECK(plan->notes.empty());
  CHECK(plan->hosts[0].workdir == "/w");
  for (const auto& [name, value] : plan->hosts[0].env) {
    CHECK(name != "WORLD_SIZE");
    if (name == "LLMLAUNCH_HOST") CHECK(value == "gpu02");
  }
}

TEST_CASE("rank_env is for the commands of exec as well: their place is that of their host") {
  const auto config = launcher::parse_config(
      "llmlaunch: {hosts: ['n[1-2]'], rank_env: {OUT: '{rank}-{local_rank}-{node_rank}-{world_size}-{host}'}}\n", "c");
  REQUIRE(config.has_value());
  const auto chosen = with_exec_options(*config, parsed({"exec", "x"}).exec, world());
  REQUIRE(chosen.has_value());
  const auto plan = launcher::make_plan(*chosen, {{"x"}, {}, launcher::StartPolicy::each_host}, {"job", {}, "/here"});
  REQUIRE(plan.has_value());
  CHECK(plan->hosts[0].ranks[0].env == EnvList{{"OUT", "0-0-0-2-n1"}});
  CHECK(plan->hosts[1].ranks[0].env == EnvList{{"OUT", "1-0-1-2-n2"}});
  CHECK(describe_plan(*plan).find("  env      OUT=1-0-1-2-n2\n") != std::string::npos);
}

TEST_CASE("an unquoted pattern that the shell replaced is found out") {
  static const std::map<std::string, int> here{
      {"n1", 0}, {"n2", 0}, {"uptime", 0}, {"compute-0-1", 0}, {"compute-0-10", 0}};
  const auto exists = [](const std::string& path) { return here.contains(path); };
  const auto accident = [&](Words words) {
    words.insert(words.begin(), "exec");
    return is_glob_accident(parsed(words).exec, exists);
  };
  CHECK(accident({"-w", "n1", "n2", "uptime"}));
  CHECK(accident({"-w", "compute-0-1", "compute-0-10", "uptime"}));
  CHECK_FALSE(accident({"-w", "n1", "uptime"}));
  CHECK_FALSE(accident({"-w", "n1", "n3"}));
  CHECK_FALSE(accident({"-w", "n1", "n1"}));
  CHECK_FALSE(accident({"-w", "uptime", "uptime"}));
  CHECK_FALSE(accident({"-w", "n[1-2]", "n2"}));
}

TEST_CASE("hosts prints lists in every form") {
  CHECK(hosts_text({"n[1-3]"}) == "n1\nn2\nn3\n");
  CHECK(hosts_text({"n[1-3]", "m1"}) == "n1\nn2\nn3\nm1\n");
  CHECK(hosts_text({"--fold", "n3", "n1", "n2", "u@x", "[::1]:22"}) == "n[3,1-2],u@x,[::1]:22\n");
  CHECK(hosts_text({"n[1-9]!n6&n[6-12]", "--fold"}) == "n[7-9]\n");
  CHECK(hosts_text({"--fold", "--", "-n2", "n[1-3]"}) == "n[1,3]\n");
  CHECK(hosts_text({"-x", "n2", "--fold", "n[1-3]"}) == "n[1,3]\n");
  CHECK(hosts_text({"--count", "n[1-64]"}) == "64\n");
  CHECK(hosts_text({"--count", "n1!n1"}) == "0\n");
  CHECK(hosts_text({"n1!n1"}) == "");
  CHECK(hosts_text({"n[3,1,1]"}) == "n3\nn1\nn1\n");
  CHECK(hosts_text({"--separator", ",", "n[1-3]"}) == "n1,n2,n3\n");
  CHECK(hosts_text({"--separator=\\t", "n[1-2]"}) == "n1\tn2\n");
  CHECK(hosts_text({"--slice", "0-18/2", "n[1-20]", "--fold"}) == "n[1,3,5,7,9,11,13,15,17,19]\n");
  CHECK(hosts_text({"--slice", "0-2", "n[1-2]"}) == "--slice: slice '0-2': there are only 2 hosts, counted from 0");
  CHECK(hosts_text({"--split", "3", "n[1-8]"}) == "n[1-3]\nn[4-6]\nn[7-8]\n");
  CHECK(hosts_text({"--split", "5", "n[1-2]"}) == "n1\nn2\n");
  CHECK(hosts_text({"--contiguous", "n[1-3,7]"}) == "n[1-3]\nn7\n");
  CHECK(hosts_text({"--contiguous", "n1!n1"}) == "");
  CHECK(hosts_text({"--fold", "--autostep", "auto", "n[0,2,4]"}) == "n[0-4/2]\n");
  CHECK(hosts_text({"--fold", "--autostep=4", "n[0,2,4]"}) == "n[0,2,4]\n");
  CHECK(hosts_text({"--split", "2", "--axis=-1", "r[1-2]n[1-4]"}) == "r1n[1-4]\nr2n[1-4]\n");
  CHECK(hosts_text({"--pick", "3", "--count", "n[1-8]"}) == "3\n");
  CHECK(hosts_text({"--pick", "8", "--fold", "n[1-8]"}) == "n[1-8]\n");  // in their order
  CHECK(hosts_text({"--pick", "9", "n[1-8]"}) == "--pick 9: there are only 8 hosts");
  CHECK(hosts_text({"--json", "u@n1"}) == "[\n{\"name\":\"n1\",\"user\":\"u\",\"port\":null,\"slots\":null}\n]\n");
  CHECK(hosts_text({"--hostfile", "h", "--json"}, world({}, {{"h", "n1:8\n"}})) ==
        "[\n{\"name\":\"n1\",\"user\":null,\"port\":null,\"slots\":8}\n]\n");
  CHECK(hosts_text({"-", "--fold"}) == "p[1-2]\n");
  CHECK(hosts_text({"n[1,4-3]"}) == "hosts: bad range '4-3' in 'n[1,4-3]': it runs backwards\n   n[1,4-3]\n       ^");
}

TEST_CASE("the plan of an exec is shown without a world") {
  const auto config = with_exec_options({}, parsed({"exec", "-w", "n[1-2]", "ls"}).exec, world());
  auto plan =
      launcher::make_plan(*config, {{"ls", "-l", "a b"}, {}, launcher::StartPolicy::each_host}, {"job", {}, "/here"});
  REQUIRE(plan.has_value());
  plan->hosts_at_once = 1;
  plan->host_timeout = std::chrono::milliseconds(1500);
  const std::string host =
      "  by       ssh n1\n  workdir  (the login directory)\n  env      PYTHONUNBUFFERED=1\n"
      "  env      ACCELERATE_MIXED_PRECISION=no\n  env      ACCELERATE_USE_CPU=false\n  env      NODE_RANK=0\n"
      "  env      LLMLAUNCH_JOB_ID=job\n  env      LLMLAUNCH_HOST=n1\n";
  const std::string text = describe_plan(*plan);
  CHECK(
      text.starts_with("plan: ls -l 'a b' on 2 hosts, each by itself: n[1-2]\nat the same time: 1\n"
                       "time limit: 1.5 s on each\n\nhost n1\n" +
                       host + "\nhost n2\n"));
  CHECK(text.find("rendezvous") == text.npos);
}

}  // namespace cli_exec_test
