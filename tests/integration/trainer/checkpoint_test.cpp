// A job that goes on from a checkpoint is, bit for bit, the one that was never stopped; and every way in which it
// cannot go on has its words and its status.
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/integration/trainer/checkpoint_job.hpp"

namespace checkpoint_test {

using namespace llmlaunch;
using namespace llmlaunch::test;

TEST_CASE("killed and resumed, two ranks end with the bits of the run that nobody disturbed") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const std::string undisturbed = last_hash(finished_on_two(job("8", {}, kManyEpochs)));
  const Words saving = job("8",
                           {"--output_dir", output, "--save_strategy", "steps", "--save_steps", "5",
                            "--save_total_limit", "2", "--loss_file", folder.file("losses")},
                           kManyEpochs);
  {
    const ServedRendezvous served({"alpha", "beta"});
    Ranks ranks = start_ranks(served, 2, saving);
    wait_for_folder(output + "/checkpoint-15");  // in the second epoch
    for (auto& rank : ranks) rank->kill(SIGKILL);
    for (auto& rank : ranks) REQUIRE(rank->wait() == 128 + SIGKILL);
  }
  const std::string said = finished_on_two(with(saving, {"--resume_from_checkpoint", "true"}));
  CHECK_THAT(said, Catch::Contains("goes on after step ") && !Catch::Contains("step 15" + kOfSteps));
  CHECK(last_hash(said) == undisturbed);
  CHECK(names_in(output) ==
        std::vector<std::string>{"checkpoint-" + std::to_string(kSteps - 5), "checkpoint-" + std::to_string(kSteps)});
  CHECK(losses_in(folder.file("losses")).size() == kSteps);  // each step once, in order
}

TEST_CASE("the best model of a job that goes on elsewhere is its own, and another job's folder is refused") {
  const TemporaryFolder folder;
  const Words saving =
      job("16", {"--save_strategy", "steps", "--save_steps", "2", "--eval_strategy", "steps", "--eval_steps", "2",
                 "--metric_for_best_model", "loss", "--greater_is_better", "true"});
  const auto into = [&](const char* name, const Words& more) {
    return with(saving, with({"--output_dir", folder.file(name)}, more));
  };
  finished_alone(into("first", {"--max_steps", "4"}));
  finished_alone(into("other", {"--max_steps", "2"}));
  const std::string checkpoint = folder.file("first") + "/checkpoint-4";
  const std::string best = state_in(folder.file("first"), 4).at("best_model_checkpoint");
  ChildProcess refused(command(into("other", {"--max_steps", "6", "--resume_from_checkpoint", checkpoint})), kAlone);
  CHECK(refused.wait() == 78);
  CHECK_THAT(refused.output(),
             Catch::Contains("error: " + folder.file("other") + "/checkpoint-2: holds checkpoints, and " + checkpoint +
                             " is of another job"));
  CHECK(names_in(folder.file("other")) == std::vector<std::string>{"checkpoint-2"});
  // Into a new folder it goes on, and the best one stays where it is; a slash at the end is no other name.
  finished_alone(into("new", {"--max_steps", "6", "--resume_from_checkpoint", checkpoint + "/"}));
  const auto state = state_in(folder.file("new"), 6);
  CHECK((state.at("best_global_step") == 6 || state.at("best_model_checkpoint") == best));
  // In its own folder by another way to it.
  finished_alone(
      into("first", {"--max_steps", "6", "--resume_from_checkpoint", folder.file("new/../first/checkpoint-4")}));
}

