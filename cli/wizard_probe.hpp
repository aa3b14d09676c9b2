/// \file
/// Work on hosts while a person is asked: it runs in a process of its own, whose result comes through a pipe. So the
/// launch's signals, threads and event loop stay apart from the questions, and ending it is ending a process.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "launcher/survey_report.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::cli {

class Probe {
 public:
  using Work = std::function<Result<std::vector<launcher::HostSurvey>>()>;

  /// Forks; to be called while this process has one thread. `foreground`: it may ask at the terminal, and Ctrl-C
  /// reaches it; else it is in a process group of its own and silent.
  static Result<Probe> start(const Work& work, bool foreground);

  Probe() = default;
  Probe(Probe&& other) noexcept { *this = std::move(other); }
  Probe& operator=(Probe&& other) noexcept;
  ~Probe() { cancel(); }

  bool running() const { return pid_ > 0; }
  /// Readable when there is something for `take`; -1 when nothing runs or all is read.
  int fd() const { return pipe_; }
  /// Takes what is there; false when the end was reached.
  bool take();
  /// Waits for the end. A signal's code (rendezvous/base/signal_code.hpp) when one came meanwhile.
  Result<std::vector<launcher::HostSurvey>> result();
  /// Ends it, with what it started on the hosts. Idempotent.
  void cancel();

 private:
  pid_t pid_ = -1;
  int pipe_ = -1;
  void close_pipe();
  std::string text_;
};

}  // namespace llmlaunch::cli
