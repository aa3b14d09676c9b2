// TCPStore's keys for those who look into a job: requests of the native dialect, answered as the native store answers
// its own. Listing goes through all keys: a person asks for it now and then, and ranks should not pay for an order.
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "rendezvous/tcpstore_state.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous::tcpstore {
namespace {

Failure refusal(std::uint32_t request, const Error& error) {
  return Failure{request, static_cast<Errc>(error.code.value()), error.what, error.hint};
}

// Behind `after`, and of the first so many only.
class EntryChoice {
 public:
  EntryChoice(const Entries& asked, std::size_t most) : asked_(asked), most_(most) {}

  template <class Keyed>
  void consider(const Keyed& keyed) {
    for (const auto& [key, value] : keyed)
      if (key > asked_.after && key.starts_with(asked_.prefix)) keys_.push_back(&key);
  }
  /// In order, and whether there are more.
  std::pair<std::vector<const std::string*>, bool> take() {
    const auto before = [](const std::string* a, const std::string* b) { return *a < *b; };
    const std::size_t count = std::min(most_, keys_.size());
    const auto end = keys_.begin() + static_cast<std::ptrdiff_t>(count);
    std::partial_sort(keys_.begin(), end, keys_.end(), before);
    const bool more = end != keys_.end();
    keys_.erase(end, keys_.end());
    return {std::move(keys_), more};
  }

 private:
  const Entries& asked_;
  std::size_t most_;
  std::vector<const std::string*> keys_;
};

}  // namespace

std::pair<Message, StoreActions> State::on_request(Message request) {
  Message reply = std::visit(
      [this](auto& asked) -> Message {
        if constexpr (requires { reply_to(asked); })
          return reply_to(asked);
        else if constexpr (requires { asked.request; })
          return Failure{asked.request, Errc::unsupported, "PyTorch's store has no such request", {}};
        else
          return Failure{0, Errc::protocol, "a message that is no request", {}};
      },
      request);
  return {std::move(reply), take_actions()};
}

Message State::reply_to(Set& request) {
  if (const auto fits = check_key(request.key); !fits) return refusal(request.request, fits.error());
  if (const auto fits = check_value(request.key, request.value.size()); !fits)
    return refusal(request.request, fits.error());
  if (const auto stored = put(request.key, std::move(request.value)); !stored)
    return refusal(request.request, stored.error());
  return Done{request.request};
}

Message State::reply_to(Add& request) {
  if (const auto fits = check_key(request.key); !fits) return refusal(request.request, fits.error());
  const auto sum = sum_of(request.key, request.delta);
  if (!sum) return refusal(request.request, sum.error());
  const std::string text = fmt::to_string(*sum);
  const ByteView bytes = as_bytes(text);
  if (const auto stored = put(request.key, Bytes(bytes.begin(), bytes.end())); !stored)
    return refusal(request.request, stored.error());
  return Number{request.request, *sum};
}

Message State::reply_to(Delete& request) {
  if (const auto fits = check_key(request.key); !fits) return refusal(request.request, fits.error());
  return Number{request.request, erase(request.key) ? 1 : 0};
}

Message State::reply_to(Peek& request) {
  if (const auto fits = check_key(request.key); !fits) return refusal(request.request, fits.error());
  if (const auto found = values_.find(request.key); found != values_.end())
    return rendezvous::Value{request.request, found->second};
  if (const auto found = queues_.find(request.key); found != queues_.end())
    return Failure{request.request,
                   Errc::invalid_argument,  // `unsupported` says that the whole store is not there
                   fmt::format("key {} is a queue of {} values, which belong to who takes them out",
                               quoted(request.key), found->second.size()),
                   {}};
  return Failure{request.request, Errc::not_found, fmt::format("key {} is not set", quoted(request.key)), {}};
}

Message State::reply_to(Entries& request) {
  for (const std::string* text : {&request.prefix, &request.after}) {
    if (const auto fits = check_prefix(*text); !fits) return refusal(request.request, fits.error());
  }
  EntryChoice choice(request, std::clamp<std::size_t>(request.limit, 1, kMaxListKeys));
  choice.consider(values_);
  choice.consider(queues_);
  const auto [keys, more] = choice.take();
  Sizes reply{request.request, more, {}};
  std::size_t bytes = 0;
  for (const std::string* key : keys) {
    bytes += key->size();
    reply.more = more || (!reply.entries.empty() && bytes > kMaxListBytes);
    if (!reply.entries.empty() && bytes > kMaxListBytes) break;
    StoreEntry entry{*key, 0, 0};
    if (const auto value = values_.find(*key); value != values_.end()) {
      entry.bytes = value->second->size();
    } else {
      const auto& queue = queues_.at(*key);
      for (const auto& queued : queue) entry.bytes += queued->size();
      entry.queued = static_cast<std::uint32_t>(queue.size());
    }
    // A key may be both: PyTorch keeps them apart. Its value is what a get gives.
    if (!reply.entries.empty() && reply.entries.back().key == *key) continue;
    reply.entries.push_back(std::move(entry));
  }
  return reply;
}

}  // namespace llmlaunch::rendezvous::tcpstore
