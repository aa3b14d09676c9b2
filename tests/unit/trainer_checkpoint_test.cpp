// Checkpoints: exact, whole or not there, and the last good one never goes.
#include "trainer/checkpoint.hpp"

#include <pthread.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>

#include "tests/support/catch.hpp"
#include "trainer/backend.hpp"
#include "trainer/checkpoint_writer.hpp"
#include "trainer/files.hpp"

namespace trainer_checkpoint_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

namespace fs = std::filesystem;

class Output {
 public:
  Output() {
    std::string name = (fs::temp_directory_path() / "llmlaunch-checkpoint-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Output() { fs::remove_all(path_); }
  std::string path() const { return path_.string(); }
  fs::path operator/(const std::string& name) const { return path_ / name; }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : fs::directory_iterator(path_)) found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  fs::path path_;
};

TrainingState state_of(std::uint64_t step) {
  TrainingState state;
  state.model = &basic_net();
  state.step = step;
  state.skipped = 1;
  state.epoch = 0.5;
  state.seed = 7;
  state.world_size = 4;
  state.accounting = {.images = 1000, .images_per_step = 64, .steps_per_epoch = 16, .data_seed = 3, .drop_last = true};
  for (auto* values : {&state.parameters, &state.first_moment, &state.second_moment}) {
    values->resize(basic_net().values);
    const float start = values == &state.parameters ? 1.0F : values == &state.first_moment ? 2.0F : 3.0F;
    for (std::size_t i = 0; i < values->size(); ++i) {
      (*values)[i] = start / static_cast<float>(i + step);
    }
  }
  return state;
}

std::string saved(const Output& output, std::uint64_t step) {
  const auto folder = save_checkpoint(output.path(), state_of(step));
  REQUIRE(folder);
  return *folder;
}

void flip_byte(const fs::path& file, std::streamoff at) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  REQUIRE(stream);
  stream.seekg(at);
  const char byte = static_cast<char>(stream.get() ^ 1);
  stream.seekp(at);
  stream.put(byte);
}

}  // namespace

TEST_CASE("a checkpoint comes back bit for bit") {
  const Output output;
  const std::string folder = saved(output, 12);
  CHECK(folder == (output / "checkpoint-12").string());
  const auto loaded = load_checkpoint(folder);
  REQUIRE(loaded);
  const TrainingState expected = state_of(12);
  CHECK(loaded->model == &basic_net());
  CHECK(loaded->step == 12);
  CHECK(loaded->skipped == 1);
  CHECK(loaded->epoch == 0.5);
  CHECK(loaded->seed == 7);
  CHECK(loaded->world_size == 4);
  CHECK(loaded->accounting == expected.accounting);
  CHECK(loaded->parameters == expected.parameters);
  CHECK(loaded->first_moment == expected.first_moment);
  CHECK(loaded->second_moment == expected.second_moment);
  CHECK(output.names() == std::vector<std::string>{"checkpoint-12"});
}

TEST_CASE("a checkpoint names its model, and has its tensors") {
  const Output output;
  TrainingState state = state_of(3);
  state.model = &mlp();
  for (auto* values : {&state.parameters, &state.first_moment, &state.second_moment}) values->resize(mlp().values);
  const auto folder = save_checkpoint(output.path(), state);
  REQUIRE(folder);
  const auto loaded = load_checkpoint(*folder);
  REQUIRE(loaded);
  CHECK(loaded->model == &mlp());
  CHECK(loaded->parameters == state.parameters);
}

TEST_CASE("saving a step again replaces it") {
  const Output output;
  const std::string folder = saved(output, 12);
  TrainingState other = state_of(12);
  other.parameters[5] = 77;
  REQUIRE(save_checkpoint(output.path(), other));
  CHECK(load_checkpoint(folder)->parameters[5] == 77);
  REQUIRE(prune_checkpoints(output.path(), 0));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-12"});
}