// By the greatest loss the first test's is the best, surely, and by the least the last one's.
TEST_CASE("save_strategy best keeps the best test's step, through a SIGTERM and the job that goes on") {
  const TemporaryFolder folder;
  const auto saving = [&](const char* name, const Words& more) {
    return job("16",
               with({"--output_dir", folder.file(name), "--save_strategy", "best", "--eval_strategy", "epoch",
                     "--metric_for_best_model", "loss"},
                    more),
               kManyEpochs);
  };
  const Words first_is_best = {"--greater_is_better", "true"};
  const std::string whole = finished_alone(saving("first", first_is_best));
  CHECK_THAT(whole, Catch::Contains("saved is the best model, that of step 12: " + folder.file("first/checkpoint-12")));
  CHECK(names_in(folder.file("first")) == std::vector<std::string>{"checkpoint-12"});
  // Each epoch is better than the one before, and only the last one is kept.
  finished_alone(with(saving("least", {"--save_total_limit", "1"}), {"--max_steps", "36"}));
  CHECK(names_in(folder.file("least")) == std::vector<std::string>{"checkpoint-36"});

  ChildProcess run(command(saving("stopped", first_is_best)), kAlone);
  REQUIRE(run.wait_for("step 15/"));
  run.kill(SIGTERM);
  CHECK(run.wait() == 128 + SIGTERM);
  const auto left = names_in(folder.file("stopped"));
  REQUIRE(left.size() == 2);  // the best, and where the job goes on
  CHECK(left[0] == "checkpoint-12");
  const std::string resumed = finished_alone(
      saving("stopped", with(first_is_best, {"--resume_from_checkpoint", "true", "--load_best_model_at_end"})));
  CHECK_THAT(resumed,
             Catch::Contains("goes on after step " + left[1].substr(11)) &&
                 Catch::Contains("the best model is that of step 12: " + folder.file("stopped/checkpoint-12")));
  CHECK(names_in(folder.file("stopped")) == left);
  CHECK(last_hash(resumed) == last_hash(whole));
}

TEST_CASE("the best model by another metric no longer counts") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const auto saving = [&](const Words& more) {
    return with(job("16", {"--output_dir", output, "--save_strategy", "steps", "--save_steps", "2", "--eval_strategy",
                           "steps", "--eval_steps", "2"}),
                more);
  };
  finished_alone(saving({"--max_steps", "4", "--metric_for_best_model", "loss"}));
  const int best = state_in(output, 4).at("best_global_step");
  const std::string said = finished_alone(
      saving({"--max_steps", "6", "--metric_for_best_model", "accuracy", "--resume_from_checkpoint", "true"}));
  CHECK_THAT(said,
             Catch::Contains("warning: " + output + "/checkpoint-4: the best model, of step " + std::to_string(best) +
                             ", was that with the least eval_loss, and is sought by the greatest eval_accuracy "
                             "now: it no longer counts"));
  const auto state = state_in(output, 6);
  CHECK(state.at("best_global_step") == 6);  // the only one that was tested since
  CHECK(state.at("best_metric").get<double>() <= 1);
  CHECK_THAT(finished_alone(saving(
                 {"--max_steps", "8", "--metric_for_best_model", "eval_accuracy", "--resume_from_checkpoint", "true"})),
             !Catch::Contains("no longer counts"));
}

TEST_CASE("a job of very many steps and batches to each has batches") {
  // Their product is 2^64. The rate ends it.
  ChildProcess run(command(with(kShort, {"--max_steps", "34359738368", "--gradient_accumulation_steps", "536870912",
                                         "--learning_rate", "1e30"})),
                   kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 65);
}

TEST_CASE("half precision goes on with its loss's scale, and without the steps that overflowed") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  // Batches of one image have large gradients.
  const Words saving = {"--train_samples",
                        "320",
                        "--eval_samples",
                        "8",
                        "--model",
                        "mlp",
                        "--fp16",
                        "--max_steps",
                        "12",
                        "--per_device_train_batch_size",
                        "1",
                        "--lr_scheduler_type",
                        "linear",
                        "--output_dir",
                        output,
                        "--save_strategy",
                        "steps",
                        "--save_steps",
                        "4"};
  const std::string whole = finished_alone(saving);
  REQUIRE_THAT(whole, Catch::Contains("the gradient overflowed; the step is skipped, and losses are scaled by 32768"));
  const auto own_state = [&](int step) {
    std::ifstream in(output + "/checkpoint-" + std::to_string(step) + "/llmlaunch_state.json");
    REQUIRE(in);
    return nlohmann::json::parse(in);
  };
  const nlohmann::json scale = own_state(12).at("loss_scale");
  CHECK(scale.at("factor") <= 32768);
  CHECK(scale.at("skipped_steps") >= 1);
  REQUIRE(own_state(8).at("loss_scale").at("skipped_steps") >= 1);
  CHECK(last_hash(finished_alone(with(saving, {"--resume_from_checkpoint", output + "/checkpoint-8"}))) ==
        last_hash(whole));
  CHECK(own_state(12).at("loss_scale") == scale);
}

