// One session for many hosts; see jump_host.hpp. How bytes go through it is forwards.cpp's, how it is signed in to is
// login.cpp's, the same as for a host.
#include "launcher/ssh/jump_host.hpp"

#include <utility>

#include "launcher/ssh/login.hpp"
#include "launcher/ssh/ssh_context.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

constexpr std::chrono::milliseconds kFirstRetryDelay{200};
// Of its banner, or of the command that leads to it: a flood of it would bury what hosts say.
constexpr int kMaxJumpNoiseLines = 20;

}  // namespace

// Who waits, so that nobody is left behind whatever way a coroutine ends.
class JumpHost::User {
 public:
  explicit User(JumpHost& jump) : jump_(jump) { ++jump_.users_; }
  ~User() {
    --jump_.users_;
    jump_.look_around();
  }
  User(const User&) = delete;
  User& operator=(const User&) = delete;

 private:
  JumpHost& jump_;
};

JumpHost::JumpHost(asio::any_io_executor executor, std::vector<JumpStop> way)
    : executor_(std::move(executor)),
      way_(std::move(way)),
      changed_(executor_, std::chrono::steady_clock::time_point::max()) {}

JumpHost::~JumpHost() {
  if (login_) login_->close();
  if (session_) session_->close();
}

asio::awaitable<Result<Transport>> JumpHost::connect_to(std::shared_ptr<SshContext> context, TcpTarget target,
                                                        const bool& canceled) {
  const auto self = shared_from_this();
  const User user(*this);
  while (!forwards_ && !canceled) {
    const bool fresh = std::chrono::steady_clock::now() < failed_at_ + kJumpFailureHolds;
    if (failure_ && fresh) co_return *failure_;
    if (!std::exchange(opening_, true)) {
      failure_.reset();
      spawn_or_die(executor_, "jump host " + name(), open(self, context));
    }
    co_await changed_.async_wait(await_tuple);
  }
  if (canceled) co_return make_error(Errc::canceled, "the connection was closed");
  const auto forwards = forwards_;
  const auto session = session_;
  auto end = co_await forwards->open(target);
  if (!end) co_return end.error();
  if (canceled) co_return make_error(Errc::canceled, "the connection was closed");
  co_return Transport{std::move(end->stream), session->head_address(), target.host, target.host + " behind " + name(),
                      std::move(end->ended)};
}

asio::awaitable<void> JumpHost::open(std::shared_ptr<JumpHost> self, std::shared_ptr<SshContext> context) {
  auto opened = co_await self->sign_in(std::move(context));
  if (!opened) {
    Error& error = opened.error();
    // Nobody wanted it any more; who has come meanwhile begins anew.
    const bool given_up = error.code == Errc::canceled;
    // Not a drop of the host's own connection, which would be made again: that was tried here.
    if (error.code == Errc::closed) error.code = make_error_code(Errc::unreachable);
    if (error.where.empty() || error.where.starts_with("host ")) error.where = "jump host " + self->name();
    if (!given_up) self->failure_ = error;
    self->failed_at_ = std::chrono::steady_clock::now();
  }
  self->login_.reset();
  self->opening_ = false;
  self->changed_.cancel();
  self->look_around();
}

asio::awaitable<Result<void>> JumpHost::sign_in(std::shared_ptr<SshContext> context) {
  auto access = context->access_jump(way_);
  if (!access) co_return access.error();
  const auto say = [name = name(), told = std::make_shared<int>(0)](std::string_view line) {
    if (++*told <= kMaxJumpNoiseLines) log_info("jump host {} said: {}", name, line);
    if (*told == kMaxJumpNoiseLines + 1) log_info("jump host {} said more, which is not shown", name);
  };
  asio::steady_timer pause(executor_);
  for (int attempt = 1;; ++attempt) {
    login_ = std::make_shared<Login>(executor_, context, say);
    auto session = co_await login_->run(*access);
    if (session) {
      session_ = std::move(*session);
      break;
    }
    if (attempt == kMaxJumpAttempts || users_ == 0 || !dropped_early(session.error(), login_->step()))
      co_return session.error();
    pause.expires_after(kFirstRetryDelay * (1 << (attempt - 1)));
    co_await pause.async_wait(await_tuple);
  }
  const auto weak = weak_from_this();
  forwards_ = std::make_shared<Forwards>(session_, name(), [weak] {
    if (const auto self = weak.lock()) self->look_around();
  });
  if (auto started = forwards_->start(); !started) {
    forwards_.reset();
    co_return started.error();
  }
  log_debug("jump host {}: signed in", name());
  co_return ok;
}

// Called whenever somebody has left, or the session has ended.
void JumpHost::look_around() {
  const bool done_with = forwards_ && users_ == 0 && forwards_->idle() && !session_->is_clogged();
  if (forwards_ && (forwards_->ended() || done_with)) {
    // It may be the one that calls.
    const auto done = std::exchange(forwards_, nullptr);
    const auto session = std::exchange(session_, nullptr);
    done->close();
    log_debug("jump host {}: left", name());
  }
  if (users_ == 0 && login_ && opening_) login_->close();
}

void JumpHost::wake() {
  places_.wake();
  changed_.cancel();
}

}  // namespace llmlaunch::launcher::ssh
