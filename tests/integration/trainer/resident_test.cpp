// --cuda_graph without a GPU: the loop that launches steps and looks at them now and then, with the host in the
// device's place. It has to be the ordinary loop, bit for bit, wherever somebody can see it.
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <regex>

#include "tests/integration/trainer/train_program.hpp"

namespace resident_test {

using namespace llmlaunch;
using namespace llmlaunch::test;

namespace {

const char* const kSaid = "--cuda_graph: no GPU here; the host takes the steps of its loop\n";

// 75 full batches of 8 and one of 3 an epoch on one rank: more steps than may be in flight, and an end of another
// size.
const Words kJob = {"--train_samples", "603", "--eval_samples",      "20",    "--model", "mlp", "--seed", "3",
                    "--warmup_steps",  "10",  "--lr_scheduler_type", "linear"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Words job(const std::string& batch, const Words& more, const std::string& logging = "50",
          const std::string& epochs = "2") {
  return with(
      with(kJob, {"--per_device_train_batch_size", batch, "--logging_steps", logging, "--num_train_epochs", epochs}),
      more);
}

std::string finished(std::size_t count, const Words& flags) {
  if (count == 1) {
    ChildProcess run(command(flags), kAlone);
    const int status = run.wait();
    INFO(run.output());
    REQUIRE(status == 0);
    return run.output();
  }
  const ServedRendezvous served(std::vector<std::string>(count, "alpha"));
  Ranks ranks = start_ranks(served, count, flags);
  for (auto& rank : ranks) {
    const int status = rank->wait();
    INFO(rank->output());
    REQUIRE(status == 0);
  }
  return ranks[0]->output();
}

/// Without what says how fast it was.
std::string story(const std::string& output) {
  return std::regex_replace(output, std::regex(R"( \([0-9]+ samples/s\))"), "");
}

std::string without(std::string text, const std::string& line) {
  const std::size_t begin = text.find(line);
  REQUIRE(begin != std::string::npos);
  return text.erase(begin, line.size());
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// What was logged and tested, without what says how fast.
nlohmann::json history_in(const std::string& path) {
  auto records = nlohmann::json::parse(bytes_of(path)).at("log_history");
  for (auto& record : records) {
    for (const char* speed : {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "samples_per_second"})
      record.erase(speed);
  }
  return records;
}

}  // namespace

TEST_CASE("steps that are launched and looked at later are those of the ordinary loop, bit for bit") {
  const std::size_t ranks = GENERATE(1, 2);
  CAPTURE(ranks);
  const TemporaryFolder folder;
  const auto flags = [&](const std::string& name, const Words& more) {
    return job(ranks == 1 ? "8" : "4",
               with({"--loss_file", folder.file(name + ".losses"), "--output_dir", folder.file(name), "--save_steps",
                     "35", "--eval_strategy", "steps", "--eval_steps", "90"},
                    more));
  };
  const std::string ordinary = finished(ranks, flags("ordinary", {}));
  const std::string resident = finished(ranks, flags("resident", {"--cuda_graph"}));
  CHECK(without(story(resident), kSaid) == story(ordinary));
  CHECK(bytes_of(folder.file("resident.losses")) == bytes_of(folder.file("ordinary.losses")));
  CHECK(losses_in(folder.file("resident.losses")).size() == 152);
  std::size_t compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder.file("ordinary"))) {
    if (!entry.is_directory()) continue;  // the lock
    for (const char* file : {"model.safetensors", "optimizer.safetensors"}) {
      const auto name = entry.path().filename() / file;
      CAPTURE(name);
      CHECK(bytes_of(folder.file("resident/" + name.string())) == bytes_of((entry.path() / file).string()));
      ++compared;
    }
  }
  const auto records = history_in(folder.file("ordinary/checkpoint-152/trainer_state.json"));
  CHECK(history_in(folder.file("resident/checkpoint-152/trainer_state.json")) == records);
  REQUIRE(records.size() > 5);
  // What a line tells is the mean since the last one, of steps of either kind.
  const auto losses = losses_in(folder.file("ordinary.losses"));
  std::size_t before = 0;
  for (const auto& record : records) {
    if (!record.contains("loss")) continue;
    const auto step = record.at("step").get<std::size_t>();
    const double sum = std::accumulate(losses.begin() + static_cast<std::ptrdiff_t>(before),
                                       losses.begin() + static_cast<std::ptrdiff_t>(step), 0.0);
    CHECK(record.at("loss").get<double>() == Approx(sum / static_cast<double>(step - before)).epsilon(1e-9));
    before = step;
  }
  CHECK(before == 152);
  CHECK(records[2].contains("grad_norm"));
  CHECK(compared == 2 * (152 / 35 + 1));
}

TEST_CASE("where nobody looks earlier, no more steps are in flight than may be, and the losses are all there") {
  const TemporaryFolder folder;
  std::vector<std::string> hashes;
  for (const Words& more : {Words{}, Words{"--cuda_graph"}}) {
    const std::string name = folder.file(more.empty() ? "ordinary" : "resident");
    const std::string output = finished(1, job("8", with({"--loss_file", name}, more), "1000"));
    hashes.push_back(parameter_hash(output.substr(output.rfind("parameter hash "))));
  }
  CHECK(hashes[0] == hashes[1]);
  CHECK(bytes_of(folder.file("ordinary")) == bytes_of(folder.file("resident")));
}

TEST_CASE("a job goes on in the middle of an epoch, from either loop's checkpoint by the other") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words saving = job("8", {"--output_dir", output, "--save_steps", "100"});
  const auto last_hash = [](const std::string& text) {
    return parameter_hash(text.substr(text.rfind("parameter hash ")));
  };
  const std::string undisturbed = last_hash(finished(1, with(saving, {"--cuda_graph"})));
  const Words from = {"--resume_from_checkpoint", output + "/checkpoint-100"};
  CHECK(last_hash(finished(1, with(saving, from))) == undisturbed);
  CHECK(last_hash(finished(1, with(with(saving, from), {"--cuda_graph"}))) == undisturbed);
}

