// Reading ssh_config, compared with what ssh itself makes of the same text, and the messages about what is wrong.
#include "launcher/ssh/ssh_config.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "launcher/ssh/ssh_config_lines.hpp"
#include "launcher/ssh/ssh_pattern.hpp"
#include "tests/support/bootstrap_host.hpp"
#include "tests/support/catch.hpp"

namespace launcher_ssh_config_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::launcher::ssh;
using test::TemporaryFolder;

namespace {

const LocalUser kMe{"/home/me", "me", {{"SSH_AUTH_SOCK", "/run/agent"}, {"KEYS", "/keys"}}};
const ConfigFile kFile{"cfg", "/home/me/.ssh", false, false};

SshConfig parsed(const std::string& text) {
  auto config = SshConfig::parse(text, kFile, kMe);
  if (!config) FAIL(to_string(config.error()));
  return *config;
}

HostSettings settings_of(const std::string& text, const std::string& name) {
  return parsed(text).for_host({name, {}, {}});
}

Error error_of(const std::string& text) {
  auto config = SshConfig::parse(text, kFile, kMe);
  REQUIRE(!config);
  return config.error();
}

// What `ssh -G` prints, keyword → values; empty when there is no ssh.
std::multimap<std::string, std::string> asked_of_ssh(const std::string& file, const std::string& host) {
  std::multimap<std::string, std::string> answer;
  const std::string command = fmt::format("ssh -G -F '{}' '{}' </dev/null 2>/dev/null", file, host);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
  REQUIRE(pipe);
  char line[8192];
  while (std::fgets(line, sizeof(line), pipe.get())) {
    std::string text(line);
    text.erase(text.find_last_not_of("\n") + 1);
    const std::size_t blank = std::min(text.find(' '), text.size());
    answer.emplace(text.substr(0, blank), text.substr(std::min(blank + 1, text.size())));
  }
  return answer;
}

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += (all.empty() ? "" : " ") + text;
  return all;
}

std::string name_of(StrictHostKeyChecking checking) {
  constexpr const char* kNames[] = {"ask", "true", "accept-new", "false"};
  return kNames[static_cast<int>(checking)];
}

void compare_with_ssh(const std::string& text, const std::string& host) {
  INFO("host " << host << " of:\n" << text);
  const TemporaryFolder folder;
  const auto ssh = asked_of_ssh(folder.write("config", text), host);
  REQUIRE(ssh.count("hostname") == 1);
  LocalUser me = kMe;
  me.name = ::getenv("USER") ? ::getenv("USER") : "root";
  auto config = SshConfig::parse(text, kFile, me);
  REQUIRE(config);
  const HostSettings ours = config->for_host({host, {}, {}});
  CHECK(ours.host_name == ssh.find("hostname")->second);
  if (text.find("User ") != std::string::npos && ours.user != me.name) CHECK(ours.user == ssh.find("user")->second);
  if (ours.user == me.name) CHECK(text.find("User " + ssh.find("user")->second) == std::string::npos);
  CHECK(std::to_string(ours.port) == ssh.find("port")->second);
  CHECK(name_of(ours.host_key_checking.value_or(StrictHostKeyChecking::ask)) ==
        ssh.find("stricthostkeychecking")->second);
  CHECK((ours.identities_only ? "yes" : "no") == ssh.find("identitiesonly")->second);
  const auto timeout = ssh.find("connecttimeout")->second;
  CHECK((ours.connect_timeout ? std::to_string(ours.connect_timeout->count()) : "none") == timeout);
  constexpr const char* kFamilies[] = {"any", "inet", "inet6"};
  CHECK(kFamilies[static_cast<int>(ours.address_family)] == ssh.find("addressfamily")->second);
  const auto alias = ssh.find("hostkeyalias");
  CHECK(ours.host_key_alias.value_or("") == (alias == ssh.end() ? "" : alias->second));
  if (!ours.identities_are_default) {
    std::vector<std::string> files;
    for (auto [at, end] = ssh.equal_range("identityfile"); at != end; ++at)
      if (at->second != "none") files.push_back(at->second);
    CHECK(ours.identity_files == files);
  }
  if (text.find("KnownHostsFile") != std::string::npos)
    CHECK(joined(ours.user_known_hosts_files) == ssh.find("userknownhostsfile")->second);
}

}  // namespace

