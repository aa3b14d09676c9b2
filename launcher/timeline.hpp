/// \file
/// `Timeline`: how long each host took for each stage of a launch, for `--timeline`: a table for people, and a file for
/// trace viewers (chrome://tracing, Perfetto) with a track for each host. Told by the job; sees no clock.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "launcher/remote.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

using TimePoint = std::chrono::steady_clock::time_point;

/// What happens to a host, in this order; some hosts lack some. The first nine are those of OpenStep.
enum class Moment {
  began,  ///< of the whole job
  resolving,
  connecting,
  key_exchange,
  host_key,
  authenticating,
  starting,
  pushing,
  open,
  hello,
  ready,
  go,
  first_output,
  end
};
inline constexpr std::size_t kMoments = static_cast<std::size_t>(Moment::end) + 1;

class Timeline {
 public:
  /// From a moment to the next one that the host had, so that the stages of a host add up to its whole time.
  struct Stage {
    std::size_t column;  ///< of stage_names()
    TimePoint from;
    TimePoint to;
  };

  Timeline(std::string job_id, std::vector<std::string> hosts, TimePoint began);

  /// The steps of a host's last attempt to be opened; what was known of an earlier one is forgotten. Once its agent has
  /// spoken that is over: a connection that is made again belongs to no stage.
  void open(std::size_t host, const StepTimes& steps);
  /// The first time counts; of the end the last, as a connection that was cut may come back.
  void note(std::size_t host, Moment moment, TimePoint now);
  /// The end of every host that has none.
  void finish(TimePoint now);

  std::vector<Stage> stages(std::size_t host) const;
  const std::string& job_id() const { return job_id_; }
  const std::vector<std::string>& hosts() const { return hosts_; }
  TimePoint began() const { return began_; }

  /// "wait", "resolve", "TCP" …
  static const std::vector<std::string>& stage_names();

 private:
  using Moments = std::array<std::optional<TimePoint>, kMoments>;

  std::string job_id_;
  std::vector<std::string> hosts_;
  TimePoint began_;
  std::vector<Moments> moments_;
};

/// A line for each host, stages in milliseconds, then median and slowest of each stage.
std::string timeline_table(const Timeline& timeline);
/// Trace Event Format, times in microseconds since the job began.
std::string timeline_trace(const Timeline& timeline);

/// Where `--timeline FILE` writes: the trace to FILE and the table to FILE.txt; with x.txt for FILE, the table there
/// and the trace to x.json.
struct TimelinePaths {
  std::string table;
  std::string trace;
};
TimelinePaths timeline_paths(const std::string& file);

/// Replaces both files. `Errc` of the system's error, naming the file.
Result<void> write_timeline(const std::string& file, const Timeline& timeline);

}  // namespace llmlaunch::launcher
