/// \file
/// `config update`: the older words of a file become those that a current accelerate reads, and the version of FSDP
/// that it has had in silence is written down. Pure but for what `read` does.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

using ReadConfig = std::function<Result<launcher::Config>(const std::string& text)>;

struct Renewal {
  std::string text;
  std::vector<std::string> renamed;  ///< "fp16 to mixed_precision"
  std::vector<std::string> added;    ///< "fsdp_config.fsdp_version"
};

/// `text` with each change that leaves what it means as it was: read again by `read`, every rank finds the same in its
/// environment. All other bytes stay. `config` is what `text` is now; only what stands in the file `name` itself
/// is touched, nothing that it includes.
Renewal renewed(std::string text, const std::string& name, launcher::Config config, const ReadConfig& read);

/// Where "file:LINE:COLUMN" is in `text`, in bytes.
std::optional<std::size_t> offset_of(std::string_view text, std::string_view place);
/// The key that stands there, without quotes; empty when there is none.
std::string_view key_at(std::string_view text, std::string_view place);

}  // namespace llmlaunch::cli
