// Images that stay in their file: the batches of those that are held in memory, read as they are dealt, and what is
// said of a file that does not stay as it is.
#include "trainer/image_source.hpp"

#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "tests/support/bytes_read.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"
#include "trainer/digits.hpp"
#include "trainer/sampler.hpp"

namespace trainer_image_source_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

using Source = std::shared_ptr<ImageSource>;

/// Drawn digits as files.
class Files {
 public:
  explicit Files(std::uint64_t count) {
    const Dataset drawn = draw_digits(count, 1);
    REQUIRE(save_mnist(directory_.str(), {{Split::train, &drawn}}));
  }
  DataFiles files() const { return {.folder = directory_.str()}; }
  std::filesystem::path images() const { return directory_.path / "train-images-idx3-ubyte"; }
  Source open(std::uint64_t wanted = 0) const { return checked(open_images(files(), Split::train, wanted, "--n")); }
  Source load(std::uint64_t wanted = 0) const { return checked(load_images(files(), Split::train, wanted, "--n")); }
  Error refused(std::uint64_t wanted = 0) const {
    const auto opened = open_images(files(), Split::train, wanted, "--n");
    REQUIRE_FALSE(opened);
    CHECK(load_images(files(), Split::train, wanted, "--n").error().what == opened.error().what);
    return opened.error();
  }

 private:
  static Source checked(Result<Source> source) {
    REQUIRE(source);
    return *source;
  }
  test::TemporaryDirectory directory_;
};

struct Filled {
  std::vector<float> images;
  std::vector<std::uint8_t> labels;
};

Result<Filled> filled(const ImageSource& from, const std::vector<std::uint32_t>& positions) {
  Filled batch{std::vector<float>(positions.size() * kImageValues), std::vector<std::uint8_t>(positions.size())};
  if (auto done = fill_batch(from, positions, batch.images, batch.labels); !done) return done.error();
  return batch;
}

std::string error_of(const ImageSource& from, std::uint32_t position) {
  const auto batch = filled(from, {position});
  REQUIRE_FALSE(batch);
  CHECK(batch.error().code == Errc::invalid_config);
  CHECK(from.checksum(0, from.count()).error().what == batch.error().what);
  return to_string(batch.error());
}

}  // namespace

TEST_CASE("batches of images that stay in their file are those of images in memory, bit for bit") {
  const Files files(50);
  const std::vector<std::uint32_t> positions = {49, 0, 7, 7, 21};
  for (const std::uint64_t wanted : {0U, 50U}) {
    const Source in_file = files.open(wanted), whole = files.load(wanted);
    CHECK(in_file->whole() == nullptr);
    REQUIRE(whole->whole() != nullptr);
    CHECK(in_file->labels() == whole->labels());
    const auto one = filled(*in_file, positions), other = filled(*whole, positions);
    REQUIRE(one);
    REQUIRE(other);
    CHECK(one->images == other->images);
    CHECK(one->labels == other->labels);
    for (const auto& [first, count] :
         std::vector<std::pair<std::size_t, std::size_t>>{{0, 50}, {3, 20}, {49, 1}, {0, 0}}) {
      const auto in_file_crc = in_file->checksum(first, count), whole_crc = whole->checksum(first, count);
      REQUIRE(in_file_crc);
      REQUIRE(whole_crc);
      CHECK(*in_file_crc == *whole_crc);
    }
  }
  CHECK(files.open(3)->count() == 3);
  CHECK(files.load(3)->whole()->images.size() == 3 * kImageValues);
  CHECK(to_string(files.refused(51)) == files.files().folder + ": --n 51, but there are only 50 images");
}

TEST_CASE("a packed file is unpacked into memory") {
  const Files files(5);
  const std::string plain = test::content_of(files.images());
  const gzFile packed = ::gzopen((files.images().string() + ".gz").c_str(), "wb");
  REQUIRE(::gzwrite(packed, plain.data(), static_cast<unsigned>(plain.size())) == static_cast<int>(plain.size()));
  REQUIRE(::gzclose(packed) == Z_OK);
  CHECK(files.open()->whole() == nullptr);  // the plain one wins
  std::filesystem::remove(files.images());
  REQUIRE(files.open()->whole() != nullptr);
  CHECK(files.open()->whole()->images == draw_digits(5, 1).images);
  CHECK(files.open()->identity().empty());
}

