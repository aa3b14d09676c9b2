// The world under every order of events of a few ranks, each of which asks what its program says in any order, may
// cancel, crash, come again, be started anew in the next generation, or still belong to the last one. What must hold
// after every event:
//
//   one generation    a rank is welcomed only by the generation that it names, and never after its end; who belongs to
//                     an ended one is refused as stale. A rank is welcomed once at a time.
//   its own answer    the id that a rank gets is the one that rank 0 published in that generation, the value the one
//                     that is set, and neither comes before. A failure's code says what has happened.
//   whole barriers    a barrier lets all ranks through in one event, when the last of them asks, and nobody else.
//   one answer        a request is answered at most once, and nothing is said to who was closed or has gone. A change
//                     of a key is told once to each who watches it.
//   nobody forgotten  nothing is open that can be answered: no id that is published, no key that is set, no barrier
//                     that all have entered or that cannot open any more, nothing once the generation has ended or
//                     failed or the time of the request has passed.
//
// What is explored: the scenarios below, each to its end, as none of them is endless: a path ends when no event is
// left, after 22 to 36. Up to `all_orders` events every order is followed by itself. Beyond, a state that has been
// seen is not followed again, so that every order is still covered to its end. Two states are taken for one only when
// the ranks are at the same point, and so is every field of `WorldState` by which it decides (`WorldStateProbe`): what
// follows is then the same. Peers and held requests count by rank and number there, not by their ids, and deadlines
// from now: ids are only compared, and the order of requests, which is that of ids, is kept. Left out is the order of
// connections, which is only that of what an end says to different ranks, and what words a failure has.
//
// Not explored: more than three ranks, more than one crash or cancel on a path, more than two generations, and a crash
// together with a second generation in a world of three. Time passes once on a path, and then all that anybody waits
// for.
#include <fmt/format.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>
#include <unordered_set>
#include <vector>

#include "rendezvous/world_state.hpp"
#include "tests/support/catch.hpp"

namespace llmlaunch::rendezvous {

using std::chrono::seconds;

// By which the world decides; see above.
struct WorldStateProbe {
  // `name` gives a peer's rank.
  template <class Name>
  static void describe(const WorldState& world, TimePoint now, const Name& name, std::string& text) {
    const auto put = [&text](auto value) { text += static_cast<char>(value); };
    const auto put_time = [&](TimePoint at) { put((at - now) / seconds(1)); };
    std::map<std::uint32_t, PeerId> peers;
    for (const auto& [id, peer] : world.peers_) peers.emplace(name(id), id);
    for (const auto& [rank, id] : peers) {
      const auto& peer = world.peers_.at(id);
      put(rank), put(peer.step), put(peer.open_bytes), put(peer.open.size());
      put(world.handshakes_.contains(id));
      if (peer.step != WorldState::Step::admitted) put_time(peer.handshake_deadline);
      put(number(peer.hello.rank)), put(number(peer.hello.generation)), put(peer.hello.pid);
    }
    text += '|';
    for (const auto& slot : world.slots_) put(slot.presence), put(slot.pid);
    put(world.joined_), put(world.gone_), put(world.observers_), put(world.complete_);
    put(world.failed_.has_value()), put(world.end_reason_.has_value()), put(world.join_deadline_.has_value());
    if (world.join_deadline_) put_time(*world.join_deadline_);
    for (const auto& [index, id] : world.ids_) put(index), put(id[0]);
    const auto pairs = world.store_.list("", "", kMaxListKeys);
    for (const std::string& key : pairs.keys) text += key + std::string(as_text(*world.store_.find(key))) + ';';
    text += '|';
    std::map<WorldState::OpenId, int> order;
    for (const auto& [id, open] : world.open_) {
      order.emplace(id, static_cast<int>(order.size()));
      put(name(open.peer)), put(open.request), put(number(open.rank)), put(open.deadline.has_value());
      if (open.deadline) put_time(*open.deadline);
      put(open.subject.index());
      if (const auto* keys = std::get_if<WorldState::ForKeys>(&open.subject)) {
        put(keys->missing);
        for (const auto& [key, exists] : keys->exist) put(exists);
      }
      const auto peer = world.peers_.find(open.peer);
      put(peer != world.peers_.end() && peer->second.open.contains(open.request));
    }
    text += '|';
    for (const auto& [at, id] : world.deadlines_) put(order.at(id)), put_time(at);
    const auto put_all = [&](const auto& ids) {
      for (const auto id : ids) put(order.at(id));
      text += ';';
    };
    for (const auto& [index, ids] : world.id_waiters_) put(index), put_all(ids);
    for (const auto& [key, ids] : std::map(world.key_waiters_.begin(), world.key_waiters_.end()))
      text += key, put_all(ids);
    for (const char* key : {"k", "l"}) put_all(world.watches_[0].watchers(key));
    for (const auto& [key, barrier] : world.barriers_) {
      text += key;
      for (const auto& [rank, id] : barrier.waiting) put(number(rank)), put(order.at(id));
      text += ';';
    }
  }
};

}  // namespace llmlaunch::rendezvous

