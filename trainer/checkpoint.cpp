// Checkpoints on the disk. Called by rank 0 of the training loop.
#include "trainer/checkpoint.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "rendezvous/base/whole_number.hpp"
#include "trainer/files.hpp"
#include "trainer/safetensors.hpp"
#include "trainer/trainer_state.hpp"

namespace llmlaunch::trainer {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kPrefix = "checkpoint-";
constexpr std::string_view kUnfinished = ".unfinished";
constexpr std::string_view kReplaced = ".replaced";
constexpr std::string_view kSetAside = ".set-aside";
constexpr std::string_view kForeign = ".foreign";
constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kChecksums = "checksums.json";
constexpr std::array kHashed = {kModel, kOptimizer, kTrainerState, kOwnState};
constexpr std::size_t kMaxJson = std::size_t{1} << 20U;
constexpr const char* kFirstMoment = "exp_avg.";
constexpr const char* kSecondMoment = "exp_avg_sq.";

Error unusable(const fs::path& file, std::string what) {
  return make_error(Errc::invalid_config, std::move(what), file.string());
}

void add_tensors(std::vector<TensorView>& to, const std::string& prefix, const Model& model,
                 const std::vector<float>& values) {
  for (const Parameter& parameter : model.parameters) {
    to.push_back({prefix + parameter.name, parameter.shape,
                  std::span<const float>(values).subspan(parameter.first, parameter.count)});
  }
}

Bytes model_file(const TrainingState& state) {
  std::vector<TensorView> tensors;
  add_tensors(tensors, "", *state.model, state.parameters);
  return write_safetensors(tensors, {{"format", "pt"}});  // what transformers looks for
}

Bytes optimizer_file(const TrainingState& state) {
  std::vector<TensorView> tensors;
  add_tensors(tensors, kFirstMoment, *state.model, state.first_moment);
  add_tensors(tensors, kSecondMoment, *state.model, state.second_moment);
  return write_safetensors(tensors, {{"optimizer", "AdamW"}, {"step", std::to_string(state.step)}});
}

/// {"model.safetensors": {"bytes": 4800528, "sha256": "…"}, …}
Result<std::string> checksum_file(const std::array<Bytes, kHashed.size()>& files) {
  nlohmann::ordered_json document;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const auto hash = digest(files[i]);
    if (!hash) return hash.error();
    document[kHashed[i]] = {{"bytes", files[i].size()}, {"sha256", *hash}};
  }
  return document.dump(2) + "\n";
}

Result<void> write_all(const fs::path& folder, const TrainingState& state) {
  const auto bytes_of = [](const std::string& text) {
    const ByteView bytes = as_bytes(text);
    return Bytes(bytes.begin(), bytes.end());
  };
  const std::array<Bytes, kHashed.size()> files = {
      model_file(state), optimizer_file(state), bytes_of(trainer_state_text(state)), bytes_of(own_state_text(state))};
  const auto checksums = checksum_file(files);
  if (!checksums) return checksums.error();
  const auto write = [&](const char* name, ByteView bytes) -> Result<void> {
    const std::string path = (folder / name).string();
    if (auto written = write_whole_file(path, bytes); !written) return written;
    return sync_to_disk(path);
  };
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (auto written = write(kHashed[i], files[i]); !written) return written;
  }
  if (auto written = write(kChecksums, as_bytes(*checksums)); !written) return written;
  return sync_to_disk(folder.string());
}

/// The step in the name of a checkpoint.
std::optional<std::uint64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  return parse_whole<std::uint64_t>(std::string_view(name).substr(kPrefix.size()));
}

struct Entries {
  std::map<std::uint64_t, fs::path> checkpoints;  // by step
  std::vector<fs::path> useless;                  // what a broken-off save or removal left, and what was replaced
};

Result<Entries> entries_of(const std::string& output_dir) {
  Entries entries;
  std::map<std::uint64_t, fs::path> replaced;
  std::error_code failed;
  fs::directory_iterator at(output_dir, failed);
  if (failed == std::errc::no_such_file_or_directory) return entries;
  for (; !failed && at != fs::directory_iterator(); at.increment(failed)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kUnfinished)) entries.useless.push_back(at->path());
    if (const auto step = step_of(name)) entries.checkpoints[*step] = at->path();
    if (!name.ends_with(kReplaced)) continue;
    if (const auto step = step_of(name.substr(0, name.size() - kReplaced.size()))) replaced[*step] = at->path();
  }
  std::error_code ignored;  // then it is no file
  if (failed == std::errc::not_a_directory && fs::is_regular_file(output_dir, ignored)) {
    return Error{failed, "--output_dir: is a file, and a folder is wanted", output_dir, "name another one"};
  }
  if (failed) return system_error(failed.value(), "--output_dir: read", output_dir);
  // One that was to be replaced, and then the new one did not get its name.
  for (const auto& [step, path] : replaced) {
    if (!entries.checkpoints.emplace(step, path).second) entries.useless.push_back(path);
  }
  return entries;
}

