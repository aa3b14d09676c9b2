// Which hosts people mean: pdsh's and ClusterShell's ways to say it, as tables; files are a map.
#include "launcher/host_expression.hpp"

#include <chrono>
#include <map>
#include <random>

#include "launcher/config.hpp"
#include "launcher/hostlist.hpp"
#include "tests/support/catch.hpp"

namespace launcher_host_expression_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using Names = std::vector<std::string>;

namespace {

HostSources sources(std::map<std::string, std::string> files = {}) {
  HostSources made;
  made.read_file = [files = std::move(files)](const std::string& path) -> Result<std::string> {
    const auto found = files.find(path);
    if (found != files.end()) return found->second;
    return make_error(Errc::not_found, "cannot read " + path + ": No such file or directory");
  };
  made.read_stdin = [] { return Result<std::string>("s1\ns[2-3] # from a pipe\n"); };
  made.all = {"www1", "www2", "n1", "n12", "login0"};
  made.groups = {{"gpu", "gpu[01-04]"},         {"compute", "gpu[01-04],cpu[1-2]"},
                 {"cpu_only", "@compute!@gpu"}, {"none", ""},
                 {"rack1", "r1n[1-2]"},         {"rack2", "r2n[1-2]"},
                 {"loop", "n1,@loop"},          {"bad", "n[2-1]"}};
  return made;
}

std::string folded(const std::string& expression, HostSources from = sources(), const Names& exclude = {}) {
  HostSelector selector(std::move(from));
  auto included = selector.include(expression, "-w");
  INFO(expression << (included ? "" : ": " + to_string(included.error())));
  REQUIRE(included.has_value());
  for (const auto& one : exclude) REQUIRE(selector.exclude(one, "-x").has_value());
  return compress_hostlist(selector.names());
}

std::string message(const std::string& expression, HostSources from = sources()) {
  HostSelector selector(std::move(from));
  const auto included = selector.include(expression, "-w");
  return included ? "no error" : to_string(included.error());
}

}  // namespace

TEST_CASE("operators work from left to right, none before another") {
  struct Row {
    const char* expression;
    const char* hosts;
  };
  const std::vector<Row> rows{
      {"", ""},
      {"n[1-9]!n6&n[6-12]", "n[7-9]"},
      {"n[1-3],n[5-6]", "n[1-3,5-6]"},
      {"n[1-5]!n[2-3]", "n[1,4-5]"},
      {"n[1-5]&n[4-9]", "n[4-5]"},
      {"n[1-5]^n[4-7]", "n[1-3,6-7]"},
      {"n[1-9]&n[3-5],n9", "n[3-5,9]"},
      {"n[3,1,1]", "n[3,1],n1"},  // a list: order and repeats stay
      {"n[3,1,1]!n3", "n1,n1"},
      {" n1 , n2 ! n2 ", "n1"},
      {"user@n[1-3]!n2", "user@n[1,3]"},  // by name, whatever user
      {"[2001:db8::1]:2222,fe80::1%eth0", "[2001:db8::1]:2222,fe80::1%eth0"},
      {"ssh:u@n[1-2]", "u@n[1-2]"},
      {"n[1-9],-n6", "n[1-5,7-9]"},
      {"-n6,n[1-9],n6", "n[1-5,7-9]"},  // exclusion wins wherever it stands
      {"n[1-9],-n[2-3],-n8", "n[1,4-7,9]"},
      {"n[1-12],/^n1/", "n[1,10-12]"},
      {"n[1-12],-/[02]$/", "n[1,3-9,11]"},
      {"/,/,n1", ""},  // a comma inside an expression between slashes
      {"n[1-12],/1/,-/2/", "n[1,10-11]"},
      {"www*", "www[1-2]"},
      {"n?2,www1", "n12,www1"},
      {"n*!n1", "n12"},
      {"@gpu", "gpu[01-04]"},
      {"@cpu_only", "cpu[1-2]"},
      {"@rack[1-2]", "r[1-2]n[1-2]"},
      {"@none,n1", "n1"},
      {"@*", "www[1-2],n[1,12],login0"},
      {"@*!@*", ""},
      {"-", "s[1-3]"},
      {"a,-,b", "a,s[1-3],b"},
      {"a,-", "a,s[1-3]"},
  };
  for (const auto& row : rows) CHECK(folded(row.expression) == row.hosts);
}

TEST_CASE("-x excludes lists, files and what matches") {
  CHECK(folded("n[1-9]", sources(), {"n[2-3]", "n5"}) == "n[1,4,6-9]");
  CHECK(folded("n[1-12]", sources(), {"/^n1.$/"}) == "n[1-9]");
  CHECK(folded("n[1-9]", sources({{"down", "n3\nn4\n"}}), {"^down"}) == "n[1-2,5-9]");
  CHECK(folded("u@n[1-3]", sources(), {"n2"}) == "u@n[1,3]");
}

