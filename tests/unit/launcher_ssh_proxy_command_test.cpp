// A ProxyCommand's end and its words, from a real shell.
#include "launcher/ssh/proxy_command.hpp"

#include <sys/wait.h>

#include <string>
#include <vector>

#include "tests/support/catch.hpp"

namespace launcher_ssh_proxy_command_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::ssh;

TEST_CASE("a ProxyCommand that has ended already is heard before its status is told") {
  asio::io_context loop;
  std::vector<std::string> said;
  auto started = ProxyCommand::start(loop.get_executor(),
                                     "sh -c 'echo on stdout; echo a reason >&2; printf unfinished >&2; exit 7'",
                                     [&](std::string_view line) { said.emplace_back(line); });
  REQUIRE(started);
  siginfo_t info{};
  REQUIRE(::waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0);  // it is over before anybody looks
  std::optional<int> status;
  std::vector<std::string> said_by_then;
  const auto hear = [&]() -> asio::awaitable<void> {
    status = co_await started->command->await_end();
    said_by_then = said;
    started->command->close();
  };
  spawn_or_die(loop.get_executor(), "who hears it", hear());
  loop.run();
  CHECK(status == 7);
  CHECK(said_by_then == std::vector<std::string>{"a reason", "unfinished"});
}

}  // namespace launcher_ssh_proxy_command_test
