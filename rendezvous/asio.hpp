/// \file
/// The one place that includes Boost.Asio's coroutine headers, with the little that Boost 1.81 lacks.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/system/system_error.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "rendezvous/base/error.hpp"

namespace llmlaunch {

namespace asio = boost::asio;

/// `auto [error, value] = co_await operation(…, await_tuple);` — no exceptions for what the network does.
inline constexpr auto await_tuple = asio::as_tuple(asio::use_awaitable);

/// Starts a coroutine. An exception that leaves it is a defect: it is reported with the name and ends the process,
/// where `detached` would swallow it.
void spawn_or_die(const asio::any_io_executor& executor, std::string name, asio::awaitable<void> body);

/// Runs `on_expiry` once, unless disarmed before, also when its timer has queued a handler already. While the process
/// stands still no time passes (standstill.hpp). `expired()` tells a time-out from any other cancellation.
class Deadline {
 public:
  Deadline(const asio::any_io_executor& executor, std::chrono::milliseconds after, std::function<void()> on_expiry);
  ~Deadline() { disarm(); }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  void disarm();
  bool expired() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// An Asio error as ours: same code, "what: text".
Error from_asio(const boost::system::error_code& code, std::string what, std::string where = {}, std::string hint = {});

}  // namespace llmlaunch
