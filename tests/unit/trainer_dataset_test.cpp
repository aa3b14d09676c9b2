// MNIST's files: every way to be damaged has its own words, with file, value found and value expected.
#include "trainer/dataset.hpp"

#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>

#include "tests/support/catch.hpp"
#include "trainer/unfinished.hpp"

namespace trainer_dataset_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

constexpr const char* kDamagedHint =
    "\n   hint: fetch the file again; --data_dir wants IDX files of 28 x 28 images, plain or .gz";

std::string word(std::uint32_t value) {
  return {static_cast<char>(value >> 24U), static_cast<char>(value >> 16U), static_cast<char>(value >> 8U),
          static_cast<char>(value)};
}

/// A file whose header says what it is told, whatever it holds.
std::string image_file(std::uint32_t count, const std::string& pixels, std::uint32_t magic = 0x0803,
                       std::uint32_t rows = 28, std::uint32_t columns = 28) {
  return word(magic) + word(count) + word(rows) + word(columns) + pixels;
}
std::string label_file(std::uint32_t count, const std::string& labels, std::uint32_t magic = 0x0801) {
  return word(magic) + word(count) + labels;
}
std::string pixels(std::size_t images) {
  std::string bytes;
  for (std::size_t i = 0; i < images * kImageValues; ++i) bytes += static_cast<char>(i * 31 / 7);
  return bytes;
}

std::string packed(const std::string& text) {
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "llmlaunch-mnist-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path_ / name, std::ios::binary) << bytes;
  }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

std::string images_error(const std::string& bytes) {
  const auto parsed = parse_idx_images(as_bytes(bytes), "images");
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == Errc::invalid_config);
  return to_string(parsed.error());
}
std::string labels_error(const std::string& bytes) {
  const auto parsed = parse_idx_labels(as_bytes(bytes), "labels");
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == Errc::invalid_config);
  return to_string(parsed.error());
}

}  // namespace

TEST_CASE("images and labels are read as they are") {
  const auto images = parse_idx_images(as_bytes(image_file(3, pixels(3))), "images");
  REQUIRE(images);
  CHECK(std::string(images->begin(), images->end()) == pixels(3));
  const auto labels = parse_idx_labels(as_bytes(label_file(3, std::string("\x00\x09\x05", 3))), "labels");
  REQUIRE(labels);
  CHECK(*labels == std::vector<std::uint8_t>{0, 9, 5});
}

TEST_CASE("every damage of an image file has its own words") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"", "images: is truncated: 0 bytes, but the header alone has 16"},
      {word(0x0803) + word(1), "images: is truncated: 8 bytes, but the header alone has 16"},
      {image_file(1, pixels(1), 0x0801), "images: begins with 00000801; a file of images begins with 00000803"},
      {packed(image_file(1, pixels(1))), "images: begins with 1f8b0800; a file of images begins with 00000803"},
      {image_file(0, ""), "images: holds no images: its header says 0"},
      {image_file(1'000'001, pixels(1)), "images: claims 1000001 images; the limit is 1000000"},
      {image_file(0xffffffff, pixels(1)), "images: claims 4294967295 images; the limit is 1000000"},
      {image_file(1, pixels(1), 0x0803, 27, 28), "images: holds images of 27 x 28; networks here take 28 x 28"},
      {image_file(1, pixels(1), 0x0803, 28, 4'000'000'000),
       "images: holds images of 28 x 4000000000; networks here take 28 x 28"},
      {image_file(2, pixels(2).substr(1)), "images: is truncated: 1583 bytes, but 2 images need 1584"},
      {image_file(1, pixels(1).substr(1)), "images: is truncated: 799 bytes, but 1 image needs 800"},
      {"x", "images: is truncated: 1 byte, but the header alone has 16"},
      {image_file(1'000'000, pixels(1)), "images: is truncated: 800 bytes, but 1000000 images need 784000016"},
      {image_file(1, pixels(1) + "ab"), "images: has 2 bytes after its 1 image: 802 bytes instead of 800"},
  };
  for (const auto& [bytes, words] : rows) CHECK(images_error(bytes) == words + kDamagedHint);
}

