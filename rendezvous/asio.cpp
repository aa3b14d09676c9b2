// Helpers around Boost.Asio's coroutines; see asio.hpp.
#include "rendezvous/asio.hpp"

#include <cstdlib>
#include <exception>

#include "rendezvous/base/log.hpp"
#include "rendezvous/standstill.hpp"

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

struct Deadline::State : std::enable_shared_from_this<State> {
  State(const asio::any_io_executor& executor, std::chrono::milliseconds limit, std::function<void()> action)
      : timer(executor), after(limit), on_expiry(std::move(action)) {}
  void wait(std::chrono::milliseconds left);
  void fire();

  asio::steady_timer timer;
  std::chrono::milliseconds after;
  std::function<void()> on_expiry;
  bool armed = true;
  bool expired = false;
};

void Deadline::State::wait(std::chrono::milliseconds left) {
  timer.expires_after(left);
  timer.async_wait([self = shared_from_this()](const boost::system::error_code&) { self->fire(); });
}

void Deadline::State::fire() {
  if (!armed) return;
  const auto again = time_again(after, std::chrono::steady_clock::now() - timer.expiry());
  if (again.count() > 0) return wait(again);
  armed = false;
  expired = true;
  const auto run = std::move(on_expiry);
  run();
}

Deadline::Deadline(const asio::any_io_executor& executor, std::chrono::milliseconds after,
                   std::function<void()> on_expiry)
    : state_(std::make_shared<State>(executor, after, std::move(on_expiry))) {
  state_->wait(after);
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
