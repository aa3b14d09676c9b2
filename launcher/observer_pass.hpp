/// \file
/// How `llmlaunch store` gets into a running job: `rendezvous.json` in the run directory, for the owner alone (0600,
/// in a directory of 0700), there while the rendezvous is. It has the job's token, which stands nowhere else on disk.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"

namespace llmlaunch::launcher {

inline constexpr const char* kObserverPassFile = "rendezvous.json";

struct ObserverPass {
  std::string job_id;
  Generation generation{};
  std::string head;      ///< own_host_name of the machine; `address` is meant there
  std::int64_t pid = 0;  ///< of llmlaunch there
  std::string address;   ///< "127.0.0.1", or the one that the rendezvous is bound to
  std::uint16_t port = 0;
  std::string token;  ///< 64 hex digits; a secret
};

std::string observer_pass_text(const ObserverPass& pass);
/// Any text may come: `Errc::protocol` names the field that is missing or wrong, and no value of it.
Result<ObserverPass> parse_observer_pass(std::string_view text);

/// The pass of a run directory, never waiting. `Errc::not_found`: there is none. `Errc::refused`: the file or directory
/// belongs to somebody else, others may read the one or write in the other, or it is no file; nothing was believed.
Result<ObserverPass> read_observer_pass(const std::string& run_directory);

/// A pass that lies in its run directory, until its owner goes.
class PlacedPass {
 public:
  PlacedPass() = default;
  /// Writes it, also over that of an older generation: whoever reads meanwhile gets one or the other, whole.
  static Result<PlacedPass> place(const std::string& run_directory, const ObserverPass& pass);
  ~PlacedPass() { withdraw(); }
  PlacedPass(PlacedPass&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PlacedPass& operator=(PlacedPass&& other) noexcept;

  /// Removes it. Idempotent. One that cannot be removed is warned of by name, as it has the token.
  void withdraw();

 private:
  std::string path_;
};

}  // namespace llmlaunch::launcher
