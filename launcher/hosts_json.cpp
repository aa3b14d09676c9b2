// Hosts for programs: an array, one object a line.
#include <nlohmann/json.hpp>

#include "launcher/hostfile.hpp"

namespace llmlaunch::launcher {

std::string hosts_json(const std::vector<HostConfig>& hosts) {
  using nlohmann::ordered_json;
  std::string text = "[";
  for (const HostConfig& host : hosts) {
    const ordered_json one = {{"name", host.name},
                              {"user", host.user ? ordered_json(*host.user) : ordered_json(nullptr)},
                              {"port", host.port ? ordered_json(*host.port) : ordered_json(nullptr)},
                              {"slots", host.slots ? ordered_json(*host.slots) : ordered_json(nullptr)}};
    text += text.size() == 1 ? "\n" : ",\n";
    text += one.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  }
  return text + "\n]\n";
}

}  // namespace llmlaunch::launcher
