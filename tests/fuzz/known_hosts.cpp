// known_hosts: whatever a file says, no host is known by it but through a line that holds exactly the key, a line that
// we add makes the host known, and a revoked key stays refused.
#include "launcher/ssh/known_hosts.hpp"

#include "launcher/ssh/known_hosts_lines.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher::ssh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::string blob = std::string("\0\0\0\x0bssh-ed25519", 15) + std::string("\0\0\0\x03one", 7);
  const ByteView bytes = as_bytes(blob);
  const HostKey key{"ssh-ed25519", Bytes(bytes.begin(), bytes.end())};
  KnownHosts hosts;
  hosts.parse(text, "kh");
  for (const std::string name : {"gpu01", "[gpu01]:2222", "10.0.0.1", "[", "[]:1"}) {
    const HostKeyAnswer answer = hosts.check(name, key);
    FUZZ_CHECK((answer.status == HostKeyStatus::unknown) == answer.place.empty());
    if (answer.status == HostKeyStatus::ok || answer.status == HostKeyStatus::revoked) {
      FUZZ_CHECK(answer.recorded.blob == key.blob);
    } else {
      FUZZ_CHECK(!host_key_error({"host", name, name, 22, "kh", key}, answer).what.empty());
    }
    const auto line = known_line(name, key, false);
    if (!line) continue;
    KnownHosts more;
    more.parse(text + "\n" + *line, "kh");
    const HostKeyStatus after = more.check(name, key).status;
    FUZZ_CHECK(after == (answer.status == HostKeyStatus::revoked ? HostKeyStatus::revoked : HostKeyStatus::ok) ||
               after == HostKeyStatus::revoked);
  }
  FUZZ_CHECK(hosts.notes().size() <= 6);
  return 0;
}
