// The sentences of the error conditions. Who decides what happens on an error reads `Error::code`, never this text.
#include "rendezvous/base/error.hpp"

#include <cstring>

namespace llmlaunch {
namespace {

class Category final : public std::error_category {
 public:
  const char* name() const noexcept override { return "llmlaunch"; }

  std::string message(int value) const override {
    switch (static_cast<Errc>(value)) {
      case Errc::timed_out: return "timed out";
      case Errc::canceled: return "stopped on request";
      case Errc::refused: return "refused by the other side";
      case Errc::unreachable: return "not reachable";
      case Errc::closed: return "the other side closed the connection";
      case Errc::protocol: return "the other side broke the protocol";
      case Errc::too_large: return "larger than the limit";
      case Errc::version_mismatch: return "the two sides speak different versions";
      case Errc::unauthenticated: return "not authenticated";
      case Errc::duplicate_rank: return "this rank has joined already";
      case Errc::stale_generation: return "this generation has ended";
      case Errc::wrong_world: return "job or world size differ";
      case Errc::generation_ended: return "the generation ended";
      case Errc::not_found: return "not found";
      case Errc::invalid_argument: return "invalid value";
      case Errc::invalid_config: return "invalid configuration";
      case Errc::usage: return "wrong usage";
      case Errc::io: return "input or output failed";
      case Errc::host_key_unknown: return "unknown host key";
      case Errc::host_key_changed: return "the host key has changed";
      case Errc::host_key_other: return "the host is known by a key of another type";
      case Errc::host_key_revoked: return "the host key is revoked";
      case Errc::no_program: return "no such program";
      case Errc::no_workdir: return "no such working directory";
      case Errc::out_of_resources: return "out of resources";
      case Errc::unsupported: return "not supported here";
      case Errc::interrupted: return "interrupted";
      case Errc::locked: return "held by another run";
      case Errc::not_executable: return "may not be executed";
      case Errc::rank_failed: return "a rank failed";
      case Errc::internal: return "internal error";
    }
    return "unknown condition " + std::to_string(value);
  }
};

}  // namespace

const std::error_category& error_category() noexcept {
  static const Category category;
  return category;
}

std::error_code make_error_code(Errc code) noexcept {
  return {static_cast<int>(code), error_category()};
}

Error make_error(Errc code, std::string what, std::string where, std::string hint) {
  return {make_error_code(code), std::move(what), std::move(where), std::move(hint)};
}

Error system_error(int errno_value, std::string call, std::string where, std::string hint) {
  const std::error_code code(errno_value, std::generic_category());
  return {code, std::move(call) + ": " + code.message(), std::move(where), std::move(hint)};
}

std::string to_string(const Error& error) {
  std::string text;
  if (!error.where.empty()) text = error.where + ": ";
  text += error.what.empty() ? error.code.message() : error.what;
  if (!error.hint.empty()) text += "\n   hint: " + error.hint;
  return text;
}

}  // namespace llmlaunch