TEST_CASE("a damaged or half checkpoint is named, and the one before it is used") {
  const Output output;
  saved(output, 9);
  const fs::path newest = saved(output, 10);
  std::string expected;
  SECTION("a changed weight") {
    flip_byte(newest / "model.safetensors", 4'000'000);
    expected = (newest / "model.safetensors").string() + ": is damaged: ";
  }
  SECTION("a cut file") {
    fs::resize_file(newest / "optimizer.safetensors", 1000);
    expected = (newest / "optimizer.safetensors").string() + ": is damaged: 1000 bytes";
  }
  SECTION("a changed state") {
    flip_byte(newest / "trainer_state.json", 20);
    expected = (newest / "trainer_state.json").string() + ": is damaged: ";
  }
  SECTION("no checksums") {
    fs::remove(newest / "checksums.json");
    expected = (newest / "checksums.json").string() +
               ": is missing, which is written last: it was copied in part, or is another program's";
  }
  SECTION("a folder for a file") {
    fs::remove(newest / "optimizer.safetensors");
    fs::create_directory(newest / "optimizer.safetensors");
    expected = (newest / "optimizer.safetensors").string() + ": is a folder and not a file";
  }
  SECTION("a link to itself") {
    fs::remove(newest / "checksums.json");
    fs::create_symlink("checksums.json", newest / "checksums.json");
    expected = (newest / "checksums.json").string() + ": is a link that leads to itself";
  }
  SECTION("checksums that are none") {
    std::ofstream(newest / "checksums.json") << "{}";
    expected = (newest / "model.safetensors").string() + ": has no checksum in checksums.json";
  }
  const auto direct = load_checkpoint(newest.string());
  REQUIRE_FALSE(direct);
  CHECK_THAT(to_string(direct.error()), Catch::StartsWith(expected));
  const auto found = find_last_checkpoint(output.path());
  REQUIRE(found);
  REQUIRE(*found);
  CHECK((*found)->folder == (output / "checkpoint-9").string());
  CHECK((*found)->state.step == 9);
  REQUIRE((*found)->damaged.size() == 1);
  CHECK(to_string((*found)->damaged.front()) == to_string(direct.error()));
}

TEST_CASE("the newest is that of most steps, and what is no checkpoint is passed over") {
  const Output output;
  CHECK_FALSE(*find_last_checkpoint(output.path()));
  CHECK_FALSE(*find_last_checkpoint((output / "missing").string()));
  CHECK(newest_checkpoint_name(output.path())->empty());
  saved(output, 100);
  saved(output, 9);
  fs::create_directory(output / "checkpoint-200.unfinished");
  fs::create_directory(output / "checkpoint-x");
  fs::create_directory(output / "logs");
  CHECK((*find_last_checkpoint(output.path()))->state.step == 100);
  CHECK(*newest_checkpoint_name(output.path()) == (output / "checkpoint-100").string());
}

TEST_CASE("only damaged checkpoints are an error, not a new start") {
  const Output output;
  fs::remove(fs::path(saved(output, 3)) / "model.safetensors");
  const auto found = find_last_checkpoint(output.path());
  REQUIRE_FALSE(found);
  CHECK_THAT(to_string(found.error()), Catch::Contains("checkpoint-3/model.safetensors: is missing"));
}

TEST_CASE("old ones go, and what a broken-off save left; never the newest") {
  const Output output;
  for (const std::uint64_t step : {2U, 10U, 30U}) saved(output, step);
  fs::create_directory(output / "checkpoint-40.unfinished");
  fs::create_directory(output / "logs");
  REQUIRE(prune_checkpoints(output.path(), 0));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-10", "checkpoint-2", "checkpoint-30", "logs"});
  REQUIRE(prune_checkpoints(output.path(), 2));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-10", "checkpoint-30", "logs"});
  REQUIRE(prune_checkpoints(output.path(), 1));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-30", "logs"});
}

