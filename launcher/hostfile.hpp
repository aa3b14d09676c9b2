/// \file
/// Host files and node lists of other tools → hosts with their slots.
///
///     openmpi    node1 slots=8 max_slots=8      repeated lines add up, one without slots counts one then
///     deepspeed  the same; a repeated host is an error
///     mpich      node1:8   node2 user=train
///     pbs        node1 on a line of its own, as often as it has slots
///     lsf        node1 8 node2 8                pairs, or a name as often as it has slots
///     slurm      node[1-4,7],login0             SLURM_JOB_NODELIST; no slots
///     pdsh       a host expression on each line, "#include name" (WCOLL); no slots
///
/// Everywhere "#" begins a comment, a host may be user@host and a range like node[1-4]; a port is "port=2222". Pure.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config.hpp"
#include "launcher/host_expression.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// More is no list of hosts: kMaxHosts names of usual length with their slots.
inline constexpr std::size_t kMaxHostfileBytes = 8u << 20;

enum class HostfileFormat { automatic, openmpi, deepspeed, mpich, pbs, lsf, slurm, pdsh };
inline constexpr std::array<std::string_view, 8> kHostfileFormats{"auto", "openmpi", "deepspeed", "mpich",
                                                                  "pbs",  "lsf",     "slurm",     "pdsh"};
/// The format of that name.
std::optional<HostfileFormat> hostfile_format(std::string_view name);

/// What the text is written in, by its words: never `automatic`. Plain names are `pdsh`, repeated ones `pbs`.
HostfileFormat guess_hostfile_format(std::string_view text);

struct HostfileHosts {
  std::vector<HostConfig> hosts;   ///< in the file's order; `where` is file:line
  std::vector<std::string> notes;  ///< what was passed over and should be said aloud
};
/// `name` stands in messages, and is where #include looks. Errors: `Errc::invalid_config` with file, line and the bad
/// word; what `sources.read_file` says of an included file.
Result<HostfileHosts> parse_hostfile(std::string_view text, const std::string& name, HostfileFormat format,
                                     const HostSources& sources);

/// An array with a newline at its end: of each host name, user, port and slots; null for what is not given.
std::string hosts_json(const std::vector<HostConfig>& hosts);

/// SLURM_TASKS_PER_NODE, "8(x2),4", for so many nodes. Errors: `Errc::invalid_argument`.
Result<std::vector<std::uint32_t>> slurm_tasks(std::string_view text, std::size_t nodes);

}  // namespace llmlaunch::launcher
