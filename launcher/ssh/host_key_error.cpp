// What people read when a host's key is not accepted. Each text says what came, what is on file and where, and the
// command that settles it after a look at the fingerprint.
#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>

#include "launcher/ssh/known_hosts.hpp"
#include "launcher/ssh/known_hosts_lines.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// A word for a shell of the reader: quoted unless it is plain.
std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:=@_~";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string shown(const HostKey& key) {
  return key.type + " " + fingerprint(key);
}

// A line for a shell that puts the key on file, as it is where it is typed: on this machine, by this user. ssh-keyscan
// knows no jump hosts; there ssh itself asks.
std::string record_command(const HostKeyQuestion& question) {
  const std::string port = question.port == 22 ? "" : fmt::format("-p {} ", question.port);
  const std::string file = question.file.empty() ? "~/.ssh/known_hosts" : question.file;
  const bool alias =
      !question.name.starts_with('[') && question.name != known_hosts_name(question.address, question.port);
  if (question.by_command) return fmt::format("ssh {}, which asks for it", shell_word(question.host));
  if (!question.jumps.empty()) {
    return fmt::format("ssh -J {} {}{}-o UserKnownHostsFile={} {}{}{} true", shell_word(question.jumps), port,
                       alias ? fmt::format("-o HostKeyAlias={} ", shell_word(question.name)) : "", shell_word(file),
                       question.user.empty() ? "" : shell_word(question.user), question.user.empty() ? "" : "@",
                       shell_word(question.address));
  }
  const std::string folder = file.substr(0, file.rfind('/'));
  return fmt::format("{}ssh-keyscan {}-t {} {}{} >> {}",
                     question.folder_missing ? fmt::format("mkdir -p -m 700 {} && ", shell_word(folder)) : "", port,
                     question.key.type.starts_with("ssh-") ? question.key.type.substr(4) : "ecdsa",
                     shell_word(question.address),
                     alias ? fmt::format(" | sed {}", shell_word(fmt::format("s/^[^ ]* /{} /", question.name))) : "",
                     shell_word(file));
}

Error unknown(const HostKeyQuestion& question, const HostKeyAnswer& answer, const std::string& where) {
  std::string what = fmt::format("the host key is not known: {}", shown(question.key));
  if (!answer.authority_place.empty())
    what += fmt::format(
        "; {} names a certificate authority for it, but libssh 0.10, which llmlaunch is built on, asks hosts for plain "
        "keys only and never sees their certificates",
        answer.authority_place);
  return make_error(
      Errc::host_key_unknown, what, where,
      fmt::format("compare this fingerprint with the host's own, then: {}; "
                  "or set llmlaunch.ssh.host_key_policy: accept-new, to trust hosts at their first contact",
                  record_command(question)));
}

Error changed(const HostKeyQuestion& question, const HostKeyAnswer& answer, const std::string& where) {
  return make_error(Errc::host_key_changed,
                    fmt::format("the host key has changed: it shows {}, {} has {}", shown(question.key), answer.place,
                                fingerprint(answer.recorded)),
                    where,
                    fmt::format("the host was installed anew, or somebody else answers in its place; if it is the "
                                "host: ssh-keygen -R {} -f {}",
                                shell_word(question.name), shell_word(answer.file)));
}

Error other_type(const HostKeyQuestion& question, const HostKeyAnswer& answer, const std::string& where) {
  return make_error(Errc::host_key_other,
                    fmt::format("the host shows a key of another type: {}; {} has {}", shown(question.key),
                                answer.place, shown(answer.recorded)),
                    where,
                    fmt::format("compare this fingerprint with the host's own, then: {}", record_command(question)));
}

Error revoked(const HostKeyQuestion& question, const HostKeyAnswer& answer, const std::string& where) {
  return make_error(Errc::host_key_revoked,
                    fmt::format("the host shows a key that is revoked: {}, by {}", shown(question.key), answer.place),
                    where, "give the host a new key; whoever has the old one can pretend to be this host");
}

}  // namespace

std::string fingerprint(const HostKey& key) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  if (EVP_Digest(key.blob.data(), key.blob.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1)
    return "SHA256:(no memory to compute it)";
  std::string text = to_base64(std::as_bytes(std::span(digest.data(), length)));
  text.erase(text.find_last_not_of('=') + 1);
  return "SHA256:" + text;
}

Error host_key_error(const HostKeyQuestion& question, const HostKeyAnswer& answer) {
  const std::string where = "host " + question.host;
  switch (answer.status) {
    case HostKeyStatus::changed: return changed(question, answer, where);
    case HostKeyStatus::other_type: return other_type(question, answer, where);
    case HostKeyStatus::revoked: return revoked(question, answer, where);
    case HostKeyStatus::ok:  // a caller's mistake; refusing is the safe answer
    case HostKeyStatus::unknown: break;
  }
  return unknown(question, answer, where);
}

}  // namespace llmlaunch::launcher::ssh