Result<void> remove_folder(const fs::path& folder) {
  std::error_code failed;
  fs::remove_all(folder, failed);
  if (failed) return system_error(failed.value(), "--output_dir: remove", folder.string());
  return ok;
}

/// A removal that is broken off by a kill or an error leaves nothing that has a checkpoint's name and is none: it goes
/// on with the next one's.
Result<void> remove_checkpoint(const fs::path& folder) {
  const fs::path useless = folder.string() + std::string(kUnfinished);
  if (auto removed = remove_folder(useless); !removed) return removed;
  return remove_folder(std::rename(folder.c_str(), useless.c_str()) == 0 ? useless : folder);
}

Result<void> make_output(const std::string& output_dir) {
  auto made = make_folders(output_dir);
  if (made) return made;
  Error error = made.error();
  error.what = "--output_dir: " + error.what;
  error.where = output_dir;
  return error;
}

/// What another program saved under this name stays, under one that nobody has.
Result<void> keep_foreign(const fs::path& folder) {
  std::error_code failed;
  const bool has_files = fs::is_directory(folder, failed) && !fs::is_empty(folder, failed);
  if (failed && failed != std::errc::no_such_file_or_directory) {
    return system_error(failed.value(), "--output_dir: look into", folder.string());
  }
  if (!has_files || is_own_checkpoint(folder)) return ok;
  std::error_code ignored;  // then rename says why
  fs::path aside = folder.string() + std::string(kForeign);
  for (int number = 2; fs::exists(aside, ignored); ++number) {
    aside = fmt::format("{}{}-{}", folder.string(), kForeign, number);
  }
  if (std::rename(folder.c_str(), aside.c_str()) != 0) return system_error(errno, "rename", folder.string());
  log_warning("{}: is no checkpoint of llmlaunch-train, and stays as {}", folder.string(), aside.string());
  return ok;
}

/// Moves a whole folder to its name, in place of one that has it.
Result<void> put_in_place(const fs::path& unfinished, const fs::path& final_name) {
  if (std::rename(unfinished.c_str(), final_name.c_str()) == 0) return ok;
  if (errno != ENOTEMPTY && errno != EEXIST) return system_error(errno, "rename", unfinished.string());
  // The two change places at once: there is no moment without one. What is left is removed with the old ones.
  if (::renameat2(AT_FDCWD, unfinished.c_str(), AT_FDCWD, final_name.c_str(), RENAME_EXCHANGE) == 0) return ok;
  if (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP) {
    return system_error(errno, "rename", unfinished.string());
  }
  // NFS and others cannot: the old one is found under its other name until the new one has its own.
  const fs::path replaced = final_name.string() + std::string(kReplaced);
  if (auto removed = remove_folder(replaced); !removed) return removed;
  if (std::rename(final_name.c_str(), replaced.c_str()) != 0 ||
      std::rename(unfinished.c_str(), final_name.c_str()) != 0) {
    return system_error(errno, "rename", final_name.string());
  }
  return ok;
}

/// A file of a checkpoint: one that is missing is damage, one that cannot be read now is not.
Result<Bytes> read_part(const fs::path& file, std::size_t limit) {
  auto bytes = read_whole_file(file.string(), limit);
  if (bytes) return bytes;
  const std::error_code code = bytes.error().code;
  if (code == std::errc::is_a_directory) return unusable(file, "is a folder and not a file");
  if (code == std::errc::too_many_symbolic_link_levels) return unusable(file, "is a link that leads to itself");
  if (code != std::errc::no_such_file_or_directory) return bytes;
  const bool last = file.filename() == kChecksums;
  return unusable(
      file, last ? "is missing, which is written last: it was copied in part, or is another program's" : "is missing");
}

Result<json> read_json(const fs::path& file) {
  const auto bytes = read_part(file, kMaxJson);
  if (!bytes) return bytes.error();
  json document = json::parse(as_text(*bytes), nullptr, false);
  if (!document.is_object()) return unusable(file, "is no JSON mapping");
  return document;
}

