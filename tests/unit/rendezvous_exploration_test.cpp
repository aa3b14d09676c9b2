// The world under every order of events of three ranks, one of which, or all, may crash, come again, be started anew in
// the next generation, or still belong to the last one. What must hold in each of them (checked after every event):
//
//   one generation    a rank is welcomed only by the generation that it names, and never after its end; who belongs to
//                     an ended one is refused as stale. A rank is welcomed once at a time.
//   its own ids       the id that a rank gets is the one that rank 0 published in that generation, and not before.
//   whole barriers    a barrier lets a rank through only when every rank of that generation has asked.
//   one answer        a request is answered at most once, and nothing is said to who was closed or has gone.
//   nobody forgotten  once the generation has ended, or all time has passed, every request of who is still connected
//                     has its answer.
#include <fmt/format.h>

#include <array>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_set>

#include "rendezvous/world_state.hpp"
#include "tests/support/catch.hpp"

namespace rendezvous_exploration_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using std::chrono::seconds;

namespace {

constexpr std::uint32_t kRanks = 3;
constexpr std::uint32_t kIdRequest = 1, kBarrierRequest = 2;
constexpr std::uint32_t kTimeoutMs = 60'000;
// Orders are tried one by one up to this many events; beyond, an order that leads to what another has led to is not
// followed again.
constexpr std::size_t kAllOrders = 4;
constexpr std::size_t kDepth = 18;
// So often may it happen on one path.
constexpr int kCrashes = 1, kGenerations = 2;

const Token& token() {
  static const Token kShared = *Token::parse(std::string(64, '7'));
  return kShared;
}

UniqueId id_of(std::uint32_t generation) {
  UniqueId id{};
  id[0] = static_cast<std::byte>(generation + 1);
  return id;
}

// What a rank does next: its program is this list.
enum class Next : std::uint8_t { connect, hello, prove, ask_id, ask_barrier, leave, nothing };

struct Actor {
  Next next = Next::connect;
  std::uint32_t generation = 1;
  std::uint32_t pid = 0;
  std::uint64_t peer = 0;  // 0: not connected
  std::set<std::uint32_t> open;
  bool welcomed = false;
  bool asked_barrier = false;  // in its generation
  bool passed = false, got_id = false, refused = false;

  std::string shown() const {
    return fmt::format("{}.{}.{}.{}{}{}{}{}{}.{}", static_cast<int>(next), generation, pid, peer != 0 ? 'c' : '-',
                       welcomed ? 'w' : '-', asked_barrier ? 'b' : '-', passed ? 'p' : '-', got_id ? 'i' : '-',
                       refused ? 'r' : '-', fmt::join(open, ","));
  }
};

class Model {
 public:
  Model() { begin_generation(); }

  // Events by number.
  static constexpr int kEvents = 3 * static_cast<int>(kRanks) + 2;

  bool may_come(int event) const {
    const Actor& actor = actors_[static_cast<std::uint32_t>(event) % kRanks];
    switch (event / static_cast<int>(kRanks)) {
      case 0: return actor.next == Next::connect || (actor.peer != 0 && (actor.next < Next::ask_id || actor.welcomed));
      case 1: return actor.peer != 0 && crashes_ < kCrashes;
      case 2: return actor.peer == 0 && actor.pid == 0 && (actor.generation < generation_ || crashes_ > 0);
      default: return event % static_cast<int>(kRanks) == 0 ? !ended_ || generation_ < kGenerations : !late_;
    }
  }

  void apply(int event) {
    const auto rank = static_cast<std::uint32_t>(event) % kRanks;
    switch (event / static_cast<int>(kRanks)) {
      case 0: return step(rank);
      case 1: return crash(rank);
      case 2: return restart(rank);
      default: return event % static_cast<int>(kRanks) == 0 ? end() : let_all_time_pass();
    }
  }

  // What all have sent and received, and who is here: two orders with the same are taken for one.
  std::string shown() const {
    std::string text = fmt::format("{}{}{}{}{}|", generation_, ended_ ? 'e' : '-', late_ ? 't' : '-', crashes_,
                                   published_ ? 'i' : '-');
    for (const Actor& actor : actors_) text += actor.shown() + "|";
    return text;
  }

