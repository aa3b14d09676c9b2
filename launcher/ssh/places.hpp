/// \file
/// Counted places that hosts stand in line for: at ssh-agent, which signs one thing at a time, and at a jump host. All
/// calls from the thread of the event loop.
#pragma once

#include <cstddef>
#include <optional>

#include "rendezvous/asio.hpp"

namespace llmlaunch::launcher::ssh {

class Places {
 public:
  explicit Places(std::size_t count) : free_(count) {}

  /// Waits for a place; who waits is not slow. False when `canceled` became true meanwhile, see `wake`.
  asio::awaitable<bool> take(asio::any_io_executor executor, const bool& canceled);
  void give();
  /// Those who wait look at their `canceled` again.
  void wake();

 private:
  std::size_t free_;
  std::optional<asio::steady_timer> line_;
};

/// Gives the place back with its owner.
class Place {
 public:
  explicit Place(Places& places) : places_(&places) {}
  ~Place() { places_->give(); }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

 private:
  Places* places_;
};

}  // namespace llmlaunch::launcher::ssh
