/// \file
/// A peer of the rendezvous that sends what a test says, whether a client would or not.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "rendezvous/auth.hpp"
#include "rendezvous/client.hpp"
#include "rendezvous/connection.hpp"
#include "tests/support/catch.hpp"

namespace llmlaunch::rendezvous {

inline std::chrono::steady_clock::time_point soon() {
  return std::chrono::steady_clock::now() + std::chrono::seconds(60);
}

/// A peer that writes bytes as it likes.
struct RawPeer {
  explicit RawPeer(std::uint16_t port) : connection(std::move(*Connection::open("127.0.0.1", port, soon()))) {}

  void send(ByteView bytes) { REQUIRE(connection.send(bytes, soon())); }

  /// The next message of the server, or its end.
  std::optional<Message> next() {
    while (true) {
      auto message = decoder.next();
      REQUIRE(message);
      if (*message) return std::move(**message);
      std::array<std::byte, 1024> buffer;
      const auto got = connection.receive(buffer, soon());
      if (!got) {
        CHECK(got.error().code == Errc::closed);
        return std::nullopt;
      }
      decoder.feed(std::span(buffer).first(*got));
    }
  }

  /// The whole handshake.
  void enter(const Hello& hello, const std::string& hex_token) {
    const Token token = *Token::parse(hex_token);
    send(encode(Preamble{}));
    send(encode(hello));
    const auto challenge = std::get<Challenge>(*next());
    REQUIRE(token.verify(challenge.proof, Token::Side::server, hello, challenge.nonce));
    send(encode(Proof{token.prove(Token::Side::client, hello, challenge.nonce)}));
    REQUIRE(std::holds_alternative<Welcome>(*next()));
  }

  Connection connection;
  MessageDecoder decoder{MessageDecoder::Side::client};
};

inline Hello hello_for(const ClientOptions& options) {
  Hello hello;
  hello.job_id = options.job_id;
  hello.generation = options.generation;
  hello.rank = options.rank;
  hello.world_size = options.world_size;
  hello.host = options.host;
  return hello;
}

}  // namespace llmlaunch::rendezvous
