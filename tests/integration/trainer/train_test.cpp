// llmlaunch-train as a person and as llmlaunch run it: real processes, a real rendezvous, no ssh. What four ranks learn
// is what one learns, and every way to fail has its words and its status.
#include <signal.h>
#include <unistd.h>
#include <algorithm>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "rendezvous/client.hpp"
#include "tests/integration/trainer/train_program.hpp"
#include "tests/support/bytes_read.hpp"
#include "tests/support/catch.hpp"

namespace train_test {

using namespace llmlaunch;
using namespace llmlaunch::test;

namespace {

constexpr int kSteps = 20;

Words lesson(int batch, const std::string& loss_file) {
  // 16 images per rank and step on four ranks; two steps of the second epoch, so that the order changes once. With
  // dropout, whose masks belong to the images and not to the ranks.
  return {"--train_samples",
          std::to_string(64 * (kSteps - 2)),
          "--eval_samples",
          "101",
          "--num_train_epochs",
          "2",
          "--max_steps",
          std::to_string(kSteps),
          "--per_device_train_batch_size",
          std::to_string(batch),
          "--seed",
          "7",
          "--loss_file",
          loss_file};
}

}  // namespace

TEST_CASE("four ranks on two hosts learn what one process learns with the fourfold batch") {
  const TemporaryFolder folder;
  ChildProcess alone(command(lesson(64, folder.file("one"))), kAlone);
  INFO(alone.output());
  REQUIRE(alone.wait() == 0);

  const ServedRendezvous served({"alpha", "alpha", "beta", "beta"});
  Ranks ranks = start_ranks(served, 4, lesson(16, folder.file("four")));
  for (auto& rank : ranks) {
    // Nobody has to wait for words of others, as where a job fails.
    CHECK((rank == ranks.front() || rank->ends_within(std::chrono::milliseconds(1500))));
    const int status = rank->wait();
    INFO(rank->output());
    REQUIRE(status == 0);
  }
  const std::vector<double> one = losses_in(folder.file("one"));
  const std::vector<double> four = losses_in(folder.file("four"));
  REQUIRE(one.size() == kSteps);
  REQUIRE(four.size() == kSteps);
  for (int step = 0; step < kSteps; ++step) {
    CAPTURE(step, one[step], four[step]);
    CHECK(std::abs(one[step] - four[step]) <= 1e-4);
  }
  // Something was learned, so that equal is not equal to nothing.
  CHECK(one.back() < one.front() - 0.2);
  // Only rank 0 tells the story; the others name their device.
  CHECK_THAT(ranks[0]->output(), Catch::Contains("equal on all 4 ranks") && Catch::Contains("test accuracy"));
  for (std::size_t rank = 1; rank < 4; ++rank) {
    const std::string& said = ranks[rank]->output();
    CHECK_THAT(said, Catch::StartsWith("device cpu (oneDNN "));
    CHECK(std::count(said.begin(), said.end(), '\n') == 1);
  }
  // 101 test images over 4 ranks: each counted once.
  CHECK_THAT(alone.output(), Catch::Contains("/101)"));
  CHECK_THAT(ranks[0]->output(), Catch::Contains("/101)"));
}

TEST_CASE("the same command gives the same bits again, and another seed others") {
  const Words flags = {"--train_samples", "64", "--eval_samples", "10", "--num_train_epochs", "1"};
  const auto hash_with_seed = [&](const std::string& seed) {
    Words words = flags;
    words.insert(words.end(), {"--seed", seed});
    ChildProcess run(command(words), kAlone);
    REQUIRE(run.wait() == 0);
    return parameter_hash(run.output());
  };
  const std::string first = hash_with_seed("1");
  CHECK(hash_with_seed("1") == first);
  CHECK(hash_with_seed("2") != first);
}

TEST_CASE("fewer images than ranks, and a last batch that is smaller, still train and count right") {
  const ServedRendezvous served({"alpha", "beta", "beta"});
  Ranks ranks = start_ranks(served, 3,
                            {"--train_samples", "13", "--eval_samples", "2", "--num_train_epochs", "2",
                             "--per_device_train_batch_size", "4"});
  for (auto& rank : ranks) {
    const int status = rank->wait();
    INFO(rank->output());
    REQUIRE(status == 0);
  }
  CHECK_THAT(ranks[0]->output(), Catch::Contains("/2)"));
}

TEST_CASE("more ranks than the data can feed is said once, by rank 0, as a wrong configuration") {
  ServedRendezvous served({"alpha", "alpha", "beta"});
  Ranks ranks = start_ranks(served, 3, {"--train_samples", "2", "--eval_samples", "2", "--dataloader_drop_last"});
  CHECK_THAT(told_by_rank_0(served, ranks, 78),
             Catch::Contains("error: no batch can be filled: 2 images for 3 ranks are 0 each, and a batch has 64\n"
                             "   hint: use fewer ranks, a smaller --per_device_train_batch_size, or no "
                             "--dataloader_drop_last"));
}

TEST_CASE("a rank that is killed is named by the others, which end by themselves") {
  const ServedRendezvous served({"alpha", "alpha", "beta"});
  Ranks ranks =
      start_ranks(served, 3, {"--train_samples", "600", "--num_train_epochs", "1000", "--logging_steps", "1"});
  REQUIRE(ranks[0]->wait_for("step 2/"));
  ranks[2]->kill(SIGKILL);
  CHECK(ranks[2]->wait() == 128 + SIGKILL);
  std::string said;
  for (const std::size_t rank : {0U, 1U}) {
    const int status = ranks[rank]->wait();
    INFO(ranks[rank]->output());
    CHECK(status == 69);
    said += ranks[rank]->output();
  }
  CHECK_THAT(said, Catch::Contains("lost rank 2 on beta"));
}

TEST_CASE("the end of the generation stops every rank, also inside a collective") {
  ServedRendezvous served({"alpha", "beta"});
  Ranks ranks =
      start_ranks(served, 2, {"--train_samples", "600", "--num_train_epochs", "1000", "--logging_steps", "1"});
  REQUIRE(ranks[0]->wait_for("step 2/"));
  // Rank 1 stands still, so that rank 0 hangs in its all-reduce.
  ranks[1]->kill(SIGSTOP);
  served.end_generation("rank 5 on gamma exited with status 3");
  CHECK(ranks[0]->wait() == 75);
  CHECK_THAT(ranks[0]->output(), Catch::Contains("rank 5 on gamma exited with status 3"));
  ranks[1]->kill(SIGCONT);
  const int status = ranks[1]->wait();
  INFO(ranks[1]->output());
  // It may see the end of rank 0 before it reads the news.
  CHECK((status == 75 || status == 69));
}

TEST_CASE("SIGTERM and SIGINT end a rank at once, with their status") {
  for (const int signal : {SIGTERM, SIGINT}) {
    ChildProcess run(command({"--train_samples", "600", "--num_train_epochs", "1000", "--logging_steps", "1"}), kAlone);
    REQUIRE(run.wait_for("step 1/"));
    run.kill(signal);
    CHECK(run.wait() == 128 + signal);
  }
}

TEST_CASE("what is wrong from the start is one line and a status") {
  struct Row {
    Words flags;
    std::map<std::string, std::string> environment;
    int status;
    std::string said;
  };
  std::map<std::string, std::string> half = kAlone;
  half["RANK"] = "0";
  half["WORLD_SIZE"] = "2";
  std::map<std::string, std::string> asked_for_half = kAlone;
  asked_for_half["ACCELERATE_MIXED_PRECISION"] = "fp16";
  const std::vector<Row> rows = {
      {{"--learning_rat", "1"}, kAlone, 64, "unknown flag '--learning_rat'\n   hint: did you mean --learning_rate?\n"},
      {{"--data_dir", "/no/such/folder"}, kAlone, 66, "/no/such/folder"},
      {{}, half, 78, "LLMLAUNCH_RENDEZVOUS is not set"},
      {{"--tf32"},
       kAlone,
       69,
       "--tf32: a CPU has no such numbers\n   hint: leave it out, or see with --device cuda why no GPU is used; --bf16 "
       "and --fp16 work on CPUs\n"},
      {{"--cuda_graph"},
       asked_for_half,
       64,
       "--cuda_graph and mixed_precision fp16 (ACCELERATE_MIXED_PRECISION) do not go together\n   hint: leave one of "
       "them out, or add --fp16 false\n"},
      {{"--loss_file", "/no/such/folder/losses"}, kAlone, 74, "/no/such/folder/losses"},
      {{"--predict", "/no/such/folder/logits"}, kAlone, 74, "/no/such/folder/logits: --predict: open: No such file"},
  };
  for (const Row& row : rows) {
    ChildProcess run(command(row.flags), row.environment);
    const int status = run.wait();
    INFO(run.output());
    CHECK(status == row.status);
    CHECK_THAT(run.output(), Catch::StartsWith("llmlaunch-train: error: ") && Catch::Contains(row.said));
  }
}

TEST_CASE("bfloat16 learns what fp32 learns, and without instructions for it, too, which is said") {
  const Words job = {"--train_samples",
                     "640",
                     "--eval_samples",
                     "200",
                     "--num_train_epochs",
                     "4",
                     "--model",
                     "mlp",
                     "--per_device_train_batch_size",
                     "32"};
  const auto right = [](const std::string& output) {
    const std::string before = "test accuracy ";
    return std::stod(output.substr(output.find(before) + before.size()));
  };
  const auto output_of = [&](bool bf16, std::map<std::string, std::string> environment) {
    Words flags = job;
    if (bf16) flags.push_back("--bf16");
    ChildProcess run(command(flags), environment);
    const int status = run.wait();
    INFO(run.output());
    REQUIRE(status == 0);
    return run.output();
  };
  std::map<std::string, std::string> old_processor = kAlone;
  old_processor["ONEDNN_MAX_CPU_ISA"] = "AVX2";  // oneDNN then looks no further
  const std::string plain = output_of(false, kAlone);
  const std::string rounded = output_of(true, kAlone);
  const std::string emulated = output_of(true, old_processor);
  CHECK_THAT(plain, !Catch::Contains("bf16"));
  CHECK_THAT(rounded, Catch::Contains(" thread, bf16"));
  CHECK_THAT(emulated, Catch::Contains(" thread, bf16 without instructions for it: slower than fp32)"));
  CHECK(right(plain) > 60);
  CHECK(right(rounded) > right(plain) - 5);
  CHECK(right(emulated) > right(plain) - 5);
  CHECK(parameter_hash(rounded) != parameter_hash(plain));
  CHECK(parameter_hash(output_of(true, old_processor)) == parameter_hash(emulated));
}

TEST_CASE("the YAML's mixed_precision is the precision where none is typed, and what it asks for in vain is said") {
  struct Row {
    const char* asked;
    Words flags;
    std::string precision;
    bool warns;
  };
  const std::vector<Row> rows = {
      {"bf16", {}, "bf16", false},
      {"bf16", {"--bf16", "false"}, "", false},
      {"bf16", {"--fp16"}, "fp16", false},
      {"no", {"--bf16"}, "bf16", false},
      {"fp16", {}, "fp16", false},
      {"fp8", {}, "", true},
      {"fp16", {"--bf16"}, "bf16", false},
      {"fp16", {"--fp16", "false"}, "", false},
      {"no", {}, "", false},
  };
  for (const Row& row : rows) {
    std::map<std::string, std::string> environment = kAlone;
    environment["ACCELERATE_MIXED_PRECISION"] = row.asked;
    Words flags = {"--train_samples", "16", "--eval_samples", "4", "--model", "mlp"};
    flags.insert(flags.end(), row.flags.begin(), row.flags.end());
    ChildProcess run(command(flags), environment);
    REQUIRE(run.wait() == 0);
    CAPTURE(row.asked, row.flags, run.output());
    for (const std::string precision : {"bf16", "fp16"}) {
      CHECK((run.output().find(" thread, " + precision) != std::string::npos) == (row.precision == precision));
    }
    CHECK((run.output().find(std::string("warning: mixed_precision ") + row.asked +
                             " (ACCELERATE_MIXED_PRECISION) has no effect: it is none of no, bf16 and fp16\n") !=
           std::string::npos) == row.warns);
  }
}

TEST_CASE("ranks of different precision are found before the first step") {
  ServedRendezvous served({"alpha", "beta"});
  Ranks ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    const Words flags = {"--train_samples", "64", "--model", "mlp", "--bf16", rank == 1 ? "true" : "false"};
    ranks.push_back(std::make_unique<ChildProcess>(command(flags), served.environment(rank)));
  }
  CHECK_THAT(
      told_by_rank_0(served, ranks, 78),
      Catch::Contains("the ranks are not of one job: the precision (--bf16, --fp16, --tf32, mixed_precision) is bf16 "
                      "on rank 1 (beta) and fp32 on rank 0 (alpha)"));
}

