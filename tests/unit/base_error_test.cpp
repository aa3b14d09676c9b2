#include "rendezvous/base/error.hpp"

#include <cerrno>
#include <csignal>
#include <set>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/signal_code.hpp"
#include "tests/support/catch.hpp"

namespace base_error_test {

using namespace llmlaunch;

TEST_CASE("an error reads where, what, hint") {
  CHECK(to_string(make_error(Errc::timed_out, "no answer")) == "no answer");
  CHECK(to_string(make_error(Errc::timed_out, "no answer", "host gpu07")) == "host gpu07: no answer");
  CHECK(to_string(make_error(Errc::timed_out, "no answer", "host gpu07", "switch it on")) ==
        "host gpu07: no answer\n   hint: switch it on");
}

TEST_CASE("an error without words has those of its condition") {
  CHECK(to_string(make_error(Errc::duplicate_rank, "")) == "this rank has joined already");
}

TEST_CASE("a system error names the call and keeps the number") {
  const Error error = system_error(ECONNREFUSED, "connect", "host gpu07");
  CHECK(to_string(error) == "host gpu07: connect: Connection refused");
  CHECK(error.code == std::errc::connection_refused);
}

TEST_CASE("every condition has a sentence of its own") {
  std::set<std::string> sentences;
  for (int code = 1; code <= static_cast<int>(Errc::internal); ++code) {
    const std::string sentence = error_category().message(code);
    CHECK(sentence.find("unknown condition") == std::string::npos);
    CHECK(sentences.insert(sentence).second);
  }
  CHECK(error_category().message(9999) == "unknown condition 9999");
}

TEST_CASE("a code of a signal says which, and no other code does") {
  CHECK(signal_of(signal_code(SIGTERM)) == SIGTERM);
  CHECK(signal_of(make_error_code(Errc::interrupted)) == 0);
  CHECK(signal_of(std::error_code()) == 0);
  CHECK(signal_of(std::error_code(SIGTERM, std::generic_category())) == 0);
  CHECK(signal_code(SIGHUP).message() == "ended by signal 1");
}

TEST_CASE("a text is cut between letters, never within one") {
  CHECK(cut_text("plain", 5) == "plain");
  CHECK(cut_text("plain", 3) == "pla");
  CHECK(cut_text("plain", 0).empty());
  const std::string text = "a\u00fc\u5b66\U0001F680";  // of 1, 2, 3 and 4 bytes
  const std::vector<std::size_t> ends = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
  for (std::size_t bytes = 0; bytes < ends.size(); ++bytes) {
    CAPTURE(bytes);
    CHECK(cut_text(text, bytes) == text.substr(0, ends[bytes]));
  }
  CHECK(cut_text("\x80\x80\x80", 2).empty());  // no letter at all
}

}  // namespace base_error_test
