// Which files a folder means: MNIST's names, QMNIST's and EMNIST's, and what is said where none or several are there.
#include "trainer/data_files.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace trainer_data_files_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

namespace fs = std::filesystem;

class Root {
 public:
  void put(const std::string& folder, const std::string& file = "t10k-labels-idx1-ubyte.gz") const {
    fs::create_directories(path() / folder);
    std::ofstream(path() / folder / file) << "x";
  }
  void remove(const std::string& folder) const { fs::remove_all(path() / folder); }
  const fs::path& path() const { return directory_.path; }
  std::string operator/(const std::string& name) const { return (path() / name).string(); }

 private:
  test::TemporaryDirectory directory_;
};

std::string found(const fs::path& given, const std::string& split = {}) {
  const auto files = find_data_files(given.string(), split);
  INFO((files ? files->description() : to_string(files.error())));
  REQUIRE(files);
  return files->description();
}

Error refused(const fs::path& given, const std::string& split = {}) {
  const auto files = find_data_files(given.string(), split);
  REQUIRE_FALSE(files);
  return files.error();
}

}  // namespace

TEST_CASE("the folders that torchvision leaves are found from the root, the data set or raw") {
  const Root root;
  const std::string raw = root / "MNIST/raw";
  root.put("notes", "train.txt");
  CHECK(refused(root.path()).code == Errc::not_found);
  CHECK(to_string(refused(root.path())) ==
        root.path().string() +
            ": has neither train-images-idx3-ubyte nor train-images.idx3-ubyte, plain or .gz, also not in "
            "raw/ or in a folder's raw/\n   hint: --data_dir wants the four IDX files of MNIST, QMNIST or EMNIST, "
            "plain or .gz; "
            "without it digits are drawn");

  root.put("MNIST/processed", "training.pt");
  for (const auto& given : {root.path(), root.path() / "MNIST"}) {
    CHECK(refused(given).code == Errc::not_found);
    CHECK(to_string(refused(given)) ==
          root / "MNIST/processed/training.pt" +
              ": has no IDX files, only what PyTorch made of them and alone can read\n   hint: fetch them again: "
              "torchvision.datasets.MNIST(root, download=True) leaves them in MNIST/raw");
  }
  root.put("MNIST/raw");
  for (const auto& given : {root.path(), root.path() / "MNIST", root.path() / "MNIST/raw"}) CHECK(found(given) == raw);

  root.put("FashionMNIST/raw", "train-images.idx3-ubyte");
  CHECK(refused(root.path()).code == Errc::invalid_config);
  CHECK(to_string(refused(root.path())) == root.path().string() + ": holds 2 data sets: " + root / "FashionMNIST/raw" +
                                               "; " + raw + "\n   hint: name one of them in --data_dir");
  CHECK(found(root.path() / "FashionMNIST") == root / "FashionMNIST/raw");
  root.put(".", "train-labels-idx1-ubyte");
  CHECK(found(root.path()) == root.path().string());  // what lies there itself wins
  CHECK(refused(root.path() / "none").what == "no such folder");
}

TEST_CASE("QMNIST is found by the names of its files") {
  const Root root;
  root.put("QMNIST/raw", "qmnist-test-labels-idx2-int");
  for (const auto& given : {root.path(), root.path() / "QMNIST", root.path() / "QMNIST/raw"}) {
    CHECK(found(given) == root / "QMNIST/raw");
  }
  const auto files = find_data_files(root.path().string());
  REQUIRE(files);
  const auto missing = files_of(*files, Split::train);
  REQUIRE_FALSE(missing);
  CHECK_THAT(to_string(missing.error()),
             Catch::StartsWith(root / "QMNIST/raw" + ": has neither qmnist-train-images-idx3-ubyte nor "));
  root.put("QMNIST/raw", "qmnist-test-images-idx3-ubyte.gz");
  const auto test = files_of(*files, Split::test);
  REQUIRE(test);
  CHECK(test->images == root / "QMNIST/raw/qmnist-test-images-idx3-ubyte.gz");
  CHECK(test->labels == root / "QMNIST/raw/qmnist-test-labels-idx2-int");
  // Another root's set beside it: neither is chosen in silence.
  root.put("MNIST/raw");
  CHECK(refused(root.path()).what == "holds 2 data sets: " + root / "MNIST/raw" + "; " + root / "QMNIST/raw");
}