TEST_CASE("a checkpoint of another program is not removed, and does not count as one that is kept") {
  const Output output;
  fs::create_directory(output / "checkpoint-5");
  std::ofstream(output / "checkpoint-5/pytorch_model.bin") << "x";
  for (const std::uint64_t step : {2U, 10U, 30U}) saved(output, step);
  fs::remove(output / "checkpoint-2/checksums.json");  // damaged, and ours
  REQUIRE(prune_checkpoints(output.path(), 2));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-10", "checkpoint-30", "checkpoint-5"});
  REQUIRE(prune_checkpoints(output.path(), 1));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-30", "checkpoint-5"});
}

TEST_CASE("those of a course that is left are set aside, so that the newest is the last one written") {
  const Output output;
  saved(output, 200);
  fs::remove(fs::path(saved(output, 300)) / "model.safetensors");
  const auto aside = set_aside_later(output.path(), 200);
  REQUIRE(aside);
  CHECK(*aside == std::vector<std::string>{(output / "checkpoint-300.set-aside").string()});
  saved(output, 250);
  REQUIRE(prune_checkpoints(output.path(), 1));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-250", "checkpoint-300.set-aside"});
  CHECK((*find_last_checkpoint(output.path()))->state.step == 250);
  CHECK(set_aside_later(output.path(), 250)->empty());
  fs::create_directory(output / "checkpoint-500");  // another program's
  CHECK(set_aside_later(output.path(), 250)->empty());
  fs::remove(output / "checkpoint-500");
  // Once more: one that has the name goes, not unsaid.
  REQUIRE(save_checkpoint(output.path(), state_of(300)));
  CHECK(*set_aside_later(output.path(), 250) ==
        std::vector<std::string>{(output / "checkpoint-300.set-aside").string() + " (in place of an earlier one)"});
  CHECK(output.names() == std::vector<std::string>{"checkpoint-250", "checkpoint-300.set-aside"});
}

TEST_CASE("what another program saved under a checkpoint's name stays, under another one") {
  const Output output;
  for (const char* kept : {"checkpoint-5.foreign", "checkpoint-5.foreign-2"}) {
    fs::create_directory(output / "checkpoint-5");
    std::ofstream(output / "checkpoint-5" / "pytorch_model.bin") << kept;
    REQUIRE(save_checkpoint(output.path(), state_of(5)));
    std::ifstream weights(output / kept / "pytorch_model.bin");
    CHECK(std::string(std::istreambuf_iterator<char>(weights), {}) == kept);
    fs::remove_all(output / "checkpoint-5");
  }
  saved(output, 5);
  saved(output, 5);  // our own is replaced
  REQUIRE(prune_checkpoints(output.path(), 1));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-5", "checkpoint-5.foreign", "checkpoint-5.foreign-2"});
}

TEST_CASE(
    "what a broken-off save left goes, but not the folder that somebody goes on from, and nothing that was replaced") {
  const Output output;
  saved(output, 3);
  for (const char* left : {"checkpoint-4.unfinished", "checkpoint-5.unfinished", "checkpoint-3.replaced"}) {
    fs::create_directory(output / left);
  }
  REQUIRE(remove_unfinished_saves(output.path(), (output / "checkpoint-5.unfinished/").string()));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-3", "checkpoint-3.replaced", "checkpoint-5.unfinished"});
  REQUIRE(remove_unfinished_saves(output.path(), "true"));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-3", "checkpoint-3.replaced"});
  CHECK(remove_unfinished_saves((output / "nowhere").string(), ""));
}

TEST_CASE("one whose replacement did not get its name is still found") {
  const Output output;
  fs::rename(saved(output, 5), output / "checkpoint-5.replaced");
  CHECK((*find_last_checkpoint(output.path()))->folder == (output / "checkpoint-5.replaced").string());
  REQUIRE(prune_checkpoints(output.path(), 1));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-5.replaced"});
  saved(output, 5);
  REQUIRE(prune_checkpoints(output.path(), 1));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-5"});
}