TEST_CASE("ssh's own program reads the same settings from the same file") {
  if (std::system("command -v ssh >/dev/null") != 0) {
    WARN("skipped: there is no ssh to compare with");
    return;
  }
  const char* texts[] = {
      "",
      "Host gpu01\n  HostName 10.9.9.1\nHost gpu*\n  User train\n  Port 2222\nHost 10.9.9.*\n  User wrong\nHost *\n  "
      "Port 22\n",
      "User first\nUser second\nHost gpu01\nUser third\n",
      "Host gpu* !gpu01\n  Port 2201\nHost !gpu02 *\n  Port 2202\n",
      "Host !gpu01\n  Port 2201\n",
      "Host gpu01,gpu02\n  Port 2201\n",
      "Host gpu0? other\n  Port=2201\n  User = train\n\tIdentitiesOnly\tyes\n",
      "Host GPU01\n  Port 2201\n",
      "Match host gpu01\n  Port 2201\nMatch host gpu02,gpu03\n  Port 2202\nMatch host *,!gpu04\n  Port 2203\n",
      "Match host GPU*\n  Port 2201\n",
      "HostName node-%h.example\nMatch host node-gpu01.example\n  Port 2201\nMatch originalhost gpu02\n  Port 2202\n",
      "Host gpu01\n  HostName %h.example.%%\n",
      "Match user train\n  Port 2201\nHost gpu01\n  User train\nMatch user train\n  Port 2202\n",
      "Match all\n  Port 2201\nMatch !host gpu01\n  ConnectTimeout 5\n",
      "Match originalhost gpu01 host gpu*\n  Port 2201\nMatch host=gpu02 originalhost=\"gpu*\"\n  Port 2202\n",
      "IdentityFile /keys/a\nHost gpu01\n  IdentityFile \"/keys/b c\"\nHost *\n  IdentityFile /keys/a\n  IdentityFile "
      "/keys/d\n",
      "Host gpu01\n  IdentityFile none\nHost gpu02\n  IdentityFile /keys/e # not this\n",
      "StrictHostKeyChecking accept-new\nHost gpu01\n  StrictHostKeyChecking no\n",
      "Host gpu01\n  StrictHostKeyChecking OFF\nHost gpu02\n  StrictHostKeyChecking Yes\nHost *\n  "
      "StrictHostKeyChecking ask\n",
      "ConnectTimeout 1m30s\nAddressFamily inet6\nHostKeyAlias cluster\n",
      "Host gpu01\n  ConnectTimeout none\nHost *\n  ConnectTimeout 7\n  AddressFamily inet\n",
      "UserKnownHostsFile /a/known \"/b/with blank\" /c/%n.%h.%p\n",
      "# a comment\n\n   # another\nhost gpu01 # and one more\nPORT 2201\nuser=\"train\"\n",
      "Host \"gpu01\" 'gpu02'\r\n  Port 2201   \r\n",
      "Host gpu\\ 01 gpu02\n  Port 2201\n",
      "ProxyCommand none\nForwardAgent yes\nSendEnv LANG LC_*\nLocalForward 8080 127.0.0.1:80\nCiphers "
      "aes256-ctr\nHost gpu01\n  Port 2201\n",
      "Host *.example\n  Port 2201\nHost *\n  CanonicalizeHostname no\n  User train\n",
      "IgnoreUnknown UseKeychain,Foo*\nUseKeychain yes\nFooBar baz\nPort 2201\n",
      "Match exec false\n  Port 2201\nMatch host gpu01\n  Port 2202\n",
      "Match final all\nUser late\nHost gpu01\n  User train\n",
  };
  for (const std::string text : texts)
    for (const char* host : {"gpu01", "gpu02", "GPU04", "login.example"}) {
      // `final` is read in a second pass that we do not make.
      if (text.starts_with("Match final") && std::string_view(host) != "gpu01") continue;
      compare_with_ssh(text, host);
    }
}