TEST_CASE("every damage of a label file has its own words") {
  const std::vector<std::pair<std::string, std::string>> rows = {
      {"abc", "labels: is truncated: 3 bytes, but the header alone has 8"},
      {label_file(1, "\1", 0x0803), "labels: begins with 00000803; a file of labels begins with 00000801"},
      {label_file(0, ""), "labels: holds no labels: its header says 0"},
      {label_file(2'000'000, "\1"), "labels: claims 2000000 labels; the limit is 1000000"},
      {label_file(2, "\1"), "labels: is truncated: 9 bytes, but 2 labels need 10"},
      {label_file(1, "\1\1\1"), "labels: has 2 bytes after its 1 label: 11 bytes instead of 9"},
  };
  for (const auto& [bytes, words] : rows) CHECK(labels_error(bytes) == words + kDamagedHint);
  CHECK(labels_error(label_file(3, "\1\2\x0a")) ==
        "labels: label 2 is 10; labels are 0 to 9\n   hint: the networks here tell ten classes apart; sets with more "
        "(EMNIST's letters are 1 to 26) do not fit");
}

TEST_CASE("of QMNIST's eight numbers for each image the first is its class") {
  const std::string first = word(7) + word(1) + std::string(24, '\xff'), second = word(0) + std::string(28, '\x01');
  const auto file = [](std::uint32_t count, const std::string& numbers, std::uint32_t columns = 8,
                       std::uint32_t magic = 0x0c02) { return word(magic) + word(count) + word(columns) + numbers; };
  const auto labels = parse_qmnist_labels(as_bytes(file(2, first + second)), "labels");
  REQUIRE(labels);
  CHECK(*labels == std::vector<std::uint8_t>{7, 0});
  const auto error = [](const std::string& bytes) {
    const auto parsed = parse_qmnist_labels(as_bytes(bytes), "labels");
    REQUIRE_FALSE(parsed);
    CHECK(parsed.error().code == Errc::invalid_config);
    return to_string(parsed.error());
  };
  const std::vector<std::pair<std::string, std::string>> rows = {
      {word(0x0c02) + word(1), "labels: is truncated: 8 bytes, but the header alone has 12"},
      {file(2, first + second, 8, 0x0801), "labels: begins with 00000801; a file of labels begins with 00000c02"},
      {file(2, first + second, 7), "labels: has 7 numbers for each label; QMNIST has 8"},
      {file(0, ""), "labels: holds no labels: its header says 0"},
      {file(1'000'001, first), "labels: claims 1000001 labels; the limit is 1000000"},
      {file(2, first), "labels: is truncated: 44 bytes, but 2 labels need 76"},
      {file(1, first + "x"), "labels: has 1 byte after its 1 label: 45 bytes instead of 44"},
  };
  for (const auto& [bytes, words] : rows) CHECK(error(bytes) == words + kDamagedHint);
  CHECK_THAT(error(file(2, second + word(10) + std::string(28, '\0'))),
             Catch::StartsWith("labels: label 1 is 10; labels are 0 to 9\n"));
  CHECK_THAT(error(file(1, word(0xffffffff) + std::string(28, '\0'))),
             Catch::StartsWith("labels: label 0 is 4294967295; labels are 0 to 9\n"));
}

