// Reads key files and certificates through libssh; see key_ring.hpp. Which is offered when is sign_in.cpp's.
#include "launcher/ssh/key_ring.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>

#include "launcher/ssh/certificate.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// libssh asks through this when a key has a passphrase.
int note_question(const char*, char*, std::size_t, int, int, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

// From the .pub file, or from the file itself, where OpenSSH's own format has it in the clear.
KeyHandle public_key_of(const std::string& path) {
  ssh_key key = nullptr;
  for (const std::string& file : {path + ".pub", path})
    if (ssh_pki_import_pubkey_file(file.c_str(), &key) == SSH_OK) return KeyHandle(key);
  return nullptr;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line(256, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<std::size_t>(file.gcount()));
  return line.substr(0, line.find('\n'));
}

// Why libssh could not read it, as far as its beginning tells.
std::string problem_of(std::string_view beginning) {
  if (beginning.find("PRIVATE KEY") != beginning.npos)
    return "it has a passphrase, and nobody is asked: ssh-add it, llmlaunch signs in through ssh-agent";
  for (const char* type : {"ssh-", "ecdsa-", "sk-"})
    if (beginning.starts_with(type)) return "this is a public key: name the private one beside it";
  return "it is no private key";
}

}  // namespace

const Identity& KeyRing::identity(const std::string& path) {
  const auto [at, added] = identities_.try_emplace(path);
  if (added) {
    at->second.path = path;
    read(at->second);
  }
  return at->second;
}

void KeyRing::read(Identity& identity) {
  const std::string& path = identity.path;
  if (KeyHandle known = public_key_of(path)) {
    identity.public_blob = public_blob(known.get());
    identity.public_key = known.get();
    keys_.push_back(std::move(known));
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) {
    identity.missing = errno == ENOENT || errno == ENOTDIR;
    identity.problem = identity.missing ? "no such file" : std::generic_category().message(errno);
    return;
  }
  ssh_key key = nullptr;
  bool asked = false;
  const bool readable = ssh_pki_import_privkey_file(path.c_str(), nullptr, note_question, &asked, &key) == SSH_OK;
  KeyHandle owned(readable ? key : nullptr);
  if (!readable && ::access(path.c_str(), R_OK) != 0) {
    identity.problem = std::generic_category().message(errno);
    return;
  }
  // As ssh: a private key that others can read is no private key.
  if ((readable || asked) && info.st_uid == ::getuid() && (info.st_mode & 077) != 0) {
    identity.problem = fmt::format("others may read it (mode {:04o}): chmod 600 {}", info.st_mode & 07777, path);
    return;
  }
  identity.locked = asked && may_ask_;
  if (readable)
    take(identity, std::move(owned));
  else
    identity.problem = problem_of(first_line(path));
}

void KeyRing::take(Identity& identity, KeyHandle key) {
  identity.key = key.get();
  identity.public_blob = public_blob(key.get());
  identity.public_key = key.get();
  identity.problem.clear();
  keys_.push_back(std::move(key));
}

asio::awaitable<void> KeyRing::unlock(asio::any_io_executor executor, std::string path, const bool& canceled) {
  const bool taken = co_await unlock_.line().take(executor, canceled);
  if (!taken) co_return;
  const Place place(unlock_.line());
  Identity& identity = identities_.at(path);
  if (!identity.locked) co_return;  // another host was here before
  auto key = co_await unlock_.ask(path, canceled);
  if (!key && key.error().code == Errc::canceled) co_return;  // others may still want it
  identity.locked = false;
  if (key)
    take(identity, std::move(*key));
  else
    identity.problem = key.error().what;
}

// --- certificates ----------------------------------------------------------------------------------------------------

const Certificate& KeyRing::certificate(const std::string& path) {
  const auto [at, added] = certificates_.try_emplace(path);
  Certificate& certificate = at->second;
  if (!added) return certificate;
  certificate.path = path;
  struct stat info {};
  ssh_key key = nullptr;
  if (::stat(path.c_str(), &info) != 0) {
    certificate.missing = errno == ENOENT || errno == ENOTDIR;
    certificate.problem = certificate.missing ? "no such file" : std::generic_category().message(errno);
  } else if (ssh_pki_import_cert_file(path.c_str(), &key) == SSH_OK) {
    keys_.emplace_back(key);
    const bool is_one = type_name(key).find("-cert-") != std::string::npos;
    if (is_one) certificate.key = key;
    if (is_one) certificate.blob = public_blob(key);
    if (!is_one) certificate.problem = "this is a public key, and no certificate";
  } else {
    certificate.problem = "it is no certificate that can be read";
  }
  return certificate;
}

ssh_key KeyRing::certified(const Identity& identity, const Certificate& certificate) {
  const bool together = certificate.key != nullptr && certifies(certificate.blob, identity.public_blob);
  if (identity.key == nullptr || !together) return nullptr;
  const auto [at, added] = certified_.try_emplace(std::pair(identity.path, certificate.path));
  if (!added) return at->second.get();
  KeyHandle both(ssh_key_dup(identity.key));
  if (both && ssh_pki_copy_cert_to_privkey(certificate.key, both.get()) == SSH_OK) at->second = std::move(both);
  return at->second.get();
}

}  // namespace llmlaunch::launcher::ssh
