// The buffer between the head's Input and the pipes of the ranks; see rank_input.hpp.
#include "launcher/agent/rank_input.hpp"

#include <algorithm>

namespace llmlaunch::launcher::agent {

Result<void> RankInput::add(const Input& input) {
  if (ended_) return make_error(Errc::protocol, "input after its end");
  if (input.offset > added())
    return make_error(Errc::protocol, "input from byte " + std::to_string(input.offset) + " on, where byte " +
                                          std::to_string(added()) + " is the next one");
  const std::uint64_t known = std::min<std::uint64_t>(added() - input.offset, input.data.size());
  const ByteView news = ByteView(input.data).subspan(static_cast<std::size_t>(known));
  const bool read = std::any_of(readers_.begin(), readers_.end(), [](const Reader& reader) { return !reader.dropped; });
  if (read && buffer_.size() + news.size() > kInputWindowBytes)
    return make_error(Errc::protocol, "more input than its window of " + std::to_string(kInputWindowBytes) + " bytes");
  buffer_.insert(buffer_.end(), news.begin(), news.end());
  trim();
  return ok;
}

ByteView RankInput::waiting(std::size_t reader) const {
  if (readers_[reader].dropped) return {};
  return ByteView(buffer_).subspan(static_cast<std::size_t>(readers_[reader].taken - start_));
}

void RankInput::took(std::size_t reader, std::size_t bytes) {
  readers_[reader].taken += bytes;
  trim();
}

void RankInput::drop(std::size_t reader) {
  readers_[reader].dropped = true;
  trim();
}

bool RankInput::complete(std::size_t reader) const {
  return ended_ && !readers_[reader].dropped && readers_[reader].taken == added();
}

void RankInput::trim() {
  std::uint64_t least = added();
  for (const Reader& reader : readers_)
    if (!reader.dropped) least = std::min(least, reader.taken);
  buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(least - start_));
  start_ = least;
}

std::optional<InputTaken> RankInput::credit() {
  if (readers_.empty() || told_ == kNobodyReads) return std::nullopt;
  const bool read = std::any_of(readers_.begin(), readers_.end(), [](const Reader& reader) { return !reader.dropped; });
  const bool worth_a_frame = !read || (start_ > told_ && (buffer_.empty() || start_ - told_ >= kInputWindowBytes / 4));
  if (!worth_a_frame) return std::nullopt;
  told_ = read ? start_ : kNobodyReads;
  return InputTaken{told_};
}

}  // namespace llmlaunch::launcher::agent
