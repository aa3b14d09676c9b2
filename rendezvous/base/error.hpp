/// \file
/// What can go wrong, as data. Code reacts to the condition (`Errc`), people read the text (`Error`).
///
/// Each layer fills in only what it alone knows: the failing call and errno at the bottom, then the address, the host
/// and its ranks, the file and key, and last the hint that says what to do next.
#pragma once

#include <string>
#include <system_error>
#include <utility>

namespace llmlaunch {

/// Conditions that code reacts to. Each has one sentence, see `error_category()`.
enum class Errc {
  timed_out = 1,     ///< a deadline passed
  canceled,          ///< stopped on request
  refused,           ///< the peer is there and said no
  unreachable,       ///< no connection could be made
  closed,            ///< the peer closed the connection
  protocol,          ///< the peer sent bytes that the protocol does not allow
  too_large,         ///< a named limit was passed
  version_mismatch,  ///< the two sides speak different versions
  unauthenticated,   ///< wrong token, refused key
  duplicate_rank,    ///< a rank joined twice
  stale_generation,  ///< the message belongs to a generation that has ended
  wrong_world,       ///< world size or job id differ
  generation_ended,  ///< the generation ended while waiting
  not_found,         ///< no such key, file, program or host
  invalid_argument,  ///< a value out of its range
  invalid_config,    ///< the configuration file is wrong
  usage,             ///< the command line is wrong
  io,                ///< a system call failed
  host_key_unknown,  ///< the host's key is in no known_hosts file
  host_key_changed,  ///< another key of this type is recorded for the host
  host_key_other,    ///< only keys of other types are recorded for the host
  host_key_revoked,  ///< the key is marked as revoked
  no_program,        ///< the command does not exist or may not be executed
  no_workdir,        ///< the working directory does not exist or may not be entered
  out_of_resources,  ///< no memory, processes, descriptors or space
  unsupported,       ///< this build or this machine cannot do it
  interrupted,       ///< a signal asked us to stop
  locked,            ///< another run holds the lock
  not_executable,    ///< the command exists and may not be executed
  rank_failed,       ///< a rank of the job ended with a failure
  internal,          ///< a defect of llmlaunch
};

/// The category of `Errc`; `message()` gives one sentence for each.
const std::error_category& error_category() noexcept;

std::error_code make_error_code(Errc code) noexcept;

/// One failure. `what` stands alone; `where` comes before it ("host gpu07", "cfg.yaml:14:1"); `hint` says what to do.
struct Error {
  std::error_code code;
  std::string what;
  std::string where;
  std::string hint;
};

/// An error of a condition, for `return` from a function that gives a `Result`.
Error make_error(Errc code, std::string what, std::string where = {}, std::string hint = {});

/// An error of a system call: "connect: Connection refused". `errno_value` is kept as the code (generic category).
Error system_error(int errno_value, std::string call, std::string where = {}, std::string hint = {});

/// "where: what", and "\n   hint: …" when there is a hint. No prefix, no newline at the end.
std::string to_string(const Error& error);

}  // namespace llmlaunch

template <>
struct std::is_error_code_enum<llmlaunch::Errc> : std::true_type {};