TEST_CASE("a course that is left does not come back, and neither does its file of losses") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const std::string file = folder.file("losses");
  const Words saving = job("16", {"--output_dir", output, "--save_strategy", "steps", "--save_steps", "10",
                                  "--save_total_limit", "3", "--loss_file", file});
  const std::string undisturbed = last_hash(finished_alone(saving));
  REQUIRE(losses_in(file).size() == 24);
  const std::string said = finished_alone(with(saving, {"--resume_from_checkpoint", output + "/checkpoint-10"}));
  CHECK_THAT(said, Catch::Contains("warning: later checkpoints are renamed, for training goes on from step 10: " +
                                   output + "/checkpoint-20.set-aside, " + output + "/checkpoint-24.set-aside"));
  CHECK(last_hash(said) == undisturbed);
  CHECK(losses_in(file).size() == 24);
  // A job that is refused changes nothing.
  ChildProcess refused(command(saving), kAlone);
  CHECK(refused.wait() == 78);
  CHECK(losses_in(file).size() == 24);
}

TEST_CASE("a damaged checkpoint is passed over aloud, and the one before it leads to the same bits") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words saving = job("16", {"--output_dir", output, "--save_strategy", "steps", "--save_steps", "10"});
  const std::string undisturbed = last_hash(finished_alone(saving));
  REQUIRE(names_in(output) == std::vector<std::string>{"checkpoint-10", "checkpoint-20", "checkpoint-24"});
  std::filesystem::remove_all(output + "/checkpoint-24");
  std::filesystem::resize_file(output + "/checkpoint-20/model.safetensors", 1'000'000);
  const std::string said = finished_alone(with(saving, {"--resume_from_checkpoint", "true"}));
  CHECK_THAT(said,
             Catch::Contains("warning: " + output + "/checkpoint-20/model.safetensors: is damaged: 1000000 bytes") &&
                 Catch::Contains("; passed over") && Catch::Contains("goes on after step 10"));
  CHECK(last_hash(said) == undisturbed);
}

TEST_CASE("another number of ranks goes on in the middle of an epoch to the losses of the job that nobody disturbed") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const auto saving = [&](const std::string& batch, const std::string& losses, const Words& more) {
    return job(batch, with({"--output_dir", output, "--save_strategy", "steps", "--save_steps", "5", "--loss_file",
                            folder.file(losses)},
                           more));
  };
  finished_alone(saving("16", "undisturbed", {}));
  std::filesystem::copy_file(folder.file("undisturbed"), folder.file("resumed"));
  const std::string said =
      finished_on_two(saving("8", "resumed", {"--resume_from_checkpoint", output + "/checkpoint-5"}));
  CHECK_THAT(said, Catch::Contains("goes on after step 5"));
  const auto undisturbed = losses_in(folder.file("undisturbed"));
  const auto resumed = losses_in(folder.file("resumed"));
  REQUIRE(undisturbed.size() == 24);
  REQUIRE(resumed.size() == 24);
  for (std::size_t step = 0; step < resumed.size(); ++step) {
    CAPTURE(step, undisturbed[step], resumed[step]);
    CHECK(std::abs(undisturbed[step] - resumed[step]) <= 1e-4);
  }
  CHECK(resumed[5] != undisturbed[5]);  // two ranks add up otherwise: those lines are new
}

TEST_CASE("the MLP, too, goes on to the bits of the run that nobody disturbed") {
  const TemporaryFolder folder;
  const Words saving = {"--model", "mlp", "--output_dir", folder.file("run"), "--save_strategy", "epoch"};
  const std::string undisturbed = last_hash(finished_alone(job("16", saving)));
  std::filesystem::remove_all(folder.file("run/checkpoint-24"));
  const std::string said = finished_alone(job("16", with(saving, {"--resume_from_checkpoint", "true"})));
  CHECK_THAT(said, Catch::Contains("goes on after step 12"));
  CHECK(last_hash(said) == undisturbed);
}

