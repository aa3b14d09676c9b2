// Places, and what a view of ssh-agent lets through: no socket is needed for either.
#include "launcher/ssh/places.hpp"

#include <string>

#include "launcher/ssh/agent_client.hpp"
#include "tests/support/catch.hpp"

namespace launcher_ssh_places_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::ssh;

namespace {

struct Guests {
  int taken = 0;
  int refused = 0;
};

asio::awaitable<void> guest(Places& places, const bool& canceled, Guests& guests) {
  const auto executor = co_await asio::this_coro::executor;
  const bool taken = co_await places.take(executor, canceled);
  ++(taken ? guests.taken : guests.refused);
}

void stand_in_line(asio::io_context& io, Places& places, const bool& canceled, Guests& guests, int count) {
  for (int i = 0; i < count; ++i) spawn_or_die(io.get_executor(), "guest", guest(places, canceled, guests));
}

void go_on(asio::io_context& io) {
  io.restart();
  io.poll();
}

Bytes bytes(const std::string& text) {
  return Bytes(as_bytes(text).begin(), as_bytes(text).end());
}

std::string field(const std::string& text) {
  return std::string(3, '\0') + static_cast<char>(text.size()) + text;
}

}  // namespace

TEST_CASE("places are taken until there is none, and each that is given back goes to one who waits") {
  asio::io_context io;
  Places places(2);
  Guests guests;
  const bool canceled = false;
  stand_in_line(io, places, canceled, guests, 5);
  // Bounded: those who wait must not wake each other.
  for (int turns = 0; turns < 100; ++turns) io.poll_one();
  CHECK(io.poll() == 0);
  CHECK(guests.taken == 2);
  for (int expected = 3; expected <= 5; ++expected) {
    places.give();
    io.poll();
    CHECK(guests.taken == expected);
  }
}

TEST_CASE("who does not want a place any more gets none, and others stay in line") {
  asio::io_context io;
  Places places(1);
  Guests first, leaving, staying;
  bool canceled = false;
  const bool never = false;
  stand_in_line(io, places, never, first, 1);
  go_on(io);
  stand_in_line(io, places, canceled, leaving, 2);
  stand_in_line(io, places, never, staying, 1);
  go_on(io);
  canceled = true;
  places.wake();
  go_on(io);
  CHECK(leaving.refused == 2);
  CHECK(staying.taken + staying.refused == 0);
  places.give();
  go_on(io);
  CHECK(staying.taken == 1);
}

TEST_CASE("a request for a signature goes through for keys that are shown, in the name of the key that signs") {
  const std::string rest = field("data") + std::string(4, '\2');
  const std::vector<AgentIdentity> shown = {{bytes("plain"), "", {}}, {bytes("certificate"), "", bytes("its key")}};
  const auto asked = [&](const std::string& request) { return signing_request(bytes(request), shown); };
  CHECK(asked("\x0d" + field("plain") + rest) == bytes("\x0d" + field("plain") + rest));
  CHECK(asked("\x0d" + field("certificate") + rest) == bytes("\x0d" + field("its key") + rest));
  CHECK(asked("\x0d" + field("its key") + rest) == std::nullopt);
  CHECK(asked("\x0b" + field("plain") + rest) == std::nullopt);
  for (const char* text : {"", "\x0d", "\x0dplain"}) CHECK(asked(text) == std::nullopt);
}

}  // namespace launcher_ssh_places_test
