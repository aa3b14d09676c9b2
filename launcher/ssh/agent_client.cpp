// ssh-agent's protocol, as far as a client needs it; see agent_client.hpp.
#include "launcher/ssh/agent_client.hpp"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace llmlaunch::launcher::ssh {
namespace {

constexpr std::byte kFailure{5};
constexpr std::byte kRequestIdentities{11};
constexpr std::byte kIdentitiesAnswer{12};
constexpr std::byte kSignRequest{13};
// OpenSSH's own limit for one message.
constexpr std::size_t kMaxMessageBytes = 256u << 10;

void put_u32(Bytes& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>(value >> shift));
}

void put_string(Bytes& out, ByteView text) {
  put_u32(out, static_cast<std::uint32_t>(text.size()));
  out.insert(out.end(), text.begin(), text.end());
}

/// Reads big-endian fields; the first that does not fit makes this and all later ones empty.
class Fields {
 public:
  explicit Fields(ByteView rest) : rest_(rest) {}
  std::uint32_t u32() {
    const ByteView four = take(4);
    std::uint32_t value = 0;
    for (const std::byte one : four) value = value << 8 | std::to_integer<std::uint32_t>(one);
    return value;
  }
  ByteView string() { return take(u32()); }
  bool failed() const { return failed_; }

 private:
  ByteView take(std::size_t count) {
    failed_ = failed_ || count > rest_.size();
    if (failed_) return {};
    const ByteView taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  ByteView rest_;
  bool failed_ = false;
};

Bytes with_length(const Bytes& message) {
  Bytes framed;
  put_string(framed, message);
  return framed;
}

template <class Socket>
asio::awaitable<Result<Bytes>> read_message(Socket& socket) {
  std::array<std::byte, 4> header{};
  const auto [failed, got] = co_await asio::async_read(socket, asio::buffer(header), await_tuple);
  if (failed) co_return from_asio(failed, "read from ssh-agent");
  const std::uint32_t length = Fields(header).u32();
  if (length == 0 || length > kMaxMessageBytes)
    co_return make_error(Errc::protocol, fmt::format("ssh-agent: a message of {} bytes", length));
  Bytes message(length);
  const auto [cut, filled] = co_await asio::async_read(socket, asio::buffer(message), await_tuple);
  if (cut) co_return from_asio(cut, "read from ssh-agent");
  co_return message;
}

}  // namespace

Result<std::vector<AgentIdentity>> decode_identities(ByteView answer) {
  const auto broken = [] { return make_error(Errc::protocol, "ssh-agent: its list of keys cannot be read"); };
  if (answer.empty()) return broken();
  if (answer.front() == kFailure) return std::vector<AgentIdentity>{};  // an agent that is locked
  if (answer.front() != kIdentitiesAnswer) return broken();
  Fields fields(answer.subspan(1));
  const std::uint32_t count = fields.u32();
  std::vector<AgentIdentity> identities;
  for (std::uint32_t i = 0; i < count && !fields.failed(); ++i) {
    const ByteView blob = fields.string();
    const ByteView comment = fields.string();
    identities.push_back({Bytes(blob.begin(), blob.end()), std::string(as_text(comment))});
  }
  if (fields.failed()) return broken();
  return identities;
}

std::optional<Bytes> signing_request(const Bytes& request, const std::vector<AgentIdentity>& shown) {
  if (request.empty() || request.front() != kSignRequest) return std::nullopt;
  const ByteView body = ByteView(request).subspan(1);
  Fields fields(body);
  const ByteView blob = fields.string();
  const auto one = std::find_if(shown.begin(), shown.end(),
                                [&](const AgentIdentity& each) { return std::ranges::equal(each.blob, blob); });
  if (fields.failed() || one == shown.end()) return std::nullopt;
  if (one->signed_by.empty()) return request;
  Bytes other{kSignRequest};
  put_string(other, one->signed_by);
  const ByteView rest = body.subspan(4 + blob.size());  // what to sign, and how
  other.insert(other.end(), rest.begin(), rest.end());
  return other;
}

Bytes encode_identities(const std::vector<AgentIdentity>& identities) {
  Bytes answer{kIdentitiesAnswer};
  put_u32(answer, static_cast<std::uint32_t>(identities.size()));
  for (const auto& identity : identities) {
    put_string(answer, identity.blob);
    put_string(answer, as_bytes(identity.comment));
  }
  return answer;
}