TEST_CASE("threads that fill batches ahead change no bit, on one rank and on two") {
  const Words job = {"--train_samples",
                     "150",
                     "--eval_samples",
                     "10",
                     "--per_device_train_batch_size",
                     "16",
                     "--num_train_epochs",
                     "2",
                     "--max_steps",
                     "7",
                     "--gradient_accumulation_steps",
                     "2",
                     "--model",
                     "mlp"};
  const auto with_workers = [&](const char* count) {
    Words flags = job;
    flags.insert(flags.end(), {"--dataloader_num_workers", count});
    return flags;
  };
  std::vector<std::string> alone, together;
  for (const char* workers : {"0", "1", "3"}) {
    CAPTURE(workers);
    ChildProcess run(command(with_workers(workers)), kAlone);
    REQUIRE(run.wait() == 0);
    alone.push_back(parameter_hash(run.output()));
    const ServedRendezvous served({"alpha", "alpha"});
    Ranks ranks = start_ranks(served, 2, with_workers(workers));
    for (auto& rank : ranks) REQUIRE(rank->wait() == 0);
    together.push_back(parameter_hash(ranks[0]->output()));
  }
  CHECK(alone == std::vector<std::string>(3, alone[0]));
  CHECK(together == std::vector<std::string>(3, together[0]));
}

