// Lines NAME=value, "#" begins a comment; as NCCL reads them.
#include "launcher/agent/nccl_file.hpp"

#include <algorithm>

#include "launcher/agent/exec_spec.hpp"
#include "launcher/agent/small_file.hpp"
#include "rendezvous/base/env.hpp"

namespace llmlaunch::launcher::agent {
namespace {

constexpr std::size_t kMaxFileBytes = 64u << 10;

}  // namespace

bool names_nccl_interface(std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line = line.substr(0, line.find('#'));
    const std::size_t equals = line.find('=');
    if (equals == line.npos) continue;
    std::string_view name = line.substr(0, equals);
    while (!name.empty() && (name.front() == ' ' || name.front() == '\t')) name.remove_prefix(1);
    while (!name.empty() && (name.back() == ' ' || name.back() == '\t')) name.remove_suffix(1);
    if (name == env::kNcclInterface) return true;
  }
  return false;
}

bool sets_nccl_interface(const std::vector<std::string>& environment) {
  std::string own = env_value(environment, "NCCL_CONF_FILE");
  if (own.empty()) own = env_value(environment, "HOME") + "/.nccl.conf";
  return names_nccl_interface(small_file(own, kMaxFileBytes)) ||
         names_nccl_interface(small_file("/etc/nccl.conf", kMaxFileBytes));
}

}  // namespace llmlaunch::launcher::agent
