// What a child has of its parent's signals.
#include "rendezvous/base/child_signals.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>

#include "rendezvous/base/write_all.hpp"
#include "tests/support/catch.hpp"

namespace base_child_signals_test {

using namespace llmlaunch;

namespace {

void do_nothing(int) {}

// /proc/self/status in system calls, as the child of a fork reads it.
void copy_status(int to) {
  char text[8192];
  const int status = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  for (ssize_t got = 0; (got = ::read(status, text, sizeof(text))) > 0;)
    if (write_all(to, {text, static_cast<std::size_t>(got)}) != 0) ::_exit(1);
  ::_exit(0);
}

// As a child finds them: USR1 and CONT have handlers, HUP and PIPE are ignored, and all are blocked.
void inherit_signals() {
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  for (const int number : {SIGUSR1, SIGCONT}) ::signal(number, do_nothing);
  for (const int number : {SIGHUP, SIGPIPE}) ::signal(number, SIG_IGN);
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
}

/// The /proc/self/status of a child after inherit_signals and reset_signals.
std::string status_after(IgnoredSignals ignored) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    inherit_signals();
    reset_signals(ignored);
    copy_status(ends[1]);
  }
  ::close(ends[1]);
  std::string text;
  char piece[4096];
  for (ssize_t got = 0; (got = ::read(ends[0], piece, sizeof(piece))) > 0;)
    text.append(piece, static_cast<std::size_t>(got));
  ::close(ends[0]);
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  return text;
}

bool has_mask(const std::string& status, const std::string& name, unsigned long mask) {
  char line[64];
  std::snprintf(line, sizeof(line), "\n%s:\t%016lx\n", name.c_str(), mask);
  return status.find(line) != std::string::npos;
}

/// But for 32 and 33, which the C library keeps for its threads and lets nobody change.
unsigned long caught(const std::string& status) {
  const std::size_t at = status.find("\nSigCgt:\t");
  REQUIRE(at != std::string::npos);
  return std::stoul(status.substr(at + 9, 16), nullptr, 16) & ~(3ul << 31);
}

}  // namespace

TEST_CASE("a child has none of its parent's handlers, and no signal is blocked") {
  const unsigned long hup = 1ul << (SIGHUP - 1);
  const std::string kept = status_after(IgnoredSignals::kept);
  INFO(kept);
  CHECK(caught(kept) == 0);
  CHECK(has_mask(kept, "SigBlk", 0));
  CHECK(has_mask(kept, "SigIgn", hup));
  const std::string defaulted = status_after(IgnoredSignals::defaulted);
  INFO(defaulted);
  CHECK(caught(defaulted) == 0);
  CHECK(has_mask(defaulted, "SigBlk", 0));
  CHECK(has_mask(defaulted, "SigIgn", 0));
}

}  // namespace base_child_signals_test