TEST_CASE("two ranks read half of the images each, once for the checksum and once in each epoch, and learn the same") {
  constexpr int kTrain = 600, kTest = 100, kEpochs = 2, kImageBytes = 784;
  const TemporaryFolder folder;
  const Words sizes = {"--train_samples", std::to_string(kTrain), "--eval_samples", std::to_string(kTest)};
  Words words = sizes;
  words.insert(words.end(), {"--export_dataset", folder.file("images")});
  REQUIRE(ChildProcess(command(words), kAlone).wait() == 0);
  /// What each rank reads from files and connections; nothing where the kernel does not count it.
  const auto read_with = [&](const Words& data, const std::string& losses) {
    Words flags = {
        "--model",     "mlp", "--per_device_train_batch_size", "100", "--num_train_epochs", std::to_string(kEpochs),
        "--loss_file", losses};
    flags.insert(flags.end(), data.begin(), data.end());
    const ServedRendezvous served({"alpha", "alpha"});
    Ranks ranks = start_ranks(served, 2, flags);
    std::vector<std::int64_t> read;
    for (auto& rank : ranks) {
      const auto before = bytes_read();
      REQUIRE(rank->wait() == 0);
      if (before) read.push_back(*bytes_read() - *before);
    }
    return std::pair(read, parameter_hash(ranks[0]->output()));
  };
  const auto drawn = read_with(sizes, folder.file("drawn"));
  const auto files = read_with({"--data_dir", folder.file("images")}, folder.file("files"));
  CHECK(losses_in(folder.file("drawn")).size() == kEpochs * 3);
  CHECK(losses_in(folder.file("drawn")) == losses_in(folder.file("files")));
  CHECK(drawn.second == files.second);
  if (drawn.first.empty()) {
    WARN("skipped: this kernel does not count what is read (/proc/self/io)");
    return;
  }
  // The checksum and the epochs of the training images; the checksum and the one test of the others.
  constexpr double kShare = (kTrain * (1 + kEpochs) + kTest * 2) / 2.0 * kImageBytes;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    CAPTURE(rank);
    CHECK(static_cast<double>(files.first[rank] - drawn.first[rank]) == Approx(kShare).epsilon(0.05));
  }
}