TEST_CASE("a checkpoint that cannot be read now is no damaged one") {
  const Output output;
  saved(output, 1);
  const fs::path newest = saved(output, 2);
  fs::remove(newest / "model.safetensors");
  fs::create_symlink("/proc/self/mem", newest / "model.safetensors");  // address 0 is nobody's: EIO, as of a disk
  const auto found = find_last_checkpoint(output.path());
  REQUIRE_FALSE(found);
  CHECK(found.error().code == std::errc::io_error);
}

TEST_CASE("what cannot be written is told, leaves nothing and harms nothing") {
  const Output output;
  saved(output, 1);
  std::ofstream(output / "file") << "no folder";
  const auto failed = save_checkpoint((output / "file").string(), state_of(2));
  REQUIRE_FALSE(failed);
  CHECK_THAT(to_string(failed.error()), Catch::Contains("--output_dir: ") && Catch::Contains("Not a directory"));
  CHECK(load_checkpoint((output / "checkpoint-1").string()));
}

TEST_CASE("an output_dir that is a file, or in which nothing can be made, is told so") {
  const Output output;
  std::ofstream(output / "file") << "no folder";
  const std::string file = (output / "file").string();
  CHECK(to_string(newest_checkpoint_name(file).error()) ==
        file + ": --output_dir: is a file, and a folder is wanted\n   hint: name another one");
  const bool is_root = ::geteuid() == 0;  // which may write everywhere
  fs::permissions(output.path(), fs::perms(0555));
  if (is_root) REQUIRE(::seteuid(65534) == 0);
  const auto prepared = prepare_output(output.path());
  if (is_root) REQUIRE(::seteuid(0) == 0);
  fs::permissions(output.path(), fs::perms(0755));
  REQUIRE_FALSE(prepared);
  CHECK(to_string(prepared.error()) == output.path() + ": --output_dir: make a folder in it: Permission denied");
}

TEST_CASE("the writer keeps as many as it is told, in the background, and counts what failed") {
  const Output output;
  std::vector<std::string> told;
  CheckpointWriter writer((output / "run").string(), 2, [&](const Error& error) { told.push_back(to_string(error)); });
  for (const std::uint64_t step : {1U, 2U, 3U}) writer.save(state_of(step));
  REQUIRE(writer.finish());
  CHECK(writer.last() == (output / "run/checkpoint-3").string());
  CHECK(fs::exists(output / "run/checkpoint-2"));
  CHECK_FALSE(fs::exists(output / "run/checkpoint-1"));
  CHECK(told.empty());

  fs::rename(output / "run", output / "moved");
  std::ofstream(output / "run") << "in the way";
  writer.save(state_of(4));
  const auto finished = writer.finish();
  REQUIRE_FALSE(finished);
  CHECK(finished.error().what == "1 of 4 checkpoints could not be written");
  CHECK(finished.error().code == std::errc::not_a_directory);
  REQUIRE(told.size() == 1);
  CHECK_THAT(told.front(), Catch::Contains("Not a directory"));
}

TEST_CASE("the best checkpoint and the newest are never removed") {
  const Output output;
  for (const std::uint64_t step : {10, 20, 30, 40, 50}) saved(output, step);
  REQUIRE(prune_checkpoints(output.path(), 3, 20));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-20", "checkpoint-40", "checkpoint-50"});
  REQUIRE(prune_checkpoints(output.path(), 1, 20));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-20", "checkpoint-50"});
  REQUIRE(prune_checkpoints(output.path(), 1, 50));
  CHECK(output.names() == std::vector<std::string>{"checkpoint-50"});
}

