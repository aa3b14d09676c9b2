// Gloo's four store calls as calls of the rendezvous client. Called by Gloo while it connects its mesh, never later.
#include "trainer/gloo_store.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace llmlaunch::trainer {
namespace {

[[noreturn]] void refuse(Error error) {
  if (error.code == Errc::timed_out && error.hint.empty()) {
    error.hint =
        "gloo/N is where rank N listens: that rank has joined the job, and then stopped or hangs; see its host";
  }
  throw GlooStoreError(std::move(error));
}

void check_store(const Result<void>& result) {
  if (!result) refuse(result.error());
}

}  // namespace

GlooStore::GlooStore(rendezvous::Client& client, std::string prefix, std::chrono::milliseconds timeout)
    : client_(client), prefix_(std::move(prefix)), timeout_(timeout) {}

void GlooStore::set(const std::string& key, const std::vector<char>& data) {
  check_store(client_.set(full(key), std::as_bytes(std::span(data))));
}

std::vector<char> GlooStore::get(const std::string& key) {
  const auto value = client_.get(full(key), timeout_);
  if (!value) refuse(value.error());
  const std::string_view text = as_text(*value);
  return {text.begin(), text.end()};
}

void GlooStore::wait(const std::vector<std::string>& keys) {
  wait(keys, timeout_);
}

void GlooStore::wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) {
  const auto limit = timeout > std::chrono::milliseconds::zero() ? timeout : timeout_;
  const auto deadline = std::chrono::steady_clock::now() + limit;
  // The rendezvous limits the keys of one request, so a large world waits in several.
  for (std::size_t first = 0; first < keys.size(); first += rendezvous::kMaxWaitKeys) {
    std::vector<std::string> some;
    for (std::size_t i = first; i < std::min(keys.size(), first + rendezvous::kMaxWaitKeys); ++i) {
      some.push_back(full(keys[i]));
    }
    const auto rest =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    check_store(client_.wait(some, std::max(rest, std::chrono::milliseconds(1))));
  }
}

}  // namespace llmlaunch::trainer
