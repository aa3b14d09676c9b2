#include "launcher/hostlist.hpp"

#include "tests/support/catch.hpp"

namespace launcher_hostlist_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using Names = std::vector<std::string>;

TEST_CASE("host lists expand as pdsh, Slurm and Flux read them") {
  struct Row {
    const char* list;
    Names names;
  };
  const std::vector<Row> rows{
      {"n[0-3]", {"n0", "n1", "n2", "n3"}},
      {"n[0-2,4]", {"n0", "n1", "n2", "n4"}},
      {"n[00-02]", {"n00", "n01", "n02"}},
      {"n[9-11]", {"n9", "n10", "n11"}},
      {"n[098-101]", {"n098", "n099", "n100", "n101"}},
      {"n[98-101]", {"n98", "n99", "n100", "n101"}},
      {"n[099-100]", {"n099", "n100"}},
      {"n[01-100/33]", {"n01", "n34", "n67", "n100"}},
      {"n[7]", {"n7"}},
      {"n[19]", {"n19"}},
      {"n[007]", {"n007"}},
      {"n[0-3]-ib0", {"n0-ib0", "n1-ib0", "n2-ib0", "n3-ib0"}},
      {"n1,n9,x", {"n1", "n9", "x"}},
      {"", {}},
      {"  \n ", {}},
      {"[1-3].lab", {"1.lab", "2.lab", "3.lab"}},
      {"[0]c", {"0c"}},
      {"[1-2]", {"1", "2"}},
      {"10.0.0.[1-4]", {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}},
      {"r[1-2]n[01-03]", {"r1n01", "r1n02", "r1n03", "r2n01", "r2n02", "r2n03"}},
      {"user@n[1-2]", {"user@n1", "user@n2"}},
      {"n[3,1,1]", {"n3", "n1", "n1"}},
      {"n[0-6/2]", {"n0", "n2", "n4", "n6"}},
      {"n[000-012/4]", {"n000", "n004", "n008", "n012"}},
      {"n[0-5/2]", {"n0", "n2", "n4"}},
      {"n1[0-3]", {"n10", "n11", "n12", "n13"}},
      {"n-00[1-3]0", {"n-0010", "n-0020", "n-0030"}},
      {"n[1-6/2]0", {"n10", "n30", "n50"}},
      {"n[00-2]", {"n00", "n01", "n02"}},
      {"n[005,4,11-13]", {"n005", "n4", "n11", "n12", "n13"}},
      {"n2,n01,n001", {"n2", "n01", "n001"}},
      {"n[ 1 - 3 , 5 ]", {"n1", "n2", "n3", "n5"}},
      {" a , b ,\n c ", {"a", "b", "c"}},
      {"fe80::1%eth0", {"fe80::1%eth0"}},
      {"[2001:db8::1]:2222,n[1-2]", {"[2001:db8::1]:2222", "n1", "n2"}},
      {"2001:db8::1,[::1]", {"2001:db8::1", "[::1]"}},
      {"n[999999999999999998-999999999999999999]", {"n999999999999999998", "n999999999999999999"}},
  };
  for (const auto& row : rows) {
    INFO(row.list);
    const auto names = expand_hostlist(row.list);
    REQUIRE(names.has_value());
    CHECK(*names == row.names);
  }
}