TEST_CASE("the writer says whether the last one is on the disk, and keeps the best") {
  const Output output;
  std::vector<std::string> said;
  CheckpointWriter writer(output.path(), 1, [&](const Error& error) { said.push_back(to_string(error)); });
  CHECK(writer.settle());
  TrainingState state = state_of(10);
  state.course.best = BestModel{.metric = 0.5, .step = 10, .checkpoint = "x"};
  writer.save(state);
  CHECK(writer.settle());
  for (const std::uint64_t step : {20, 30}) {
    state.step = step;
    writer.save(state);
  }
  CHECK(writer.settle());
  CHECK(output.names() == std::vector<std::string>{"checkpoint-10", "checkpoint-30"});
  std::ofstream(output / "checkpoint-40") << "a file, which no folder can take the name of";
  state.step = 40;
  writer.save(state);
  CHECK_FALSE(writer.settle());
  CHECK(writer.settle());  // said once
  CHECK(said.size() == 1);
}

TEST_CASE("a checkpoint for which there is no memory or no thread counts as not written") {
  const Output output;
  std::vector<Error> told;
  const auto keep = [&](const Error& error) { told.push_back(error); };
  CheckpointWriter forgetful(
      output.path(), 0, keep,
      [](const std::string&, const TrainingState&) -> Result<std::string> { throw std::bad_alloc(); });
  forgetful.save(state_of(1));
  CHECK_FALSE(forgetful.settle());
  REQUIRE(told.size() == 1);
  CHECK(told[0].what == "no memory to write it");
  CHECK(told[0].where == (output / "checkpoint-1").string());
  const auto ended = forgetful.finish();
  REQUIRE_FALSE(ended);
  CHECK(ended.error().what == "1 of 1 checkpoint could not be written");

  // Stacks that no address space has room for.
  pthread_attr_t usual;
  REQUIRE(::pthread_getattr_default_np(&usual) == 0);
  std::size_t stack = 0;
  REQUIRE(::pthread_attr_getstacksize(&usual, &stack) == 0);
  REQUIRE(::pthread_attr_setstacksize(&usual, std::size_t{1} << 60U) == 0);
  REQUIRE(::pthread_setattr_default_np(&usual) == 0);
  CheckpointWriter alone(output.path(), 0, keep);
  alone.save(state_of(2));
  REQUIRE(::pthread_attr_setstacksize(&usual, stack) == 0);
  REQUIRE(::pthread_setattr_default_np(&usual) == 0);
  ::pthread_attr_destroy(&usual);
  REQUIRE(told.size() == 2);
  CHECK_THAT(told[1].what, Catch::StartsWith("no thread can be started to write it: "));
  CHECK_FALSE(alone.settle());
  CHECK(alone.settle());  // said once
  CHECK_FALSE(alone.finish());
  alone.save(state_of(3));
  CHECK(alone.settle());
  CHECK(output.names() == std::vector<std::string>{"checkpoint-3"});
}

TEST_CASE("a checkpoint of before there was a file for what is ours is read") {
  const Output output;
  const fs::path folder = saved(output, 12);
  const std::string old =
      R"({"version": 1, "global_step": 12, "skipped_steps": 2, "epoch": 0.5, "seed": 7, "world_size": 4,
    "train_samples": 1000, "train_batch_size": 64, "steps_per_epoch": 16, "data_seed": 3, "dataloader_drop_last": true})";
  fs::remove(folder / "llmlaunch_state.json");
  std::ofstream(folder / "trainer_state.json") << old;
  std::ifstream in(folder / "checksums.json");
  auto checksums = nlohmann::json::parse(in);
  checksums.erase("llmlaunch_state.json");
  checksums["trainer_state.json"] = {{"bytes", old.size()}, {"sha256", *digest(as_bytes(old))}};
  std::ofstream(folder / "checksums.json") << checksums.dump();
  const auto loaded = load_checkpoint(folder.string());
  REQUIRE(loaded);
  CHECK(loaded->step == 12);
  CHECK(loaded->accounting == state_of(12).accounting);
  CHECK(loaded->parameters == state_of(12).parameters);
  CHECK_FALSE(loaded->optimizer);
}

}  // namespace trainer_checkpoint_test
