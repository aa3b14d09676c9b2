/// \file
/// `HostKeyDesk`: the host keys that a launch met and did not know, and those that a person has accepted, by the names
/// of the hosts. So a key can be shown first and accepted then, and it is that key that is accepted. Used by the wizard
/// and by the ssh login; the thread of the event loop alone touches it while a launch runs.
#pragma once

#include <map>
#include <string>

namespace llmlaunch::launcher {

struct HostKeyDesk {
  std::map<std::string, std::string> met;       ///< host → "ssh-ed25519 SHA256:…"
  std::map<std::string, std::string> accepted;  ///< the same, to be written to known_hosts when met again
};

}  // namespace llmlaunch::launcher
