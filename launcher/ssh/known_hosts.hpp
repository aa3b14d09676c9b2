/// \file
/// known_hosts files, loaded once per launch and checked by ourselves: libssh reads and hashes every file again for
/// every host, passes over lines with a marker and forgives a changed key in some settings. Used by the ssh shell
/// between key exchange and authentication. Reading, asking and wording are pure but for the files that `load` reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

/// A public key as a server shows it and as a file records it.
struct HostKey {
  std::string type;  ///< "ssh-ed25519", "ssh-rsa", …: the name inside the blob
  Bytes blob;        ///< the public blob, not base64
};

/// "SHA256:…", as ssh shows it.
std::string fingerprint(const HostKey& key);

/// The name that the files have for a host: "gpu07", "[gpu07]:2222", or the alias alone. In small letters.
std::string known_hosts_name(std::string_view host, std::uint16_t port, const std::string& alias = {});

enum class HostKeyStatus {
  ok,
  unknown,     ///< no line for this host
  changed,     ///< a line for this host has another key of this type
  other_type,  ///< all lines for this host have keys of other types
  revoked,     ///< a @revoked line has this key
};

struct HostKeyAnswer {
  HostKeyStatus status = HostKeyStatus::unknown;
  std::string place;            ///< "file:line" of the line that decided; empty for unknown
  std::string file;             ///< of that line
  HostKey recorded;             ///< that line's key; empty for unknown
  std::string authority_place;  ///< a @cert-authority line for this host, which we do not support
};

struct KnownHostsLines;  // private to known_hosts.cpp

/// The files in memory. Immutable after loading but for `add`; not for several threads while adding.
class KnownHosts {
 public:
  KnownHosts();

  /// Missing files are empty. `Errc::io` for an unreadable one, `Errc::too_large` beyond the limit. Malformed lines are
  /// passed over, as ssh does, and noted.
  static Result<KnownHosts> load(const std::vector<std::string>& files);

  /// One file's text; `file` stands in places.
  void parse(std::string_view text, const std::string& file);

  /// A key that was accepted during this launch, so that the host is known from now on.
  void add(const std::string& name, const HostKey& key, const std::string& file);

  /// `name` as from known_hosts_name. As in ssh, "[host]:port" without a line is also ok by a line of "host"; a key
  /// that is revoked for "host" is so on every port.
  HostKeyAnswer check(const std::string& name, const HostKey& key) const;

  /// The same for a host that may be recorded under any of these names, its address and its name as typed: what forbids
  /// the key under one of them beats what allows it under another.
  HostKeyAnswer check_any(const std::vector<std::string>& names, const HostKey& key) const;

  /// Types recorded for this host, in the order of the files: to ask the server for one of these first.
  std::vector<std::string> types_of(const std::string& name) const;

  /// "file:line: …" for each line passed over; at most a few, then their number.
  std::vector<std::string> notes() const;

 private:
  std::shared_ptr<KnownHostsLines> lines_;  // shared by copies
};

/// The value of HostKeyAlgorithms that asks for the known types first, then for all others that are safe.
std::string host_key_algorithms(const std::vector<std::string>& known_types);

/// What the messages are about.
struct HostKeyQuestion {
  std::string host;     ///< as llmlaunch names it: "gpu07"
  std::string name;     ///< from known_hosts_name
  std::string address;  ///< for ssh-keyscan: HostName
  std::uint16_t port = 22;
  std::string file;         ///< where new keys go: the first UserKnownHostsFile; may be empty
  HostKey key;              ///< the server's
  std::string jumps{};      ///< "me@gate:2222,inner", where ssh-keyscan does not lead; empty: directly
  bool by_command = false;  ///< a ProxyCommand leads there
  std::string user{};
  bool folder_missing = false;  ///< of `file`
};

/// Why the connection is refused, with fingerprints, file:line and the command that settles it. Not for `ok`.
Error host_key_error(const HostKeyQuestion& question, const HostKeyAnswer& answer);

/// For accept-new: adds "name type base64" to the file, unless the file knows the host already; says what it knew. Only
/// after `unknown` a line was written: what another connection or launch has accepted meanwhile is a first contact no
/// more, and another key than that one is to be refused. Makes the folder (0700) and the file (0600), ends an unended
/// last line, and holds flock(2) so that several launches may do so at once; it waits up to 5 s for that lock, so call
/// it off the event loop. `hashed`: writes |1|salt|hash for the name. `Errc::invalid_argument` for a name that a file
/// cannot hold; errors of the system calls with the path.
Result<HostKeyAnswer> append_host_key(const std::string& file, const std::string& name, const HostKey& key,
                                      bool hashed = false);

}  // namespace llmlaunch::launcher::ssh
