// What the wizard asks and what comes of the answers. What it proposes is in wizard_proposals.cpp.
#include "cli/wizard_questions.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Config;
using launcher::HostConfig;
using launcher::HostSurvey;

constexpr std::array<std::string_view, 4> kPrecisions{"no", "fp16", "bf16", "fp8"};

Error bad(std::string what) {
  return make_error(Errc::invalid_argument, std::move(what));
}

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> lines;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(separator, start), text.size());
    const std::size_t first = text.find_first_not_of(" \t", start);
    if (first < end) {
      std::string line = text.substr(first, end - first);
      line.erase(line.find_last_not_of(" \t\r") + 1);
      lines.push_back(std::move(line));
    }
    start = end + 1;
  }
  return lines;
}

std::optional<std::uint16_t> port_of(const std::string& text) {
  const auto port = parse_whole<std::uint16_t>(text);
  return port == 0 ? std::nullopt : port;
}

bool is_one_word(const std::string& text) {
  return !text.empty() && text.find_first_of(" \t\n@:/") == text.npos;
}

}  // namespace

const std::vector<std::string_view>& question_keys() {
  static const std::vector<std::string_view> keys{
      "hosts",       "user",    "port",  "identity_file",   "workdir",   "setup",
      "forward_env", "log_dir", "slots", "main_process_ip", "interface", "mixed_precision"};
  return keys;
}

bool WizardCore::applies(std::string_view key) const {
  constexpr std::array<std::string_view, 5> kOfManyHosts{"user", "port", "identity_file", "main_process_ip",
                                                         "interface"};
  if (std::find(kOfManyHosts.begin(), kOfManyHosts.end(), key) == kOfManyHosts.end()) return true;
  if (hosts_.empty()) return false;
  return hosts_.size() > 1 || (key != "main_process_ip" && key != "interface");
}

std::string WizardCore::value(std::string_view key) const {
  const auto found = answers_.find(key);
  return found == answers_.end() ? std::string() : found->second;
}

Question WizardCore::question(std::string_view key) const {
  const auto& keys = question_keys();
  const auto place = [&keys](std::string_view one) { return std::find(keys.begin(), keys.end(), one); };
  return place(key) < place(kFirstAfterSurvey) ? question_before_survey(key) : question_after_survey(key);
}

Question WizardCore::question_before_survey(std::string_view key) const {
  if (key == "hosts")
    return {
        "hosts",
        "Hosts",
        "The machines of the job, in the order of the ranks: names with ranges as gpu[01-16], user@name, addresses,\n"
        "or ^FILE for a host file of another tool (its slots are taken over). An empty line means this machine alone.",
        {},
        false,
        "",
        "this machine"};
  if (key == "user")
    return {"user",
            "User on the hosts",
            "Who signs in there. Empty: what ~/.ssh/config says, else your own name.",
            {},
            false,
            "",
            "as ssh does"};
  if (key == "port")
    return {"port", "Port of their sshd", "Empty: what ~/.ssh/config says, else 22.", {}, false, "", "as ssh does"};
  if (key == "identity_file")
    return {"identity_file",
            "Key to sign in with",
            "The file of a private key. Empty: the keys that ssh would try, and those of ssh-agent.",
            {},
            false,
            "",
            "as ssh does"};
  if (key == "workdir")
    return {"workdir",
            "Directory in which the ranks start",
            "It must exist on every host; ~/x is below the home directory. Empty: the login directory, or the current "
            "one\nwhen the job runs on this machine alone.",
            {},
            false,
            "",
            "the login directory"};
  if (key == "setup")
    return {"setup",
            "Line of shell before the ranks, such as: source ~/venv/bin/activate",
            "Run once on each host; the ranks inherit the environment that it leaves. Several lines: with ; between.",
            {},
            false,
            "",
            "none"};
  if (key == "forward_env")
    return {"forward_env",
            "Variables to pass on from here, such as: HF_TOKEN, WANDB_*",
            "Their values are read when a job starts and sent to the ranks inside the ssh channel; none is written to "
            "the\nfile. Names or patterns with commas between.",
            {},
            false,
            "",
            "none"};
  return {"log_dir",
          "Directory for the logs of all runs, on this machine",
          "Each run makes a directory below it.",
          {},
          false,
          Config{}.log_dir,
          ""};
}

Result<void> WizardCore::check(std::string_view key, const std::string& text) const {
  if (text.find('\0') != text.npos) return bad("there is a zero byte in it");
  if (key == "user" && !text.empty() && !is_one_word(text)) return bad(fmt::format("'{}' is no user name", text));
  if (key == "port" && !text.empty() && !port_of(text))
    return bad(fmt::format("a port is a number from 1 to 65535, not '{}'", text));
  if (key == "log_dir" && text.empty()) return bad("the logs need a directory");
  if (key == "mixed_precision" && std::find(kPrecisions.begin(), kPrecisions.end(), text) == kPrecisions.end())
    return bad(fmt::format("the precision is no, fp16, bf16 or fp8, not '{}'", text));
  if (key == "main_process_ip" && text != "auto" && !is_one_word(text) && text.find(':') == text.npos)
    return bad(fmt::format("'{}' is no address", text));
  if (key == "interface") {
    if (text.empty() || text.find_first_of(" \t\n/") != text.npos)
      return bad(fmt::format("'{}' is no name of an interface", text));
    if (text == "route" && !route_is_known()) return bad("it is not known which interface leads to the head");
  }
  if (key == "slots")
    if (const auto slots = parse_slots(text); !slots) return slots.error();
  if (key == "forward_env") {
    // The parser of configurations knows what a pattern is.
    for (const std::string& name : parts_of(text, ','))
      if (name.find_first_of(" \t=") != name.npos) return bad(fmt::format("'{}' is no name of a variable", name));
  }
  return ok;
}

