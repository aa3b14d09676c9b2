// Reads the agent's program once for all hosts: what the ssh side pushes and names by its hash.
#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>

#include "launcher/remote.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {
namespace {

// The agent is 2 MB; ten times that is another file.
constexpr std::size_t kMaxAgentBytes = 64u << 20;

}  // namespace

Result<AgentBinary> load_agent_binary(const std::string& path) {
  const char* hint = "llmlaunch-agent is built and installed beside llmlaunch";
  const std::string failed = "cannot read the agent's program " + path;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info {};
  if (!fd || ::fstat(fd.value(), &info) != 0) return system_error(errno, failed, {}, hint);
  const auto size = static_cast<std::size_t>(info.st_size);
  if (!S_ISREG(info.st_mode) || size == 0 || size > kMaxAgentBytes)
    return make_error(Errc::io, fmt::format("{} is not the agent's program: {} bytes", path, size), {}, hint);
  AgentBinary binary{path, {}, Bytes(size)};
  for (std::size_t filled = 0; filled < size;) {
    const ssize_t got = ::read(fd.value(), binary.bytes.data() + filled, size - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, failed, {}, hint);
    if (got == 0) return make_error(Errc::io, failed + ": it became shorter", {}, hint);
    filled += static_cast<std::size_t>(got);
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  if (EVP_Digest(binary.bytes.data(), size, digest.data(), &length, EVP_sha256(), nullptr) != 1)
    return make_error(Errc::out_of_resources, failed + ": no memory to hash it");
  for (unsigned i = 0; i < length; ++i) binary.hash += fmt::format("{:02x}", digest[i]);
  return binary;
}

}  // namespace llmlaunch::launcher
