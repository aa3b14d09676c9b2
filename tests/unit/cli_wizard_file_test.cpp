// The wizard's file on file systems that can do less than others: a filter of system calls plays them.
#include "cli/wizard_file.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace cli_wizard_file_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;
using llmlaunch::test::content_of;
using llmlaunch::test::TemporaryDirectory;
namespace fs = std::filesystem;

namespace {

struct Refused {
  long call;
  int error;
};

/// From here on these system calls of this process fail.
bool refuse(const std::vector<Refused>& calls) {
  std::vector<sock_filter> filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const Refused& one : calls) {
    filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(one.call), 0, 1));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(one.error)));
  }
  filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// write_whole_file in a process where these calls fail: 0 written, 1 it is there, 2 another error, 3 no filter here.
int status_with(const std::vector<Refused>& calls, const fs::path& file, const std::string& text) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (!refuse(calls)) ::_exit(3);
    const auto written = write_whole_file(file.string(), text, false, false);
    ::_exit(written ? 0 : written.error().code == Errc::usage ? 1 : 2);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

const std::vector<Refused> kNoLinks = {{SYS_link, EPERM}, {SYS_linkat, EPERM}};
const std::vector<Refused> kNothing = {{SYS_link, EPERM}, {SYS_linkat, EPERM}, {SYS_renameat2, EINVAL}};

}  // namespace

TEST_CASE("with --force a pipe or device is no file to overwrite, and a link to a file that is not there stays") {
  const TemporaryDirectory top;
  const fs::path pipe = top.path / "pipe", link = top.path / "link";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const auto refused = write_whole_file(pipe.string(), "text", true, false);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().where == pipe.string());
  CHECK(refused.error().what == "is a pipe and not a file");
  CHECK(fs::is_fifo(pipe));
  fs::create_symlink("far", link);
  REQUIRE(write_whole_file(link.string(), "text", true, false));
  CHECK(fs::is_symlink(link));
  CHECK(content_of(top.path / "far") == "text");
}

TEST_CASE("a new file is written where there are no hard links, and one that is there stays") {
  const std::vector<Refused> calls = GENERATE(std::vector<Refused>{}, kNoLinks, kNothing);
  const TemporaryDirectory top;
  CHECK(status_with(calls, top.path / "new.yaml", "a: 1\n") == 0);
  CHECK(content_of(top.path / "new.yaml") == "a: 1\n");
  CHECK(status_with(calls, top.path / "new.yaml", "b: 2\n") == 1);
  CHECK(content_of(top.path / "new.yaml") == "a: 1\n");
  CHECK(std::distance(fs::directory_iterator(top.path), fs::directory_iterator()) == 1);
}

TEST_CASE("what cannot be written leaves nothing behind") {
  const TemporaryDirectory top;
  CHECK(status_with({{SYS_fsync, EIO}}, top.path / "new.yaml", "a: 1\n") == 2);
  CHECK(fs::is_empty(top.path));
}

}  // namespace cli_wizard_file_test