TEST_CASE("gzip data is unpacked up to a limit, and its damage is told") {
  const std::string text = pixels(200);
  const std::string gzip = packed(text);
  const auto unpacked = unpack_gzip(as_bytes(gzip), text.size(), "file.gz");
  REQUIRE(unpacked);
  CHECK(as_text(*unpacked) == text);

  const auto error = [](const std::string& bytes, std::size_t limit) {
    const auto result = unpack_gzip(as_bytes(bytes), limit, "file.gz");
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::invalid_config);
    return to_string(result.error());
  };
  CHECK(error(gzip, text.size() - 1) ==
        "file.gz: unpacks to more than the limit of 156799 bytes" + std::string(kDamagedHint));
  CHECK(error(gzip.substr(0, 100), text.size()) ==
        "file.gz: is truncated: its gzip data ends after 100 bytes" + std::string(kDamagedHint));
  CHECK(error("", 10) == "file.gz: is truncated: its gzip data ends after 0 bytes" + std::string(kDamagedHint));
  CHECK(error(gzip + "abc", text.size()) == "file.gz: has 3 bytes after its gzip data" + std::string(kDamagedHint));
  CHECK(error("plain text", 10) == "file.gz: cannot be unpacked: incorrect header check" + std::string(kDamagedHint));
  std::string flipped = gzip;
  flipped[flipped.size() - 8] = static_cast<char>(flipped[flipped.size() - 8] ^ 1);
  CHECK(error(flipped, text.size()) == "file.gz: cannot be unpacked: incorrect data check" + std::string(kDamagedHint));
}

