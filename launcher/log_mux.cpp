// Bytes of many streams → whole prefixed lines. Used by the output writer for merged.log.
#include "launcher/log_mux.hpp"

#include <utility>

namespace llmlaunch::launcher {

LogMux::LogMux(LinePrefix prefix, std::size_t ranks) : prefix_(std::move(prefix)), partials_(2 * ranks) {}

LogMux::Partial& LogMux::partial(Rank rank, agent::Stream stream) {
  return partials_[2 * number(rank) + (stream == agent::Stream::err ? 1 : 0)];
}

// `whole`: the line ends here. Otherwise it was cut, and its next piece continues it.
void LogMux::write_line(Rank rank, agent::Stream stream, std::string_view rest, bool whole, std::string& lines) {
  Partial& held = partial(rank, stream);
  prefix_.append(rank, stream, time_, lines);
  if (held.continued) lines += kCutMark;
  lines += held.bytes;
  lines += rest;
  if (whole && lines.back() == '\r' && held.bytes.size() + rest.size() > 0) lines.pop_back();
  if (!whole) lines += kCutMark;
  lines += '\n';
  held.bytes.clear();
  held.continued = !whole;
}

void LogMux::feed(Rank rank, agent::Stream stream, ByteView bytes, std::string& lines) {
  Partial& held = partial(rank, stream);
  std::string_view rest = as_text(bytes);
  while (!rest.empty()) {
    const std::size_t room = kMaxLineBytes - held.bytes.size();
    const std::size_t end = rest.substr(0, room + 1).find('\n');
    if (end != std::string_view::npos) {
      write_line(rank, stream, rest.substr(0, end), true, lines);
      rest.remove_prefix(end + 1);
    } else if (rest.size() > room) {
      write_line(rank, stream, rest.substr(0, room), false, lines);
      rest.remove_prefix(room);
    } else {
      held.bytes += rest;
      return;
    }
  }
  // A rank that once wrote a long line does not keep its memory.
  if (held.bytes.empty() && held.bytes.capacity() > kMaxLineBytes / 8) held.bytes = std::string();
}

void LogMux::end(Rank rank, agent::Stream stream, std::string& lines) {
  Partial& held = partial(rank, stream);
  if (held.bytes.empty()) return;
  // At the end of the stream a "\r" is no half of a "\r\n".
  const bool progress = held.bytes.back() == '\r';
  write_line(rank, stream, progress ? "\r" : "", true, lines);
}

void LogMux::end_all(std::string& out, std::string& err) {
  for (std::size_t rank = 0; rank < partials_.size() / 2; ++rank) {
    end(Rank{static_cast<std::uint32_t>(rank)}, agent::Stream::out, out);
    end(Rank{static_cast<std::uint32_t>(rank)}, agent::Stream::err, err);
  }
}

}  // namespace llmlaunch::launcher
