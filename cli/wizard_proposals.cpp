// What the wizard proposes, by what the hosts say they are.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "cli/wizard_questions.hpp"
#include "launcher/hostlist.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::HostFacts;
using launcher::HostSurvey;
using launcher::InterfaceFacts;

constexpr std::uint32_t kMostSlots = 4096;

std::optional<std::uint32_t> slots_of(std::string_view text) {
  const auto slots = parse_whole<std::uint32_t>(text);
  return slots && *slots >= 1 && *slots <= kMostSlots ? slots : std::nullopt;
}

/// A device that is up and has an address: what NCCL could use.
bool is_usable(const InterfaceFacts& one) {
  return one.up && one.kind == InterfaceFacts::Kind::device && !one.addresses.empty();
}

const InterfaceFacts* find(const HostFacts& facts, std::string_view name) {
  const auto found = std::find_if(facts.interfaces.begin(), facts.interfaces.end(),
                                  [&](const InterfaceFacts& one) { return one.name == name; });
  return found == facts.interfaces.end() ? nullptr : &*found;
}

std::string speed(std::uint64_t mbit) {
  return mbit == 0 ? "" : fmt::format(", {} Gb/s", static_cast<double>(mbit) / 1000);
}

}  // namespace

const HostFacts* WizardCore::facts_of(const std::string& host) const {
  const auto found = std::find_if(survey_.begin(), survey_.end(), [&](const HostSurvey& one) {
    return (hosts_.empty() || one.name == host) && one.facts;
  });
  return found == survey_.end() ? nullptr : &*found->facts;
}

bool WizardCore::has_gpus() const {
  return std::any_of(survey_.begin(), survey_.end(),
                     [](const HostSurvey& one) { return one.facts && !one.facts->gpus.empty(); });
}

// A host file's own number, else its GPUs; of a host that did not answer, what the first one that did has.
std::uint32_t WizardCore::proposed_slots(const std::string& name) const {
  for (const auto& host : hosts_)
    if (host.name == name && host.slots) return *host.slots;
  const HostFacts* facts = facts_of(name);
  for (const HostSurvey& one : survey_)
    if (facts == nullptr && one.facts) facts = &*one.facts;
  const std::size_t gpus = facts == nullptr ? 0 : facts->gpus.size();
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(gpus, 1, kMostSlots));
}

Result<std::vector<std::uint32_t>> WizardCore::parse_slots(const std::string& text) const {
  std::vector<std::uint32_t> slots;
  if (hosts_.empty()) slots.push_back(proposed_slots(""));
  for (const auto& host : hosts_) slots.push_back(proposed_slots(host.name));
  if (text == "auto") return slots;
  if (const auto same = slots_of(text)) return std::vector<std::uint32_t>(slots.size(), *same);
  for (std::size_t start = text.find_first_not_of(' '); start < text.size();) {
    const std::size_t end = std::min(text.find(' ', start), text.size());
    const std::string word = text.substr(start, end - start);
    const std::size_t equals = word.rfind('=');
    const auto number = equals == word.npos ? std::nullopt : slots_of(std::string_view(word).substr(equals + 1));
    const auto names = number ? launcher::expand_hostlist(word.substr(0, equals))
                              : Result<std::vector<std::string>>(make_error(Errc::invalid_argument, ""));
    if (!names)
      return make_error(Errc::invalid_argument,
                        fmt::format("'{}' is no number of ranks: 8, auto, or gpu[01-07]=8 gpu08=4", word));
    for (const std::string& name : *names) {
      const auto host =
          std::find_if(hosts_.begin(), hosts_.end(), [&](const launcher::HostConfig& one) { return one.name == name; });
      if (host == hosts_.end())
        return make_error(Errc::invalid_argument, fmt::format("there is no host '{}' among the hosts", name));
      slots[static_cast<std::size_t>(host - hosts_.begin())] = *number;
    }
    start = text.find_first_not_of(' ', end);
  }
  if (text.find_first_not_of(' ') == text.npos)
    return make_error(Errc::invalid_argument, "a number of ranks is missing");
  return slots;
}

std::string WizardCore::proposed_slots_text() const {
  std::map<std::uint32_t, std::vector<std::string>> by_number;
  for (const auto& host : hosts_) by_number[proposed_slots(host.name)].push_back(host.name);
  if (by_number.size() < 2) return std::to_string(hosts_.empty() ? proposed_slots("") : by_number.begin()->first);
  std::vector<std::string> words;
  for (auto one = by_number.rbegin(); one != by_number.rend(); ++one)
    words.push_back(fmt::format("{}={}", launcher::compress_hostlist(one->second), one->first));
  return fmt::format("{}", fmt::join(words, " "));
}

bool WizardCore::route_is_known() const {
  return !hosts_.empty() && std::all_of(hosts_.begin(), hosts_.end(), [this](const launcher::HostConfig& host) {
    const HostFacts* facts = facts_of(host.name);
    const InterfaceFacts* route = facts ? find(*facts, facts->route_interface) : nullptr;
    return route != nullptr && route->kind != InterfaceFacts::Kind::loopback;
  });
}