TEST_CASE("gzip data of several members is read as a whole, within the limit and to its end") {
  const std::string text = pixels(20);
  const std::string first = packed(text.substr(0, 7'000)), rest = packed(text.substr(7'000));
  // An empty member is how bgzip ends a file, and zeros fill a block of a tape.
  for (const std::string& gzip :
       {first + rest, first + packed("") + rest, first + rest + packed(""), first + rest + std::string(512, '\0')}) {
    const auto unpacked = unpack_gzip(as_bytes(gzip), text.size(), "file.gz");
    REQUIRE(unpacked);
    CHECK(as_text(*unpacked) == text);
  }
  const auto error = [](const std::string& bytes, std::size_t limit) {
    const auto result = unpack_gzip(as_bytes(bytes), limit, "file.gz");
    REQUIRE_FALSE(result);
    CHECK(result.error().code == Errc::invalid_config);
    return result.error().what;
  };
  const std::string both = first + rest;
  CHECK(error(both, text.size() - 1) == "unpacks to more than the limit of 15679 bytes");
  CHECK(error(both, 7'000) == "unpacks to more than the limit of 7000 bytes");
  for (const std::size_t left : {1U, 2U, 9U, 10U, 50U}) {
    CHECK(error(first + rest.substr(0, left), text.size()) ==
          "is truncated: its gzip data ends after " + std::to_string(first.size() + left) + " bytes");
  }
  CHECK(error(both + "abc", text.size()) == "has 3 bytes after its gzip data");
  CHECK(error(both + std::string(3, '\0') + "a", text.size()) == "has 4 bytes after its gzip data");
  CHECK(error(both + "\x1f"
                     "bc",
              text.size()) == "has 3 bytes after its gzip data");
  CHECK(error(first + "\x1f\x8b"
                      "bc",
              text.size()) == "cannot be unpacked: unknown compression method");
  std::string flipped = both;
  flipped[flipped.size() - 8] = static_cast<char>(flipped[flipped.size() - 8] ^ 1);
  CHECK(error(flipped, text.size()) == "cannot be unpacked: incorrect data check");
}

TEST_CASE("all four spellings of the names are found, plain and packed") {
  for (const std::string separator : {"-", "."}) {
    for (const bool gz : {false, true}) {
      const Folder folder;
      const auto put = [&](const std::string& name, const std::string& bytes) {
        folder.write(name + (gz ? ".gz" : ""), gz ? packed(bytes) : bytes);
      };
      put("train-images" + separator + "idx3-ubyte", image_file(2, pixels(2)));
      put("train-labels" + separator + "idx1-ubyte", label_file(2, "\7\1"));
      put("t10k-images" + separator + "idx3-ubyte", image_file(1, pixels(1)));
      put("t10k-labels" + separator + "idx1-ubyte", label_file(1, "\4"));
      CAPTURE(separator, gz);
      const auto train = load_dataset({folder.path()}, Split::train);
      REQUIRE(train);
      CHECK(train->labels == std::vector<std::uint8_t>{7, 1});
      CHECK(train->images.size() == 2 * kImageValues);
      const auto test = load_dataset({folder.path()}, Split::test);
      REQUIRE(test);
      CHECK(test->labels == std::vector<std::uint8_t>{4});
    }
  }
}

TEST_CASE("QMNIST and a split of EMNIST are read by the names of their files, plain and packed") {
  const Folder folder;
  folder.write("qmnist-train-images-idx3-ubyte", image_file(2, pixels(2)));
  folder.write("qmnist-train-labels-idx2-int.gz", packed(word(0x0c02) + word(2) + word(8) + word(3) +
                                                         std::string(28, '\x05') + word(9) + std::string(28, '\x05')));
  folder.write("qmnist-test-images-idx3-ubyte.gz", packed(image_file(1, pixels(1))));
  folder.write("qmnist-test-labels-idx2-int", word(0x0c02) + word(1) + word(8) + word(1) + std::string(28, '\x05'));
  const auto qmnist = find_data_files(folder.path());
  REQUIRE(qmnist);
  const auto train = load_dataset(*qmnist, Split::train);
  REQUIRE(train);
  CHECK(train->labels == std::vector<std::uint8_t>{3, 9});
  CHECK(std::string(train->images.begin(), train->images.end()) == pixels(2));
  const auto test = load_dataset(*qmnist, Split::test);
  REQUIRE(test);
  CHECK(test->labels == std::vector<std::uint8_t>{1});

  folder.write("emnist-digits-train-images-idx3-ubyte", image_file(1, pixels(1)));
  folder.write("emnist-digits-train-labels-idx1-ubyte.gz", packed(label_file(1, "\6")));
  const auto emnist = find_data_files(folder.path(), "digits");
  REQUIRE(emnist);
  const auto digits = load_dataset(*emnist, Split::train);
  REQUIRE(digits);
  CHECK(digits->labels == std::vector<std::uint8_t>{6});
  const auto none = load_dataset(*emnist, Split::test);
  REQUIRE_FALSE(none);
  CHECK_THAT(to_string(none.error()), Catch::StartsWith(folder.path() + ": has neither emnist-digits-test-images-"));
}

TEST_CASE("what is missing or does not belong together is named") {
  const auto nothing = load_dataset({"/no/such/folder"}, Split::train);
  REQUIRE_FALSE(nothing);
  CHECK(nothing.error().code == Errc::not_found);
  CHECK(to_string(nothing.error()) ==
        "/no/such/folder: no such folder\n   hint: --data_dir wants the four IDX files of MNIST, QMNIST or EMNIST, "
        "plain or .gz; without it "
        "digits are drawn");

  const Folder folder;
  folder.write("train-images-idx3-ubyte", image_file(2, pixels(2)));
  const auto half = load_dataset({folder.path()}, Split::train);
  REQUIRE_FALSE(half);
  CHECK(half.error().code == Errc::not_found);
  CHECK_THAT(to_string(half.error()),
             Catch::StartsWith(folder.path() +
                               ": has neither train-labels-idx1-ubyte nor train-labels.idx1-ubyte, plain or .gz\n"));

  folder.write("train-labels-idx1-ubyte", label_file(3, "\1\2\3"));
  const auto unequal = load_dataset({folder.path()}, Split::train);
  REQUIRE_FALSE(unequal);
  CHECK(unequal.error().code == Errc::invalid_config);
  CHECK(to_string(unequal.error()) == folder.path() + "/train-labels-idx1-ubyte: has 3 labels, but " + folder.path() +
                                          "/train-images-idx3-ubyte has 2 images\n   hint: both files must be of the "
                                          "same set");

  const Folder strange;
  std::filesystem::create_directory(strange.path() + "/train-images-idx3-ubyte");
  strange.write("train-labels-idx1-ubyte", label_file(1, "\1"));
  const auto directory = load_dataset({strange.path()}, Split::train);
  REQUIRE_FALSE(directory);
  CHECK(to_string(directory.error()) == strange.path() +
                                            "/train-images-idx3-ubyte: is a folder, and a file is wanted\n"
                                            "   hint: move the file that is in it to where the folder is");
}

TEST_CASE("a batch is the images at its positions, normalised as MNIST is") {
  Dataset data;
  data.images.assign(3 * kImageValues, 0);
  data.images[kImageValues] = 255;
  data.images[2 * kImageValues + 783] = 128;
  data.labels = {4, 5, 6};
  std::vector<float> images(2 * kImageValues);
  std::vector<std::uint8_t> labels(2);
  fill_batch(data, std::vector<std::uint32_t>{2, 1}, images, labels);
  CHECK(labels == std::vector<std::uint8_t>{6, 5});
  CHECK(images[0] == Approx(-0.1307 / 0.3081));
  CHECK(images[783] == Approx((128 / 255.0 - 0.1307) / 0.3081));
  CHECK(images[784] == Approx((1 - 0.1307) / 0.3081));
  data.keep_first(2);
  CHECK(data.count() == 2);
  CHECK(data.images.size() == 2 * kImageValues);
  data.keep_first(5);
  CHECK(data.count() == 2);
}

TEST_CASE("a set that is written is read again as it was, by both names' rules, and never over another one") {
  const Folder folder;
  const std::string target = folder.path() + "/new/set";
  const Dataset train{{std::vector<std::uint8_t>(3 * kImageValues, 7)}, {4, 0, 9}};
  Dataset test{{std::vector<std::uint8_t>(kImageValues, 0)}, {1}};
  test.images[5] = 255;
  REQUIRE(save_mnist(target, {{Split::train, &train}, {Split::test, &test}}));
  for (const auto& [split, expected] :
       std::vector<std::pair<Split, const Dataset*>>{{Split::train, &train}, {Split::test, &test}}) {
    const auto read = load_dataset({target}, split);
    REQUIRE(read);
    CHECK(read->images == expected->images);
    CHECK(read->labels == expected->labels);
  }
  const auto again = save_mnist(target, {{Split::train, &test}});
  REQUIRE_FALSE(again);
  CHECK(to_string(again.error()) == target +
                                        "/train-images-idx3-ubyte: --export_dataset: create: File exists\n"
                                        "   hint: name a new folder, or remove the file");
  CHECK(load_dataset({target}, Split::train)->labels == train.labels);
  CHECK(std::distance(std::filesystem::directory_iterator(target), {}) == 4);  // no half file stays
  // Plain files beside packed ones would be read in their place.
  const std::string packed = folder.path() + "/packed";
  std::filesystem::create_directory(packed);
  std::ofstream(packed + "/t10k-labels-idx1-ubyte.gz") << "somebody's";
  const auto beside = save_mnist(packed, {{Split::train, &train}, {Split::test, &test}});
  REQUIRE_FALSE(beside);
  CHECK(beside.error().where == packed + "/t10k-labels-idx1-ubyte.gz");
  CHECK(std::distance(std::filesystem::directory_iterator(packed), {}) == 1);
}

TEST_CASE("of files that belong together none has its name when one cannot have it") {
  const Folder folder;
  const std::string first = folder.path() + "/first", second = folder.path() + "/missing/second";
  {
    Unfinished one(first + ".part"), other(folder.path() + "/second.part");
    for (const Unfinished* part : {&one, &other}) std::ofstream(part->path()) << "whole";
    const auto named = Unfinished::finish_together({{&one, first}, {&other, second}});
    REQUIRE_FALSE(named);
    CHECK(to_string(named.error()) == other.path() + ": rename: No such file or directory");
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a set of which the last file cannot be written is not there at all") {
  const Folder folder;
  const Dataset train{{std::vector<std::uint8_t>(kImageValues, 7)}, {4}};
  std::filesystem::create_directory(folder.path() + "/t10k-labels-idx1-ubyte.part");
  const auto saved = save_mnist(folder.path(), {{Split::train, &train}, {Split::test, &train}});
  REQUIRE_FALSE(saved);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

}  // namespace trainer_dataset_test
