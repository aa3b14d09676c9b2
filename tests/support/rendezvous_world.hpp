/// \file
/// A `WorldState` as tests drive it: whole handshakes in one call, actions as lines of text, time as a number.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "rendezvous/world_state.hpp"
#include "tests/support/catch.hpp"

namespace llmlaunch::rendezvous {

using std::chrono::milliseconds;
using std::chrono::seconds;

inline const Token kToken = *Token::parse("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
inline const Token kOther = *Token::parse(std::string(64, '1'));

// One line per action, as a test reads it.
inline std::string shown(const Message& message) {
  struct Shower {
    std::string operator()(const Challenge&) const { return "challenge"; }
    std::string operator()(const Welcome&) const { return "welcome"; }
    std::string operator()(const Done& m) const { return "done " + std::to_string(m.request); }
    std::string operator()(const Value& m) const {
      return "value " + std::to_string(m.request) + " " + std::string(as_text(*m.value));
    }
    std::string operator()(const Number& m) const {
      return "number " + std::to_string(m.request) + " " + std::to_string(m.value);
    }
    std::string operator()(const Id& m) const {
      return "id " + std::to_string(m.request) + " " + std::to_string(std::to_integer<int>(m.id[0]));
    }
    std::string operator()(const Failure& m) const {
      const std::string hint = m.hint.empty() ? "" : " | " + m.hint;
      return "failure " + std::to_string(m.request) + " " + make_error_code(m.code).message() + ": " + m.what + hint;
    }
    std::string operator()(const Compared& m) const {
      const std::string instead = m.exists && !m.swapped ? " " + std::string(as_text(*m.value)) : "";
      return "compared " + std::to_string(m.request) + (m.swapped ? " swapped" : " kept") + instead;
    }
    std::string operator()(const Keys& m) const {
      std::string text = "keys " + std::to_string(m.request);
      for (const std::string& key : m.keys) text += " " + key;
      return text + (m.more ? " …" : "");
    }
    std::string operator()(const Change& m) const {
      const std::string now = m.deleted ? " deleted" : "=" + std::string(as_text(*m.value));
      return "change " + std::to_string(m.request) + " " + m.key + now;
    }
    std::string operator()(const Sizes& m) const {
      std::string text = "sizes " + std::to_string(m.request);
      for (const StoreEntry& entry : m.entries) {
        text += " " + entry.key + ":" + std::to_string(entry.bytes);
        if (entry.queued > 0) text += "/" + std::to_string(entry.queued);
      }
      return text + (m.more ? " …" : "");
    }
    std::string operator()(const Ended& m) const {
      return "ended " + std::to_string(number(m.generation)) + " " + m.reason;
    }
    std::string operator()(const Preamble&) const { return "?"; }
    std::string operator()(const Hello&) const { return "?"; }
    std::string operator()(const Proof&) const { return "?"; }
    std::string operator()(const PublishId&) const { return "?"; }
    std::string operator()(const GetId&) const { return "?"; }
    std::string operator()(const Set&) const { return "?"; }
    std::string operator()(const Get&) const { return "?"; }
    std::string operator()(const Wait&) const { return "?"; }
    std::string operator()(const Add&) const { return "?"; }
    std::string operator()(const Barrier&) const { return "?"; }
    std::string operator()(const CompareSet&) const { return "?"; }
    std::string operator()(const Append&) const { return "?"; }
    std::string operator()(const Delete&) const { return "?"; }
    std::string operator()(const List&) const { return "?"; }
    std::string operator()(const Watch&) const { return "?"; }
    std::string operator()(const Peek&) const { return "?"; }
    std::string operator()(const Entries&) const { return "?"; }
    std::string operator()(const Cancel&) const { return "?"; }
    std::string operator()(const Leave&) const { return "?"; }
    std::string operator()(const Unknown&) const { return "?"; }
  };
  return std::visit(Shower{}, message);
}

using Lines = std::vector<std::string>;

inline Lines shown(const Actions& actions) {
  Lines lines;
  for (const Action& action : actions) {
    if (const auto* sent = std::get_if<Send>(&action)) {
      lines.push_back(std::to_string(static_cast<std::uint64_t>(sent->peer)) + ": " + shown(sent->message));
    } else if (const auto* closed = std::get_if<Close>(&action)) {
      lines.push_back(std::to_string(static_cast<std::uint64_t>(closed->peer)) + ": close" +
                      (closed->reason ? " " + to_string(*closed->reason) : ""));
    } else if (const auto* lost = std::get_if<RankLost>(&action)) {
      lines.push_back("lost rank " + std::to_string(number(lost->rank)));
    } else if (const auto* asked = std::get_if<AskPyTorch>(&action)) {
      lines.push_back(std::to_string(static_cast<std::uint64_t>(asked->peer)) + " asks PyTorch's store");
    } else if (const auto* failed = std::get_if<FailJob>(&action)) {
      lines.push_back("fail " + failed->reason.what);
    } else {
      lines.push_back("complete");
    }
  }
  return lines;
}

// A world of 4 ranks on two hosts. Peer ids in the tests are rank + 1 unless said otherwise.
struct World {
  explicit World(std::vector<std::string> hosts = {"gpu01", "gpu01", "gpu02", "gpu02"}, bool pytorch = false)
      : size(static_cast<std::uint32_t>(hosts.size())),
        state({"job", kToken, Generation{2}, std::move(hosts), seconds(30), pytorch}) {}

  Hello hello(std::uint32_t rank) const {
    Hello m;
    m.job_id = "job";
    m.generation = Generation{2};
    m.rank = Rank{rank};
    m.world_size = size;
    m.host = rank < 2 ? "gpu01" : "gpu02";
    m.pid = 100 + rank;
    return m;
  }

  // The whole handshake; what the world said after the challenge.
  Lines enter(std::uint64_t peer, const Hello& m, const Token& token = kToken) {
    Nonce nonce{};
    nonce[0] = static_cast<std::byte>(peer);
    REQUIRE(shown(state.on_connect(PeerId{peer}, "10.0.0.9:5", nonce, now)).empty());
    REQUIRE(state.on_message(PeerId{peer}, Preamble{}, now).empty());
    REQUIRE(shown(state.on_message(PeerId{peer}, m, now)) == Lines{std::to_string(peer) + ": challenge"});
    return shown(state.on_message(PeerId{peer}, Proof{token.prove(Token::Side::client, m, nonce)}, now));
  }
  Lines enter(std::uint32_t rank) { return enter(rank + 1, hello(rank)); }
  // An observer, as peer `peer`.
  Lines look_in(std::uint64_t peer) {
    Hello m = hello(0);
    m.rank = kNoRank;
    m.world_size = 0;
    m.host = "desk";
    return enter(peer, m);
  }
  void enter_all() {
    for (std::uint32_t rank = 0; rank < size; ++rank) enter(rank);
    REQUIRE(state.joined() == size);
  }
  Lines say(std::uint64_t peer, Message message) {
    return shown(state.on_message(PeerId{peer}, std::move(message), now));
  }
  Lines lose(std::uint64_t peer) {
    return shown(state.on_disconnect(PeerId{peer}, make_error(Errc::closed, "reset"), now));
  }
  Lines after(milliseconds time) {
    now += time;
    return shown(state.on_tick(now));
  }

  std::uint32_t size;
  TimePoint now{};
  WorldState state;
};

inline Bytes bytes_of(std::string_view text) {
  const ByteView bytes = as_bytes(text);
  return Bytes(bytes.begin(), bytes.end());
}

inline UniqueId id_of(int first) {
  UniqueId id{};
  id[0] = static_cast<std::byte>(first);
  return id;
}

}  // namespace llmlaunch::rendezvous