/// The bytes of a file, if they are those that were written.
Result<Bytes> read_checked(const fs::path& file, const json& checksums) {
  auto bytes = read_part(file, kMaxSafetensorsFile);
  if (!bytes) return bytes;
  const auto entry = checksums.find(file.filename().string());
  if (entry == checksums.end() || !entry->is_object() || !entry->contains("sha256")) {
    return unusable(file, fmt::format("has no checksum in {}", kChecksums));
  }
  const auto hash = digest(*bytes);
  if (!hash) return hash.error();
  if ((*entry)["sha256"] != *hash) {
    return unusable(file,
                    fmt::format("is damaged: {} bytes that do not give the checksum in {}", bytes->size(), kChecksums));
  }
  return bytes;
}

Result<std::vector<float>> flat_array(const Safetensors& file, const std::string& prefix, const Model& model,
                                      const fs::path& where) {
  std::vector<float> values(model.values);
  for (const Parameter& parameter : model.parameters) {
    const auto found = file.tensors.find(prefix + parameter.name);
    if (found == file.tensors.end()) return unusable(where, fmt::format("has no tensor {}{}", prefix, parameter.name));
    if (found->second.shape != parameter.shape) {
      return unusable(where, fmt::format("tensor {}{} is ({}), not ({}): another model", prefix, parameter.name,
                                         fmt::join(found->second.shape, ", "), fmt::join(parameter.shape, ", ")));
    }
    std::copy(found->second.values.begin(), found->second.values.end(),
              values.begin() + static_cast<std::ptrdiff_t>(parameter.first));
  }
  return values;
}

}  // namespace

std::string checkpoint_folder(const std::string& output_dir, std::uint64_t step) {
  return (fs::path(output_dir) / fmt::format("{}{}", kPrefix, step)).string();
}

Result<std::string> save_checkpoint(const std::string& output_dir, const TrainingState& state) {
  const fs::path final_name = checkpoint_folder(output_dir, state.step);
  const fs::path unfinished = final_name.string() + std::string(kUnfinished);
  if (auto removed = remove_folder(unfinished); !removed) return removed.error();
  if (auto made = make_output(output_dir); !made) return made.error();
  std::error_code failed;
  fs::create_directory(unfinished, failed);
  if (failed) return system_error(failed.value(), "--output_dir: mkdir", unfinished.string());
  auto written = write_all(unfinished, state);
  if (written) written = keep_foreign(final_name);
  if (written) written = put_in_place(unfinished, final_name);
  if (!written) {
    std::error_code ignored;  // the first error is the one to tell; prune_checkpoints tries again
    fs::remove_all(unfinished, ignored);
    return written.error();
  }
  if (auto synced = sync_to_disk(output_dir); !synced) return synced.error();
  return final_name.string();
}

Result<void> remove_unfinished_saves(const std::string& output_dir, const std::string& named) {
  const auto entries = entries_of(output_dir);
  if (!entries) return entries.error();
  for (const fs::path& folder : entries->useless) {
    std::error_code ignored;  // then it is another one
    if (!folder.native().ends_with(kUnfinished) || fs::equivalent(folder, named, ignored)) continue;
    if (auto removed = remove_folder(folder); !removed) return removed;
  }
  return ok;
}

Result<void> prepare_output(const std::string& output_dir) {
  const fs::path probe = fs::path(output_dir) / fmt::format("{}0{}", kPrefix, kUnfinished);
  if (auto made = make_output(output_dir); !made) return made;
  std::error_code failed;
  fs::create_directory(probe, failed);
  if (failed) return system_error(failed.value(), "--output_dir: make a folder in it", output_dir);
  return remove_folder(probe);
}

