// Who may enter, who is here, who has gone: connections, handshake, admission, the join deadline and the end of the
// generation. What admitted ranks ask for is in world_requests.cpp.
#include "rendezvous/world_state.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

std::string host_or(const std::string& host, const std::string& address) {
  return host.empty() ? address : host;
}

}  // namespace

// Observers share the store as one more rank would.
WorldState::WorldState(WorldOptions options)
    : options_(std::move(options)), slots_(options_.hosts.size()), store_(slots_.size() + 1) {
  assert(!options_.hosts.empty());
}

Actions WorldState::on_connect(PeerId id, std::string address, const Nonce& nonce, TimePoint now) {
  if (peers_.size() >= max_connections()) {
    const Error full = make_error(Errc::out_of_resources,
                                  fmt::format("the rendezvous serves {} connections, its limit", max_connections()));
    if (handshakes_.empty()) {
      send(id, Failure{0, Errc::out_of_resources, full.what, {}});
      out_.push_back(Close{id, make_error(Errc::out_of_resources, full.what, address)});
      return take_actions();
    }
    reject(*handshakes_.begin(), full);
  }
  Peer peer;
  peer.address = std::move(address);
  peer.nonce = nonce;
  peer.handshake_deadline = now + kHandshakeTimeout;
  peers_.emplace(id, std::move(peer));
  handshakes_.insert(id);
  return take_actions();
}

Actions WorldState::on_message(PeerId id, Message message, TimePoint now) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return {};  // closed already; its last bytes were still on the way
  if (found->second.step == Step::admitted)
    serve(id, found->second, message, now);
  else
    handshake(id, found->second, message, now);
  return take_actions();
}

Actions WorldState::on_malformed(PeerId id, const Error& error, TimePoint) {
  if (peers_.contains(id)) reject(id, error);
  return take_actions();
}

Actions WorldState::on_disconnect(PeerId id, const Error& reason, TimePoint) {
  if (peers_.contains(id)) remove(id, Presence::lost, reason);
  return take_actions();
}

Actions WorldState::on_tick(TimePoint now) {
  while (!handshakes_.empty() && peers_.at(*handshakes_.begin()).handshake_deadline <= now) {
    reject(*handshakes_.begin(),
           make_error(Errc::timed_out, fmt::format("no handshake within {}", name_duration(kHandshakeTimeout))));
  }
  if (join_deadline_ && *join_deadline_ <= now) miss_join_deadline();
  TimeoutWords words;
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const OpenId due = deadlines_.begin()->second;
    const Error error = timeout_error(open_.at(due), words);
    const Open open = take(due);
    fail(open.peer, open.request, error);
  }
  return take_actions();
}

Actions WorldState::on_rank_ended(Rank rank) {
  if (slots_[number(rank)].presence != Presence::absent || end_reason_) return {};
  ended_unjoined_.insert(rank);
  const auto waits = [](const auto& open) {
    return open.second.rank != kNoRank && !std::holds_alternative<ForChanges>(open.second.subject);
  };
  if (std::any_of(open_.begin(), open_.end(), waits)) give_up_on_ended();
  return take_actions();
}

Actions WorldState::end_generation(std::string reason, TimePoint) {
  if (end_reason_) return {};
  end_reason_ = std::move(reason);
  join_deadline_.reset();
  fail_all_open(make_error(Errc::generation_ended,
                           fmt::format("generation {} has ended: {}", number(options_.generation), *end_reason_)));
  for (const auto& [id, peer] : peers_) {
    if (peer.step == Step::admitted) send(id, Ended{options_.generation, *end_reason_});
  }
  return take_actions();
}

std::optional<TimePoint> WorldState::next_deadline() const {
  std::optional<TimePoint> next = join_deadline_;
  const auto consider = [&next](TimePoint deadline) { next = next ? std::min(*next, deadline) : deadline; };
  if (!handshakes_.empty()) consider(peers_.at(*handshakes_.begin()).handshake_deadline);
  if (!deadlines_.empty()) consider(deadlines_.begin()->first);
  return next;
}

bool WorldState::is_admitted(PeerId id) const {
  const auto found = peers_.find(id);
  return found != peers_.end() && found->second.step == Step::admitted;
}

