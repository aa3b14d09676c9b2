// Every file of tests/fixtures/accelerate is read, and gives the plan that stands beside it: ranks, notes, and what
// differs from the environment of a job without any file. LLMLAUNCH_WRITE_EXPECTED=1 writes what is expected; read it
// before it is committed.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "launcher/accelerate_hosts.hpp"
#include "launcher/config.hpp"
#include "launcher/plan.hpp"
#include "tests/support/catch.hpp"

namespace launcher_accelerate_corpus_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
namespace fs = std::filesystem;

namespace {

std::string contents(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

Result<std::string> read_beside(const std::string& name) {
  const fs::path path = fs::path(LLMLAUNCH_ACCELERATE_FILES) / "hostfiles" / fs::path(name).filename();
  if (fs::exists(path)) return contents(path);
  return make_error(Errc::invalid_config, "cannot read the host file " + name);
}

Result<LaunchPlan> plan_of(const std::string& text, const std::string& name) {
  auto config = parse_config(text, name);
  if (!config) return config.error();
  HostSources sources;
  sources.read_file = read_beside;
  if (auto taken = take_accelerate_hosts(*config, sources); !taken) return taken.error();
  if (config->hosts.empty() && config->num_machines.value_or(1) > 1) {  // as --hosts does
    const bool was_noted = note_of_backend(*config).has_value();
    for (std::uint32_t i = 1; i <= *config->num_machines; ++i)
      config->hosts.push_back(host_named(fmt::format("n{}", i)));
    config->machine_rank = 0;
    if (auto said = note_of_backend(*config); said && !was_noted) config->notes.push_back(*said);
  }
  HeadFacts head;
  head.job_id = "job";
  head.cwd = "/";
  return make_plan(*config, Command{{"true"}, {}}, head);
}

std::map<std::string, std::string> env_of(const LaunchPlan& plan, std::size_t host) {
  const EnvList& list = plan.hosts[host].env;
  return {list.begin(), list.end()};
}

/// The plan in words, with what each host's ranks find beyond a job without a file.
std::string described(const Result<LaunchPlan>& plan) {
  if (!plan) return "refused: " + to_string(plan.error()) + "\n";
  const auto plain = plan_of("", "none");
  const auto before = env_of(*plain, 0);
  std::string text = fmt::format("ranks: {}\n", plan->world_size);
  for (const auto& note : plan->notes) text += "note: " + note + "\n";
  std::string last;
  for (std::size_t i = 0; i < plan->hosts.size(); ++i) {
    const HostPlan& host = plan->hosts[i];
    text += fmt::format("host {}: {} ranks\n", host.name, host.ranks.size());
    std::string own;
    for (const auto& [name, value] : env_of(*plan, i)) {
      if (set_by_llmlaunch(name)) continue;  // its place, which stands above
      const auto old = before.find(name);
      if (old == before.end() || old->second != value) own += fmt::format("  {}={}\n", name, value);
    }
    text += own == last && i > 0 ? "  the same\n" : own;
    last = own;
  }
  return text;
}

std::vector<fs::path> files_in(const char* folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(LLMLAUNCH_ACCELERATE_FILES) / folder))
    if (entry.path().extension() != ".expected") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

TEST_CASE("every file of accelerate gives the plan that is expected") {
  const bool write = std::getenv("LLMLAUNCH_WRITE_EXPECTED") != nullptr;
  std::size_t count = 0;
  for (const char* folder : {"dialogue", "files"}) {
    for (const fs::path& file : files_in(folder)) {
      INFO(file.filename().string());
      ++count;
      const std::string got = described(plan_of(contents(file), file.filename().string()));
      const fs::path expected = file.string() + ".expected";
      if (write) std::ofstream(expected, std::ios::binary) << got;
      CHECK(got == contents(expected));
    }
  }
  CHECK(count >= 60);
}

}  // namespace launcher_accelerate_corpus_test
