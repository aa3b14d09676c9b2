// What happens to people: the same line twice at once, a stdout that takes nothing, more images than memory, a flag
// whose variable is not set, a checkpoint on its way when the loss breaks. Each has its words and its status.
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/integration/trainer/train_program.hpp"
#include "tests/support/sanitized.hpp"

namespace mishaps_test {

using namespace llmlaunch;
using namespace llmlaunch::test;

namespace {

// Ten steps an epoch.
const Words kSmall = {"--train_samples", "600", "--eval_samples", "200", "--threads", "1", "--model", "mlp"};

Words small(const Words& more) {
  Words words = kSmall;
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

struct Ended {
  int status;
  std::string said;
};

Ended ended(const Words& flags) {
  ChildProcess run(command(flags), kAlone);
  const int status = run.wait();
  return {status, run.output()};
}

/// `redirections` as the shell writes them.
Ended ended_with(const std::string& redirections, const Words& flags) {
  Words words = {"/bin/sh", "-c", "exec \"$@\" " + redirections, "sh"};
  const Words program = command(flags);
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  return {status, run.output()};
}

std::string text_in(const std::string& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("a second job in the same output_dir ends with 75 and names the first, which goes on") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words line = small({"--output_dir", output, "--resume_from_checkpoint", "true", "--save_steps", "10",
                            "--logging_steps", "1", "--num_train_epochs", "100000"});
  ChildProcess first(command(line), kAlone);
  REQUIRE(first.wait_for("step 1/"));
  const Ended second = ended(line);
  INFO(second.said);
  CHECK(second.status == 75);
  CHECK_THAT(second.said,
             Catch::StartsWith("llmlaunch-train: error: " + output + ": another job is at work here: pid " +
                               std::to_string(first.pid()) + " on ") &&
                 Catch::Contains("hint: wait for its end, or give this one another --output_dir"));
  // Another folder is free, and so is this one when the job has gone, however it went.
  CHECK(ended(small({"--output_dir", folder.file("other"), "--max_steps", "1"})).status == 0);
  first.kill(SIGKILL);
  CHECK(first.wait() == 128 + SIGKILL);
  const Ended third = ended(small({"--output_dir", output, "--resume_from_checkpoint", "true", "--max_steps", "1"}));
  INFO(third.said);
  CHECK(third.status == 0);
}

TEST_CASE("of a job of two ranks rank 0 holds the folder, and the second job ends with its words") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words line = small({"--output_dir", output, "--logging_steps", "1", "--num_train_epochs", "100000"});
  const ServedRendezvous served({"alpha", "beta"});
  Ranks first = start_ranks(served, 2, line);
  REQUIRE(first[0]->wait_for("step 1/"));
  const ServedRendezvous other({"gamma", "delta"});
  Ranks second = start_ranks(other, 2, line);
  CHECK(second[0]->wait() == 75);
  CHECK_THAT(second[0]->output(), Catch::Contains("another job is at work here: pid " +
                                                  std::to_string(first[0]->pid()) + " on alpha, since "));
}

TEST_CASE("a stdout that takes nothing costs its lines and the status, not the training") {
  const TemporaryFolder folder;
  const std::string losses = folder.file("losses");
  for (const auto& [redirection, reason] : std::vector<std::pair<std::string, std::string>>{
           {">/dev/full", "No space left on device"}, {">&-", "Bad file descriptor"}, {"<&- >&-", "Bad file"}}) {
    const Ended run = ended_with(redirection, small({"--loss_file", losses}));
    INFO(run.said);
    CHECK(run.status == 74);
    CHECK_THAT(run.said, Catch::StartsWith("llmlaunch-train: warning: stdout: write: " + reason) &&
                             Catch::Contains("error: stdout: write: " + reason) && Catch::Contains(" times)"));
    CHECK(losses_in(losses).size() == 10);  // and no line of the story among them
  }
}

TEST_CASE("a disk that is full later cuts no line in silence") {
  const TemporaryFolder folder;
  const std::string log = folder.file("log");
  Words words = {"/bin/sh", "-c", "ulimit -f 1; trap '' XFSZ; exec \"$@\" >>" + log, "sh"};
  const Words program = command(small({"--logging_steps", "1", "--num_train_epochs", "4"}));
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 74);
  CHECK_THAT(text_in(log), Catch::Contains("step 1/40"));
  CHECK_THAT(run.output(), Catch::Contains("warning: stdout: write: File too large; what is not printed is lost"));
}

TEST_CASE("answers that cannot be printed are no success") {
  const TemporaryFolder folder;
  for (const Words& flags : std::vector<Words>{
           {"--help"},
           {"--version"},
           {"--train_samples", "10", "--eval_samples", "10", "--export_dataset", folder.file("images")}}) {
    const Ended run = ended_with(">/dev/full", flags);
    INFO(run.said);
    CHECK(run.status == 74);
    CHECK_THAT(run.said, Catch::StartsWith("llmlaunch-train: error: stdout: write: No space left on device"));
  }
  CHECK(std::filesystem::exists(folder.file("images") + "/t10k-labels-idx1-ubyte"));
}

#if !LLMLAUNCH_SANITIZED
// Sanitizers end the process where memory is asked for that is not there.
TEST_CASE("more images than memory are a message with the bytes and 71") {
  for (const std::string flag : {"--train_samples", "--eval_samples"}) {
    const Ended run = ended({flag, "1000000000"});
    INFO(run.said);
    CHECK(run.status == 71);
    CHECK_THAT(run.said, Catch::StartsWith("llmlaunch-train: error: " + flag +
                                           " 1000000000: no memory for 785000000000 bytes of images"));
  }
}

TEST_CASE("memory that ends later is a message and 71, too") {
  // Enough for the program and the images, and not for what one pass over 20,000 of them takes.
  Words words = {"/bin/sh", "-c", "ulimit -v 900000; exec \"$@\"", "sh"};
  const Words program = command(
      {"--train_samples", "20000", "--eval_samples", "10", "--threads", "1", "--per_device_train_batch_size", "20000"});
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 71);
  CHECK_THAT(run.output(), Catch::Contains("memory"));
}

