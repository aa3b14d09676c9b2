/// \file
/// The store of a running job as a person sees it from outside: both kinds of keys, llmlaunch's own and PyTorch's. An
/// observer's connection: nobody in the job waits for it. Used by cli/store.cpp.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/running_jobs.hpp"
#include "rendezvous/client.hpp"

namespace llmlaunch::launcher {

/// Which keys are meant. Both: those of PyTorch's store only where it is served.
struct KeyspaceChoice {
  bool native = true;
  bool pytorch = true;
};

struct FoundValue {
  rendezvous::Keyspace keyspace{};
  Bytes value;
};

struct ListedKey {
  rendezvous::Keyspace keyspace{};
  rendezvous::StoreEntry entry;
};

class StoreView {
 public:
  /// Errors as Client::join; `unreachable` says what has become of the job, when it has ended meanwhile.
  static Result<StoreView> open(const RunningJob& job);

  /// The value now, llmlaunch's own key before PyTorch's; nothing when it is missing.
  /// `invalid_argument` for a queue of PyTorch's store.
  Result<std::optional<FoundValue>> look(const std::string& key, KeyspaceChoice where);
  /// The same, waiting for it until the deadline. Nothing: it did not come.
  Result<std::optional<FoundValue>> await(const std::string& key, KeyspaceChoice where,
                                          std::chrono::steady_clock::time_point deadline);
  /// All keys that begin with this, in byte order, llmlaunch's own first. Those that come or go meanwhile may be
  /// missing.
  Result<std::vector<ListedKey>> list(const std::string& prefix, KeyspaceChoice where);

  /// A watch of each keyspace that is meant and there, from now on.
  struct Watch {
    rendezvous::Keyspace keyspace{};
    std::unique_ptr<rendezvous::Watcher> watcher;
    int descriptor = -1;  ///< as Watcher::descriptor
  };
  Result<std::vector<Watch>> watch(const std::string& text, bool prefix, KeyspaceChoice where);

  rendezvous::Client& client() { return *client_; }

 private:
  explicit StoreView(std::unique_ptr<rendezvous::Client> client) : client_(std::move(client)) {}
  std::unique_ptr<rendezvous::Client> client_;
};

/// The keyspaces that are meant, in their order.
std::vector<rendezvous::Keyspace> keyspaces(KeyspaceChoice where);

/// Whether this error of a request only says that PyTorch's store is not served (`unsupported`), and it was not asked
/// for alone.
bool is_absent_store(const Error& error, rendezvous::Keyspace keyspace, KeyspaceChoice where);

}  // namespace llmlaunch::launcher
