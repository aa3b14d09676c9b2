// The checksum of a data set that a host's ranks read in parts: the number of the whole, and no rank reads more than it
// must.
#include "trainer/data_checksum.hpp"

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "tests/support/bytes_read.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/gathering_comm.hpp"
#include "tests/support/temporary_directory.hpp"
#include "trainer/digits.hpp"

namespace trainer_data_checksum_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

/// Where ranks that are threads meet.
class Table {
 public:
  explicit Table(std::size_t ranks) : ranks_(ranks) {}
  std::size_t ranks() const { return ranks_; }
  std::vector<Bytes> gather(std::size_t rank, ByteView mine) {
    std::unique_lock lock(mutex_);
    if (arrived_ == 0) round_ = std::make_shared<std::vector<Bytes>>(ranks_);
    const auto round = round_;
    (*round)[rank].assign(mine.begin(), mine.end());
    if (++arrived_ == ranks_) {
      arrived_ = 0;
      ++rounds_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [this, then = rounds_] { return rounds_ > then; });
    }
    return *round;
  }

 private:
  const std::size_t ranks_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<std::vector<Bytes>> round_;
  std::size_t arrived_ = 0, rounds_ = 0;
};

class ThreadComm final : public GatheringComm {
 public:
  ThreadComm(Table& table, std::uint32_t rank) : table_(table), rank_(rank) {}
  std::uint32_t rank() const override { return rank_; }
  std::uint32_t world_size() const override { return static_cast<std::uint32_t>(table_.ranks()); }
  Result<std::vector<Bytes>> all_gather(ByteView mine) override { return table_.gather(rank_, mine); }

 private:
  Table& table_;
  std::uint32_t rank_;
};

constexpr std::uint64_t kTrain = 1001, kTest = 10;  // which no number of ranks divides

class Folder {
 public:
  explicit Folder(const std::function<void(Dataset&)>& change = [](Dataset&) {}) {
    Dataset train = draw_digits(kTrain, 1);
    change(train);
    const Dataset test = draw_digits(kTest, 2);
    REQUIRE(save_mnist(directory_.str(), {{Split::train, &train}, {Split::test, &test}}));
  }
  std::filesystem::path path() const { return directory_.path; }
  DataSource source(bool whole = false) const {
    const DataFiles files{.folder = directory_.str()};
    const auto images = [&](Split split) {
      auto opened = (whole ? load_images : open_images)(files, split, 0, "");
      REQUIRE(opened);
      return *opened;
    };
    DataSource data;
    data.train = images(Split::train);
    data.test = images(Split::test);
    return data;
  }

 private:
  test::TemporaryDirectory directory_;
};

/// A rank's place, and its data.
struct Rank {
  const char* host;
  std::uint32_t local_rank, local_world_size;
  const Folder* folder;
  bool whole = false;
};

using Checksums = std::vector<std::pair<std::string, std::string>>;