TEST_CASE("of EMNIST's splits with ten classes one is chosen, where there are several by its name") {
  const Root root;
  const std::string raw = root / "EMNIST/raw";
  const auto put = [&](const std::string& split, const std::string& where = "EMNIST/raw") {
    root.put(where, "emnist-" + split + "-train-images-idx3-ubyte.gz");
  };
  put("letters");
  CHECK(refused(root.path()).code == Errc::not_found);
  CHECK(to_string(refused(root.path())) ==
        raw +
            ": holds EMNIST (letters), which has more classes than the ten that the networks here tell apart\n   hint: "
            "EMNIST's splits digits and mnist have ten");
  put("balanced");
  CHECK_THAT(refused(root.path() / "EMNIST").what, Catch::StartsWith("holds EMNIST (balanced, letters), which have "));
  CHECK(to_string(refused(root.path(), "digits")) ==
        raw +
            ": holds EMNIST (balanced, letters), and not its split digits\n   hint: "
            "torchvision.datasets.EMNIST(root, split, download=True) leaves all splits");
  put("digits");
  for (const auto& given : {root.path(), root.path() / "EMNIST", root.path() / "EMNIST/raw"}) {
    CHECK(found(given) == raw + ", split digits");
    CHECK(found(given, "digits") == raw + ", split digits");
  }
  put("mnist");
  for (const auto& given : {root.path(), root.path() / "EMNIST", root.path() / "EMNIST/raw"}) {
    CHECK(found(given, "mnist") == raw + ", split mnist");
    CHECK(refused(given).code == Errc::invalid_config);
    CHECK(to_string(refused(given)) == given.string() + ": holds 2 data sets: " + raw + ", split digits; " + raw +
                                           ", split mnist\n   hint: name one of the splits in --data_split");
  }
  root.put("MNIST/raw");
  CHECK(found(root.path(), "digits") == raw + ", split digits");
  CHECK(to_string(refused(root.path())) ==
        root.path().string() + ": holds 3 data sets: " + raw + ", split digits; " + raw + ", split mnist; " +
            root / "MNIST/raw" + "\n   hint: name one's folder in --data_dir, and EMNIST's split in --data_split");
  // Links under MNIST's names win in their folder.
  root.put("EMNIST/raw");
  CHECK(found(root.path() / "EMNIST") == raw);
  CHECK(found(root.path() / "EMNIST", "mnist") == raw + ", split mnist");

  root.remove("EMNIST");
  put("digits", "EMNIST/raw/gzip");  // the archive, unpacked by hand
  CHECK(found(root.path(), "digits") == root / "EMNIST/raw/gzip" + ", split digits");
  root.remove("EMNIST");
  CHECK(to_string(refused(root.path(), "digits")) ==
        root.path().string() +
            ": has neither emnist-digits-train-images-idx3-ubyte nor emnist-digits-train-images.idx3-ubyte, plain or "
            ".gz, also not in raw/ or in a folder's raw/\n   hint: --data_split is for EMNIST alone; leave it out for "
            "other sets");
}

TEST_CASE("a file where a folder is wanted is called one, and the folder of the files is named") {
  const Root root;
  const auto said_of = [](const std::string& given) {
    for (const auto& error : {refused(given), files_of({given}, Split::train).error()}) {
      CHECK(error.code == Errc::not_found);
      CHECK(error.where == given);
    }
    const Error error = refused(given);
    return error.what + "; " + error.hint;
  };
  root.put(".", "notes");
  CHECK(said_of(root / "notes") ==
        "is a file, and a folder is wanted; --data_dir wants the four IDX files of MNIST, QMNIST or EMNIST, plain or "
        ".gz; without it digits "
        "are drawn");
  root.put(".", "qmnist-train-images-idx3-ubyte.gz");
  CHECK(said_of(root / "qmnist-train-images-idx3-ubyte.gz") ==
        "is a file, and a folder is wanted; write --data_dir " + root.path().string());
  CHECK_THAT(said_of("/dev/null"), Catch::StartsWith("is no folder; --data_dir wants"));
}

