// The plan for people: one block per host, or for hosts that differ in nothing but their name; one line per rank.
#include "cli/dry_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <utility>

#include "cli/machines_text.hpp"
#include "launcher/hostlist.hpp"
#include "rendezvous/base/cut_text.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::EnvList;
using launcher::HostPlan;
using launcher::LaunchPlan;

// Enough to recognise a value; an environment may hold 100 kB in one variable.
constexpr std::size_t kShownValueBytes = 160;

bool is_plain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("%+,-./:=@_").find(c) != std::string_view::npos;
}
bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

}  // namespace

std::string shown_entry(const std::string& name, const std::string& value) {
  if (launcher::names_secret(name)) return fmt::format("{}={}", name, launcher::kMask);
  if (value.size() <= kShownValueBytes) return fmt::format("{}={}", name, shell_quoted(value));
  return fmt::format("{}={}… ({} bytes)", name, shell_quoted(cut_text(value, kShownValueBytes)), value.size());
}

namespace {

std::string shown_argv(const LaunchPlan& plan) {
  std::string text;
  for (const auto& word : launcher::without_secrets(plan.argv)) text += (text.empty() ? "" : " ") + shell_quoted(word);
  return text;
}

}  // namespace

std::string shown_ranks(const HostPlan& host) {
  const auto first = number(host.ranks.front().rank);
  const auto last = number(host.ranks.back().rank);
  return first == last ? fmt::format("rank {}", first) : fmt::format("ranks {}-{}", first, last);
}

std::string shown_way(const HostPlan& host) {
  if (host.any_machine) return "the llmlaunch run of another machine";
  if (host.calls_in) return fmt::format("its own llmlaunch run --machine_rank {}", number(host.node_rank));
  if (host.local) return "this machine, without ssh";
  const bool six = host.address.find(':') != host.address.npos;
  const bool jumps = host.proxy_jump && *host.proxy_jump != "none";
  return fmt::format("ssh {}{}{}{}", host.user ? *host.user + "@" : "",
                     six && host.port ? "[" + host.address + "]" : host.address,
                     host.port ? fmt::format(":{}", *host.port) : "", jumps ? " through " + *host.proxy_jump : "");
}

std::string shown_workdir(const HostPlan& host) {
  if (host.workdir.starts_with("~/")) return "~/" + shell_quoted(std::string_view(host.workdir).substr(2));
  if (!host.workdir.empty()) {
    const bool below_home = !host.local && host.workdir.front() != '/';
    return shell_quoted(host.workdir) + (below_home ? " (below the login directory)" : "");
  }
  return host.local || host.calls_in ? "(the current directory)" : "(the login directory)";
}

namespace {

/// A line of shell with its secrets masked, as far as words tell them.
std::string shown_line(const std::string& line) {
  std::vector<std::string> words;
  for (std::size_t start = 0; start <= line.size();) {
    const std::size_t end = std::min(line.find(' ', start), line.size());
    words.push_back(line.substr(start, end - start));
    start = end + 1;
  }
  return shell_quoted(fmt::format("{}", fmt::join(launcher::without_secrets(std::move(words)), " ")));
}

}  // namespace

std::string shown_rendezvous(const LaunchPlan& plan) {
  const bool here = std::all_of(plan.hosts.begin(), plan.hosts.end(), [](const HostPlan& host) { return host.local; });
  const std::string port = plan.rendezvous_port == 0 ? "a free port" : fmt::format("port {}", plan.rendezvous_port);
  if (plan.rendezvous_via == launcher::RendezvousWay::ssh && !here)
    return fmt::format("through ssh, from a free port of 127.0.0.1 on each host; {} here", port);
  std::string address = plan.rendezvous_address;
  if (address.empty())
    address = here ? "127.0.0.1" : "the address of this machine that each host reaches (found by a probe)";
  return fmt::format("{}, {}", address, port);
}

std::string shown_process(const LaunchPlan& plan) {
  const auto& process = plan.process;
  std::string text;
  for (const auto& limit : process.limits) {
    const std::string value = limit.value == launcher::agent::kUnlimited ? "unlimited" : fmt::format("{}", limit.value);
    text += fmt::format("{}{} {}", text.empty() ? "limits: " : ", ", limit.name, value);
  }
  if (!text.empty()) text += "\n";
  if (process.umask) text += fmt::format("umask: {:03o}\n", *process.umask);
  constexpr const char* kBinds[] = {"none", "core", "numa", "gpu"};
  const auto bind = process.cpu_bind.value_or(launcher::agent::CpuBind::none);
  if (bind != launcher::agent::CpuBind::none)
    text += fmt::format("cpu_bind: {}\n", kBinds[static_cast<std::size_t>(bind)]);
  if (process.stdin_to != launcher::StdinTo::none)
    text += fmt::format("stdin: to {}\n", process.stdin_to == launcher::StdinTo::all ? "all ranks" : "rank 0");
  return text;
}

