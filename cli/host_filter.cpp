// A choice among hosts that are already known; nothing here adds one.
#include "cli/host_filter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "cli/option_values.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::Config;
using launcher::HostConfig;

std::vector<std::string> pieces_of(std::string_view text, char separator) {
  std::vector<std::string> pieces;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(separator, start), text.size());
    pieces.emplace_back(text.substr(start, end - start));
    start = end + 1;
  }
  return pieces;
}

HostConfig* find_host(std::vector<HostConfig>& hosts, std::string_view name) {
  const auto found =
      std::find_if(hosts.begin(), hosts.end(), [&](const HostConfig& host) { return host.name == name; });
  return found == hosts.end() ? nullptr : &*found;
}

/// "n1:0,2": a host and perhaps some of its GPUs.
struct Piece {
  std::string host;
  std::vector<std::string> gpus;
};

/// Nothing when it is no word of DeepSpeed's about these hosts.
std::optional<std::vector<Piece>> deepspeed_pieces(const std::string& word, std::vector<HostConfig>& hosts) {
  std::vector<Piece> pieces;
  for (const std::string& one : pieces_of(word, '@')) {
    const auto colon = one.find(':');
    Piece piece{one.substr(0, colon), {}};
    if (find_host(hosts, piece.host) == nullptr) return std::nullopt;
    if (colon != one.npos) {
      piece.gpus = pieces_of(std::string_view(one).substr(colon + 1), ',');
      const auto is_number = [](const std::string& id) {
        return !id.empty() && std::all_of(id.begin(), id.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
      };
      if (!std::all_of(piece.gpus.begin(), piece.gpus.end(), is_number)) return std::nullopt;
    }
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

void use_gpus(HostConfig& host, const std::vector<std::string>& gpus) {
  host.gpu_ids = fmt::format("{}", fmt::join(gpus, ","));
  host.slots = static_cast<std::uint32_t>(gpus.size());
}

/// The GPUs of a host, as far as the configuration tells.
std::vector<std::string> gpus_of(const Config& config, const HostConfig& host) {
  const auto& ids = host.gpu_ids ? host.gpu_ids : config.gpu_ids;
  if (ids && *ids != "all") return pieces_of(*ids, ',');
  std::vector<std::string> gpus;
  for (std::uint32_t i = 0; i < host.slots.value_or(0); ++i) gpus.push_back(fmt::format("{}", i));
  return gpus;
}

Result<std::vector<HostConfig>> included(const Config& config, const std::string& word, const HostWorld& world) {
  std::vector<HostConfig> all = config.hosts;
  if (const auto pieces = deepspeed_pieces(word, all)) {
    for (const Piece& piece : *pieces)
      if (!piece.gpus.empty()) use_gpus(*find_host(all, piece.host), piece.gpus);
    std::erase_if(all, [&](const HostConfig& host) {
      return std::none_of(pieces->begin(), pieces->end(), [&](const Piece& one) { return one.host == host.name; });
    });
    return all;
  }
  HostWords words;
  words.include.push_back(word);
  const auto choice = choose_hosts(config, words, world, "--include");
  if (!choice) return choice.error();
  for (const HostConfig& host : choice->hosts)
    if (find_host(all, host.name) == nullptr)
      return usage(fmt::format("--include: host '{}' is none of the run's", host.name), "--hosts names other hosts");
  std::erase_if(all, [&](const HostConfig& host) {
    return std::none_of(choice->hosts.begin(), choice->hosts.end(),
                        [&](const HostConfig& one) { return one.name == host.name; });
  });
  return all;
}

Result<std::vector<HostConfig>> not_excluded(const Config& config, const std::string& word, const HostWorld& world) {
  std::vector<HostConfig> left = config.hosts;
  const auto pieces = deepspeed_pieces(word, left);
  if (!pieces) {
    HostWords words;
    words.exclude.push_back(word);
    auto choice = choose_hosts(config, words, world, "--exclude");
    if (!choice) return choice.error();
    return std::move(choice->hosts);
  }
  for (const Piece& piece : *pieces) {
    HostConfig* host = find_host(left, piece.host);
    if (host == nullptr) continue;  // excluded by a piece before
    std::vector<std::string> gpus = gpus_of(config, *host);
    if (!piece.gpus.empty() && gpus.empty())
      return usage(fmt::format("--exclude {}: how many GPUs host '{}' has is not known", word, piece.host),
                   "give it slots, or say with --include which GPUs are used");
    std::erase_if(gpus, [&](const std::string& id) {
      return std::find(piece.gpus.begin(), piece.gpus.end(), id) != piece.gpus.end();
    });
    if (piece.gpus.empty() || gpus.empty())
      left.erase(left.begin() + (host - left.data()));
    else
      use_gpus(*host, gpus);
  }
  return left;
}

std::optional<std::size_t> place(std::string_view text) {
  const auto value = parse_whole<std::size_t>(text);
  return value == 0 ? std::nullopt : value;
}

Result<std::vector<HostConfig>> by_place(std::vector<HostConfig> hosts, const std::string& word) {
  const auto dash = word.find('-');
  const auto first = dash == word.npos ? std::optional<std::size_t>(1) : place(std::string_view(word).substr(0, dash));
  const auto last = place(std::string_view(word).substr(dash == word.npos ? 0 : dash + 1));
  if (!first || !last || *last < *first)
    return usage(fmt::format("--nodes must be a number of hosts, or places such as 2-4, not '{}'", word),
                 "llmlaunch run --help lists the options");
  if (*last > hosts.size())
    return usage(fmt::format("--nodes {}: there {} {} host{}", word, hosts.size() == 1 ? "is" : "are", hosts.size(),
                             hosts.size() == 1 ? "" : "s"),
                 "");
  return std::vector<HostConfig>(hosts.begin() + static_cast<std::ptrdiff_t>(*first - 1),
                                 hosts.begin() + static_cast<std::ptrdiff_t>(*last));
}

}  // namespace

Result<std::vector<HostConfig>> filtered_hosts(const Config& config, const RunOptions& options,
                                               const HostWorld& world) {
  if (config.hosts.empty()) {
    const char* option = options.include ? "--include" : options.exclude ? "--exclude" : "--nodes";
    if (launcher::runs_per_machine(config)) {
      return usage(fmt::format("{}: no hosts are given, so that each of {} machines is started by itself", option,
                               *config.num_machines),
                   "leave it out; num_machines says how many there are");
    }
    return usage(fmt::format("{}: there are no hosts to choose from", option),
                 "list them under llmlaunch.hosts, or with --hosts");
  }
  Config rest = config;
  if (options.include) {
    auto hosts = included(rest, *options.include, world);
    if (!hosts) return hosts.error();
    rest.hosts = std::move(*hosts);
  }
  if (options.exclude && !rest.hosts.empty()) {
    auto hosts = not_excluded(rest, *options.exclude, world);
    if (!hosts) return hosts.error();
    rest.hosts = std::move(*hosts);
  }
  if (rest.hosts.empty())
    return usage(fmt::format("{} leaves no host", options.exclude ? "--exclude" : "--include"), "");
  if (options.nodes) return by_place(std::move(rest.hosts), *options.nodes);
  return std::move(rest.hosts);
}

}  // namespace llmlaunch::cli
