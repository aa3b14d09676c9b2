// The names that a finished file may take.
#include "rendezvous/base/replaceable.hpp"

#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace base_replaceable_test {

using namespace llmlaunch;
using llmlaunch::test::TemporaryDirectory;
namespace fs = std::filesystem;

TEST_CASE("a file, a folder and a name that is free may be taken as they are") {
  const TemporaryDirectory top;
  std::ofstream(top.path / "file") << "x";
  for (const char* name : {"file", "free", ".", "no/such/folder/file"})
    CHECK(replaceable_name((top.path / name).string()) == (top.path / name).string());
  CHECK(replaceable_name("free") == "free");
}

TEST_CASE("a link stays: the name is the one where it leads, also when nothing is there yet") {
  const TemporaryDirectory top;
  fs::create_directory(top.path / "far");
  fs::create_symlink("far/file", top.path / "link");
  fs::create_symlink(top.path / "link", top.path / "link of link");
  const std::string target = (top.path / "far" / "file").string();
  CHECK(replaceable_name((top.path / "link").string()) == target);
  std::ofstream(top.path / "far" / "file") << "x";
  CHECK(replaceable_name((top.path / "link").string()) == target);
  CHECK(replaceable_name((top.path / "link of link").string()) == target);
  fs::create_symlink("loop", top.path / "loop");
  CHECK(replaceable_name((top.path / "loop").string()));  // the write says what is wrong with it
}

TEST_CASE("devices and pipes are refused, also behind a link, for a file would take their place") {
  const TemporaryDirectory top;
  const std::string pipe = (top.path / "pipe").string(), link = (top.path / "link").string();
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  fs::create_symlink(pipe, link);
  for (const std::string& path : {pipe, link}) {
    const auto refused = replaceable_name(path);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == Errc::invalid_config);
    CHECK(refused.error().where == path);
    CHECK(refused.error().what == "is a pipe and not a file");
    CHECK(refused.error().hint.find("name a file") == 0);
  }
  const auto device = replaceable_name("/dev/null");
  REQUIRE_FALSE(device);
  CHECK(device.error().what == "is a device and not a file");
}

}  // namespace base_replaceable_test
