// `llmlaunch hosts`: reads what the words refer to, prints one text.
#include "cli/hosts.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <random>

#include "cli/head.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::cli {
namespace {

Result<HostChoice> choice_of(const HostsOptions& options) {
  auto head = head_facts();
  if (!head) return head.error();
  auto config = read_config_file({options.config.value_or(""), options.settings, head->environment}, head->cwd);
  if (!config) return config.error();
  const HostWorld world = host_world(head->environment);
  config->notes.clear();  // of ranks
  if (auto taken = take_sections_hosts(*config, options.hosts, world); !taken) return taken.error();
  for (const auto& note : config->notes) log_warning("{}", printable(note));
  auto choice = choose_hosts(*config, options.hosts, world, "hosts");
  if (choice && !choice->named && config->hosts.empty())
    return make_error(Errc::usage, "hosts: no hosts are named", {},
                      "llmlaunch hosts 'gpu[01-16]', or --hostfile, --from or --config");
  return choice;
}

}  // namespace

int hosts_command(const HostsOptions& options) {
  auto choice = choice_of(options);
  if (!choice) return fail(choice.error());
  for (const auto& note : choice->notes) log_warning("{}", printable(note));
  const auto text = text_of_hosts(std::move(*choice), options, std::random_device{}());
  if (!text) return fail(text.error());
  if (std::fwrite(text->data(), 1, text->size(), stdout) == text->size() && std::fflush(stdout) == 0)
    return number(ExitStatus::done);
  return fail(system_error(errno, "writing the hosts to stdout"));
}

}  // namespace llmlaunch::cli
