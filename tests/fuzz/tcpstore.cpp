// TCPStore streams of several peers: whatever they send, in whatever pieces. Checked: what decodes encodes to the same
// command; each command is answered as its verb says; nothing stays when all have gone.
#include <algorithm>
#include <map>
#include <set>

#include "rendezvous/tcpstore_state.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using namespace llmlaunch::rendezvous::tcpstore;

namespace {

constexpr std::size_t kPeers = 4;

Limits small_limits() {
  Limits limits;
  limits.keys = 8;
  limits.bytes = 2048;
  limits.queue_length = 3;
  limits.waits = 8;
  limits.connections = 3;
  return limits;
}

class Harness {
 public:
  void connect(std::size_t slot) {
    disconnect(slot);
    peers_[slot] = {PeerId{++last_}, Decoder{}};
    live_.insert(peers_[slot].id);
    apply(state_.on_connect(peers_[slot].id, "peer"));
  }

  // A whole handshake, so that what is behind it is reached.
  void join(std::size_t slot) {
    connect(slot);
    send(slot, encode({Verb::validate, {}, {}, kMagic}));
  }

  void send(std::size_t slot, ByteView bytes) {
    Peer& peer = peers_[slot];
    while (live_.contains(peer.id)) {
      const std::size_t before = bytes.size();
      auto command = peer.decoder.next(bytes);
      FUZZ_CHECK(bytes.size() <= before);
      if (!command) return apply(state_.on_malformed(peer.id, command.error()));
      if (!*command) {
        FUZZ_CHECK(bytes.empty());
        return;
      }
      check_round_trip(**command);
      apply(state_.on_command(peer.id, std::move(**command)));
    }
  }

  // Who looks in by the native dialect: every request is answered, by its number.
  void look_in(std::uint8_t type, ByteView bytes) {
    auto request = decode({type, bytes});
    if (!request) return;
    const std::uint32_t number = request_of(*request);
    const auto [reply, actions] = state_.on_request(std::move(*request));
    FUZZ_CHECK(request_of(reply) == number);
    apply(actions);
  }
  void observe(bool watched) { state_.observe(observed_ = watched); }

  void late(std::size_t slot) { apply(state_.on_late(peers_[slot].id)); }
  void disconnect(std::size_t slot) {
    live_.erase(peers_[slot].id);
    apply(state_.on_disconnect(peers_[slot].id));
  }
  void end() { apply(state_.end("over")); }
  void finish() {
    for (std::size_t slot = 0; slot < kPeers; ++slot) disconnect(slot);
    FUZZ_CHECK(state_.connections() == 0);
    FUZZ_CHECK(state_.waits() == 0);
    FUZZ_CHECK(live_.empty());
  }

 private:
  struct Peer {
    PeerId id{};
    Decoder decoder;
  };

  static std::uint32_t request_of(const Message& message) {
    return std::visit(
        [](const auto& m) -> std::uint32_t {
          if constexpr (requires { m.request; })
            return m.request;
          else
            return 0;
        },
        message);
  }

  static void check_round_trip(const Command& command) {
    const Bytes bytes = encode(command);
    Decoder decoder;
    ByteView input = bytes;
    const auto again = decoder.next(input);
    FUZZ_CHECK(again.has_value() && again->has_value() && **again == command && input.empty());
  }

  void apply(const StoreActions& actions) {
    const Limits limits = small_limits();
    FUZZ_CHECK(state_.keys() <= limits.keys && state_.bytes() <= limits.bytes && state_.waits() <= limits.waits);
    FUZZ_CHECK(state_.connections() <= limits.connections);
    for (const StoreAction& action : actions) {
      if (const auto* closed = std::get_if<Hangup>(&action)) {
        FUZZ_CHECK(live_.erase(closed->peer) == 1);
        FUZZ_CHECK(!closed->reason.what.empty());
      } else {
        const auto* answer = std::get_if<Answer>(&action);
        FUZZ_CHECK(answer != nullptr ? live_.contains(answer->peer)
                                     : observed_ && std::holds_alternative<Changed>(action));
      }
    }
  }

  State state_{small_limits()};
  bool observed_ = false;
  std::uint64_t last_ = 0;
  std::map<std::size_t, Peer> peers_;
  std::set<PeerId> live_;
};

}  // namespace

// Input: a list of (operation: u8; for bytes: u8 length, bytes; for a look from outside: u8 type, u8 length, bytes).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Harness harness;
  FieldReader input(std::as_bytes(std::span(data, size)));
  while (input.remaining() >= 1) {
    const std::uint8_t operation = input.u8();
    const std::size_t slot = operation / 8 % kPeers;
    switch (operation % 8) {
      case 0: harness.connect(slot); break;
      case 1: harness.join(slot); break;
      case 2: harness.disconnect(slot); break;
      case 3: harness.late(slot); break;
      case 4:
        if (operation == 0xfc) {
          harness.end();
        } else if (operation >= 0x80 && input.remaining() >= 2) {
          const std::uint8_t type = input.u8();
          harness.look_in(type, input.raw(std::min<std::size_t>(input.u8(), input.remaining())));
        } else {
          harness.observe(operation >= 0x40);
        }
        break;
      default:
        if (input.remaining() == 0) break;
        const std::size_t length = std::min<std::size_t>(input.u8(), input.remaining());
        harness.send(slot, input.raw(length));
    }
  }
  harness.finish();
  return 0;
}