TEST_CASE("files stand anywhere in a list, with comments and other files in them") {
  const std::map<std::string, std::string> files{
      {"hosts.txt", "n1  # the first\r\n\n# a comment\n  n[2-3]\n"},
      {"dir/a", "a1\n#include b\n#include /abs\n#include ./rel\na2"},
      {"dir/b", "b1\n#include a\n #include nothing: not at the first column\n"},
      {"/abs", "c1\n#include dir/x\n"},
      {"/dir/x", "x1\n"},
      {"rel", "r1\n#include dir/a\n"},
      {"twice", "#include hosts.txt\n#include hosts.txt\n#include\n#include \"n\"\n#included is a comment\n"},
  };
  CHECK(folded("a,^hosts.txt,b", sources(files)) == "a,n[1-3],b");
  CHECK(folded("n[1-9],-^hosts.txt", sources(files)) == "n[4-9]");
  CHECK(folded("n[1-9]!^hosts.txt", sources(files)) == "n[4-9]");
  CHECK(folded("n[1-9]^^hosts.txt", sources(files)) == "n[4-9]");
  CHECK(folded("^dir/a", sources(files)) == "a1,b1,c1,x1,r1,a2");
  HostSelector selector(sources(files));
  REQUIRE(selector.include("^twice", "-w").has_value());
  CHECK(compress_hostlist(selector.names()) == "n[1-3]");
  CHECK(selector.notes() == Names{"twice:2: #include hosts.txt once more; it is passed over",
                                  "twice:3: #include needs one name, without quotes; it is passed over",
                                  "twice:4: #include needs one name, without quotes; it is passed over"});
}

TEST_CASE("a wrong expression is shown with the place") {
  const std::map<std::string, std::string> files{
      {"hosts.txt", "n1\n  n[1,4-3]\n"}, {"self", "n1,^self\n"}, {"pipe", "-\n"}};
  struct Row {
    const char* expression;
    std::string message;
  };
  const std::vector<Row> rows{
      {"n1,,n2", "-w: an item is missing before ','\n   n1,,n2\n      ^\n   hint: a sign too many?"},
      {"n1!", "-w: an item is missing at the end\n   n1!\n      ^\n   hint: a sign too many?"},
      {",n1", "-w: an item is missing before ','\n   ,n1\n   ^\n   hint: a sign too many?"},
      {"n1&&n2", "-w: an item is missing before '&'\n   n1&&n2\n      ^\n   hint: a sign too many?"},
      {"a,n[1,4-3],b", "-w: bad range '4-3' in 'n[1,4-3]': it runs backwards\n   a,n[1,4-3],b\n         ^"},
      {"a,n[01-010]",
       "-w: bad range '01-010' in 'n[01-010]': the bounds are padded to different widths\n   a,n[01-010]\n       ^\n"
       "   hint: write 01-10 or 001-010"},
      {"n1:4",
       "-w: ':' in 'n1:4'\n   n1:4\n     ^\n   hint: give a port with the key 'port' and the number of ranks with the "
       "key "
       "'slots'"},
      {"a,n[1-100000000]", "-w: 'n[1-100000000]' names more than 65536 hosts\n   a,n[1-100000000]\n     ^"},
      {"n[1-65536],m", "-w: more than 65536 hosts are named\n   n[1-65536],m\n              ^"},
      {"a,rsh:n1", "-w: 'rsh:' in 'rsh:n1': hosts are reached by ssh alone\n   a,rsh:n1\n     ^"},
      {"n1!-n2",
       "-w: what is left out at the end cannot stand behind '!'\n   n1!-n2\n       ^\n   hint: write ',' before it"},
      {"n1,/x", "-w: a regular expression without its closing '/'\n   n1,/x\n      ^"},
      {"/(/", "-w: regular expression '(': Unmatched ( or \\(\n   /(/\n   ^"},
      {"/a{9}/",
       "-w: '{' in a regular expression: counts are not supported\n   /a{9}/\n   ^\n   hint: write the piece out"},
      {"/(a)\\1/", "-w: a back reference in a regular expression is not supported\n   /(a)\\1/\n   ^"},
      {"/a/b", "-w: expected , ! & or ^ between two items\n   /a/b\n      ^"},
      {"x*", "-w: 'x*' matches none of the 5 known hosts\n   x*\n   ^"},
      {"n[1-2]*", "-w: 'n[1-2]*' has '*' or '?' beside brackets\n   n[1-2]*\n   ^\n   hint: write one of both"},
      {"@nobody",
       "-w: no group 'nobody' is known\n   @nobody\n   ^\n   hint: groups stand below llmlaunch.groups in the "
       "configuration, which --config names, or in a file that --groups names"},
      {"@racks:r9",
       "-w: no group 'racks:r9' is known\n   @racks:r9\n   ^\n   hint: groups stand below llmlaunch.groups in the "
       "configuration, which --config names, or in a file that --groups names"},
      {"n1,@racks:r[2-1]", "-w: bad range '2-1' in 'r[2-1]': it runs backwards\n   n1,@racks:r[2-1]\n               ^"},
      {"@@src",
       "-w: no source of groups 'src' is known\n   @@src\n   ^\n   hint: groups stand below llmlaunch.groups in the "
       "configuration, which --config names, or in a file that --groups names"},
      {"n1,@bad", "group bad: bad range '2-1' in 'n[2-1]': it runs backwards\n   n[2-1]\n     ^"},
      {"^nowhere", "-w: cannot read nowhere: No such file or directory\n   ^nowhere\n   ^"},
      {"^hosts.txt", "hosts.txt:2: bad range '4-3' in 'n[1,4-3]': it runs backwards\n   n[1,4-3]\n       ^"},
      {"^pipe,-", "-w: hosts cannot be read from stdin here\n   ^pipe,-\n         ^"},
      {"@", "-w: an item is missing at the end\n   @\n    ^\n   hint: a sign too many?"},
      {"n1@", "-w: 'n1@' is no host name: expected name or user@name\n   n1@\n   ^"},
      {"a b", "-w: blank inside 'a b'\n   a b\n    ^\n   hint: separate hosts by commas"},
  };
  for (const auto& row : rows) {
    INFO(row.expression);
    CHECK(message(row.expression, sources(files)) == row.message);
  }
  CHECK(message("^self", sources(files)) ==
        "self:1: groups and files refer to each other more than 16 deep\n   n1,^self\n      ^");
  CHECK(message("@loop") == "group loop: groups and files refer to each other more than 16 deep\n   n1,@loop\n      ^");
  HostSources bare;
  CHECK(message("n*", bare) ==
        "-w: nothing is known that 'n*' could match\n   n*\n   ^\n   hint: patterns choose among the hosts of the "
        "configuration: --config names it");
  CHECK(message("-", bare) == "-w: hosts cannot be read from stdin here\n   -\n   ^");
  CHECK(message("^f", bare) == "-w: host files cannot be read here\n   ^f\n   ^");
}

