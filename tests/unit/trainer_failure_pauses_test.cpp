// What a failing rank waits for.
#include "trainer/failure_pauses.hpp"

#include "tests/support/catch.hpp"

namespace trainer_failure_pauses_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;
using namespace std::chrono_literals;

TEST_CASE("a failing rank waits once at most, and not where nobody ends the job") {
  const Error own = make_error(Errc::invalid_config, "its own"), lost = make_error(Errc::closed, "lost rank 2"),
              wordless = make_error(Errc::internal, "");
  struct Row {
    Error error;
    std::uint32_t rank;
    bool hears_of_end, has_started;
    std::chrono::milliseconds before, after;
  };
  for (const Row& row : std::vector<Row>{{own, 0, true, false, 0s, 0s},
                                         {own, 1, true, false, 2s, 0s},
                                         {own, 1, true, true, 0s, 0s},
                                         {lost, 0, true, false, 0s, 2s},
                                         {lost, 1, true, false, 2s, 0s},
                                         {lost, 1, true, true, 0s, 2s},
                                         {wordless, 0, true, false, 0s, 10s},
                                         {wordless, 1, true, false, 0s, 10s},
                                         {wordless, 1, true, true, 0s, 10s},
                                         {own, 1, false, false, 0s, 0s},
                                         {lost, 1, false, false, 0s, 0s},
                                         {wordless, 1, false, true, 0s, 0s}}) {
    CAPTURE(row.error.what, row.rank, row.hears_of_end, row.has_started);
    const auto pauses = FailurePauses::of(row.error, row.rank, row.hears_of_end, row.has_started);
    CHECK(pauses.before_words == row.before);
    CHECK(pauses.after_words == row.after);
  }
}

}  // namespace trainer_failure_pauses_test
