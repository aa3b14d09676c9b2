// The steps from a host's name to a session that is signed in; see login.hpp. What libssh wants is session.cpp's,
// policy on keys is known_hosts.cpp's and sign_in.cpp's.
#include "launcher/ssh/login.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "launcher/host_keys.hpp"
#include "launcher/line_cutter.hpp"
#include "launcher/ssh/jump_host.hpp"
#include "launcher/ssh/proxy_command.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher::ssh {

Login::Login(asio::any_io_executor executor, std::shared_ptr<SshContext> context, Noise noise, Steps steps)
    : executor_(std::move(executor)),
      context_(std::move(context)),
      noise_(std::move(noise)),
      steps_(std::move(steps)) {}

void Login::enter(OpenStep step) {
  step_ = step;
  if (steps_) steps_(step);
}

Error Login::canceled() const {
  return make_error(Errc::canceled, "the connection was closed");
}

asio::awaitable<Result<std::shared_ptr<Session>>> Login::run(HostAccess access) {
  const auto self = shared_from_this();
  access_ = std::move(access);
  auto done = co_await all_steps();
  if (!done && asked_somebody_ && !closed_ && done.error().code == Errc::closed) {
    // A person typed for longer than sshd waits (LoginGraceTime). Now the answer is there.
    place_.reset();
    session_->close();
    done = co_await all_steps();
  }
  place_.reset();
  if (closed_) co_return canceled();
  if (done) {
    command_.reset();  // the session ends it
    co_return std::exchange(session_, nullptr);
  }
  Error error = co_await with_end_of_command(done.error());
  close();
  co_return error;
}

asio::awaitable<Result<void>> Login::all_steps() {
  auto transport = co_await reach();
  if (!transport) co_return transport.error();
  if (auto made = make_session(std::move(*transport)); !made) co_return made.error();
  enter(OpenStep::key_exchange);
  const auto answered = co_await within("the wait for sshd's banner", session_->await_banner());
  if (!answered) co_return answered;
  const auto exchanged = co_await within("key exchange", session_->exchange_keys());
  if (!exchanged) co_return exchanged;
  enter(OpenStep::host_key);
  const auto trusted = co_await check_host_key();
  if (!trusted) co_return trusted;
  enter(OpenStep::authenticating);
  co_return co_await sign_in();
}

// --- the way there --------------------------------------------------------------------------------------------------

asio::awaitable<Result<Transport>> Login::reach() {
  if (access_.jumps.empty() && access_.proxy_command.empty()) {
    auto direct = co_await reach_directly();
    co_return direct;
  }
  enter(OpenStep::connecting);
  if (access_.jumps.empty()) co_return reach_through_command();
  auto through = co_await reach_through_jump();
  co_return through;
}

asio::awaitable<Result<Transport>> Login::reach_directly() {
  enter(OpenStep::resolving);
  connector_ = std::make_shared<TcpConnector>(executor_);
  auto endpoints = co_await connector_->resolve(access_.tcp);
  if (!endpoints) co_return endpoints.error();
  enter(OpenStep::connecting);
  auto socket = co_await connector_->connect(std::move(*endpoints), access_.tcp);
  if (!socket) co_return socket.error();
  co_return over_tcp(std::move(*socket));
}

asio::awaitable<Result<Transport>> Login::reach_through_jump() {
  jump_ = context_->jump_host(executor_, access_.jumps);
  const bool taken = co_await jump_->places().take(executor_, closed_);
  if (!taken) co_return canceled();
  place_.emplace(jump_->places());
  auto connected = co_await jump_->connect_to(context_, access_.tcp, closed_);
  co_return connected;
}

Result<Transport> Login::reach_through_command() {
  auto started = ProxyCommand::start(executor_, access_.proxy_command, noise_);
  if (!started) return started.error();
  command_ = std::move(started->command);
  // What the host sees of us is not known, nor is how others reach it but by its name.
  Transport transport{std::move(started->stream), own_far_address(), access_.tcp.host,
                      access_.tcp.host + " through its ProxyCommand"};
  transport.on_close = [command = command_] { command->close(); };
  return transport;
}

Result<void> Login::make_session(Transport transport) {
  const auto known = context_->known_hosts(access_.key_files);
  if (!known) return known.error();
  std::vector<std::string> types;
  for (const auto& name : access_.key_names)
    for (auto& type : (*known)->types_of(name)) types.push_back(std::move(type));
  SessionOptions options{access_.user, access_.tcp.host, host_key_algorithms(types)};
  if (access_.jumps.empty() && access_.proxy_command.empty()) options.worker = worker_;
  if (access_.alive_limit) options.alive_limit = *access_.alive_limit;
  auto session = Session::make(std::move(transport), options);
  if (!session) return session.error();
  session_ = std::move(*session);
  if (closed_) session_->close();
  return ok;
}

