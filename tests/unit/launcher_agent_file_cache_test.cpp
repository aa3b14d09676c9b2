// The cache of pushed files in a directory of its own; what real agents do with it is in integration/agent_test.cpp.
#include "launcher/agent/file_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/agent_driver.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_file_cache_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;

namespace {

constexpr std::time_t kDay = 86'400;

/// A file that was last written so many seconds ago.
void write_old(const std::string& path, std::time_t age) {
  std::ofstream(path) << "half";
  const std::time_t then = std::time(nullptr) - age;
  const timespec times[2] = {{then, 0}, {then, 0}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

}  // namespace

TEST_CASE("half files of agents that were killed go with a later push, and no other file does") {
  const test::TemporaryDirectory top;
  REQUIRE(::chmod(top.str().c_str(), 0700) == 0);
  FileCache cache({}, top.str());
  const FileSpec file{"tool", std::string(64, 'a'), 4};
  const std::string directory = top.str() + "/" + file.hash;
  std::filesystem::create_directory(directory);
  write_old(directory + "/tool.0123.part", kDay + 60);
  write_old(directory + "/tool.4567.part", kDay - 60);  // of another agent, which is writing it
  write_old(directory + "/other", 2 * kDay);
  REQUIRE(cache.write(0, file, FileChunk{0, false, Bytes(2)}));
  CHECK_FALSE(std::filesystem::exists(directory + "/tool.0123.part"));
  CHECK(std::filesystem::exists(directory + "/tool.4567.part"));
  CHECK(std::filesystem::exists(directory + "/other"));
}

TEST_CASE("a cache that nothing is written to leaves no directory") {
  const test::TemporaryDirectory top;
  const std::vector<std::string> env{"HOME=" + top.str() + "/home", "TMPDIR=" + top.str() + "/tmp"};
  const FileSpec file{"tool", std::string(64, 'a'), 4};
  {
    FileCache cache(env, "");
    CHECK(cache.find(file).empty());
  }
  CHECK(std::filesystem::is_empty(top.str()));
}

TEST_CASE("a cache is made with the first file, and found again by the next agent") {
  const test::TemporaryDirectory top;
  const std::vector<std::string> env{"HOME=" + top.str() + "/home", "TMPDIR=" + top.str() + "/tmp"};
  // SHA-256 of four zero bytes.
  const FileSpec file{"tool", "df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119", 4};
  FileCache cache(env, "");
  REQUIRE(cache.write(0, file, FileChunk{0, true, Bytes(4)}));
  const std::string path = top.str() + "/home/.cache/llmlaunch/" + file.hash + "/tool";
  CHECK(cache.path_of(file) == path);
  FileCache next(env, "");
  CHECK(next.find(file) == path);
  CHECK(next.path_of(file) == path);
}

}  // namespace launcher_agent_file_cache_test