TEST_CASE("a rank reads the images that it is dealt, and no others") {
  constexpr std::uint32_t kImages = 2000, kRanks = 2;
  const Files files(kImages);
  const auto before_open = test::bytes_read();
  if (!before_open) {
    WARN("skipped: this kernel does not count what is read (/proc/self/io)");
    return;
  }
  const Source images = files.open();
  const auto before = test::bytes_read();
  CHECK(*before - *before_open < kImages * 4);  // the labels, and not the images
  for (const std::uint32_t position : DistributedSampler(kImages, kRanks, 1, 0).epoch(0)) {
    REQUIRE(filled(*images, {position}));
  }
  const auto after = test::bytes_read();
  constexpr std::int64_t kShare = std::int64_t{kImages} / kRanks * static_cast<std::int64_t>(kImageValues);
  CHECK(*after - *before >= kShare);
  CHECK(*after - *before < kShare + 10'000);
}

TEST_CASE("a file that is cut or written to under way is told of before what was read is used") {
  const Files files(20);
  const std::string path = files.images().string();
  const std::string hint =
      "\n   hint: a job's images are read while it runs: leave them as they are, and start it again";
  const Source images = files.open();
  REQUIRE(filled(*images, {19}));
  std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::hours(1));
  CHECK(error_of(*images, 0) == path + ": was written to after the job had begun" + hint);

  const Source again = files.open();
  std::filesystem::resize_file(path, kImageHeaderBytes + 5 * kImageValues);
  const std::string cut = path + ": has 3936 bytes now, and had 15696 when the job began" + hint;
  CHECK(error_of(*again, 3) == cut);   // also an image that is still there
  CHECK(error_of(*again, 10) == cut);  // and one that is not
  CHECK(error_of(*again, 5) == cut);
}

TEST_CASE("a file that was only touched, or copied once more, is the one that it was") {
  const Files files(20);
  const std::string path = files.images().string();
  const std::string bytes = test::content_of(files.images());
  const Source images = files.open(19);
  images->expect(*images->checksum(0, 19));
  const auto before = filled(*images, {3, 4});
  REQUIRE(before);
  for (int hours = 1; hours < 3; ++hours) {
    std::ofstream(path) << bytes;
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now() + std::chrono::hours(hours));
    const auto after = filled(*images, {3, 4});
    REQUIRE(after);
    CHECK(after->images == before->images);
  }
  std::string other = bytes;
  ++other[kImageHeaderBytes + 18 * kImageValues];  // of an image that nobody has read
  std::ofstream(path) << other;
  const auto changed = filled(*images, {3});
  REQUIRE_FALSE(changed);
  CHECK(changed.error().what == "was written to after the job had begun");
  std::ofstream(path) << bytes;
  CHECK(filled(*images, {3}));
}

TEST_CASE("a file that is replaced by another one is read to the end") {
  const Files files(20);
  const Source images = files.open();
  const auto before = filled(*images, {3, 4});
  REQUIRE(before);
  std::ofstream(files.images().string() + ".new") << "x";
  std::filesystem::rename(files.images().string() + ".new", files.images());
  const auto after = filled(*images, {3, 4});
  REQUIRE(after);
  CHECK(after->images == before->images);
}

TEST_CASE("an image file that is not whole is refused when it is opened, with the words of one that is read") {
  const auto cut_to = [](std::uintmax_t bytes) {
    const Files files(3);
    std::filesystem::resize_file(files.images(), bytes);
    return files.refused().what;
  };
  CHECK(cut_to(0) == "is truncated: 0 bytes, but the header alone has 16");
  CHECK(cut_to(9) == "is truncated: 9 bytes, but the header alone has 16");
  CHECK(cut_to(2367) == "is truncated: 2367 bytes, but 3 images need 2368");
  CHECK(cut_to(2369) == "has 1 byte after its 3 images: 2369 bytes instead of 2368");
  const Files files(3);
  std::filesystem::remove(files.images());
  std::filesystem::create_directory(files.images());
  CHECK(files.refused().what == "is a folder, and a file is wanted");
}

}  // namespace trainer_image_source_test