TEST_CASE("hosts with other images are found before the first step, by checksum, rank and host") {
  const TemporaryFolder folder;
  for (const char* host : {"alpha", "beta"}) {
    const Words words = {"--train_samples", "64", "--eval_samples", "8", "--export_dataset", folder.file(host)};
    REQUIRE(ChildProcess(command(words), kAlone).wait() == 0);
  }
  std::fstream other(folder.file("beta") + "/train-images-idx3-ubyte", std::ios::in | std::ios::out | std::ios::binary);
  other.seekp(5000).put('\x07');
  other.close();
  const ServedRendezvous served({"alpha", "alpha", "beta"});
  Ranks ranks;
  for (std::size_t rank = 0; rank < 3; ++rank) {
    const Words flags = {"--data_dir", folder.file(rank == 2 ? "beta" : "alpha"), "--model", "mlp"};
    ranks.push_back(std::make_unique<ChildProcess>(command(flags), served.environment(rank)));
  }
  CHECK(ranks[0]->wait() == 78);  // the others wait for a launcher to end them
  CHECK_THAT(ranks[0]->output(),
             Catch::Matches("(.|\n)*error: the ranks are not of one job: what the training images are is files with "
                            "CRC-32 [0-9a-f]{8} on rank 2 \\(beta\\) and files with CRC-32 [0-9a-f]{8} on rank 0 "
                            "\\(alpha\\); the files are those of " +
                            folder.file("alpha") + " on rank 0 and " + folder.file("beta") + " on rank 2\n(.|\n)*"));
}