AgentClient::AgentClient(asio::any_io_executor executor) : executor_(std::move(executor)), agent_(executor_) {}

asio::awaitable<Result<void>> AgentClient::connect(std::string path) {
  const auto self = shared_from_this();
  if (path.size() >= sizeof(sockaddr_un{}.sun_path))
    co_return make_error(Errc::invalid_argument, fmt::format("the path of ssh-agent's socket is too long: {}", path));
  const asio::local::stream_protocol::endpoint endpoint(path);
  boost::system::error_code error;
  agent_.open(endpoint.protocol(), error);
  if (!error) agent_.native_non_blocking(true, error);
  // Not Asio's own: it takes "the queue is full" for a connection that is on its way, and then for one that is there.
  if (!error && ::connect(agent_.native_handle(), endpoint.data(), static_cast<socklen_t>(endpoint.size())) != 0)
    error.assign(errno, boost::system::system_category());
  if (error == boost::system::errc::resource_unavailable_try_again)
    co_return make_error(Errc::out_of_resources, fmt::format("ssh-agent at {} takes no connection: it is stuck", path));
  if (error) co_return make_error(Errc::unreachable, fmt::format("no ssh-agent at {}: {}", path, error.message()));
  co_return ok;
}

asio::awaitable<Result<Bytes>> AgentClient::ask(Bytes request, std::chrono::milliseconds timeout) {
  const auto self = shared_from_this();
  const Deadline deadline(executor_, timeout, [self] { self->close(); });
  const Bytes framed = with_length(request);
  const auto [failed, put] = co_await asio::async_write(agent_, asio::buffer(framed), await_tuple);
  // Not by `?:`: GCC 12 destroys both of its results when one is awaited.
  Result<Bytes> answer = from_asio(failed, "write to ssh-agent");
  if (!failed) answer = co_await read_message(agent_);
  if (deadline.expired())
    co_return make_error(Errc::timed_out, fmt::format("ssh-agent has not answered within {:g} s",
                                                      static_cast<double>(timeout.count()) / 1000));
  co_return answer;
}

asio::awaitable<Result<std::vector<AgentIdentity>>> AgentClient::identities(std::chrono::milliseconds timeout) {
  const Bytes request{kRequestIdentities};
  const auto answer = co_await ask(request, timeout);
  if (!answer) co_return answer.error();
  co_return decode_identities(*answer);
}

Result<int> AgentClient::open_view(std::vector<AgentIdentity> shown, std::chrono::milliseconds sign_timeout) {
  boost::system::error_code ignored;  // of a view that is done with
  if (view_) view_->close(ignored);
  auto theirs = Socket(executor_);
  view_ = std::make_shared<Socket>(executor_);
  boost::system::error_code error;
  asio::local::connect_pair(theirs, *view_, error);
  if (error) return from_asio(error, "a socket pair for ssh-agent");
  theirs.native_non_blocking(false, error);
  const int descriptor = error ? -1 : theirs.release(error);
  if (error) return from_asio(error, "a socket pair for ssh-agent");
  spawn_or_die(executor_, "view of ssh-agent", serve(shared_from_this(), view_, std::move(shown), sign_timeout));
  return descriptor;
}

asio::awaitable<void> AgentClient::serve(std::shared_ptr<AgentClient> self, std::shared_ptr<Socket> view,
                                         std::vector<AgentIdentity> shown, std::chrono::milliseconds sign_timeout) {
  for (;;) {
    const auto request = co_await read_message(*view);
    if (!request) co_return;  // they have closed their end, or we ours
    Bytes answer{kFailure};
    if (request->front() == kRequestIdentities) {
      answer = encode_identities(shown);
    } else if (auto signing = signing_request(*request, shown)) {
      Bytes asked = std::move(*signing);
      auto signature = co_await self->ask(std::move(asked), sign_timeout);
      if (signature) answer = std::move(*signature);
    }
    const Bytes framed = with_length(answer);
    const auto [error, put] = co_await asio::async_write(*view, asio::buffer(framed), await_tuple);
    if (error) co_return;
  }
}

void AgentClient::close() {
  boost::system::error_code ignored;  // of sockets that are given up
  agent_.close(ignored);
  if (view_) view_->close(ignored);
}

}  // namespace llmlaunch::launcher::ssh
