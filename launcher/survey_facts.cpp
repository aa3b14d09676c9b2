// Facts as texts. Amounts are rounded to what people compare: two hosts of the same make differ in kilobytes.
#include "launcher/survey_facts.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "launcher/survey_report.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

// Clocks closer than this are the same: the measure itself is no better on a busy network.
constexpr std::chrono::milliseconds kSameClock{500};

std::string or_dash(const std::string& text) {
  return text.empty() ? "-" : text;
}

std::string count_or_dash(const std::optional<std::uint64_t>& value) {
  return value ? std::to_string(*value) : "-";
}

std::string gib(const std::optional<std::uint64_t>& kib) {
  if (!kib) return "-";
  const double value = static_cast<double>(*kib) / (1024 * 1024);
  return value < 10 ? fmt::format("{:.1f} GiB", value) : fmt::format("{:.0f} GiB", value);
}

std::string limit_of_bytes(const std::string& text) {
  if (text.empty() || text == "unlimited" || text.find_first_not_of("0123456789") != text.npos || text.size() > 18)
    return or_dash(text);
  const std::uint64_t bytes = std::stoull(text);
  return bytes >= (1u << 20) ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} KiB", bytes >> 10);
}

std::string clock_in_words(const HostFacts& facts) {
  if (!facts.clock_ahead) return "-";
  const auto off = *facts.clock_ahead;
  if (off < kSameClock && off > -kSameClock) return "as the head's";
  const double seconds = std::abs(static_cast<double>(off.count())) / 1000;
  return fmt::format("{:.1f} s {}", seconds, off.count() > 0 ? "ahead" : "behind");
}

std::string speed_in_words(std::uint64_t mbit) {
  if (mbit == 0) return "";
  return mbit % 1000 == 0 ? fmt::format(" {} Gb/s", mbit / 1000) : fmt::format(" {} Mb/s", mbit);
}

}  // namespace

std::string gpus_in_words(const std::vector<GpuFacts>& gpus) {
  std::vector<std::pair<GpuFacts, std::size_t>> kinds;
  for (const GpuFacts& gpu : gpus) {
    const auto same = std::find_if(kinds.begin(), kinds.end(), [&](const auto& kind) { return kind.first == gpu; });
    if (same == kinds.end())
      kinds.emplace_back(gpu, 1);
    else
      ++same->second;
  }
  std::vector<std::string> words;
  for (const auto& [gpu, number] : kinds) {
    const std::string memory = gpu.memory_mib > 0 ? fmt::format(" ({} GiB)", (gpu.memory_mib + 512) / 1024) : "";
    words.push_back(fmt::format("{} × {}{}", number, gpu.name.empty() ? "unnamed GPU" : gpu.name, memory));
  }
  return words.empty() ? "none" : fmt::format("{}", fmt::join(words, " + "));
}

std::string interfaces_in_words(const HostFacts& facts) {
  std::vector<std::string> words;
  for (const InterfaceFacts& one : facts.interfaces) {
    if (one.up && one.kind == InterfaceFacts::Kind::device) words.push_back(one.name + speed_in_words(one.speed_mbit));
  }
  return words.empty() ? "-" : fmt::format("{}", fmt::join(words, ", "));
}

std::vector<Fact> facts_of(const HostFacts& facts) {
  return {{"GPUs", "gpus", gpus_in_words(facts.gpus)},
          {"driver", "driver", or_dash(facts.driver)},
          {"CUDA of driver", "cuda_driver", or_dash(facts.cuda_driver)},
          {"CUDA toolkit", "cuda", or_dash(facts.cuda)},
          {"NCCL", "nccl", or_dash(facts.nccl)},
          {"cores", "cores", count_or_dash(facts.cores)},
          {"NUMA nodes", "numa_nodes", count_or_dash(facts.numa_nodes)},
          {"CPU", "cpu", or_dash(facts.cpu)},
          {"memory", "memory", gib(facts.memory_kib)},
          {"/dev/shm", "shm", gib(facts.shm_kib)},
          {"nofile", "nofile", or_dash(facts.nofile)},
          {"memlock", "memlock", limit_of_bytes(facts.memlock)},
          {"interfaces", "interfaces", interfaces_in_words(facts)},
          {"way to head", "route_interface", or_dash(facts.route_interface)},
          {"system", "os", or_dash(facts.os)},
          {"kernel", "kernel", or_dash(facts.kernel)},
          {"machine", "machine", or_dash(facts.machine)},
          {"glibc", "glibc", or_dash(facts.glibc)},
          {"python3", "python", or_dash(facts.python)},
          {"clock", "clock", clock_in_words(facts)}};
}

std::string survey_line(const HostFacts& facts) {
  std::vector<std::string> words{facts.gpus.empty() ? "no GPU" : gpus_in_words(facts.gpus)};
  if (!facts.driver.empty()) words.push_back("driver " + facts.driver);
  if (facts.cores) words.push_back(fmt::format("{} cores", *facts.cores));
  if (facts.memory_kib) words.push_back(gib(facts.memory_kib));
  if (!facts.route_interface.empty()) words.push_back("by " + facts.route_interface);
  return fmt::format("{}", fmt::join(words, ", "));
}

std::string survey_list(const HostFacts& facts) {
  std::string text;
  for (const Fact& fact : facts_of(facts)) {
    if (fact.value != "-" && fact.key != "interfaces")
      text += fmt::format("{:<16}{}\n", fact.name, printable(fact.value));
  }
  for (const InterfaceFacts& one : facts.interfaces) {
    const char* kind = one.kind == InterfaceFacts::Kind::virtual_   ? " virtual"
                       : one.kind == InterfaceFacts::Kind::loopback ? " loopback"
                                                                    : "";
    text += printable(fmt::format("{:<16}{}{}{}{}{}{}", "interface", one.name, one.up ? "" : " down", kind,
                                  speed_in_words(one.speed_mbit), one.addresses.empty() ? "" : " ",
                                  fmt::join(one.addresses, " "))) +
            "\n";
  }
  return text;
}

}  // namespace llmlaunch::launcher
