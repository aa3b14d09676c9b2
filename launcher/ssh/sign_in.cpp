// Which key is offered when; see sign_in.hpp. How a key is offered is session.cpp's.
#include "launcher/ssh/sign_in.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "launcher/ssh/certificate.hpp"

namespace llmlaunch::launcher::ssh {

SignInAttempt::SignInAttempt(asio::any_io_executor executor, std::shared_ptr<Session> session,
                             std::shared_ptr<SshContext> context, const HostAccess& access)
    : executor_(std::move(executor)), session_(std::move(session)), context_(std::move(context)), access_(access) {}

asio::awaitable<Result<void>> SignInAttempt::run() {
  if (!access_.agent_path.empty()) co_await ask_agent();
  // Denied: the next way. Accepted, or "that was one of two": no more keys.
  const auto goes_on = [this](const Result<SignIn>& answer) { return answer && *answer == SignIn::denied && !closed_; };
  Result<SignIn> answer = co_await with_agent(true);
  for (auto file = access_.identity_files.begin(); goes_on(answer) && file != access_.identity_files.end(); ++file)
    answer = co_await with_file(context_->keys().identity(*file));
  if (goes_on(answer) && !access_.identities_only) answer = co_await with_agent(false);
  if (agent_) agent_->close();
  if (answer && *answer != SignIn::accepted && !closed_) answer = co_await with_password();
  if (answer && *answer == SignIn::accepted) co_return ok;
  if (!answer && answer.error().code != Errc::refused) co_return answer.error();
  Error error = refused();
  // "Too many authentication failures": sshd hung up before everything was tried.
  if (!answer) error.what += "; " + answer.error().what;
  co_return error;
}

asio::awaitable<void> SignInAttempt::ask_agent() {
  auto keys = co_await context_->agent_keys().of(executor_, access_.agent_path, closed_);
  if (keys)
    agent_keys_ = std::move(*keys);
  else if (!closed_)
    unusable_.push_back(keys.error().what);
}

bool SignInAttempt::is_named(const AgentIdentity& key) const {
  return std::any_of(access_.identity_files.begin(), access_.identity_files.end(), [&](const std::string& file) {
    if (context_->keys().identity(file).public_blob == key.blob) return true;
    const auto certificates = certificates_of(file);
    return std::any_of(certificates.begin(), certificates.end(),
                       [&](const std::string& path) { return context_->keys().certificate(path).blob == key.blob; });
  });
}

// Named ones, and the one beside the key.
std::vector<std::string> SignInAttempt::certificates_of(const std::string& identity_file) const {
  std::vector<std::string> files = access_.certificate_files;
  files.push_back(identity_file + "-cert.pub");
  return files;
}

// A certificate that lies here, of a key that the agent has: the agent signs with the key.
void SignInAttempt::show_with_certificates(const AgentIdentity& key, std::vector<AgentIdentity>& shown) {
  std::vector<std::string> files = access_.certificate_files;
  for (const auto& file : access_.identity_files) files.push_back(file + "-cert.pub");
  for (const auto& file : files) {
    const Certificate& certificate = context_->keys().certificate(file);
    const auto has = [&](const std::vector<AgentIdentity>& keys) {
      return std::any_of(keys.begin(), keys.end(), [&](const auto& one) { return one.blob == certificate.blob; });
    };
    if (!certifies(certificate.blob, key.blob) || has(agent_keys_) || has(shown)) continue;
    shown.push_back({certificate.blob, file, key.blob});
    tried_.push_back(fmt::format("certificate {} with ssh-agent", file));
    certified_ = true;
  }
  shown.push_back(key);
  tried_.push_back(fmt::format("key '{}' of ssh-agent", key.comment));
}

// The agent's keys of one of the two kinds: those that belong to a named file, or the rest.
asio::awaitable<Result<SignIn>> SignInAttempt::with_agent(bool named) {
  std::vector<AgentIdentity> shown;
  for (const auto& key : agent_keys_) {
    if (is_named(key) == named) show_with_certificates(key, shown);
  }
  if (shown.empty() || closed_) co_return SignIn::denied;
  if (!co_await context_->agent_places().take(executor_, closed_)) co_return SignIn::denied;
  const Place place(context_->agent_places());
  co_return co_await with_view(std::move(shown));
}

// Signing may wait for a person, and has the time of authentication.
asio::awaitable<Result<SignIn>> SignInAttempt::with_view(std::vector<AgentIdentity> shown) {
  const auto limit = context_->timeouts().connect;
  if (!agent_) {
    agent_ = std::make_shared<AgentClient>(executor_);
    const auto connected = co_await agent_->connect(access_.agent_path);
    if (!connected) {
      agent_.reset();
      agent_keys_.clear();  // they went with it
      unusable_.push_back(connected.error().what);
      co_return SignIn::denied;
    }
  }
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
  const bool in_agent = std::any_of(agent_keys_.begin(), agent_keys_.end(),
                                    [&](const AgentIdentity& key) { return key.blob == identity.public_blob; });
  if (identity.key == nullptr && in_agent) co_return SignIn::denied;  // it was its turn already
  if (identity.locked && !access_.ask_nobody) {
    auto wanted = co_await is_wanted(identity);
    if (!wanted || *wanted == SignIn::denied) co_return wanted;
    has_waited_ = true;
    co_await context_->keys().unlock(executor_, identity.path, closed_);
    if (closed_) co_return SignIn::denied;
  }
  if (identity.key == nullptr) {
    if (access_.files_are_named || !identity.missing)
      unusable_.push_back(fmt::format("{}: {}", identity.path, identity.problem));
    co_return SignIn::denied;
  }
  auto answer = co_await with_certificates(identity);
  if (answer && *answer == SignIn::denied) answer = co_await with_key(identity.key, identity.path);
  co_return answer;
}

// Nobody types a passphrase for a key that the host does not know. Denied: it is none that it would take.
asio::awaitable<Result<SignIn>> SignInAttempt::is_wanted(const Identity& identity) {
  Result<SignIn> answer = SignIn::accepted;
  std::vector<std::pair<ssh_key, std::string>> offers;
  for (const auto& path : certificates_of(identity.path)) {
    const Certificate& certificate = context_->keys().certificate(path);
    if (certificate.key != nullptr && certifies(certificate.blob, identity.public_blob))
      offers.emplace_back(certificate.key, path);
  }
  if (identity.public_key != nullptr) offers.emplace_back(identity.public_key, identity.path);
  for (const auto& [key, label] : offers) {
    const Deadline deadline(executor_, context_->timeouts().connect, [session = session_] { session->close(); });
    auto taken = co_await session_->would_take(key);
    answer = in_time(deadline, std::move(taken));
    if (!answer || *answer != SignIn::denied) co_return answer;
    tried_.push_back(label);
  }
  co_return answer;
}

asio::awaitable<Result<SignIn>> SignInAttempt::with_certificates(const Identity& identity) {
  Result<SignIn> answer = SignIn::denied;
  for (const auto& path : certificates_of(identity.path)) {
    const Certificate& certificate = context_->keys().certificate(path);
    const bool named = path != identity.path + "-cert.pub";
    const std::string problem = fmt::format("{}: {}", path, certificate.problem);
    if (!certificate.problem.empty() && (named || !certificate.missing) &&
        std::find(unusable_.begin(), unusable_.end(), problem) == unusable_.end())
      unusable_.push_back(problem);
    const ssh_key both = context_->keys().certified(identity, certificate);
    if (both == nullptr) continue;
    certified_ = true;
    answer = co_await with_key(both, path);
    if (!answer || *answer != SignIn::denied) break;
  }
  co_return answer;
}

asio::awaitable<Result<SignIn>> SignInAttempt::with_key(ssh_key key, std::string label) {
  tried_.push_back(std::move(label));
  const Deadline deadline(executor_, context_->timeouts().connect, [session = session_] { session->close(); });
  auto answer = co_await session_->sign_in_with(key);
  co_return in_time(deadline, std::move(answer));
}

// --- a password ------------------------------------------------------------------------------------------------------

asio::awaitable<Result<SignIn>> SignInAttempt::with_password() {
  const Secret* password = context_->password();
  if (password == nullptr) co_return SignIn::denied;
  const Deadline deadline(executor_, context_->timeouts().connect, [session = session_] { session->close(); });
  Result<SignIn> answer = SignIn::denied;
  // Which methods there are is told with a refusal.
  if (session_->accepted_bits() == 0) answer = co_await session_->sign_in_with_nothing();
  const auto goes_on = [this, &answer](int method) {
    return answer && *answer == SignIn::denied && (session_->accepted_bits() & method) != 0;
  };
  if (goes_on(SSH_AUTH_METHOD_PASSWORD)) {
    password_answer_ = "the password was refused";
    answer = co_await session_->sign_in_with_password(*password);
  }
  if (goes_on(SSH_AUTH_METHOD_INTERACTIVE)) {
    password_answer_ = "the password was refused";
    answer = co_await session_->sign_in_with_answer(*password);
    if (!answer && answer.error().code == Errc::unsupported) {
      password_answer_ = answer.error().what;
      answer = SignIn::denied;
    }
  }
  co_return in_time(deadline, std::move(answer));
}

Result<SignIn> SignInAttempt::in_time(const Deadline& deadline, Result<SignIn> answer) {
  if (!answer && deadline.expired()) return too_slow("authentication", session_->peer(), context_->timeouts().connect);
  partial_ = partial_ || (answer && *answer == SignIn::partial);
  return answer;
}

Error SignInAttempt::refused() const {
  const std::string methods = session_->accepted_methods();
  std::string what = tried_.empty() && !password_answer_.empty()
                         ? fmt::format("signing in as '{}' was refused", access_.user)
                     : tried_.empty() ? fmt::format("there is no key to sign in with as '{}'", access_.user)
                                      : fmt::format("public key authentication as '{}' was refused; tried {}",
                                                    access_.user, fmt::join(tried_, ", "));
  if (!unusable_.empty()) what += fmt::format("; not usable: {}", fmt::join(unusable_, "; "));
  if (partial_) what += "; sshd took the key and asks for more than a key";
  if (!password_answer_.empty()) what += "; " + password_answer_;
  if (!methods.empty()) what += fmt::format("; sshd accepts: {}", methods);
  return make_error(Errc::unauthenticated, std::move(what), {},
                    tried_.empty() && password_answer_.empty() ? no_key_hint() : refused_hint());
}

std::string SignInAttempt::refused_hint() const {
  if (!password_answer_.empty()) return "check the password, and who signs in there: llmlaunch.ssh.user";
  if (partial_) return "llmlaunch run --ask-pass can answer one question for a password";
  const std::string certificates =
      certified_ ? "; ssh-keygen -L -f CERTIFICATE shows for whom and until when it is valid" : "";
  const std::string port = access_.tcp.port == 22 ? "" : fmt::format("-p {} ", access_.tcp.port);
  constexpr int kByPassword = SSH_AUTH_METHOD_PASSWORD | SSH_AUTH_METHOD_INTERACTIVE;
  const char* password = (session_->accepted_bits() & kByPassword) != 0 ? "; --ask-pass asks for a password" : "";
  return fmt::format(
      "allow the key there: ssh-copy-id -i KEY.pub {}{}@{}; or set another 'user' or 'identity_file'{}{}", port,
      access_.user, access_.tcp.host, password, certificates);
}

std::string SignInAttempt::no_key_hint() const {
  return unusable_.empty() ? "make one: ssh-keygen -t ed25519; or name one: llmlaunch.ssh.identity_file"
                           : "name a key that can be used: llmlaunch.ssh.identity_file, or load one: ssh-add";
}

void SignInAttempt::close() {
  closed_ = true;
  if (agent_) agent_->close();
  context_->agent_keys().wake();
  context_->agent_places().wake();
  context_->keys().wake();
}

}  // namespace llmlaunch::launcher::ssh