// A step that is not done in time is ended by closing the session; its error then says which step it was.
asio::awaitable<Result<void>> Login::within(std::string doing, asio::awaitable<Result<void>> step) {
  const Deadline deadline(executor_, access_.tcp.timeout, [session = session_] { session->close(); });
  auto done = co_await std::move(step);
  if (!done && deadline.expired()) co_return too_slow(doing, session_->peer(), access_.tcp.timeout);
  co_return done;
}

// A command that has failed is the reason why nothing answers; without it nobody would look there.
asio::awaitable<Error> Login::with_end_of_command(Error error) {
  if (!command_ || error.code != Errc::closed) co_return error;
  const auto status = co_await command_->await_end();
  if (!status || *status == 0) co_return error;
  error.code = make_error_code(Errc::unreachable);  // not sshd's doing: another try would end in the same way
  error.what = fmt::format("the ProxyCommand of {} ended with status {}", access_.proxy_place, *status);
  error.hint = "what it said is shown above; try by hand what stands there";  // its words may hold a password
  co_return error;
}

// --- host key ------------------------------------------------------------------------------------------------------

asio::awaitable<Result<void>> Login::check_host_key() {
  auto key = session_->server_key();
  if (!key) co_return key.error();
  const auto known = context_->known_hosts(access_.key_files);
  if (!known) co_return known.error();
  const HostKeyAnswer answer = (*known)->check_any(access_.key_names, *key);
  if (answer.status == HostKeyStatus::ok) co_return ok;
  HostKeyQuestion question{access_.name,     access_.key_names.front(), access_.tcp.host,
                           access_.tcp.port, access_.new_keys_file,     std::move(*key)};
  question.jumps = to_string(access_.jumps);
  question.by_command = !access_.proxy_command.empty();
  question.user = access_.user;
  const std::string folder = question.file.substr(0, std::min(question.file.rfind('/'), question.file.size()));
  question.folder_missing = question.file.starts_with('/') && ::access(folder.c_str(), F_OK) != 0;
  const bool accepted = access_.policy == HostKeyPolicy::accept_new || is_accepted(question);
  if (answer.status != HostKeyStatus::unknown || !accepted) co_return host_key_error(question, answer);
  co_return co_await accept_host_key(question, **known);
}

// By a person, who saw its fingerprint in an earlier launch. Notes the key, so that one can be asked.
bool Login::is_accepted(const HostKeyQuestion& question) const {
  HostKeyDesk* desk = context_->host_keys();
  if (desk == nullptr) return false;
  const std::string shown = question.key.type + " " + fingerprint(question.key);
  desk->met[question.host] = shown;
  const auto accepted = desk->accepted.find(question.host);
  return accepted != desk->accepted.end() && accepted->second == shown;
}

asio::awaitable<Result<void>> Login::accept_host_key(const HostKeyQuestion& question, KnownHosts& known) {
  std::string to;
  if (!question.file.empty()) {
    const auto before =
        co_await asio::co_spawn(context_->threads(), call_there([&question, hashed = access_.hash_names] {
                                  return append_host_key(question.file, question.name, question.key, hashed);
                                }),
                                asio::use_awaitable);
    if (!before) co_return before.error();
    // Another connection was here first: hosts that share a HostKeyAlias, or another launch.
    if (before->status == HostKeyStatus::ok) co_return ok;
    if (before->status != HostKeyStatus::unknown) co_return host_key_error(question, *before);
    to = " in " + question.file;
  }
  known.add(question.name, question.key, question.file);
  log_info("{}: new host key {} {} accepted{}", question.host, question.key.type, fingerprint(question.key), to);
  co_return ok;
}

// --- signing in ----------------------------------------------------------------------------------------------------

asio::awaitable<Result<void>> Login::sign_in() {
  signing_in_.emplace(executor_, session_, context_, access_);
  const auto signed_in = co_await signing_in_->run();
  asked_somebody_ = signing_in_->has_waited();
  signing_in_.reset();
  if (!signed_in && !closed_) {  // a banner often says why
    LineCutter lines;
    lines.feed(session_->banner() + "\n", noise_);
  }
  co_return signed_in;
}

void Login::close() {
  if (std::exchange(closed_, true)) return;
  noise_ = [](std::string_view) {};  // whom it belongs to may be gone
  steps_ = nullptr;
  if (connector_) connector_->cancel();
  if (jump_) jump_->wake();
  if (signing_in_) signing_in_->close();
  if (session_) session_->close();
  if (command_) command_->close();
}

}  // namespace llmlaunch::launcher::ssh
