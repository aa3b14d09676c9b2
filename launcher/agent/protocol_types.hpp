/// \file
/// Numbers of messages on the channel between head and agent. Private to protocol_*.cpp.
#pragma once

#include <cstdint>

namespace llmlaunch::launcher::agent::wire {

// The two directions share no number, so that a stream that is looped back is refused at its first frame.
enum class Type : std::uint8_t {
  prepare = 1,
  file_chunk,
  go,
  ack,
  signal,
  stop,
  head_ping,
  resume,
  bye,
  input = 32,
  input_end,
  pause,
  head_carried_data = 40,
  head_carried_end,
  head_carried_taken,
  head_carried_reset,
  hello = 65,
  need_file,
  ready,
  failed,
  started,
  output,
  output_end,
  exited,
  done,
  agent_ping,
  resumed,
  taken,
  noise = 96,
  input_taken,
  paused,
  carried_open = 104,
  agent_carried_data,
  agent_carried_end,
  agent_carried_taken,
  agent_carried_reset,
};

}  // namespace llmlaunch::launcher::agent::wire