void WorldState::handshake(PeerId id, Peer& peer, Message& message, TimePoint now) {
  if (peer.step == Step::expects_preamble) {
    if (const auto* preamble = std::get_if<Preamble>(&message)) {
      if (preamble->version == kProtocolVersion) {
        peer.step = Step::expects_hello;
        return;
      }
      return reject(id, make_error(Errc::version_mismatch,
                                   fmt::format("the client speaks version {} of the rendezvous protocol, the server "
                                               "version {}",
                                               preamble->version, kProtocolVersion),
                                   {}, "use the same llmlaunch on the head and in the program"));
    }
  } else if (peer.step == Step::expects_hello) {
    if (auto* hello = std::get_if<Hello>(&message)) {
      peer.hello = std::move(*hello);
      peer.step = Step::expects_proof;
      const ProofBytes proof = options_.token.prove(Token::Side::server, peer.hello, peer.nonce);
      return send(id, Challenge{peer.nonce, proof});
    }
  } else if (const auto* proof = std::get_if<Proof>(&message)) {
    if (options_.token.verify(proof->proof, Token::Side::client, peer.hello, peer.nonce)) return admit(id, peer, now);
    return reject(id, make_error(Errc::unauthenticated, "the client does not hold the token of the job served here", {},
                                 "a rank of another job, or of an earlier run, may have this address"));
  }
  reject(id, make_error(Errc::protocol, "a message out of turn in the handshake"));
}

// The peer holds the token, so it may learn why it cannot enter.
void WorldState::admit(PeerId id, Peer& peer, TimePoint now) {
  if (const auto error = objection(peer.hello, peer)) return reject(id, *error);
  if (const auto error = peer.hello.rank == kNoRank ? std::nullopt : nccl_objection(peer.hello)) {
    reject(id, *error);
    return give_up(*error);
  }
  const Hello& hello = peer.hello;
  if (hello.rank == kNoRank) {
    ++observers_;
    peer.step = Step::admitted;
    handshakes_.erase(id);
    return send(id, Welcome{});
  }
  if (hello.nccl_version != 0 && !nccl_reference_) {
    nccl_reference_ = hello.rank;
    nccl_version_ = hello.nccl_version;
  }
  Slot& slot = slots_[number(hello.rank)];
  ended_unjoined_.erase(hello.rank);  // another process of it lives
  if (slot.presence == Presence::absent)
    ++joined_;
  else
    --gone_;
  slot = Slot{Presence::present, id, hello.pid, host_or(hello.host, peer.address)};
  peer.step = Step::admitted;
  handshakes_.erase(id);
  send(id, Welcome{});
  if (joined_ == 1 && !join_deadline_ && !complete_) join_deadline_ = now + options_.join_timeout;
  if (joined_ == slots_.size() && !complete_) {
    complete_ = true;
    join_deadline_.reset();
    out_.push_back(Complete{});
  }
}

std::optional<Error> WorldState::objection(const Hello& hello, const Peer& peer) const {
  const auto refuse = [](Errc code, std::string what) { return make_error(code, std::move(what)); };
  const std::uint32_t rank = number(hello.rank);
  const bool observer = hello.rank == kNoRank;
  const std::string me = name_peer(peer);
  if (hello.job_id != options_.job_id) {
    return refuse(Errc::wrong_world, fmt::format("{} belongs to job {}, this rendezvous serves job {}", me,
                                                 quoted(hello.job_id), quoted(options_.job_id)));
  }
  if (hello.generation < options_.generation) {
    return refuse(Errc::stale_generation,
                  fmt::format("{} belongs to generation {}, which has ended; this is generation {}", me,
                              number(hello.generation), number(options_.generation)));
  }
  if (hello.generation > options_.generation) {
    return refuse(Errc::wrong_world, fmt::format("{} belongs to generation {}, this is generation {}", me,
                                                 number(hello.generation), number(options_.generation)));
  }
  if (!observer && hello.world_size != slots_.size()) {
    return refuse(Errc::wrong_world,
                  fmt::format("{} expects a world of {} ranks, this job has {}", me, hello.world_size, slots_.size()));
  }
  if (!observer && rank >= slots_.size()) {
    return refuse(Errc::wrong_world,
                  fmt::format("{} is no rank of this job: its ranks are 0-{}", me, slots_.size() - 1));
  }
  if (end_reason_) {
    return refuse(Errc::stale_generation, fmt::format("{} comes too late: generation {} has ended: {}", me,
                                                      number(options_.generation), *end_reason_));
  }
  if (observer) {
    if (observers_ < kMaxObservers) return std::nullopt;
    return refuse(Errc::out_of_resources,
                  fmt::format("{} is one too many: {} observers are here, the limit", me, observers_));
  }
  const Slot& slot = slots_[rank];
  if (slot.presence == Presence::present) {
    return refuse(Errc::duplicate_rank,
                  fmt::format("{}, pid {}, joins as rank {}, but {}, pid {}, already has",
                              host_or(hello.host, peer.address), hello.pid, rank, slot.host, slot.pid));
  }
  if (slot.presence == Presence::lost && slot.pid != hello.pid) {
    return refuse(Errc::refused, fmt::format("{}, pid {}, comes in place of pid {}, which lost its connection; a lost "
                                             "rank is replaced in a new generation only",
                                             me, hello.pid, slot.pid));
  }
  if (failed_)
    return refuse(static_cast<Errc>(failed_->code.value()), fmt::format("{} cannot join: {}", me, failed_->what));
  return std::nullopt;
}

