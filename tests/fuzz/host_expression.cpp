// Host expressions and host files: selected or refused, with the place in the text; never more than the limit, never
// for long, whatever files, groups and regular expressions refer to.
#include "launcher/host_expression.hpp"

#include "launcher/hostfile.hpp"
#include "launcher/hostlist.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

HostSources sources(const std::string& text) {
  HostSources made;
  made.read_file = [text](const std::string& path) -> Result<std::string> {
    if (path.size() > 3) return make_error(Errc::not_found, "no such file");
    return text;
  };
  made.read_stdin = [text] { return Result<std::string>(text); };
  made.all = {"n1", "n2", "www1"};
  made.groups = {{"g", "n[1-3]"}, {"t", text}};
  return made;
}

void check_error(const Error& error) {
  FUZZ_CHECK(!error.what.empty() && error.what.size() < 4096);
  FUZZ_CHECK(error.code == Errc::invalid_argument || error.code == Errc::invalid_config ||
             error.code == Errc::not_found);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), std::min<std::size_t>(size, 2000));
  HostSelector selector(sources(text));
  const auto included = selector.include(text, "-w");
  if (!included) check_error(included.error());
  if (const auto excluded = selector.exclude(text, "-x"); included && excluded) FUZZ_CHECK(selector.names().empty());
  for (const auto& name : selector.names()) FUZZ_CHECK(selector.keeps(name) && name.front() != '-');

  if (auto groups = parse_group_file(text, "g"); groups) {
    HostSources all = sources(text);
    all.groups.merge(*groups);
    HostSelector grouped(std::move(all));
    for (const char* expression : {"@@", "@g,@a,@t", "@s:*"})
      if (const auto taken = grouped.include(expression, "-w"); !taken) check_error(taken.error());
  } else {
    check_error(groups.error());
  }

  for (std::size_t format = 0; format < kHostfileFormats.size(); ++format) {
    const auto read = parse_hostfile(text, "h", static_cast<HostfileFormat>(format), sources(text));
    if (!read) {
      check_error(read.error());
      continue;
    }
    FUZZ_CHECK(read->hosts.size() <= kMaxHosts);
    for (const auto& host : read->hosts) FUZZ_CHECK(!host.name.empty() && host.slots.value_or(1) > 0);
  }
  if (const auto tasks = slurm_tasks(text, 100)) FUZZ_CHECK(tasks->size() == 100);
  if (const auto places = places_of_slice(text, 100))
    for (const std::size_t place : *places) FUZZ_CHECK(place < 100);
  return 0;
}