 private:
  void begin_generation() {
    ++generation_;
    ended_ = late_ = published_ = false;
    world_.emplace(WorldOptions{"job", token(), Generation{generation_}, {"a", "a", "b"}, seconds(30)});
    for (Actor& actor : actors_) hang_up(actor);  // the server is another one
  }

  static void hang_up(Actor& actor) {
    actor.peer = 0;
    actor.welcomed = false;
    actor.open.clear();
  }

  void step(std::uint32_t rank) {
    Actor& actor = actors_[rank];
    const PeerId peer{actor.peer};
    switch (actor.next) {
      case Next::connect:
        actor.peer = ++last_peer_;
        actor.next = Next::hello;
        carry_out(world_->on_connect(PeerId{actor.peer}, "10.0.0.1:1", nonce(actor.peer), now_));
        return;
      case Next::hello:
        actor.next = Next::prove;
        carry_out(world_->on_message(peer, Preamble{}, now_));
        carry_out(world_->on_message(peer, hello(rank), now_));
        return;
      case Next::prove:
        actor.next = Next::ask_id;
        carry_out(
            world_->on_message(peer, Proof{token().prove(Token::Side::client, hello(rank), nonce(actor.peer))}, now_));
        return;
      case Next::ask_id:
        actor.next = Next::ask_barrier;
        actor.open.insert(kIdRequest);
        if (rank == 0) {
          published_ = published_ || !ended_;
          carry_out(world_->on_message(peer, PublishId{kIdRequest, 0, id_of(generation_)}, now_));
        } else {
          carry_out(world_->on_message(peer, GetId{kIdRequest, 0, kTimeoutMs}, now_));
        }
        return;
      case Next::ask_barrier:
        actor.next = Next::leave;
        actor.asked_barrier = true;
        actor.open.insert(kBarrierRequest);
        carry_out(world_->on_message(peer, Barrier{kBarrierRequest, "b", kTimeoutMs}, now_));
        return;
      case Next::leave:
        actor.next = Next::nothing;
        carry_out(world_->on_message(peer, Leave{}, now_));
        return;
      case Next::nothing: return;
    }
  }

  // It loses its connection, and tries again as the same process, which may also be too late for its generation.
  void crash(std::uint32_t rank) {
    Actor& actor = actors_[rank];
    ++crashes_;
    const PeerId gone{actor.peer};
    hang_up(actor);
    actor.next = Next::connect;
    carry_out(world_->on_disconnect(gone, make_error(Errc::closed, "reset"), now_));
  }

  // The launcher starts it anew, in the generation of now; after a crash or in a new generation.
  void restart(std::uint32_t rank) {
    Actor& actor = actors_[rank];
    const std::uint32_t pid = actor.pid + 1;
    actor = Actor{};
    actor.generation = generation_;
    actor.pid = pid;
  }

  // The generation ends; at the second call of this event the next one begins.
  void end() {
    if (ended_) {
      check_nobody_waits();
      begin_generation();
      return;
    }
    ended_ = true;
    carry_out(world_->end_generation("over", now_));
    check_nobody_waits();
  }

  void let_all_time_pass() {
    late_ = true;
    while (const auto due = world_->next_deadline()) {
      now_ = *due;
      carry_out(world_->on_tick(now_));
    }
    check_nobody_waits();
  }

  void carry_out(const Actions& actions) {
    for (const Action& action : actions) {
      if (const auto* sent = std::get_if<Send>(&action)) received(rank_of(sent->peer), sent->message);
      if (const auto* closed = std::get_if<Close>(&action)) {
        const std::uint32_t rank = rank_of(closed->peer);
        if (actors_[rank].next != Next::nothing) actors_[rank].refused = true;
        actors_[rank].next = Next::nothing;
        hang_up(actors_[rank]);
      }
    }
  }