namespace {

/// What stands below a host's name. `folded`: for several hosts, whose ranks have other numbers.
std::string body_of(const LaunchPlan& plan, const HostPlan& host, const std::string& argv, bool folded) {
  const bool alone = plan.policy == launcher::StartPolicy::each_host;
  std::string text = fmt::format("  by       {}\n  workdir  {}\n", shown_way(host), shown_workdir(host));
  if (plan.program) {
    text += fmt::format("  pushed   {} (when the host lacks {})\n",
                        plan.program->name + (host.local ? "" : " and its libraries"), host.local ? "it" : "them");
  }
  for (const auto& line : host.setup) text += fmt::format("  setup    {}\n", shown_line(line));
  for (const auto& [name, value] : host.env)
    if (!launcher::repeats_place(name)) text += fmt::format("  env      {}\n", shown_entry(name, value));
  if (alone) {
    for (const auto& [name, value] : host.ranks.front().env)
      text += fmt::format("  env      {}\n", shown_entry(name, value));
    return text;
  }
  if (host.choose_omp_threads) text += "  env      OMP_NUM_THREADS=(the cores of each rank, unless the host sets it)\n";
  for (const auto& rank : host.ranks) {
    std::string own;
    for (const auto& [name, value] : rank.env)
      if (!launcher::repeats_place(name)) own += shown_entry(name, value) + " ";
    const std::string label =
        folded ? fmt::format("local rank {}", rank.local_rank) : fmt::format("rank {}", number(rank.rank));
    text += fmt::format("  {}: {}{}\n", label, own, argv);
  }
  return text;
}

/// The host with words in the place of what its name and number give it, for comparing.
HostPlan nameless(const HostPlan& host) {
  HostPlan copy = host;
  if (copy.address == copy.name) copy.address = "{host}";
  const auto put = [](EnvList& env, std::string_view wanted, const char* word) {
    for (auto& [name, value] : env)
      if (name == wanted) value = word;
  };
  put(copy.env, "LLMLAUNCH_HOST", "{host}");
  for (const char* name : {"NODE_RANK", "GROUP_RANK", "CROSS_RANK"}) put(copy.env, name, "{node_rank}");
  for (auto& rank : copy.ranks) put(rank.env, "RANK", "{rank}");
  return copy;
}

// The variables that `nameless` or body_of makes equal on all hosts.
bool gives_place_of_host(const std::string& name) {
  return name == "LLMLAUNCH_HOST" || name == "NODE_RANK" || name == "GROUP_RANK" || name == "CROSS_RANK" ||
         launcher::repeats_place(name);
}

template <class Excused>
bool same_env(const EnvList& one, const EnvList& other, Excused excused) {
  return std::equal(one.begin(), one.end(), other.begin(), other.end(), [&](const auto& a, const auto& b) {
    return a.first == b.first && (a.second == b.second || excused(a.first));
  });
}

/// Their bodies are the same, as can be said without making them: hosts that differ by configuration may still look the
/// same.
bool surely_alike(const LaunchPlan& plan, const HostPlan& one, const HostPlan& other) {
  const bool alone = plan.policy == launcher::StartPolicy::each_host;
  const bool by_name = one.address == one.name;  // which stands as {host}
  const bool same_way = one.local == other.local && one.user == other.user && one.port == other.port &&
                        one.proxy_jump == other.proxy_jump && by_name == (other.address == other.name) &&
                        (by_name || one.address == other.address);
  if (!same_way || one.workdir != other.workdir || one.setup != other.setup ||
      one.choose_omp_threads != other.choose_omp_threads || !same_env(one.env, other.env, gives_place_of_host))
    return false;
  const auto excused = [&](const std::string& name) {
    return name == "RANK" || (!alone && launcher::repeats_place(name));
  };
  return std::equal(
      one.ranks.begin(), one.ranks.end(), other.ranks.begin(), other.ranks.end(),
      [&](const auto& a, const auto& b) { return a.local_rank == b.local_rank && same_env(a.env, b.env, excused); });
}

std::string shown_range(std::uint32_t first, std::uint32_t last) {
  return first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
}

/// One host, or several that differ in nothing but name and number.
std::string heading_of(const LaunchPlan& plan, std::size_t first, std::size_t end) {
  const bool alone = plan.policy == launcher::StartPolicy::each_host;
  const HostPlan& one = plan.hosts[first];
  if (end - first == 1) {
    return alone ? fmt::format("\nhost {}\n", one.name)
                 : fmt::format("\nhost {} (node_rank {}, {})\n", one.name, number(one.node_rank), shown_ranks(one));
  }
  std::vector<std::string> names;
  for (std::size_t i = first; i < end; ++i) names.push_back(plan.hosts[i].name);
  const HostPlan& last = plan.hosts[end - 1];
  std::string text = fmt::format("\n{} hosts {}", names.size(), launcher::compress_hostlist(names));
  if (!alone) {
    text +=
        fmt::format(" (node_rank {}, ranks {}, {} on each)", shown_range(number(one.node_rank), number(last.node_rank)),
                    shown_range(number(one.ranks.front().rank), number(last.ranks.back().rank)), one.ranks.size());
  }
  return text + "\n";
}

// Two hosts are read faster than what they have in common.
constexpr std::size_t kLeastFolded = 3;

void append_hosts(const LaunchPlan& plan, const std::string& argv, std::string& text) {
  std::string common, next;
  for (std::size_t first = 0; first < plan.hosts.size();) {
    common = first == 0 ? body_of(plan, nameless(plan.hosts[first]), argv, true) : std::exchange(next, {});
    std::size_t end = first + 1;
    for (; end < plan.hosts.size(); ++end) {
      if (surely_alike(plan, plan.hosts[first], plan.hosts[end])) continue;
      next = body_of(plan, nameless(plan.hosts[end]), argv, true);
      if (next != common) break;
    }
    if (end - first >= kLeastFolded) {
      text += heading_of(plan, first, end) + common;
    } else {
      for (std::size_t i = first; i < end; ++i)
        text += heading_of(plan, i, i + 1) + body_of(plan, plan.hosts[i], argv, false);
    }
    first = end;
  }
}

/// What is the same for all hosts of an exec.
std::string describe_alone(const LaunchPlan& plan, const std::string& hosts, const std::string& argv) {
  std::string text = fmt::format("plan: {} on {} host{}, each by itself: {}\n", argv, plan.hosts.size(),
                                 plan.hosts.size() == 1 ? "" : "s", hosts);
  if (plan.hosts_at_once > 0) text += fmt::format("at the same time: {}\n", plan.hosts_at_once);
  if (plan.host_timeout)
    text += fmt::format("time limit: {:g} s on each\n", std::chrono::duration<double>(*plan.host_timeout).count());
  if (!plan.log_dir.empty()) text += fmt::format("logs: {}\n", shell_quoted(plan.log_dir + "/" + plan.job_id));
  return text + shown_process(plan);
}

}  // namespace

