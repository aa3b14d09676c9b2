/// \file
/// What `llmlaunch` exits with. A failing rank's own status passes through as it is (128 + n for signal n); the numbers
/// here are llmlaunch's own failures, from sysexits.h where it has one. README documents the same list.
#pragma once

namespace llmlaunch::cli {

enum class ExitStatus : int {
  done = 0,
  store_refused = 1,  ///< `store`: a key is missing, or the store does not take what was given
  usage = 64,         ///< the command line is wrong
  unavailable = 69,   ///< a host or the rendezvous: not reachable, key refused, no working directory, connection lost;
                      ///< or this machine has too few descriptors or too little memory for them
  internal = 70,      ///< a defect of llmlaunch, or a part of it is not installed
  io = 74,            ///< a file: the run directory cannot be made, or lacks output although the ranks ended well
  locked = 75,        ///< another run holds the lock
  config = 78,        ///< the configuration is wrong or cannot be read
  timed_out = 124,    ///< the whole job's time limit passed
  not_executable = 126,  ///< the program may not be executed
  no_program = 127,      ///< the program does not exist
  hung_up = 129,         ///< SIGHUP
  interrupted = 130,     ///< SIGINT
  quit = 131,            ///< SIGQUIT
  terminated = 143,      ///< SIGTERM
};

constexpr int number(ExitStatus status) {
  return static_cast<int>(status);
}

}  // namespace llmlaunch::cli
