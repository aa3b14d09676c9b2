// Helpers around Boost.Asio's coroutines; see asio.hpp.
#include "rendezvous/asio.hpp"

#include <cstdlib>
#include <exception>

#include "rendezvous/base/log.hpp"

namespace llmlaunch {

void spawn_or_die(const asio::any_io_executor& executor, std::string name, asio::awaitable<void> body) {
  asio::co_spawn(executor, std::move(body), [name = std::move(name)](const std::exception_ptr& failure) {
    if (!failure) return;
    try {
      std::rethrow_exception(failure);
    } catch (const std::exception& e) {
      log_error("internal error in {}: {}", name, e.what());
    } catch (...) {
      log_error("internal error in {}", name);
    }
    std::abort();
  });
}

struct Deadline::State {
  explicit State(const asio::any_io_executor& executor) : timer(executor) {}
  asio::steady_timer timer;
  std::function<void()> on_expiry;
  bool armed = true;
  bool expired = false;
};

Deadline::Deadline(const asio::any_io_executor& executor, std::chrono::milliseconds after,
                   std::function<void()> on_expiry)
    : state_(std::make_shared<State>(executor)) {
  state_->on_expiry = std::move(on_expiry);
  state_->timer.expires_after(after);
  state_->timer.async_wait([state = state_](const boost::system::error_code&) {
    if (!state->armed) return;
    state->armed = false;
    state->expired = true;
    const auto run = std::move(state->on_expiry);
    run();
  });
}

void Deadline::disarm() {
  if (!state_->armed) return;
  state_->armed = false;
  state_->on_expiry = nullptr;
  state_->timer.cancel();
}

bool Deadline::expired() const {
  return state_->expired;
}

Error from_asio(const boost::system::error_code& code, std::string what, std::string where, std::string hint) {
  Error error;
  if (code == asio::error::operation_aborted)
    error.code = make_error_code(Errc::canceled);
  else if (code == asio::error::eof)
    error.code = make_error_code(Errc::closed);
  else
    error.code = std::error_code(code);
  error.what = std::move(what) + ": " + code.message();
  error.where = std::move(where);
  error.hint = std::move(hint);
  return error;
}

}  // namespace llmlaunch
