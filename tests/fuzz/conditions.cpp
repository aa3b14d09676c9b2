// Texts that the agent reads of a host: /sys's lists, /proc's cgroups and mounts, what setup lines print and report;
// and the values that people write for single ranks. None may break a bound.
#include "launcher/agent/cpu_bind.hpp"
#include "launcher/agent/job_cgroup.hpp"
#include "launcher/agent/setup_script.hpp"
#include "launcher/env_template.hpp"
#include "launcher/process_settings.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::size_t half = size / 2;

  const CpuList cpus = parse_cpu_list(text);
  FUZZ_CHECK(cpus.size() <= kMaxCpus && parse_cpu_list(format_cpu_list(cpus)) == cpus);
  gpu_of_rank(&text, static_cast<unsigned>(size % 9));
  own_cgroup_directory(text.substr(0, half), text.substr(half));
  FUZZ_CHECK(cgroup_name(text, text).find('/') == std::string::npos);

  SetupReport report({text.substr(0, half), "two"});
  report.add_report(text.substr(0, half));
  report.add_report(text.substr(half));
  std::size_t lines = 0;
  for (int i = 0; i < 3; ++i) lines += report.add_noise(text).size();
  lines += report.end_noise().size();
  FUZZ_CHECK(lines <= kMaxSetupNoiseLines + 1);
  for (const bool timed_out : {false, true}) {
    const auto environment = report.finish({timed_out, static_cast<int>(size % 2), timed_out}, {text}, 1);
    if (environment)
      for (const std::string& entry : *environment) FUZZ_CHECK(entry == text || entry.find('=') != std::string::npos);
  }
  setup_script({text}, {{text.substr(0, half), text.substr(half)}});

  if (launcher::check_template(text, false)) launcher::expand_template(text, {1, 2, 3, 4, "host"});
  launcher::parse_limit(text, true);
  launcher::parse_umask(text);
  if (const auto signal = launcher::parse_forwarded_signal(text)) FUZZ_CHECK(*signal > 0 && *signal < 65);
  return 0;
}