TEST_CASE("three ranks, whose sums depend on how they are cut, have the same bits each time, also when they go on") {
  const bool share = GENERATE(true, false);
  REQUIRE(::setenv(env::kShmDisable, share ? "0" : "1", 1) == 0);
  const TemporaryFolder folder;
  const std::vector<std::string> hosts = {"alpha", "beta", "gamma"};
  const Words saving = {"--model", "mlp", "--output_dir", folder.file("run"), "--save_strategy", "epoch"};
  const std::string undisturbed = last_hash(finished_on(hosts, job("8", saving)));
  if (!LLMLAUNCH_SANITIZED) CHECK(last_hash(finished_on(hosts, job("8", {"--model", "mlp"}))) == undisturbed);
  std::filesystem::remove_all(folder.file("run/checkpoint-16"));
  const std::string said = finished_on(hosts, job("8", with(saving, {"--resume_from_checkpoint", "true"})));
  CHECK_THAT(said, Catch::Contains("goes on after step 8") && !Catch::Contains("warning") &&
                       Catch::Contains(share ? "shared memory, gloo on" : "3 ranks, gloo on"));
  CHECK(last_hash(said) == undisturbed);
  // What may change the last bits is told.
  REQUIRE(::setenv(env::kShmDisable, share ? "1" : "0", 1) == 0);
  const Words more = with(saving, {"--resume_from_checkpoint", "true", "--threads", "2"});
  CHECK_THAT(finished_on(hosts, job("8", more, "3")),
             Catch::Contains(", 2 threads) and was cpu (oneDNN") &&
                 Catch::Contains(share ? "what averages is gloo and was shared memory, gloo"
                                       : "what averages is shared memory, gloo and was gloo"));
  REQUIRE(::unsetenv(env::kShmDisable) == 0);
}

TEST_CASE("what a job cannot go on from is one message and a status") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words saving = {"--output_dir", output, "--save_strategy", "epoch", "--max_steps", "12"};
  finished_alone(job("16", saving));
  struct Row {
    Words flags;
    int status;
    std::string said;
  };
  const Words resuming = with(saving, {"--resume_from_checkpoint", "true"});
  const std::vector<Row> rows = {
      {job("16", saving), 78, output + "/checkpoint-12: holds checkpoints of an earlier job\n   hint: --resume_from"},
      {job("32", resuming), 78, "the number of images per step was 16 and is 32, so that images would be seen twice"},
      {with(job("16", resuming), {"--data_seed", "9"}), 78,
       "the seed of the images' order (--data_seed, else --seed) was 3 and is 9"},
      {with(job("16", resuming), {"--dataloader_drop_last"}), 78, "the number of steps per epoch was 12 and is 11"},
      {with(job("16", resuming), {"--model", "mlp"}), 78,
       output + "/checkpoint-12: is of model basicnet, and --model is mlp\n   hint: go on with --model basicnet, or"},
      {job("16", {"--resume_from_checkpoint", output + "/none"}), 66, output + "/none: no such checkpoint"},
      {job("16", {"--resume_from_checkpoint", output}), 78,
       output + ": is an output_dir and no checkpoint; its last checkpoint is " + output +
           "/checkpoint-12\n   hint: write --resume_from_checkpoint " + output + "/checkpoint-12, or --output_dir " +
           output + " --resume_from_checkpoint true"},
      {job("16", {"--resume_from_checkpoint", folder.file(".")}), 78, "/checksums.json: is missing"},
      {job("16", {"--save_strategy", "steps"}), 64, "--save_strategy needs --output_dir"},
      {job("16", {"--resume_from_checkpoint", "true"}), 64, "--resume_from_checkpoint true needs --output_dir"},
  };
  for (const Row& row : rows) {
    ChildProcess run(command(row.flags), kAlone);
    const int status = run.wait();
    INFO(run.output());
    CHECK(status == row.status);
    CHECK_THAT(run.output(), Catch::Contains("llmlaunch-train: error: ") && Catch::Contains(row.said));
  }
  const std::string part = output + "/checkpoint-12/checksums.json";
  std::filesystem::remove(part);
  const std::string half = part + ": is missing, which is written last: it was copied in part, or is another program's";
  const std::string file = folder.file("file/checkpoint-1");
  std::filesystem::create_directory(folder.file("file"));
  std::ofstream(file) << "x";
  const std::string empty = folder.file("empty/checkpoint-1");
  std::filesystem::create_directories(empty);
  const std::string anew =
      "\n   hint: no other checkpoint here is whole; without these, or in another --output_dir, the job starts anew";
  const std::string newest =
      "\n   hint: --resume_from_checkpoint true takes the newest one of output_dir that is whole";
  const std::vector<Row> none = {
      {job("16", resuming), 78, half + anew},
      {job("16", {"--output_dir", folder.file("file"), "--resume_from_checkpoint", "true"}), 78,
       file + ": is no checkpoint, which is a folder" + anew},
      {job("16", {"--output_dir", folder.file("empty"), "--resume_from_checkpoint", "true"}), 78,
       empty + ": is no checkpoint: the folder is empty" + anew},
      {job("16", {"--resume_from_checkpoint", output + "/checkpoint-12"}), 78, half + newest},
      {job("16", {"--resume_from_checkpoint", file}), 78, file + ": is no checkpoint, which is a folder" + newest},
      {job("16", {"--resume_from_checkpoint", empty}), 78, empty + ": is no checkpoint: the folder is empty" + newest},
  };
  for (const Row& row : none) {
    ChildProcess run(command(row.flags), kAlone);
    const int status = run.wait();
    INFO(run.output());
    CHECK(status == row.status);
    CHECK_THAT(run.output(), Catch::Contains("llmlaunch-train: error: ") && Catch::Contains(row.said));
  }
  CHECK_THAT(finished_alone(job("16", {"--output_dir", folder.file("new"), "--save_strategy", "epoch",
                                       "--resume_from_checkpoint", "true", "--max_steps", "1"})),
             Catch::Contains("no checkpoint yet: training starts anew"));
}