std::string shell_quoted(std::string_view word) {
  if (!word.empty() && std::all_of(word.begin(), word.end(), is_plain)) return std::string(word);
  const bool control = std::any_of(word.begin(), word.end(), is_control);
  std::string text = control ? "$'" : "'";
  for (const char c : word) {
    if (control && c == '\n') {
      text += "\\n";
    } else if (control && c == '\t') {
      text += "\\t";
    } else if (control && is_control(c)) {
      text += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else if (control && (c == '\\' || c == '\'')) {
      text += std::string("\\") + c;
    } else if (c == '\'') {
      text += "'\\''";
    } else {
      text += c;
    }
  }
  return text + "'";
}

namespace {

std::string describe_shown(const LaunchPlan& plan) {
  std::vector<std::string> names;
  for (const auto& host : plan.hosts) names.push_back(host.name);
  const std::string argv = shown_argv(plan);
  if (plan.policy == launcher::StartPolicy::each_host) {
    std::string text = describe_alone(plan, launcher::compress_hostlist(names), argv);
    append_hosts(plan, argv, text);
    return text;
  }
  std::string text =
      fmt::format("plan: {} rank{} on {} host{}: {}\n", plan.world_size, plan.world_size == 1 ? "" : "s",
                  plan.hosts.size(), plan.hosts.size() == 1 ? "" : "s", launcher::compress_hostlist(names));
  text += fmt::format("rendezvous: {}\n", shown_rendezvous(plan));
  text += shown_machines(plan);
  text += fmt::format("logs: {}\n", shell_quoted(plan.log_dir + "/" + plan.job_id));
  text += "added at the start, on all ranks: MASTER_ADDR MASTER_PORT LLMLAUNCH_RENDEZVOUS LLMLAUNCH_TOKEN\n";
  text += "and where a terminal shows their lines: LLMLAUNCH_COLUMNS\n";
  if (plan.hosts.size() > 1)
    text +=
        "and on each host, where nothing else sets them, by its route here: NCCL_SOCKET_IFNAME GLOO_SOCKET_IFNAME\n";
  text +=
      "and their place under the names of torchrun, Horovod and Open MPI: ROLE_*, TORCHELASTIC_*, HOROVOD_*, "
      "OMPI_COMM_WORLD_*\n";
  text += shown_process(plan);
  append_hosts(plan, argv, text);
  return text;
}

}  // namespace

std::string describe_plan(const LaunchPlan& plan) {
  return plan.secrets.empty() ? describe_shown(plan) : describe_shown(launcher::without_secrets(plan));
}

}  // namespace llmlaunch::cli
