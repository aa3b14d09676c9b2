// A survey's answer → `HostFacts`. The text comes from another machine: every number may be none, every line anything.
#include "launcher/survey.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kFirst = "llmlaunch-survey 1";
constexpr std::string_view kLast = "end";
constexpr std::size_t kMaxAddresses = 64;

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \r");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \r") - begin + 1);
}

std::string field(std::string_view text) {
  return std::string(trimmed(text).substr(0, kMaxSurveyValue));
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
  return parse_whole<std::uint64_t>(trimmed(text));
}

std::vector<std::string_view> fields_of(std::string_view line, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t start = 0; start <= line.size();) {
    const std::size_t end = std::min(line.find(separator, start), line.size());
    parts.push_back(line.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

std::string_view at(const std::vector<std::string_view>& parts, std::size_t index) {
  return index < parts.size() ? parts[index] : std::string_view{};
}

// gpu, index, name, memory, compute capability, driver. "[N/A]" is what nvidia-smi writes for what a GPU does not say.
Result<void> take_gpu(const std::vector<std::string_view>& parts, HostFacts& facts) {
  GpuFacts gpu{field(at(parts, 2)), whole_number(at(parts, 3)).value_or(0), field(at(parts, 4))};
  if (gpu.compute_capability.find('[') != std::string::npos) gpu.compute_capability.clear();
  if (facts.driver.empty()) facts.driver = field(at(parts, 5));
  if (facts.gpus.size() == kMaxGpus) return make_error(Errc::too_large, fmt::format("more than {} GPUs", kMaxGpus));
  facts.gpus.push_back(std::move(gpu));
  return ok;
}

Result<void> take_interface(const std::vector<std::string_view>& parts, HostFacts& facts) {
  if (facts.interfaces.size() == kMaxInterfaces)
    return make_error(Errc::too_large, fmt::format("more than {} network interfaces", kMaxInterfaces));
  InterfaceFacts one;
  one.name = field(at(parts, 1));
  one.up = trimmed(at(parts, 2)) == "up";
  one.speed_mbit = whole_number(at(parts, 3)).value_or(0);
  one.mtu = static_cast<std::uint32_t>(std::min<std::uint64_t>(whole_number(at(parts, 4)).value_or(0), 1u << 30));
  const std::string_view kind = trimmed(at(parts, 5));
  one.kind = kind == "virtual"    ? InterfaceFacts::Kind::virtual_
             : kind == "loopback" ? InterfaceFacts::Kind::loopback
                                  : InterfaceFacts::Kind::device;
  for (const std::string_view address : fields_of(at(parts, 6), ' '))
    if (!trimmed(address).empty() && one.addresses.size() < kMaxAddresses) one.addresses.push_back(field(address));
  facts.interfaces.push_back(std::move(one));
  return ok;
}

struct TextKey {
  std::string_view key;
  std::string HostFacts::*member;
};
constexpr std::array kTexts{TextKey{"hostname", &HostFacts::hostname},
                            TextKey{"kernel", &HostFacts::kernel},
                            TextKey{"os", &HostFacts::os},
                            TextKey{"machine", &HostFacts::machine},
                            TextKey{"cpu", &HostFacts::cpu},
                            TextKey{"driver", &HostFacts::driver},
                            TextKey{"cuda_driver", &HostFacts::cuda_driver},
                            TextKey{"cuda", &HostFacts::cuda},
                            TextKey{"nccl", &HostFacts::nccl},
                            TextKey{"glibc", &HostFacts::glibc},
                            TextKey{"python", &HostFacts::python},
                            TextKey{"nofile", &HostFacts::nofile},
                            TextKey{"memlock", &HostFacts::memlock},
                            TextKey{"head", &HostFacts::head},
                            TextKey{"route_interface", &HostFacts::route_interface},
                            TextKey{"route_address", &HostFacts::route_address}};

struct NumberKey {
  std::string_view key;
  std::optional<std::uint64_t> HostFacts::*member;
};
constexpr std::array kNumbers{NumberKey{"cores", &HostFacts::cores}, NumberKey{"numa_nodes", &HostFacts::numa_nodes},
                              NumberKey{"memory_kib", &HostFacts::memory_kib},
                              NumberKey{"shm_kib", &HostFacts::shm_kib}};

Result<void> take_fact(std::string_view line, HostFacts& facts) {
  const auto parts = fields_of(line, '\t');
  if (parts.size() < 2) return ok;
  if (parts[0] == "gpu") return take_gpu(parts, facts);
  if (parts[0] == "iface") return take_interface(parts, facts);
  for (const auto& [key, member] : kTexts)
    if (key == parts[0]) facts.*member = field(parts[1]);
  for (const auto& [key, member] : kNumbers)
    if (key == parts[0]) facts.*member = whole_number(parts[1]);
  return ok;
}

}  // namespace

Result<HostFacts> parse_survey(std::string_view text) {
  if (text.size() > kMaxSurveyBytes)
    return make_error(Errc::too_large, fmt::format("the host's answer has more than {} bytes", kMaxSurveyBytes));
  HostFacts facts;
  bool begun = false;
  std::size_t lines = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (++lines > kMaxSurveyLines)
      return make_error(Errc::too_large, fmt::format("the host's answer has more than {} lines", kMaxSurveyLines));
    if (!begun) {
      begun = line == kFirst;
      continue;
    }
    if (line == kLast) return facts;
    if (auto taken = take_fact(line, facts); !taken) return taken.error();
  }
  return make_error(Errc::protocol,
                    begun ? "the host's answer to the survey is cut off" : "the host did not answer the survey");
}

}  // namespace llmlaunch::launcher