TEST_CASE("images that are cut or written to while a job runs end it with the file's name") {
  const TemporaryFolder folder;
  const std::string images = folder.file("images") + "/train-images-idx3-ubyte";
  const std::string test_images = folder.file("images") + "/t10k-images-idx3-ubyte";
  const Words words = {"--train_samples", "64", "--eval_samples", "8", "--export_dataset", folder.file("images")};
  REQUIRE(ChildProcess(command(words), kAlone).wait() == 0);
  const auto said_after = [&](const Words& more, const std::function<void()>& change) {
    Words flags = {"--data_dir", folder.file("images"), "--model", "mlp", "--logging_steps",
                   "1",          "--num_train_epochs",  "1000000"};
    flags.insert(flags.end(), more.begin(), more.end());
    const ServedRendezvous served({"alpha", "beta"});
    Ranks ranks = start_ranks(served, 2, flags);
    REQUIRE(ranks[0]->wait_for("step 2/"));
    change();
    const int status = ranks[0]->wait();
    CHECK((status == 78 || status == 69));  // where the other rank was the first to see it
    ranks[1]->wait();
    return ranks[0]->output() + ranks[1]->output();
  };
  const auto draw_in = [](const std::string& file) {  // the background's first pixel
    std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(16).put('\x7f');
  };
  CHECK_THAT(
      said_after({}, [&] { draw_in(images); }),
      Catch::Contains("error: " + images + ": was written to after the job had begun\n   hint: a job's images "));
  CHECK_THAT(said_after({"--eval_strategy", "epoch"}, [&] { draw_in(test_images); }),
             Catch::Contains("error: " + test_images + ": was written to after the job had begun\n"));
  CHECK_THAT(said_after({"--dataloader_num_workers", "2"}, [&] { std::filesystem::resize_file(images, 1000); }),
             Catch::Contains("error: " + images + ": has 1000 bytes now, and had 50192 when the job began\n"));
}

TEST_CASE("predictions are written under their name when they are whole, over older ones, and nothing else is left") {
  const TemporaryFolder folder;
  const std::string file = folder.file("logits");
  const auto predict = [&](const char* images) {
    return command({"--train_samples", "32", "--eval_samples", images, "--model", "mlp", "--predict", file});
  };
  REQUIRE(ChildProcess(predict("7"), kAlone).wait() == 0);
  ChildProcess run(predict("5"), kAlone);
  REQUIRE(run.wait() == 0);
  CHECK_THAT(run.output(), Catch::Contains("logits of 5 test images are in " + file + "\n"));
  std::ifstream in(file);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  CHECK_THAT(text, Catch::Contains(R"({"__metadata__":{"format":"pt","model":"mlp","step":"1"},)"
                                   R"("logits":{"dtype":"F32","shape":[5,10],"data_offsets":[0,200]},)"
                                   R"("labels":{"dtype":"U8","shape":[5],"data_offsets":[200,205]}})"));
  CHECK(text.size() % 8 == (200 + 5) % 8);
  CHECK_FALSE(std::filesystem::exists(file + ".llmlaunch-part"));
  const std::string link = folder.file("link");
  std::filesystem::create_symlink("far", link);
  REQUIRE(ChildProcess(command({"--train_samples", "32", "--eval_samples", "5", "--model", "mlp", "--predict", link}),
                       kAlone)
              .wait() == 0);
  CHECK(std::filesystem::is_symlink(link));
  CHECK(std::filesystem::is_regular_file(folder.file("far")));
}

