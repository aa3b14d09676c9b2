// What a rank's exec gets: names and values that are refused, how environments lie on one another, what is too large.
#include "launcher/agent/exec_spec.hpp"

#include <filesystem>

#include "tests/support/catch.hpp"

namespace launcher_agent_exec_spec_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;

namespace {

Prepare good() {
  Prepare prepare;
  prepare.argv = {"true"};
  prepare.ranks = {{0, {}}, {1, {}}};
  return prepare;
}

const std::string kHash(64, 'a');

}  // namespace

TEST_CASE("a Prepare that makes no sense is refused with the reason") {
  CHECK(check_prepare(good()));
  struct Row {
    void (*spoil)(Prepare&);
    Errc code;
    std::string what;
  };
  using std::string;
  const std::vector<Row> rows = {
      {[](Prepare& p) { p.argv.clear(); }, Errc::invalid_argument, "no command to run"},
      {[](Prepare& p) { p.argv = {""}; }, Errc::invalid_argument, "no command to run"},
      {[](Prepare& p) { p.argv.emplace_back("a\0b", 3); }, Errc::invalid_argument, "argument 1 has a NUL byte"},
      {[](Prepare& p) { p.workdir = string("/a\0b", 4); }, Errc::no_workdir,
       "the working directory's name has a NUL byte"},
      {[](Prepare& p) { p.ranks.clear(); }, Errc::invalid_argument, "no ranks for this host"},
      {[](Prepare& p) { p.ranks[1].rank = 0; }, Errc::invalid_argument, "rank 0 is listed twice"},
      {[](Prepare& p) { p.window_bytes = 0; }, Errc::invalid_argument, "an output window of 0 bytes"},
      {[](Prepare& p) {
         p.env = {{"", "x"}};
       },
       Errc::invalid_argument, "an environment variable without a name"},
      {[](Prepare& p) {
         p.env = {{"A=B", "x"}};
       },
       Errc::invalid_argument, "environment variable 'A=B': a name has no '=' and no NUL byte"},
      {[](Prepare& p) {
         p.ranks[0].env = {{"A", string("x\0y", 3)}};
       },
       Errc::invalid_argument, "environment variable 'A': the value has a NUL byte"},
      {[](Prepare& p) {
         p.files = {{"../x", kHash, 1}};
       },
       Errc::invalid_argument, "a file to push whose name is no plain name: '../x'"},
      {[](Prepare& p) {
         p.files = {{"..", kHash, 1}};
       },
       Errc::invalid_argument, "a file to push whose name is no plain name: '..'"},
      {[](Prepare& p) {
         p.files = {{"x", "../../etc", 1}};
       },
       Errc::invalid_argument, "file 'x': the hash is not 64 hex digits"},
      {[](Prepare& p) {
         p.argv = {"llmlaunch-file:y"};
         p.files = {{"x", kHash, 1}};
       },
       Errc::invalid_argument, "the command is the pushed file 'y', and no such file comes with the job"},
  };
  for (const Row& row : rows) {
    Prepare prepare = good();
    row.spoil(prepare);
    const auto checked = check_prepare(prepare);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code == row.code);
    CHECK(checked.error().what == row.what);
  }
}

TEST_CASE("a later layer of the environment wins and keeps the place of the earlier one") {
  const EnvList first = {{"B", "1"}, {"C", "x=y"}};
  const EnvList second = {{"A", ""}, {"B", "2"}};
  CHECK(overlay_env({"A=a", "PATHS=p", "PATH=q"}, {&first, &second}) ==
        std::vector<std::string>{"A=", "PATHS=p", "PATH=q", "B=2", "C=x=y"});
}

TEST_CASE("the secret of machines that are started one by one is not inherited, whoever set it") {
  const EnvList layer = {{"B", "b"}};
  CHECK(overlay_env({"A=a", "LLMLAUNCH_JOIN_TOKEN=secret", "LLMLAUNCH_JOIN_TOKENS=t",
                     "LLMLAUNCH_JOIN_TOKEN=", "LLMLAUNCH_COLUMNS=80"},
                    {&layer}) == std::vector<std::string>{"A=a", "LLMLAUNCH_JOIN_TOKENS=t", "B=b"});
}

