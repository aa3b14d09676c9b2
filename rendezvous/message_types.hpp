/// \file
/// Numbers of messages and conditions on the wire, as the page on top of message.hpp has them. Private to
/// message_*.cpp.
#pragma once

#include "rendezvous/message.hpp"

namespace llmlaunch::rendezvous::wire {

enum class Type : std::uint8_t {
  hello = 1,
  challenge = 2,
  proof = 3,
  welcome = 4,
  publish_id = 16,
  get_id = 17,
  set = 18,
  get = 19,
  wait = 20,
  add = 21,
  barrier = 22,
  compare_set = 23,
  append = 24,
  remove = 25,
  list = 26,
  watch = 27,
  peek = 28,
  entries = 29,
  done = 64,
  value = 65,
  number = 66,
  id = 67,
  failure = 68,
  compared = 69,
  keys = 70,
  change = 71,
  sizes = 72,
  cancel = 96,
  leave = 97,
  ended = 98,
};

// Numbers of the conditions on the wire. Errc may be reordered, these may not.
struct WireCode {
  std::uint16_t number;
  Errc code;
};
inline constexpr WireCode kWireCodes[] = {
    {1, Errc::timed_out},      {2, Errc::canceled},          {3, Errc::refused},          {4, Errc::closed},
    {5, Errc::protocol},       {6, Errc::too_large},         {7, Errc::version_mismatch}, {8, Errc::unauthenticated},
    {9, Errc::duplicate_rank}, {10, Errc::stale_generation}, {11, Errc::wrong_world},     {12, Errc::generation_ended},
    {13, Errc::not_found},     {14, Errc::invalid_argument}, {15, Errc::unsupported},     {16, Errc::out_of_resources},
};

}  // namespace llmlaunch::rendezvous::wire
