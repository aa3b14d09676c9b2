/// \file
/// A host for the bootstrap line: runs it in a shell with an environment of its own, plays the head's part over a
/// socket or a pipe, and gives what came back.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace llmlaunch::launcher::test {

/// A folder that is removed with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  /// Writes a file with a mode and gives its path.
  std::string write(const std::string& name, const std::string& text, mode_t mode = 0600) const;

 private:
  std::string path_;
};

std::string read_text(const std::string& path);
std::vector<std::string> names_in(const std::string& folder);

/// What the host says and what the head answers.
struct Conversation {
  std::vector<std::string> noise;
  bool needed = false;  ///< LLMLAUNCH NEED came, and `push` was sent
  std::string need_hash;
  std::optional<std::string> failure;  ///< LLMLAUNCH FAIL
  bool marker = false;
  std::string rest;  ///< what came behind the marker, to the end
  int status = -1;   ///< exit status; 128+n for a signal
};

struct HostRun {
  std::vector<std::string> argv;
  std::vector<std::string> env;  ///< "NAME=value"; nothing else
  std::string push;              ///< sent on NEED, with `frames` at once behind it
  std::string frames;            ///< sent after the push, or on the marker; then the stream ends
  bool pipes = false;            ///< two pipes instead of a socket pair
};
Conversation run_host(const HostRun& run);

}  // namespace llmlaunch::launcher::test
