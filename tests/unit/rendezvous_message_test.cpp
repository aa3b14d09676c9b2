#include "rendezvous/message.hpp"

#include "tests/support/catch.hpp"

namespace rendezvous_message_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;

namespace {

Bytes bytes_of(std::string_view text) {
  const ByteView bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

std::vector<Message> one_of_each() {
  Hello hello;
  hello.nonce.fill(std::byte{7});
  hello.job_id = "job-1";
  hello.generation = Generation{2};
  hello.rank = Rank{3};
  hello.world_size = 4;
  hello.host = "gpu01";
  hello.pid = 4242;
  hello.nccl_version = 22807;
  Challenge challenge;
  challenge.nonce.fill(std::byte{1});
  challenge.proof.fill(std::byte{2});
  Proof proof;
  proof.proof.fill(std::byte{3});
  UniqueId id;
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::byte>(i);
  return {Preamble{},
          hello,
          challenge,
          proof,
          Welcome{},
          PublishId{1, 0, id},
          GetId{2, 1, 1000},
          Set{3, "key", bytes_of("value")},
          Get{4, "key", 4294967295U},
          Wait{5, 10, {"a", "b"}},
          Wait{5, 10, {"a", ""}},
          Add{6, "n", -5},
          Barrier{7, "start", 30000},
          Done{8},
          Value{9, std::make_shared<const Bytes>(bytes_of("value"))},
          Number{10, -1},
          Id{11, id},
          Failure{12, Errc::stale_generation, "what", "hint"},
          CompareSet{14, "k", bytes_of("old"), bytes_of("new")},
          CompareSet{15, "k", std::nullopt, bytes_of("new")},
          CompareSet{16, "k", Bytes(), Bytes()},
          Append{17, "k", bytes_of("more")},
          Delete{18, "k"},
          Set{26, "key", bytes_of("value"), Keyspace::pytorch},
          Add{27, "n", -5, Keyspace::pytorch},
          Delete{28, "k", Keyspace::pytorch},
          Watch{29, false, "k", Keyspace::pytorch},
          Peek{30, Keyspace::pytorch, "k"},
          Peek{31, Keyspace::native, "k"},
          Entries{32, Keyspace::pytorch, "prefix", "after", 100},
          Sizes{33, true, {{"a", 5, 0}, {"q", 1ULL << 40, 3}}},
          Sizes{34, false, {{"", 0, 0}}},  // the shortest entry
          List{19, "prefix", "after", 100},
          Watch{20, true, "prefix"},
          Compared{21, false, true, std::make_shared<const Bytes>(bytes_of("there"))},
          Compared{22, true, true, nullptr},
          Keys{23, true, {"a", "b"}},
          Keys{23, false, {""}},
          Change{24, false, "k", std::make_shared<const Bytes>(bytes_of("value"))},
          Change{25, true, "k", nullptr},
          Cancel{13},
          Leave{},
          Ended{Generation{2}, "rank 1 failed"}};
}

std::string hex(const Bytes& bytes) {
  std::string text;
  for (const std::byte byte : bytes) {
    constexpr const char* kDigits = "0123456789abcdef";
    text += kDigits[std::to_integer<unsigned>(byte) >> 4];
    text += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  return text;
}

Error error_of(MessageDecoder::Side side, std::string_view bytes) {
  MessageDecoder decoder(side);
  decoder.feed(as_bytes(bytes));
  const auto message = decoder.next();
  REQUIRE_FALSE(message);
  return message.error();
}

}  // namespace

TEST_CASE("every message comes back as it was, fed byte by byte") {
  MessageDecoder decoder(MessageDecoder::Side::server);
  decoder.allow_large_frames();
  std::vector<Message> received;
  for (const Message& message : one_of_each()) {
    for (const std::byte byte : encode(message)) {
      decoder.feed(ByteView(&byte, 1));
      auto next = decoder.next();
      REQUIRE(next);
      if (*next) received.push_back(std::move(**next));
    }
  }
  CHECK(received == one_of_each());
  CHECK(decoder.buffered() == 0);
}

TEST_CASE("the example of the protocol page is what goes over the wire") {
  CHECK(hex(encode(Set{7, "k", bytes_of(":")})) == "0f0000001207000000010000006b010000003a");
  CHECK(hex(encode(Done{7})) == "050000004007000000");
  CHECK(hex(encode(Preamble{})) == "4c4c4d5244560100");
}

TEST_CASE("every wire code keeps its number") {
  const std::vector<Errc> codes = {
      Errc::timed_out,      Errc::canceled,         Errc::refused,          Errc::closed,
      Errc::protocol,       Errc::too_large,        Errc::version_mismatch, Errc::unauthenticated,
      Errc::duplicate_rank, Errc::stale_generation, Errc::wrong_world,      Errc::generation_ended,
      Errc::not_found,      Errc::invalid_argument, Errc::unsupported,      Errc::out_of_resources};
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const Bytes bytes = encode(Failure{1, codes[i], "", ""});
    CHECK(std::to_integer<std::size_t>(bytes[9]) == i + 1);
    const auto back = decode({68, ByteView(bytes).subspan(kFrameHeaderBytes)});
    REQUIRE(back);
    CHECK(std::get<Failure>(*back).code == codes[i]);
  }
  CHECK(std::to_integer<int>(encode(Failure{1, Errc::internal, "", ""})[9]) == 3);
}

TEST_CASE("what came with minor 1 is on the wire as its page says") {
  CHECK(hex(encode(CompareSet{7, "k", bytes_of("a"), bytes_of("b")})) ==
        "15000000170700000001000000"
        "6b"
        "01"
        "0100000061"
        "0100000062");
  CHECK(hex(encode(Watch{7, true, "k"})) ==
        "0b0000001b07000000010100000"
        "06b");
  CHECK(hex(encode(Change{7, true, "k", nullptr})) ==
        "0f0000004707000000"
        "01"
        "010000006b"
        "00000000");
  CHECK(hex(encode(Welcome{1})) == "03000000040100");
}

TEST_CASE("what came with minor 2 is on the wire as its page says, and minor 1 as it was") {
  CHECK(hex(encode(Welcome{})) == "03000000040200");
  CHECK(hex(encode(Delete{7, "k"})) == "0a0000001907000000010000006b");
  CHECK(hex(encode(Delete{7, "k", Keyspace::pytorch})) == "0b0000001907000000010000006b01");
  CHECK(hex(encode(Peek{7, Keyspace::pytorch, "k"})) == "0b0000001c0700000001010000006b");
  CHECK(hex(encode(Entries{7, Keyspace::native, "k", "", 16})) ==
        "130000001d0700000000"
        "010000006b"
        "00000000"
        "10000000");
  CHECK(hex(encode(Sizes{7, true, {{"k", 258, 2}}})) ==
        "1b000000480700000001"
        "01000000"
        "010000006b"
        "0201000000000000"
        "02000000");
}

TEST_CASE("keys of a keyspace that is not known are nobody's") {
  const auto decoded = [](std::uint8_t type, std::string_view payload) { return decode({type, as_bytes(payload)}); };
  const std::string_view set("\1\0\0\0\1\0\0\0k\1\0\0\0v", 14);
  CHECK(std::get<Set>(*decoded(18, set)).keyspace == Keyspace::native);
  CHECK(std::get<Set>(*decoded(18, std::string(set) + '\1')).keyspace == Keyspace::pytorch);
  const auto other = decoded(18, std::string(set) + '\2');
  REQUIRE_FALSE(other);
  CHECK(other.error().what == "a Set of 15 bytes whose fields do not fit");
  CHECK_FALSE(decoded(28, std::string_view("\1\0\0\0\2\1\0\0\0k", 10)));
  CHECK_FALSE(decoded(72, std::string_view("\1\0\0\0\0\xff\xff\0\0", 9)));
}

TEST_CASE("a change is sent without a copy of its value, too") {
  const auto body = std::make_shared<const Bytes>(Bytes(300, std::byte{'x'}));
  const Message messages[] = {Change{5, false, "key", body}, Compared{5, false, true, body}};
  for (const Message& message : messages) {
    const auto [head, shared] = encode_shared(message);
    CHECK(shared == body);
    Bytes joined = head;
    joined.insert(joined.end(), shared->begin(), shared->end());
    CHECK(joined == encode(message));
  }
}

TEST_CASE("a value is sent without a copy, and reads the same") {
  const auto body = std::make_shared<const Bytes>(Bytes(300, std::byte{'x'}));
  const auto [head, shared] = encode_shared(Value{5, body});
  CHECK(shared == body);
  Bytes joined = head;
  joined.insert(joined.end(), shared->begin(), shared->end());
  CHECK(joined == encode(Value{5, body}));
}

TEST_CASE("a stream of another protocol is known by its first bytes") {
  const Error http = error_of(MessageDecoder::Side::server, "GET / HTTP/1.1\r\n");
  CHECK(http.code == Errc::protocol);
  CHECK(http.what == "the first bytes are not the rendezvous protocol's: 47 45 54 20 2f 20 48 54");
  const Error tcpstore = error_of(MessageDecoder::Side::server, std::string_view("\0", 1));
  CHECK(tcpstore.what == "the first bytes are not the rendezvous protocol's: 00");
}

TEST_CASE("fields that do not fit name the message") {
  struct Row {
    std::uint8_t type;
    std::string payload;
    std::string what;
  };
  const std::string huge_count = std::string("\1\0\0\0\1\0\0\0\xff\xff\xff\xff\1\0\0\0k", 17);
  const std::vector<Row> rows = {
      {1, "", "a Hello of 0 bytes whose fields do not fit"},
      {3, "short", "a Proof of 5 bytes whose fields do not fit"},
      {16, std::string(127, 'x'), "a PublishId of 127 bytes whose fields do not fit"},
      {18, std::string("\1\0\0\0\xff\0\0\0k", 9), "a Set of 9 bytes whose fields do not fit"},
      {20, huge_count, "a Wait of 17 bytes whose fields do not fit"},
      {22, "", "a Barrier of 0 bytes whose fields do not fit"},
  };
  for (const Row& row : rows) {
    const auto message = decode({row.type, as_bytes(row.payload)});
    REQUIRE_FALSE(message);
    CHECK(message.error().code == Errc::protocol);
    CHECK(message.error().what == row.what);
  }
}

TEST_CASE("names in a hello and keys in a wait have limits of their own") {
  Hello hello;
  hello.host = std::string(kMaxNameBytes, 'h');
  const Bytes fits = encode(hello);
  CHECK(decode({1, ByteView(fits).subspan(kFrameHeaderBytes)}));
  CHECK(fits.size() <= kMaxHandshakeFrameBytes);
  hello.host += 'h';
  const Bytes too_long = encode(hello);
  CHECK_FALSE(decode({1, ByteView(too_long).subspan(kFrameHeaderBytes)}));
  const Bytes many = encode(Wait{1, 1, std::vector<std::string>(kMaxWaitKeys + 1, "k")});
  CHECK_FALSE(decode({20, ByteView(many).subspan(kFrameHeaderBytes)}));
}

TEST_CASE("a stranger may not send large frames, an admitted peer may") {
  MessageDecoder stranger(MessageDecoder::Side::server);
  stranger.feed(encode(Preamble{}));
  REQUIRE(stranger.next());
  const Bytes large = encode(Set{1, "k", Bytes(kMaxValueBytes)});
  stranger.feed(large);
  const auto refused = stranger.next();
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == Errc::too_large);
  MessageDecoder admitted(MessageDecoder::Side::client);
  admitted.feed(encode(Set{1, std::string(kMaxKeyBytes, 'k'), Bytes(kMaxValueBytes)}));
  const auto taken = admitted.next();
  REQUIRE(taken);
  CHECK(*taken);
}

TEST_CASE("unknown types and fields of a newer version are no error") {
  const Bytes unknown = std::move(FrameEncoder(40).u32(9)).finish();
  CHECK(*decode({40, ByteView(unknown).subspan(kFrameHeaderBytes)}) == Message(Unknown{40, 9}));
  CHECK(*decode({41, as_bytes("x")}) == Message(Unknown{41, 0}));
  Bytes longer = encode(Done{3});
  longer.push_back(std::byte{1});
  CHECK(*decode({64, ByteView(longer).subspan(kFrameHeaderBytes)}) == Message(Done{3}));
}

TEST_CASE("long reasons are cut, so that they can always be sent") {
  const Bytes bytes = encode(Failure{0, Errc::refused, std::string(kMaxReasonBytes + 10, 'w'), "h"});
  const auto back = decode({68, ByteView(bytes).subspan(kFrameHeaderBytes)});
  REQUIRE(back);
  CHECK(std::get<Failure>(*back).what.size() == kMaxReasonBytes);
}

}  // namespace rendezvous_message_test