TEST_CASE("of a long expression the message shows what stands around the place") {
  std::string list = "n1";
  for (int i = 2; i <= 100; ++i) list += ",n" + std::to_string(i);
  const std::string text = message(list + ",n[2-1]," + list);
  CHECK(text.find("\n   …") != text.npos);
  CHECK(text.size() < 400);
  const auto lines = text.substr(text.find('\n') + 1);
  const auto caret = lines.find('^', lines.find('\n')) - lines.find('\n') - 1;
  CHECK(lines.substr(caret + std::string("…").size() - 1, 3) == "2-1");
}

TEST_CASE("names that follow no rule are folded and expanded in good time") {
  // ClusterShell needed 17 minutes for a thousand of these.
  std::mt19937 random(20260102);
  Names names;
  for (std::size_t i = 0; i < kMaxHosts; ++i) {
    const auto n = [&random](unsigned below) { return std::to_string(random() % below); };
    names.push_back("r" + n(40) + "c" + n(9) + "s" + n(100) + "n" + n(1000));
  }
  const auto began = std::chrono::steady_clock::now();
  const std::string list = compress_hostlist(names);
  const bool same = *expand_hostlist(list) == names;
  const auto took = std::chrono::steady_clock::now() - began;
  CHECK(same);
  CHECK(took < std::chrono::seconds(20));  // without optimization, on a busy machine; quadratic would be an hour
}

TEST_CASE("a slice names places from 0") {
  using Places = std::vector<std::size_t>;
  CHECK(*places_of_slice("0-4/2", 5) == Places{0, 2, 4});
  CHECK(*places_of_slice("3,0", 5) == Places{3, 0});
  CHECK(to_string(places_of_slice("0-5", 5).error()) == "slice '0-5': there are only 5 hosts, counted from 0");
  CHECK(to_string(places_of_slice("1", 1).error()) == "slice '1': there is only 1 host, counted from 0");
  CHECK(to_string(places_of_slice("x", 1).error()) ==
        "bad range 'x' in 'x': expected a number, or two numbers with '-' between them");
}

}  // namespace launcher_host_expression_test
