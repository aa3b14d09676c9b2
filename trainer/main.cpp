// llmlaunch-train: one rank of a training job, or the whole of a small one. Reads the command line and the environment,
// joins the world, trains, and is the only place of the trainer that ends the process.
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <unistd.h>

#include "rendezvous/base/env.hpp"
#include "rendezvous/base/home.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/base/signal_end.hpp"
#include "rendezvous/base/thread_limits.hpp"
#include "trainer/config_file.hpp"
#include "trainer/data_source.hpp"
#include "trainer/device.hpp"
#include "trainer/exit_status.hpp"
#include "trainer/failure_pauses.hpp"
#include "trainer/files.hpp"
#include "trainer/options.hpp"
#include "trainer/output.hpp"
#include "trainer/stop.hpp"
#include "trainer/train.hpp"
#include "trainer/unfinished.hpp"
#include "trainer/variable_settings.hpp"
#include "trainer/world.hpp"

namespace {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

/// The job has saved what it has, for a signal: the end of the generation is no news then.
std::atomic<bool> stopped{false};

/// That the job has ended elsewhere is said by rank 0 for all: the rank that failed has its own words.
std::atomic<bool> tells_of_end{true};

/// One failure is one line: a lost rank and the end of the job that follows from it are told by whoever sees it first.
/// Of an error without words another rank speaks, and nothing that follows from it is told here either.
void report_error(const Error& error) {
  static std::once_flag once;
  std::call_once(once, [&] {
    const bool is_told = error.code != Errc::generation_ended || tells_of_end;
    if (is_told && !error.what.empty()) log_error("{}", to_string(error));
  });
}

/// What the end of the job leaves to a line that is being written.
constexpr std::chrono::milliseconds kEndGrace{200};

[[noreturn]] void end_as_stopped() {
  if (is_launcher_lost()) ::_exit(kUnavailable);
  end_by_signal(noted_stop());
}

/// The rendezvous says that this generation is over, or the connection to it is lost. The main thread may hang in a
/// collective that will never end, so this one, the client's reader, ends the process, unless it is saving what it has,
/// as it does where the launcher is gone. A checkpoint that is on its way is on the disk by then.
void end_with_generation(const Error& reason) {
  if (reason.code != Errc::generation_ended && note_lost_launcher()) report_error(reason);
  if (stopped) end_as_stopped();
  wait_while_saving();
  report_error(reason);
  std::this_thread::sleep_for(kEndGrace);
  wait_while_writing();
  remove_unfinished();
  ::_exit(exit_status(reason));
}

/// A rank that stopped because another was told to lets that one be the first.
constexpr std::chrono::milliseconds kFirstStopped{500};

/// Ends the process, after waiting for the end that the launcher gives to all. Not by returning: destructors and exit
/// handlers would wait for ranks that are gone, and close connections before this rank has said why, so that the
/// others' words for it would come first.
[[noreturn]] void end_with(const Error& error, bool hears_of_end, bool has_started) {
  const auto rank = number_in_environment(env::kRank, 0);
  const auto pauses = FailurePauses::of(error, rank ? *rank : 0, hears_of_end, has_started);
  std::this_thread::sleep_for(pauses.before_words);
  report_error(error);
  std::this_thread::sleep_for(pauses.after_words);
  wait_while_writing();
  ::_exit(exit_status(error));
}

/// The same, of a job that has begun to train, unless it is done.
void end_unless_done(const Result<Ending>& ending, bool hears_of_end) {
  if (!ending) end_with(ending.error(), hears_of_end, true);
  if (*ending == Ending::done) return;
  stopped = true;
  if (hears_of_end && !is_stop_noted()) std::this_thread::sleep_for(kFirstStopped);
  end_as_stopped();
}

/// The file that --config names. One that is not there is a wrong configuration, as it is for llmlaunch.
Result<std::string> read_settings(const std::string& path) {
  const auto bytes = read_whole_file(path, kMaxTrainFile, "a file of settings has a few kB");
  if (bytes) return std::string(as_text(*bytes));
  Error error = with_folder(bytes.error());
  error.what = "--config: " + error.what;
  if (error.hint.empty())
    error.hint = "every rank reads it: it has to be on each host, below the ranks' workdir or by its whole path";
  error.code = make_error_code(Errc::invalid_config);
  return error;
}

/// Returns where the job is done.
Result<void> run(const TrainOptions& options) {
  if (!options.export_dataset.empty()) {
    const auto rank = number_in_environment("RANK", 0);
    if (!rank) return rank.error();
    if (*rank > 0) return ok;  // one of the job's ranks is enough
    if (auto exported = export_data(options); !exported) return exported.error();
    return ok;
  }
  auto device = choose_device(options.device);
  if (!device) end_with(device.error(), is_launched(), false);
  auto world = join_world(device->nccl_version);
  if (!world) return world.error();
  tells_of_end = world->rank == 0 || options.replicas_speak;
  const bool hears_of_end = world->client != nullptr;
  if (hears_of_end) world->client->on_end(end_with_generation);
  mark_joined();
  auto ending = train(options, *world, *device, report_error,
                      [&](const Result<Ending>& how) { end_unless_done(how, hears_of_end); });
  // Of what failed before the first step, too: this rank has not left yet.
  if (!ending) end_with(ending.error(), hears_of_end, false);
  return ok;
}

int run_program(const std::vector<std::string>& arguments) {
  const char* const mixed_precision = std::getenv(env::kMixedPrecision);
  auto parsed = parse_options(arguments, read_settings, mixed_precision == nullptr ? "" : mixed_precision,
                              variable_settings(environ));
  if (!parsed) end_with(parsed.error(), is_launched(), false);
  if (!parsed->answer.empty()) {
    write_output(stdout, parsed->answer, true);
    const auto told = output_written();
    if (told) return kDone;
    report_error(told.error());
    return exit_status(told.error());
  }
  if (const auto home = expand_home(parsed->options, home_directory()); !home)
    end_with(home.error(), is_launched(), false);
  if (const auto done = run(parsed->options); !done) end_with(done.error(), false, false);
  return kDone;
}

}  // namespace

int main(int argc, char** argv) {
  keep_standard_descriptors();
  set_log_prefix("llmlaunch-train");
  try {
    take_stop_signals();
    return run_program({argv + 1, argv + argc});
  } catch (const std::bad_alloc&) {
    report_error(no_memory());
    ::_exit(kNoResources);
  } catch (const std::system_error& failed) {
    report_error(make_error(Errc::out_of_resources, fmt::format("a thread cannot be made: {}", failed.code().message()),
                            {}, kSeeThreadLimits));
    ::_exit(kNoResources);
  } catch (const std::exception& defect) {  // say a model of models/ that cannot be
    report_error(make_error(Errc::internal, fmt::format("a defect of llmlaunch-train: {}", defect.what())));
    ::_exit(kInternal);
  }
}
