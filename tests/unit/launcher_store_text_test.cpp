// How keys, values and changes look to people and to programs.
#include "launcher/store_text.hpp"

#include <cstdlib>
#include <ctime>

#include "tests/support/catch.hpp"

namespace launcher_store_text_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using rendezvous::KeyChange;
using rendezvous::Keyspace;
using std::chrono::system_clock;

namespace {

Bytes bytes_of(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

const system_clock::time_point kWhen = system_clock::time_point(std::chrono::milliseconds(1'795'515'330'045));

}  // namespace

TEST_CASE("any bytes are one line that steers no terminal") {
  CHECK(one_line("plain text, äöü") == "plain text, äöü");
  CHECK(one_line("a\nb\tc\\n") == "a\\nb\\tc\\\\n");
  CHECK(one_line(std::string_view("\x1b[2J\0\xff", 6)) == "\\x1b[2J\\x00\\xff");
  CHECK(one_line("12345", 5) == "12345");
  CHECK(one_line("123456", 5) == "12345… (6 bytes)");
}

TEST_CASE("a list has bytes, whose and key, and marks queues") {
  const std::vector<ListedKey> keys{{Keyspace::native, {"ready/0", 12, 0}}, {Keyspace::pytorch, {"q\n", 3, 2}}};
  CHECK(store_lines(keys) == "        12  native   ready/0\n         3  pytorch  q\\n  (a queue of 2)\n");
  ObserverPass pass;
  pass.job_id = "job-1";
  pass.token = "secret";
  const std::string json = store_json(pass, {{Keyspace::pytorch, {"\xff", 3, 2}}, {Keyspace::native, {"k", 0, 0}}});
  CHECK(json.find("secret") == std::string::npos);
  CHECK(json == R"({
  "job_id": "job-1",
  "generation": 0,
  "keys": [
    {
      "store": "pytorch",
      "key_base64": "/w==",
      "bytes": 3,
      "queued": 2
    },
    {
      "store": "native",
      "key": "k",
      "bytes": 0,
      "queued": null
    }
  ]
}
)");
}

TEST_CASE("a value as JSON is text where it is UTF-8") {
  CHECK(value_json("k", {Keyspace::native, bytes_of("a\"ä\n")}) ==
        R"({"store":"native","key":"k","bytes":5,"value":"a\"ä\n"})"
        "\n");
  CHECK(value_json("k", {Keyspace::pytorch, bytes_of("\xff\xfe")}) ==
        R"({"store":"pytorch","key":"k","bytes":2,"value_base64":"//4="})"
        "\n");
}

TEST_CASE("a change is one line, with its time") {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  const KeyChange set{"k\n", bytes_of("v\t")}, deleted{"k", std::nullopt}, large{"k", Bytes(300, std::byte{'x'})};
  const std::string line = change_line(Keyspace::native, set, kWhen);
  CHECK(line.substr(8) == ".045  set      native   k\\n  v\\t\n");
  CHECK(line.find(':') == 2);
  CHECK(change_line(Keyspace::pytorch, deleted, kWhen).substr(8) == ".045  deleted  pytorch  k\n");
  CHECK(change_line(Keyspace::native, large, kWhen).ends_with("xxx… (300 bytes)\n"));
  CHECK(change_json(Keyspace::native, set, kWhen)
            .ends_with(R"(.045Z","store":"native","change":"set","key":"k\n","bytes":2,"value":"v\t"})"
                       "\n"));
  CHECK(change_json(Keyspace::pytorch, deleted, kWhen)
            .ends_with(R"(.045Z","store":"pytorch","change":"deleted","key":"k","bytes":null,"value":null})"
                       "\n"));
}

}  // namespace launcher_store_text_test
