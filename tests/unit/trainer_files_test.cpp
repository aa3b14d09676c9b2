// Files as a whole, and hashes.
#include "trainer/files.hpp"

#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace trainer_files_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

TEST_CASE("what is written is read, up to a limit, and a disk without room is an error") {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("llmlaunch-file-" + std::to_string(::getpid()))).string();
  REQUIRE(write_whole_file(path, as_bytes("some bytes")));
  REQUIRE(sync_to_disk(path));
  const auto read = read_whole_file(path, 10);
  REQUIRE(read);
  CHECK(as_text(*read) == "some bytes");
  const auto large = read_whole_file(path, 9, "a hint");
  REQUIRE_FALSE(large);
  CHECK(to_string(large.error()) == path + ": is larger than the limit of 9 bytes\n   hint: a hint");
  std::filesystem::remove(path);
  const auto missing = read_whole_file(path, 9);
  REQUIRE_FALSE(missing);
  CHECK(missing.error().code == std::errc::no_such_file_or_directory);
  CHECK(with_folder(missing.error()).what == missing.error().what);  // by an absolute path
  const auto here = read_whole_file("no-such-file", 9);
  REQUIRE_FALSE(here);
  CHECK(to_string(with_folder(here.error())) == "no-such-file: open: No such file or directory (looked for in " +
                                                    std::filesystem::current_path().string() + ")");
  const auto full = write_whole_file("/dev/full", as_bytes("some bytes"));
  REQUIRE_FALSE(full);
  CHECK(full.error().code == std::errc::no_space_on_device);
}

TEST_CASE("missing folders are made, however they are named, and what cannot be one is an error") {
  namespace fs = std::filesystem;
  const test::TemporaryDirectory folder;
  for (const char* name : {"a/b", "c/", "d/../e", "f/.", "a/b"}) {
    CAPTURE(name);
    CHECK(make_folders((folder.path / name).string()));
    CHECK(fs::is_directory(folder.path / name));
  }
  const std::string file = (folder.path / "file").string();
  REQUIRE(write_whole_file(file, {}));
  const auto in_a_file = make_folders(file + "/x");
  REQUIRE_FALSE(in_a_file);
  CHECK(to_string(in_a_file.error()) == file + ": mkdir: File exists");
  const std::string link = (folder.path / "link").string();
  fs::create_symlink("not/mounted", link);
  const auto nowhere = make_folders(link + "/x");
  REQUIRE_FALSE(nowhere);
  CHECK(to_string(nowhere.error()) == link +
                                          ": is a link to not/mounted, which is not there\n"
                                          "   hint: make that folder, or mount what has it, or name another one");
}

TEST_CASE("what may never end is refused at once, and not read") {
  const std::string path =
      (std::filesystem::temp_directory_path() / ("llmlaunch-pipe-" + std::to_string(::getpid()))).string();
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  const auto pipe = read_whole_file(path, 10);  // without a writer, opening alone would wait
  std::filesystem::remove(path);
  REQUIRE_FALSE(pipe);
  CHECK(pipe.error().code == Errc::invalid_config);
  CHECK(to_string(pipe.error()) ==
        path + ": is a pipe and not a file\n   hint: write what it gives into a file, and name that");
  const auto device = read_whole_file("/dev/zero", 10);
  REQUIRE_FALSE(device);
  CHECK(device.error().what == "is a device and not a file");
}

TEST_CASE("the digest is SHA-256") {
  CHECK(*digest(as_bytes("abc")) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("a library that makes no SHA-256 is an error, and no empty digest that is equal everywhere") {
  REQUIRE(EVP_set_default_properties(nullptr, "provider=none") == 1);
  const auto made = digest(as_bytes("abc"));
  REQUIRE(EVP_set_default_properties(nullptr, "") == 1);
  REQUIRE_FALSE(made);
  CHECK(made.error().code == Errc::unsupported);
  CHECK(made.error().what.find("libcrypto makes no SHA-256: ") == 0);
  CHECK(digest(as_bytes("abc")));
}

}  // namespace trainer_files_test