/// What each rank has as checksums of its training and its test images.
Checksums checksums_of(const std::vector<Rank>& ranks) {
  Table table(ranks.size());
  std::vector<DataSource> data;
  for (const Rank& rank : ranks) data.push_back(rank.folder->source(rank.whole));
  std::vector<std::thread> threads;
  std::vector<Result<void>> done(ranks.size());
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    threads.emplace_back([&, i] {
      ThreadComm comm(table, static_cast<std::uint32_t>(i));
      World world;
      world.rank = static_cast<std::uint32_t>(i);
      world.world_size = static_cast<std::uint32_t>(ranks.size());
      world.local_rank = ranks[i].local_rank;
      world.local_world_size = ranks[i].local_world_size;
      world.host = ranks[i].host;
      done[i] = checksum_data(comm, world, data[i]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  Checksums result;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    REQUIRE(done[i]);
    result.emplace_back(data[i].train_checksum, data[i].test_checksum);
  }
  return result;
}

/// How often the ranks together read all images.
double readings_of(const std::vector<Rank>& ranks) {
  const auto before = test::bytes_read();
  checksums_of(ranks);
  return static_cast<double>(*test::bytes_read() - *before) / static_cast<double>((kTrain + kTest) * kImageValues);
}

}  // namespace

TEST_CASE("the parts of a host's ranks are put together to the checksum of the whole") {
  // As it was when every rank read all, and as checkpoints have it.
  LocalComm alone;
  DataSource drawn{in_memory(draw_digits(3, 1)), in_memory({}), {}};
  REQUIRE(checksum_data(alone, {}, drawn));
  CHECK(drawn.train_checksum == "dfc0688f");
  const Folder folder;
  const Checksums whole = checksums_of({{"alpha", 0, 1, &folder, true}});
  const std::vector<std::vector<Rank>> worlds = {
      {{"alpha", 0, 1, &folder}},
      {{"alpha", 0, 2, &folder}, {"alpha", 1, 2, &folder}},
      {{"alpha", 2, 3, &folder}, {"alpha", 0, 3, &folder}, {"alpha", 1, 3, &folder}},
      {{"alpha", 0, 2, &folder}, {"beta", 0, 2, &folder}, {"alpha", 1, 2, &folder}, {"beta", 1, 2, &folder}},
      {{"a host", 0, 2, &folder}, {"a host", 1, 2, &folder}, {"a", 0, 1, &folder}},
      {{"alpha", 0, 2, &folder, true}, {"alpha", 1, 2, &folder}},  // one has no file
      // What does not fit together is read by each alone.
      {{"alpha", 0, 2, &folder}, {"alpha", 0, 2, &folder}},
      {{"alpha", 0, 3, &folder}, {"alpha", 1, 3, &folder}},
      {{"alpha", 0, 2, &folder}, {"alpha", 1, 3, &folder}},
      {{"alpha", 0, 2, &folder}, {"alpha", 7, 2, &folder}},
      {{"alpha", 0, 0, &folder}, {"alpha", 1, 0, &folder}},
  };
  for (std::size_t i = 0; i < worlds.size(); ++i) {
    CAPTURE(i);
    CHECK(checksums_of(worlds[i]) == Checksums(worlds[i].size(), whole.front()));
  }
}

TEST_CASE("a rank with other images than the others of its host has another checksum") {
  const Folder folder;
  const Folder pixel([](Dataset& images) { images.images[5] ^= 1U; });
  const Checksums all = checksums_of({{"alpha", 0, 3, &folder}, {"alpha", 1, 3, &folder}, {"alpha", 2, 3, &pixel}});
  CHECK(all[0] == all[1]);
  CHECK(all[2].first != all[0].first);
  CHECK(all[2].second == all[0].second);
  // Other labels of the same images.
  const Folder label([](Dataset& images) { images.labels[1000] ^= 1U; });
  std::filesystem::remove(label.path() / "train-images-idx3-ubyte");
  std::filesystem::create_hard_link(folder.path() / "train-images-idx3-ubyte",
                                    label.path() / "train-images-idx3-ubyte");
  const Checksums two = checksums_of({{"alpha", 0, 2, &folder}, {"alpha", 1, 2, &label}});
  CHECK(two[0].first == all[0].first);
  CHECK(two[1].first != all[0].first);
}

TEST_CASE("a host's ranks read its images once, all together") {
  if (!test::bytes_read()) {
    WARN("skipped: this kernel does not count what is read (/proc/self/io)");
    return;
  }
  const Folder folder;
  CHECK(readings_of({{"alpha", 0, 1, &folder}}) == Approx(1).margin(0.05));
  CHECK(readings_of({{"alpha", 0, 2, &folder}, {"alpha", 1, 2, &folder}}) == Approx(1).margin(0.05));
  CHECK(readings_of({{"alpha", 0, 2, &folder}, {"alpha", 1, 2, &folder}, {"beta", 0, 1, &folder}}) ==
        Approx(2).margin(0.05));
}

}  // namespace trainer_data_checksum_test