  // "Nothing is said to who was closed or has gone" is that there is one.
  std::uint32_t rank_of(PeerId peer) const {
    for (std::uint32_t rank = 0; rank < kRanks; ++rank)
      if (actors_[rank].peer == static_cast<std::uint64_t>(peer)) return rank;
    throw std::logic_error("something is said to a peer that is not there");
  }

  void received(std::uint32_t rank, const Message& message) {
    Actor& actor = actors_[rank];
    if (std::holds_alternative<Welcome>(message)) {
      must(actor.generation == generation_ && !ended_, "a rank is welcomed by another generation, or an ended one");
      must(!actor.welcomed, "a rank is welcomed twice");
      actor.welcomed = true;
    }
    if (const auto* id = std::get_if<Id>(&message)) {
      must(published_ && id->id == id_of(actor.generation), "an id that was not published in this generation");
      actor.got_id = true;
      answered(actor, id->request);
    }
    if (const auto* done = std::get_if<Done>(&message)) {
      if (done->request == kBarrierRequest) {
        for (const Actor& other : actors_)
          must(other.generation == generation_ && other.asked_barrier, "a barrier opens that not all have entered");
        actor.passed = true;
      }
      answered(actor, done->request);
    }
    if (const auto* failure = std::get_if<Failure>(&message)) {
      if (failure->request != 0) return answered(actor, failure->request);
      actor.refused = true;
      if (actor.generation < generation_ && actor.next == Next::ask_id)  // it has proved itself
        must(failure->code == Errc::stale_generation, "a rank of an ended generation is refused for another reason");
    }
  }

  static void answered(Actor& actor, std::uint32_t request) {
    must(actor.open.erase(request) == 1, "an answer without a question, or a second one");
  }

  void check_nobody_waits() const {
    for (const Actor& actor : actors_) must(actor.open.empty(), "a waiter is forgotten");
  }

  static void must(bool holds, const char* otherwise) {
    if (!holds) throw std::logic_error(otherwise);
  }

  static Nonce nonce(std::uint64_t peer) {
    Nonce made{};
    made[0] = static_cast<std::byte>(peer);
    made[1] = static_cast<std::byte>(peer >> 8);
    return made;
  }

  Hello hello(std::uint32_t rank) const {
    Hello made;
    made.job_id = "job";
    made.generation = Generation{actors_[rank].generation};
    made.rank = Rank{rank};
    made.world_size = kRanks;
    made.host = rank < 2 ? "a" : "b";
    made.pid = 100 * rank + actors_[rank].pid;
    return made;
  }

  std::optional<WorldState> world_;
  std::array<Actor, kRanks> actors_;
  TimePoint now_{};
  std::uint32_t generation_ = 0;
  std::uint64_t last_peer_ = 0;
  int crashes_ = 0;
  bool ended_ = false, late_ = false, published_ = false;
};

class Exploration {
 public:
  // Every order of events from here on.
  void from(const Model& model) {
    ++states;
    for (int event = 0; event < Model::kEvents; ++event) {
      if (!model.may_come(event)) continue;
      Model next = model;
      path_.push_back(event);
      guarded([&] { next.apply(event); });
      const bool known = path_.size() > kAllOrders && !seen_.insert(next.shown()).second;
      if (!known && path_.size() < kDepth) from(next);
      path_.pop_back();
    }
    deepest = std::max(deepest, path_.size());
  }

  std::size_t states = 0;
  std::size_t deepest = 0;

 private:
  // Says by which events it came to what must not be.
  template <class Function>
  void guarded(Function function) {
    try {
      function();
    } catch (const std::logic_error& broken) {
      FAIL(broken.what() << " after events " << fmt::format("{}", fmt::join(path_, " ")));
    }
  }

  std::vector<int> path_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

TEST_CASE("three ranks, crashes and a restart: what must hold does in every order of events") {
  Exploration exploration;
  exploration.from(Model());
  INFO(exploration.states << " states, the deepest after " << exploration.deepest << " events");
  CHECK(exploration.states > 40'000);
  CHECK(exploration.deepest + 1 == kDepth);
}

}  // namespace rendezvous_exploration_test
