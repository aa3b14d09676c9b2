// The TCP shell around WorldState, as the launcher sees it: begin, end, limits. Its connections are
// server_connections.cpp's.
#include "rendezvous/server.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "rendezvous/auth.hpp"
#include "rendezvous/listener.hpp"
#include "rendezvous/server_impl.hpp"

namespace llmlaunch::rendezvous {
namespace {

using asio::ip::tcp;
using std::chrono::steady_clock;

// For each rank, beside kSpareConnections: its store, and the clones that its process groups make of it.
constexpr std::size_t kStoreConnectionsPerRank = 16;

tcpstore::Limits store_limits(std::size_t world_size) {
  tcpstore::Limits limits;
  limits.connections = Server::most_store_sockets(world_size);
  return limits;
}

}  // namespace

void Server::admit_store_clients(AddressList addresses) {
  if (impl_->store) impl_->store->admit(std::move(addresses));
}

Result<std::optional<HeldPort>> HeldPort::take(const std::string& bind_address, std::uint16_t port) {
  asio::io_context nobody{1};
  bool in_use = false;
  auto acceptor = listen(nobody.get_executor(), bind_address, port, &in_use);
  if (!acceptor && in_use) return std::optional<HeldPort>();
  if (!acceptor) return acceptor.error();
  boost::system::error_code failed;
  const bool six = acceptor->local_endpoint(failed).protocol() == asio::ip::tcp::v6();
  const int descriptor = failed ? -1 : acceptor->release(failed);
  if (failed) return from_asio(failed, "holding the rendezvous port");
  HeldPort held(descriptor, six);
  // Not for what is started before the server has it.
  if (::fcntl(descriptor, F_SETFD, FD_CLOEXEC) != 0) return system_error(errno, "fcntl of the rendezvous port");
  return std::optional<HeldPort>(std::move(held));
}

HeldPort::~HeldPort() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

HeldPort& HeldPort::operator=(HeldPort&& other) noexcept {
  if (this == &other) return *this;
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = std::exchange(other.descriptor_, -1);
  six_ = other.six_;
  return *this;
}

Result<asio::ip::tcp::acceptor> HeldPort::hand_over(const asio::any_io_executor& executor) {
  asio::ip::tcp::acceptor acceptor(executor);
  boost::system::error_code failed;
  acceptor.assign(six_ ? asio::ip::tcp::v6() : asio::ip::tcp::v4(), descriptor_, failed);
  if (failed) return from_asio(failed, "taking over the rendezvous port");
  descriptor_ = -1;
  return acceptor;
}

Result<std::unique_ptr<Server>> Server::start(asio::any_io_executor executor, ServerOptions options) {
  auto token = Token::parse(options.token);
  if (!token) return token.error();
  if (options.hosts.empty()) return make_error(Errc::invalid_argument, "a rendezvous needs at least one rank");
  if (options.job_id.size() > kMaxNameBytes) {
    return make_error(Errc::too_large,
                      fmt::format("the job id has {} bytes; the limit is {}", options.job_id.size(), kMaxNameBytes));
  }
  bool in_use = false;
  auto acceptor = options.held != nullptr ? options.held->hand_over(executor)
                                          : listen(executor, options.bind_address, options.port, &in_use);
  if (!acceptor) {
    Error error = acceptor.error();
    if (in_use && !options.hint_if_taken.empty()) error.hint = options.hint_if_taken;
    return error;
  }
  WorldOptions world{std::move(options.job_id), *token,          options.generation, std::move(options.hosts),
                     options.join_timeout,      options.tcpstore};
  std::shared_ptr<TcpStoreServer> store;
  if (options.tcpstore) store = std::make_shared<TcpStoreServer>(executor, store_limits(world.hosts.size()));
  auto impl = std::make_shared<Impl>(executor, std::move(*acceptor), WorldState(std::move(world)),
                                     std::move(options.on_tls), std::move(store));
  if (impl->store) {
    impl->store->on_change([weak = std::weak_ptr(impl)](tcpstore::Changed change) {
      const auto self = weak.lock();
      if (!self || self->closed) return;
      self->pytorch_changes.push_back(std::move(change));
      if (!self->carrying_out) self->tell_pytorch_changes();
    });
  }
  spawn_or_die(executor, "rendezvous listener", Impl::accept(impl));
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() {
  close();
}

std::size_t Server::most_sockets(std::size_t world_size) {
  // Beside the world's, those that linger (see close), and the listening one.
  return WorldState::max_connections(world_size) + kSpareConnections + 1;
}

std::size_t Server::most_store_sockets(std::size_t world_size) {
  return kStoreConnectionsPerRank * world_size + kSpareConnections;
}

std::uint16_t Server::port() const {
  boost::system::error_code error;
  const tcp::endpoint local = impl_->acceptor.local_endpoint(error);
  return error ? 0 : local.port();
}

void Server::note_ended(Rank rank) {
  impl_->carry_out(impl_->world.on_rank_ended(rank));
}

void Server::end_generation(std::string reason) {
  if (impl_->store) impl_->store->end(reason);
  impl_->carry_out(impl_->world.end_generation(std::move(reason), steady_clock::now()));
}

void Server::close() {
  if (impl_->closed) return;
  impl_->closed = true;
  boost::system::error_code ignored;  // closing what is closed is no failure
  impl_->acceptor.close(ignored);
  if (impl_->store) impl_->store->end("the job is over");
  impl_->tick.cancel();
  for (const auto& [id, peer] : std::exchange(impl_->peers, {})) {
    peer->linger.reset();
    peer->shut();
  }
}

std::uint32_t Server::joined() const {
  return impl_->world.joined();
}

}  // namespace llmlaunch::rendezvous
