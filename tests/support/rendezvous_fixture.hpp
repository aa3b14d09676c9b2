/// \file
/// A rendezvous server on its own thread, for tests that talk to it over loopback sockets.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <future>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rendezvous/asio.hpp"
#include "rendezvous/client.hpp"
#include "rendezvous/server.hpp"

namespace llmlaunch::rendezvous {

class ServedRendezvous {
 public:
  explicit ServedRendezvous(ServerOptions options) : options_(std::move(options)) {
    auto started = Server::start(context_.get_executor(), options_);
    if (!started) throw std::runtime_error(to_string(started.error()));
    server_ = std::move(*started);
    server_->on_complete([this] { complete_.set_value(); });
    server_->on_failure([this](const Error& error) { failure_.set_value(error); });
    server_->on_rank_lost([this](Rank rank, const Error&) {
      if (!std::exchange(any_lost_, true)) lost_.set_value(rank);
    });
    port_ = server_->port();
    thread_ = std::thread([this] { context_.run(); });
  }
  ~ServedRendezvous() {
    on_thread([this] { server_.reset(); });
    work_.reset();
    thread_.join();
  }

  static ServerOptions world_of(std::uint32_t size) {
    ServerOptions options;
    options.job_id = "job";
    options.token = make_token();
    options.generation = Generation{2};
    for (std::uint32_t rank = 0; rank < size; ++rank) options.hosts.push_back("gpu0" + std::to_string(rank + 1));
    options.bind_address = "127.0.0.1";
    return options;
  }

  ClientOptions client(std::uint32_t rank) const {
    ClientOptions options;
    options.address = "127.0.0.1";
    options.port = port_;
    options.job_id = options_.job_id;
    options.generation = options_.generation;
    options.rank = Rank{rank};
    options.world_size = static_cast<std::uint32_t>(options_.hosts.size());
    options.token = options_.token;
    options.host = rank < options_.hosts.size() ? options_.hosts[rank] : "";
    options.timeout = std::chrono::seconds(60);
    return options;
  }

  /// Runs a function on the server's thread and waits for it.
  template <class Function>
  auto on_thread(Function function) -> decltype(function()) {
    std::packaged_task<decltype(function())()> task(std::move(function));
    auto result = task.get_future();
    asio::post(context_, [&task] { task(); });
    return result.get();
  }

  Server& server() { return *server_; }
  std::uint16_t port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void wait_until_complete() { complete_.get_future().wait(); }
  Error wait_for_failure() { return failure_.get_future().get(); }
  /// The first rank whose connection was lost.
  Rank wait_for_loss() { return lost_.get_future().get(); }

 private:
  ServerOptions options_;
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  std::unique_ptr<Server> server_;
  std::uint16_t port_ = 0;
  std::promise<void> complete_;
  std::promise<Error> failure_;
  std::promise<Rank> lost_;
  bool any_lost_ = false;
  std::thread thread_;
};

}  // namespace llmlaunch::rendezvous
