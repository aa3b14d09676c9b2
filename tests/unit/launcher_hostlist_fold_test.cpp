// Folded lists: what they look like, and that they give back what was folded.
#include "launcher/hostlist_fold.hpp"

#include <random>

#include "launcher/hostlist.hpp"
#include "tests/support/catch.hpp"

namespace launcher_hostlist_fold_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;
using Names = std::vector<std::string>;

TEST_CASE("folding keeps the order and the padding") {
  struct Row {
    Names names;
    const char* list;
  };
  const std::vector<Row> rows{
      {{}, ""},
      {{"n1"}, "n1"},
      {{"n1", "n2", "n3"}, "n[1-3]"},
      {{"n01", "n02", "n10", "login0"}, "n[01-02,10],login0"},
      {{"n8", "n9", "n10"}, "n[8-10]"},
      {{"n08", "n09", "n10"}, "n[08-10]"},
      {{"n098", "n099", "n100"}, "n[098-100]"},
      {{"n2", "n01", "n001"}, "n[2,01,001]"},
      {{"n3", "n1", "n1"}, "n[3,1],n1"},
      {{"r1n01", "r1n02", "r2n01", "r2n02"}, "r[1-2]n[01-02]"},
      {{"r1n1", "r2n1", "r1n2", "r2n2"}, "r[1-2]n1,r[1-2]n2"},
      {{"fe80::1", "fe80::2"}, "fe80::1,fe80::2"},
      {{"10.0.0.9", "10.0.0.10", "10.0.1.1"}, "10.0.0.[9-10],10.0.1.1"},
      {{"n99999999999999999998", "n99999999999999999999"}, "n99999999999999999998,n99999999999999999999"},
  };
  for (const auto& row : rows) {
    INFO(row.list);
    CHECK(compress_hostlist(row.names) == row.list);
    CHECK(*expand_hostlist(row.list) == row.names);
  }
}

TEST_CASE("expanding a folded list gives the list back, whatever it is") {
  std::mt19937 random(20260101);
  const auto pick = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
  std::size_t folded = 0;
  for (int round = 0; round < 3000; ++round) {
    Names names;
    const unsigned count = pick(12);
    std::string stem = "abcdefgh";
    stem.resize(pick(3));
    for (unsigned i = 0; i < count; ++i) {
      std::string name = pick(6) == 0 ? std::string("x") : stem;
      for (unsigned part = 0, parts = 1 + pick(3); part < parts; ++part) {
        std::string digits = std::to_string(pick(2) == 0 ? i : pick(130));
        digits.insert(0, pick(4) == 0 ? pick(3) : 0, '0');
        name += digits + (pick(3) == 0 ? "-" : part + 1 < parts ? "n" : "");
      }
      names.push_back(std::move(name));
    }
    const std::string list = compress_hostlist(names);
    INFO(list);
    const auto again = expand_hostlist(list);
    REQUIRE(again.has_value());
    REQUIRE(*again == names);
    const FoldOptions options{3 + pick(3), {static_cast<int>(pick(3)) - 3, 1}};
    const std::string other = fold_hostlist(names, options);
    INFO(other);
    const auto too = expand_hostlist(other);
    REQUIRE(too.has_value());
    REQUIRE(*too == names);
    Names parts;
    for (const std::string& part : contiguous_hostlists(names)) {
      const auto expanded = expand_hostlist(part);
      REQUIRE(expanded.has_value());
      parts.insert(parts.end(), expanded->begin(), expanded->end());
    }
    REQUIRE(parts == names);
    folded += list.find('[') != list.npos ? 1 : 0;
  }
  CHECK(folded > 300);  // or nothing was tested
}

TEST_CASE("steps are folded where they are asked for, and long enough") {
  struct Row {
    const char* list;
    std::size_t steps_from;
    const char* folded;
  };
  const std::vector<Row> rows{
      {"n[0,2,4,6]", 0, "n[0,2,4,6]"},     {"n[0,2,4,6]", 3, "n[0-6/2]"},    {"n[0,2,4,6]", 4, "n[0-6/2]"},
      {"n[0,2,4,6]", 5, "n[0,2,4,6]"},     {"n[1,3-5]", 3, "n[1,3-5]"},      {"n[0,2,4-6]", 3, "n[0-4/2,5-6]"},
      {"n[000-012/4]", 3, "n[000-012/4]"}, {"n[08,10,12]", 3, "n[08-12/2]"}, {"n[8,10,012]", 3, "n[8,10,012]"},
      {"n[9,6,3]", 3, "n[9,6,3]"},         {"n[5,5,5]", 3, "n5,n5,n5"},      {"r[1,3,5]n[1-2]", 3, "r[1-5/2]n[1-2]"},
  };
  for (const auto& row : rows) {
    INFO(row.list);
    CHECK(fold_hostlist(*expand_hostlist(row.list), {row.steps_from, {}}) == row.folded);
  }
}

TEST_CASE("an axis is a number of the name, from the front or from the back") {
  const Names names = *expand_hostlist("r[1-2]n[01-02]");
  const auto folded = [&](std::vector<int> axes) { return fold_hostlist(names, {0, std::move(axes)}); };
  CHECK(folded({}) == "r[1-2]n[01-02]");
  CHECK(folded({-1}) == "r1n[01-02],r2n[01-02]");
  CHECK(folded({2}) == "r1n[01-02],r2n[01-02]");
  CHECK(folded({1, 2}) == "r[1-2]n[01-02]");
  CHECK(folded({1}) == "r1n01,r1n02,r2n01,r2n02");
  CHECK(fold_hostlist(*expand_hostlist("r[1-2]n01,r[1-2]n02"), {0, {1}}) == "r[1-2]n01,r[1-2]n02");
  CHECK(folded({3, -3}) == "r1n01,r1n02,r2n01,r2n02");
  CHECK(*parse_axes("1,-1") == std::vector<int>{1, -1});
  for (const char* wrong : {"", "0", "x", "1,", "1-2", "101", "-101", "99999999999"}) {
    INFO(wrong);
    CHECK_FALSE(parse_axes(wrong).has_value());
  }
  CHECK(to_string(parse_axes("1,x").error()) ==
        "'x' is no axis\n   hint: 1 is the first index of a name, -1 the last one; 1,2 are two of them");
}

TEST_CASE("contiguous parts have no gap, and one number that varies") {
  CHECK(contiguous_hostlists({}).empty());
  CHECK(contiguous_hostlists(*expand_hostlist("n[1-3,7,9-10],x")) == Names{"n[1-3]", "n7", "n[9-10]", "x"});
  CHECK(contiguous_hostlists(*expand_hostlist("r[1-2]n[1-3]")) == Names{"r1n[1-3]", "r2n[1-3]"});
  CHECK(contiguous_hostlists(*expand_hostlist("n[0-4/2]")) == Names{"n0", "n2", "n4"});
  CHECK(contiguous_hostlists(*expand_hostlist("n[08-10],n[9-10]")) == Names{"n[08-10]", "n[9-10]"});
  CHECK(contiguous_hostlists(*expand_hostlist("n[3,2,1]")) == Names{"n3", "n2", "n1"});
  CHECK(contiguous_hostlists(*expand_hostlist("n[1,1]")) == Names{"n1", "n1"});
}

}  // namespace launcher_hostlist_fold_test