TEST_CASE("a thread for whose stack there is no room names the limit of memory, too") {
  Words words = {"/bin/sh", "-c", "ulimit -s 4000000; ulimit -v 900000; exec \"$@\"", "sh"};
  const Words program = command({"--max_steps", "1"});
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 71);
  CHECK_THAT(run.output(), Catch::StartsWith("llmlaunch-train: error: a thread cannot be made: ") &&
                               Catch::Contains("ulimit -u") && Catch::Contains("ulimit -v"));
}

// OpenMP would end the process itself, with 1.
TEST_CASE("compute threads for which there is no room are a message and 71") {
  Words words = {"/bin/sh", "-c", "ulimit -s 100000; ulimit -v 3000000; exec \"$@\"", "sh"};
  const Words program = command({"--threads", "64", "--model", "mlp", "--max_steps", "1"});
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 71);
  CHECK_THAT(run.output(), Catch::Contains("llmlaunch-train: error: compute thread ") &&
                               Catch::Contains(" of 64 cannot be started: ") && Catch::Contains("--threads"));
}
#endif

TEST_CASE("a loss that is not a number leaves the checkpoint before it whole") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Ended run = ended(small({"--output_dir", output, "--save_steps", "1", "--learning_rate", "1e30"}));
  INFO(run.said);
  CHECK(run.status == 65);
  CHECK_THAT(run.said, Catch::Contains("step 2: the loss is not a number"));
  CHECK(std::filesystem::exists(output + "/checkpoint-1/checksums.json"));
  CHECK_FALSE(std::filesystem::exists(output + "/checkpoint-1.unfinished"));
}

TEST_CASE("a loss that is not a number ends a job in half precision, too, whatever its scale") {
  const Ended run = ended(small({"--fp16", "--learning_rate", "1e30"}));
  INFO(run.said);
  CHECK(run.status == 65);
  CHECK_THAT(run.said, Catch::Contains("step 2: the loss is not a number") && !Catch::Contains("overflowed"));
}

TEST_CASE("a rank that stands still ends the others within --ddp_timeout, which name it and what they waited in") {
  const ServedRendezvous served({"alpha", "beta", "gamma"});
  // It also holds for the collectives before the first step, where a busy machine may let a rank wait for the other.
  const std::string limit = LLMLAUNCH_SANITIZED ? "15" : "5";
  // The host takes these steps in the place of a GPU, and waits for their averages elsewhere (comm_test has the rest).
  Ranks ranks = start_ranks(
      served, 3,
      small({"--ddp_timeout", limit, "--logging_steps", "1", "--num_train_epochs", "100000", "--cuda_graph"}));
  REQUIRE(ranks[0]->wait_for("step 4/"));
  ranks[1]->kill(SIGSTOP);
  // The first whose time is up closes its connections, and the other one loses it.
  std::string said;
  for (const std::size_t rank : {0U, 2U}) {
    const int status = ranks[rank]->wait();
    INFO(ranks[rank]->output());
    CHECK(status == 69);
    said += ranks[rank]->output();
  }
  CHECK_THAT(said,
             Catch::Contains("error: rank ") && Catch::Contains(": all-") &&
                 Catch::Contains(" bytes: not complete within " + limit + " s; rank 1 on beta had not come to it") &&
                 Catch::Contains("   hint: a rank hangs or its network is cut; --ddp_timeout sets the limit"));
  ranks[1]->kill(SIGKILL);
  CHECK(ranks[1]->wait() == 128 + SIGKILL);
}

