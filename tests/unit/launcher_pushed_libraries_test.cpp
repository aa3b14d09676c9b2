// Which libraries go with a pushed program: what the loader's list becomes, and the list of a real program, this test,
// against what its process has loaded.
#include "launcher/pushed_libraries.hpp"

#include <link.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_pushed_libraries_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
namespace fs = std::filesystem;

namespace {

struct Folder : llmlaunch::test::TemporaryDirectory {
  std::string file(const std::string& name, const std::string& content) const {
    std::ofstream(path / name, std::ios::binary) << content;
    fs::permissions(path / name, fs::perms::owner_all);
    return (path / name).string();
  }
};

std::string content_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

/// The files of the libraries in this process, links followed.
std::set<std::string> loaded_here() {
  std::set<std::string> found;
  const auto add = [](dl_phdr_info* info, std::size_t, void* into) {
    const fs::path path = info->dlpi_name;
    if (path.is_absolute() && !stays_on_host(path.filename().string()))
      static_cast<std::set<std::string>*>(into)->insert(fs::canonical(path).string());
    return 0;
  };
  ::dl_iterate_phdr(add, &found);
  return found;
}

using Files = std::vector<std::pair<std::string, std::string>>;

Files listed(std::string_view listing) {
  Files files;
  for (const PushedProgram& library : libraries_in(listing)) files.emplace_back(library.name, library.local_path);
  return files;
}

}  // namespace

TEST_CASE("glibc's parts and the driver's stay on the host, and nothing that only looks like them does") {
  for (const char* name :
       {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "linux-vdso.so.1", "libc.so.6", "libm.so.6", "libmvec.so.1",
        "libpthread.so.0", "libdl.so.2", "librt.so.1", "libresolv.so.2", "libutil.so.1", "libanl.so.1", "libnsl.so.1",
        "libnss_files.so.2", "libcuda.so.1", "libnvidia-ml.so.1"}) {
    INFO(name);
    CHECK(stays_on_host(name));
  }
  for (const char* name : {"libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libcrypt.so.1", "libcrypto.so.3",
                           "libmpi.so.40", "libcap.so.2", "libnsl.so.2", "libcudart.so.12", "libdnnl.so.2",
                           "libnl-3.so.200", "libasan.so.8", "libc++.so.1"}) {
    INFO(name);
    CHECK_FALSE(stays_on_host(name));
  }
}

TEST_CASE("the loader's list becomes files, named as the loader asks for them and in its order") {
  CHECK(
      listed("\tlinux-vdso.so.1 (0x00007ff266774000)\n"
             "\tlibdnnl.so.2 => /lib/x86_64-linux-gnu/libdnnl.so.2.7 (0x00007f947e600000)\n"
             "\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f947de1e000)\n"
             "\t/lib64/ld-linux-x86-64.so.2 (0x00007f9480fa2000)\n"
             "\tlibz.so.1 => /opt/a b => c (0x1)/libz.so.1 (0x00007f9480f25000)\n") ==
      Files{{"libdnnl.so.2", "/lib/x86_64-linux-gnu/libdnnl.so.2.7"}, {"libz.so.1", "/opt/a b => c (0x1)/libz.so.1"}});
}

TEST_CASE("a line that names no file for the loader to look for is left out") {
  const char* lines[] = {"",
                         "\n\n",
                         "\tlibz.so.1\n",
                         "\tlibz.so.1 => not found\n",
                         "\tlibz.so.1 =>  (0x00007f00)\n",
                         "\tlibz.so.1 (0x00007f00) => /lib/libz.so.1\n",
                         "\t/opt/libz.so.1 => /opt/libz.so.1 (0x00007f00)\n",
                         "\t/etc/preloaded.so (0x00007f00)\n",
                         "\tstatically linked\n",
                         "libz.so.1 => /lib/libz.so.1 (0x00007f00)\n"};
  for (const char* line : lines) {
    INFO(line);
    CHECK(listed(line).empty());
  }
}

TEST_CASE("the libraries of a real program are those that its process has loaded, less the host's own") {
  // Not /proc/self/exe itself: in the process that lists, it is the loader.
  const auto libraries = libraries_of(fs::canonical("/proc/self/exe").string());
  REQUIRE(libraries);
  std::set<std::string> files;
  for (const PushedProgram& library : *libraries) files.insert(fs::canonical(library.local_path).string());
  CHECK(files == loaded_here());
  CHECK(files.size() == libraries->size());
  CHECK_FALSE(files.empty());
}

TEST_CASE("what is no program with a loader needs no libraries and is not run") {
  const Folder folder;
  const std::string ran = (folder.path / "ran").string();
  const std::string self = content_of("/proc/self/exe");
  for (const std::string& content :
       {std::string(), "#!/bin/sh\n: >'" + ran + "'\n", self.substr(0, 40), self.substr(0, 64),
        std::string("\x7f"
                    "ELF",
                    4)}) {
    const auto libraries = libraries_of(folder.file("program", content));
    REQUIRE(libraries);
    CHECK(libraries->empty());
  }
  CHECK_FALSE(fs::exists(ran));
}

TEST_CASE("a program that does not load on this machine is refused with its loader's words") {
  const Folder folder;
  std::string content = content_of("/proc/self/exe");
  const std::string name = "libcrypto.so.3", other = "libcrypt0.so.3";
  REQUIRE(content.find(name) != content.npos);
  for (std::size_t at = 0; (at = content.find(name, at)) != content.npos;) content.replace(at, name.size(), other);
  const std::string path = folder.file("program", content);
  const auto libraries = libraries_of(path);
  REQUIRE_FALSE(libraries);
  CHECK(libraries.error().code == Errc::unsupported);
  CHECK(libraries.error().what == "cannot tell which libraries " + path + " needs: " + path +
                                      ": error while loading shared libraries: " + other +
                                      ": cannot open shared object file: No such file or directory");
  CHECK(libraries.error().hint.find("LD_LIBRARY_PATH") != std::string::npos);
}

TEST_CASE("a program that is not there is an error that names it") {
  const auto libraries = libraries_of("/no/such/program");
  REQUIRE_FALSE(libraries);
  CHECK(libraries.error().what == "cannot open /no/such/program: No such file or directory");
}

}  // namespace launcher_pushed_libraries_test
