// TLS 1.3 with an external pre-shared key (RFC 8446, 4.2.11) and a fresh Diffie-Hellman share, by OpenSSL: no
// certificates, and a stranger learns nothing but that somebody speaks TLS here.
#include "launcher/call_wire.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "rendezvous/base/tcp_tuning.hpp"

namespace llmlaunch::launcher {
namespace {

// Names the key in the ClientHello. Both sides have one; that it is the same one shows in the binder.
constexpr const char* kKeyIdentity = "llmlaunch";
// The hash of an external key is SHA-256 unless agreed otherwise; one suite leaves nothing to agree on.
constexpr const char* kCipherSuite = "TLS_AES_128_GCM_SHA256";
// What may wait to be sent before a sender of data pauses.
constexpr std::size_t kEnoughQueuedBytes = 256u << 10;
constexpr std::chrono::milliseconds kPartingPatience{2'000};

// Asio takes SSL_CTX's app data for itself, so the key has a place of its own.
int key_index() {
  static const int index = ::SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

unsigned copy_key(SSL* ssl, unsigned char* out, unsigned room) {
  const auto* key = static_cast<const CallToken::Key*>(::SSL_CTX_get_ex_data(::SSL_get_SSL_CTX(ssl), key_index()));
  if (key == nullptr || room < key->size()) return 0;
  std::copy(key->begin(), key->end(), out);
  return static_cast<unsigned>(key->size());
}

unsigned member_key(SSL* ssl, const char*, char* identity, unsigned room, unsigned char* key, unsigned key_room) {
  if (room <= std::strlen(kKeyIdentity)) return 0;
  std::strcpy(identity, kKeyIdentity);
  return copy_key(ssl, key, key_room);
}

unsigned head_key(SSL* ssl, const char* identity, unsigned char* key, unsigned key_room) {
  if (identity == nullptr || std::strcmp(identity, kKeyIdentity) != 0) return 0;
  return copy_key(ssl, key, key_room);
}

void must(bool done, const char* what) {
  // Only an OpenSSL that was built without TLS 1.3 or keys gets here.
  if (!done) throw std::runtime_error(std::string("OpenSSL refuses: ") + what);
}

// The head says in an alert that the binder was made with another key; to itself it says so in its own words.
bool is_other_key(const boost::system::error_code& error) {
  if (error.category() != asio::error::get_ssl_category()) return false;
  const int reason = ERR_GET_REASON(static_cast<unsigned long>(error.value()));
  return reason == SSL_R_BINDER_DOES_NOT_VERIFY || reason == SSL_R_BAD_PSK ||
         reason == SSL_AD_REASON_OFFSET + SSL_AD_ILLEGAL_PARAMETER ||
         reason == SSL_AD_REASON_OFFSET + SSL_AD_DECRYPT_ERROR ||
         reason == SSL_AD_REASON_OFFSET + SSL_AD_UNKNOWN_PSK_IDENTITY ||
         reason == SSL_AD_REASON_OFFSET + SSL_AD_HANDSHAKE_FAILURE;
}

bool is_end_of_stream(const boost::system::error_code& error) {
  return error == asio::error::eof || error == asio::error::connection_reset ||
         error == asio::ssl::error::stream_truncated || error == asio::error::broken_pipe;
}

}  // namespace

CallTls::CallTls(Side side, const CallToken& token)
    : side_(side),
      key_(token.key()),
      context_(side == Side::head ? asio::ssl::context::tls_server : asio::ssl::context::tls_client) {
  SSL_CTX* const native = context_.native_handle();
  must(::SSL_CTX_set_ex_data(native, key_index(), &key_) == 1, "a place for the key");
  must(::SSL_CTX_set_min_proto_version(native, TLS1_3_VERSION) == 1, "TLS 1.3");
  must(::SSL_CTX_set_ciphersuites(native, kCipherSuite) == 1, kCipherSuite);
  // Nobody comes back to an old session, and no early data is taken.
  ::SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  must(::SSL_CTX_set_num_tickets(native, 0) == 1, "no tickets");
  // Without a certificate that could be right, a head that has no key ends the handshake.
  ::SSL_CTX_set_verify(native, side == Side::member ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  if (side == Side::head)
    ::SSL_CTX_set_psk_server_callback(native, head_key);
  else
    ::SSL_CTX_set_psk_client_callback(native, member_key);
}

CallWire::CallWire(asio::ip::tcp::socket socket, std::shared_ptr<CallTls> tls)
    : tls_(std::move(tls)),
      stream_(std::move(socket), tls_->context()),
      filled_(stream_.get_executor(), std::chrono::steady_clock::time_point::max()),
      emptied_(stream_.get_executor(), std::chrono::steady_clock::time_point::max()) {}

CallWire::~CallWire() {
  close();
}

asio::awaitable<Result<void>> CallWire::handshake(Bytes begun, std::chrono::milliseconds limit) {
  const auto self = shared_from_this();
  const Deadline deadline(stream_.get_executor(), limit, [this] { close(); });
  const auto role =
      tls_->side() == CallTls::Side::head ? asio::ssl::stream_base::server : asio::ssl::stream_base::client;
  const auto [error, used] = co_await stream_.async_handshake(role, asio::buffer(begun), await_tuple);
  if (deadline.expired())
    co_return make_error(Errc::timed_out, "no handshake within " + std::to_string(limit.count() / 1000) + " s");
  if (closed_) co_return make_error(Errc::canceled, "the connection was closed");
  if (is_other_key(error)) co_return make_error(Errc::unauthenticated, "the tokens differ");
  if (is_end_of_stream(error)) co_return make_error(Errc::closed, "the connection ended in the handshake");
  if (error) co_return make_error(Errc::protocol, "no TLS handshake: " + error.message());
  spawn_or_die(stream_.get_executor(), "call writer", write_all(self));
  co_return ok;
}

void CallWire::trust(std::chrono::milliseconds patience) {
  decoder_.allow_frames_of(kMaxCallFrameBytes);
  tune_connection(stream_.next_layer().native_handle(), std::max(patience, kUsualSilence));
}

void CallWire::send(const CallMessage& message) {
  if (closed_) return;
  queue_.push_back(encode(message));
  queued_bytes_ += queue_.back().size();
  filled_.cancel();
}

asio::awaitable<void> CallWire::drained() {
  const auto self = shared_from_this();
  while (!closed_ && queued_bytes_ > kEnoughQueuedBytes) co_await emptied_.async_wait(await_tuple);
}

asio::awaitable<void> CallWire::write_all(std::shared_ptr<CallWire> self) {
  while (!self->closed_) {
    if (self->queue_.empty()) {
      co_await self->filled_.async_wait(await_tuple);
      continue;
    }
    const Bytes frame = std::move(self->queue_.front());
    self->queue_.pop_front();
    const auto [error, size] = co_await asio::async_write(self->stream_, asio::buffer(frame), await_tuple);
    if (error) co_return self->close();
    self->queued_bytes_ -= frame.size();
    if (self->queued_bytes_ <= kEnoughQueuedBytes) self->emptied_.cancel();
  }
}

asio::awaitable<Result<CallMessage>> CallWire::next() {
  const auto self = shared_from_this();
  std::array<std::byte, 16 * 1024> piece;
  while (true) {
    const auto frame = decoder_.next();
    if (!frame) co_return frame.error();
    if (*frame) co_return decode_call_message(**frame);
    if (closed_) co_return make_error(Errc::closed, "the connection was closed");
    const auto [error, size] = co_await stream_.async_read_some(asio::buffer(piece), await_tuple);
    if (error) {
      close();
      if (is_end_of_stream(error) || error == asio::error::operation_aborted)
        co_return make_error(Errc::closed, "the connection ended");
      co_return make_error(Errc::closed, "the connection ended: " + error.message());
    }
    decoder_.feed(std::span(piece).first(size));
  }
}

void CallWire::close() {
  if (std::exchange(closed_, true)) return;
  parting_.reset();
  boost::system::error_code ignored;  // the peer may be gone already
  stream_.lowest_layer().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  stream_.lowest_layer().close(ignored);
  filled_.cancel();
  emptied_.cancel();
}

// The peer closes when it has read the last message, which a close from here could overtake.
void CallWire::close_when_sent() {
  if (closed_ || parting_) return;
  parting_.emplace(stream_.get_executor(), kPartingPatience, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->close();
  });
}

}  // namespace llmlaunch::launcher
