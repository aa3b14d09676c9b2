// What the agent keeps for a head that may come back: order, credit, what is sent again, and the disk behind it.
#include "launcher/agent/outbound_log.hpp"

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <string>

#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_outbound_log_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
using llmlaunch::test::TemporaryDirectory;

namespace {

constexpr std::uint64_t kNoLimit = ~0ull >> 1;

Bytes frame(const std::string& text) {
  const ByteView bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

void say(OutboundLog& log, const std::string& text) {
  log.add_output(frame(text), static_cast<std::uint32_t>(text.size()));
}

void carry(OutboundLog& log, const std::string& text) {
  log.add_carried(frame(text));
}

std::string next(OutboundLog& log, std::uint64_t acked = 0, std::uint64_t window = kNoLimit) {
  return std::string(as_text(log.next(acked, window)));
}

std::string all(OutboundLog& log, std::uint64_t acked = 0, std::uint64_t window = kNoLimit) {
  std::string text;
  for (std::string one = next(log, acked, window); !one.empty(); one = next(log, acked, window)) text += one + " ";
  return text;
}

OutboundLog log_in(const TemporaryDirectory& directory) {
  return OutboundLog(Spool({directory.str() + "/state/llmlaunch"}));
}

// More than memory may hold, in pieces that are told apart.
std::string fill(OutboundLog& log, std::size_t pieces) {
  std::string text;
  for (std::size_t i = 0; i < pieces; ++i) {
    const std::string piece = std::to_string(i) + std::string(50'000, 'x');
    say(log, piece);
    text += piece + " ";
  }
  return text;
}

// A head that takes everything, and has heard `heard` before.
std::string drain(OutboundLog& log, Ack& heard) {
  std::string text;
  while (!log.all_sent()) {
    const std::string one = next(log, heard.output_bytes, kDefaultWindowBytes);
    REQUIRE_FALSE(one.empty());
    text += one + " ";
    ++heard.outputs;
    heard.output_bytes += one.size();
    REQUIRE(log.confirm(heard));
  }
  return text;
}

}  // namespace

TEST_CASE("what is carried and outputs take turns, and the last output waits for all of it") {
  OutboundLog log{Spool({})};
  for (const char* text : {"o1", "o2"}) say(log, text);
  for (const char* text : {"c1", "c2", "c3", "c4"}) carry(log, text);
  log.add_event(frame("e1"));
  log.add_last(frame("done"));
  CHECK(all(log) == "e1 c1 o1 c2 o2 c3 c4 done ");
  CHECK(log.all_sent());
  // A window that is full stops outputs, and nothing else.
  REQUIRE(log.rewind({0, 2, 1, 3}));
  CHECK(all(log, 0, 0) == "c4 ");
  CHECK_FALSE(log.all_sent());
  CHECK_FALSE(log.rewind({0, 2, 1, 2}));
  CHECK_FALSE(log.confirm({0, 2, 1, 9}));
}

TEST_CASE("events overtake outputs, each kind keeps its order") {
  OutboundLog log(Spool({}));
  say(log, "a");
  say(log, "b");
  log.add_event(frame("E"));
  log.add_event(frame("F"));
  CHECK_FALSE(log.all_sent());
  CHECK(all(log) == "E F a b ");
  CHECK(log.all_sent());
}

TEST_CASE("outputs go out as far as the credit reaches, and events do not wait for it") {
  OutboundLog log(Spool({}));
  say(log, "12345");
  say(log, "678");
  log.add_output(frame("end"), 0);
  CHECK(all(log, 0, 5) == "12345 ");
  log.add_event(frame("E"));
  CHECK(all(log, 0, 7) == "E ");
  CHECK(all(log, 1, 7) == "678 end ");
}

TEST_CASE("after a cut the head gets what it has not, and nothing twice") {
  OutboundLog log(Spool({}));
  log.add_event(frame("E"));
  log.add_event(frame("F"));
  for (const char* text : {"a", "b", "c"}) say(log, text);
  CHECK(all(log) == "E F a b c ");
  REQUIRE(log.confirm(Ack{1, 1, 0}));
  REQUIRE(log.rewind(Ack{2, 2, 1}));
  CHECK(all(log) == "F c ");
  say(log, "d");
  CHECK(all(log) == "d ");
}

TEST_CASE("a head that confirms what was never sent, or asks for what it confirmed, is refused") {
  OutboundLog log(Spool({}));
  for (const char* text : {"a", "b"}) say(log, text);
  CHECK(next(log) == "a");
  CHECK_FALSE(log.confirm(Ack{0, 2, 0}));
  CHECK_FALSE(log.confirm(Ack{0, 0, 1}));
  REQUIRE(log.confirm(Ack{0, 1, 0}));
  CHECK_FALSE(log.rewind(Ack{0, 0, 0}));
  CHECK(log.confirm(Ack{0, 0, 0}));  // an older total changes nothing
}

TEST_CASE("outputs beyond memory wait on the disk, in a file without a name, and come back in order") {
  const TemporaryDirectory directory;
  OutboundLog log = log_in(directory);
  Ack heard;
  const std::string written = fill(log, 100);
  CHECK_FALSE(log.has_room(true));
  CHECK(log.has_room(false));
  CHECK(std::filesystem::is_empty(directory.str() + "/state/llmlaunch"));
  CHECK(drain(log, heard) == written);
  CHECK(log.has_room(true));
  const std::string more = fill(log, 30);
  CHECK(drain(log, heard) == more);  // the emptied file is no hindrance
}

TEST_CASE("a disk without room stops the reading, and what was read is kept") {
  const TemporaryDirectory directory;
  OutboundLog log = log_in(directory);
  struct rlimit before {};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{200'000, before.rlim_max};
  const auto old = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  Ack heard;
  const std::string written = fill(log, 20);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, old);
  CHECK_FALSE(log.has_room(false));
  CHECK(drain(log, heard) == written);
  CHECK(log.has_room(false));
}

TEST_CASE("the spool takes the first directory that it can write to") {
  CHECK(Spool::usual_directories({"HOME=/home/me", "TMPDIR=/scratch"}) ==
        std::vector<std::string>{"/home/me/.local/state/llmlaunch", "/scratch", "/var/tmp", "/tmp"});
  CHECK(Spool::usual_directories({"HOME=/home/me", "XDG_STATE_HOME=/state"}) ==
        std::vector<std::string>{"/state/llmlaunch", "/home/me/.local/state/llmlaunch", "/var/tmp", "/tmp"});
  const TemporaryDirectory directory;
  Spool spool({"/proc/no/such", directory.str()});
  CHECK(spool.append(frame("abc"), 3));
  const auto taken = spool.take();
  REQUIRE(taken);
  REQUIRE(*taken);
  CHECK(as_text((*taken)->bytes) == "abc");
  CHECK(spool.empty());
  Spool nowhere({"/proc/no/such"});
  CHECK_FALSE(nowhere.append(frame("abc"), 3));
}

}  // namespace launcher_agent_outbound_log_test