TEST_CASE("the end of the generation waits for a checkpoint that is being written") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  ServedRendezvous served({"alpha"});
  Ranks ranks =
      start_ranks(served, 1, small({"--output_dir", output, "--save_steps", "1", "--num_train_epochs", "100000"}));
  // A part of a checkpoint that nobody reads: whoever writes it waits. The trainer may be faster than this; then it is
  // a later checkpoint's.
  std::string pipe, checkpoint;
  for (int step = 1; pipe.empty(); ++step) {
    REQUIRE(step < 10000);
    checkpoint = output + "/checkpoint-" + std::to_string(step);
    ranks[0]->wait_until(
        [&] { return std::filesystem::exists(checkpoint + ".unfinished") || std::filesystem::exists(checkpoint); });
    const std::string part = checkpoint + ".unfinished/checksums.json";
    if (::mkfifo(part.c_str(), 0600) == 0) pipe = part;
  }
  served.end_generation("rank 7 failed");
  REQUIRE(ranks[0]->wait_for("rank 7 failed"));
  // Where nothing is being written, the process ends 0.2 s after these words.
  CHECK_FALSE(ranks[0]->ends_within(std::chrono::milliseconds(1000)));
  // Both ends, so that neither who writes there nor who syncs it waits any longer.
  const int both = ::open(pipe.c_str(), O_RDWR | O_CLOEXEC);
  REQUIRE(both >= 0);
  const int status = ranks[0]->wait();
  ::close(both);
  INFO(ranks[0]->output());
  CHECK(status == 75);
  CHECK(std::filesystem::exists(checkpoint));
  CHECK_FALSE(std::filesystem::exists(checkpoint + ".unfinished"));
}

TEST_CASE("a full disk costs the file of losses a line, and not the job") {
  const TemporaryFolder folder;
  const std::string losses = folder.file("losses");
  Words words = {"/bin/sh", "-c", "ulimit -f 1; trap '' XFSZ; exec \"$@\"", "sh"};
  const Words program = command(small({"--loss_file", losses, "--num_train_epochs", "4"}));
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 74);
  CHECK_THAT(run.output(), Catch::Contains("warning: " + losses +
                                           ": --loss_file: write: File too large; training goes "
                                           "on\n") &&
                               Catch::Contains("test accuracy") &&
                               Catch::Contains(" of 40 lines of --loss_file could "
                                               "not be written"));
  const std::size_t whole = losses_in(losses).size();  // which parses each
  CHECK(whole > 5);
  CHECK(whole < 40);
}

TEST_CASE("where --predict and --loss_file cannot write is found before the first step") {
  const TemporaryFolder folder;
  const std::string there = folder.file("there");
  std::filesystem::create_directory(there);
  std::ofstream(folder.file("a")) << "";
  std::filesystem::create_symlink(folder.file("a"), folder.file("b"));
  const std::string pipe = folder.file("pipe");  // in whose place the file would come, as in that of /dev/null
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  struct Row {
    Words flags;
    int status;
    std::string said;
  };
  for (const Row& row : std::vector<Row>{
           {{"--predict", there}, 78, there + ": --predict: is a folder"},
           {{"--loss_file", there}, 78, there + ": --loss_file: is a folder"},
           {{"--predict", there + "/no/x"}, 74, there + "/no/x: --predict: open: No such file or directory"},
           {{"--predict", pipe}, 78, pipe + ": --predict: is a pipe and not a file"},
           {{"--predict", folder.file("a"), "--loss_file", folder.file("b")},
            78,
            "--predict and --loss_file name the same file"},
           {{"--predict", "x", "--loss_file", "./x"}, 64, "--predict and --loss_file name the same file, x"}}) {
    const Ended run = ended(small(row.flags));
    INFO(run.said);
    CHECK(run.status == row.status);
    CHECK_THAT(run.said, Catch::StartsWith("llmlaunch-train: error: ") && Catch::Contains(row.said));
  }
  CHECK(std::filesystem::is_fifo(pipe));
}

