// WorldState under arbitrary peers: some hold the token and send any decodable message, some do not; time jumps.
// Checked: every request is answered at most once, nobody unadmitted is served, changes go to standing watches only,
// and deadlines always move on.
#include "rendezvous/world_state.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using std::chrono::milliseconds;

namespace {

constexpr const char* kToken = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
constexpr std::size_t kPeers = 8;

class Harness {
 public:
  Harness()
      : token_(*Token::parse(kToken)),
        world_({"job", token_, Generation{1}, {"a", "a", "b"}, milliseconds(1000), true}) {}

  void connect(std::size_t slot) {
    disconnect(slot);  // a slot holds one connection at a time
    ids_[slot] = PeerId{++last_id_};
    live_.insert(ids_[slot]);
    apply(world_.on_connect(ids_[slot], "peer", Nonce{}, now_));
  }

  // A whole handshake with the right token, so that the requests behind it are reached.
  void join(std::size_t slot, std::uint8_t variant) {
    connect(slot);
    Hello hello;
    hello.job_id = (variant & 0x80) != 0 ? "other" : "job";
    hello.generation = Generation{(variant & 0x40) != 0 ? 0U : 1U};
    hello.rank = (variant & 3) == 3 && (variant & 0x10) != 0 ? kNoRank : Rank{static_cast<std::uint32_t>(variant & 3)};
    hello.world_size = 3;
    hello.nccl_version = (variant & 0x20) != 0 ? 22807 : 0;
    hello.pid = variant >> 2 & 3;
    message(slot, Preamble{});
    message(slot, hello);
    message(slot, Proof{token_.prove(Token::Side::client, hello, Nonce{})});
  }

  void message(std::size_t slot, Message message) {
    const PeerId id = ids_[slot];
    std::visit(
        [&](const auto& m) {
          if constexpr (requires { m.request; }) {
            asked_[id].insert(m.request);
            if (watches_.contains({id, m.request})) reused_.insert({id, m.request});
          }
        },
        message);
    if (const auto* watch = std::get_if<Watch>(&message)) asked_watches_.insert({id, watch->request});
    apply(world_.on_message(id, std::move(message), now_));
  }
  void malformed(std::size_t slot, const Error& error) { apply(world_.on_malformed(ids_[slot], error, now_)); }
  void disconnect(std::size_t slot) {
    live_.erase(ids_[slot]);
    apply(world_.on_disconnect(ids_[slot], make_error(Errc::closed, "gone"), now_));
  }
  void slow_watcher(std::size_t slot, std::uint32_t request) {
    if (watches_.contains({ids_[slot], request})) apply(world_.on_slow_watcher(ids_[slot], request));
  }
  void pytorch_change(std::uint32_t number) {
    const auto value = std::make_shared<const Bytes>(number % 64, std::byte{'v'});
    apply(world_.on_pytorch_change(std::string(1 + number % 3, 'k'), number % 5 == 0 ? nullptr : value));
  }
  void rank_ended(std::uint32_t rank) { apply(world_.on_rank_ended(Rank{rank})); }
  void end() { apply(world_.end_generation("over", now_)); }
  void advance(std::uint32_t ms) {
    now_ += milliseconds(ms);
    apply(world_.on_tick(now_));
    FUZZ_CHECK(!world_.next_deadline() || *world_.next_deadline() > now_);
  }
  void finish() {
    end();
    advance(20'000);
    FUZZ_CHECK(!world_.next_deadline());
    for (std::size_t slot = 0; slot < kPeers; ++slot) disconnect(slot);
    FUZZ_CHECK(world_.connections() == 0);
  }

 private:
  // A watch begins with its Done and ends with a Failure; changes come only between. Who gives its number to another
  // request cannot tell whose failure it hears.
  void follow_watches(const Send& sent) {
    if (const auto* done = std::get_if<Done>(&sent.message)) {
      if (asked_watches_.erase({sent.peer, done->request}) == 1) watches_.insert({sent.peer, done->request});
    } else if (const auto* failure = std::get_if<Failure>(&sent.message)) {
      asked_watches_.erase({sent.peer, failure->request});
      watches_.erase({sent.peer, failure->request});
    } else if (const auto* change = std::get_if<Change>(&sent.message)) {
      FUZZ_CHECK(watches_.contains({sent.peer, change->request}) || reused_.contains({sent.peer, change->request}));
    }
  }
  void apply(const Actions& actions) {
    for (const Action& action : actions) {
      if (const auto* closed = std::get_if<Close>(&action)) FUZZ_CHECK(live_.erase(closed->peer) == 1);
      if (const auto* asked = std::get_if<AskPyTorch>(&action)) FUZZ_CHECK(live_.contains(asked->peer));
      const auto* sent = std::get_if<Send>(&action);
      if (sent == nullptr) continue;
      FUZZ_CHECK(live_.contains(sent->peer));
      follow_watches(*sent);
      std::visit(
          [&](const auto& m) {
            if constexpr (requires { m.request; }) {
              if (m.request != 0) FUZZ_CHECK(asked_[sent->peer].contains(m.request));
            }
          },
          sent->message);
      FUZZ_CHECK(encode(sent->message).size() <= kMaxFrameBytes + kFrameHeaderBytes);
    }
  }

  Token token_;
  WorldState world_;
  TimePoint now_{};
  std::uint64_t last_id_ = 0;
  std::map<std::size_t, PeerId> ids_;
  std::set<PeerId> live_;
  std::map<PeerId, std::set<std::uint32_t>> asked_;
  std::set<std::pair<PeerId, std::uint32_t>> asked_watches_, watches_, reused_;
};

}  // namespace

// Input: a list of (operation: u8, argument: u8, payload when the operation is a frame: u8 length, type, bytes).
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Harness harness;
  FieldReader input(std::as_bytes(std::span(data, size)));
  while (input.remaining() >= 2) {
    const std::uint8_t operation = input.u8();
    const std::uint8_t argument = input.u8();
    const std::size_t slot = operation / 8 % kPeers;
    switch (operation % 8) {
      case 0: harness.connect(slot); break;
      case 1: harness.join(slot, argument); break;
      case 2: harness.disconnect(slot); break;
      case 3: harness.advance(argument * 50U); break;
      case 4:
        if (argument == 0xff)
          harness.end();
        else
          harness.slow_watcher(slot, argument);
        if (argument % 16 == 7) harness.rank_ended(argument / 16 % 3U);
        harness.pytorch_change(argument);
        break;
      default: {
        const std::size_t length = std::min<std::size_t>(input.u8(), input.remaining());
        auto message = decode({argument, input.raw(length)});
        if (message)
          harness.message(slot, std::move(*message));
        else
          harness.malformed(slot, message.error());
      }
    }
  }
  harness.finish();
  return 0;
}
