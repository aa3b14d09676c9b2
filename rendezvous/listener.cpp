// The rendezvous port: bound before any host is told its number, and every failure with what to do about it.
#include "rendezvous/listener.hpp"

#include <fmt/format.h>

namespace llmlaunch::rendezvous {

using asio::ip::tcp;

namespace {

Result<tcp::acceptor> listen_on(const asio::any_io_executor& executor, const tcp::endpoint& endpoint, bool* in_use) {
  boost::system::error_code error;
  tcp::acceptor acceptor(executor);
  acceptor.open(endpoint.protocol(), error);
  if (!error && endpoint.protocol() == tcp::v6()) {
    // All addresses means IPv4's too; one IPv6 address means itself.
    acceptor.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), error);
  }
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (!error) return acceptor;
  if (in_use != nullptr) *in_use = error == asio::error::address_in_use;
  Error failure = from_asio(error, fmt::format("the rendezvous cannot listen on {}", name_endpoint(endpoint)));
  failure.code = error == asio::error::address_family_not_supported ? make_error_code(Errc::unsupported)
                                                                    : make_error_code(Errc::io);
  if (error == asio::error::address_in_use) {
    failure.hint = fmt::format(
        "another program uses port {} ('ss -ltnp' shows which): stop it, or set main_process_port to "
        "a free port, or to 0 to have one chosen",
        endpoint.port());
  } else if (error == asio::error::access_denied) {
    failure.hint = "ports below 1024 belong to root: set main_process_port to a higher one";
  } else if (error == boost::system::errc::address_not_available) {
    failure.hint = "no interface of this machine has that address";
  }
  return failure;
}

}  // namespace

std::string name_address(asio::ip::address address) {
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  return address.to_string();
}

std::string name_endpoint(const tcp::endpoint& endpoint) {
  const std::string address = name_address(endpoint.address());
  if (address.find(':') != address.npos) return fmt::format("[{}]:{}", address, endpoint.port());
  return fmt::format("{}:{}", address, endpoint.port());
}

Result<tcp::acceptor> listen(const asio::any_io_executor& executor, const std::string& bind_address, std::uint16_t port,
                             bool* in_use) {
  if (bind_address.empty()) {
    auto both = listen_on(executor, tcp::endpoint(tcp::v6(), port), in_use);
    if (both || (both.error().code != Errc::unsupported)) return both;
    return listen_on(executor, tcp::endpoint(tcp::v4(), port), in_use);  // a kernel without IPv6
  }
  boost::system::error_code error;
  const asio::ip::address address = asio::ip::make_address(bind_address, error);
  if (error) {
    return make_error(Errc::invalid_argument,
                      fmt::format("the rendezvous cannot listen on '{}': not an IPv4 or IPv6 address", bind_address));
  }
  return listen_on(executor, tcp::endpoint(address, port), in_use);
}

}  // namespace llmlaunch::rendezvous
