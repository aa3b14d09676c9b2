// One generation after the other, though a job has one only until something restarts it: each has a store of its own,
// and a pass of its own in the run directory, which is taken away when the job ends.
#include "launcher/store_watch.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "launcher/store_text.hpp"

namespace llmlaunch::launcher {
namespace {

using std::chrono::milliseconds;

// Between two looks at the run directory once a generation has ended: its ranks have `grace` to end, then the job goes
// away (or on), and nothing is sent to who is connected to the old one.
constexpr milliseconds kLookAgain{100};
// A poll() that waits for its descriptors alone.
constexpr int kForever = -1;

/// Why the changes of one generation ended.
struct Ending {
  bool wanted = false;  // by the reader or by on_change
  Error reason;
};

std::string name_of_subject(const StoreWatch& watch, const rendezvous::ClientOptions& joined) {
  const std::string keys = watch.text.empty() ? "all keys"
                           : watch.exact      ? fmt::format("key '{}'", one_line(watch.text))
                                              : fmt::format("keys that begin with '{}'", one_line(watch.text));
  return fmt::format("{} of job {}, generation {}", keys, joined.job_id, number(joined.generation));
}

bool reader_went(const pollfd& reader) {
  return (reader.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
}

Result<Ending> follow_generation(StoreView& view, const StoreWatch& watch) {
  auto watches = view.watch(watch.text, !watch.exact, watch.where);
  if (!watches) return watches.error();
  watch.on_news("watching " + name_of_subject(watch, view.client().options()));
  std::vector<pollfd> waiting;
  for (const auto& one : *watches) waiting.push_back({one.descriptor, POLLIN, 0});
  waiting.push_back({watch.reader, 0, 0});  // poll() leaves out what is negative
  while (true) {
    if (::poll(waiting.data(), waiting.size(), kForever) < 0) {
      if (errno == EINTR) continue;
      return system_error(errno, "poll");
    }
    if (reader_went(waiting.back())) return Ending{true, {}};
    for (const auto& one : *watches) {
      while (true) {
        const auto change = one.watcher->next(milliseconds(0));
        if (!change && change.error().code == Errc::timed_out) break;
        if (!change) return Ending{false, change.error()};
        if (!watch.on_change(one.keyspace, *change)) return Ending{true, {}};
      }
    }
  }
}

// Whether somebody answers there: then it was the connection that ended, not its generation. A head that was killed
// does not, though for a moment its lock may still be held, and its pass lies there.
bool still_serves(const RunningJob& job) {
  const auto view = StoreView::open(job);
  return view || (view.error().code != Errc::unreachable && view.error().code != Errc::closed);
}

Error changes_lost(const Error& reason) {
  return make_error(Errc::unreachable, reason.what + "; changes since then are lost", reason.where,
                    "the job goes on: watch again, and llmlaunch store list shows what there is");
}

/// What comes after a generation: another one, or, as nothing, the end of the job. `reason`: why the changes ended.
Result<std::optional<RunningJob>> next_generation(const RunningJob& job, const StoreWatch& watch, const Error& reason) {
  pollfd reader{watch.reader, 0, 0};
  while (true) {
    auto pass = read_observer_pass(job.directory);
    if (!pass && pass.error().code == Errc::not_found) return std::optional<RunningJob>();
    if (!pass) return pass.error();
    const RunState state = run_state(job.directory);
    if (state == RunState::ended || state == RunState::no_run) return std::optional<RunningJob>();
    if (state == RunState::died) return died_without_a_word(job);
    if (pass->generation != job.pass.generation)
      return std::optional<RunningJob>(RunningJob{job.directory, std::move(*pass)});
    if (::poll(&reader, 1, static_cast<int>(kLookAgain.count())) > 0 && reader_went(reader))
      return std::optional<RunningJob>();
    if (reason.code == Errc::closed && still_serves({job.directory, std::move(*pass)})) return changes_lost(reason);
  }
}

bool is_over(const RunningJob& job) {
  const RunState state = run_state(job.directory);
  return state == RunState::ended || state == RunState::no_pass;
}

// While its old generation was asked for: then the pass is that of the next one.
bool has_gone_on(RunningJob& job) {
  auto pass = read_observer_pass(job.directory);
  if (!pass || pass->generation == job.pass.generation) return false;
  job.pass = std::move(*pass);
  return true;
}

// `closed` may be the end of the head, or of the connection alone: next_generation tells them apart.
bool ends_generation(const Error& error) {
  return error.code == Errc::generation_ended || error.code == Errc::closed || error.code == Errc::stale_generation;
}

}  // namespace

Result<void> follow_store(RunningJob job, const StoreWatch& watch) {
  while (true) {
    auto view = StoreView::open(job);
    if (!view && is_over(job)) break;
    if (!view && has_gone_on(job)) continue;
    // Between the end of a generation and the next one there is nobody to join.
    Result<Ending> ending = view ? follow_generation(*view, watch) : Result<Ending>(view.error());
    if (!ending && !ends_generation(ending.error())) return ending.error();
    if (ending && ending->wanted) return ok;
    const Error reason = ending ? ending->reason : ending.error();
    if (!ends_generation(reason)) return reason;
    if (reason.code == Errc::generation_ended) watch.on_news(reason.what);
    auto next = next_generation(job, watch, reason);
    if (!next) return next.error();
    if (!*next) break;
    job = std::move(**next);
  }
  watch.on_news(fmt::format("job {} has ended", job.pass.job_id));
  return ok;
}

}  // namespace llmlaunch::launcher
