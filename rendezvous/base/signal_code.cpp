// A category whose values are signals; see signal_code.hpp.
#include "rendezvous/base/signal_code.hpp"

#include <string>

namespace llmlaunch {
namespace {

class SignalCategory final : public std::error_category {
 public:
  const char* name() const noexcept override { return "signal"; }
  std::string message(int value) const override { return "ended by signal " + std::to_string(value); }
};

const std::error_category& signal_category() noexcept {
  static const SignalCategory category;
  return category;
}

}  // namespace

std::error_code signal_code(int signal) noexcept {
  return {signal, signal_category()};
}

int signal_of(const std::error_code& code) noexcept {
  return code.category() == signal_category() ? code.value() : 0;
}

}  // namespace llmlaunch