std::string WorldState::name_peer(const Peer& peer) const {
  const std::string host = host_or(peer.hello.host, peer.address);
  return peer.hello.rank == kNoRank ? fmt::format("an observer ({})", host) : name_rank(peer.hello.rank, host);
}

std::optional<Error> WorldState::nccl_objection(const Hello& hello) const {
  if (hello.nccl_version == 0 || !nccl_reference_ || hello.nccl_version == nccl_version_) return std::nullopt;
  const Slot& reference = slots_[number(*nccl_reference_)];
  return make_error(Errc::version_mismatch,
                    fmt::format("{} has NCCL {}, but {} has NCCL {}",
                                name_rank(hello.rank, host_or(hello.host, served_host(hello.rank))),
                                name_nccl_version(hello.nccl_version), name_rank(*nccl_reference_, reference.host),
                                name_nccl_version(nccl_version_)),
                    {}, "all ranks must load the same version of NCCL: compare libnccl.so.2 on both hosts");
}

void WorldState::reject(PeerId id, const Error& error) {
  const auto found = peers_.find(id);
  if (found == peers_.end()) return;
  fail(id, 0, error);
  Error reason = error;
  reason.where = found->second.address;
  out_.push_back(Close{id, reason});
  remove(id, Presence::lost, reason);
}

// Takes the peer out of everything: its held requests, its slot, and what others hoped from it.
void WorldState::remove(PeerId id, Presence presence, const Error& reason) {
  Peer peer = std::move(peers_.at(id));
  handshakes_.erase(id);
  while (!peer.open.empty()) {
    const OpenId open = peer.open.begin()->second;
    peer.open.erase(peer.open.begin());
    take(open);
  }
  peers_.erase(id);
  if (peer.step != Step::admitted) return;

  const Rank rank = peer.hello.rank;
  if (rank == kNoRank) {
    --observers_;
    return;
  }
  slots_[number(rank)].presence = presence;
  ++gone_;
  if (end_reason_) return;  // everybody goes now
  if (presence == Presence::lost) out_.push_back(RankLost{rank, reason});
  fail_hopes_on(rank);
}

void WorldState::miss_join_deadline() {
  const std::vector<Rank> missing = missing_ranks();
  give_up(make_error(Errc::timed_out,
                     fmt::format("{} {} not joined within {}", name_ranks(missing, options_.hosts),
                                 missing.size() == 1 ? "has" : "have", name_duration(options_.join_timeout))));
}

void WorldState::give_up_on_ended() {
  if (failed_) return;
  const std::vector<Rank> ended(ended_unjoined_.begin(), ended_unjoined_.end());
  give_up(make_error(Errc::closed,
                     fmt::format("{} {} ended without having joined", name_ranks(ended, options_.hosts),
                                 ended.size() == 1 ? "has" : "have"),
                     {}, "all ranks join, or none: does each run the same program with the same arguments?"));
}

// The world will not be whole: tells those who wait, and from now on those who would.
void WorldState::give_up(const Error& error) {
  if (failed_) return;
  failed_ = error;
  join_deadline_.reset();
  fail_all_open(error);
  out_.push_back(FailJob{error});
}

std::vector<Rank> WorldState::missing_ranks() const {
  std::vector<Rank> missing;
  for (std::uint32_t rank = 0; rank < slots_.size(); ++rank) {
    if (slots_[rank].presence == Presence::absent) missing.push_back(Rank{rank});
  }
  return missing;
}

}  // namespace llmlaunch::rendezvous
