// Chooses a key by the files and the agent; see own_key.hpp. The line that is installed is written from the key itself,
// so that whatever a .pub file has in it cannot become one.
#include "launcher/ssh/own_key.hpp"

#include <openssl/evp.h>

#include <algorithm>
#include <fstream>

#include "launcher/ssh/agent_keys.hpp"
#include "launcher/ssh/host_lookup.hpp"
#include "launcher/ssh/key_ring.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/try_threads.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

constexpr std::size_t kMaxPublicLine = 16u << 10;

/// A blob begins with the name of its type: u32 length, text.
std::string type_of_blob(ByteView blob) {
  constexpr std::size_t kLength = 4;
  if (blob.size() < kLength) return {};
  return std::string(as_text(blob).substr(kLength, std::to_integer<std::size_t>(blob[kLength - 1])));
}

/// Signs here: no certificate, which belongs to a key, and no key of a token.
bool is_plain_key(ByteView blob) {
  const std::string type = type_of_blob(blob);
  return !type.empty() && !type.starts_with("sk-") && type.find("-cert-") == type.npos;
}

std::string base64(ByteView blob) {
  std::string text(4 * ((blob.size() + 2) / 3) + 1, '\0');  // with the zero that OpenSSL puts behind it
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                   reinterpret_cast<const unsigned char*>(blob.data()), static_cast<int>(blob.size()));
  text.resize(static_cast<std::size_t>(size));
  return text;
}

std::string line_of(ByteView blob, const std::string& comment) {
  const std::string line = type_of_blob(blob) + " " + base64(blob);
  return comment.empty() ? line : line + " " + printable(comment);
}

/// What stands behind the key in its .pub file.
std::string comment_in(const std::string& file) {
  std::ifstream text(file);
  std::string line(kMaxPublicLine, '\0');
  text.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<std::size_t>(text.gcount()));
  line.resize(std::min(line.find_first_of("\r\n"), line.size()));
  std::size_t at = line.find(' ');
  if (at != line.npos) at = line.find(' ', at + 1);
  return at == line.npos ? std::string() : line.substr(at + 1);
}

OwnKey key_of_file(const Identity& identity) {
  const std::string file = identity.path + ".pub";
  return {file, line_of(identity.public_blob, comment_in(file))};
}

class OwnKeys {
 public:
  OwnKeys(SshConfig config, LocalUser user, bool use_agent)
      : config_(std::move(config)), user_(std::move(user)), use_agent_(use_agent) {}
  OwnKey of(const HostPlan& host);

 private:
  const std::vector<AgentIdentity>& in_agent(const std::string& path);

  SshConfig config_;
  LocalUser user_;
  bool use_agent_;
  asio::thread_pool threads_{tried_threads(1)};  // that the ring would ask on; it does not here
  KeyRing ring_{false, threads_};
  std::map<std::string, std::vector<AgentIdentity>> agents_;
};

asio::awaitable<void> list_agent(AgentKeys& keys, asio::any_io_executor executor, std::string path,
                                 std::vector<AgentIdentity>& found) {
  const bool canceled = false;
  const auto list = co_await keys.of(executor, path, canceled);
  if (list) found = *list;  // an agent that is not there has none
}

const std::vector<AgentIdentity>& OwnKeys::in_agent(const std::string& path) {
  const auto [at, added] = agents_.try_emplace(path);
  if (added && !path.empty()) {
    asio::io_context context;
    AgentKeys keys;
    spawn_or_die(context.get_executor(), "keys of ssh-agent",
                 list_agent(keys, context.get_executor(), path, at->second));
    context.run();
    std::erase_if(at->second, [](const AgentIdentity& key) { return !is_plain_key(key.blob); });
  }
  return at->second;
}

OwnKey OwnKeys::of(const HostPlan& host) {
  const HostSettings settings = settings_of(config_, host);
  const auto& agent = in_agent(use_agent_ ? settings.identity_agent.value_or("") : "");
  const auto has = [&agent](const Bytes& blob) {
    return std::any_of(agent.begin(), agent.end(), [&blob](const AgentIdentity& key) { return key.blob == blob; });
  };
  const Identity* first = nullptr;
  for (const std::string& file : settings.identity_files) {
    const Identity& identity = ring_.identity(expanded_path(file, user_));
    if (!is_plain_key(identity.public_blob)) continue;
    if (has(identity.public_blob)) return key_of_file(identity);
    if (first == nullptr && !identity.missing) first = &identity;
  }
  if (first != nullptr) return key_of_file(*first);
  if (agent.empty() || settings.identities_only) return {};
  const AgentIdentity& key = agent.front();
  return {"the key '" + printable(key.comment) + "' of ssh-agent", line_of(key.blob, key.comment)};
}

}  // namespace

Result<std::vector<OwnKey>> own_keys(const LaunchPlan& plan) {
  LocalUser user = local_user();
  auto config = SshConfig::load(config_files(plan.ssh.config_file, user.home), user);
  if (!config) return config.error();
  OwnKeys finder(std::move(*config), std::move(user), plan.ssh.use_agent);
  std::vector<OwnKey> keys;
  for (const HostPlan& host : plan.hosts) keys.push_back(finder.of(host));
  return keys;
}

}  // namespace llmlaunch::launcher::ssh
