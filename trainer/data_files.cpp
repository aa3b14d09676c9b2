// Finds the files of a data set. Called once by each rank, for --data_dir.
#include "trainer/data_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>
#include <vector>

#include "trainer/emnist_splits.hpp"

namespace llmlaunch::trainer {
namespace {

namespace fs = std::filesystem;

/// The spellings of "train-images-idx3-ubyte".
std::array<std::string, 4> spellings(const std::string& subject, const std::string& kind) {
  return {subject + "-" + kind, subject + "." + kind, subject + "-" + kind + ".gz", subject + "." + kind + ".gz"};
}

std::array<std::string, 4> image_names(const DataFiles& files, Split split) {
  return spellings((split == Split::train ? files.train : files.test) + "-images", "idx3-ubyte");
}

std::array<std::string, 4> label_names(const DataFiles& files, Split split) {
  return spellings((split == Split::train ? files.train : files.test) + "-labels",
                   files.labels == LabelFormat::bytes ? "idx1-ubyte" : "idx2-int");
}

/// Also a link that leads nowhere.
bool is_there(const fs::path& path) {
  std::error_code ignored;  // a file that exists but cannot be read is told by the reading
  return fs::exists(fs::symlink_status(path, ignored));
}

/// What the system says of a path that is there, and where that leads.
Error not_reached(const fs::path& path, std::error_code why) {
  Error error = system_error(why.value(), "open", path.string());
  std::error_code ignored;  // then it is no link
  if (const fs::path target = fs::read_symlink(path, ignored); !target.empty()) {
    error.what += fmt::format(" (it is a link to {})", target.string());
  }
  return error;
}

Result<std::string> find_file(const std::string& folder, const std::array<std::string, 4>& names) {
  std::optional<Error> unreached;
  for (const std::string& name : names) {
    const fs::path path = fs::path(folder) / name;
    if (!is_there(path)) continue;
    std::error_code failed;
    const fs::file_status found = fs::status(path, failed);
    // Some archives unpack each file into a folder of its name, beside the file or alone.
    if (fs::exists(found) && !fs::is_directory(found)) return path.string();
    if (unreached) continue;
    unreached = fs::is_directory(found)
                    ? make_error(Errc::invalid_config, "is a folder, and a file is wanted", path.string(),
                                 "move the file that is in it to where the folder is")
                    : not_reached(path, failed);
  }
  if (unreached) return *unreached;
  return make_error(Errc::not_found, fmt::format("has neither {} nor {}, plain or .gz", names[0], names[1]), folder,
                    kDataHint);
}

/// Whether one of the four files is there: then it is the set that is meant, and what it lacks is told.
bool is_any_there(const DataFiles& files) {
  for (const Split split : {Split::train, Split::test}) {
    for (const auto& names : {image_names(files, split), label_names(files, split)}) {
      for (const std::string& name : names) {
        if (is_there(fs::path(files.folder) / name)) return true;
      }
    }
  }
  return false;
}

DataFiles qmnist_in(const fs::path& folder) {
  return {.folder = folder.string(), .train = "qmnist-train", .test = "qmnist-test", .labels = LabelFormat::numbers};
}

DataFiles emnist_in(const fs::path& folder, const std::string& split) {
  return {.folder = folder.string(),
          .train = fmt::format("emnist-{}-train", split),
          .test = fmt::format("emnist-{}-test", split),
          .split = split};
}

/// The sets in a folder that may be meant.
std::vector<DataFiles> sets_in(const fs::path& folder, const std::string& split) {
  std::vector<DataFiles> found;
  if (split.empty()) {
    if (const DataFiles plain{.folder = folder.string()}; is_any_there(plain)) return {plain};
    if (const DataFiles qmnist = qmnist_in(folder); is_any_there(qmnist)) found.push_back(qmnist);
  }
  for (const EmnistSplit& one : kEmnistSplits) {
    if (!is_learnable(one) || (!split.empty() && split != one.name)) continue;
    if (DataFiles emnist = emnist_in(folder, one.name); is_any_there(emnist)) found.push_back(std::move(emnist));
  }
  return found;
}

/// As torchvision leaves them, and EMNIST's archive as it unpacks.
std::vector<DataFiles> sets_in_raw(const fs::path& folder, const std::string& split) {
  auto found = sets_in(folder / "raw", split);
  return found.empty() ? sets_in(folder / "raw" / "gzip", split) : found;
}

/// That a folder is given, whatever is in it. Of one of the files in it that is said.
Result<void> check_folder(const fs::path& given) {
  std::error_code failed;
  if (fs::is_directory(given, failed)) return ok;
  const bool is_missing = failed == std::errc::no_such_file_or_directory || failed == std::errc::not_a_directory;
  if (failed && (!is_missing || is_there(given))) return not_reached(given, failed);
  std::error_code ignored;  // then it is no file
  if (is_missing) return make_error(Errc::not_found, "no such folder", given.string(), kDataHint);
  const fs::path around = given.has_parent_path() ? given.parent_path() : ".";
  return make_error(
      Errc::not_found, fs::is_regular_file(given, ignored) ? "is a file, and a folder is wanted" : "is no folder",
      given.string(), sets_in(around, {}).empty() ? kDataHint : fmt::format("write --data_dir {}", around.string()));
}

/// The folders in `folder`, by name; none where it cannot be read, for then there is nothing to be found in them.
std::vector<fs::path> subfolders(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code failed;
  for (fs::directory_iterator at(folder, failed); !failed && at != fs::directory_iterator(); at.increment(failed)) {
    std::error_code ignored;
    if (at->is_directory(ignored)) found.push_back(at->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// The sets in the nearest place that has some.
std::vector<DataFiles> nearest_sets(const fs::path& root, const std::vector<fs::path>& inside,
                                    const std::string& split) {
  auto found = sets_in(root, split);
  if (found.empty()) found = sets_in_raw(root, split);
  if (!found.empty()) return found;
  for (const fs::path& folder : inside) {
    auto more = sets_in_raw(folder, split);
    std::move(more.begin(), more.end(), std::back_inserter(found));
  }
  return found;
}

Error several_sets(const std::string& given, const std::vector<DataFiles>& sets) {
  std::vector<std::string> names;
  for (const DataFiles& set : sets) names.push_back(set.description());
  const bool one_folder =
      std::all_of(sets.begin(), sets.end(), [&](const auto& set) { return set.folder == sets.front().folder; });
  const bool all_splits = std::none_of(sets.begin(), sets.end(), [](const auto& set) { return set.split.empty(); });
  const bool any_split = std::any_of(sets.begin(), sets.end(), [](const auto& set) { return !set.split.empty(); });
  return make_error(Errc::invalid_config, fmt::format("holds {} data sets: {}", sets.size(), fmt::join(names, "; ")),
                    given,
                    one_folder && all_splits ? "name one of the splits in --data_split"
                    : any_split              ? "name one's folder in --data_dir, and EMNIST's split in --data_split"
                                             : "name one of them in --data_dir");
}

/// What EMNIST's files here are, where they are none that can be used.
std::optional<Error> other_split_in(const fs::path& folder, const std::string& wanted) {
  std::vector<std::string> splits;
  for (const EmnistSplit& split : kEmnistSplits) {
    if (is_any_there(emnist_in(folder, split.name))) splits.emplace_back(split.name);
  }
  if (splits.empty()) return std::nullopt;
  const std::string holds = fmt::format("holds EMNIST ({})", fmt::join(splits, ", "));
  if (!wanted.empty()) {
    return make_error(Errc::not_found, fmt::format("{}, and not its split {}", holds, wanted), folder.string(),
                      "torchvision.datasets.EMNIST(root, split, download=True) leaves all splits");
  }
  return make_error(Errc::not_found,
                    holds + (splits.size() == 1 ? ", which has more" : ", which have more") +
                        " classes than the ten that the networks here tell apart",
                    folder.string(), "EMNIST's splits digits and mnist have ten");
}

/// Why one may not look into a folder; 0: one may, or there is none.
int closed_by(const fs::path& folder) {
  if (::faccessat(AT_FDCWD, folder.c_str(), R_OK | X_OK, AT_EACCESS) == 0) return 0;
  return errno == ENOENT || errno == ENOTDIR ? 0 : errno;
}

/// What may be in a folder that cannot be read nobody knows.
std::optional<Error> closed_folder(const fs::path& root) {
  for (const fs::path& folder : {root, root / "raw", root / "raw" / "gzip"}) {
    if (const int reason = closed_by(folder); reason != 0) {
      return system_error(reason, "read", folder.string(), "the data's folder has to be readable for this user");
    }
  }
  return std::nullopt;
}

/// ", and FOLDER cannot be read: Permission denied", of the first such one.
std::string closed_below(const std::vector<fs::path>& inside) {
  for (const fs::path& folder : inside) {
    if (const auto closed = closed_folder(folder)) {
      return fmt::format(", and {} cannot be read: {}", closed->where, closed->code.message());
    }
  }
  return {};
}

/// Where the files are, if one folder below. They are not taken from there, where anything may lie: only a raw/ is sure
/// to be a data set's.
std::optional<Error> sets_below(const fs::path& root, const std::vector<fs::path>& inside, const std::string& split) {
  std::vector<std::string> folders;
  std::vector<std::string> flags;
  for (const fs::path& folder : inside) {
    const auto sets = sets_in(folder, split);
    if (!sets.empty()) folders.push_back(folder.string());
    for (const DataFiles& set : sets) {
      flags.push_back("--data_dir " + set.folder + (set.split.empty() ? "" : " --data_split " + set.split));
    }
  }
  if (folders.empty()) return std::nullopt;
  return make_error(Errc::not_found, fmt::format("the files lie in {}", fmt::join(folders, " and in ")), root.string(),
                    fmt::format("write {}", fmt::join(flags, ", or ")));
}

/// Why nothing was found.
Error nothing_found(const fs::path& root, const std::vector<fs::path>& inside, const std::string& split) {
  if (auto closed = closed_folder(root)) return *closed;
  if (auto below = sets_below(root, inside, split)) return *below;
  std::vector<fs::path> places = {root};
  places.insert(places.end(), inside.begin(), inside.end());
  for (const fs::path& folder : places) {
    for (const fs::path& files : {folder, folder / "raw", folder / "raw" / "gzip"}) {
      if (auto other = other_split_in(files, split)) return *other;
    }
  }
  for (const fs::path& folder : places) {
    if (!split.empty() || !is_there(folder / "processed" / "training.pt")) continue;
    return make_error(Errc::not_found, "has no IDX files, only what PyTorch made of them and alone can read",
                      (folder / "processed" / "training.pt").string(),
                      "fetch them again: torchvision.datasets.MNIST(root, download=True) leaves them in MNIST/raw");
  }
  const auto names = image_names(split.empty() ? DataFiles() : emnist_in(root, split), Split::train);
  return make_error(Errc::not_found,
                    fmt::format("has neither {} nor {}, plain or .gz, also not in raw/ or in a folder's raw/{}",
                                names[0], names[1], closed_below(inside)),
                    root.string(),
                    split.empty() ? kDataHint : "--data_split is for EMNIST alone; leave it out for other sets");
}

}  // namespace

std::string DataFiles::description() const {
  return split.empty() ? folder : fmt::format("{}, split {}", folder, split);
}

Result<DataFiles> find_data_files(const std::string& given, const std::string& split) {
  const fs::path root(given);
  if (auto folder = check_folder(root); !folder) return folder.error();
  const auto inside = subfolders(root);
  const auto sets = nearest_sets(root, inside, split);
  if (sets.empty()) return nothing_found(root, inside, split);
  if (sets.size() > 1) return several_sets(given, sets);
  return sets.front();
}

Result<SplitFiles> files_of(const DataFiles& files, Split split) {
  if (auto there = check_folder(files.folder); !there) return there.error();
  auto images = find_file(files.folder, image_names(files, split));
  if (!images) return images.error();
  auto labels = find_file(files.folder, label_names(files, split));
  if (!labels) return labels.error();
  return SplitFiles{std::move(*images), std::move(*labels)};
}

}  // namespace llmlaunch::trainer
