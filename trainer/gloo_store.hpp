/// \file
/// Gloo's store on top of the rendezvous: how Gloo's ranks learn each other's addresses. An adaptor, so it throws, as
/// Gloo expects; `GlooComm` turns what it throws back into an `Error`.
#pragma once

#include <gloo/rendezvous/store.h>

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "rendezvous/client.hpp"

namespace llmlaunch::trainer {

/// What `GlooStore` throws: the rendezvous's own error, kept whole.
class GlooStoreError : public std::runtime_error {
 public:
  explicit GlooStoreError(Error error) : std::runtime_error(to_string(error)), error_(std::move(error)) {}
  const Error& error() const { return error_; }

 private:
  Error error_;
};

class GlooStore final : public gloo::rendezvous::Store {
 public:
  /// Keys become "<prefix>/<key>". `timeout` is for every wait that names none. `client` must outlive the store.
  GlooStore(rendezvous::Client& client, std::string prefix, std::chrono::milliseconds timeout);

  void set(const std::string& key, const std::vector<char>& data) override;
  /// Waits until the key exists.
  std::vector<char> get(const std::string& key) override;
  void wait(const std::vector<std::string>& keys) override;
  /// Gloo's zero means no limit; here it means the store's own.
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override;

 private:
  std::string full(const std::string& key) const { return prefix_ + "/" + key; }

  rendezvous::Client& client_;
  std::string prefix_;
  std::chrono::milliseconds timeout_;
};

}  // namespace llmlaunch::trainer