TEST_CASE("a host without any file has ssh's defaults") {
  const HostSettings none = SshConfig::load({}, kMe)->for_host({"gpu01", {}, {}});
  CHECK(none.host_name == "gpu01");
  CHECK(none.user == "me");
  CHECK(none.port == 22);
  CHECK(none.identities_are_default);
  CHECK(joined(none.identity_files) ==
        "/home/me/.ssh/id_rsa /home/me/.ssh/id_ecdsa /home/me/.ssh/id_ecdsa_sk /home/me/.ssh/id_ed25519 "
        "/home/me/.ssh/id_ed25519_sk");
  CHECK(none.identity_agent == "/run/agent");
  CHECK(joined(none.user_known_hosts_files) == "/home/me/.ssh/known_hosts /home/me/.ssh/known_hosts2");
  CHECK(joined(none.global_known_hosts_files) == "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2");
  CHECK(!none.host_key_checking);
  CHECK(!none.connect_timeout);
  CHECK(none.unsupported.empty());
}

TEST_CASE("user and port of llmlaunch's own configuration win over the file, also in Match and in percent signs") {
  const SshConfig config = parsed("User file\nPort 1\nIdentityFile /k/%r-%p\nMatch user mine\nHostKeyAlias matched\n");
  const HostSettings settings = config.for_host({"gpu01", "mine", std::uint16_t{2222}});
  CHECK(settings.user == "mine");
  CHECK(settings.port == 2222);
  CHECK(settings.host_key_alias == "matched");
  CHECK(joined(settings.identity_files) == "/k/mine-2222");
}

TEST_CASE("paths are filled in") {
  const HostSettings settings = settings_of(
      "HostName node.%h\nHostKeyAlias alias\n"
      "IdentityFile ~/.ssh/a\nIdentityFile %d/b-%h-%n-%u-%%-%k\nIdentityFile ${KEYS}/c\nIdentityAgent ~/agent.%r\n"
      "UserKnownHostsFile ~/known none2\nGlobalKnownHostsFile none\n",
      "gpu01");
  CHECK(joined(settings.identity_files) == "/home/me/.ssh/a /home/me/b-node.gpu01-gpu01-me-%-alias /keys/c");
  CHECK(settings.identity_agent == "/home/me/agent.me");
  CHECK(joined(settings.user_known_hosts_files) == "/home/me/known none2");
  CHECK(settings.global_known_hosts_files.empty());
  CHECK(settings.unsupported.empty());
}

TEST_CASE("a path that cannot be filled in is left out and said aloud") {
  const HostSettings settings =
      settings_of("IdentityFile /k/%C\nIdentityFile ${NOWHERE}/a\nIdentityFile ~root/b\nIdentityFile /k/ok\n", "gpu01");
  CHECK(joined(settings.identity_files) == "/k/ok");
  REQUIRE(settings.unsupported.size() == 3);
  CHECK(to_string(settings.unsupported[0]) == "IdentityFile /k/%C (cfg:1): '%C' is not known here");
  CHECK(to_string(settings.unsupported[1]) == "IdentityFile ${NOWHERE}/a (cfg:2): the variable NOWHERE is not set");
  CHECK(to_string(settings.unsupported[2]) ==
        "IdentityFile ~root/b (cfg:3): the home directory of another user is not looked up");
  CHECK(!settings.unsupported[0].refuse);
}