TEST_CASE("of OpenMP's list of numbers of threads, one for each level, the first counts") {
  auto environment = kAlone;
  environment[llmlaunch::env::kOmpNumThreads] = "1,4";
  ChildProcess run(command({"--train_samples", "64", "--eval_samples", "10", "--model", "mlp"}), environment);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 0);
  CHECK_THAT(run.output(), Catch::Contains(", 1 thread"));
}

TEST_CASE("without HOME ~ is where the user database has it, and no folder of that name") {
  const passwd* const entry = ::getpwuid(::getuid());
  if (entry == nullptr || entry->pw_dir == nullptr || *entry->pw_dir == '\0') return;
  for (const std::string home : {"-u HOME", "HOME="}) {
    Words words = {"/bin/sh", "-c", "exec env " + home + " \"$@\"", "sh"};
    const Words program = command(small({"--data_dir", "~/llmlaunch-no-such-folder"}));
    words.insert(words.end(), program.begin(), program.end());
    ChildProcess run(words, kAlone);
    CHECK(run.wait() == 66);
    CHECK_THAT(run.output(), Catch::StartsWith("llmlaunch-train: error: " + std::string(entry->pw_dir) +
                                               "/llmlaunch-no-such-folder: no such folder"));
  }
}

TEST_CASE("checkpoints that cannot be written name the good one of an earlier run") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  REQUIRE(ended(small({"--output_dir", output, "--max_steps", "5"})).status == 0);
  Words words = {"/bin/sh", "-c", "ulimit -f 1000; trap '' XFSZ; exec \"$@\"", "sh"};
  const Words program = command(small({"--output_dir", output, "--resume_from_checkpoint", "true"}));
  words.insert(words.end(), program.begin(), program.end());
  ChildProcess run(words, kAlone);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 74);
  CHECK_THAT(run.output(), Catch::Contains("1 of 1 checkpoint could not be written\n   hint: the last good one is " +
                                           output + "/checkpoint-5; see the warnings above"));
}

TEST_CASE("a model that a full disk kept is not the best of those that were tested, but of those that were saved") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const std::string load = GENERATE("false", "true");
  const auto best = [&](const Words& more) {
    Words words = small({"--output_dir", output, "--save_strategy", "best", "--eval_strategy", "steps", "--eval_steps",
                         "1", "--metric_for_best_model", "loss", "--load_best_model_at_end", load});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  const auto on_full_disk = [](const Words& flags) {
    Words words = {"/bin/sh", "-c", "ulimit -f 1000; trap '' XFSZ; exec \"$@\"", "sh"};
    const Words program = command(flags);
    words.insert(words.end(), program.begin(), program.end());
    ChildProcess run(words, kAlone);
    const int status = run.wait();
    return Ended{status, run.output()};
  };
  const Ended none = on_full_disk(best({"--max_steps", "1"}));
  INFO(none.said);
  CHECK(none.status == 74);
  CHECK_THAT(none.said, !Catch::Contains("no test gave") && !Catch::Contains("whose test gave"));
  REQUIRE(ended(best({"--max_steps", "1"})).status == 0);
  const Ended later = on_full_disk(best({"--max_steps", "2", "--resume_from_checkpoint", "true"}));
  INFO(later.said);
  CHECK(later.status == 74);
  CHECK_THAT(later.said, Catch::Contains("the best model of those that could be saved"));
}

TEST_CASE("where nothing is left to train nothing is set aside or cut") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const std::string losses = folder.file("losses");
  const Words job = small({"--output_dir", output, "--save_steps", "10", "--logging_steps", "5", "--report_to", "json",
                           "--loss_file", losses});
  Words whole = job, again = job;
  whole.insert(whole.end(), {"--max_steps", "40"});
  again.insert(again.end(), {"--max_steps", "30", "--resume_from_checkpoint", output + "/checkpoint-30"});
  REQUIRE(ended(whole).status == 0);
  const std::string metrics = text_in(output + "/metrics.jsonl");
  REQUIRE_THAT(metrics, Catch::Contains("\"step\": 40"));
  const Ended run = ended(again);
  INFO(run.said);
  CHECK(run.status == 0);
  CHECK_THAT(run.said, Catch::Contains("nothing is left to train: 30 of 30 steps are done"));
  CHECK(std::filesystem::exists(output + "/checkpoint-40"));
  CHECK_FALSE(std::filesystem::exists(output + "/checkpoint-40.set-aside"));
  CHECK(text_in(output + "/metrics.jsonl") == metrics);
  CHECK(losses_in(losses).size() == 40);
}

