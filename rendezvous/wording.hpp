/// \file
/// How the rendezvous words what it names in messages: ranks, durations, keys, versions. Private to this directory.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/types.hpp"

namespace llmlaunch::rendezvous {

/// "rank 2 (gpu02)", "ranks 2-3 (gpu02), 6 (gpu04)": neighbours on one host together, many hosts cut with their count.
/// `ranks` ascend; `hosts` is each rank's host.
std::string name_ranks(const std::vector<Rank>& ranks, const std::vector<std::string>& hosts);
std::string name_rank(Rank rank, std::string_view host);

/// "30 s", "1.5 s", "250 ms".
std::string name_duration(std::chrono::milliseconds duration);

/// 'key', with what a terminal would not show as \xNN, cut after 64 bytes.
std::string quoted(std::string_view text);

/// ncclGetVersion's number as NCCL writes it: 22807 → "2.28.7".
std::string name_nccl_version(std::uint32_t version);

}  // namespace llmlaunch::rendezvous
