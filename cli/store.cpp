// `llmlaunch store`: finds the job, joins as an observer, prints. What is asked and how it looks is the launcher's
// (store_view, store_watch, store_text).
#include "cli/store.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "cli/head.hpp"
#include "cli/report.hpp"
#include "cli/run.hpp"
#include "launcher/running_jobs.hpp"
#include "launcher/store_text.hpp"
#include "launcher/store_view.hpp"
#include "launcher/store_watch.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/write_all.hpp"

namespace llmlaunch::cli {
namespace {

using launcher::FoundValue;
using launcher::StoreView;
using rendezvous::Keyspace;
using std::chrono::steady_clock;
using std::chrono::system_clock;

// What failed, and the status for it, which is not that of the same condition before a run.
struct StoreFailure {
  Error error;
  ExitStatus status;
};
using Outcome = tl::expected<void, StoreFailure>;

ExitStatus store_status(const Error& error) {
  if (error.code.category() != error_category()) return ExitStatus::io;
  switch (static_cast<Errc>(error.code.value())) {
    case Errc::not_found:
    case Errc::invalid_argument:
    case Errc::too_large:
    case Errc::out_of_resources: return ExitStatus::store_refused;
    case Errc::usage: return ExitStatus::usage;
    case Errc::invalid_config: return ExitStatus::config;
    case Errc::internal: return ExitStatus::internal;
    default: return ExitStatus::unavailable;
  }
}

tl::unexpected<StoreFailure> failed(const Error& error) {
  return tl::unexpected(StoreFailure{error, store_status(error)});
}

Outcome print_out(std::string_view text) {
  const int refusal = write_all(STDOUT_FILENO, text);
  if (refusal != 0) return failed(system_error(refusal, "writing to stdout"));
  return {};
}

Result<std::string> log_dir_of(const StoreOptions& options) {
  if (options.log_dir) return expand_home(*options.log_dir);
  const auto head = head_facts();
  if (!head) return head.error();
  const auto file = options.config ? options.config : default_config();
  const auto config = read_config_file({file.value_or(""), {}, head->environment}, head->cwd);
  if (!config) return config.error();
  return expand_home(config->log_dir);
}

Result<launcher::RunningJob> job_of(const StoreOptions& options) {
  // A path needs no configuration, which may be another's, or broken.
  if (options.job.find('/') != options.job.npos && !options.log_dir && !options.config)
    return launcher::find_running_job(launcher::Config{}.log_dir, expand_home(options.job));
  const auto log_dir = log_dir_of(options);
  if (!log_dir) return log_dir.error();
  return launcher::find_running_job(*log_dir, expand_home(options.job));
}

launcher::KeyspaceChoice keyspaces_meant(const StoreOptions& options) {
  return {!options.pytorch, !options.native};
}

// For what changes a key: it is llmlaunch's own unless PyTorch's is asked for.
Keyspace keyspace_of(const StoreOptions& options) {
  return options.pytorch ? Keyspace::pytorch : Keyspace::native;
}

Result<std::string> read_value() {
  std::string value;
  std::array<char, 64 * 1024> piece;
  while (value.size() <= rendezvous::kMaxValueBytes) {
    const ssize_t got = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(errno, "reading the value from stdin");
    if (got == 0) return value;
    value.append(piece.data(), static_cast<std::size_t>(got));
  }
  return make_error(Errc::too_large,
                    fmt::format("stdin has more than {} bytes, the limit of a value", rendezvous::kMaxValueBytes));
}

std::string shown(const StoreOptions& options, const std::string& key, const FoundValue& found) {
  if (options.json) return launcher::value_json(key, found);
  const std::string_view value = as_text(found.value);
  if (::isatty(STDOUT_FILENO) != 1) return std::string(value);
  const std::string line = launcher::one_line(value) + "\n";
  return options.keys.size() == 1 ? line : launcher::one_line(key) + ": " + line;
}

Error not_there(const StoreOptions& options, const std::string& key) {
  const std::string name = launcher::one_line(key);
  if (options.wait) return make_error(Errc::timed_out, fmt::format("key '{}' was not set in time", name));
  return make_error(Errc::not_found, fmt::format("key '{}' is not set", name), {},
                    "--wait TIME waits for it; llmlaunch store list shows what there is");
}

// Keeps the failure of one key while the others have their turn. Of several each is told, the last by whoever called.
void keep_failure(Outcome& outcome, StoreFailure failure) {
  if (!outcome) report_error(outcome.error().error);
  outcome = tl::unexpected(std::move(failure));
}

// Every key that is there is printed, also when another one is missing or has no value to print (a queue).
Outcome get(StoreView& view, const StoreOptions& options) {
  const auto deadline = steady_clock::now() + options.wait.value_or(std::chrono::milliseconds(0));
  Outcome outcome;
  for (const std::string& key : options.keys) {
    const auto where = keyspaces_meant(options);
    const auto found = options.wait ? view.await(key, where, deadline) : view.look(key, where);
    if (found && *found) {
      if (auto printed = print_out(shown(options, key, **found)); !printed) return printed;
      continue;
    }
    const Error error = found ? not_there(options, key) : found.error();
    const ExitStatus status = found && options.wait ? ExitStatus::timed_out : store_status(error);
    keep_failure(outcome, {error, status});
    if (!found && status != ExitStatus::store_refused) return outcome;  // of the store, not of this key
  }
  return outcome;
}

Outcome set(StoreView& view, const StoreOptions& options) {
  std::string value = options.value;
  if (value == "-") {
    auto read = read_value();
    if (!read) return failed(read.error());
    value = std::move(*read);
  }
  const auto stored = view.client().put(options.keys.front(), as_bytes(value), keyspace_of(options));
  if (!stored) return failed(stored.error());
  return {};
}

Outcome add(StoreView& view, const StoreOptions& options) {
  const auto sum = view.client().add(options.keys.front(), options.delta, keyspace_of(options));
  if (!sum) return failed(sum.error());
  return print_out(fmt::format("{}\n", *sum));
}

Outcome remove(StoreView& view, const StoreOptions& options) {
  Outcome outcome;
  for (const std::string& key : options.keys) {
    const auto existed = view.client().remove(key, keyspace_of(options));
    if (existed && *existed) continue;
    const Error error = existed
                            ? make_error(Errc::not_found, fmt::format("key '{}' is not set", launcher::one_line(key)),
                                         {}, options.pytorch ? "" : "PyTorch's keys are meant with --pytorch")
                            : existed.error();
    keep_failure(outcome, {error, store_status(error)});
    if (!existed) return outcome;
  }
  return outcome;
}

Outcome list(StoreView& view, const launcher::RunningJob& job, const StoreOptions& options) {
  const auto keys = view.list(options.keys.empty() ? "" : options.keys.front(), keyspaces_meant(options));
  if (!keys) return failed(keys.error());
  return print_out(options.json ? launcher::store_json(job.pass, *keys) : launcher::store_lines(*keys));
}

Outcome watch(launcher::RunningJob job, const StoreOptions& options) {
  Outcome outcome;
  launcher::StoreWatch asked;
  if (!options.keys.empty()) asked.text = options.keys.front();
  asked.exact = options.exact;
  asked.where = keyspaces_meant(options);
  asked.reader = STDOUT_FILENO;
  asked.on_change = [&](Keyspace keyspace, const rendezvous::KeyChange& change) {
    const auto now = system_clock::now();
    outcome = print_out(options.json ? launcher::change_json(keyspace, change, now)
                                     : launcher::change_line(keyspace, change, now));
    return outcome.has_value();
  };
  asked.on_news = [](const std::string& news) { log_info("{}", news); };
  const auto followed = launcher::follow_store(std::move(job), asked);
  if (followed) return outcome;
  const bool lost = followed.error().code == Errc::out_of_resources;
  return lost ? Outcome(tl::unexpected(StoreFailure{followed.error(), ExitStatus::unavailable}))
              : Outcome(failed(followed.error()));
}

Outcome ask(StoreView& view, const launcher::RunningJob& job, const StoreOptions& options) {
  using Verb = StoreOptions::Verb;
  switch (options.verb) {
    case Verb::get: return get(view, options);
    case Verb::set: return set(view, options);
    case Verb::add: return add(view, options);
    case Verb::remove: return remove(view, options);
    case Verb::list: return list(view, job, options);
    case Verb::watch: break;
  }
  return failed(make_error(Errc::internal, "store: an action without a meaning"));
}

Outcome carry_out(const StoreOptions& options) {
  auto job = job_of(options);
  if (!job) return failed(job.error());
  if (options.verb == StoreOptions::Verb::watch) return watch(std::move(*job), options);
  auto view = StoreView::open(*job);
  if (!view) return failed(view.error());
  Outcome outcome = ask(*view, *job, options);
  if (!outcome) outcome.error().error = launcher::why_closed(*job, std::move(outcome.error().error));
  return outcome;
}

}  // namespace

int store_command(const StoreOptions& options) {
  const auto done = carry_out(options);
  if (done) return number(ExitStatus::done);
  report_error(done.error().error);
  return number(done.error().status);
}

}  // namespace llmlaunch::cli
