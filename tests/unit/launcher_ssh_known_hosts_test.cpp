// known_hosts: which line answers for a host, what people read when none does, and recording new keys. Hashed names and
// fingerprints are compared with ssh-keygen's.
#include "launcher/ssh/known_hosts.hpp"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "launcher/ssh/known_hosts_lines.hpp"
#include "tests/support/bootstrap_host.hpp"
#include "tests/support/catch.hpp"

namespace launcher_ssh_known_hosts_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::launcher::ssh;
using test::TemporaryFolder;

namespace {

HostKey key_of(const std::string& type, const std::string& content) {
  std::string blob = {0, 0, 0, static_cast<char>(type.size())};
  blob += type + std::string("\0\0\0", 3) + static_cast<char>(content.size()) + content;
  const ByteView bytes = as_bytes(blob);
  return {type, Bytes(bytes.begin(), bytes.end())};
}

const HostKey kEd = key_of("ssh-ed25519", "one"), kEdNew = key_of("ssh-ed25519", "two"),
              kRsa = key_of("ssh-rsa", "three"), kEcdsa = key_of("ecdsa-sha2-nistp256", "four");

std::string text_of(const HostKey& key) {
  return key.type + " " + to_base64(key.blob);
}

std::string line_of(const std::string& names, const HostKey& key) {
  return names + " " + text_of(key) + "\n";
}

KnownHosts hosts_of(const std::string& text) {
  KnownHosts hosts;
  hosts.parse(text, "kh");
  return hosts;
}

std::string answer_of(const KnownHosts& hosts, const std::string& name, const HostKey& key) {
  constexpr const char* kNames[] = {"ok", "unknown", "changed", "other_type", "revoked"};
  const HostKeyAnswer answer = hosts.check(name, key);
  std::string text = kNames[static_cast<int>(answer.status)];
  if (!answer.place.empty()) text += " " + answer.place;
  if (!answer.authority_place.empty()) text += " authority " + answer.authority_place;
  return text;
}

bool run(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

}  // namespace

TEST_CASE("a host's key is looked up by name, port, pattern and negation") {
  const KnownHosts hosts = hosts_of("# comment\n\n" + line_of("gpu01,10.0.0.1", kEd) + line_of("[gpu01]:2222", kRsa) +
                                    line_of("node*,!node07,[node??]:2222", kEcdsa) + "   " + line_of("GPU02", kEd));
  CHECK(answer_of(hosts, "gpu01", kEd) == "ok kh:3");
  CHECK(answer_of(hosts, "10.0.0.1", kEd) == "ok kh:3");
  CHECK(answer_of(hosts, "gpu01", kEdNew) == "changed kh:3");
  CHECK(answer_of(hosts, "gpu01", kRsa) == "other_type kh:3");
  CHECK(answer_of(hosts, "gpu0", kEd) == "unknown");
  CHECK(answer_of(hosts, "[gpu01]:2222", kRsa) == "ok kh:4");
  CHECK(answer_of(hosts, "[gpu01]:2222", kEdNew) == "other_type kh:4");
  CHECK(answer_of(hosts, "node01", kEcdsa) == "ok kh:5");
  CHECK(answer_of(hosts, "node07", kEcdsa) == "unknown");
  CHECK(answer_of(hosts, "[node01]:2222", kEcdsa) == "ok kh:5");
  CHECK(answer_of(hosts, known_hosts_name("Gpu02", 22), kEd) == "ok kh:6");
  CHECK(hosts.notes().empty());
}

TEST_CASE("a host on a port of its own is also known by the line of its name, but never refused by it") {
  const KnownHosts hosts = hosts_of(line_of("gpu01", kEd) + "@revoked " + line_of("gpu01", kRsa));
  CHECK(answer_of(hosts, "[gpu01]:2222", kEd) == "ok kh:1");
  CHECK(answer_of(hosts, "[gpu01]:2222", kEdNew) == "unknown");
  CHECK(answer_of(hosts, "[gpu01]:2222", kRsa) == "revoked kh:2");
  CHECK(hosts.types_of("[gpu01]:2222") == std::vector<std::string>{"ssh-ed25519"});
  CHECK(answer_of(hosts_of(line_of("[a]:1", kEd) + "@revoked " + line_of("a", kEd)), "[a]:1", kEd) == "revoked kh:2");
}

TEST_CASE("one good line is enough, whatever the others say, unless the key is revoked") {
  CHECK(answer_of(hosts_of(line_of("a", kEdNew) + line_of("a", kRsa) + line_of("a", kEd)), "a", kEd) == "ok kh:3");
  CHECK(answer_of(hosts_of(line_of("a", kRsa) + line_of("a", kEdNew)), "a", kEd) == "changed kh:2");
  CHECK(answer_of(hosts_of(line_of("a", kEd) + "@revoked " + line_of("*", kEd)), "a", kEd) == "revoked kh:2");
  CHECK(answer_of(hosts_of("@revoked " + line_of("*", kEd) + line_of("a", kEd)), "a", kEd) == "revoked kh:1");
  CHECK(answer_of(hosts_of("@revoked " + line_of("a", kEdNew)), "a", kEd) == "unknown");
  CHECK(answer_of(hosts_of("@revoked " + line_of("b", kEd) + line_of("a", kEd)), "a", kEd) == "ok kh:2");
}

TEST_CASE("a certificate authority vouches for nobody here, and is reported") {
  const KnownHosts hosts = hosts_of("@cert-authority " + line_of("*.example", kEd));
  CHECK(answer_of(hosts, "a.example", kEd) == "unknown authority kh:1");
  CHECK(answer_of(hosts, "a.other", kEd) == "unknown");
  CHECK(hosts.types_of("a.example").empty());
}

TEST_CASE("types recorded for a host come in the order of the files and decide what the server is asked for") {
  const KnownHosts hosts =
      hosts_of(line_of("a", kRsa) + line_of("b", kEd) + line_of("a*", kEcdsa) + line_of("a", kRsa));
  CHECK(hosts.types_of("a") == std::vector<std::string>{"ssh-rsa", "ecdsa-sha2-nistp256"});
  CHECK(host_key_algorithms({"ssh-rsa"}) ==
        "rsa-sha2-512,rsa-sha2-256,ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521");
  CHECK(host_key_algorithms({}) ==
        "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256");
}

TEST_CASE("names are written as known_hosts has them") {
  CHECK(known_hosts_name("GPU01", 22) == "gpu01");
  CHECK(known_hosts_name("gpu01", 2222) == "[gpu01]:2222");
  CHECK(known_hosts_name("2001:db8::1", 22) == "2001:db8::1");
  CHECK(known_hosts_name("2001:db8::1", 2222) == "[2001:db8::1]:2222");
  CHECK(known_hosts_name("gpu01", 2222, "Cluster") == "cluster");
}

TEST_CASE("malformed lines are passed over and noted, a few of them") {
  const KnownHosts hosts =
      hosts_of("gpu01\ngpu01 ssh-ed25519\ngpu01 ssh-ed25519 AAAA====\n" + line_of("gpu01", {"ssh-rsa", kEd.blob}) +
               "@trusted " + line_of("gpu01", kEd) + "|1|AAAA|BBBB " + text_of(kEd) + "\n|2|x|y " + text_of(kEd) +
               "\n" + line_of("gpu01", kRsa));
  CHECK(answer_of(hosts, "gpu01", kEd) == "other_type kh:8");
  CHECK(hosts.notes() == std::vector<std::string>{
                             "kh:1: passed over: a line has names, a key type and a key",
                             "kh:2: passed over: a line has names, a key type and a key",
                             "kh:3: passed over: the key is damaged: not base64",
                             "kh:4: passed over: the key is damaged: it is no ssh-rsa",
                             "kh:5: passed over: unknown marker '@trusted'",
                             "known hosts: 2 more lines passed over",
                         });
}

TEST_CASE("hashed names and fingerprints are those of ssh-keygen") {
  if (!run("command -v ssh-keygen")) {
    WARN("skipped: there is no ssh-keygen to compare with");
    return;
  }
  const TemporaryFolder folder;
  REQUIRE(run("ssh-keygen -q -t ed25519 -N '' -C c -f " + folder / "key"));
  const std::string pub = test::read_text(folder / "key.pub");
  const std::string base64 = pub.substr(12, pub.rfind(' ') - 12);
  const HostKey key{"ssh-ed25519", *from_base64(base64)};
  REQUIRE(run(fmt::format("ssh-keygen -lf {0}/key.pub | grep -F '{1}'", folder.path(), fingerprint(key))));

  const std::string file =
      folder.write("known", "gpu01,10.0.0.1 ssh-ed25519 " + base64 + " c\n[gpu02]:2222 ssh-ed25519 " + base64 + "\n");
  REQUIRE(run("ssh-keygen -H -f " + file));
  const auto hosts = KnownHosts::load({file, folder / "missing"});
  REQUIRE(hosts);
  CHECK(test::read_text(file).find("gpu01") == std::string::npos);
  CHECK(hosts->check("gpu01", key).status == HostKeyStatus::ok);
  CHECK(hosts->check("10.0.0.1", key).status == HostKeyStatus::ok);
  CHECK(hosts->check("[gpu02]:2222", key).status == HostKeyStatus::ok);
  CHECK(hosts->check("gpu02", key).status == HostKeyStatus::unknown);
  CHECK(hosts->check("gpu01", kEd).status == HostKeyStatus::changed);

  // And the other way: what we write, ssh-keygen finds.
  for (const bool hashed : {false, true}) {
    const std::string ours = folder / (hashed ? "hashed" : "plain");
    REQUIRE(append_host_key(ours, "[gpu03]:2200", key, hashed)->status == HostKeyStatus::unknown);
    CHECK((test::read_text(ours).find("gpu03") == std::string::npos) == hashed);
    CHECK(run("ssh-keygen -F '[gpu03]:2200' -f " + ours));
    CHECK(!run("ssh-keygen -F gpu03 -f " + ours));
    CHECK(append_host_key(ours, "[gpu03]:2200", key, hashed)->status == HostKeyStatus::ok);  // it is there
  }
}

TEST_CASE("the messages about a host key say what came, what is on file and what to do") {
  const HostKeyQuestion question{"gpu07", "[gpu07]:2222", "gpu07.example", 2222, "/home/me/.ssh/known_hosts", kEd};
  const std::string print = fingerprint(kEd), other = fingerprint(kEdNew), rsa = fingerprint(kRsa);
  const auto error_for = [&](const std::string& text) {
    return host_key_error(question, hosts_of(text).check(question.name, kEd));
  };

  const Error unknown = error_for("");
  CHECK(unknown.code == Errc::host_key_unknown);
  CHECK(to_string(unknown) == "host gpu07: the host key is not known: ssh-ed25519 " + print +
                                  "\n   hint: compare this fingerprint with the host's own, then: ssh-keyscan -p 2222 "
                                  "-t ed25519 gpu07.example >> "
                                  "/home/me/.ssh/known_hosts; or set llmlaunch.ssh.host_key_policy: accept-new, to "
                                  "trust hosts at their first contact");

  const Error authority = error_for("@cert-authority " + line_of("*", kRsa));
  CHECK(authority.what == "the host key is not known: ssh-ed25519 " + print +
                              "; kh:1 names a certificate authority for it, but libssh 0.10, which llmlaunch is "
                              "built on, asks hosts for plain keys only and never sees their certificates");

  const Error changed = error_for(line_of("[gpu07]:2222", kEdNew));
  CHECK(changed.code == Errc::host_key_changed);
  CHECK(to_string(changed) ==
        "host gpu07: the host key has changed: it shows ssh-ed25519 " + print + ", kh:1 has " + other +
            "\n   hint: the host was installed anew, or somebody else answers in its place; if it is the "
            "host: ssh-keygen -R '[gpu07]:2222' -f kh");

  const Error type = error_for(line_of("[gpu07]:2222", kRsa));
  CHECK(type.code == Errc::host_key_other);
  CHECK(to_string(type) ==
        "host gpu07: the host shows a key of another type: ssh-ed25519 " + print + "; kh:1 has ssh-rsa " + rsa +
            "\n   hint: compare this fingerprint with the host's own, then: ssh-keyscan -p 2222 -t ed25519 "
            "gpu07.example >> /home/me/.ssh/known_hosts");

  const Error revoked = error_for("@revoked " + line_of("*", kEd));
  CHECK(revoked.code == Errc::host_key_revoked);
  CHECK(to_string(revoked) ==
        "host gpu07: the host shows a key that is revoked: ssh-ed25519 " + print +
            ", by kh:1\n   hint: give the host a new key; whoever has the old one can pretend to be this host");
}

TEST_CASE("the command that puts a key on file is one for this host's way, name and folder") {
  const auto command = [](const HostKeyQuestion& question) {
    const std::string hint = host_key_error(question, HostKeyAnswer{}).hint;
    const std::string_view begin = "then: ", end = "; or set";
    const auto at = hint.find(begin) + begin.size();
    return hint.substr(at, hint.find(end) - at);
  };
  HostKeyQuestion question{"gpu07", "[10.0.0.7]:2222", "10.0.0.7", 2222, "/new/.ssh/known_hosts", kEd};
  question.folder_missing = true;
  CHECK(command(question) ==
        "mkdir -p -m 700 /new/.ssh && ssh-keyscan -p 2222 -t ed25519 10.0.0.7 >> /new/.ssh/known_hosts");
  question.folder_missing = false;
  question.name = "rack1";  // HostKeyAlias
  CHECK(command(question) ==
        "ssh-keyscan -p 2222 -t ed25519 10.0.0.7 | sed 's/^[^ ]* /rack1 /' >> /new/.ssh/known_hosts");
  question.jumps = "me@gate:2200";
  question.user = "train";
  CHECK(command(question) ==
        "ssh -J me@gate:2200 -p 2222 -o HostKeyAlias=rack1 -o UserKnownHostsFile=/new/.ssh/known_hosts train@10.0.0.7 "
        "true");
  question.jumps.clear();
  question.by_command = true;
  CHECK(command(question) == "ssh gpu07, which asks for it");
}

TEST_CASE("an accepted key is added on a line of its own, in a folder and a file that only we can read") {
  const TemporaryFolder home;
  const std::string file = home / ".ssh/known_hosts";
  REQUIRE(append_host_key(file, "gpu01", kEd)->status == HostKeyStatus::unknown);
  CHECK(test::read_text(file) == line_of("gpu01", kEd));
  struct stat folder {
  }, known{};
  REQUIRE(::stat((home / ".ssh").c_str(), &folder) == 0);
  REQUIRE(::stat(file.c_str(), &known) == 0);
  CHECK((folder.st_mode & 07777) == 0700);
  CHECK((known.st_mode & 07777) == 0600);

  home.write(".ssh/known_hosts", "gpu00 unended");
  REQUIRE(append_host_key(file, "gpu01", kEd)->status == HostKeyStatus::unknown);
  CHECK(test::read_text(file) == "gpu00 unended\n" + line_of("gpu01", kEd));
}

TEST_CASE("a key is added to a file that does not know the host, and to no other") {
  const TemporaryFolder home;
  const std::string file = home / "known_hosts";
  REQUIRE(append_host_key(file, "gpu01", kEd)->status == HostKeyStatus::unknown);
  const std::string once = test::read_text(file);
  CHECK(append_host_key(file, "gpu01", kEd)->status == HostKeyStatus::ok);
  const auto other = append_host_key(file, "gpu01", kEdNew);
  REQUIRE(other);
  CHECK(other->status == HostKeyStatus::changed);
  CHECK(other->place == file + ":1");
  CHECK(append_host_key(file, "gpu01", kRsa)->status == HostKeyStatus::other_type);
  CHECK(test::read_text(file) == once);
  home.write("known_hosts", "@revoked " + line_of("*", kEd));
  CHECK(append_host_key(file, "gpu01", kEd)->status == HostKeyStatus::revoked);
}

TEST_CASE("many hosts may be added at once, by many launches") {
  const TemporaryFolder home;
  const std::string file = home / ".ssh/known_hosts";
  std::vector<std::thread> launches;
  for (int launch = 0; launch < 4; ++launch)
    launches.emplace_back([&file] {
      for (int host = 0; host < 50; ++host)
        if (!append_host_key(file, fmt::format("gpu{:02}", host), kEd)) std::abort();
    });
  for (std::thread& launch : launches) launch.join();
  const std::string text = test::read_text(file);
  CHECK(std::count(text.begin(), text.end(), '\n') == 50);
  const auto hosts = KnownHosts::load({file});
  REQUIRE(hosts);
  CHECK(hosts->notes().empty());
  for (int host = 0; host < 50; ++host)
    CHECK(hosts->check(fmt::format("gpu{:02}", host), kEd).status == HostKeyStatus::ok);
}

TEST_CASE("a key that was accepted during this launch is known from then on") {
  KnownHosts hosts = hosts_of("");
  hosts.add("gpu01", kEd, "/home/me/.ssh/known_hosts");
  CHECK(answer_of(hosts, "gpu01", kEd) == "ok /home/me/.ssh/known_hosts");
  CHECK(answer_of(hosts, "gpu01", kEdNew) == "changed /home/me/.ssh/known_hosts");
}

TEST_CASE("a name that would make another line of it is not recorded") {
  const TemporaryFolder home;
  for (const std::string name : {"", "a b", "a,b", "gpu*", "!a", "a\nb", "@revoked", "|1|x"}) {
    INFO(name);
    const auto added = append_host_key(home / "known_hosts", name, kEd);
    REQUIRE(!added);
    CHECK(added.error().code == Errc::invalid_argument);
  }
  CHECK(!append_host_key(home / "known_hosts", "a", {"ssh-rsa", kEd.blob}));
  CHECK(!std::filesystem::exists(home / "known_hosts"));
}

TEST_CASE("files that cannot be read or written are errors that name them") {
  const TemporaryFolder home;
  const auto folder = KnownHosts::load({home.path()});
  REQUIRE(!folder);
  CHECK(to_string(folder.error()).starts_with(home.path() + ": known hosts cannot be read from a directory"));
  const auto added = append_host_key(home / "no/such/file", "a", kEd);
  REQUIRE(!added);
  CHECK(to_string(added.error()) == (home / "no/such/file") +
                                        ": the accepted host key cannot be recorded: open: No such file or directory\n "
                                        "  hint: name a file that can be "
                                        "written first in llmlaunch.ssh.known_hosts_files");
}

TEST_CASE("under several names, what forbids a key beats what allows it") {
  const HostKey shown{"ssh-ed25519", Bytes(16, std::byte{1})}, other{"ssh-ed25519", Bytes(16, std::byte{2})};
  const HostKey ecdsa{"ecdsa-sha2-nistp256", Bytes(16, std::byte{3})};
  struct Row {
    const HostKey* first;
    const HostKey* second;
    HostKeyStatus expected;
  };
  const Row rows[] = {
      {&shown, nullptr, HostKeyStatus::ok},         {nullptr, &shown, HostKeyStatus::ok},
      {&shown, &ecdsa, HostKeyStatus::ok},          {&other, &shown, HostKeyStatus::changed},
      {&other, &ecdsa, HostKeyStatus::changed},     {&ecdsa, &other, HostKeyStatus::changed},
      {nullptr, &ecdsa, HostKeyStatus::other_type}, {nullptr, nullptr, HostKeyStatus::unknown},
  };
  for (const Row& row : rows) {
    KnownHosts known;
    if (row.first != nullptr) known.add("10.0.0.1", *row.first, "file");
    if (row.second != nullptr) known.add("gpu01", *row.second, "file");
    CHECK(known.check_any({"10.0.0.1", "gpu01"}, shown).status == row.expected);
  }
}

}  // namespace launcher_ssh_known_hosts_test
