// Groups of hosts from a file, and what expressions make of them.
#include "launcher/group_file.hpp"

#include "launcher/host_expression.hpp"
#include "launcher/hostlist.hpp"
#include "tests/support/catch.hpp"

namespace launcher_group_file_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

const char* const kFile =
    "gpu: gpu[01-04]\n"
    "none:\n"
    "both: [gpu01, 'io[1-2]']\n"
    "racks:\n"
    "  r1: gpu[01-02],io1\n"
    "  r2: ['gpu[03-04]', io1]\n"
    "  rest: '@gpu!@r1'\n"
    "  gpu: nobody\n"
    "roles:\n"
    "  r1: x1\n"
    "  far: '@racks:r2'\n"
    "  near: '@r1,@r2'\n";

std::string hosts(const std::string& expression) {
  auto groups = parse_group_file(kFile, "groups.yaml");
  REQUIRE(groups.has_value());
  HostSources sources;
  sources.groups = std::move(*groups);
  HostSelector selector(std::move(sources));
  const auto included = selector.include(expression, "-w");
  return included ? compress_hostlist(selector.names()) : to_string(included.error());
}

std::string message(const std::string& text) {
  const auto groups = parse_group_file(text, "g.yaml");
  if (groups) return "no error";
  CHECK(groups.error().code == Errc::invalid_config);
  return to_string(groups.error());
}

}  // namespace

TEST_CASE("groups of a file are called by name, with or without their source") {
  CHECK(hosts("@gpu") == "gpu[01-04]");
  CHECK(hosts("@none,n1") == "n1");
  CHECK(hosts("@both") == "gpu01,io[1-2]");
  CHECK(hosts("@racks:r1") == "gpu[01-02],io1");
  CHECK(hosts("@r1") == "gpu[01-02],io1");  // of the first source
  CHECK(hosts("@racks:r[1-2]!io1") == "gpu[01-04]");
  CHECK(hosts("@racks:gpu") == "nobody");
  CHECK(hosts("@roles:r1") == "x1");
  CHECK(hosts("@roles:far") == "gpu[03-04],io1");
}

TEST_CASE("inside a source a name means the source's own group first") {
  CHECK(hosts("@racks:rest") == "nobody");
  CHECK(hosts("@rest") == "gpu[03-04]");  // as it stands beside @gpu
  CHECK(hosts("@roles:near") == "x1,gpu[03-04],io1");
  CHECK(hosts("@roles:r1,@gpu") == "x1,gpu[01-04]");  // and only inside
}

TEST_CASE("all groups of a source, and the names of its groups") {
  CHECK(hosts("@racks:*") == "nobody,gpu[01-02],io1,gpu[03-04]");
  CHECK(hosts("@@roles") == "far,near,r1");
  CHECK(hosts("@@") == "both,gpu,none,r[1-2],rest");
  CHECK(hosts("@nope:*").starts_with("-w: no source of groups 'nope' is known\n"));
  CHECK(hosts("@roles:gpu").starts_with("-w: no group 'roles:gpu' is known\n"));
}

TEST_CASE("an empty file has no groups, a wrong one is shown with the place") {
  CHECK(parse_group_file("", "g.yaml")->empty());
  CHECK(message("- a\n") ==
        "g.yaml:1:1: expected names of groups and their hosts\n    1 | - a\n      | ^ gpu: gpu[01-16]");
  CHECK(message("a b: n1\n") ==
        "g.yaml:1:1: 'a b' is no name of a group\n    1 | a b: n1\n      | ^ letters, digits, - . and _");
  CHECK(message("s:\n  'x:y': n1\n").starts_with("g.yaml:2:3: 'x:y' is no name of a group\n"));
  CHECK(message("s:\n  x: {y: n1}\n").starts_with("g.yaml:2:3: group 'x' must be a list of hosts\n"));
  CHECK(message("x: [[n1]]\n").starts_with("g.yaml:1:1: group 'x' must be a list of hosts\n"));
  CHECK(message("x: n1\nx: n2\n").starts_with("g.yaml:2:1: "));
}

}  // namespace launcher_group_file_test
