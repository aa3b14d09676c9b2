/// \file
/// What a host is made of, as a script asks it and as its answer reads. The script is POSIX sh and goes to the host as
/// an argument of `sh -c`; it takes what is there and is silent about what is not. The parser is pure.
///
///     llmlaunch-survey 1        first line
///     cores<TAB>64              one fact a line; a key may come several times (gpu, iface)
///     gpu<TAB>0<TAB>NVIDIA H100 80GB HBM3<TAB>81559<TAB>9.0
///     iface<TAB>eth0<TAB>up<TAB>25000<TAB>1500<TAB>device<TAB>10.0.0.7/24 fe80::1/64
///     end                       last line: without it the answer is cut off
///
/// An unknown key is passed over; what login shells print before the first line is, too.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// A host that answers with more is no host that we asked.
inline constexpr std::size_t kMaxSurveyBytes = 256u << 10;
inline constexpr std::size_t kMaxSurveyLines = 4096;
inline constexpr std::size_t kMaxSurveyValue = 256;  ///< of one field; longer ones are cut
inline constexpr std::size_t kMaxGpus = 256;
inline constexpr std::size_t kMaxInterfaces = 256;

struct GpuFacts {
  std::string name;
  std::uint64_t memory_mib = 0;    ///< 0: not known
  std::string compute_capability;  ///< "9.0"; empty: not known
  friend bool operator==(const GpuFacts&, const GpuFacts&) = default;
};

struct InterfaceFacts {
  enum class Kind { device, virtual_, loopback };  ///< virtual: bridges, veth, docker, tunnels
  std::string name;
  bool up = false;
  std::uint64_t speed_mbit = 0;  ///< 0: not known
  std::uint32_t mtu = 0;
  Kind kind = Kind::device;
  std::vector<std::string> addresses;  ///< "10.0.0.7/24"
};

/// Empty and unset: the host does not say.
struct HostFacts {
  std::string hostname, kernel, os, machine, cpu;
  std::optional<std::uint64_t> cores, numa_nodes, memory_kib, shm_kib;
  std::string driver, cuda_driver, cuda, nccl, glibc, python;
  std::string nofile, memlock;  ///< soft limits, "1024" or "unlimited"; memlock in bytes
  std::vector<GpuFacts> gpus;
  std::vector<InterfaceFacts> interfaces;
  std::string head;             ///< the head's address, as this host sees it; empty for this machine
  std::string route_interface;  ///< the interface that leads to the head
  std::string route_address;    ///< this host's address on it
  std::optional<std::chrono::milliseconds> clock_ahead;  ///< of the head's; about as exact as the network is fast
};

/// argv of the survey: {"/bin/sh", "-c", script}.
std::vector<std::string> survey_command();

/// Errors: `Errc::protocol` when it is no answer or is cut off, `Errc::too_large` beyond the limits above.
Result<HostFacts> parse_survey(std::string_view text);

}  // namespace llmlaunch::launcher
