// The llmlaunch program: words in, status out. The one place that ends the process.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <string>
#include <system_error>
#include <vector>

#include "cli/config_check.hpp"
#include "cli/docs_pages.hpp"
#include "cli/env.hpp"
#include "cli/exec.hpp"
#include "cli/head.hpp"
#include "cli/hosts.hpp"
#include "cli/options.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "cli/store.hpp"
#include "cli/version.hpp"
#include "cli/wizard.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/signal_end.hpp"
#include "rendezvous/base/thread_limits.hpp"

namespace {

using namespace llmlaunch;
using cli::ExitStatus;

int print(const std::string& text, std::FILE* to, ExitStatus status) {
  if (std::fwrite(text.data(), 1, text.size(), to) == text.size() && std::fflush(to) == 0) return cli::number(status);
  cli::report_error(system_error(errno, "writing to " + std::string(to == stdout ? "stdout" : "stderr")));
  return cli::number(ExitStatus::io);
}

// Started with one of them closed (`2>&-`), the next file or socket would get its number, and what is said its bytes.
Result<void> hold_standard_descriptors() {
  for (int number = STDIN_FILENO; number <= STDERR_FILENO; ++number) {
    if (::fcntl(number, F_GETFD) >= 0 || errno != EBADF) continue;
    // It gets the lowest free number, this one. A stdout for reading only: a text for it must not seem written.
    if (::open("/dev/null", number == STDOUT_FILENO ? O_RDONLY : O_RDWR) < 0)
      return system_error(errno, "open /dev/null");
  }
  return ok;
}

int run(const std::vector<std::string>& words) {
  const auto join_token = cli::take_join_token();
  const auto options = cli::parse_options(words);
  if (!options) {
    cli::report_error(options.error());
    return cli::number(cli::exit_status_of(options.error()));
  }
  switch (options->action) {
    case cli::Options::Action::print: return print(options->text, stdout, ExitStatus::done);
    case cli::Options::Action::print_usage: return print(options->text, stderr, ExitStatus::usage);
    case cli::Options::Action::run: return cli::run_command(options->run, join_token);
    case cli::Options::Action::exec: return cli::exec_command(options->exec);
    case cli::Options::Action::env: return cli::env_command(options->env);
    case cli::Options::Action::store: return cli::store_command(options->store);
    case cli::Options::Action::wizard: return cli::wizard_command(options->wizard);
    case cli::Options::Action::hosts: return cli::hosts_command(options->hosts);
    case cli::Options::Action::docs_pages: return cli::docs_pages_command(options->docs_pages);
    case cli::Options::Action::config_check: return cli::config_check_command(options->config_check);
    case cli::Options::Action::version: return print(cli::version_text(), stdout, ExitStatus::done);
  }
  return cli::number(ExitStatus::internal);
}

Error error_of(const std::exception& caught) {
  const auto* const failed = dynamic_cast<const std::system_error*>(&caught);
  if (failed != nullptr && failed->code() == std::errc::resource_unavailable_try_again) {
    return make_error(Errc::out_of_resources, "a thread cannot be made: " + failed->code().message(), {},
                      kSeeThreadLimits);
  }
  return make_error(Errc::internal, std::string("a defect of llmlaunch: ") + caught.what());
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a write beyond the limit of ulimit -f is an error like that of a full disk
  try {
    if (const auto held = hold_standard_descriptors(); !held) {
      cli::report_error(held.error());
      return cli::number(ExitStatus::internal);
    }
    const int status = run(std::vector<std::string>(argv + (argc > 0 ? 1 : 0), argv + argc));
    // A rank's own 130 stays one.
    if (status != cli::number(ExitStatus::interrupted) || !cli::was_interrupted()) return status;
    std::fflush(nullptr);
    end_by_signal(SIGINT);
  } catch (const std::exception& caught) {
    return cli::fail(error_of(caught));
  }
}