TEST_CASE("a variable is found by its whole name") {
  const std::vector<std::string> env = {"PATHS=p", "PATH=q"};
  REQUIRE(find_env(env, "PATH") != nullptr);
  CHECK(*find_env(env, "PATH") == "PATH=q");
  CHECK(find_env(env, "PAT") == nullptr);
}

TEST_CASE("directories of pushed libraries come before what the user set, and nothing else changes") {
  struct Row {
    std::vector<std::string> env, directories, wanted;
  };
  const std::vector<Row> rows = {
      {{"A=1"}, {"/c/1", "/c/2"}, {"A=1", "LD_LIBRARY_PATH=/c/1:/c/2"}},
      {{"LD_LIBRARY_PATH=/u:/v", "A=1"}, {"/c/1"}, {"LD_LIBRARY_PATH=/c/1:/u:/v", "A=1"}},
      // No path is not the same as an empty part of one, which means the working directory.
      {{"LD_LIBRARY_PATH="}, {"/c/1"}, {"LD_LIBRARY_PATH=/c/1"}},
      {{"LD_LIBRARY_PATH=:/u"}, {"/c/1"}, {"LD_LIBRARY_PATH=/c/1::/u"}},
      {{"LD_LIBRARY_PATHS=/u"}, {"/c/1"}, {"LD_LIBRARY_PATHS=/u", "LD_LIBRARY_PATH=/c/1"}},
      {{"LD_LIBRARY_PATH=/u"}, {}, {"LD_LIBRARY_PATH=/u"}},
      {{"A=1"}, {}, {"A=1"}},
  };
  for (const Row& row : rows) {
    std::vector<std::string> env = row.env;
    REQUIRE(prepend_library_path(env, row.directories));
    CHECK(env == row.wanted);
  }
}

TEST_CASE("a directory that the loader would split is refused by name") {
  for (const std::string directory : {"/home/a:b/c", "/home/a;b/c"}) {
    std::vector<std::string> env = {"LD_LIBRARY_PATH=/u"};
    const auto refused = prepend_library_path(env, {"/c", directory});
    REQUIRE_FALSE(refused);
    CHECK(refused.error().what ==
          "the loader cannot look for pushed libraries in '" + directory + "': it splits names at ':' and ';'");
    CHECK(env == std::vector<std::string>{"LD_LIBRARY_PATH=/u"});
  }
}

TEST_CASE("what the kernel would refuse is refused by name and size, and no value is shown") {
  const ExecLimits limits{10, 100};
  CHECK(check_exec_size({"1234567890"}, {"A=34567890"}, limits));
  const auto argument = check_exec_size({"a", "12345678901"}, {}, limits);
  REQUIRE_FALSE(argument);
  CHECK(argument.error().what == "argument 1 has 11 bytes; the kernel takes 10");
  const auto variable = check_exec_size({"a"}, {"NAME=secret"}, limits);
  REQUIRE_FALSE(variable);
  CHECK(variable.error().what == "environment variable NAME has 11 bytes with its name; the kernel takes 10");
  const auto total = check_exec_size({"a", "b"}, {"A=1", "B=2", "C=3", "D=4", "E=5", "F=6", "G=7"}, limits);
  REQUIRE_FALSE(total);
  CHECK(total.error().code == Errc::too_large);
  CHECK(
      total.error().what ==
      "the command's 2 arguments (20 bytes) and its 7 environment variables (84 bytes) are more than the kernel takes "
      "for one program, 100 bytes");
}