TEST_CASE("a signal while images are exported leaves no part of a file, and no part of the set") {
  const TemporaryFolder folder;
  const std::string images = folder.file("images"), part = images + "/train-images-idx3-ubyte.part";
  const std::filesystem::path whole = images + "/train-images-idx3-ubyte";
  // 235 MB, so that there is time between the file's first byte and its last.
  ChildProcess run(command({"--train_samples", LLMLAUNCH_SANITIZED ? "50000" : "300000", "--export_dataset", images}),
                   kAlone);
  run.wait_until([&] { return std::filesystem::exists(part) || std::filesystem::exists(whole); });
  run.kill(SIGTERM);
  CHECK(run.wait() == 143);
  const auto left = std::distance(std::filesystem::directory_iterator(images), {});
  CHECK((left == 0 || (left == 4 && std::filesystem::exists(whole))));
}

TEST_CASE("a run that goes on with other data is warned") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const std::string images = folder.file("images");
  const Words sizes = {"--train_samples", "600", "--eval_samples", "100", "--export_dataset", images};
  REQUIRE(ended(sizes).status == 0);
  REQUIRE(ended(small({"--output_dir", output, "--max_steps", "2"})).status == 0);
  const Ended run = ended({"--data_dir", images, "--model", "mlp", "--threads", "1", "--output_dir", output,
                           "--resume_from_checkpoint", "true", "--max_steps", "3"});
  INFO(run.said);
  CHECK(run.status == 0);
  CHECK_THAT(run.said, Catch::Contains("--data_dir is " + images + " and was drawn digits, the number of test images " +
                                       "is 100 and was 200"));
}

TEST_CASE("a rank whose command line is wrong and rank 0's is not is heard") {
  auto environment = kAlone;
  environment[llmlaunch::env::kRank] = "1";
  ChildProcess run(command({"--learning_rat", "1"}), environment);
  CHECK(run.wait() == 64);
  CHECK(run.output() ==
        "llmlaunch-train: error: unknown flag '--learning_rat'\n   hint: did you mean --learning_rate?\n");
}

TEST_CASE("a warm-up that no step of the job ends is warned of") {
  const Ended run = ended(small({"--max_steps", "2", "--warmup_steps", "2"}));
  INFO(run.said);
  CHECK(run.status == 0);
  CHECK_THAT(run.said, Catch::Contains("warning: --warmup_steps 2: the job has 2 steps, and its learning rate never is "
                                       "--learning_rate 0.001\n"));
}

TEST_CASE("more threads than a rank can have are refused, whoever asks for them") {
  auto environment = kAlone;
  environment[llmlaunch::env::kOmpNumThreads] = "99999";
  ChildProcess run(command({"--train_samples", "64", "--max_steps", "1"}), environment);
  CHECK(run.wait() == 78);
  CHECK_THAT(run.output(),
             Catch::Contains("error: environment variable OMP_NUM_THREADS is 99999, and a rank takes 4096 "
                             "threads at most"));
  for (const char* const no_list : {"4,", "4,abc"}) {
    environment[llmlaunch::env::kOmpNumThreads] = no_list;
    ChildProcess listed(command({"--train_samples", "64", "--max_steps", "1"}), environment);
    CHECK(listed.wait() == 78);
    CHECK_THAT(listed.output(),
               Catch::Contains("environment variable OMP_NUM_THREADS is '" + std::string(no_list) + "', not a number"));
  }
}

TEST_CASE("a switch in the environment that is none is a wrong configuration, told once") {
  ServedRendezvous served({"alpha", "beta"});
  Ranks ranks;
  for (const std::size_t rank : {0U, 1U}) {
    auto environment = served.environment(rank);
    environment[llmlaunch::env::kShmDisable] = "maybe";
    ranks.push_back(std::make_unique<ChildProcess>(command(small({})), environment));
  }
  CHECK_THAT(
      told_by_rank_0(served, ranks, 78),
      Catch::EndsWith("llmlaunch-train: error: environment variable LLMLAUNCH_SHM_DISABLE is 'maybe', not true or "
                      "false (also yes, no, on, off, 1, 0)\n"));
}

}  // namespace mishaps_test
