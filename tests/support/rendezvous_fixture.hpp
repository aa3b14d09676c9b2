/// \file
/// A rendezvous server on its own thread, for tests that talk to it over loopback sockets, and what it says meanwhile.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <condition_variable>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rendezvous/asio.hpp"
#include "rendezvous/base/log.hpp"
#include "rendezvous/client.hpp"
#include "rendezvous/server.hpp"

namespace llmlaunch::rendezvous {

/// The log of this process, as long as the object lives, the most verbose level included.
class LogLines {
 public:
  LogLines() {
    set_log_level(LogLevel::debug);
    set_log_sink([this](LogLevel level, std::string_view line) {
      const std::scoped_lock lock(mutex_);
      lines_.emplace_back(level, line);
      added_.notify_all();
    });
  }
  ~LogLines() {
    set_log_sink(nullptr);
    set_log_level(LogLevel::info);
  }
  LogLines(const LogLines&) = delete;
  LogLines& operator=(const LogLines&) = delete;

  /// The first line of this level that holds `text`, as soon as there is one.
  std::string wait_for(LogLevel level, std::string_view text) {
    std::unique_lock lock(mutex_);
    std::size_t seen = 0;
    while (true) {
      for (; seen < lines_.size(); ++seen)
        if (lines_[seen].first == level && lines_[seen].second.find(text) != std::string::npos)
          return lines_[seen].second;
      added_.wait(lock);
    }
  }
  std::size_t count(std::string_view text) {
    const std::scoped_lock lock(mutex_);
    std::size_t found = 0;
    for (const auto& [level, line] : lines_) found += line.find(text) != std::string::npos ? 1 : 0;
    return found;
  }

 private:
  std::mutex mutex_;
  std::condition_variable added_;
  std::vector<std::pair<LogLevel, std::string>> lines_;
};

class ServedRendezvous {
 public:
  explicit ServedRendezvous(ServerOptions options) : options_(std::move(options)) {
    auto started = Server::start(context_.get_executor(), options_);
    if (!started) throw std::runtime_error(to_string(started.error()));
    server_ = std::move(*started);
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
    // By std::function: of a task over a lambda in a header UBSan of GCC 12 says that its type is not what it is.
    using Result = decltype(function());
    std::packaged_task<Result()> task(std::function<Result()>(std::move(function)));
    auto result = task.get_future();
    asio::post(context_, [&task] { task(); });
    return result.get();
  }

  Server& server() { return *server_; }
  std::uint16_t port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  LogLines& log() { return log_; }
  /// Lets the server run for so long.
  void pass(std::chrono::milliseconds time) {
    on_thread([this, time] {
      asio::steady_timer timer(context_, time);
      bool over = false;
      timer.async_wait([&over](const boost::system::error_code&) { over = true; });
      while (!over) context_.run_one();
    });
  }

 private:
  LogLines log_;
  ServerOptions options_;
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_{context_.get_executor()};
  std::unique_ptr<Server> server_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace llmlaunch::rendezvous