TEST_CASE("a loss that is not a number ends the job, with step and rank, or is skipped, or not") {
  const Words wild = {"--train_samples",
                      "64",
                      "--eval_samples",
                      "10",
                      "--num_train_epochs",
                      "2",
                      "--logging_steps",
                      "1",
                      "--per_device_train_batch_size",
                      "8",
                      "--learning_rate",
                      "1e38"};
  const auto with = [&](const std::string& on_nan) {
    Words words = wild;
    words.insert(words.end(), {"--on_nan", on_nan});
    return words;
  };
  {
    const ServedRendezvous served({"alpha", "beta"});
    Ranks ranks = start_ranks(served, 2, with("stop"));
    std::string said;
    for (auto& rank : ranks) {
      const int status = rank->wait();
      INFO(rank->output());
      CHECK((status == 65 || status == 69));  // 69: the other one was first
      said += rank->output();
    }
    CHECK_THAT(said, Catch::Contains("rank ") && Catch::Contains(" on ") && Catch::Contains("the loss is ") &&
                         Catch::Contains("--on_nan skip leaves such steps out"));
  }
  ChildProcess alone(command(wild), kAlone);
  CHECK(alone.wait() == 65);
  CHECK_THAT(alone.output(), Catch::Contains("llmlaunch-train: error: step 2: the loss is not a number\n"));

  // The weights that the first step made stay, for no later gradient is finite.
  ChildProcess skipping(command(with("skip")), kAlone);
  CHECK(skipping.wait() == 65);
  CHECK_THAT(skipping.output(), Catch::Contains("warning: step 2: the gradient is not finite") &&
                                    Catch::Contains("the step is skipped") &&
                                    Catch::Contains("warning: 15 of 16 steps were skipped") &&
                                    Catch::Contains("error: the job ends with weights of no use: conv1.weight is not "
                                                    "finite (its value 0 is inf)\n"));
  ChildProcess going_on(command(with("continue")), kAlone);
  CHECK(going_on.wait() == 65);
  CHECK_THAT(going_on.output(), Catch::Contains("test accuracy") &&
                                    Catch::Contains("error: the job ends with weights of no use: conv1.weight is not "
                                                    "finite (its value 0 is nan)\n") &&
                                    Catch::Contains("warning: after step 16: the test loss is not a number") &&
                                    Catch::Contains(", loss nan\n") && !Catch::Contains("-nan") &&
                                    !Catch::Contains("is skipped"));
  // One step, whose own loss is still a number.
  Words short_wild = wild;
  short_wild.insert(short_wild.end(), {"--max_steps", "1"});
  ChildProcess one_step(command(short_wild), kAlone);
  CHECK(one_step.wait() == 65);
  CHECK_THAT(one_step.output(), Catch::Contains("error: after step 1: the test loss is not a number\n"));
}

TEST_CASE("ranks with other flags are found before the first step, by name, value, rank and host") {
  ServedRendezvous served({"alpha", "alpha", "beta"});
  Ranks ranks;
  for (std::size_t rank = 0; rank < 3; ++rank) {
    Words flags = {"--train_samples", rank == 2 ? "32" : "64", "--learning_rate", rank == 2 ? "0.01" : "0.001"};
    ranks.push_back(std::make_unique<ChildProcess>(command(flags), served.environment(rank)));
  }
  CHECK_THAT(told_by_rank_0(served, ranks, 78),
             !Catch::Contains("step 1/") &&
                 Catch::Contains(
                     "the ranks are not of one job: the number of training images is 32 on rank 2 (beta) and 64 on "
                     "rank 0 (alpha); --learning_rate is 0.01 on rank 2 (beta) and 0.001 on rank 0 (alpha)"));
}

