// A rank's calls: each is one request to the server and its answer. How they get there is client_link.cpp's, how the
// rank was admitted client_join.cpp's.
#include "rendezvous/client.hpp"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "rendezvous/auth.hpp"
#include "rendezvous/client_join.hpp"
#include "rendezvous/client_link.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
namespace {

using std::chrono::milliseconds;

std::uint32_t to_ms(milliseconds timeout) {
  return static_cast<std::uint32_t>(bounded(timeout).count());
}

}  // namespace

struct Client::Impl : ClientLink {
  using ClientLink::ClientLink;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Client>> Client::join(const ClientOptions& options) {
  const auto token = Token::parse(options.token);
  if (!token) return token.error();
  if (options.job_id.size() > kMaxNameBytes || options.host.size() > kMaxNameBytes) {
    return make_error(Errc::too_large, fmt::format("job id and host name may have {} bytes; these have {} and {}",
                                                   kMaxNameBytes, options.job_id.size(), options.host.size()));
  }
  auto joined = join_until_deadline(options, *token);
  if (!joined) return joined.error();
  ClientOptions kept = options;
  kept.token.clear();
  return std::unique_ptr<Client>(new Client(std::make_unique<Impl>(std::move(kept), std::move(*joined))));
}

Client::~Client() = default;

const ClientOptions& Client::options() const {
  return impl_->options();
}

Result<void> Client::publish_unique_id(std::uint32_t index, const UniqueId& id) {
  PublishId request;
  request.index = index;
  request.id = id;
  const auto answer = impl_->ask(request, impl_->options().timeout, fmt::format("publishing unique id {}", index));
  if (!answer) return answer.error();
  return ok;
}

Result<UniqueId> Client::unique_id(std::uint32_t index) {
  GetId request;
  request.index = index;
  request.timeout_ms = to_ms(impl_->options().timeout);
  const auto answer = impl_->ask(request, impl_->options().timeout, fmt::format("the request for unique id {}", index));
  if (!answer) return answer.error();
  if (const auto* id = std::get_if<Id>(&*answer)) return id->id;
  return make_error(Errc::protocol, "the server answered with another type", where_of(impl_->options()));
}

Result<void> Client::set(std::string_view key, ByteView value) {
  if (auto fits = check_key(key); !fits) return fits;
  if (auto fits = check_value(key, value.size()); !fits) return fits;
  Set request;
  request.key = key;
  request.value.assign(value.begin(), value.end());
  const auto answer = impl_->ask(std::move(request), impl_->options().timeout, "setting key " + quoted(key));
  if (!answer) return answer.error();
  return ok;
}

Result<Bytes> Client::get(std::string_view key) {
  return get(key, impl_->options().timeout);
}

Result<Bytes> Client::get(std::string_view key, milliseconds timeout) {
  if (auto fits = check_key(key); !fits) return fits.error();
  Get request;
  request.key = key;
  request.timeout_ms = to_ms(timeout);
  const auto answer = impl_->ask(std::move(request), timeout, "the request for key " + quoted(key));
  if (!answer) return answer.error();
  if (const auto* value = std::get_if<Value>(&*answer)) return *value->value;
  return make_error(Errc::protocol, "the server answered with another type", where_of(impl_->options()));
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

Result<std::int64_t> Client::add(std::string_view key, std::int64_t delta) {
  if (auto fits = check_key(key); !fits) return fits.error();
  Add request;
  request.key = key;
  request.delta = delta;
  const auto answer = impl_->ask(std::move(request), impl_->options().timeout, "adding to key " + quoted(key));
  if (!answer) return answer.error();
  if (const auto* sum = std::get_if<Number>(&*answer)) return sum->value;
  return make_error(Errc::protocol, "the server answered with another type", where_of(impl_->options()));
}

Result<void> Client::barrier(std::string_view name) {
  if (auto fits = check_key(name, "barrier name"); !fits) return fits;
  Barrier request;
  request.name = name;
  request.timeout_ms = to_ms(impl_->options().timeout);
  const auto answer = impl_->ask(std::move(request), impl_->options().timeout, "barrier " + quoted(name));
  if (!answer) return answer.error();
  return ok;
}

bool Client::ended() const {
  return impl_->ended();
}

void Client::on_end(std::function<void(const Error& reason)> callback) {
  impl_->on_end(std::move(callback));
}

}  // namespace llmlaunch::rendezvous
