// Files of other launchers that are no lists of hosts.
#include "cli/wizard_import.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "cli/head.hpp"
#include "cli/wizard_renewal.hpp"
#include "rendezvous/base/error.hpp"

namespace llmlaunch::cli {
namespace {

constexpr std::size_t kMaxBytes = 4u << 20;

bool is_name(std::string_view text) {
  const auto fits = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !text.empty() && !(text.front() >= '0' && text.front() <= '9') && std::all_of(text.begin(), text.end(), fits);
}

/// Keys of sections whose values never reach accelerate's workers: there is no variable for them, or the wizard has
/// another word than the launcher for the key.
struct LostKey {
  std::string_view path;
  std::string_view spelling = {};  ///< how the key ends where it is lost; empty: always
};
constexpr std::array kLostKeys{
    LostKey{"deepspeed_config.offload_optimizer_nvme_path"},
    LostKey{"deepspeed_config.offload_param_nvme_path"},
    LostKey{"fp8_config.fp8_amax_history_len", "amax_history_length"},
    LostKey{"fp8_config.fp8_amax_compute_algo", "amax_compute_algorithm"},
    LostKey{"fp8_config.fp8_opt_level", "optimization_level"},
    LostKey{"fsdp_config.fsdp_backward_prefetch", "backward_prefetch_policy"},
};

}  // namespace

Result<std::string> read_whole_file(const std::string& path) {
  const auto failed = [&path] {
    Error error = system_error(errno, "cannot read it", path);
    error.code = make_error_code(Errc::invalid_config);
    return error;
  };
  const int fd = ::open(expand_home(path).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed();
  std::string text;
  std::array<char, 65536> piece;
  while (text.size() <= kMaxBytes) {
    const ssize_t got = ::read(fd, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const Error error = failed();
      ::close(fd);
      return error;
    }
    if (got == 0) break;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  if (text.size() > kMaxBytes)
    return make_error(Errc::invalid_config, fmt::format("it has more than {} bytes", kMaxBytes), path);
  return text;
}

Result<void> import_deepspeed_env(const std::string& text, const std::string& name, launcher::Config& config,
                                  std::vector<std::string>& notes) {
  std::size_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == line.npos || line.front() == '#') continue;
    const std::size_t equals = line.find('=');
    const std::string variable(line.substr(0, equals));
    if (equals == line.npos || !is_name(variable))
      return make_error(Errc::invalid_config, "expected NAME=VALUE", fmt::format("{}:{}", name, number));
    if (launcher::set_by_llmlaunch(variable)) {
      notes.push_back(fmt::format("{}:{}: {} is left out: llmlaunch sets it for each rank", name, number, variable));
    } else if (launcher::names_secret(variable)) {
      config.forward_env.push_back(variable);
      notes.push_back(fmt::format(
          "{}:{}: the value of {} is not written, as it looks like a secret; forward_env takes it from the environment",
          name, number, variable));
    } else {
      std::erase_if(config.env, [&](const auto& entry) { return entry.first == variable; });
      config.env.emplace_back(variable, line.substr(equals + 1));
    }
  }
  return ok;
}

std::vector<std::string> ignored_by_accelerate(const launcher::Config& config, std::string_view text) {
  // These have flags with a default of their own there, which a file never replaces.
  constexpr std::array<std::string_view, 5> kFlagsWin{"rdzv_backend", "same_network", "enable_cpu_affinity",
                                                      "downcast_bf16", "tpu_use_sudo"};
  std::vector<std::string> notes;
  for (const std::string_view key : kFlagsWin) {
    const auto place = config.places.find(key);
    if (place == config.places.end()) continue;
    notes.push_back(fmt::format("{}: accelerate launch never used {} from a file{}", place->second.text, key,
                                key == "enable_cpu_affinity" ? "; llmlaunch does" : ""));
  }
  for (const LostKey& lost : kLostKeys) {
    const auto place = config.places.find(lost.path);
    if (place == config.places.end()) continue;
    const std::string_view written = key_at(text, place->second.text);
    if (!lost.spelling.empty() && !written.ends_with(lost.spelling)) continue;
    notes.push_back(fmt::format("{}: accelerate launch never used {}.{} from a file; llmlaunch does",
                                place->second.text, lost.path.substr(0, lost.path.find('.')), written));
  }
  if (config.distributed_type != "DEEPSPEED") return notes;
  for (const auto& [path, place] : config.places)
    if (path.starts_with("dynamo_config."))
      notes.push_back(
          fmt::format("{}: accelerate launch never used {} of a DeepSpeed job; llmlaunch does", place.text, path));
  return notes;
}

}  // namespace llmlaunch::cli