TEST_CASE("the agent to ask is the one that the file names") {
  CHECK(settings_of("IdentityAgent none\n", "a").identity_agent == std::nullopt);
  CHECK(settings_of("IdentityAgent SSH_AUTH_SOCK\n", "a").identity_agent == "/run/agent");
  CHECK(settings_of("IdentityAgent $KEYS\n", "a").identity_agent == "/keys");
  CHECK(settings_of("IdentityAgent $NOWHERE\n", "a").identity_agent == std::nullopt);
  CHECK(settings_of("IdentityAgent \"${KEYS}/sock\"\n", "a").identity_agent == "/keys/sock");
  CHECK(settings_of("IdentityAgent /run/other\n", "a").identity_agent == "/run/other");
}

TEST_CASE("what llmlaunch does not do is kept with its place, for the hosts that it is set for") {
  const SshConfig config = parsed(
      "Host inner*\n  RevokedHostKeys /etc/ssh/revoked\nHost card\n  PKCS11Provider /lib/p.so\n"
      "Host *\n  RevokedHostKeys none\n  BindAddress 10.0.0.1\n");
  const auto inner = config.for_host({"inner7", {}, {}}).unsupported;
  REQUIRE(inner.size() == 2);
  CHECK(inner[0].refuse);
  CHECK(
      to_string(inner[0]) ==
      "RevokedHostKeys /etc/ssh/revoked (cfg:2): llmlaunch reads revoked keys from @revoked lines of known_hosts only");
  CHECK(!inner[1].refuse);
  CHECK(to_string(inner[1]) ==
        "BindAddress 10.0.0.1 (cfg:7): the system chooses the address that connections leave from");
  CHECK(config.for_host({"card", {}, {}}).unsupported[0].value == "/lib/p.so");
}

TEST_CASE("a harmless value of a keyword that is not supported decides for later lines") {
  CHECK(settings_of("RevokedHostKeys none\nHost *\nRevokedHostKeys /a\n", "a").unsupported.empty());
  CHECK(settings_of("CanonicalizeHostname no\nPubkeyAuthentication yes\nRevokedHostKeys none\n", "a")
            .unsupported.empty());
  CHECK(settings_of("RevokedHostKeys /etc/ssh/revoked\n", "a").unsupported.at(0).refuse);
  CHECK(settings_of("ProxyUseFdpass no\nVerifyHostKeyDNS no\nRemoteCommand none\nHostbasedAuthentication no\n", "a")
            .unsupported.empty());
  CHECK(settings_of("ProxyUseFdpass yes\n", "a").unsupported.at(0).refuse);
  CHECK(to_string(settings_of("SetEnv A=b C=d\n", "a").unsupported.at(0)) ==
        "SetEnv A=… (cfg:1): variables for ranks stand in llmlaunch.env");
}

TEST_CASE("what ssh would do beside connecting is named with its place, where it asks for something") {
  const HostSettings wishes = settings_of(
      "LocalForward 6006 localhost:6006\nLocalForward 8888 localhost:8888\nForwardAgent yes\nCompression no\n"
      "Host *\n  Compression yes\n  ForwardX11 no # never\n  SendEnv LANG\n  PasswordAuthentication no\n",
      "a");
  CHECK(wishes.left_out ==
        std::vector<std::string>{"LocalForward (cfg:1)", "ForwardAgent (cfg:3)", "PasswordAuthentication (cfg:9)"});
  CHECK(wishes.unsupported.empty());
}

TEST_CASE("the way to a host is what comes first of ProxyJump and ProxyCommand, none too") {
  const SshConfig config = parsed(
      "Host inner*\n  ProxyJump me@bastion:22,ssh://deep\nHost old\n  ProxyCommand nc -X connect \"%h\" %p # %%\n"
      "Host free\n  ProxyCommand None\nHost open\n  ProxyJump none\nHost *\n  ProxyJump %h-gate\n  ProxyCommand late\n"
      "  User me\n  Port 2222\n");
  const HostSettings inner = config.for_host({"inner7", {}, {}});
  CHECK(to_string(inner.jumps) == "me@bastion:22,deep");
  CHECK(inner.proxy_command.empty());
  CHECK(inner.proxy_place == "cfg:2");
  const HostSettings old = config.for_host({"old", {}, {}});
  CHECK(old.jumps.empty());
  CHECK(old.proxy_command == "nc -X connect \"old\" 2222 # %");
  CHECK(old.proxy_place == "cfg:4");
  for (const char* name : {"free", "open"}) {
    CHECK(config.for_host({name, {}, {}}).jumps.empty());
    CHECK(config.for_host({name, {}, {}}).proxy_command.empty());
  }
  CHECK(to_string(config.for_host({"else", {}, {}}).jumps) == "else-gate");
  CHECK(settings_of("HostName real\nProxyCommand x %n %h %r\n", "typed").proxy_command == "x typed real me");
}