TEST_CASE("programs are looked for as execvp does it") {
  const auto found = find_program("sh", {"PATH=/nowhere:/bin"}, "");
  REQUIRE(found);
  CHECK(*found == "/bin/sh");
  const auto relative = find_program("sh", {"PATH="}, "/bin");  // an empty entry is the working directory
  REQUIRE(relative);
  CHECK(*relative == "./sh");
  const auto in_workdir = find_program("bin/sh", {}, "/");
  REQUIRE(in_workdir);
  CHECK(*in_workdir == "bin/sh");
  CHECK(find_program("sh", {}, ""));  // without a PATH there is a standard one
  const auto nowhere = find_program("sh", {"PATH=/nowhere"}, "");
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().what == "no program 'sh' in PATH (/nowhere)");
  CHECK(nowhere.error().hint == "install it on this host, give its full path, or set PATH in llmlaunch.env");
  const auto directory = find_program("/bin", {}, "");
  REQUIRE_FALSE(directory);
  CHECK(directory.error().what == "'/bin' is a directory, not a program");
}

TEST_CASE("a program that is not found comes with what was probably meant") {
  const auto hint = [](const std::string& name, const std::string& workdir) {
    const auto found = find_program(name, {"PATH=/nowhere"}, workdir);
    REQUIRE_FALSE(found);
    return found.error().hint;
  };
  CHECK(hint("sh", "/bin") == "there is ./sh in the working directory: write ./sh");
  CHECK(hint("passwd", "/etc") ==
        "chmod +x it, or name the program that runs it; there is ./passwd in the working "
        "directory");
  const std::string quotes = "its name has blanks: write the program and its arguments without quotes around them all";
  CHECK(hint("python3 x.py", "") == quotes);
  CHECK(hint("python3 ./x.py", "") == quotes);
}

TEST_CASE("a working directory is shown as it was written and where it was looked for") {
  CHECK(check_workdir(""));
  CHECK(check_workdir("/"));
  const auto message = [](const std::string& workdir) {
    const auto checked = check_workdir(workdir);
    REQUIRE_FALSE(checked);
    CHECK(checked.error().code == Errc::no_workdir);
    return checked.error().what;
  };
  const std::string here = std::filesystem::current_path().string();
  const std::string none = "): No such file or directory";
  const char* const home = std::getenv("HOME");
  const std::string from = home != nullptr && home[0] == '/' ? home : here;
  CHECK(message("~/no such/x") == "working directory '~/no such/x' (" + from + "/no such/x" + none);
  CHECK(message("no such") == "working directory 'no such' (" + here + "/no such" + none);
  CHECK(message("/no/such") == "working directory '/no/such': No such file or directory");
  CHECK(message("/dev/null") == "working directory '/dev/null': not a directory");
  CHECK(directory_of("~/a/~/b", nullptr) == "a/~/b");
  CHECK(directory_of("~/a/~/b", "/home/me") == "/home/me/a/~/b");
  CHECK(directory_of("~", "/home/me") == "/home/me");
  CHECK(directory_of("~", "") == ".");
  CHECK(directory_of("~you", "/home/me") == "~you");
}

TEST_CASE("a script that Python cannot read is told as a program that is not there") {
  CHECK(check_script("/proc/self/maps", ""));
  CHECK(check_script("self/maps", "/proc"));
  CHECK(check_script("/", ""));  // a directory, in which Python looks for __main__.py
  const auto missing = check_script("no.py", "/proc");
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().code == Errc::no_program);
  CHECK(missing.error().what == "script 'no.py' in /proc: No such file or directory");
  CHECK(check_script("/no/such.py", "/proc").error().what == "script '/no/such.py': No such file or directory");
}

TEST_CASE("where there is no python3, python is taken, and a name that was given is taken literally") {
  const auto missing = find_python("python3", {"PATH=/nowhere"}, "");
  REQUIRE_FALSE(missing.has_value());
  CHECK(missing.error().what == "neither 'python3' nor 'python' in PATH (/nowhere)");
  CHECK(find_python("python3.99", {"PATH=/nowhere"}, "").error().what == "no program 'python3.99' in PATH (/nowhere)");
  CHECK(find_python("sh", {"PATH=/bin"}, "").value() == "/bin/sh");
}

}  // namespace launcher_agent_exec_spec_test
