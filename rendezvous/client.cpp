// A rank's calls: each is one request to the server and its answer. How they get there is client_link.cpp's, how the
// rank was admitted client_join.cpp's.
#include "rendezvous/client.hpp"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "rendezvous/auth.hpp"
#include "rendezvous/client_impl.hpp"
#include "rendezvous/client_join.hpp"
#include "rendezvous/wording.hpp"

namespace llmlaunch::rendezvous {
using std::chrono::milliseconds;

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

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
  return std::unique_ptr<Client>(new Client(std::make_shared<Impl>(std::move(kept), std::move(*joined))));
}

Client::~Client() {
  impl_->leave();
}

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
  return unique_id(index, impl_->options().timeout);
}

Result<UniqueId> Client::unique_id(std::uint32_t index, milliseconds timeout) {
  GetId request;
  request.index = index;
  request.timeout_ms = to_ms(timeout);
  const auto id = impl_->ask_for<Id>(request, timeout, fmt::format("the request for unique id {}", index));
  if (!id) return id.error();
  return id->id;
}

Result<std::vector<UniqueId>> Client::share_unique_ids(std::uint32_t count,
                                                       const std::function<Result<UniqueId>()>& make_id) {
  const ClientOptions& me = impl_->options();
  if (count == 0 || count > me.world_size || me.observer) {
    return make_error(Errc::invalid_argument,
                      fmt::format("{} unique ids of a world of {} ranks: from 1 to as many as there are ranks", count,
                                  me.world_size));
  }
  // Each maker publishes before it waits for those of the others.
  for (std::uint32_t index = 0; index < count; ++index) {
    if (unique_id_maker(index, count, me.world_size) != me.rank) continue;
    const auto made = make_id();
    if (!made) return made.error();
    if (auto published = publish_unique_id(index, *made); !published) return published.error();
  }
  std::vector<UniqueId> ids;
  for (std::uint32_t index = 0; index < count; ++index) {
    const auto id = unique_id(index);
    if (!id) {
      Error error = id.error();
      if (error.code == Errc::timed_out)
        error.what += fmt::format("; rank {} makes it", number(unique_id_maker(index, count, me.world_size)));
      return error;
    }
    ids.push_back(*id);
  }
  return ids;
}

Result<void> Client::barrier(std::string_view name) {
  return barrier(name, impl_->options().timeout);
}

Result<void> Client::barrier(std::string_view name, milliseconds timeout) {
  if (auto fits = check_key(name, "barrier name"); !fits) return fits;
  Barrier request;
  request.name = name;
  request.timeout_ms = to_ms(timeout);
  const auto answer = impl_->ask(std::move(request), timeout, "barrier " + quoted(name));
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
