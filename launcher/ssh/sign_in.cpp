// Which key is offered when; see sign_in.hpp. How a key is offered is session.cpp's.
#include "launcher/ssh/sign_in.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace llmlaunch::launcher::ssh {
namespace {

// An agent lists its keys within milliseconds; signing may wait for a person, and has the time of authentication.
constexpr std::chrono::seconds kAgentPatience{2};

}  // namespace

SignInAttempt::SignInAttempt(asio::any_io_executor executor, std::shared_ptr<Session> session,
                             std::shared_ptr<SshContext> context, const HostAccess& access)
    : executor_(std::move(executor)), session_(std::move(session)), context_(std::move(context)), access_(access) {}

asio::awaitable<Result<void>> SignInAttempt::run() {
  if (!access_.agent_path.empty()) co_await ask_agent();
  Result<SignIn> answer = co_await with_agent(true);
  for (auto file = access_.identity_files.begin();
       answer && *answer != SignIn::accepted && file != access_.identity_files.end(); ++file)
    answer = co_await with_file(context_->identity(*file));
  if (answer && *answer != SignIn::accepted && !access_.identities_only) answer = co_await with_agent(false);
  if (agent_) agent_->close();
  if (answer && *answer == SignIn::accepted) co_return ok;
  if (!answer && answer.error().code != Errc::refused) co_return answer.error();
  Error error = refused();
  // "Too many authentication failures": sshd hung up before everything was tried.
  if (!answer) error.what += "; " + answer.error().what;
  co_return error;
}

asio::awaitable<void> SignInAttempt::ask_agent() {
  if (context_->agent_given_up(access_.agent_path)) co_return;
  agent_ = std::make_shared<AgentClient>(executor_);
  const auto connected = co_await agent_->connect(access_.agent_path);
  if (!connected) {
    unusable_.push_back(connected.error().what);
    co_return;
  }
  auto keys = co_await agent_->identities(kAgentPatience);
  if (keys) {
    agent_keys_ = std::move(*keys);
  } else if (!closed_) {
    context_->give_up_agent(access_.agent_path, keys.error());
    unusable_.push_back(keys.error().what);
  }
}

bool SignInAttempt::is_named(const AgentIdentity& key) const {
  return std::any_of(access_.identity_files.begin(), access_.identity_files.end(),
                     [&](const std::string& file) { return context_->identity(file).public_blob == key.blob; });
}

// The agent's keys of one of the two kinds: those that belong to a named file, or the rest.
asio::awaitable<Result<SignIn>> SignInAttempt::with_agent(bool named) {
  std::vector<AgentIdentity> shown;
  for (const auto& key : agent_keys_) {
    if (is_named(key) != named) continue;
    shown.push_back(key);
    tried_.push_back(fmt::format("key '{}' of ssh-agent", key.comment));
  }
  if (shown.empty() || closed_) co_return SignIn::denied;
  if (!co_await context_->take_agent_place(executor_, closed_)) co_return SignIn::denied;
  const auto answer = co_await with_view(std::move(shown));
  context_->give_agent_place();
  co_return answer;
}

asio::awaitable<Result<SignIn>> SignInAttempt::with_view(std::vector<AgentIdentity> shown) {
  const auto limit = context_->timeouts().connect;
  const auto view = agent_->open_view(std::move(shown), limit);
  if (!view) co_return view.error();
  const Deadline deadline(executor_, limit, [session = session_, agent = agent_] {
    agent->close();
    session->close();
  });
  auto answer = co_await session_->sign_in_with_agent(*view, context_->threads());
  co_return in_time(deadline, std::move(answer));
}

asio::awaitable<Result<SignIn>> SignInAttempt::with_file(const Identity& identity) {
  if (identity.key == nullptr) {
    const bool in_agent = std::any_of(agent_keys_.begin(), agent_keys_.end(),
                                      [&](const AgentIdentity& key) { return key.blob == identity.public_blob; });
    if (!in_agent && (access_.files_are_named || !identity.missing))
      unusable_.push_back(fmt::format("{}: {}", identity.path, identity.problem));
    co_return SignIn::denied;
  }
  tried_.push_back(identity.path);
  const Deadline deadline(executor_, context_->timeouts().connect, [session = session_] { session->close(); });
  auto answer = co_await session_->sign_in_with(identity.key);
  co_return in_time(deadline, std::move(answer));
}

Result<SignIn> SignInAttempt::in_time(const Deadline& deadline, Result<SignIn> answer) {
  if (!answer && deadline.expired())
    return too_slow("authentication", session_->remote_address(), context_->timeouts().connect);
  partial_ = partial_ || (answer && *answer == SignIn::partial);
  return answer;
}

Error SignInAttempt::refused() const {
  const std::string methods = session_->accepted_methods();
  std::string what = tried_.empty() ? fmt::format("there is no key to sign in with as '{}'", access_.user)
                                    : fmt::format("public key authentication as '{}' was refused; tried {}",
                                                  access_.user, fmt::join(tried_, ", "));
  if (!unusable_.empty()) what += fmt::format("; not usable: {}", fmt::join(unusable_, "; "));
  if (partial_) what += "; sshd took the key and asks for more than a key, which llmlaunch cannot give";
  if (!methods.empty()) what += fmt::format("; sshd accepts: {}", methods);
  return make_error(Errc::unauthenticated, std::move(what), {}, tried_.empty() ? no_key_hint() : refused_hint());
}

std::string SignInAttempt::refused_hint() const {
  const std::string port = access_.tcp.port == 22 ? "" : fmt::format("-p {} ", access_.tcp.port);
  return fmt::format("allow the key there: ssh-copy-id -i KEY.pub {}{}@{}; or set another 'user' or 'identity_file'",
                     port, access_.user, access_.tcp.host);
}

std::string SignInAttempt::no_key_hint() const {
  return unusable_.empty() ? "make one: ssh-keygen -t ed25519; or name one: llmlaunch.ssh.identity_file"
                           : "name a key that can be used: llmlaunch.ssh.identity_file, or load one: ssh-add";
}

void SignInAttempt::close() {
  closed_ = true;
  if (agent_) agent_->close();
  context_->wake_agent_line();
}

}  // namespace llmlaunch::launcher::ssh
