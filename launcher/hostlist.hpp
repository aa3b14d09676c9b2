/// \file
/// Host lists as pdsh, Slurm and Flux write them: "gpu[01-16],login0". Order is rank order; nothing is sorted or
/// dropped.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// More hosts than this in one list is a typing error ("n[1-100000000]"), found before anything is allocated.
inline constexpr std::size_t kMaxHosts = 65536;

/// Expands a list. Errors (`Errc::invalid_argument`) name the bad piece.
Result<std::vector<std::string>> expand_hostlist(std::string_view list);
/// The same; after an error `bad_at` is where in `list` the bad piece begins.
Result<std::vector<std::string>> expand_hostlist(std::string_view list, std::size_t& bad_at);

/// "fe80::1%eth0", "[2001:db8::1]:2222": an address, and no pattern.
bool is_ipv6_literal(std::string_view item);

/// The places that "0-18/2,20" names among `count` entries, from 0. Errors: `Errc::invalid_argument`.
Result<std::vector<std::size_t>> places_of_slice(std::string_view slice, std::size_t count);

/// Folds for display; `expand_hostlist(compress_hostlist(x)) == x`.
std::string compress_hostlist(const std::vector<std::string>& hosts);

}  // namespace llmlaunch::launcher
