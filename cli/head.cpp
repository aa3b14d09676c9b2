// Looks at this machine, changes nothing.
#include "cli/head.hpp"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "rendezvous/base/env.hpp"
#include "rendezvous/base/home.hpp"
#include "rendezvous/base/own_addresses.hpp"

extern char** environ;

namespace llmlaunch::cli {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

Result<std::string> new_job_id() {
  std::uint32_t chance = 0;
  if (::getrandom(&chance, sizeof chance, 0) != sizeof chance) return system_error(errno, "getrandom");
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  if (!::localtime_r(&now, &parts)) return system_error(errno, "localtime");
  return fmt::format("{:04}{:02}{:02}-{:02}{:02}{:02}-{:08x}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min, parts.tm_sec, chance);
}

bool is_file(const std::string& path) {
  struct stat found {};
  return ::stat(path.c_str(), &found) == 0 && S_ISREG(found.st_mode);
}

}  // namespace

Result<launcher::HeadFacts> head_facts() {
  launcher::HeadFacts facts;
  auto id = new_job_id();
  if (!id) return id.error();
  facts.job_id = std::move(*id);
  for (char** entry = environ; entry && *entry; ++entry) {
    const std::string_view text = *entry;
    const auto equals = text.find('=', 1);  // a name may not be empty
    if (equals != text.npos) facts.environment.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  auto addresses = own_addresses();
  if (!addresses) return addresses.error();
  facts.addresses = std::move(*addresses);
  facts.hostname = own_host_name();
  facts.home = home_directory();
  std::error_code failed;
  facts.cwd = fs::current_path(failed).string();
  if (failed) return system_error(failed.value(), "the current directory cannot be read");
  return facts;
}

std::vector<std::string> addresses_of(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return {};
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> list(found, &::freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    char text[NI_MAXHOST] = {};
    if (::getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0)
      addresses.emplace_back(text);
  }
  return addresses;
}

Result<std::string> find_helper(const std::string& name) {
  std::vector<std::string> places;
  if (const std::string given = variable("LLMLAUNCH_LIBEXEC"); !given.empty()) {
    places.push_back(given);
  } else {
    std::error_code failed;
    const fs::path self = fs::read_symlink("/proc/self/exe", failed);
    if (failed) return system_error(failed.value(), "cannot tell where llmlaunch is installed: /proc/self/exe");
    places.push_back(self.parent_path().string());
    places.push_back((self.parent_path() / "../libexec/llmlaunch").lexically_normal().string());
  }
  for (const auto& place : places) {
    const std::string path = place + "/" + name;
    if (is_file(path) && ::access(path.c_str(), R_OK) == 0) return path;
  }
  return make_error(
      Errc::not_found,
      fmt::format("llmlaunch's own program {} is missing; looked in {}", name, fmt::join(places, " and ")), {},
      "install it there, or set LLMLAUNCH_LIBEXEC to the directory that has it");
}

std::optional<std::string> default_config() {
  std::string cache = variable("HF_HOME");
  if (cache.empty()) {
    std::string above = variable("XDG_CACHE_HOME");
    if (above.empty()) {
      const std::string home = home_directory();
      if (home.empty()) return std::nullopt;
      above = home + "/.cache";
    }
    cache = above + "/huggingface";
  }
  for (const char* name : {"default_config.yaml", "default_config.yml", "default_config.json"}) {
    const std::string path = expand_home(cache) + "/accelerate/" + name;
    if (is_file(path)) return path;
  }
  return std::nullopt;
}

std::optional<std::string> take_join_token() {
  std::string token = variable(env::kJoinToken);
  ::unsetenv(env::kJoinToken);
  return token.empty() ? std::nullopt : std::optional(std::move(token));
}

std::string expand_home(const std::string& path) {
  if (path != "~" && !path.starts_with("~/")) return path;
  const std::string home = home_directory();
  return home.empty() ? path : home + path.substr(1);
}

}  // namespace llmlaunch::cli
