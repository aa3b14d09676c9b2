/// \file
/// Programs that the head pushes, kept by content: <cache>/<SHA-256>/<name>, mode 0700, checked before each use.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::agent {

class FileCache {
 public:
  /// `env`: "NAME=value" entries that say where caches go. The agent's own directory comes first when it is private
  /// to this user (it is, when the agent was pushed), then $XDG_CACHE_HOME or ~/.cache, then $TMPDIR or /tmp. Nothing
  /// is made before something is written.
  FileCache(const std::vector<std::string>& env, const std::string& own_directory);
  ~FileCache();
  FileCache(const FileCache&) = delete;
  FileCache& operator=(const FileCache&) = delete;

  /// The path of a file that is there and has the right size and content; empty when it must be sent.
  std::string find(const FileSpec& file);
  /// Takes the next bytes of a file that was missing. One file at a time is written, in any order of files.
  Result<void> write(std::uint32_t index, const FileSpec& file, const FileChunk& chunk);
  /// Where a whole file is, after `write` of its last chunk or `find`.
  std::string path_of(const FileSpec& file) const;

 private:
  struct Writing;
  bool holds(const FileSpec& file) const;
  void make_directory();

  std::string directory_;                // where files are, or will be; empty when that is not known yet
  std::vector<std::string> candidates_;  // for it, best first
  std::string refusals_;                 // why none of them can be used
  std::vector<std::unique_ptr<Writing>> writing_;
};

}  // namespace llmlaunch::launcher::agent
