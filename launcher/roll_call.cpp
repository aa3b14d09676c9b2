// The words of the roll call. Who is where comes from the job; who is slow is known from when it was last told.
#include "launcher/roll_call.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "launcher/hostlist.hpp"
#include "launcher/screen_text.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kWho = "llmlaunch: ";
constexpr std::string_view kMore = "…";

constexpr std::array<std::string_view, kHostStages> kWords{
    "waiting",   "connecting", "authenticating", "starting agent", "pushing agent",
    "in checks", "ready",      "running",        "exited",         "failed"};

std::string_view roll_word(HostStage stage) {
  return kWords[static_cast<std::size_t>(stage)];
}

std::int64_t seconds_since(TimePoint then, TimePoint now) {
  return std::chrono::round<std::chrono::seconds>(now - then).count();
}

// The first letters of what is too long, and a sign that there was more, which takes one column.
std::string cut_to(const std::string& text, std::size_t width) {
  if (row_width(text) <= width) return text;
  return width > 0 ? row_text(text, width - 1) + std::string(kMore) : std::string();
}

}  // namespace

RollCall::RollCall(std::vector<std::string> hosts, TimePoint now) {
  for (std::string& name : hosts) hosts_.push_back({std::move(name), HostStage::waiting, now, {}});
}

void RollCall::set(std::size_t host, HostStage stage, TimePoint now) {
  if (hosts_[host].stage == stage) return;
  hosts_[host].stage = stage;
  hosts_[host].since = now;
}

void RollCall::set_reason(std::size_t host, const std::string& reason) {
  std::string& held = hosts_[host].reason;
  if (reason.empty()) return held.clear();
  std::string shown = printable(std::string_view(reason).substr(0, reason.find('\n')));
  if (held != shown) held = std::move(shown);
}

void RollCall::stopping(TimePoint now) {
  if (std::exchange(stopping_, true)) return;
  for (Host& host : hosts_) host.since = now;
}

// A host that waits for its turn, as others connect, keeps nobody waiting.
bool RollCall::is_awaited(const Host& host) const {
  if (stopping_) return host.stage < HostStage::exited;
  if (until_ended_ && host.stage == HostStage::running) return true;
  return host.stage != HostStage::waiting && host.stage < HostStage::ready;
}

std::size_t RollCall::awaited() const {
  return static_cast<std::size_t>(std::count_if(hosts_.begin(), hosts_.end(), [this](const Host& host) {
    return is_awaited(host) || (!stopping_ && host.stage == HostStage::waiting);
  }));
}

std::string RollCall::counts() const {
  std::array<std::size_t, kHostStages> counts{};
  for (const Host& host : hosts_) ++counts[static_cast<std::size_t>(host.stage)];
  std::string text;
  for (std::size_t stage = 0; stage < kHostStages; ++stage)
    if (counts[stage] > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", counts[stage], kWords[stage]);
  return (stopping_ ? "stopping: " : "") + text;
}

std::vector<const RollCall::Host*> RollCall::slow_hosts(TimePoint now) const {
  std::vector<const Host*> slow;
  for (const Host& host : hosts_)
    if (is_awaited(host) && now - host.since > kSlowStage) slow.push_back(&host);
  std::stable_sort(slow.begin(), slow.end(), [](const Host* a, const Host* b) { return a->since < b->since; });
  return slow;
}

std::string RollCall::line(std::size_t width, TimePoint now) const {
  const std::string begin = std::string(kWho) + counts();
  const std::vector<const Host*> slow = slow_hosts(now);
  if (slow.empty()) return cut_to(begin, width);
  // With the counts where there is room for them and one name, else the names alone: they are the news.
  std::string shown;
  for (const std::string& head : {begin + "; waiting for", std::string(kWho) + "waiting for"}) {
    std::string text = fmt::format("{} {} of {}: ", head, awaited(), hosts_.size());
    shown.clear();
    for (std::size_t i = 0; i < slow.size(); ++i) {
      text += fmt::format("{}{} {} {} s", i == 0 ? "" : ", ", slow[i]->name, roll_word(slow[i]->stage),
                          seconds_since(slow[i]->since, now));
      const std::string more = i + 1 < slow.size() ? ", " + std::string(kMore) : "";
      const std::string reason = i == 0 && !slow[i]->reason.empty() ? fmt::format(" ({})", slow[i]->reason) : "";
      if (row_width(text + reason + more) <= width) text += reason;
      const std::string whole = text + more;
      if (row_width(whole) > width) break;
      shown = whole;
    }
    if (!shown.empty()) return shown;
    shown = text;
  }
  return cut_to(shown, width);
}

std::string RollCall::sentence(TimePoint now) const {
  struct Group {
    HostStage stage;
    TimePoint since;
    std::vector<std::string> names;
    const Host* reason = nullptr;  // the host whose reason is told
  };
  std::vector<Group> groups;
  for (const Host& host : hosts_) {
    if (!is_awaited(host) && (stopping_ || host.stage != HostStage::waiting)) continue;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& one) { return one.stage == host.stage; });
    if (group == groups.end()) group = groups.insert(groups.end(), {host.stage, host.since, {}, nullptr});
    group->since = std::min(group->since, host.since);
    group->names.push_back(host.name);
    if (group->reason == nullptr && !host.reason.empty()) group->reason = &host;
  }
  if (groups.empty()) return {};
  std::sort(groups.begin(), groups.end(), [](const Group& a, const Group& b) { return a.since < b.since; });
  std::string text = fmt::format("waiting for {} of {} host{}{}: ", awaited(), hosts_.size(),
                                 hosts_.size() == 1 ? "" : "s", stopping_ ? " to stop" : "");
  for (const Group& group : groups) {
    text += fmt::format("{}{} {} ({} s", &group == &groups.front() ? "" : ", ", compress_hostlist(group.names),
                        roll_word(group.stage), seconds_since(group.since, now));
    if (group.reason != nullptr && group.names.size() > 1) text += fmt::format("; {}", group.reason->name);
    if (group.reason != nullptr) text += fmt::format(": {}", group.reason->reason);
    text += ")";
  }
  return text;
}

}  // namespace llmlaunch::launcher
