// The variables that llmlaunch gives a rank, as `ClientOptions`. Reads the environment once and checks every value.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <optional>

#include "rendezvous/base/env.hpp"
#include "rendezvous/base/whole_number.hpp"
#include "rendezvous/client.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

constexpr const char* kHint = "start the program with 'llmlaunch run', which sets this variable for every rank";

Result<std::string> variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') {
    return make_error(Errc::not_found, fmt::format("environment variable {} is not set", name), {}, kHint);
  }
  return std::string(value);
}

Result<std::uint32_t> number_variable(const char* name, std::uint32_t least) {
  const auto text = variable(name);
  if (!text) return text.error();
  const auto value = parse_whole<std::uint64_t>(*text);
  if (!value || *value < least || *value > std::numeric_limits<std::uint32_t>::max()) {
    return make_error(Errc::invalid_argument, fmt::format("environment variable {} is {}, not a number from {} on",
                                                          name, quoted(*text), least));
  }
  return static_cast<std::uint32_t>(*value);
}

// "10.0.0.1:29400", "[fd00::1]:29400", "head:29400"
Result<void> read_rendezvous(ClientOptions& options) {
  const auto text = variable(env::kRendezvous);
  if (!text) return text.error();
  const std::size_t colon = text->rfind(':');
  const auto port =
      colon == std::string::npos ? std::nullopt : parse_whole<std::uint64_t>(std::string_view(*text).substr(colon + 1));
  std::string address = text->substr(0, colon);
  const bool bracketed = address.size() > 2 && address.front() == '[' && address.back() == ']';
  if (bracketed) address = address.substr(1, address.size() - 2);
  const bool bare_v6 = !bracketed && address.find(':') != std::string::npos;
  if (!port || *port == 0 || *port > 65535 || address.empty() || bare_v6) {
    return make_error(Errc::invalid_argument,
                      fmt::format("environment variable {} is {}, not address:port", env::kRendezvous, quoted(*text)));
  }
  options.address = std::move(address);
  options.port = static_cast<std::uint16_t>(*port);
  return ok;
}

}  // namespace

Result<ClientOptions> client_options_from_environment() {
  ClientOptions options;
  if (auto read = read_rendezvous(options); !read) return read.error();
  const auto job_id = variable(env::kJobId);
  if (!job_id) return job_id.error();
  const auto token = variable(env::kToken);
  if (!token) return token.error();
  const auto generation = number_variable(env::kGeneration, 0);
  if (!generation) return generation.error();
  if (std::getenv(env::kRendezvousTimeout) != nullptr) {  // a launcher that sets none leaves the default
    const auto timeout_ms = number_variable(env::kRendezvousTimeout, 1);
    if (!timeout_ms) return timeout_ms.error();
    options.join_timeout = std::chrono::milliseconds(*timeout_ms);
  }
  const auto rank = number_variable(env::kRank, 0);
  if (!rank) return rank.error();
  const auto world_size = number_variable(env::kWorldSize, 1);
  if (!world_size) return world_size.error();
  if (*rank >= *world_size) {
    return make_error(Errc::invalid_argument,
                      fmt::format("environment variable {} is {}, but {} is {}: ranks are 0-{}", env::kRank, *rank,
                                  env::kWorldSize, *world_size, *world_size - 1));
  }
  options.job_id = *job_id;
  options.token = *token;
  options.generation = Generation{*generation};
  options.rank = Rank{*rank};
  options.world_size = *world_size;
  if (const auto host = variable(env::kHost)) {
    options.host = *host;
  } else {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) == 0) options.host = name;
  }
  return options;
}

}  // namespace llmlaunch::rendezvous
