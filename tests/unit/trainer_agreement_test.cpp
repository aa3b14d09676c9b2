// What the ranks are about to do, compared.
#include "trainer/agreement.hpp"

#include <cstring>
#include <functional>

#include "tests/support/catch.hpp"
#include "tests/support/gathering_comm.hpp"

namespace trainer_agreement_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

/// One rank of a world whose other ranks say what they are told: by number of the call, then by rank.
class ToldComm final : public GatheringComm {
 public:
  explicit ToldComm(std::vector<std::vector<std::string>> calls) : calls_(std::move(calls)) {}
  std::uint32_t world_size() const override { return static_cast<std::uint32_t>(calls_.front().size() + 1); }
  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    std::vector<Bytes> all = {Bytes(mine.begin(), mine.end())};
    for (const std::string& text : calls_.at(call_)) {
      const ByteView bytes = as_bytes(text);
      all.emplace_back(bytes.begin(), bytes.end());
      all.back().resize(mine.size());
    }
    ++call_;
    return all;
  }

 private:
  std::vector<std::vector<std::string>> calls_;
  std::size_t call_ = 0;
};

/// A rank's first piece: the text's length, and what has room beside it.
std::string piece_of(std::uint64_t length, const std::string& text) {
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + text.substr(0, 2040);
}

/// What the other ranks' texts lead to on rank 0 of host "alpha" with these facts.
Result<void> checked(const JobFacts& mine, const std::vector<std::string>& others) {
  std::vector<std::string> pieces;
  for (const std::string& text : others) pieces.push_back(piece_of(text.size(), text));
  ToldComm comm({pieces});
  return check_same_job(comm, "alpha", mine);
}

const JobFacts kFacts = {{"--seed", "1"}, {"--max_steps", "-1"}};
const std::string kSame =
    "beta\x1e--seed\x1f"
    "1\x1e--max_steps\x1f-1\x1e";

}  // namespace

TEST_CASE("texts are gathered at once, and those that have no room in the first piece in a second one") {
  const std::string text = std::string(2040, 'x') + "end";
  ToldComm comm({{piece_of(text.size(), text), piece_of(1, "y"), piece_of(2040, text)}, {"end", "", ""}});
  const auto texts = gather_texts(comm, "mine");
  REQUIRE(texts);
  CHECK(*texts == std::vector<std::string>{"mine", text, "y", text.substr(0, 2040)});
  ToldComm of_short({{piece_of(0, "")}, {"more"}});
  CHECK(*gather_texts(of_short, text) == std::vector<std::string>{text, ""});
}

TEST_CASE("a rank that says to have a text beyond the limit is named") {
  for (const std::uint64_t length : {kMaxText + 1, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
    ToldComm comm({{piece_of(1, "y"), piece_of(length, "")}});
    const auto texts = gather_texts(comm, "mine");
    REQUIRE_FALSE(texts);
    CHECK(texts.error().code == Errc::protocol);
    CHECK(texts.error().what ==
          "rank 2 has a text of " + std::to_string(length) + " bytes for the others, and 1048576 are the most");
  }
}

TEST_CASE("ranks that say the same are one job, whatever their hosts") {
  CHECK(checked(kFacts, {kSame, kSame}));
}

TEST_CASE("what differs is named with both values, ranks and hosts, once") {
  const std::string other =
      "beta\x1e--seed\x1f"
      "2\x1e--max_steps\x1f-1\x1e";
  const auto result = checked(kFacts, {kSame, other, other});
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Errc::invalid_argument);
  CHECK(result.error().what == "the ranks are not of one job: --seed is 2 on rank 2 (beta) and 1 on rank 0 (alpha)");
}

TEST_CASE("a rank of another version, which knows other facts, is named, and so is noise") {
  for (const auto& [text, value] : std::vector<std::pair<std::string, std::string>>{{"beta\x1e--seed\x1f"
                                                                                     "1\x1e",
                                                                                     "not known"},
                                                                                    {"", "not known"},
                                                                                    {"\x1e\x1e\x1f", "not known"}}) {
    const auto result = checked({{"--max_steps", "-1"}}, {text});
    REQUIRE_FALSE(result);
    CHECK_THAT(result.error().what, Catch::Contains("--max_steps is " + value + " on rank 1"));
  }
}

TEST_CASE("many differences are counted") {
  JobFacts facts;
  for (int i = 0; i < 7; ++i) facts.emplace_back("fact " + std::to_string(i), "1");
  const auto result = checked(facts, {"beta\x1e"});
  REQUIRE_FALSE(result);
  CHECK_THAT(result.error().what, Catch::Contains("fact 3 is not known") && Catch::EndsWith("; and 3 more"));
}

}  // namespace trainer_agreement_test
