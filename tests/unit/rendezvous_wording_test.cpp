#include "rendezvous/wording.hpp"

#include "tests/support/catch.hpp"

namespace rendezvous_wording_test {

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;

TEST_CASE("ranks are named with their hosts, neighbours together") {
  const std::vector<std::string> hosts = {"a", "a", "b", "b", "c"};
  CHECK(name_ranks({Rank{2}}, hosts) == "rank 2 (b)");
  CHECK(name_ranks({Rank{2}, Rank{3}}, hosts) == "ranks 2-3 (b)");
  CHECK(name_ranks({Rank{0}, Rank{2}, Rank{3}, Rank{4}}, hosts) == "ranks 0 (a), 2-3 (b), 4 (c)");
  std::vector<std::string> many;
  std::vector<Rank> all;
  for (std::uint32_t i = 0; i < 12; ++i) {
    many.push_back("h" + std::to_string(i));
    all.push_back(Rank{i});
  }
  CHECK(name_ranks(all, many) == "ranks 0 (h0), 1 (h1), 2 (h2), 3 (h3), 4 (h4), 5 (h5), 6 (h6), 7 (h7) and 4 more");
}

TEST_CASE("durations, keys and NCCL versions as people write them") {
  using std::chrono::milliseconds;
  CHECK(name_duration(milliseconds(250)) == "250 ms");
  CHECK(name_duration(milliseconds(1500)) == "1.5 s");
  CHECK(name_duration(milliseconds(30000)) == "30 s");
  CHECK(quoted("a b") == "'a b'");
  CHECK(quoted(std::string_view("\0'\n\x1b", 4)) == "'\\x00\\x27\\x0a\\x1b'");
  CHECK(quoted(std::string(100, 'k')) == "'" + std::string(64, 'k') + "…'");
  CHECK(name_nccl_version(22807) == "2.28.7");
  CHECK(name_nccl_version(2808) == "2.8.8");
}

}  // namespace rendezvous_wording_test