namespace rendezvous_exploration_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
namespace {

constexpr std::uint32_t kTimeoutMs = 60'000;

enum class Ask : std::uint8_t { publish, id, barrier, set, remove, get, wait, watch };
struct Question {
  Ask ask{};
  std::string_view key{};  // `wait` is for "k" and "l"
};

struct Bounds {
  bool by_step = false;  // connecting, hello and proof are events of their own, and not one
  int crashes = 0, generations = 1, cancels = 0;
  std::size_t all_orders = 5;
  std::size_t least_states = 0;  // lest it become a test of nothing
};
struct Scenario {
  const char* name;
  std::vector<std::vector<Question>> programs;  // of each rank
  Bounds bounds;
};

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> kAll = {
      {"two ranks whose handshakes come step by step, a crash and a second generation",
       {{{Ask::publish}, {Ask::barrier}}, {{Ask::id}, {Ask::barrier}}},
       {.by_step = true, .crashes = 1, .generations = 2, .all_orders = 6, .least_states = 13'000}},
      {"three ranks, ids and barriers, a second generation",
       {{{Ask::publish}, {Ask::barrier}}, {{Ask::id}, {Ask::barrier}}, {{Ask::id}, {Ask::barrier}}},
       {.generations = 2, .least_states = 13'000}},
      {"three ranks, ids and barriers, a crash",
       {{{Ask::publish}, {Ask::barrier}}, {{Ask::id}, {Ask::barrier}}, {{Ask::id}, {Ask::barrier}}},
       {.crashes = 1, .least_states = 50'000}},
      {"three ranks whose handshakes come step by step, ids, barriers and a cancel",
       {{{Ask::publish}, {Ask::barrier}}, {{Ask::id}, {Ask::barrier}}, {{Ask::id}, {Ask::barrier}}},
       {.by_step = true, .cancels = 1, .all_orders = 6, .least_states = 8'000}},
      {"three ranks, keys that are set, got and waited for, a cancel and a second generation",
       {{{Ask::set, "k"}}, {{Ask::set, "l"}, {Ask::get, "k"}}, {{Ask::wait}, {Ask::get, "l"}}},
       {.generations = 2, .cancels = 1, .least_states = 18'000}},
      {"two ranks, keys that come and go and are watched, a cancel and a crash",
       {{{Ask::set, "k"}, {Ask::remove, "k"}}, {{Ask::watch, "k"}, {Ask::wait}, {Ask::set, "l"}}},
       {.crashes = 1, .cancels = 1, .least_states = 10'000}},
  };
  return kAll;
}

const Token& token() {
  static const Token kShared = *Token::parse(std::string(64, '7'));
  return kShared;
}

UniqueId id_of(std::uint32_t generation) {
  UniqueId id{};
  id[0] = static_cast<std::byte>(generation + 1);
  return id;
}

// Requests are bits by their place in the program, and their number is that place + 1.
using Requests = std::uint32_t;
constexpr Requests bit(std::size_t place) {
  return Requests{1} << place;
}

enum class Next : std::uint8_t { connect, hello, prove, ask, nothing };

struct Actor {
  Next next = Next::connect;
  std::uint32_t generation = 1;
  std::uint32_t pid = 0;
  std::uint64_t peer = 0;  // 0: not connected
  bool welcomed = false;
  bool gone = false;  // was welcomed in this generation, and is not here
  Requests asked = 0, open = 0, watched = 0;
  Requests told = 0;  // in this event: watches that had a change
};

struct Event {
  enum class What : std::uint8_t { step, ask, cancel, leave, crash, restart, end, time } what;
  std::uint32_t rank = 0;
  std::size_t place = 0;
};

class Model {
 public:
  explicit Model(const Scenario& scenario) : scenario_(&scenario), actors_(scenario.programs.size()) {
    begin_generation();
  }

  std::vector<Event> possible() const {
    using What = Event::What;
    std::vector<Event> events;
    for (std::uint32_t rank = 0; rank < actors_.size(); ++rank) {
      const Actor& actor = actors_[rank];
      const std::size_t places = program(rank).size();
      if (actor.next == Next::connect || (actor.peer != 0 && actor.next < Next::ask))
        events.push_back({What::step, rank});
      if (actor.welcomed) {
        for (std::size_t place = 0; place < places; ++place) {
          if ((actor.asked & bit(place)) == 0) events.push_back({What::ask, rank, place});
          if (((actor.open | actor.watched) & bit(place)) != 0 && cancels_ < scenario_->bounds.cancels)
            events.push_back({What::cancel, rank, place});
        }
        if (actor.asked == bit(places) - 1) events.push_back({What::leave, rank});
      }
      if (actor.peer != 0 && crashes_ < scenario_->bounds.crashes) events.push_back({What::crash, rank});
      if (actor.peer == 0 && actor.pid == 0 && (actor.generation < generation_ || crashes_ > 0))
        events.push_back({What::restart, rank});
    }
    if (!ended_ || generation_ < static_cast<std::uint32_t>(scenario_->bounds.generations))
      events.push_back({What::end});
    if (!late_ && world_->next_deadline()) events.push_back({What::time});
    return events;
  }

  void apply(const Event& event) {
    using What = Event::What;
    event_ = event;
    opened_ = changed_ = false;
    for (Actor& actor : actors_) actor.told = 0;
    switch (event.what) {
      case What::step: step(event.rank); break;
      case What::ask: ask(event.rank, event.place); break;
      case What::cancel: cancel(event.rank, event.place); break;
      case What::leave: leave(event.rank); break;
      case What::crash: crash(event.rank); break;
      case What::restart: restart(event.rank); break;
      case What::end: end(); break;
      case What::time: let_all_time_pass(); break;
    }
    check();
  }

  // All on which depends what may follow.
  std::string state() const {
    std::string text;
    for (const int value :
         {int(generation_), int(ended_), int(late_), int(failed_), int(published_), crashes_, cancels_, int(keys_)})
      text += static_cast<char>(value);
    for (const Actor& actor : actors_) {
      for (const std::uint32_t value :
           {std::uint32_t(actor.next), actor.generation, actor.pid, std::uint32_t(actor.peer != 0),
            std::uint32_t(actor.welcomed), std::uint32_t(actor.gone), actor.asked, actor.open, actor.watched})
        text += static_cast<char>(value);
    }
    WorldStateProbe::describe(
        *world_, now_, [this](PeerId peer) { return rank_of(peer); }, text);
    return text;
  }

 private:
  const std::vector<Question>& program(std::uint32_t rank) const { return scenario_->programs[rank]; }
  static unsigned key_bit(std::string_view key) { return key == "k" ? 1 : 2; }
  static bool is_watch(const Question& question) { return question.ask == Ask::watch; }

  void begin_generation() {
    ++generation_;
    ended_ = late_ = published_ = failed_ = false;
    keys_ = 0;
    std::vector<std::string> hosts(actors_.size(), "a");
    hosts.back() = "b";
    world_.emplace(WorldOptions{"job", token(), Generation{generation_}, std::move(hosts), seconds(30)});
    for (Actor& actor : actors_) {  // the server is another one
      hang_up(actor);
      actor.gone = false;
    }
  }

  static void hang_up(Actor& actor) {
    actor.gone = actor.gone || actor.welcomed;
    actor.peer = 0;
    actor.welcomed = false;
    actor.open = actor.watched = 0;
  }

  void step(std::uint32_t rank) {
    do {
      one_step(rank);
    } while (!scenario_->bounds.by_step && actors_[rank].peer != 0 && actors_[rank].next < Next::ask);
  }

  void one_step(std::uint32_t rank) {
    Actor& actor = actors_[rank];
    if (actor.next == Next::connect) {
      actor.peer = ++last_peer_;
      actor.next = Next::hello;
      return carry_out(world_->on_connect(PeerId{actor.peer}, "10.0.0.1:1", nonce(actor.peer), now_));
    }
    if (actor.next == Next::hello) {
      actor.next = Next::prove;
      say(rank, Preamble{});
      return say(rank, hello(rank));
    }
    actor.next = Next::ask;
    say(rank, Proof{token().prove(Token::Side::client, hello(rank), nonce(actor.peer))});
  }

  void ask(std::uint32_t rank, std::size_t place) {
    Actor& actor = actors_[rank];
    const Question& question = program(rank)[place];
    const auto request = static_cast<std::uint32_t>(place + 1);
    actor.asked |= bit(place);
    actor.open |= bit(place);
    const auto key = [&] { return std::string(question.key); };
    switch (question.ask) {
      case Ask::publish:
        published_ = published_ || !ended_;
        return say(rank, PublishId{request, 0, id_of(generation_)});
      case Ask::id: return say(rank, GetId{request, 0, kTimeoutMs});
      case Ask::barrier: return say(rank, Barrier{request, "b", kTimeoutMs});
      case Ask::set:
        if (!ended_) keys_ |= key_bit(question.key);
        changed_ = !ended_;
        return say(rank, Set{request, key(), value_of(question.key), {}});
      case Ask::remove:
        changed_ = !ended_ && (keys_ & key_bit(question.key)) != 0;
        if (!ended_) keys_ &= ~key_bit(question.key);
        return say(rank, Delete{request, key(), {}});
      case Ask::get: return say(rank, Get{request, key(), kTimeoutMs});
      case Ask::wait: return say(rank, Wait{request, kTimeoutMs, {"k", "l"}});
      case Ask::watch: return say(rank, Watch{request, false, key(), {}});
    }
  }

  // It may ask again.
  void cancel(std::uint32_t rank, std::size_t place) {
    Actor& actor = actors_[rank];
    ++cancels_;
    actor.open |= actor.watched & bit(place);  // a watch's end is its second answer
    actor.watched &= ~bit(place);
    say(rank, Cancel{static_cast<std::uint32_t>(place + 1)});
    must((actor.open & bit(place)) == 0, "a canceled request has no answer");
    actor.asked &= ~bit(place);
  }

  void leave(std::uint32_t rank) {
    actors_[rank].next = Next::nothing;
    say(rank, Leave{});
    must(actors_[rank].peer == 0, "who leaves is not let go");
  }

  // It loses its connection, and tries again as the same process, which may also be too late for its generation.
  void crash(std::uint32_t rank) {
    Actor& actor = actors_[rank];
    ++crashes_;
    const PeerId lost{actor.peer};
    hang_up(actor);
    actor.asked = 0;
    actor.next = Next::connect;
    carry_out(world_->on_disconnect(lost, make_error(Errc::closed, "reset"), now_));
  }

  // The launcher starts it anew, in the generation of now; after a crash or in a new generation.
  void restart(std::uint32_t rank) {
    Actor& actor = actors_[rank];
    const std::uint32_t pid = actor.pid + 1;
    const bool gone = actor.gone;
    actor = Actor{};
    actor.gone = gone;
    actor.generation = generation_;
    actor.pid = pid;
  }

  // The generation ends; at the second call of this event the next one begins.
  void end() {
    if (ended_) return begin_generation();
    ended_ = true;
    carry_out(world_->end_generation("over", now_));
  }

  void let_all_time_pass() {
    late_ = true;
    while (const auto due = world_->next_deadline()) {
      now_ = *due;
      carry_out(world_->on_tick(now_));
    }
    for (const Actor& actor : actors_) must(actor.open == 0, "the time of a request has passed, and it has no answer");
  }

  void say(std::uint32_t rank, Message message) {
    carry_out(world_->on_message(PeerId{actors_[rank].peer}, std::move(message), now_));
  }

  void carry_out(const Actions& actions) {
    for (const Action& action : actions) {
      if (const auto* sent = std::get_if<Send>(&action)) received(rank_of(sent->peer), sent->message);
      if (std::holds_alternative<FailJob>(action)) failed_ = true;
      if (const auto* closed = std::get_if<Close>(&action)) {
        const std::uint32_t rank = rank_of(closed->peer);
        actors_[rank].next = Next::nothing;
        hang_up(actors_[rank]);
      }
    }
  }

  // "Nothing is said to who was closed or has gone" is that there is one.
  std::uint32_t rank_of(PeerId peer) const {
    for (std::uint32_t rank = 0; rank < actors_.size(); ++rank)
      if (actors_[rank].peer == static_cast<std::uint64_t>(peer)) return rank;
    throw std::logic_error("something is said to a peer that is not there");
  }

  void received(std::uint32_t rank, const Message& message) {
    Actor& actor = actors_[rank];
    if (std::holds_alternative<Welcome>(message)) {
      must(actor.generation == generation_ && !ended_, "a rank is welcomed by another generation, or an ended one");
      must(!actor.welcomed, "a rank is welcomed twice");
      actor.welcomed = true;
      actor.gone = false;
    }
    if (const auto* id = std::get_if<Id>(&message)) {
      must(answered(rank, id->request).ask == Ask::id, "an id for who asked for something else");
      must(published_ && id->id == id_of(actor.generation), "an id that was not published in this generation");
    }
    if (const auto* value = std::get_if<Value>(&message)) {
      const Question& question = answered(rank, value->request);
      must(question.ask == Ask::get && (keys_ & key_bit(question.key)) != 0, "a value of a key that is not set");
      must(*value->value == value_of(question.key), "another value than the one that is set");
    }
    if (const auto* done = std::get_if<Done>(&message)) is_done(rank, done->request);
    if (const auto* deleted = std::get_if<Number>(&message)) {
      must(answered(rank, deleted->request).ask == Ask::remove, "a number for who did not ask for one");
      must(deleted->value == (changed_ ? 1 : 0), "a key that was there is said not to have been, or one that was not");
    }
    if (const auto* change = std::get_if<Change>(&message)) {
      const std::size_t place = change->request - 1;
      must((actor.watched & bit(place)) != 0, "a change for who does not watch");
      must((actor.told & bit(place)) == 0, "a change is told twice");
      must(changed_ && change->key == program(rank)[place].key, "a change that has not been");
      must(change->deleted == ((keys_ & key_bit(change->key)) == 0), "a change is told as another");
      actor.told |= bit(place);
    }
    if (const auto* failure = std::get_if<Failure>(&message)) has_failed(rank, *failure);
  }

  void is_done(std::uint32_t rank, std::uint32_t request) {
    const Question& question = answered(rank, request);
    if (question.ask == Ask::barrier) {
      must(event_.what == Event::What::ask && all_entered(), "a barrier opens that not all have entered");
      opened_ = true;
    }
    if (question.ask == Ask::wait) must(keys_ == 3, "a wait is over before all of its keys are set");
    if (question.ask == Ask::watch) actors_[rank].watched |= bit(request - 1);
  }

  void has_failed(std::uint32_t rank, const Failure& failure) {
    Actor& actor = actors_[rank];
    if (failure.request == 0) {
      if (actor.generation < generation_ && actor.next == Next::ask)  // it has proved itself
        must(failure.code == Errc::stale_generation, "a rank of an ended generation is refused for another reason");
      return;
    }
    const Requests of = bit(failure.request - 1);
    if ((actor.watched & of) != 0) {  // watches end with the generation
      actor.watched &= ~of;
      actor.open |= of;
    }
    const Ask asked = answered(rank, failure.request).ask;
    bool right = false;
    if (failure.code == Errc::canceled)
      right = event_.what == Event::What::cancel && event_.rank == rank && event_.place == failure.request - 1;
    if (failure.code == Errc::timed_out) right = late_;
    if (failure.code == Errc::generation_ended) right = ended_;
    if (failure.code == Errc::closed)
      right = asked == Ask::barrier ? is_anyone_gone() : asked == Ask::id && actors_[0].gone && !published_;
    must(right, "a request fails for what has not happened");
  }

  // The request, which is open no longer.
  const Question& answered(std::uint32_t rank, std::uint32_t request) {
    Actor& actor = actors_[rank];
    must(request >= 1 && request <= program(rank).size() && (actor.open & bit(request - 1)) != 0,
         "an answer without a question, or a second one");
    actor.open &= ~bit(request - 1);
    if (event_.what == Event::What::ask && program(rank)[request - 1].ask == Ask::barrier) entered_now_ |= bit(rank);
    return program(rank)[request - 1];
  }

  // Whether all ranks are in the barrier, those included that were let through in this event.
  bool all_entered() const {
    for (std::uint32_t rank = 0; rank < actors_.size(); ++rank)
      if ((entered_now_ & bit(rank)) == 0 && !has_open(rank, Ask::barrier)) return false;
    return true;
  }

  bool has_open(std::uint32_t rank, Ask ask) const {
    for (std::size_t place = 0; place < program(rank).size(); ++place)
      if ((actors_[rank].open & bit(place)) != 0 && program(rank)[place].ask == ask) return true;
    return false;
  }

  bool is_anyone_gone() const {
    for (const Actor& actor : actors_)
      if (actor.gone) return true;
    return false;
  }

  // Nobody is forgotten.
  void check() {
    std::size_t connected = 0, in_barrier = 0;
    for (std::uint32_t rank = 0; rank < actors_.size(); ++rank) {
      const Actor& actor = actors_[rank];
      connected += actor.peer != 0 ? 1 : 0;
      in_barrier += has_open(rank, Ask::barrier) ? 1 : 0;
      if (ended_ || failed_) must(actor.open == 0, "a request is open after the end");
      if (ended_) must(actor.watched == 0, "a watch is open after the end");
      for (std::size_t place = 0; place < program(rank).size(); ++place) {
        const Question& question = program(rank)[place];
        const unsigned wanted = question.ask == Ask::wait ? 3 : key_bit(question.key);
        if (changed_ && (actor.watched & bit(place)) != 0 && question.key == program(event_.rank)[event_.place].key)
          must((actor.told & bit(place)) != 0, "who watches is not told of a change");
        if ((actor.open & bit(place)) == 0) continue;
        switch (question.ask) {
          case Ask::publish:
          case Ask::set:
          case Ask::remove:
          case Ask::watch: must(false, "what is answered at once is not"); break;
          case Ask::id:
            must(!published_, "an id is published, and who asked for it waits");
            must(!actors_[0].gone, "an id will not be published, and who asked for it waits");
            break;
          case Ask::barrier:
            must(!opened_, "a barrier has opened, and who entered it waits");
            must(!is_anyone_gone(), "a barrier cannot open, and who entered it waits");
            break;
          case Ask::get:
          case Ask::wait: must((keys_ & wanted) != wanted, "the keys are set, and who asked for them waits"); break;
        }
      }
    }
    must(in_barrier < actors_.size(), "all have entered the barrier, and it is closed");
    must(world_->connections() == connected, "the world counts connections that are not there, or not all");
    entered_now_ = 0;
  }

  static void must(bool holds, const char* otherwise) {
    if (!holds) throw std::logic_error(otherwise);
  }

  static Bytes value_of(std::string_view key) { return Bytes(1, static_cast<std::byte>(key[0])); }

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
    made.world_size = static_cast<std::uint32_t>(actors_.size());
    made.host = rank + 1 < actors_.size() ? "a" : "b";
    made.pid = 100 * rank + actors_[rank].pid;
    return made;
  }

  const Scenario* scenario_;
  std::optional<WorldState> world_;
  std::vector<Actor> actors_;
  TimePoint now_{};
  std::uint32_t generation_ = 0;
  std::uint64_t last_peer_ = 0;
  int crashes_ = 0, cancels_ = 0;
  bool ended_ = false, late_ = false, published_ = false, failed_ = false;
  unsigned keys_ = 0;  // that are set
  // Of the event that is going on.
  Event event_{};
  bool opened_ = false, changed_ = false;
  Requests entered_now_ = 0;  // ranks
};

class Exploration {
 public:
  explicit Exploration(std::size_t all_orders) : all_orders_(all_orders) {}

  // Every order of events from here on.
  void from(const Model& model) {
    deepest = std::max(deepest, path_.size());
    for (const Event& event : model.possible()) {
      Model next = model;
      path_.push_back(event);
      ++events;
      bool fresh = path_.size() <= all_orders_;
      guarded([&] {
        next.apply(event);
        fresh = fresh || seen_.insert(next.state()).second;
      });
      if (fresh) from(next);
      path_.pop_back();
    }
  }

  std::size_t states() const { return seen_.size(); }
  std::size_t events = 0;
  std::size_t deepest = 0;

 private:
  // Says by which events it came to what must not be.
  template <class Function>
  void guarded(Function function) {
    try {
      function();
    } catch (const std::exception& broken) {
      constexpr std::array kNames = {"step", "ask", "cancel", "leave", "crash", "restart", "end", "time"};
      std::string path;
      for (const Event& event : path_)
        path += fmt::format(" {}({},{})", kNames[static_cast<std::size_t>(event.what)], event.rank, event.place);
      FAIL(broken.what() << " after" << path);
    }
  }

  std::size_t all_orders_;
  std::vector<Event> path_;
  std::unordered_set<std::string> seen_;
};

}  // namespace

TEST_CASE("a few ranks, cancels, crashes and a restart: what must hold does in every order of events") {
  for (const Scenario& scenario : scenarios()) {
    INFO(scenario.name);
    Exploration exploration(scenario.bounds.all_orders);
    exploration.from(Model(scenario));
    INFO(exploration.states() << " states, " << exploration.events << " events, at most " << exploration.deepest
                              << " on a path");
    CHECK(exploration.states() > scenario.bounds.least_states);
  }
}

}  // namespace rendezvous_exploration_test
