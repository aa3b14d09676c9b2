#include <cstdlib>

#include "rendezvous/base/env.hpp"
#include "rendezvous/client.hpp"
#include "tests/support/catch.hpp"

namespace rendezvous_client_environment_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;

namespace {

// A rank's variables for one test case.
struct Environment {
  Environment() {
    set(env::kRendezvous, "10.0.0.1:29400");
    set(env::kJobId, "job-1");
    set(env::kToken, "secret");
    set(env::kGeneration, "2");
    set(env::kRank, "1");
    set(env::kWorldSize, "4");
    set(env::kHost, "gpu02");
  }
  ~Environment() {
    for (const char* name : {env::kRendezvous, env::kJobId, env::kToken, env::kGeneration, env::kRank, env::kWorldSize,
                             env::kHost, env::kRendezvousTimeout}) {
      ::unsetenv(name);
    }
  }
  static void set(const char* name, const char* value) { ::setenv(name, value, 1); }
};

std::string failure() {
  const auto options = client_options_from_environment();
  REQUIRE_FALSE(options);
  return to_string(options.error());
}

}  // namespace

TEST_CASE("a rank finds its rendezvous in the environment") {
  const Environment environment;
  const auto options = client_options_from_environment();
  REQUIRE(options);
  CHECK(options->address == "10.0.0.1");
  CHECK(options->port == 29400);
  CHECK(options->job_id == "job-1");
  CHECK(options->token == "secret");
  CHECK(options->generation == Generation{2});
  CHECK(options->rank == Rank{1});
  CHECK(options->world_size == 4);
  CHECK(options->host == "gpu02");
}

TEST_CASE("the time to join is the job's, where the launcher says it") {
  const Environment environment;
  CHECK(client_options_from_environment()->join_timeout == std::nullopt);
  Environment::set(env::kRendezvousTimeout, "1500");
  CHECK(client_options_from_environment()->join_timeout == std::chrono::milliseconds(1500));
  for (const char* wrong : {"0", "3s", "-1", "4294967296"}) {
    Environment::set(env::kRendezvousTimeout, wrong);
    CHECK(failure() ==
          std::string("environment variable LLMLAUNCH_RENDEZVOUS_TIMEOUT is '") + wrong + "', not a number from 1 on");
  }
}

TEST_CASE("IPv6 addresses stand in brackets, names alone") {
  const Environment environment;
  Environment::set(env::kRendezvous, "[fd00::1]:29400");
  CHECK(client_options_from_environment()->address == "fd00::1");
  Environment::set(env::kRendezvous, "head.cluster:1");
  CHECK(client_options_from_environment()->address == "head.cluster");
  for (const char* wrong : {"10.0.0.1", ":29400", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "fd00::1", "a:1x"}) {
    Environment::set(env::kRendezvous, wrong);
    CHECK(failure() == std::string("environment variable LLMLAUNCH_RENDEZVOUS is '") + wrong + "', not address:port");
  }
}

TEST_CASE("a missing or wrong variable is named") {
  const Environment environment;
  ::unsetenv(env::kToken);
  CHECK(failure() ==
        "environment variable LLMLAUNCH_TOKEN is not set\n"
        "   hint: start the program with 'llmlaunch run', which sets this variable for every rank");
  Environment::set(env::kToken, "secret");
  Environment::set(env::kRank, "one");
  CHECK(failure() == "environment variable RANK is 'one', not a number from 0 on");
  Environment::set(env::kRank, "4");
  CHECK(failure() == "environment variable RANK is 4, but WORLD_SIZE is 4: ranks are 0-3");
  Environment::set(env::kWorldSize, "0");
  CHECK(failure() == "environment variable WORLD_SIZE is '0', not a number from 1 on");
}

}  // namespace rendezvous_client_environment_test