TEST_CASE("a bad host list is refused with the bad piece named") {
  struct Row {
    const char* list;
    const char* message;
  };
  const std::vector<Row> rows{
      {"n[3/2]", "bad range '3/2' in 'n[3/2]': a step needs two bounds, as in 0-6/2"},
      {"a,n[1,4-3]", "bad range '4-3' in 'n[1,4-3]': it runs backwards"},
      {"n[1-5/0]", "bad range '1-5/0' in 'n[1-5/0]': the step must be a number of at least 1"},
      {"n[1-4/-1]", "bad range '1-4/-1' in 'n[1-4/-1]': the step must be a number of at least 1"},
      {"n[-]", "bad range '-' in 'n[-]': expected a number, or two numbers with '-' between them"},
      {"n[]", "bad range '' in 'n[]': it is empty"},
      {"n[1,]", "bad range '' in 'n[1,]': it is empty"},
      {"n[a]", "bad range 'a' in 'n[a]': expected a number, or two numbers with '-' between them"},
      {"n[1-2-3]", "bad range '1-2-3' in 'n[1-2-3]': expected a number, or two numbers with '-' between them"},
      {"n[01-010]",
       "bad range '01-010' in 'n[01-010]': the bounds are padded to different widths\n"
       "   hint: write 01-10 or 001-010"},
      {"n[1-03]",
       "bad range '1-03' in 'n[1-03]': the bounds are padded to different widths\n   hint: write 1-3 or 01-03"},
      {"n[1-100000000]", "'n[1-100000000]' names more than 65536 hosts"},
      {"n[0-999999999999999999]", "'n[0-999999999999999999]' names more than 65536 hosts"},
      {"n[1-1000]x[1-1000]", "'n[1-1000]x[1-1000]' names more than 65536 hosts"},
      {"a[1-65536],b", "the list names more than 65536 hosts, at 'b'"},
      {"n[1-1234567890123456789]",
       "bad range '1-1234567890123456789' in 'n[1-1234567890123456789]': a number has more than 18 digits"},
      {"n[1-3", "'[' without ']' in 'n[1-3'"},
      {"n[1-[2]]", "'[' without ']' in 'n[1-[2]]'"},
      {"n1-3]", "']' without '[' in 'n1-3]'"},
      {"n1,,n2", "a comma too many in 'n1,,n2'"},
      {"n1,", "a comma too many in 'n1,'"},
      {",n1", "a comma too many in ',n1'"},
      {"n1 n2", "blank inside 'n1 n2'\n   hint: separate hosts by commas"},
      {"n1:4", "':' in 'n1:4'\n   hint: give a port with the key 'port' and the number of ranks with the key 'slots'"},
      {"n[1-9]!n6", "'!' cannot stand in a host name: 'n[1-9]!n6'"},
      {"n*", "'*' cannot stand in a host name: 'n*'"},
      {"^hosts.txt", "'^' cannot stand in a host name: '^hosts.txt'"},
      {"$(reboot)", "'$' cannot stand in a host name: '$(reboot)'"},
      {"n\x1b[2J", "'?' cannot stand in a host name: 'n?[2J'"},
      {"-oProxyCommand=x",
       "'-oProxyCommand=x' begins with '-'\n   hint: exclusions and groups are not supported; write the host names"},
      {"[::1]:0", "the port in '[::1]:0' must be from 1 to 65535"},
      {"[::1]:65536", "the port in '[::1]:65536' must be from 1 to 65535"},
      {"a,[::1]:99999999999999999999", "the port in '[::1]:99999999999999999999' must be from 1 to 65535"},
      {"@gpu", "'@gpu' begins with '@'\n   hint: exclusions and groups are not supported; write the host names"},
  };
  for (const auto& row : rows) {
    INFO(row.list);
    const auto names = expand_hostlist(row.list);
    REQUIRE_FALSE(names.has_value());
    CHECK(names.error().code == Errc::invalid_argument);
    CHECK(to_string(names.error()) == row.message);
  }
}

TEST_CASE("a zero byte does not end an address") {
  const auto names = expand_hostlist(std::string_view("fe80::1\0x", 9));
  REQUIRE_FALSE(names.has_value());
  CHECK(to_string(names.error()) ==
        "':' in 'fe80::1?x'\n   hint: give a port with the key 'port' and the number of ranks with the key 'slots'");
}

TEST_CASE("the limits of a host list are those that are named") {
  CHECK(expand_hostlist("n[1-65536]")->size() == kMaxHosts);
  CHECK(expand_hostlist("n[0-255]x[0-255]")->size() == kMaxHosts);
  CHECK_FALSE(expand_hostlist("n[0-65536]").has_value());
  CHECK(expand_hostlist(std::string(320, 'n')).has_value());
  CHECK(to_string(expand_hostlist(std::string(321, 'n')).error()) ==
        "a name of '" + std::string(60, 'n') + "…' is longer than 320 bytes");
  CHECK(to_string(expand_hostlist(std::string((4u << 20) + 1, 'n')).error()) ==
        "the host list is longer than 4194304 bytes");
}

}  // namespace launcher_hostlist_test