TEST_CASE("a rank of another build is found before the ranks connect") {
  const ServedRendezvous served({"alpha", "beta"});
  rendezvous::ClientOptions other;
  other.address = "127.0.0.1";
  other.port = served.port();
  other.job_id = served.job_id();
  other.token = served.token();
  other.world_size = 2;
  other.host = "alpha";
  const auto rank_0 = rendezvous::Client::join(other);
  REQUIRE(rank_0);
  REQUIRE((*rank_0)->set("trainer/program", as_bytes("llmlaunch-train 9.9 of sources 0123456789ab\nalpha")));
  ChildProcess rank_1(command({}), served.environment(1));
  CHECK(rank_1.wait() == 78);
  CHECK_THAT(rank_1.output(), Catch::Matches("(.|\n)*error: the ranks are not of one job: the program is "
                                             "llmlaunch-train [0-9.]+ of sources [0-9a-f]{12} on rank 1 \\(beta\\) "
                                             "and llmlaunch-train 9.9 of sources 0123456789ab on rank 0 \\(alpha\\)\n"
                                             "   hint: start all ranks with the same program\n"));
}

TEST_CASE("ranks with different models are found, too, though their gradients have other sizes") {
  ServedRendezvous served({"alpha", "beta"});
  Ranks ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    const Words flags = {"--train_samples", "64", "--model", rank == 1 ? "mlp" : "basicnet"};
    ranks.push_back(std::make_unique<ChildProcess>(command(flags), served.environment(rank)));
  }
  CHECK_THAT(told_by_rank_0(served, ranks, 78),
             Catch::Contains("the ranks are not of one job: --model is mlp on rank 1 (beta) and basicnet on rank "
                             "0 (alpha)"));
}

TEST_CASE("a rank that comes too late to find the rendezvous says where it looked") {
  std::map<std::string, std::string> environment;
  {
    const ServedRendezvous served({"alpha", "beta"});
    environment = served.environment(1);
    environment["LLMLAUNCH_TOKEN"] = std::string(64, '0');
    ChildProcess stranger(command({}), environment);
    const int status = stranger.wait();
    INFO(stranger.output());
    CHECK(status == 69);
    CHECK_THAT(stranger.output(), Catch::Contains("token"));
  }
}

TEST_CASE("a rank that cannot reach the rendezvous ends within the job's time for it, as unavailable") {
  for (const std::string address : {"nohost.invalid:29400", "127.0.0.1:1"}) {
    const ServedRendezvous served({"alpha", "beta"});
    auto environment = served.environment(1);
    environment["LLMLAUNCH_RENDEZVOUS"] = address;
    environment["LLMLAUNCH_RENDEZVOUS_TIMEOUT"] = "200";
    ChildProcess lost(command({}), environment);
    const int status = lost.wait();
    INFO(lost.output());
    CHECK(status == 69);
    CHECK_THAT(lost.output(), Catch::Contains("rank 1 (beta): no ") && Catch::Contains("rendezvous " + address) &&
                                  Catch::Contains("must be an address of the machine where llmlaunch runs"));
  }
}

TEST_CASE("without a GPU --device cuda says what is missing, and auto trains on the CPU") {
  const Words short_run = {"--train_samples", "64", "--eval_samples", "10", "--max_steps", "1"};
  Words automatic = {kProgram};
  automatic.insert(automatic.end(), short_run.begin(), short_run.end());
  ChildProcess any(automatic, kAlone);
  REQUIRE(any.wait() == 0);
  if (any.output().find("device cuda") != std::string::npos) {
    WARN("this machine has a GPU: nothing to check here");
    return;
  }
  CHECK_THAT(any.output(), Catch::Contains("device cpu (oneDNN ") && Catch::Contains("; no GPU: "));

  ChildProcess cuda({kProgram, "--device", "cuda"}, kAlone);
  CHECK(cuda.wait() == 69);
  CHECK_THAT(cuda.output(), Catch::StartsWith("llmlaunch-train: error: no GPU: ") && Catch::Contains("--use_cpu"));

  std::map<std::string, std::string> from_accelerate = kAlone;
  from_accelerate["ACCELERATE_USE_CPU"] = "true";
  ChildProcess told(automatic, from_accelerate);
  REQUIRE(told.wait() == 0);
  CHECK_THAT(told.output(), Catch::Contains("; ACCELERATE_USE_CPU (use_cpu: true)\n"));
  ChildProcess typed({kProgram, "--device", "cuda"}, from_accelerate);  // what was typed wins over the configuration
  CHECK(typed.wait() == 69);
  CHECK_THAT(typed.output(), Catch::StartsWith("llmlaunch-train: error: no GPU: "));
}

}  // namespace train_test
