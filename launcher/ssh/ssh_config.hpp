/// \file
/// Our own reading of ssh_config(5), because libssh matches later `Host` lines against HostName instead of the name
/// that was typed and passes over keywords that people rely on. Read once per launch, asked once per host: `for_host`
/// gives what `ssh -G` would give, as far as we connect by it, and names what we do not do. Used by the ssh shell.
///
/// Rules kept: the first value of a keyword wins, IdentityFile adds up, `Host` patterns see the name as typed, `Match
/// host` the HostName so far, `Include` is part of the block that it stands in. `Match` with host, originalhost, user,
/// localuser and all; a block with another criterion (exec, final, canonical …) is passed over and noted.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/config.hpp"
#include "launcher/proxy_jump.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher::ssh {

inline constexpr std::uint16_t kDefaultSshPort = 22;

/// Who reads the file: for "~", %d, %u, `Match localuser`, ${VARIABLE} and IdentityAgent. Given, not looked up.
struct LocalUser {
  std::string home;  ///< absolute
  std::string name;
  EnvList environment;  ///< for SSH_AUTH_SOCK and ${…}
};

/// One file to read. ~/.ssh/config must be ours and closed to other writers, as ssh demands.
struct ConfigFile {
  std::string path;
  std::string include_base;  ///< where a relative `Include` starts
  bool required = false;     ///< named by the user: missing is an error
  bool check_owner = false;
};

/// ~/.ssh/config and /etc/ssh/ssh_config; or `config_file` alone (`llmlaunch.ssh.config_file`); or nothing for "none".
std::vector<ConfigFile> config_files(const std::optional<std::string>& config_file, const std::string& home);

enum class StrictHostKeyChecking { ask, yes, accept_new, no };
enum class AddressFamily { any, inet, inet6 };

/// A setting that applies to the host and that llmlaunch does not carry out.
struct UnsupportedSetting {
  std::string keyword;  ///< as written: "BindAddress"
  std::string value;    ///< without what may be secret
  std::string place;    ///< "/home/me/.ssh/config:12"
  std::string reason;   ///< "the system chooses the address that connections leave from"
  bool refuse = false;  ///< connecting without it goes elsewhere or is less safe: do not connect
};

/// "BindAddress 10.0.0.1 (/home/me/.ssh/config:12): the system chooses …", for an error (refuse) or a warning.
std::string to_string(const UnsupportedSetting& setting);

/// All that holds for one host, defaults filled in and "~", %x and ${…} expanded.
struct HostSettings {
  std::string host_name;  ///< where to connect: HostName, else the name as typed
  std::string user;
  std::uint16_t port = kDefaultSshPort;
  std::vector<std::string> identity_files;    ///< in the order to try; empty for "IdentityFile none"
  bool identities_are_default = false;        ///< none is set: identity_files are ssh's own, most of which do not exist
  bool identities_only = false;               ///< offer only identity_files, also from the agent
  std::optional<std::string> identity_agent;  ///< socket of the agent to ask; unset: there is none
  std::vector<std::string> user_known_hosts_files;  ///< the first one takes new keys; empty for "none"
  std::vector<std::string> global_known_hosts_files;
  std::optional<std::string> host_key_alias;
  std::optional<StrictHostKeyChecking> host_key_checking;  ///< unset: ssh's own default, ask
  std::optional<bool> hash_known_hosts;
  std::optional<std::chrono::seconds> connect_timeout;
  AddressFamily address_family = AddressFamily::any;
  /// The way there: jump hosts, or a command whose stdin and stdout lead there; the one that comes first in the files.
  /// Both empty: directly.
  std::vector<JumpStop> jumps;
  std::string proxy_command;
  std::string proxy_place;                     ///< "file:line" of that line
  std::vector<std::string> certificate_files;  ///< beside those that lie next to an identity file
  /// ServerAliveInterval × ServerAliveCountMax: after so long without an answer the connection is given up.
  std::optional<std::chrono::seconds> alive_limit;
  bool batch_mode = false;  ///< nobody is asked anything
  std::vector<UnsupportedSetting> unsupported;
  /// What ssh would do there beside connecting, and we do not: "ForwardAgent (/home/me/.ssh/config:12)".
  std::vector<std::string> left_out;
};

/// The host to look up. The rest is what llmlaunch's own configuration says, which wins over the files.
struct HostQuery {
  std::string name;  ///< as typed
  std::optional<std::string> user;
  std::optional<std::uint16_t> port;
  std::optional<std::string> address = std::nullopt;  ///< in place of HostName
};

/// The files behind an `Include` pattern (absolute, globs not yet resolved), each as path and text.
struct IncludedFile {
  std::string path;
  std::string text;
};
using IncludeReader = std::function<Result<std::vector<IncludedFile>>(const std::string& pattern)>;

struct ConfigLines;  // the lines of all files; private, see ssh_config_lines.hpp

/// The files, parsed. Immutable; may be asked from several threads.
class SshConfig {
 public:
  /// Reads the files in order; a missing one that is not required is empty. `Errc::io` for an unreadable file,
  /// `Errc::invalid_config` with "file:line:column" for a line that ssh would refuse, `Errc::too_large` beyond a limit.
  static Result<SshConfig> load(const std::vector<ConfigFile>& files, LocalUser user);

  /// The same from one text; touches no file but through `include` (none: an Include line is noted and passed over).
  static Result<SshConfig> parse(std::string_view text, const ConfigFile& file, LocalUser user,
                                 const IncludeReader& include = nullptr);

  HostSettings for_host(const HostQuery& host) const;

  /// What was passed over, whatever the host: "file:line: …", one text each.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  LocalUser user_;
  std::shared_ptr<const ConfigLines> lines_;  // shared by copies
  std::vector<std::string> notes_;
};

}  // namespace llmlaunch::launcher::ssh