// "gpu[01-07] eth0, gpu08 ens3"
std::string WizardCore::route_text() const {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const auto& host : hosts_) {
    const std::string& name = facts_of(host.name)->route_interface;
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one.first == name; });
    if (same == groups.end())
      groups.push_back({name, {host.name}});
    else
      same->second.push_back(host.name);
  }
  if (groups.size() == 1) return groups.front().first + " on all of them";
  std::vector<std::string> words;
  for (const auto& [name, hosts] : groups)
    words.push_back(fmt::format("{} {}", launcher::compress_hostlist(hosts), name));
  return fmt::format("{}", fmt::join(words, ", "));
}

// Names that are usable on every host, with the lowest of their speeds; the fastest first.
std::vector<std::pair<std::string, std::uint64_t>> WizardCore::common_interfaces() const {
  std::vector<std::pair<std::string, std::uint64_t>> common;
  const HostFacts* first = hosts_.empty() ? nullptr : facts_of(hosts_.front().name);
  if (first == nullptr) return common;
  for (const InterfaceFacts& one : first->interfaces) {
    std::uint64_t slowest = one.speed_mbit;
    const bool everywhere = std::all_of(hosts_.begin(), hosts_.end(), [&](const launcher::HostConfig& host) {
      const HostFacts* facts = facts_of(host.name);
      const InterfaceFacts* there = facts ? find(*facts, one.name) : nullptr;
      if (there) slowest = std::min(slowest, there->speed_mbit);
      return there != nullptr && is_usable(*there);
    });
    if (everywhere) common.emplace_back(one.name, slowest);
  }
  std::stable_sort(common.begin(), common.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return common;
}

// The way of ssh, unless all have something that is known to be faster.
std::string WizardCore::proposed_interface() const {
  if (!route_is_known()) return "auto";
  std::uint64_t route_speed = 0;
  for (const auto& host : hosts_) {
    const HostFacts* facts = facts_of(host.name);
    route_speed = std::max(route_speed, find(*facts, facts->route_interface)->speed_mbit);
  }
  const auto common = common_interfaces();
  return !common.empty() && common.front().second > route_speed ? common.front().first : "route";
}

std::vector<std::string> WizardCore::head_addresses() const {
  std::vector<std::string> addresses;
  for (const HostSurvey& one : survey_) {
    if (!one.facts || one.facts->head.empty()) continue;
    if (std::find(addresses.begin(), addresses.end(), one.facts->head) == addresses.end())
      addresses.push_back(one.facts->head);
  }
  return addresses;
}

// bf16 where every GPU computes in it (compute capability 8.0 and above).
std::string WizardCore::proposed_precision() const {
  if (!has_gpus()) return "no";
  for (const HostSurvey& one : survey_) {
    if (!one.facts) continue;
    for (const auto& gpu : one.facts->gpus) {
      const std::string major = gpu.compute_capability.substr(0, gpu.compute_capability.find('.'));
      if (slots_of(major).value_or(0) < 8) return "fp16";
    }
  }
  return "bf16";
}

Question WizardCore::question_after_survey(std::string_view key) const {
  if (key == "slots")
    return {"slots",
            hosts_.size() > 1 ? "Ranks on each host" : "Ranks",
            "One rank for each GPU is usual. A number for all hosts, or numbers by host: gpu[01-07]=8 gpu08=4.",
            {},
            false,
            "auto",
            proposed_slots_text() + (has_gpus() ? ", one for each GPU" : "")};
  if (key == "main_process_ip") {
    Question question{"main_process_ip",
                      "Address of this machine for the ranks (rendezvous)",
                      "With 'auto' each host is told the address by which it sees this machine, so that nothing has to "
                      "be known.\nChoose an address when ranks are to use another network than ssh.",
                      {{"auto", "as each host sees this machine"}},
                      true,
                      "auto",
                      ""};
    for (const std::string& address : head_addresses()) question.choices.push_back({address, "seen by hosts"});
    return question;
  }
  if (key == "interface") {
    Question question{"interface",
                      "Network interface for NCCL and Gloo",
                      "Written as NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME, for each host its own where they differ.\n"
                      "With InfiniBand or RoCE, NCCL uses it for data in any case, and this one to find its peers.",
                      {{"auto", "NCCL and Gloo choose by themselves"}},
                      true,
                      proposed_interface(),
                      ""};
    if (route_is_known()) question.choices.push_back({"route", "leads to this machine: " + route_text()});
    for (const auto& [name, mbit] : common_interfaces())
      question.choices.push_back({name, "on all hosts" + speed(mbit)});
    return question;
  }
  return {"mixed_precision",
          "Mixed precision",
          "bf16 wants GPUs from Ampere on, fp8 from Hopper on; fp16 runs on older ones, with loss scaling.",
          {{"no", "32 bit"}, {"fp16", ""}, {"bf16", ""}, {"fp8", ""}},
          false,
          proposed_precision(),
          ""};
}

}  // namespace llmlaunch::cli
