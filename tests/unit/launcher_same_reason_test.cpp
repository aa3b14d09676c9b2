// When hosts are folded into one line of a failure.
#include "launcher/same_reason.hpp"

#include "tests/support/catch.hpp"

namespace launcher_same_reason_test {

using namespace llmlaunch::launcher;

TEST_CASE("a reason is the same when only the host's own name, address or port differ") {
  struct Row {
    const char *one, *one_host, *other, *other_host;
    bool same;
  };
  const std::vector<Row> rows{
      {"connection refused by 10.0.0.1:22", "gpu01", "connection refused by 10.0.0.2:2222", "gpu02", true},
      {"connection refused by [fd00::1]:22", "a", "connection refused by [fd00::2]:22", "b", true},
      {"no address for 'gpu01': Name or service not known", "gpu01",
       "no address for 'gpu02': Name or service not known", "gpu02", true},
      {"no address for 'gpu01': Name or service not known", "gpu01",
       "no address for 'gpu02': Temporary failure in name resolution", "gpu02", false},
      {"connection refused by 10.0.0.1:22 (2 attempts)", "a", "connection refused by 10.0.0.1:22 (5 attempts)", "b",
       true},
      {"no answer from 10.0.0.1:22 within 10 s", "a", "no answer from 10.0.0.2:22 within 5 s", "b", false},
      {"exit status 1", "1", "exit status 2", "2", true},  // hosts may be called by a number
      {"setup line 1 'x' failed with status 1", "a", "setup line 1 'x' failed with status 2", "b", false},
      {"setup failed\n     | sh: 12: foo: not found", "a", "setup failed\n     | sh: 14: foo: not found", "b", true},
      {"setup failed\n     | sh: 12: foo: not found", "a", "setup failed\n     | sh: 12: bar: not found", "b", false},
      {"the host key is not known: ssh-ed25519 SHA256:aa", "a", "the host key is not known: ssh-ed25519 SHA256:bb", "b",
       false},  // each fingerprint has to be compared
      {"peer gpu0 is gone", "gpu0", "peer gpu01 is gone", "gpu1", false},
      {"", "a", "", "b", true},
  };
  for (const Row& row : rows) {
    INFO(row.one << " / " << row.other);
    CHECK((reason_key(row.one, row.one_host) == reason_key(row.other, row.other_host)) == row.same);
  }
}

TEST_CASE("the first host's words stand for many, and it is said when they are its own") {
  CHECK(reason_of_many("no such program 'x'", "a", {"no such program 'x'", "no such program 'x'"}) ==
        "no such program 'x'");
  CHECK(reason_of_many("connection refused by 10.0.0.1:22", "a",
                       {"connection refused by 10.0.0.1:22", "connection refused by 10.0.0.2:22"}) ==
        "connection refused by 10.0.0.1:22 (that is a; the others alike)");
  CHECK(reason_of_many("setup failed\n     | sh: 12", "a",
                       {"setup failed\n     | sh: 12", "setup failed\n     | sh: 13"}) ==
        "setup failed (that is a; the others alike)\n     | sh: 12");
  CHECK(hint_of_many("ssh a", "a", {"ssh a", "ssh b"}, {"refused", "refused"}) ==
        "ssh a (that is a; the others alike)");
  CHECK(hint_of_many("ssh a", "a", {"ssh a", "ssh b"}, {"a refused", "b refused"}) == "ssh a");
  CHECK(hint_of_many("", "a", {"", ""}, {"refused", "refused"}).empty());
}

}  // namespace launcher_same_reason_test
