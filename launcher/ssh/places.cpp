// One timer that never fires is the line; cancelling it wakes all who wait.
#include "launcher/ssh/places.hpp"

namespace llmlaunch::launcher::ssh {

asio::awaitable<bool> Places::take(asio::any_io_executor executor, const bool& canceled) {
  // Set once: to set it anew would wake all others, who would do the same.
  if (!line_) line_.emplace(executor, std::chrono::steady_clock::time_point::max());
  while (free_ == 0 && !canceled) co_await line_->async_wait(await_tuple);
  if (canceled) co_return false;
  --free_;
  co_return true;
}

void Places::give() {
  ++free_;
  wake();
}

void Places::wake() {
  if (line_) line_->cancel();
}

}  // namespace llmlaunch::launcher::ssh
