/// \file
/// What the ssh-agents of a launch show, asked for once for all hosts: an agent does one thing at a time, and one whose
/// keys are on a token signs for half a second. A list asked for by each host would wait behind the others' signatures.
/// All calls from the thread of the event loop.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "launcher/ssh/agent_client.hpp"
#include "rendezvous/asio.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

/// An agent lists its keys within milliseconds.
inline constexpr std::chrono::seconds kAgentPatience{2};
/// Then it is asked again: a connection that is made again later may find other keys, or the agent back.
inline constexpr std::chrono::seconds kAgentListHolds{60};

class AgentKeys {
 public:
  AgentKeys() = default;
  AgentKeys(const AgentKeys&) = delete;
  AgentKeys& operator=(const AgentKeys&) = delete;

  /// The keys of the agent at `path`. Errors as of `AgentClient`, the same for all hosts; an agent that is there and
  /// does not answer as one is said aloud, once. `Errc::canceled` when `canceled` became true, see `wake`.
  asio::awaitable<Result<std::vector<AgentIdentity>>> of(asio::any_io_executor executor, std::string path,
                                                         const bool& canceled);
  /// Who asks and who waits look at their `canceled` again.
  void wake();

 private:
  using List = Result<std::vector<AgentIdentity>>;
  struct Agent {
    std::optional<List> list;
    std::chrono::steady_clock::time_point asked_at;
    std::optional<asio::steady_timer> changed;  // never fires; cancelled when there is news for those who wait
    std::shared_ptr<AgentClient> client;        // while it is asked
    const bool* canceled = nullptr;             // of who asks
    bool complained = false;
  };
  static asio::awaitable<List> ask(std::shared_ptr<AgentClient> client, std::string path);
  void keep(Agent& agent, const List& list);

  std::map<std::string, Agent> agents_;
};

}  // namespace llmlaunch::launcher::ssh
