/// \file
/// The run directory of one job, `<log_dir>/<job-id>/`, mode 0700: rank-00007.out and .err (a rank's bytes as they
/// came), merged.log (the lines of all ranks) and job.json (job_record.hpp). Files are 0600: output may hold secrets.
///
/// With a size limit, a file that would outgrow it becomes <name>.1, what was there <name>.2 and so on, and a new
/// <name> is begun: where a line ends, if what is at hand has such a place. Beyond `keep` rotated ones the oldest is
/// removed. Put together, from the highest number to the file itself, they are the bytes as they came.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/log_settings.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {

/// Rank files open at a time; a job may have more ranks than a process may have descriptors.
inline constexpr std::size_t kMaxOpenRankFiles = 128;

/// Writes `content` beside `path` and renames it there: readers see the old file or the new one.
Result<void> replace_file(const std::string& path, std::string_view content);

class LogFiles {
 public:
  /// Creates the files that `settings` ask for, empty, so that a full disk or a wrong mode is known before the job
  /// starts.
  static Result<LogFiles> create(std::string directory, std::uint32_t world_size, const LogSettings& settings = {});
  /// The same with `<stem>.out` and `<stem>.err` for each rank; the names of hosts, which differ and have no '/'.
  static Result<LogFiles> create(std::string directory, std::vector<std::string> stems, const LogSettings& settings);
  /// No run directory: everything is taken and nothing is written.
  static LogFiles none();

  /// A file that cannot be written is given up: what it holds is true up to that point. The first error of all is
  /// returned, later ones are not: one full disk is one message.
  Result<void> write_rank(Rank rank, agent::Stream stream, ByteView bytes);
  Result<void> write_merged(std::string_view lines);

  /// Some output could not be written. What a limit removed was not wanted, and does not count.
  bool incomplete() const { return first_error_.has_value(); }
  bool keeps_merged() const { return keeps_merged_; }
  /// To be said once: the limit has begun to remove output.
  std::optional<std::string> take_notice() { return std::exchange(notice_, std::nullopt); }
  /// Where all lines are, for people: "…/merged.log"; empty when no file keeps them.
  std::string place() const;
  const std::string& directory() const { return directory_; }  ///< empty: `none`

 private:
  struct OpenFile {
    std::uint64_t key;
    UniqueFd fd;
  };
  LogFiles() = default;
  std::string path_of(std::uint64_t key) const;
  Result<int> fd_of(std::uint64_t key);
  void forget(std::uint64_t key);
  Result<void> write(std::uint64_t key, std::string_view bytes);
  Result<void> write_limited(std::uint64_t key, std::string_view bytes);
  Result<void> rotate(std::uint64_t key);
  Result<void> failed(Error error);

  std::string directory_;
  std::vector<std::string> stems_;  // of the ranks' files
  bool keeps_ranks_ = true;
  bool keeps_merged_ = true;
  std::uint64_t max_bytes_ = 0;  // 0: no limit
  std::uint32_t keep_ = 0;
  std::list<OpenFile> open_;  // last used first
  std::unordered_map<std::uint64_t, std::list<OpenFile>::iterator> by_key_;
  // By key: 2 per rank, then merged.log.
  std::vector<bool> given_up_;
  std::vector<std::uint64_t> sizes_;
  std::vector<std::uint32_t> rotations_;  // up to keep_
  std::optional<Error> first_error_;
  std::optional<std::string> notice_;
  bool noticed_ = false;
};

}  // namespace llmlaunch::launcher