TEST_CASE("a job whose rank 0 is on another host than before does not start anew beside its checkpoints") {
  // Each host has a home of its own, and the second one the checkpoints.
  const TemporaryFolder folder;
  for (const char* home : {"a", "b"}) std::filesystem::create_directory(folder.file(home));
  const Words first = {"--output_dir", folder.file("b/run"), "--save_strategy", "epoch", "--max_steps", "2"};
  finished_alone(with(job("16", first), {"--model", "mlp"}));
  ServedRendezvous served({"gpu01", "gpu02"});
  Ranks ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    auto environment = served.environment(rank);
    environment["HOME"] = folder.file(rank == 0 ? "a" : "b");
    ranks.push_back(std::make_unique<ChildProcess>(
        command(with(job("8", {"--output_dir", "~/run", "--save_strategy", "epoch", "--max_steps", "4"}),
                     {"--model", "mlp", "--resume_from_checkpoint", "true"})),
        environment));
  }
  const std::string said = told_by_rank_0(served, ranks, 78);
  CHECK_THAT(said, Catch::Contains("error: " + folder.file("a/run") + ": has no checkpoint on gpu01, where rank 0 is " +
                                   "now, and " + folder.file("b/run/checkpoint-2") + " is on gpu02 (rank 1)\n" +
                                   "   hint: list gpu02 first"));
  CHECK_FALSE(std::filesystem::exists(folder.file("a/run/checkpoint-4")));
}

TEST_CASE("a folder that cannot be made is found before the first step, and rank 0's words come first") {
  const TemporaryFolder folder;
  const std::string file = folder.file("a-file");
  std::ofstream(file) << "no folder";
  ServedRendezvous served({"alpha", "beta"});
  Ranks ranks = start_ranks(served, 2, job("8", {"--output_dir", file}));
  CHECK_THAT(told_by_rank_0(served, ranks, 74),
             Catch::Contains("error: " + file + ": --output_dir: ") && !Catch::Contains("step 1/"));
}

TEST_CASE("a job whose steps are all done says so") {
  const TemporaryFolder folder;
  const Words saving = job("16", {"--output_dir", folder.file("run"), "--max_steps", "3"});
  finished_alone(saving);
  CHECK_THAT(finished_alone(with(saving, {"--resume_from_checkpoint", "true"})),
             Catch::Contains("nothing is left to train: 3 of 3 steps are done"));
}

TEST_CASE("where checkpoints cannot be written training goes on, loudly, and the status says so") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  // Files end at 1 MB here, as on a disk that is full by then.
  Words words = {"/bin/sh", "-c", "ulimit -f 1000; exec \"$@\"", "sh"};
  const Words program = command(job("16", {"--output_dir", output, "--save_strategy", "steps", "--save_steps", "10"}));
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 74);
  CHECK_THAT(run.output(), Catch::Contains("warning: " + output +
                                           "/checkpoint-10.unfinished/model.safetensors: write: File "
                                           "too large; training goes on") &&
                               Catch::Contains("test accuracy") &&
                               Catch::Contains("3 of 3 checkpoints could not be written"));
  CHECK(names_in(output).empty());
}

}  // namespace checkpoint_test
