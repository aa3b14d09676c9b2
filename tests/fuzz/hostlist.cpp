// Host lists: expanded or refused, never more than the limit; and a folded list gives back what was folded.
#include "launcher/hostlist.hpp"

#include "launcher/config.hpp"
#include "launcher/hostlist_fold.hpp"
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
  const FoldOptions options{3 + size % 5, size % 2 == 0 ? std::vector<int>{-1} : std::vector<int>{}};
  const auto too = expand_hostlist(fold_hostlist(*names, options));
  FUZZ_CHECK(too && *too == *names);
  std::size_t in_parts = 0;
  for (const auto& part : contiguous_hostlists(*names)) in_parts += expand_hostlist(part)->size();
  FUZZ_CHECK(in_parts == names->size());
  return 0;
}
