// ssh_config: whatever a file says, reading it ends in an error with a place, or in settings that one can connect by.
// Include reads the same text again, so that nesting and its limits are walked through too.
#include "launcher/ssh/ssh_config.hpp"

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher::ssh;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 4096) return 0;  // longer texts say nothing new, and each Include repeats them
  const std::string text(reinterpret_cast<const char*>(data), size);
  int left = 8;
  const IncludeReader include = [&](const std::string& pattern) -> Result<std::vector<IncludedFile>> {
    if (left-- <= 0) return std::vector<IncludedFile>();
    return std::vector<IncludedFile>{{pattern, text}};
  };
  const LocalUser user{"/home/me", "me", {{"SSH_AUTH_SOCK", "/run/agent"}, {"A", "b"}}};
  const auto config = SshConfig::parse(text, {"cfg", "/home/me/.ssh", false, false}, user, include);
  if (!config) {
    FUZZ_CHECK(!config.error().where.empty());
    FUZZ_CHECK(config.error().code == Errc::invalid_config || config.error().code == Errc::too_large);
    return 0;
  }
  for (const char* name : {"gpu01", "GPU02.example", "a", ""}) {
    const HostSettings settings = config->for_host({name, {}, {}});
    FUZZ_CHECK(settings.port != 0);
    FUZZ_CHECK(settings.identities_are_default ? settings.identity_files.size() == 5 : true);
    FUZZ_CHECK(!settings.identity_agent || !settings.identity_agent->empty());
    FUZZ_CHECK(settings.jumps.empty() || settings.proxy_command.empty());
    FUZZ_CHECK(settings.jumps.size() <= launcher::kMaxJumps);
    for (const auto& stop : settings.jumps) FUZZ_CHECK(!stop.host.empty() && stop.port.value_or(1) != 0);
    for (const UnsupportedSetting& setting : settings.unsupported)
      FUZZ_CHECK(!setting.reason.empty() && !setting.place.empty());
    FUZZ_CHECK(config->for_host({name, "me", std::uint16_t{1}}).port == 1);
  }
  return 0;
}