TEST_CASE("files that lie one folder below, and not in its raw, are told with the flags for them") {
  const Root root;
  const std::string emnist = root / "EMNIST";
  for (const char* split : {"digits", "mnist", "letters"}) {
    root.put("EMNIST", std::string("emnist-") + split + "-train-images-idx3-ubyte");
  }
  const std::string lie = root.path().string() + ": the files lie in " + emnist + "\n   hint: write ";
  const std::string digits = "--data_dir " + emnist + " --data_split digits";
  CHECK(to_string(refused(root.path(), "digits")) == lie + digits);
  CHECK(to_string(refused(root.path())) == lie + digits + ", or --data_dir " + emnist + " --data_split mnist");
  root.remove("EMNIST");
  root.put("a");
  root.put("b", "qmnist-test-labels-idx2-int");
  CHECK(refused(root.path()).code == Errc::not_found);
  CHECK(to_string(refused(root.path())) == root.path().string() + ": the files lie in " + root / "a" + " and in " +
                                               root / "b" + "\n   hint: write --data_dir " + root / "a" +
                                               ", or --data_dir " + root / "b");
}

TEST_CASE("a folder with the name of a file is passed by for another spelling of it, and is named where it is alone") {
  const Root root;
  root.put("set/train-images-idx3-ubyte", "train-images-idx3-ubyte");
  root.put("set/train-labels-idx1-ubyte", "train-labels-idx1-ubyte");
  CHECK(found(root / "set") == root / "set");
  const Error folder = files_of({root / "set"}, Split::train).error();
  CHECK(folder.code == Errc::invalid_config);
  CHECK(to_string(folder) == root / "set/train-images-idx3-ubyte" + ": is a folder, and a file is wanted\n" +
                                 "   hint: move the file that is in it to where the folder is");
  root.put("set", "train-images.idx3-ubyte");
  root.put("set", "train-labels-idx1-ubyte.gz");
  const auto files = files_of({root / "set"}, Split::train);
  REQUIRE(files);
  CHECK(files->images == root / "set/train-images.idx3-ubyte");
  CHECK(files->labels == root / "set/train-labels-idx1-ubyte.gz");
}

TEST_CASE("what this user may not read is not called missing, and a link that leads nowhere is named with its end") {
  const Root root;
  fs::permissions(root.path(), fs::perms::owner_all | fs::perms(055));
  root.put("closed/MNIST/raw");
  root.put("parent/MNIST/raw");
  root.put("mixed/notes", "text");
  const auto close = [&](const std::string& folder) { fs::permissions(root.path() / folder, fs::perms::none); };
  for (const char* folder : {"closed", "parent/MNIST/raw", "mixed/notes"}) close(folder);
  {
    // Nothing is closed to root.
    const bool is_root = ::geteuid() == 0;
    if (is_root) REQUIRE(::seteuid(65534) == 0);
    const auto files = [&](const char* folder) { return find_data_files(root / folder); };
    const auto closed = files("closed"), below = files("closed/MNIST"), parent = files("parent"),
               itself = files("parent/MNIST"), mixed = files("mixed");
    if (is_root) REQUIRE(::seteuid(0) == 0);
    CHECK(closed.error().code == std::errc::permission_denied);
    CHECK_THAT(to_string(closed.error()), Catch::StartsWith(root / "closed" + ": read: Permission denied\n"));
    CHECK(to_string(below.error()) == root / "closed/MNIST" + ": open: Permission denied");
    CHECK_THAT(to_string(itself.error()), Catch::StartsWith(root / "parent/MNIST/raw" + ": read: Permission denied\n"));
    for (const auto& [found_in, what] : {std::pair(&parent, "parent/MNIST/raw"), std::pair(&mixed, "mixed/notes")}) {
      CHECK(found_in->error().code == Errc::not_found);
      CHECK_THAT(found_in->error().what,
                 Catch::EndsWith("a folder's raw/, and " + root / what + " cannot be read: Permission denied"));
    }
  }
  for (const char* folder : {"closed", "parent/MNIST/raw", "mixed/notes"}) {
    fs::permissions(root.path() / folder, fs::perms::owner_all);
  }

  root.put("linked");
  fs::create_symlink("/none/images", root.path() / "linked/train-images-idx3-ubyte");
  fs::create_symlink("/none", root.path() / "gone");
  CHECK(found(root / "linked") == root / "linked");
  const Error linked = files_of({root / "linked"}, Split::train).error();
  CHECK(linked.code == std::errc::no_such_file_or_directory);
  CHECK(to_string(linked) ==
        root / "linked/train-images-idx3-ubyte" + ": open: No such file or directory (it is a link to /none/images)");
  CHECK(to_string(refused(root / "gone")) ==
        root / "gone" + ": open: No such file or directory (it is a link to /none)");
  root.put("linked", "train-images-idx3-ubyte.gz");  // the one that can be read
  CHECK(files_of({root / "linked"}, Split::train).error().what.starts_with("has neither train-labels"));
}

}  // namespace trainer_data_files_test
