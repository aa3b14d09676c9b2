/// \file
/// The run directory of one job, `<log_dir>/<job-id>/`, mode 0700: rank-00007.out and .err (a rank's bytes as they
/// came), merged.log (the lines as on the terminal) and job.json (job_record.hpp). Files are 0600: output may hold
/// secrets.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/agent/unique_fd.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/types.hpp"

namespace llmlaunch::launcher {

/// Rank files open at a time; a job may have more ranks than a process may have descriptors.
inline constexpr std::size_t kMaxOpenRankFiles = 128;

/// Makes `<log_dir>/<job_id>`, and log_dir where it is missing. Gives its absolute path. An existing run directory is
/// never written into: Errc::io.
Result<std::string> make_run_directory(const std::string& log_dir, const std::string& job_id);

/// Writes `content` beside `path` and renames it there: readers see the old file or the new one.
Result<void> replace_file(const std::string& path, std::string_view content);

class LogFiles {
 public:
  /// Creates the files of all ranks, empty, so that a full disk or a wrong mode is known before the job starts.
  static Result<LogFiles> create(std::string directory, std::uint32_t world_size);

  /// A file that cannot be written is given up: what it holds is true up to that point. The first error of all is
  /// returned, later ones are not: one full disk is one message.
  Result<void> write_rank(Rank rank, agent::Stream stream, ByteView bytes);
  Result<void> write_merged(std::string_view lines);

  /// Some output is missing from some file.
  bool incomplete() const { return first_error_.has_value(); }
  const std::string& directory() const { return directory_; }

 private:
  struct OpenFile {
    std::uint64_t key;
    agent::UniqueFd fd;
  };
  LogFiles() = default;
  std::string rank_path(std::uint64_t key) const;
  Result<int> rank_fd(std::uint64_t key);
  Result<void> failed(Error error);

  std::string directory_;
  agent::UniqueFd merged_;
  bool merged_given_up_ = false;
  std::list<OpenFile> open_;  // last used first
  std::unordered_map<std::uint64_t, std::list<OpenFile>::iterator> by_key_;
  std::vector<bool> given_up_;
  std::optional<Error> first_error_;
};

}  // namespace llmlaunch::launcher
