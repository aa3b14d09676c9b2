/// \file
/// What a machine that is started by itself ("member") and machine 0 of its job ("head") say to each other, over TLS
/// whose key is the job's token (call_wire.hpp). Frames as in base/frame.hpp; pure.
///
///     member                         head
///       CallHello ────────────────►    version, place, program: checked by CallAdmission
///       ◄──────────────── CallWait     only to a machine that names no place: until the others are there
///       ◄──────────────── CallWelcome  its place; or CallRefused, and the end
///       CallStarted ──────────────►    the member's agent runs; or CallFailed
///       CallData ◄────────────────►    the agent's bytes, as ssh would carry them; an empty one: its last
///       CallSignal ───────────────►    came to that machine, for the job or for its ranks
///       ◄──────────────── CallSignal   SIGTSTP: all ranks stand, and it may stop as its shell expects
///       ◄──────────────── CallEnd      the job's exit status, the last message
///
/// The first field of CallHello is the protocol's number, the second the version of llmlaunch; of one that is not ours
/// nothing else is read. Unknown types end the connection, as both sides are of one version after the hello.
///
/// A hello without a place has kNoPlace in its field. The connection of a machine that waits for one may end; calling
/// again, it says the same `instance`, so that it is not taken for another machine.
///
/// Protocol 2: places are given out (CallWait; `instance` and `run_id` of CallHello, `machine_rank` of CallWelcome).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

inline constexpr std::uint16_t kCallProtocol = 2;
/// Of one frame: agents' frames are cut anywhere, so that nothing larger is needed.
inline constexpr std::size_t kMaxCallDataBytes = 64u << 10;
inline constexpr std::size_t kMaxCallFrameBytes = kMaxCallDataBytes + 16;
/// Before the hello was accepted. Longer texts are cut by the sender.
inline constexpr std::size_t kMaxCallHelloBytes = 8u << 10;
inline constexpr std::size_t kMaxCallTextBytes = 1u << 10;

/// In the frame of a hello that names no place.
inline constexpr std::uint32_t kNoPlace = 0xffff'ffff;

/// SHA-256 of the program with its words: equal for equal command lines.
using CommandDigest = std::array<std::byte, 32>;

struct CallHello {
  std::uint16_t protocol = kCallProtocol;
  std::string version;                        ///< of llmlaunch
  std::optional<std::uint32_t> machine_rank;  ///< unset: machine 0 says
  std::uint32_t num_machines = 0;
  std::uint32_t num_processes = 0;
  std::string hostname;
  std::uint64_t pid = 0;
  std::uint64_t instance = 0;  ///< by chance, of this process: the same in all its calls
  std::string run_id;          ///< --rdzv-id; empty: none
  CommandDigest digest{};
  std::string command;  ///< for people: secrets are masked, and it may be cut
};
struct CallWait {
  std::uint32_t here = 0;  ///< machines that have called in, machine 0 and this one with them
  std::uint32_t num_machines = 0;
};
struct CallWelcome {
  std::uint32_t machine_rank = 0;
  std::string name;  ///< of this machine in the job
  std::uint32_t first_rank = 0;
  std::uint32_t last_rank = 0;
};
struct CallRefused {
  std::uint32_t code = 0;  ///< an Errc
  std::string what;
  std::string hint;
};
struct CallStarted {};
struct CallFailed {
  std::uint32_t code = 0;
  std::string what;
  std::string hint;
};
struct CallData {
  Bytes data;
};
struct CallSignal {
  std::uint32_t number = 0;
};
struct CallEnd {
  std::uint32_t status = 0;
  std::string what;  ///< the first line of why it failed; empty: it did not
};
using CallMessage =
    std::variant<CallHello, CallWait, CallWelcome, CallRefused, CallStarted, CallFailed, CallData, CallSignal, CallEnd>;

Bytes encode(const CallMessage& message);
/// `Errc::protocol` for an unknown type or one that lacks fields.
Result<CallMessage> decode_call_message(const FrameView& frame);

}  // namespace llmlaunch::launcher
