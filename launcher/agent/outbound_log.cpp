// Two queues and a file; see outbound_log.hpp. Who is connected and what a window is, AgentState says.
#include "launcher/agent/outbound_log.hpp"

#include <utility>

namespace llmlaunch::launcher::agent {
namespace {

// What a frame of a few bytes takes beside them.
constexpr std::size_t kFrameCost = 64;

}  // namespace

void OutboundLog::add_event(Bytes frame) {
  events_.frames.push_back({std::move(frame), 0});
}

void OutboundLog::add_output(Bytes frame, std::uint32_t payload_bytes) {
  const bool first = spool_.empty() && overflow_.empty();
  if (first && memory_bytes_ < kMaxLogBytes) return keep_output(std::move(frame), payload_bytes);
  if (overflow_.empty() && spool_.append(frame, payload_bytes)) return;
  // No room on the disk either: what was read is kept, and nothing more is read before the head is back.
  overflow_.push_back({std::move(frame), payload_bytes});
}

void OutboundLog::add_carried(Bytes frame) {
  carried_.frames.push_back({std::move(frame), 0});
}

void OutboundLog::add_last(Bytes frame) {
  add_output(std::move(frame), 0);
  has_last_ = true;
}

void OutboundLog::keep_output(Bytes frame, std::uint32_t payload_bytes) {
  memory_bytes_ += frame.size() + kFrameCost;
  payload_bytes_ += payload_bytes;
  outputs_.frames.push_back({std::move(frame), payload_bytes_});
}

bool OutboundLog::has_room(bool connected) const {
  if (!overflow_.empty()) return false;
  if (spool_.empty() && memory_bytes_ < kMaxLogBytes) return true;
  return !connected && !spool_.full();
}

ByteView OutboundLog::next(std::uint64_t acked_bytes, std::uint64_t window_bytes) {
  if (events_.sent < events_.frames.size()) return events_.frames[events_.sent++].bytes;
  const bool output = may_send_output(acked_bytes, window_bytes);
  const bool carried = carried_.sent < carried_.frames.size();
  if (!output && !carried) return {};
  carried_turn_ = carried && (!output || !carried_turn_);
  Queue& queue = carried_turn_ ? carried_ : outputs_;
  return queue.frames[queue.sent++].bytes;
}

bool OutboundLog::may_send_output(std::uint64_t acked_bytes, std::uint64_t window_bytes) const {
  if (outputs_.sent == outputs_.frames.size()) return false;
  const bool last = has_last_ && outputs_.sent + 1 == outputs_.frames.size() && spool_.empty() && overflow_.empty();
  if (last && carried_.sent < carried_.frames.size()) return false;
  return outputs_.frames[outputs_.sent].payload_end <= acked_bytes + window_bytes;
}

bool OutboundLog::all_sent() const {
  return events_.sent == events_.frames.size() && outputs_.sent == outputs_.frames.size() &&
         carried_.sent == carried_.frames.size() && spool_.empty() && overflow_.empty();
}

Result<void> OutboundLog::confirm(Queue& queue, std::uint64_t count) {
  if (count > queue.confirmed + queue.sent) return make_error(Errc::protocol, "the head confirmed what was never sent");
  for (; queue.confirmed < count; ++queue.confirmed) {
    if (&queue == &outputs_) memory_bytes_ -= queue.frames.front().bytes.size() + kFrameCost;
    queue.frames.pop_front();
    --queue.sent;
  }
  return ok;
}

Result<void> OutboundLog::confirm(const Ack& state) {
  if (auto done = confirm(events_, state.events); !done) return done;
  if (auto done = confirm(outputs_, state.outputs); !done) return done;
  if (auto done = confirm(carried_, state.carried); !done) return done;
  return refill();
}

Result<void> OutboundLog::rewind(const Ack& state) {
  if (state.events < events_.confirmed || state.outputs < outputs_.confirmed || state.carried < carried_.confirmed)
    return make_error(Errc::protocol, "the head asks again for what it has confirmed");
  if (auto done = confirm(state); !done) return done;
  events_.sent = outputs_.sent = carried_.sent = 0;
  return ok;
}

// From the disk to where `next` finds it.
Result<void> OutboundLog::refill() {
  while (memory_bytes_ < kMaxLogBytes && !spool_.empty()) {
    auto frame = spool_.take();
    if (!frame) return frame.error();
    keep_output(std::move((*frame)->bytes), (*frame)->payload_bytes);
  }
  while (memory_bytes_ < kMaxLogBytes && spool_.empty() && !overflow_.empty()) {
    keep_output(std::move(overflow_.front().bytes), overflow_.front().payload_bytes);
    overflow_.pop_front();
  }
  return ok;
}

}  // namespace llmlaunch::launcher::agent
