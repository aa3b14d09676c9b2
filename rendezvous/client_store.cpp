// A client's calls for the store: each is one request to the server and its answer.
#include <fmt/format.h>

#include <utility>

#include "rendezvous/client.hpp"
#include "rendezvous/client_impl.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {

using std::chrono::milliseconds;

Result<void> Client::set(std::string_view key, ByteView value) {
  if (auto fits = check_key(key); !fits) return fits;
  if (auto fits = check_value(key, value.size()); !fits) return fits;
  Set request;
  request.key = key;
  request.value.assign(value.begin(), value.end());
  return impl_->post(std::move(request), "setting key " + quoted(key));
}

Result<Bytes> Client::get(std::string_view key) {
  return get(key, impl_->options().timeout);
}

Result<Bytes> Client::get(std::string_view key, milliseconds timeout) {
  if (auto fits = check_key(key); !fits) return fits.error();
  Get request;
  request.key = key;
  request.timeout_ms = to_ms(timeout);
  const auto value = impl_->ask_for<Value>(std::move(request), timeout, "the request for key " + quoted(key));
  if (!value) return value.error();
  return *value->value;
}

Result<void> Client::wait(const std::vector<std::string>& keys, milliseconds timeout) {
  std::size_t bytes = 0;
  for (const std::string& key : keys) {
    if (auto fits = check_key(key); !fits) return fits;
    bytes += key.size() + sizeof(std::uint32_t);
  }
  if (keys.size() > kMaxWaitKeys || bytes > kMaxValueBytes) {
    return make_error(Errc::too_large, fmt::format("waiting for {} keys of {} bytes; the limits are {} and {}",
                                                   keys.size(), bytes, kMaxWaitKeys, kMaxValueBytes));
  }
  Wait request;
  request.timeout_ms = to_ms(timeout);
  request.keys = keys;
  const auto answer = impl_->ask(std::move(request), timeout, fmt::format("waiting for {} keys", keys.size()));
  if (!answer) return answer.error();
  return ok;
}

Result<std::int64_t> Client::add(std::string_view key, std::int64_t delta, Keyspace keyspace) {
  if (auto known = impl_->knows(keyspace); !known) return known.error();
  if (auto fits = check_key(key); !fits) return fits.error();
  Add request;
  request.key = key;
  request.delta = delta;
  request.keyspace = keyspace;
  const auto sum = impl_->ask_for<Number>(std::move(request), impl_->options().timeout, "adding to key " + quoted(key));
  if (!sum) return sum.error();
  return sum->value;
}

Result<CompareResult> Client::compare_and_set(std::string_view key, std::optional<ByteView> expected, ByteView value) {
  if (auto known = impl_->needs_minor(1, "compare-and-set"); !known) return known.error();
  if (auto fits = check_key(key); !fits) return fits.error();
  const std::size_t both = value.size() + (expected ? expected->size() : 0);
  if (auto fits = check_value(key, both); !fits) return fits.error();  // both travel in one message
  CompareSet request;
  request.key = key;
  if (expected) request.expected.emplace(expected->begin(), expected->end());
  request.value.assign(value.begin(), value.end());
  const auto answer =
      impl_->ask_for<Compared>(std::move(request), impl_->options().timeout, "comparing key " + quoted(key));
  if (!answer) return answer.error();
  CompareResult result;
  result.swapped = answer->swapped;
  if (!answer->swapped && answer->exists) result.found = answer->value ? *answer->value : Bytes();
  return result;
}

Result<std::uint64_t> Client::append(std::string_view key, ByteView value) {
  if (auto known = impl_->needs_minor(1, "append"); !known) return known.error();
  if (auto fits = check_key(key); !fits) return fits.error();
  if (auto fits = check_value(key, value.size()); !fits) return fits.error();
  Append request;
  request.key = key;
  request.value.assign(value.begin(), value.end());
  const auto size =
      impl_->ask_for<Number>(std::move(request), impl_->options().timeout, "appending to key " + quoted(key));
  if (!size) return size.error();
  return static_cast<std::uint64_t>(size->value);
}

Result<bool> Client::remove(std::string_view key, Keyspace keyspace) {
  if (auto known = impl_->knows(keyspace); !known) return known.error();
  if (auto known = impl_->needs_minor(1, "delete"); !known) return known.error();
  if (auto fits = check_key(key); !fits) return fits.error();
  Delete request;
  request.key = key;
  request.keyspace = keyspace;
  const auto count =
      impl_->ask_for<Number>(std::move(request), impl_->options().timeout, "deleting key " + quoted(key));
  if (!count) return count.error();
  return count->value != 0;
}

Result<KeyPage> Client::list(std::string_view prefix, std::string_view after, std::uint32_t limit) {
  if (auto known = impl_->needs_minor(1, "list"); !known) return known.error();
  if (auto fits = check_prefix(prefix); !fits) return fits.error();
  if (auto fits = check_prefix(after); !fits) return fits.error();
  List request;
  request.prefix = prefix;
  request.after = after;
  request.limit = limit;
  auto keys = impl_->ask_for<Keys>(std::move(request), impl_->options().timeout, "listing prefix " + quoted(prefix));
  if (!keys) return keys.error();
  return KeyPage{std::move(keys->keys), keys->more};
}

Result<void> Client::put(std::string_view key, ByteView value, Keyspace keyspace) {
  if (auto known = impl_->knows(keyspace); !known) return known;
  if (auto fits = check_key(key); !fits) return fits;
  if (auto fits = check_value(key, value.size()); !fits) return fits;
  Set request;
  request.key = key;
  request.value.assign(value.begin(), value.end());
  request.keyspace = keyspace;
  const auto stored = impl_->ask_for<Done>(std::move(request), impl_->options().timeout, "setting key " + quoted(key));
  if (!stored) return stored.error();
  return ok;
}

Result<std::optional<Bytes>> Client::peek(std::string_view key, Keyspace keyspace) {
  if (auto known = impl_->needs_minor(2, "look at a key"); !known) return known.error();
  if (auto fits = check_key(key); !fits) return fits.error();
  Peek request;
  request.keyspace = keyspace;
  request.key = key;
  const auto value =
      impl_->ask_for<Value>(std::move(request), impl_->options().timeout, "looking at key " + quoted(key));
  if (value) return std::optional<Bytes>(*value->value);
  if (value.error().code == Errc::not_found) return std::optional<Bytes>();
  return value.error();
}

Result<EntryPage> Client::entries(std::string_view prefix, std::string_view after, Keyspace keyspace) {
  if (auto known = impl_->needs_minor(2, "list with sizes"); !known) return known.error();
  if (auto fits = check_prefix(prefix); !fits) return fits.error();
  if (auto fits = check_prefix(after); !fits) return fits.error();
  Entries request;
  request.keyspace = keyspace;
  request.prefix = prefix;
  request.after = after;
  request.limit = kMaxListKeys;
  auto sizes = impl_->ask_for<Sizes>(std::move(request), impl_->options().timeout, "listing prefix " + quoted(prefix));
  if (!sizes) return sizes.error();
  return EntryPage{std::move(sizes->entries), sizes->more};
}

}  // namespace llmlaunch::rendezvous
