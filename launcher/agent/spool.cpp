// The file of a spool: records of two lengths and a frame, written at the end and read from the start.
#include "launcher/agent/spool.hpp"

#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "launcher/agent/exec_spec.hpp"
#include "launcher/agent/nameless_file.hpp"
#include "launcher/agent/small_file.hpp"

namespace llmlaunch::launcher::agent {
namespace {

struct RecordHead {
  std::uint32_t frame_bytes;
  std::uint32_t payload_bytes;
};

// All bytes, or false with errno.
template <class Call, class Pointer>
bool transfer(Call call, int fd, Pointer data, std::size_t size, std::uint64_t offset) {
  while (size > 0) {
    const ssize_t done = call(fd, data, size, static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done == 0) errno = EIO;  // the file is shorter than what was written to it
    if (done <= 0) return false;
    data += done;
    size -= static_cast<std::size_t>(done);
    offset += static_cast<std::uint64_t>(done);
  }
  return true;
}

}  // namespace

std::vector<std::string> Spool::usual_directories(const std::vector<std::string>& environment) {
  std::vector<std::string> found;
  const auto add = [&](const std::string& variable, const char* below) {
    const std::string value = env_value(environment, variable);
    if (value.starts_with('/')) found.push_back(value + below);
  };
  add("XDG_STATE_HOME", "/llmlaunch");
  add("HOME", "/.local/state/llmlaunch");
  add("TMPDIR", "");
  found.emplace_back("/var/tmp");
  found.emplace_back("/tmp");
  return found;
}

Result<void> Spool::open() {
  if (file_) return ok;
  int error = ENOENT;
  for (const std::string& directory : directories_) {
    make_directories(directory);
    file_ = nameless_file(directory);
    if (file_) return ok;
    error = errno;
  }
  return system_error(error, "make a spool file in " + (directories_.empty() ? "no directory" : directories_.front()));
}

Result<void> Spool::append(ByteView frame, std::uint32_t payload_bytes) {
  if (auto opened = open(); !opened) return opened;
  Bytes record(sizeof(RecordHead) + frame.size());
  const RecordHead head{static_cast<std::uint32_t>(frame.size()), payload_bytes};
  std::memcpy(record.data(), &head, sizeof(head));
  std::memcpy(record.data() + sizeof(head), frame.data(), frame.size());
  const auto* bytes = reinterpret_cast<const char*>(record.data());
  if (!transfer(::pwrite, file_.value(), bytes, record.size(), end_)) return system_error(errno, "write to the spool");
  end_ += record.size();
  return ok;
}

Result<std::optional<Spool::Frame>> Spool::take() {
  if (empty()) return std::optional<Frame>();
  RecordHead head{};
  if (!transfer(::pread, file_.value(), reinterpret_cast<char*>(&head), sizeof(head), begin_))
    return system_error(errno, "read from the spool");
  Frame frame;
  frame.bytes.resize(head.frame_bytes);
  frame.payload_bytes = head.payload_bytes;
  if (!transfer(::pread, file_.value(), reinterpret_cast<char*>(frame.bytes.data()), frame.bytes.size(),
                begin_ + sizeof(head)))
    return system_error(errno, "read from the spool");
  begin_ += sizeof(head) + head.frame_bytes;
  if (empty()) {
    begin_ = end_ = 0;
    file_.reset();
  }
  return std::optional<Frame>(std::move(frame));
}

}  // namespace llmlaunch::launcher::agent
