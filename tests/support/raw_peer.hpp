/// \file
/// A peer of the rendezvous that sends what a test says, whether a client would or not.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "rendezvous/auth.hpp"
#include "rendezvous/client.hpp"
#include "rendezvous/connection.hpp"
#include "tests/support/catch.hpp"

namespace llmlaunch::rendezvous {

/// What the rank of these options says first.
inline Hello hello_for(const ClientOptions& options) {
  Hello hello;
  hello.job_id = options.job_id;
  hello.generation = options.generation;
  hello.rank = options.rank;
  hello.world_size = options.world_size;
  hello.host = options.host;
  return hello;
}

class RawPeer {
 public:
  explicit RawPeer(std::uint16_t port) : connection_(std::move(*Connection::open("127.0.0.1", port, soon()))) {}

  void send(ByteView bytes) { REQUIRE(connection_.send(bytes, soon())); }

  /// The whole handshake of a rank.
  void enter(const ClientOptions& options) { enter(hello_for(options), options.token); }
  void enter(const Hello& hello, const std::string& hex_token) {
    const Token token = *Token::parse(hex_token);
    send(encode(Preamble{}));
    send(encode(hello));
    const auto challenge = std::get<Challenge>(*next());
    REQUIRE(token.verify(challenge.proof, Token::Side::server, hello, challenge.nonce));
    send(encode(Proof{token.prove(Token::Side::client, hello, challenge.nonce)}));
    REQUIRE(std::holds_alternative<Welcome>(*next()));
  }

  /// The next message of the server, or its end.
  std::optional<Message> next() {
    while (true) {
      auto message = decoder_.next();
      REQUIRE(message);
      if (*message) return std::move(**message);
      std::array<std::byte, 1024> buffer;
      const auto got = connection_.receive(buffer, soon());
      if (!got) {
        CHECK(got.error().code == Errc::closed);
        return std::nullopt;
      }
      decoder_.feed(std::span(buffer).first(*got));
    }
  }

  /// So many bytes as they come, or fewer at the connection's end.
  std::string receive(std::size_t bytes) {
    std::string received;
    std::array<std::byte, 65536> buffer;
    while (received.size() < bytes) {
      const auto got =
          connection_.receive(std::span(buffer).first(std::min(buffer.size(), bytes - received.size())), soon());
      if (!got) break;
      received += as_text(ByteView(buffer).first(*got));
    }
    return received;
  }

 private:
  static std::chrono::steady_clock::time_point soon() {
    return std::chrono::steady_clock::now() + std::chrono::seconds(60);
  }

  Connection connection_;
  MessageDecoder decoder_{MessageDecoder::Side::client};
};

}  // namespace llmlaunch::rendezvous