TEST_CASE("a loss that is no number is told with its own step, however many steps were launched behind it") {
  // The first step has rate 0, the second is wild, and those after it are resident.
  const Words ordinary_wild = {"--train_samples",
                               "603",
                               "--eval_samples",
                               "10",
                               "--model",
                               "mlp",
                               "--per_device_train_batch_size",
                               "8",
                               "--logging_steps",
                               "1000",
                               "--learning_rate",
                               "1e38",
                               "--warmup_steps",
                               "10"};
  const Words wild = with(ordinary_wild, {"--cuda_graph"});
  ChildProcess ordinary(command(ordinary_wild), kAlone);
  REQUIRE(ordinary.wait() == 65);
  REQUIRE_THAT(ordinary.output(), !Catch::Contains("error: step 2:"));
  ChildProcess alone(command(wild), kAlone);
  CHECK(alone.wait() == 65);
  CHECK(without(alone.output(), kSaid) == ordinary.output());

  ServedRendezvous served({"alpha", "beta"});
  const TemporaryFolder folder;
  Ranks ranks = start_ranks(served, 2, with(wild, {"--output_dir", folder.file("run"), "--save_steps", "40"}));
  CHECK_THAT(told_by_rank_0(served, ranks, 65),
             Catch::Contains("error: rank 0 on alpha: step 4: the loss is not a number\n"));
  CHECK_FALSE(std::filesystem::exists(folder.file("run") + "/checkpoint-40"));

  ChildProcess going_on(command(with(wild, {"--on_nan", "continue"})), kAlone);
  CHECK(going_on.wait() == 65);
}

TEST_CASE("a SIGTERM is noticed at the next look, and both ranks save the same step") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words saving = job("4", {"--output_dir", output, "--save_strategy", "epoch", "--cuda_graph"}, "20", "400");
  const ServedRendezvous served({"alpha", "beta"});
  Ranks ranks = start_ranks(served, 2, saving);
  REQUIRE(ranks[0]->wait_for("step 20/"));
  ranks[1]->kill(SIGTERM);
  for (auto& rank : ranks) {
    const int status = rank->wait();
    INFO(rank->output());
    CHECK(status == 128 + SIGTERM);
  }
  CHECK_THAT(ranks[0]->output(), Catch::Contains("stopped by SIGTERM to rank 1 on beta after step "));
}

}  // namespace resident_test
