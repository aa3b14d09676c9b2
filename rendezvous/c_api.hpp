/// \file
/// What the C functions are made of: the handle, and the way from `Result` to a status. Private to c_api*.cpp.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>

#include "rendezvous/client.hpp"
#include "rendezvous/llmlaunch_rendezvous.h"

struct llmlaunch_rdv {
  llmlaunch_rdv() = default;
  ~llmlaunch_rdv();
  llmlaunch_rdv(const llmlaunch_rdv&) = delete;
  llmlaunch_rdv& operator=(const llmlaunch_rdv&) = delete;

  /// On the reader's thread, once.
  void end(std::string why);
  std::chrono::milliseconds time(std::int64_t ms) const {
    return ms < 0 ? client->options().timeout : std::chrono::milliseconds(ms);
  }

  std::unique_ptr<llmlaunch::rendezvous::Client> client;
  int end_descriptor = -1;
  mutable std::mutex mutex;
  std::optional<std::string> end_reason;  // set once, and then only read
  void (*callback)(void* user, const char* reason) = nullptr;
  void* user = nullptr;
};

struct llmlaunch_rdv_watch {
  std::unique_ptr<llmlaunch::rendezvous::Watcher> watcher;
  std::chrono::milliseconds timeout{};
};

namespace llmlaunch::rendezvous::c_api {

/// Keeps the text for this thread and gives the status.
int failed(const Error& error);
int missing_argument(const char* name);

template <class T>
int status_of(const Result<T>& result) {
  return result ? LLMLAUNCH_RDV_OK : failed(result.error());
}

/// Memory for llmlaunch_rdv_free with a 0 byte behind it.
void* copied(ByteView bytes);

/// No exception goes to C.
template <class Function>
int guarded(Function&& function) noexcept {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return failed(make_error(Errc::out_of_resources, "no memory"));
  } catch (const std::exception& e) {  // std::system_error of a thread that cannot be started
    return failed(make_error(Errc::out_of_resources, e.what()));
  }
}

inline ByteView view_of(const void* memory, std::size_t size) {
  return {static_cast<const std::byte*>(memory), size};
}

}  // namespace llmlaunch::rendezvous::c_api