TEST_CASE("a way that cannot be gone is refused for the hosts that it is set for") {
  const auto bad = [](const std::string& text, const std::string& name) {
    const auto unsupported = settings_of(text, name).unsupported;
    REQUIRE(unsupported.size() == 1);
    CHECK(unsupported[0].refuse);
    return to_string(unsupported[0]);
  };
  CHECK(bad("ProxyCommand nc %h %C\n", "a") == "ProxyCommand nc … (cfg:1): '%C' is not known here");
  CHECK(bad("ProxyCommand nc %\n", "a") == "ProxyCommand nc … (cfg:1): '%' is not known here");
  CHECK(bad("ProxyCommand nc %h\n", "a;reboot") ==
        "ProxyCommand nc … (cfg:1): 'a;reboot' in place of %h is no plain name");
  CHECK(bad("ProxyCommand nc %h\n", "-oX") == "ProxyCommand nc … (cfg:1): '-ox' in place of %h is no plain name");
  CHECK(bad("ProxyJump %r@%h:x\n", "a") ==
        "ProxyJump me@a:x (cfg:1): 'me@a:x' is no jump host: a port is a number from 1 to 65535");
}

TEST_CASE("certificates add up, the time of life is a product, and nobody is asked in batch mode") {
  const HostSettings settings =
      settings_of("CertificateFile ~/a-cert.pub\nCertificateFile /b\nServerAliveInterval 5\nBatchMode yes\n", "a");
  CHECK(joined(settings.certificate_files) == "/home/me/a-cert.pub /b");
  CHECK(settings.alive_limit == std::chrono::seconds(15));
  CHECK(settings.batch_mode);
  CHECK(settings_of("ServerAliveInterval 1m\nServerAliveCountMax 2\n", "a").alive_limit == std::chrono::seconds(120));
  CHECK(settings_of("ServerAliveInterval 0\n", "a").alive_limit == std::nullopt);
  CHECK(settings_of("ServerAliveInterval 52w\nServerAliveCountMax 999999999\n", "a").alive_limit ==
        std::chrono::seconds(86'400));
  const HostSettings none = settings_of("CertificateFile none\n", "a");
  CHECK(none.certificate_files.empty());
  CHECK(none.alive_limit == std::nullopt);
  CHECK(!none.batch_mode);
}

TEST_CASE("unknown keywords and criteria are noted once, with their place") {
  const SshConfig config = parsed(
      "Foo bar\nIgnoreUnknown Use*\nusekeychain yes\nMatch exec \"test -f /x\"\nPort 1\nMatch final all\nPort 2\n");
  CHECK(config.notes() == std::vector<std::string>{"cfg:1: unknown keyword 'Foo', passed over",
                                                   "cfg:4: 'Match exec' is not supported, the block is passed over",
                                                   "cfg:6: 'Match final' is not supported, the block is passed over"});
  CHECK(config.for_host({"a", {}, {}}).port == 22);
}

TEST_CASE("of many notes the first are read, and the others counted") {
  std::string text;
  for (std::size_t line = 0; line < kMaxConfigNotes + 3; ++line) text += "Foo bar\n";
  const SshConfig config = parsed(text);
  REQUIRE(config.notes().size() == kMaxConfigNotes + 1);
  CHECK(config.notes().back() == "ssh configuration: 3 more lines passed over");
}

TEST_CASE("a line that ssh would refuse is refused with file, line, column and the line itself") {
  CHECK(to_string(error_of("Host a\n  Port 99999\n")) ==
        "cfg:2:8: Port must be a number from 1 to 65535, not '99999'\n    2 |   Port 99999\n      |        ^");
  struct Case {
    const char* text;
    const char* begin;
  };
  for (const auto& [text, begin] : {
           Case{"Port", "cfg:1:5: Port has no value"},
           Case{"Port 1 2", "cfg:1:8: Port has one value, this is one more"},
           Case{"Port #1", "cfg:1:6: Port has no value"},
           Case{"Port 0", "cfg:1:6: Port must be"},
           Case{"Port 22x", "cfg:1:6: Port must be"},
           Case{"Host", "cfg:1:5: Host has no value"},
           Case{"Host \"\"", "cfg:1:6: Host has an empty value"},
           Case{"User \"me", "cfg:1:6: a quote is not closed"},
           Case{"\nHostName a%x", "cfg:2:10: HostName may have no other percent signs than %h and %%"},
           Case{"HostName a%", "cfg:1:10: HostName may have"},
           Case{"IdentitiesOnly maybe", "cfg:1:16: IdentitiesOnly must be yes or no, not 'maybe'"},
           Case{"StrictHostKeyChecking sure", "cfg:1:23: StrictHostKeyChecking must be yes, no, ask or accept-new"},
           Case{"AddressFamily ipv4", "cfg:1:15: AddressFamily must be any, inet or inet6"},
           Case{"ConnectTimeout soon", "cfg:1:16: ConnectTimeout must be a time"},
           Case{"ConnectTimeout 5x", "cfg:1:16: ConnectTimeout must be a time"},
           Case{"UserKnownHostsFile none /a", "cfg:1:20: UserKnownHostsFile must be files, or none alone"},
           Case{"Match", "cfg:1:6: Match has no criterion"},
           Case{"Match host", "cfg:1:7: Match host has no pattern"},
           Case{"Match all host a", "cfg:1:7: Match all must stand alone"},
           Case{"ProxyCommand", "cfg:1:13: ProxyCommand has no value"},
           Case{"ProxyJump a,@b", "cfg:1:11: ProxyJump must be [user@]host[:port], several with commas, or none"},
           Case{"ServerAliveInterval often", "cfg:1:21: ServerAliveInterval must be a time"},
           Case{"ServerAliveCountMax -1", "cfg:1:21: ServerAliveCountMax must be a number"},
           Case{"BatchMode maybe", "cfg:1:11: BatchMode must be yes or no"},
       }) {
    INFO(text);
    CHECK(to_string(error_of(text)).substr(0, std::string_view(begin).size()) == begin);
    CHECK(error_of(text).code == Errc::invalid_config);
  }
  CHECK(error_of(std::string("Host a\0b", 8)).what.starts_with("a zero byte in a text file"));
}

TEST_CASE("Include belongs to the block that it stands in") {
  const TemporaryFolder home;
  std::filesystem::create_directories(home / ".ssh/conf.d");
  home.write(".ssh/config",
             "Include conf.d/*.conf ~/.ssh/missing\nHost gpu*\n  Include ports\nHost cpu*\n  Include \"ports\"\nHost "
             "*\n  Port 2203\n");
  home.write(".ssh/conf.d/1.conf", "Host gpu01\n  User one\n");
  home.write(".ssh/conf.d/2.conf", "User two\nHost gpu02\n  HostKeyAlias alias2\n");
  home.write(".ssh/conf.d/3.other", "User never\n");
  home.write(".ssh/ports", "Port 2201\nHost gpu02\n  ConnectTimeout 3\nHost *\n  AddressFamily inet\n");
  const auto config = SshConfig::load(config_files({}, home.path()), {home.path(), "me", {}});
  REQUIRE(config);
  const HostSettings one = config->for_host({"gpu01", {}, {}}), two = config->for_host({"gpu02", {}, {}}),
                     other = config->for_host({"other", {}, {}});
  CHECK(one.user == "one");
  CHECK(one.port == 2201);
  CHECK(two.user == "two");
  CHECK(two.host_key_alias == "alias2");
  CHECK(two.connect_timeout == std::chrono::seconds(3));
  CHECK(two.address_family == AddressFamily::inet);
  CHECK(other.user == "two");
  CHECK(other.port == 2203);
  CHECK(other.address_family == AddressFamily::any);  // "Host *" of a file that is included for others does not count
}

TEST_CASE("a file that includes itself ends in an error") {
  const TemporaryFolder home;
  std::filesystem::create_directory(home / ".ssh");
  home.write(".ssh/config", "Include config\nInclude config\n");
  const auto config = SshConfig::load(config_files({}, home.path()), {home.path(), "me", {}});
  REQUIRE(!config);
  CHECK(config.error().code == Errc::too_large);
  CHECK(config.error().hint == "look for a file that includes itself");
}

TEST_CASE("an error in an included file names both places") {
  const TemporaryFolder home;
  std::filesystem::create_directory(home / ".ssh");
  home.write(".ssh/config", "\nInclude bad\n");
  home.write(".ssh/bad", "Port many\n");
  const auto config = SshConfig::load(config_files({}, home.path()), {home.path(), "me", {}});
  REQUIRE(!config);
  CHECK(to_string(config.error()).find(home / ".ssh/bad:1:6: Port must be a number") != std::string::npos);
}

TEST_CASE("the files to read are ssh's own, or the one that is named, or none") {
  const auto own = config_files({}, "/home/me");
  REQUIRE(own.size() == 2);
  CHECK(own[0].path == "/home/me/.ssh/config");
  CHECK(own[0].include_base == "/home/me/.ssh");
  CHECK(own[1].path == "/etc/ssh/ssh_config");
  CHECK(own[1].include_base == "/etc/ssh");
  CHECK(config_files("~/my config", "/home/me").at(0).path == "/home/me/my config");
  CHECK(config_files("none", "/home/me").empty());

  const auto missing = SshConfig::load(config_files("/nowhere/config", "/home/me"), kMe);
  REQUIRE(!missing);
  CHECK(missing.error().code == Errc::not_found);
  CHECK(to_string(missing.error()).starts_with("/nowhere/config: there is no such ssh configuration"));
}

TEST_CASE("a file of one's own that others may write to is refused, as by ssh") {
  const TemporaryFolder home;
  std::filesystem::create_directory(home / ".ssh");
  const std::string path = home.write(".ssh/config", "Port 2201\n", 0666);
  const auto config = SshConfig::load(config_files({}, home.path()), {home.path(), "me", {}});
  REQUIRE(!config);
  CHECK(to_string(config.error()).starts_with(path + ": others may write to it"));
  CHECK(config.error().hint == "chmod 600 " + path);
  ::chmod(path.c_str(), 0644);
  CHECK(SshConfig::load(config_files({}, home.path()), {home.path(), "me", {}})->for_host({"a", {}, {}}).port == 2201);
}

TEST_CASE("patterns match as ssh's do") {
  CHECK(matches_pattern("gpu01", "gpu??"));
  CHECK(matches_pattern("gpu01", "*01"));
  CHECK(matches_pattern("", "*"));
  CHECK(matches_pattern("abcabc", "*abc"));
  CHECK(!matches_pattern("gpu01", "gpu?"));
  CHECK(!matches_pattern("gpu01", "GPU01"));
  CHECK(!matches_pattern("gpu01", ""));
  CHECK(match_list("gpu01", "cpu*,gpu*") == ListMatch::yes);
  CHECK(match_list("gpu01", "gpu*,!gpu01") == ListMatch::excluded);
  CHECK(match_list("gpu01", "!gpu01,gpu*") == ListMatch::excluded);
  CHECK(match_list("gpu01", "!gpu02") == ListMatch::no);
  // Many stars take no time that grows with their number.
  CHECK(!matches_pattern(std::string(2000, 'a'), std::string("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b")));
}

}  // namespace launcher_ssh_config_test
