// The bootstrap line, run by every login shell that is installed, over sockets and pipes, in good and bad cache
// folders. The agent is a small script here, but for one case; file systems that are full or noexec are mounted in a
// namespace.
#include "launcher/ssh/bootstrap.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "launcher/agent/protocol.hpp"
#include "tests/support/bootstrap_host.hpp"
#include "tests/support/catch.hpp"

namespace launcher_ssh_bootstrap_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using namespace llmlaunch::launcher::test;

namespace {

std::string sha256_of(const std::string& text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  REQUIRE(EVP_Digest(text.data(), text.size(), digest.data(), &length, EVP_sha256(), nullptr) == 1);
  std::string hex;
  for (unsigned i = 0; i < length; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

std::string machine() {
  utsname names{};
  REQUIRE(::uname(&names) == 0);
  return names.machine;
}

// Says the marker, runs `extra`, then gives back what it reads. As long as an agent, so that it comes in many reads.
std::string fake_agent(const std::string& extra = "") {
  std::string text = "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\necho LLMLAUNCH AGENT 5\n" + extra + "\nexec cat\n";
  while (text.size() < 700'001) text += "# so that one read does not take it all\n";
  return text;
}

std::string line_for(const std::string& agent) {
  return ssh::bootstrap_command(sha256_of(agent), agent.size(), machine());
}

bool installed(const std::string& program) {
  return std::system(fmt::format("command -v {} >/dev/null 2>&1", program).c_str()) == 0;
}

const std::string kFrames = std::string("frames \0 and more\n", 18) + std::string(50'000, 'f');
const std::string kPath = "PATH=/usr/local/bin:/usr/bin:/bin";

HostRun run_of(const std::string& agent, const std::vector<std::string>& env) {
  HostRun run{{"/bin/sh", "-c", line_for(agent)}, env, agent, kFrames, false};
  run.env.push_back(kPath);
  return run;
}

void check_started(const Conversation& said, bool pushed) {
  CHECK(said.failure.value_or("none") == "none");
  CHECK(said.noise == std::vector<std::string>{});
  CHECK(said.needed == pushed);
  CHECK(said.marker);
  CHECK((said.rest == kFrames));  // not one byte more or less went into the agent's file
  CHECK(said.status == 0);
}

std::string agent_name(const std::string& agent) {
  return "agent-" + sha256_of(agent);
}

// A namespace with a small file system on each of some folders; empty when this machine does not allow one.
std::vector<std::string> with_mounts(const std::string& options, const std::vector<std::string>& folders) {
  std::vector<std::string> argv = {"unshare", ::geteuid() == 0 ? "-m" : "-rm"};
  std::string script = "set -e;";
  for (const std::string& folder : folders) script += fmt::format(" mount -t tmpfs -o {} tmpfs {};", options, folder);
  argv.insert(argv.end(), {"/bin/sh", "-c", script + " exec \"$@\"", "sh"});
  std::string probe;
  for (const std::string& word : argv) probe += "'" + word + "' ";
  if (std::system((probe + "true 2>/dev/null").c_str()) != 0) return {};
  return argv;
}

HostRun inside(std::vector<std::string> argv, HostRun run) {
  argv.insert(argv.end(), run.argv.begin(), run.argv.end());
  run.argv = argv;
  return run;
}

}  // namespace

TEST_CASE("the bootstrap line has nothing that a login shell could misread") {
  const std::string line = ssh::bootstrap_command(std::string(64, 'a'), 123'456, "x86_64");
  CHECK(line.starts_with("exec /bin/sh -c 'eval \"${0}${1}"));
  CHECK(line.find_first_of("!\\\n\r") == std::string::npos);
  // Between the words there is one blank; within them no single quote, and less than BSD csh's limit.
  std::size_t quotes = 0, longest = 0;
  for (std::size_t at = line.find('\''); at != std::string::npos; at = line.find('\'', at + 1)) {
    const std::size_t next = line.find('\'', at + 1);
    if (quotes++ % 2 == 0)
      longest = std::max(longest, next - at);
    else if (next != std::string::npos)
      CHECK(line.substr(at, next - at) == "' ");
  }
  CHECK(quotes % 2 == 0);
  CHECK(longest < 1024);
  CHECK(line.find('@') == line.find("@\"; do"));  // "$@" alone: every blank of the form was filled in
}

TEST_CASE("the bootstrap line pushes the agent once and starts it, whatever the login shell is") {
  const std::string agent = fake_agent();
  for (const std::string shell : {"sh", "bash", "dash", "bsd-csh", "tcsh", "fish", "zsh", "mksh", "busybox"}) {
    if (!installed(shell)) {
      WARN("skipped: " << shell << " is not installed");
      continue;
    }
    for (const bool pipes : {false, true}) {
      INFO(shell << (pipes ? " over pipes" : " over a socket pair"));
      const TemporaryFolder home;
      HostRun run = run_of(agent, {"HOME=" + home.path(), "TMPDIR=" + home.path()});
      run.argv = {shell, "-c", line_for(agent)};
      if (shell == "busybox") run.argv.insert(run.argv.begin() + 1, "sh");
      run.pipes = pipes;
      const Conversation said = run_host(run);
      check_started(said, true);
      CHECK(said.need_hash == sha256_of(agent));
      check_started(run_host(run), false);
      CHECK(names_in(home / ".cache/llmlaunch") == std::vector<std::string>{agent_name(agent)});
    }
  }
}

TEST_CASE("the bootstrap line runs in every sh") {
  const std::string agent = fake_agent();
  for (const std::string shell : {"dash", "bash --posix", "busybox sh", "mksh", "zsh --emulate sh"}) {
    if (!installed(shell.substr(0, shell.find(' ')))) {
      WARN("skipped: " << shell << " is not installed");
      continue;
    }
    INFO(shell);
    const TemporaryFolder home;
    HostRun run = run_of(agent, {"HOME=" + home.path()});
    std::string& line = run.argv.back();
    line.replace(line.find("/bin/sh"), 7, shell);
    check_started(run_host(run), true);
    check_started(run_host(run), false);
  }
}

TEST_CASE("the bootstrap line makes do with busybox, without sha256sum and with a dd that cannot wait") {
  if (!installed("busybox")) {
    WARN("skipped: busybox is not installed");
    return;
  }
  const TemporaryFolder home;
  std::filesystem::create_directory(home / "bin");
  const std::string busybox = std::filesystem::exists("/bin/busybox") ? "/bin/busybox" : "/usr/bin/busybox";
  for (const char* tool :
       {"cat", "chmod", "dd", "find", "id", "ls", "mkdir", "mv", "rm", "sha256sum", "touch", "uname", "wc"})
    std::filesystem::create_symlink(busybox, home / std::string("bin/") + tool);
  const std::string agent = fake_agent();
  HostRun run = run_of(agent, {"HOME=" + home.path()});
  run.env.back() = "PATH=" + home / "bin";
  check_started(run_host(run), true);
  check_started(run_host(run), false);

  std::filesystem::remove_all(home / ".cache");
  std::filesystem::remove(home / "bin/sha256sum");
  std::filesystem::remove(home / "bin/dd");
  home.write("bin/dd", "#!/bin/sh\ncase \"$*\" in *iflag*) exit 1 ;; esac\nexec " + busybox + " dd \"$@\"\n", 0700);
  check_started(run_host(run), true);
  check_started(run_host(run), false);
}

TEST_CASE("the bootstrap line starts the real agent, which says Hello") {
  const std::string agent = read_text(LLMLAUNCH_AGENT_PATH);
  REQUIRE(!agent.empty());
  const TemporaryFolder home;
  HostRun run = run_of(agent, {"HOME=" + home.path()});
  run.frames.clear();  // the head is gone at once, so that the agent ends too
  for (const bool pushed : {true, false}) {
    const Conversation said = run_host(run);
    CHECK(said.failure.value_or("none") == "none");
    CHECK(said.needed == pushed);
    CHECK(said.marker);
    CHECK(said.rest.size() > kFrameHeaderBytes);
    CHECK(said.status == 69);  // the head was lost
  }
}

TEST_CASE("the bootstrap line changes nothing that ranks inherit") {
  const std::string agent = fake_agent("umask; pwd; env | sort; trap");
  const TemporaryFolder home;
  HostRun run = run_of(agent, {"HOME=" + home.path(), "LC_ALL=tlh_QO", "TMPDIR=" + home.path()});
  run.frames.clear();
  run.argv = {"/bin/sh", "-c", "umask 027; cd /usr; " + line_for(agent)};
  const std::string pushed = run_host(run).rest, cached = run_host(run).rest;
  CHECK(pushed.find("0027\n/usr\n") == 0);
  CHECK(pushed.find("LC_ALL=tlh_QO\n") != std::string::npos);
  CHECK(cached.find("LC_ALL=tlh_QO\n") != std::string::npos);
  CHECK(pushed == cached);
  CHECK(pushed.find("ll_") == std::string::npos);
}

TEST_CASE("the bootstrap line ends an unended line of an rc file before it speaks") {
  const std::string agent = fake_agent();
  const TemporaryFolder home;
  HostRun run = run_of(agent, {"HOME=" + home.path()});
  run.argv.back() = "echo Welcome; printf 'last words'; " + run.argv.back();
  const Conversation said = run_host(run);
  CHECK(said.noise == std::vector<std::string>{"Welcome", "last words"});
  CHECK(said.marker);
  CHECK((said.rest == kFrames));
}

TEST_CASE("the bootstrap line looks in XDG_CACHE_HOME, then in HOME, then in TMPDIR") {
  const std::string agent = fake_agent();
  const TemporaryFolder folder;
  for (const char* name : {"xdg", "home", "tmp"}) std::filesystem::create_directory(folder / name);
  const std::string xdg = "XDG_CACHE_HOME=" + folder / "xdg", home = "HOME=" + folder / "home",
                    tmp = "TMPDIR=" + folder / "tmp";
  const std::string in_tmp = folder / fmt::format("tmp/llmlaunch-{}", ::geteuid());

  check_started(run_host(run_of(agent, {tmp})), true);
  CHECK(names_in(in_tmp) == std::vector<std::string>{agent_name(agent)});
  // It is found there, although HOME would come first.
  check_started(run_host(run_of(agent, {tmp, home})), false);
  CHECK(names_in(folder / "home").empty());

  std::filesystem::remove_all(in_tmp);
  check_started(run_host(run_of(agent, {xdg, tmp, home})), true);
  CHECK(names_in(folder / "xdg/llmlaunch") == std::vector<std::string>{agent_name(agent)});
  CHECK(names_in(folder / "home").empty());
  struct stat info {};
  REQUIRE(::stat((folder / "xdg/llmlaunch").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0700);
  // Relative values are not used: they would mean another folder in each working directory.
  check_started(run_host(run_of(agent, {"XDG_CACHE_HOME=xdg", "HOME=.", tmp})), true);
}

TEST_CASE("the bootstrap line uses no folder that others could have filled") {
  const std::string agent = fake_agent();
  const TemporaryFolder folder;
  const std::string good = folder / "xdg", bad = folder / fmt::format("tmp/llmlaunch-{}", ::geteuid());
  std::filesystem::create_directories(folder / "home/.cache/llmlaunch");
  std::filesystem::create_directory(folder / "tmp");
  std::filesystem::create_directory(folder / "target");
  const std::string evil = "#!/bin/sh\necho LLMLAUNCH FAIL taken over\n";
  const std::vector<std::string> env = {"XDG_RUNTIME_DIR=" + good, "HOME=" + folder / "home",
                                        "TMPDIR=" + folder / "tmp"};

  SECTION("open to others") {
    ::chmod((folder / "home/.cache/llmlaunch").c_str(), 0777);
  }
  SECTION("readable by the group") {
    ::chmod((folder / "home/.cache/llmlaunch").c_str(), 0750);
  }
  SECTION("a link") {
    std::filesystem::remove(folder / "home/.cache/llmlaunch");
    ::chmod((folder / "target").c_str(), 0700);
    std::filesystem::create_directory_symlink(folder / "target", folder / "home/.cache/llmlaunch");
  }
  SECTION("of another user") {
    if (::geteuid() != 0) {
      WARN("skipped: only root can give a folder away");
      return;
    }
    ::chmod((folder / "home/.cache/llmlaunch").c_str(), 0700);
    REQUIRE(::chown((folder / "home/.cache/llmlaunch").c_str(), 65534, 65534) == 0);
  }
  folder.write("home/.cache/llmlaunch/" + agent_name(agent), evil, 0755);
  check_started(run_host(run_of(agent, env)), true);
  CHECK(names_in(good + "/llmlaunch") == std::vector<std::string>{agent_name(agent)});
  CHECK(!std::filesystem::exists(bad));
}

TEST_CASE("the bootstrap line replaces a cached agent that is damaged") {
  const std::string agent = fake_agent();
  const TemporaryFolder home;
  std::filesystem::create_directories(home / ".cache/llmlaunch");
  ::chmod((home / ".cache/llmlaunch").c_str(), 0700);
  std::string damaged = agent;
  SECTION("shorter") {
    damaged.resize(1000);
  }
  SECTION("empty") {
    damaged.clear();
  }
  SECTION("one byte is another") {
    damaged.back() = '#';
  }
  home.write(".cache/llmlaunch/" + agent_name(agent), damaged, 0700);
  check_started(run_host(run_of(agent, {"HOME=" + home.path()})), true);
  check_started(run_host(run_of(agent, {"HOME=" + home.path()})), false);
  CHECK((read_text(home / ".cache/llmlaunch/" + agent_name(agent)) == agent));
}

TEST_CASE("the bootstrap line hashes an agent once, and again only when somebody wrote to it") {
  const std::string agent = fake_agent();
  const TemporaryFolder home;
  std::filesystem::create_directory(home / "bin");
  home.write("bin/sha256sum", "#!/bin/sh\necho >>\"$HOME/hashed\"\nexec /usr/bin/sha256sum\n", 0700);
  HostRun run = run_of(agent, {"HOME=" + home.path()});
  run.env.back() = fmt::format("PATH={}:/usr/bin:/bin", home / "bin");
  const auto times_hashed = [&home] { return read_text(home / "hashed").size(); };
  check_started(run_host(run), true);
  CHECK(times_hashed() == 1);
  check_started(run_host(run), false);
  CHECK(times_hashed() == 1);

  const std::string file = home / ".cache/llmlaunch/" + agent_name(agent);
  SECTION("touched: it is good, and known again") {
    std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now());
    check_started(run_host(run), false);
    CHECK(times_hashed() == 2);
    check_started(run_host(run), false);
    CHECK(times_hashed() == 2);
  }
  SECTION("changed: it is replaced") {
    std::string changed = agent;
    changed.back() = '#';
    home.write(".cache/llmlaunch/" + agent_name(agent), changed, 0700);
    check_started(run_host(run), true);
    CHECK((read_text(file) == agent));
  }
  SECTION("its bytes are lost, its date is not: it does not run, and is replaced") {
    std::filesystem::resize_file(file, 0);
    std::filesystem::resize_file(file, agent.size());
    const timespec sealed[2] = {{0, UTIME_OMIT}, {981173100, 0}};  // 2001-02-03 04:05 UTC
    REQUIRE(::utimensat(AT_FDCWD, file.c_str(), sealed, 0) == 0);
    check_started(run_host(run), true);
    CHECK((read_text(file) == agent));
  }
  SECTION("open to others: it is hashed") {
    ::chmod(file.c_str(), 0770);
    check_started(run_host(run), false);
    CHECK(times_hashed() == 2);
  }
}

TEST_CASE("the bootstrap line removes agents that nobody has started for long, and nothing else") {
  const std::string agent = fake_agent();
  const TemporaryFolder home;
  std::filesystem::create_directories(home / ".cache/llmlaunch");
  ::chmod((home / ".cache/llmlaunch").c_str(), 0700);
  const timespec long_ago{::time(nullptr) - 40 * 24 * 60 * 60, 0};
  const timespec accessed_only[2] = {long_ago, {0, UTIME_OMIT}};
  for (const char* name : {"agent-old", "agent-old.part.gpu01.123", "kept"}) {
    const std::string file = home.write(std::string(".cache/llmlaunch/") + name, "x");
    REQUIRE(::utimensat(AT_FDCWD, file.c_str(), accessed_only, 0) == 0);
  }
  home.write(".cache/llmlaunch/agent-other", "x");
  check_started(run_host(run_of(agent, {"HOME=" + home.path()})), true);
  CHECK(names_in(home / ".cache/llmlaunch") == std::vector<std::string>{agent_name(agent), "agent-other", "kept"});
}

TEST_CASE("eight launches that start on an empty host at once all start the agent") {
  const std::string agent = fake_agent();
  const TemporaryFolder home;
  const HostRun run = run_of(agent, {"HOME=" + home.path()});
  std::vector<Conversation> said(8);
  std::vector<std::thread> heads;
  for (Conversation& one : said) heads.emplace_back([&one, &run] { one = run_host(run); });
  for (std::thread& head : heads) head.join();
  for (const Conversation& one : said) check_started(one, one.needed);
  CHECK(names_in(home / ".cache/llmlaunch") == std::vector<std::string>{agent_name(agent)});
}

TEST_CASE("the bootstrap line says why it cannot start the agent") {
  const std::string agent = fake_agent();
  const TemporaryFolder home;
  HostRun run = run_of(agent, {"HOME=" + home.path()});
  const std::string cache = home / ".cache/llmlaunch";

  SECTION("the push is cut short") {
    run.push.resize(1000);
    run.frames.clear();
    CHECK(run_host(run).failure == fmt::format("1000 of {} bytes of the agent arrived in {}", agent.size(), cache));
    CHECK(names_in(cache).empty());
  }
  SECTION("nothing is pushed") {
    run.push.clear();
    run.frames.clear();
    CHECK(run_host(run).failure == fmt::format("0 of {} bytes of the agent arrived in {}", agent.size(), cache));
    CHECK(names_in(cache).empty());
  }
  SECTION("the push is damaged") {
    run.push.back() = '#';
    const Conversation said = run_host(run);
    CHECK(said.failure == fmt::format("the agent that arrived in {} is damaged or does not run there", cache));
    CHECK(said.status == 69);
    CHECK(names_in(cache).empty());
  }
  SECTION("a directory has its name") {
    std::filesystem::create_directories(cache + "/" + agent_name(agent));
    ::chmod(cache.c_str(), 0700);
    const Conversation said = run_host(run);
    CHECK(said.failure == fmt::format("{}/{} is a directory: remove it", cache, agent_name(agent)));
    CHECK(said.status == 69);
    CHECK(names_in(cache) == std::vector<std::string>{agent_name(agent)});
  }
  SECTION("the machine is another") {
    run.argv.back() = ssh::bootstrap_command(sha256_of(agent), agent.size(), "pdp11");
    const Conversation said = run_host(run);
    CHECK(said.failure ==
          fmt::format("machine {} (Linux): the agent of this llmlaunch runs on Linux pdp11", machine()));
    CHECK(said.status == 69);
    CHECK(!std::filesystem::exists(home / ".cache"));
  }
}

TEST_CASE("the bootstrap line passes over folders that are full or noexec, and names them when there is no other") {
  const std::string agent = fake_agent();
  const TemporaryFolder folder;
  for (const char* name : {"bad", "good"}) std::filesystem::create_directory(folder / name);
  const std::string in_bad = folder / "bad/.cache/llmlaunch", uid = std::to_string(::geteuid() == 0 ? ::geteuid() : 0);
  struct Case {
    const char* options;
    std::string reason;
  };
  for (const Case& one : {Case{"size=64k", fmt::format("no room for {} bytes", agent.size())},
                          Case{"noexec", "programs may not run there"}, Case{"ro", "cannot be made"}}) {
    INFO(one.options);
    const auto some = with_mounts(one.options, {folder / "bad"});
    if (some.empty()) {
      WARN("skipped: no mount namespace can be made here");
      return;
    }
    const HostRun run = run_of(agent, {"HOME=" + folder / "bad", "TMPDIR=" + folder / "good"});
    std::filesystem::remove_all(folder / "good/llmlaunch-" + uid);
    check_started(run_host(inside(some, run)), true);
    CHECK(names_in(folder / "good/llmlaunch-" + uid) == std::vector<std::string>{agent_name(agent)});

    const auto all = with_mounts(one.options, {folder / "bad", folder / "good", "/dev/shm"});
    REQUIRE(!all.empty());
    const Conversation said = run_host(inside(all, run));
    CHECK(said.failure ==
          fmt::format("no directory for the agent ({}: {}; {}/llmlaunch-{}: {}; /dev/shm/llmlaunch-{}: {})", in_bad,
                      one.reason, folder / "good", uid, one.reason, uid, one.reason));
    CHECK(said.status == 69);
  }
}

}  // namespace launcher_ssh_bootstrap_test
