#include "rendezvous/auth.hpp"

#include "rendezvous/server.hpp"
#include "tests/support/catch.hpp"

namespace rendezvous_auth_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;

namespace {

const std::string kHex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

Hello hello_of(std::uint32_t rank) {
  Hello hello;
  hello.job_id = "job";
  hello.rank = Rank{rank};
  hello.world_size = 2;
  hello.host = "gpu01";
  return hello;
}

}  // namespace

TEST_CASE("a token is 64 hex digits, in both cases of letters") {
  CHECK(Token::parse(kHex));
  std::string upper = kHex;
  for (char& letter : upper) letter = static_cast<char>(std::toupper(letter));
  const Token a = *Token::parse(kHex);
  const Token b = *Token::parse(upper);
  CHECK(a.prove(Token::Side::client, hello_of(0), Nonce{}) == b.prove(Token::Side::client, hello_of(0), Nonce{}));
}

TEST_CASE("a wrong token is refused without being shown") {
  const auto cut = Token::parse("secret");
  REQUIRE_FALSE(cut);
  CHECK(to_string(cut.error()) ==
        "the job token is not 64 hex digits: it has 6 characters\n"
        "   hint: llmlaunch sets LLMLAUNCH_TOKEN for its ranks; do not change it");
  std::string other = kHex;
  other[5] = 'g';
  const auto wrong = Token::parse(other);
  REQUIRE_FALSE(wrong);
  CHECK(wrong.error().what == "the job token is not 64 hex digits: it has other characters");
}

TEST_CASE("a proof holds for its token, side, hello and nonces only") {
  const Token token = *Token::parse(kHex);
  const Nonce nonce = make_nonce();
  const Hello hello = hello_of(0);
  const ProofBytes proof = token.prove(Token::Side::client, hello, nonce);
  CHECK(token.verify(proof, Token::Side::client, hello, nonce));
  CHECK_FALSE(token.verify(proof, Token::Side::server, hello, nonce));
  CHECK_FALSE(token.verify(proof, Token::Side::client, hello_of(1), nonce));
  CHECK_FALSE(token.verify(proof, Token::Side::client, hello, make_nonce()));
  Hello replayed = hello;
  replayed.nonce[0] = std::byte{1};
  CHECK_FALSE(token.verify(proof, Token::Side::client, replayed, nonce));
  const Token other = *Token::parse(std::string(64, '0'));
  CHECK_FALSE(other.verify(proof, Token::Side::client, hello, nonce));
}

TEST_CASE("made tokens parse and differ") {
  const std::string a = make_token();
  CHECK(Token::parse(a));
  CHECK(a != make_token());
}

}  // namespace rendezvous_auth_test