Result<void> WizardCore::answer(std::string_view key, const std::string& given) {
  // A list of a file of answers has its items on lines.
  std::string text = given;
  while (text.ends_with('\n')) text.pop_back();
  if (key == "setup")
    text = given;
  else
    std::replace(text.begin(), text.end(), '\n', ',');
  if (auto checked = check(key, text); !checked) return checked;
  if (key == "hosts") {
    std::vector<HostConfig> hosts;
    if (!text.empty()) {
      HostWords words;
      (text.front() == '^' ? words.hostfiles : words.include).push_back(text.substr(text.front() == '^' ? 1 : 0));
      auto choice = choose_hosts(Config{}, words, world_, "hosts");
      if (!choice) return choice.error();
      if (auto once = check_named_once(choice->hosts); !once) return once;
      if (choice->hosts.empty()) return bad("no host is left");
      hosts = std::move(choice->hosts);
    }
    hosts_ = std::move(hosts);
    survey_.clear();
  }
  answers_.insert_or_assign(std::string(key), text);
  return ok;
}

void WizardCore::leave_out_failed() {
  std::erase_if(hosts_, [this](const HostConfig& host) {
    return std::any_of(survey_.begin(), survey_.end(),
                       [&](const HostSurvey& one) { return one.failure && one.name == host.name; });
  });
  std::erase_if(survey_, [](const HostSurvey& one) { return one.failure.has_value(); });
}

Config WizardCore::config() const {
  Config config;
  config.hosts = hosts_;
  for (auto& host : config.hosts) host.where.clear();
  if (!hosts_.empty()) {
    if (const std::string user = value("user"); !user.empty()) config.ssh.user = user;
    if (const auto port = port_of(value("port"))) config.ssh.port = port;
    if (const std::string file = value("identity_file"); !file.empty()) config.ssh.identity_files = {file};
  }
  if (const std::string workdir = value("workdir"); !workdir.empty()) config.workdir = workdir;
  const std::string setup = value("setup");
  config.process.setup = parts_of(setup, setup.find('\n') == setup.npos ? ';' : '\n');
  config.forward_env = parts_of(value("forward_env"), ',');
  if (const std::string log_dir = value("log_dir"); !log_dir.empty()) config.log_dir = log_dir;

  std::uint32_t ranks = 0;
  const auto slots = parse_slots(value("slots").empty() ? "auto" : value("slots"));
  for (std::size_t i = 0; slots && i < slots->size(); ++i) {
    if (!config.hosts.empty()) config.hosts[i].slots = (*slots)[i];
    ranks += (*slots)[i];
  }
  config.num_machines = static_cast<std::uint32_t>(std::max<std::size_t>(1, hosts_.size()));
  config.num_processes = std::max<std::uint32_t>(1, ranks);
  config.use_cpu = !has_gpus();
  config.distributed_type = *config.num_processes == 1 ? "NO" : config.use_cpu ? "MULTI_CPU" : "MULTI_GPU";
  config.mixed_precision = value("mixed_precision").empty() ? proposed_precision() : value("mixed_precision");

  if (const std::string address = value("main_process_ip");
      applies("main_process_ip") && !address.empty() && address != "auto")
    config.main_process_ip = address;
  const std::string interface = applies("interface") ? value("interface") : std::string();
  const auto set = [](launcher::EnvList& env, const std::string& name) {
    env.emplace_back("NCCL_SOCKET_IFNAME", "=" + name);  // "eth1" alone would mean eth10 as well
    env.emplace_back("GLOO_SOCKET_IFNAME", name);
  };
  if (interface == "route") {
    bool same = true;
    for (const auto& host : hosts_)
      same = same && facts_of(host.name)->route_interface == facts_of(hosts_.front().name)->route_interface;
    if (same) set(config.env, facts_of(hosts_.front().name)->route_interface);
    for (auto& host : config.hosts)
      if (!same) set(host.env, facts_of(host.name)->route_interface);
  } else if (!interface.empty() && interface != "auto") {
    set(config.env, interface);
  }
  return config;
}

std::string WizardCore::summary() const {
  const Config built = config();
  const std::uint32_t ranks = built.num_processes.value_or(1);
  const std::size_t machines = std::max<std::size_t>(1, hosts_.size());
  const bool equal = std::all_of(built.hosts.begin(), built.hosts.end(),
                                 [&](const HostConfig& host) { return host.slots == built.hosts.front().slots; });
  const std::string shape = equal ? fmt::format("{} host{} × {} = {} rank{}", machines, machines == 1 ? "" : "s",
                                                ranks / machines, ranks, ranks == 1 ? "" : "s")
                                  : fmt::format("{} hosts, {} ranks", machines, ranks);
  return fmt::format("{} on {}, precision: {}", shape, built.use_cpu ? "CPUs" : "GPUs", built.mixed_precision);
}

}  // namespace llmlaunch::cli
