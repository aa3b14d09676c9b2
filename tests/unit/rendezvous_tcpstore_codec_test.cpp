// TCPStore's bytes: every command in every split, the limits, and what ends a stream.
#include "rendezvous/tcpstore_codec.hpp"

#include <set>

#include "tests/support/catch.hpp"

namespace rendezvous_tcpstore_codec_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous::tcpstore;

namespace {

Bytes value(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

struct Sample {
  Command command;
  std::string bytes;
};

std::string u64(std::uint64_t number) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += static_cast<char>(number >> (8 * i));
  return text;
}
std::string field(std::string_view text) {
  return u64(text.size()) + std::string(text);
}

// As PyTorch's client writes them, byte by byte.
std::vector<Sample> samples() {
  using namespace std::string_literals;
  return {
      {{Verb::validate, {}, {}, kMagic}, "\x00\xce\xf7\x85\x3c"s},
      {{Verb::set, {"key"}, {value("v\0w"s)}}, "\x01"s + field("key") + field("v\0w"s)},
      {{Verb::set, {""}, {value("")}}, "\x01"s + field("") + field("")},
      {{Verb::compare_set, {"k"}, {value(""), value("new")}}, "\x02"s + field("k") + field("") + field("new")},
      {{Verb::get, {"k"}, {}}, "\x03"s + field("k")},
      {{Verb::add, {"init/"}, {}, -2}, "\x04"s + field("init/") + u64(static_cast<std::uint64_t>(-2))},
      {{Verb::check, {"a", "", "b"}, {}}, "\x05"s + u64(3) + field("a") + field("") + field("b")},
      {{Verb::check, {}, {}}, "\x05"s + u64(0)},
      {{Verb::wait, {"a"}, {}}, "\x06"s + u64(1) + field("a")},
      {{Verb::num_keys, {}, {}}, "\x07"s},
      {{Verb::delete_key, {"k"}, {}}, "\x08"s + field("k")},
      {{Verb::append, {"k"}, {value("more")}}, "\x09"s + field("k") + field("more")},
      {{Verb::multi_get, {"a", "b"}, {}}, "\x0a"s + u64(2) + field("a") + field("b")},
      {{Verb::multi_set, {"a", "b"}, {value("1"), value("")}},
       "\x0b"s + u64(2) + field("a") + field("1") + field("b") + field("")},
      {{Verb::multi_set, {}, {}}, "\x0b"s + u64(0)},
      {{Verb::cancel_wait, {}, {}}, "\x0c"s},
      {{Verb::ping, {}, {}, 0x04030201}, "\x0d\x01\x02\x03\x04"s},
      {{Verb::queue_push, {"q"}, {value("v")}}, "\x0e"s + field("q") + field("v")},
      {{Verb::queue_pop, {"q"}, {}}, "\x0f"s + field("q")},
      {{Verb::queue_len, {"q"}, {}}, "\x10"s + field("q")},
      {{Verb::list_keys, {}, {}}, "\x11"s},
      {{Verb::barrier, {"/b"}, {}, 2}, "\x12"s + field("/b") + u64(2)},
  };
}

std::vector<Command> decode_pieces(const std::vector<std::string_view>& pieces) {
  Decoder decoder;
  std::vector<Command> commands;
  for (const std::string_view piece : pieces) {
    ByteView input = as_bytes(piece);
    while (true) {
      auto command = decoder.next(input);
      REQUIRE(command);
      if (!*command) break;
      commands.push_back(std::move(**command));
    }
    CHECK(input.empty());
  }
  return commands;
}

std::string error_of(const std::string& bytes) {
  Decoder decoder;
  ByteView input = as_bytes(bytes);
  while (true) {
    const auto command = decoder.next(input);
    if (!command) {
      CHECK(decoder.next(input).error().what == command.error().what);  // for ever
      return command.error().what;
    }
    if (!*command) return "no error";
  }
}

}  // namespace

TEST_CASE("every TCPStore command is read and written, wherever it is split") {
  std::set<Verb> seen;
  for (const Sample& sample : samples()) {
    seen.insert(sample.command.verb);
    INFO(verb_name(sample.command.verb));
    CHECK(as_text(encode(sample.command)) == sample.bytes);
    const std::string_view bytes = sample.bytes;
    for (std::size_t first = 0; first <= bytes.size(); ++first) {
      for (std::size_t second = first; second <= bytes.size(); ++second) {
        const auto commands =
            decode_pieces({bytes.substr(0, first), bytes.substr(first, second - first), bytes.substr(second)});
        REQUIRE(commands.size() == 1);
        CHECK(commands[0] == sample.command);
      }
    }
  }
  CHECK(seen.size() == kVerbs);
}

TEST_CASE("TCPStore commands that stand behind each other are read one by one, also byte by byte") {
  std::string all;
  std::vector<Command> expected;
  for (const Sample& sample : samples()) {
    all += sample.bytes;
    expected.push_back(sample.command);
  }
  CHECK(decode_pieces({all}) == expected);
  std::vector<std::string_view> bytes;
  for (std::size_t i = 0; i < all.size(); ++i) bytes.push_back(std::string_view(all).substr(i, 1));
  CHECK(decode_pieces(bytes) == expected);
}

TEST_CASE("TCPStore requests beyond the limits end the stream with a reason") {
  using namespace std::string_literals;
  CHECK(error_of("\x13") == "TCPStore has no command 19");
  CHECK(error_of("\xff") == "TCPStore has no command 255");
  CHECK(error_of("\x03"s + u64(kMaxKeyBytes + 1)) == "GET: a key of 8193 bytes; the limit is 8192");
  CHECK(error_of("\x03"s + u64(UINT64_MAX)) == "GET: a key of 18446744073709551615 bytes; the limit is 8192");
  CHECK(error_of("\x01"s + field("k") + u64(kMaxValueBytes + 1)) ==
        "SET: a value of 8388609 bytes; the limit is 8388608");
  CHECK(error_of("\x06"s + u64(kMaxRequestKeys + 1)) == "WAIT: 131073 keys; the limit is 131072");
  CHECK(error_of("\x0b"s + u64(UINT64_MAX)) == "MULTI_SET: 18446744073709551615 keys; the limit is 131072");
  const std::string large(kMaxValueBytes, 'x');
  std::string request = "\x0b"s + u64(5);
  for (int i = 0; i < 5; ++i) request += field("k") + field(large);
  CHECK(error_of(request) == "MULTI_SET: more than 33554432 bytes in one request, the limit");
  // At the limits.
  CHECK(error_of("\x03"s + field(std::string(kMaxKeyBytes, 'k'))) == "no error");
  CHECK(error_of("\x01"s + field("k") + field(large)) == "no error");
}

TEST_CASE("a length alone takes no memory, and what a decoder holds is known") {
  using namespace std::string_literals;
  Decoder decoder;
  const std::string begun = "\x01"s + field("key") + u64(kMaxValueBytes) + "abc";
  ByteView input = as_bytes(begun);
  REQUIRE(decoder.next(input));
  CHECK(input.empty());
  CHECK(decoder.held() >= kMaxValueBytes);
}

}  // namespace rendezvous_tcpstore_codec_test
