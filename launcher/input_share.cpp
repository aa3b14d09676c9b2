// Counting, and nothing else; see input_share.hpp.
#include "launcher/input_share.hpp"

#include <algorithm>

#include "launcher/agent/protocol.hpp"

namespace llmlaunch::launcher {

InputShare::InputShare(const std::vector<std::size_t>& hosts) {
  for (const std::size_t host : hosts) readers_.push_back({host, 0});
}

std::size_t InputShare::allowance() const {
  if (ended_ || readers_.empty()) return 0;
  const auto slowest = std::min_element(readers_.begin(), readers_.end(),
                                        [](const Reader& one, const Reader& other) { return one.taken < other.taken; });
  const std::uint64_t ahead = sent_ - slowest->taken;
  return ahead >= agent::kInputWindowBytes ? 0 : static_cast<std::size_t>(agent::kInputWindowBytes - ahead);
}

bool InputShare::on_taken(std::size_t host, std::uint64_t bytes) {
  if (bytes == agent::kNobodyReads) {
    drop(host);
    return true;
  }
  const auto reader =
      std::find_if(readers_.begin(), readers_.end(), [host](const Reader& each) { return each.host == host; });
  if (reader == readers_.end() || bytes > sent_) return false;
  reader->taken = std::max(reader->taken, bytes);
  return true;
}

void InputShare::drop(std::size_t host) {
  std::erase_if(readers_, [host](const Reader& reader) { return reader.host == host; });
}

std::vector<std::size_t> InputShare::readers() const {
  std::vector<std::size_t> hosts;
  for (const Reader& reader : readers_) hosts.push_back(reader.host);
  return hosts;
}

}  // namespace llmlaunch::launcher
