// rendezvous.json: what it has, who may have written it, and that it goes.
#include "launcher/observer_pass.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_observer_pass_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using llmlaunch::test::TemporaryDirectory;
namespace fs = std::filesystem;

namespace {

const std::string kToken(64, 'a');

ObserverPass pass_of(std::uint32_t generation) {
  ObserverPass pass;
  pass.job_id = "20261124-101530-4f2a0b1c";
  pass.generation = Generation{generation};
  pass.head = "login0";
  pass.pid = 4242;
  pass.address = "127.0.0.1";
  pass.port = 29400;
  pass.token = kToken;
  return pass;
}

std::string with(std::string text, const std::string& old, const std::string& now) {
  const auto at = text.find(old);
  REQUIRE(at != std::string::npos);
  return text.replace(at, old.size(), now);
}

mode_t mode_of(const fs::path& file) {
  struct stat info {};
  REQUIRE(::stat(file.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

Error refusal(const TemporaryDirectory& run) {
  const auto pass = read_observer_pass(run.str());
  REQUIRE_FALSE(pass);
  CHECK(to_string(pass.error()).find(kToken) == std::string::npos);
  return pass.error();
}

}  // namespace

TEST_CASE("a pass comes back as it was") {
  const auto back = parse_observer_pass(observer_pass_text(pass_of(3)));
  REQUIRE(back);
  CHECK(back->job_id == "20261124-101530-4f2a0b1c");
  CHECK(back->generation == Generation{3});
  CHECK(back->head == "login0");
  CHECK(back->pid == 4242);
  CHECK(back->address == "127.0.0.1");
  CHECK(back->port == 29400);
  CHECK(back->token == kToken);
}

TEST_CASE("a text that is no pass names the field, and never the token") {
  const std::string whole = observer_pass_text(pass_of(0));
  const auto said = [](const std::string& text) {
    const auto pass = parse_observer_pass(text);
    REQUIRE_FALSE(pass);
    CHECK(pass.error().code == Errc::protocol);
    CHECK(pass.error().what.find("aaaa") == std::string::npos);
    return pass.error().what;
  };
  const auto wrong = [](const std::string& field) {
    return "its \"" + field + "\" is missing or not what llmlaunch writes there";
  };
  CHECK(said("") == "it is no JSON object");
  CHECK(said("[]") == "it is no JSON object");
  CHECK(said(whole.substr(0, whole.size() / 2)) == "it is no JSON object");
  CHECK(said(with(whole, "\"job_id\"", "\"id\"")) == wrong("job_id"));
  CHECK(said(with(whole, "29400", "0")) == wrong("port"));
  CHECK(said(with(whole, "29400", "65536")) == wrong("port"));
  CHECK(said(with(whole, "29400", "\"29400\"")) == wrong("port"));
  CHECK(said(with(whole, "4242", "-1")) == wrong("pid"));
  CHECK(said(with(whole, "\"generation\": 0", "\"generation\": 4294967296")) == wrong("generation"));
  CHECK(said(with(whole, "127.0.0.1", "")) == wrong("address"));
  CHECK(said(with(whole, kToken, kToken.substr(1))) == wrong("token"));
  CHECK(said(with(whole, kToken, kToken.substr(1) + "g")) == wrong("token"));
}

TEST_CASE("a placed pass is for its owner alone, is replaced in one step, and goes with its owner") {
  const TemporaryDirectory run;
  const fs::path file = run.path / kObserverPassFile;
  const mode_t before = ::umask(0);
  {
    auto placed = PlacedPass::place(run.str(), pass_of(0));
    REQUIRE(placed);
    CHECK(mode_of(file) == 0600);
    CHECK(read_observer_pass(run.str())->generation == Generation{0});
    PlacedPass held = std::move(*placed);
    auto next = PlacedPass::place(run.str(), pass_of(1));
    REQUIRE(next);
    held = std::move(*next);  // the older one does not take the newer one away
    CHECK(read_observer_pass(run.str())->generation == Generation{1});
    CHECK(std::distance(fs::directory_iterator(run.path), fs::directory_iterator()) == 1);
  }
  ::umask(before);
  CHECK_FALSE(fs::exists(file));
  auto placed = PlacedPass::place(run.str(), pass_of(2));
  placed->withdraw();
  CHECK_FALSE(fs::exists(file));
  placed->withdraw();
}

TEST_CASE("a pass where none can be written is an error that names the place") {
  const auto placed = PlacedPass::place("/proc/self", pass_of(0));
  REQUIRE_FALSE(placed);
  CHECK(placed.error().what.find("/proc/self/rendezvous.json") != std::string::npos);
}

TEST_CASE("what others could have written or read is not believed") {
  const TemporaryDirectory run;
  const fs::path file = run.path / kObserverPassFile;
  CHECK(refusal(run).code == Errc::not_found);
  CHECK(read_observer_pass(run.str() + "/none").error().code == Errc::not_found);
  std::ofstream(file) << observer_pass_text(pass_of(0));
  ::chmod(file.c_str(), 0644);
  CHECK(refusal(run).what == file.string() + " has mode 0644: others may change or read it");
  ::chmod(file.c_str(), 0600);
  CHECK(read_observer_pass(run.str()));
  ::chmod(run.path.c_str(), 0777);
  CHECK(refusal(run).what == run.str() + " has mode 0777: others may change or read it");
  ::chmod(run.path.c_str(), 0700);
  fs::rename(file, run.path / "elsewhere");
  fs::create_symlink("elsewhere", file);
  CHECK(refusal(run).what.find("open " + file.string()) == 0);
  fs::remove(file);
  std::ofstream(file) << std::string(20'000, ' ');
  ::chmod(file.c_str(), 0600);
  CHECK(refusal(run).what == file.string() + " has more than 16384 bytes");
  fs::remove(file);
  fs::create_directory(file);
  CHECK(refusal(run).what == file.string() + " is no regular file");
}

TEST_CASE("a FIFO in place of the pass is refused at once, and not waited for") {
  const TemporaryDirectory run;
  const fs::path file = run.path / kObserverPassFile;
  REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
  const Error error = refusal(run);
  CHECK(error.code == Errc::refused);
  CHECK(error.what == file.string() + " is no regular file");
}

TEST_CASE("in a directory of another user nothing is opened, and one that may not be entered says why") {
  const TemporaryDirectory run;
  std::ofstream(run.path / kObserverPassFile) << observer_pass_text(pass_of(0));
  const bool root = ::geteuid() == 0;
  constexpr uid_t kSomebody = 65534;
  // As root a directory may always be entered, so that it is somebody else who comes.
  ::chmod(run.path.c_str(), root ? 0700 : 0);
  if (root) REQUIRE(::seteuid(kSomebody) == 0);
  const auto closed = read_observer_pass(run.str());
  if (root) REQUIRE(::seteuid(0) == 0);
  ::chmod(run.path.c_str(), 0700);
  REQUIRE_FALSE(closed);
  CHECK(closed.error().code == Errc::refused);
  CHECK(closed.error().what == run.str() + " may not be entered: Permission denied");
  if (!root) return;  // who cannot give files away cannot make another's

  REQUIRE(::chown(run.path.c_str(), kSomebody, static_cast<gid_t>(-1)) == 0);
  ::chmod((run.path / kObserverPassFile).c_str(), 0644);  // were it opened first, its mode would be told
  CHECK(refusal(run).what == run.str() + " belongs to user 65534, and this is user 0");
  REQUIRE(::chown(run.path.c_str(), 0, static_cast<gid_t>(-1)) == 0);
}

}  // namespace launcher_observer_pass_test
