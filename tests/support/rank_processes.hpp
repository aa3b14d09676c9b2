/// \file
/// A job without launcher: a real rendezvous server in this process, and ranks as child processes that find it through
/// their environment. Every wait is for an event and ends after kPatience with a failed test.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace llmlaunch::test {

/// The longest that any wait of a test lasts; sanitizers are slow.
inline constexpr std::chrono::seconds kPatience{240};

/// A program's stdout and stderr, read as they come, and its end.
class ChildProcess {
 public:
  /// `environment` is added to this process's own; an empty value removes a variable.
  ChildProcess(const std::vector<std::string>& argv, const std::map<std::string, std::string>& environment = {});
  ~ChildProcess();  ///< kills it if it still runs
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Reads until its output (stdout and stderr in the order they came) contains `text`; false when it ended without.
  bool wait_for(const std::string& text);
  /// Waits for what its output does not tell of; a failed test when it ends without.
  void wait_until(const std::function<bool()>& happened);
  /// Whether it ends within this time; its status is still there for `wait`.
  bool ends_within(std::chrono::milliseconds time) const;
  void kill(int signal);
  /// Reads to the end and reaps it: the exit status, or 128 + signal.
  int wait();
  const std::string& output() const { return output_; }
  pid_t pid() const { return pid_; }

 private:
  bool read_more();
  pid_t pid_ = -1;
  int fd_ = -1;
  int status_ = -1;
  std::string output_;
};

/// The rendezvous of one generation, served from a thread.
class ServedRendezvous {
 public:
  /// One host name per rank.
  explicit ServedRendezvous(std::vector<std::string> hosts);
  ~ServedRendezvous();

  /// What llmlaunch would give this rank.
  std::map<std::string, std::string> environment(std::size_t rank) const;
  void end_generation(const std::string& reason);
  std::uint16_t port() const;
  const std::string& token() const;
  const std::string& job_id() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace llmlaunch::test
