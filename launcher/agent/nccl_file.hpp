/// \file
/// Files in which a host or a user tells NCCL its settings: /etc/nccl.conf, and ~/.nccl.conf or what NCCL_CONF_FILE
/// names. A variable of a job wins over them, so a job that only guesses must not set it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace llmlaunch::launcher::agent {

/// Does a text of this kind set NCCL_SOCKET_IFNAME?
bool names_nccl_interface(std::string_view text);

/// Does a file that NCCL reads in this environment?
bool sets_nccl_interface(const std::vector<std::string>& environment);

}  // namespace llmlaunch::launcher::agent
