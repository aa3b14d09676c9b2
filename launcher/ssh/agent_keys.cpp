// One question for all hosts; see agent_keys.hpp. The protocol is agent_client.cpp's.
#include "launcher/ssh/agent_keys.hpp"

#include <utility>

#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher::ssh {

asio::awaitable<Result<std::vector<AgentIdentity>>> AgentKeys::of(asio::any_io_executor executor, std::string path,
                                                                  const bool& canceled) {
  Agent& agent = agents_[path];
  if (!agent.changed) agent.changed.emplace(executor, std::chrono::steady_clock::time_point::max());
  while (!canceled) {
    if (agent.list && std::chrono::steady_clock::now() < agent.asked_at + kAgentListHolds) co_return *agent.list;
    if (!agent.client) {
      agent.client = std::make_shared<AgentClient>(executor);
      agent.canceled = &canceled;
      const auto list = co_await ask(agent.client, path);
      // Who is canceled has closed it; the others ask themselves.
      if (!canceled) keep(agent, list);
      agent.client.reset();
      agent.canceled = nullptr;
      agent.changed->cancel();
    } else {
      co_await agent.changed->async_wait(await_tuple);
    }
  }
  co_return make_error(Errc::canceled, "the connection was closed");
}

asio::awaitable<AgentKeys::List> AgentKeys::ask(std::shared_ptr<AgentClient> client, std::string path) {
  const auto connected = co_await client->connect(std::move(path));
  if (!connected) co_return connected.error();
  auto list = co_await client->identities(kAgentPatience);
  client->close();
  co_return list;
}

void AgentKeys::keep(Agent& agent, const List& list) {
  agent.list = list;
  agent.asked_at = std::chrono::steady_clock::now();
  const bool is_there = list || list.error().code != Errc::unreachable;
  if (list || !is_there || std::exchange(agent.complained, true)) return;
  log_warning("{}; going on without it", list.error().what);
}

void AgentKeys::wake() {
  for (auto& [path, agent] : agents_) {
    if (agent.client && *agent.canceled) agent.client->close();
    if (agent.changed) agent.changed->cancel();
  }
}

}  // namespace llmlaunch::launcher::ssh
