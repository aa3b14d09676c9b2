// Host lists: expanded or refused, never more than the limit; and a folded list gives back what was folded.
#include "launcher/hostlist.hpp"

#include "launcher/config.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string list(reinterpret_cast<const char*>(data), size);
  const auto names = expand_hostlist(list);
  if (!names) {
    FUZZ_CHECK(names.error().code == Errc::invalid_argument && !names.error().what.empty());
    return 0;
  }
  FUZZ_CHECK(names->size() <= kMaxHosts);
  for (const auto& name : *names) {
    FUZZ_CHECK(!name.empty() && name.find_first_of(" ,\n\t") == name.npos && name.front() != '-');
    host_named(name);
  }
  const auto again = expand_hostlist(compress_hostlist(*names));
  FUZZ_CHECK(again && *again == *names);
  return 0;
}
