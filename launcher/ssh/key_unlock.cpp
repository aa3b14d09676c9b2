// One question for all hosts; see key_unlock.hpp. How it is asked is terminal.cpp's.
#include "launcher/ssh/key_unlock.hpp"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "launcher/ssh/session.hpp"
#include "launcher/ssh/terminal.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// On a thread of its own: it waits for a person, and then for bcrypt.
Result<KeyHandle> ask_for_key(const std::string& path, int stop_fd) {
  for (int tries = 0; tries < kPassphraseTries; ++tries) {
    const auto passphrase = ask_at_terminal(
        fmt::format("{}Passphrase for {} (asked once for all hosts): ", tries == 0 ? "" : "That was wrong. ", path),
        stop_fd);
    if (!passphrase) return passphrase.error();
    ssh_key key = nullptr;
    const bool read = ssh_pki_import_privkey_file(path.c_str(), passphrase->c_str(), nullptr, nullptr, &key) == SSH_OK;
    if (read) return KeyHandle(key);
  }
  return make_error(Errc::unauthenticated, fmt::format("the passphrase was wrong {} times", kPassphraseTries));
}

}  // namespace

KeyUnlock::KeyUnlock(asio::thread_pool& threads) : threads_(threads) {}

asio::awaitable<Result<KeyHandle>> KeyUnlock::ask(std::string path, const bool& canceled) {
  stop_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!stop_) co_return system_error(errno, "eventfd");
  canceled_ = &canceled;
  auto key = co_await asio::co_spawn(
      threads_, call_there([&path, stop = stop_.value()] { return ask_for_key(path, stop); }), asio::use_awaitable);
  canceled_ = nullptr;
  co_return key;
}

void KeyUnlock::wake() {
  line_.wake();
  if (canceled_ == nullptr || !*canceled_) return;
  const std::uint64_t one = 1;
  // An eventfd takes it, unless it is full of them.
  [[maybe_unused]] const ssize_t written = ::write(stop_.value(), &one, sizeof(one));
}

}  // namespace llmlaunch::launcher::ssh