Result<TrainingState> load_checkpoint(const std::string& folder) {
  const fs::path path(folder);
  std::error_code failed;
  const fs::file_status status = fs::status(path, failed);
  if (status.type() == fs::file_type::not_found)
    return with_folder(make_error(Errc::not_found, "no such checkpoint", folder));
  if (!fs::status_known(status)) return system_error(failed.value(), "stat", folder);  // it may be a good one
  if (!fs::is_directory(status)) return unusable(path, "is no checkpoint, which is a folder");
  std::error_code ignored;  // then reading says why
  if (fs::is_empty(path, ignored)) return unusable(path, "is no checkpoint: the folder is empty");
  const auto checksums = read_json(path / kChecksums);
  if (!checksums) return checksums.error();
  std::array<Bytes, kHashed.size()> files;
  bool old = false;
  for (std::size_t i = 0; i < files.size() && !old; ++i) {
    auto bytes = read_checked(path / kHashed[i], *checksums);
    if (!bytes) return bytes.error();
    files[i] = std::move(*bytes);
    old = kHashed[i] == std::string_view(kTrainerState) && is_old_trainer_state(as_text(files[i]));
  }
  const auto model = parse_safetensors(files[0], (path / kModel).string());
  if (!model) return model.error();
  const auto optimizer = parse_safetensors(files[1], (path / kOptimizer).string());
  if (!optimizer) return optimizer.error();

  TrainingState state;
  const std::string told = (path / kTrainerState).string();
  if (old) {
    if (auto taken = take_old_state(as_text(files[2]), told, state); !taken) return taken.error();
  } else {
    if (auto taken = take_trainer_state(as_text(files[2]), told, state); !taken) return taken.error();
    if (auto taken = take_own_state(as_text(files[3]), (path / kOwnState).string(), state); !taken) {
      return taken.error();
    }
  }
  auto parameters = flat_array(*model, "", *state.model, path / kModel);
  if (!parameters) return parameters.error();
  auto first = flat_array(*optimizer, kFirstMoment, *state.model, path / kOptimizer);
  if (!first) return first.error();
  auto second = flat_array(*optimizer, kSecondMoment, *state.model, path / kOptimizer);
  if (!second) return second.error();
  state.parameters = std::move(*parameters);
  state.first_moment = std::move(*first);
  state.second_moment = std::move(*second);
  return state;
}

Result<std::optional<FoundCheckpoint>> find_last_checkpoint(const std::string& output_dir) {
  const auto entries = entries_of(output_dir);
  if (!entries) return entries.error();
  std::vector<Error> damaged;
  for (auto at = entries->checkpoints.rbegin(); at != entries->checkpoints.rend(); ++at) {
    auto state = load_checkpoint(at->second.string());
    if (state) return FoundCheckpoint{at->second.string(), std::move(*state), std::move(damaged)};
    const std::error_code code = state.error().code;
    if (code != Errc::invalid_config && code != Errc::not_found) return state.error();  // it may be good
    damaged.push_back(state.error());
  }
  if (!damaged.empty()) return damaged.front();
  return std::optional<FoundCheckpoint>();
}

bool is_own_checkpoint(const fs::path& folder) {
  std::error_code ignored;
  return fs::exists(folder / kChecksums, ignored) || fs::exists(folder / kOwnState, ignored);
}

Result<std::string> newest_checkpoint_name(const std::string& output_dir) {
  const auto entries = entries_of(output_dir);
  if (!entries) return entries.error();
  return entries->checkpoints.empty() ? std::string() : entries->checkpoints.rbegin()->second.string();
}

Result<std::vector<std::string>> set_aside_later(const std::string& output_dir, std::uint64_t step) {
  const auto entries = entries_of(output_dir);
  if (!entries) return entries.error();
  std::vector<std::string> moved;
  for (auto at = entries->checkpoints.upper_bound(step); at != entries->checkpoints.end(); ++at) {
    if (!is_own_checkpoint(at->second)) continue;
    const fs::path aside = fs::path(output_dir) / fmt::format("{}{}{}", kPrefix, at->first, kSetAside);
    std::error_code ignored;  // what cannot be looked at cannot be removed, which is told
    const bool was_there = fs::exists(aside, ignored);
    if (auto removed = remove_folder(aside); !removed) return removed.error();
    if (std::rename(at->second.c_str(), aside.c_str()) != 0) {
      return system_error(errno, "--output_dir: rename", at->second.string());
    }
    moved.push_back(aside.string() + (was_there ? " (in place of an earlier one)" : ""));
  }
  if (moved.empty()) return moved;
  if (auto synced = sync_to_disk(output_dir); !synced) return synced.error();
  return moved;
}

Result<void> prune_checkpoints(const std::string& output_dir, std::uint32_t limit, std::optional<std::uint64_t> best) {
  const auto entries = entries_of(output_dir);
  if (!entries) return entries.error();
  for (const fs::path& folder : entries->useless) {
    if (auto removed = remove_folder(folder); !removed) return removed;
  }
  if (limit == 0) return ok;
  auto all = entries->checkpoints;
  std::erase_if(all, [](const auto& one) { return !is_own_checkpoint(one.second); });
  if (all.size() <= limit) return ok;
  const std::uint64_t newest = all.rbegin()->first;
  const bool best_is_older = best && *best != newest && all.contains(*best);
  std::size_t left = all.size();
  const std::size_t stay = std::max<std::size_t>(limit, best_is_older ? 2 : 1);
  for (auto at = all.begin(); at != all.end() && left > stay; ++at) {
    if (at->first == newest || at->first == best) continue;
    if (auto removed = remove_checkpoint(at->second); !removed) return removed;
    --left;
  }
  return ok;
}

}  // namespace llmlaunch::trainer
