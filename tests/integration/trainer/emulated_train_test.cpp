// llmlaunch-train as a whole on the emulated device (tests/support/cuda_host/), beside itself on the CPU: losses,
// graphs, checkpoints, ranks over NCCL, and what is said when a call fails. Seeds are orders of the device's work that
// streams and events allow; no number may depend on them.
#include <signal.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "rendezvous/base/env.hpp"
#include "tests/integration/trainer/train_program.hpp"
#include "tests/support/sanitized.hpp"

namespace emulated_train_test {

using namespace llmlaunch;
using namespace llmlaunch::test;

namespace {

using Environment = std::map<std::string, std::string>;

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Words on_device(const Words& flags) {
  return with({kProgram, "--device", "cuda"}, flags);
}

struct Ended {
  int status;
  std::string said;
};

Ended ended(const Words& argv, const Environment& more = {}) {
  Environment environment = kAlone;
  for (const auto& [name, value] : more) environment[name] = value;
  ChildProcess run(argv, environment);
  const int status = run.wait();
  return {status, run.output()};
}

/// Two ranks of one host, with a device for each.
Ranks start_on_devices(const ServedRendezvous& served, const Words& argv, const Environment& more) {
  Ranks ranks;
  for (std::size_t rank = 0; rank < 2; ++rank) {
    Environment environment = served.environment(rank);
    environment["LLMLAUNCH_CUDA_HOST_DEVICES"] = "2";
    environment["OMP_NUM_THREADS"] = "1";
    for (const auto& [name, value] : more) environment[name] = value;
    ranks.push_back(std::make_unique<ChildProcess>(argv, environment));
  }
  return ranks;
}

std::vector<Ended> ended_ranks(const Words& argv, const Environment& more) {
  const ServedRendezvous served({"alpha", "alpha"});
  Ranks ranks = start_on_devices(served, argv, more);
  std::vector<Ended> result;
  for (auto& rank : ranks) {
    const int status = rank->wait();
    result.push_back({status, rank->output()});
  }
  return result;
}

Environment seed(int number) {
  return {{"LLMLAUNCH_CUDA_HOST_SEED", std::to_string(number)}};
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE(in);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Lines that are warnings or errors.
std::string complaints(const std::string& said) {
  std::istringstream lines(said);
  std::string result;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("warning: ") != std::string::npos || line.find("error: ") != std::string::npos) result += line + "\n";
  }
  return result;
}

std::string last_hash(const std::string& said) {
  return parameter_hash(said.substr(said.rfind("parameter hash ")));
}

// 9 full batches and one of 3 an epoch.
Words job(const std::string& model, const Words& more = {}, const std::string& batch = "8",
          const std::string& epochs = "2") {
  return with({"--model", model, "--train_samples", "75", "--eval_samples", "20", "--per_device_train_batch_size",
               batch, "--num_train_epochs", epochs, "--seed", "3", "--logging_steps", "4"},
              more);
}

/// Of the first steps: rounding grows from step to step.
double worst_difference(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr std::size_t kFirst = 10;
  REQUIRE(a.size() == b.size());
  REQUIRE(a.size() >= kFirst);
  double worst = 0;
  for (std::size_t i = 0; i < kFirst; ++i) worst = std::max(worst, std::abs(a[i] - b[i]) / b[i]);
  return worst;
}

/// Losses on the device and on the CPU, each by its own flags.
double difference_from_cpu(const Words& flags, const Words& cpu_flags) {
  const TemporaryFolder folder;
  const Ended device = ended(on_device(with(flags, {"--loss_file", folder.file("device")})));
  INFO(device.said);
  REQUIRE(device.status == 0);
  const Ended cpu = ended(command(with(cpu_flags, {"--loss_file", folder.file("cpu")})));
  INFO(cpu.said);
  REQUIRE(cpu.status == 0);
  return worst_difference(losses_in(folder.file("device")), losses_in(folder.file("cpu")));
}

}  // namespace

TEST_CASE("the device's losses are the CPU's, with dropout, in each precision") {
  struct Row {
    const char* model;
    Words flags;
    double bound;
  };
  // Half precision rounds a sum in another order to the neighbour now and then, and what relu and the pool take turns
  // on that.
  for (const auto& [model, flags, bound] : {Row{"basicnet", {}, 1e-5}, Row{"mlp", {}, 1e-5},
                                            Row{"mlp", {"--bf16"}, 1e-3}, Row{"basicnet", {"--fp16"}, 2e-2}}) {
    CAPTURE(model, flags);
    const double difference = difference_from_cpu(job(model, flags, "8", "1"), job(model, flags, "8", "1"));
    CHECK(difference <= bound);
  }
  // The CPU has no TF32.
  const double tf32 = difference_from_cpu(job("mlp", {"--tf32"}, "8", "1"), job("mlp", {}, "8", "1"));
  CHECK(tf32 <= 1e-2);
  CHECK(tf32 > 1e-6);
}

TEST_CASE("TF32 beside bfloat16 changes no number") {
  const Words flags = {"--train_samples", "8", "--eval_samples", "4", "--per_device_train_batch_size", "4", "--bf16"};
  const Ended without = ended(on_device(flags));
  const Ended beside = ended(on_device(with(flags, {"--tf32"})));
  INFO(without.said << beside.said);
  REQUIRE(without.status == 0);
  REQUIRE(beside.status == 0);
  CHECK(last_hash(beside.said) == last_hash(without.said));
}

TEST_CASE("accumulated and clipped gradients are the CPU's") {
  const Words flags = job("mlp", {"--gradient_accumulation_steps", "3", "--max_grad_norm", "0.7"}, "8", "3");
  CHECK(difference_from_cpu(flags, flags) <= 1e-5);
}

TEST_CASE("a graph's job is the ordinary one, bit for bit, in every order of the device's work") {
  const TemporaryFolder folder;
  const std::string model = GENERATE("mlp", "basicnet");
  const Words flags = job(model);
  std::string hash;
  for (int number = 0; number < (model == "mlp" && LLMLAUNCH_SANITIZED == 0 ? 3 : 1); ++number) {
    for (const char* graph : {"false", "true"}) {
      const std::string name = folder.file(model + std::to_string(number) + graph);
      const Ended run = ended(on_device(with(flags, {"--cuda_graph", graph, "--loss_file", name})), seed(number));
      INFO(run.said);
      REQUIRE(run.status == 0);
      CHECK_THAT(run.said, !Catch::Contains("warning") && !Catch::Contains("cannot"));
      if (hash.empty()) hash = last_hash(run.said);
      CHECK(last_hash(run.said) == hash);
      CHECK(bytes_of(name) == bytes_of(folder.file(model + "0false")));
    }
  }
}

TEST_CASE("a graph on one stream has the bits of one on two, and its switch is one of the flags' words") {
  const Words flags = with(job("mlp", {}, "8", "1"), {"--cuda_graph"});
  const Ended two = ended(on_device(flags), seed(4));
  Environment environment = seed(4);
  environment[env::kGraphOneStream] = "true";
  const Ended one = ended(on_device(flags), environment);
  INFO(two.said << one.said);
  REQUIRE(two.status == 0);
  REQUIRE(one.status == 0);
  CHECK(last_hash(one.said) == last_hash(two.said));
  environment[env::kGraphOneStream] = "perhaps";
  const Ended wrong = ended(on_device(flags), environment);
  CHECK(wrong.status == 78);
  CHECK_THAT(wrong.said, Catch::Contains("environment variable LLMLAUNCH_GRAPH_ONE_STREAM is 'perhaps', not true or "));
}

TEST_CASE("cuDNN's algorithms are three numbers of those that repeat bit for bit") {
  const Words flags = job("mlp", {}, "4", "1");
  Environment environment = seed(0);
  environment[env::kCudnnAlgorithms] = "6,4,5";
  const Ended others = ended(on_device(flags), environment);
  CHECK(others.status == 0);
  CHECK_THAT(others.said, Catch::Contains(", cuDNN's algorithms 6,4,5)"));
  CHECK_THAT(ended(on_device(flags), seed(0)).said, !Catch::Contains("cuDNN's algorithms"));
  // Numbers 0 of the gradients are those that add up by chance, and cuDNN has made no number 3 of the first.
  for (const char* wrong : {"1,0,1", "1,1,0", "1,1,3", "3,1,1", "1,1", "1,1,1,1", "-1,1,", "a,b,c"}) {
    environment[env::kCudnnAlgorithms] = wrong;
    const Ended refused = ended(on_device(flags), environment);
    INFO(wrong << ": " << refused.said);
    CHECK(refused.status == 78);
    CHECK_THAT(refused.said, Catch::Contains(std::string("environment variable LLMLAUNCH_CUDNN_ALGORITHMS is '") +
                                             wrong + "', not the numbers of three algorithms of cuDNN's"));
  }
}

TEST_CASE("a job on the device goes on from its checkpoint to the bits of the undisturbed one") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words saving = job("mlp", {"--output_dir", output, "--save_steps", "7", "--fp16", GENERATE("false", "true")});
  const Ended undisturbed = ended(on_device(saving));
  INFO(undisturbed.said);
  REQUIRE(undisturbed.status == 0);
  const Ended resumed = ended(on_device(with(saving, {"--resume_from_checkpoint", output + "/checkpoint-7"})), seed(5));
  INFO(resumed.said);
  REQUIRE(resumed.status == 0);
  CHECK(last_hash(resumed.said) == last_hash(undisturbed.said));
}

TEST_CASE("two ranks over NCCL have the CPU's losses, and a graph's are the same bits, in every order of the work") {
  const TemporaryFolder folder;
  const Words flags = job("mlp", {}, "4");
  const ServedRendezvous served({"alpha", "beta"});
  Ranks cpu = start_ranks(served, 2, with(flags, {"--loss_file", folder.file("cpu")}));
  for (auto& rank : cpu) REQUIRE(rank->wait() == 0);
  const auto on_cpu = losses_in(folder.file("cpu"));
  std::string hash;
  for (int number = 0; number < (LLMLAUNCH_SANITIZED == 0 ? 2 : 1); ++number) {
    for (const char* graph : {"false", "true"}) {
      const std::string name = folder.file("two" + std::to_string(number) + graph);
      const auto ranks =
          ended_ranks(on_device(with(flags, {"--cuda_graph", graph, "--loss_file", name})), seed(number));
      INFO(ranks[0].said << ranks[1].said);
      REQUIRE(ranks[0].status == 0);
      REQUIRE(ranks[1].status == 0);
      CHECK_THAT(ranks[0].said, !Catch::Contains("warning") && !Catch::Contains("cannot"));
      if (hash.empty()) hash = last_hash(ranks[0].said);
      CHECK(last_hash(ranks[0].said) == hash);
      CHECK(bytes_of(name) == bytes_of(folder.file("two0false")));
      CHECK(worst_difference(losses_in(name), on_cpu) <= 1e-5);
    }
  }
}

TEST_CASE("a device that fails ends the job with the call, the rank and a status that says what it was") {
  struct Row {
    const char* rules;
    int status;
    const char* said;
  };
  const char* const full = "the GPU's memory is full";
  const Words flags = on_device(job("basicnet", {"--cuda_graph"}, "8", "1"));
  for (const auto& [rules, status, said] : {
           Row{"cudaSetDevice:1=100", 69, "cudaSetDevice(*device)"},
           Row{"cudaMalloc:1=2", 71, full},
           Row{"cublasCreate:1=3", 71, full},
           Row{"cudnnCreate:1=4004", 71, full},
           Row{"cudnnConvolutionForward:3=5000", 69, "cudnnConvolutionForward(handle"},
           Row{"cublasGemmEx:9=13", 69, "CUBLAS_STATUS_EXECUTION_FAILED"},
           Row{"launch:33=719", 69, "cudaErrorLaunchFailure"},
           Row{"work:60=700", 69, "cudaErrorIllegalAddress"},
           Row{"work:250=700", 69, "cudaErrorIllegalAddress"},
           Row{"cudaStreamEndCapture:1=901", 69, "cudaErrorStreamCaptureInvalidated"},
           Row{"cudaGraphInstantiate:1=2", 71, full},
           Row{"cudaGraphLaunch:3=719", 69, "cudaGraphLaunch(executable_.get(), stream())"},
       }) {
    CAPTURE(rules);
    const Ended run = ended(flags, {{"LLMLAUNCH_CUDA_HOST_FAIL", rules}});
    INFO(run.said);
    CHECK(run.status == status);
    CHECK_THAT(run.said, Catch::Contains("llmlaunch-train: error: rank 0 on ") && Catch::Contains(", device 0: ") &&
                             Catch::Contains(said));
  }
}

TEST_CASE("a kernel that does not start is no gradient that overflowed") {
  // The 32nd is the one that unscales the first step's gradient.
  const Ended run = ended(on_device(job("mlp", {"--fp16"})), {{"LLMLAUNCH_CUDA_HOST_FAIL", "launch:32=719"}});
  CHECK(run.status == 69);
  CHECK_THAT(run.said, Catch::Contains("cuda_backend.cpp") && Catch::Contains("cudaErrorLaunchFailure") &&
                           !Catch::Contains("overflowed") && !Catch::Contains("step 1/"));
}

TEST_CASE("a rank whose device or NCCL fails says so, and the others end with the generation, inside a collective") {
  struct Row {
    const char* rules;
    int status;
    const char* said;
  };
  const char* const graph = GENERATE("false", "true");
  const Words flags = on_device(job("mlp", {"--cuda_graph", graph}, "4", "1"));
  for (const auto& [rules, status, said] : {
           Row{"ncclAllReduce:3=2@1", 69, "ncclAllReduce(values.data(), values.data()"},
           Row{"ncclAllGather:2=5@1", 78, "two ranks of one host may have the same GPU"},
           Row{"async:60=6@1", 69,
               "remote process exited or there was a network error: an error that a test asked for"},
           Row{"work:220=700@1", 69, "cudaErrorIllegalAddress"},
           Row{"cudaMalloc:20=2@1", 71, "the GPU's memory is full"},
       }) {
    CAPTURE(graph, rules);
    ServedRendezvous served({"alpha", "alpha"});
    Ranks ranks = start_on_devices(served, flags, {{"LLMLAUNCH_CUDA_HOST_FAIL", rules}});
    const int failed = ranks[1]->wait();
    served.end_generation("rank 1 failed");
    const int other = ranks[0]->wait();
    INFO(ranks[0]->output() << ranks[1]->output());
    CHECK(failed == status);
    CHECK(other == 75);
    CHECK_THAT(ranks[1]->output(),
               Catch::Contains("llmlaunch-train: error: rank 1 on alpha, device 1: ") && Catch::Contains(said));
  }
}

TEST_CASE("where one rank cannot capture, all take the ordinary steps, to the ordinary bits") {
  const Words flags = {"--model",
                       "mlp",
                       "--train_samples",
                       "32",
                       "--eval_samples",
                       "4",
                       "--per_device_train_batch_size",
                       "4",
                       "--num_train_epochs",
                       "1"};
  const auto plain = ended_ranks(on_device(flags), {});
  REQUIRE(plain[0].status == 0);
  for (const auto& [rules, said] : {
           std::pair{"cudaEventRecord:15=900@1", "cudaEventRecord(event_, first)"},  // in the step before the capture
           std::pair{"cudaEventRecord:20=900@1", "cudaEventRecord(event_, compute_)"},
           std::pair{"cudaEventRecord:21=900@1", "cudaEventRecord(event_, first)"},  // a collective has been captured
           std::pair{"cudaStreamBeginCapture:1=801@1", "cudaStreamBeginCapture(stream, "},
           std::pair{"cudaStreamEndCapture:1=900@1", "cudaStreamEndCapture(stream, "},
           std::pair{"cudaGraphInstantiate:1=801@1", "cudaGraphInstantiateWithFlags("},
       }) {
    CAPTURE(rules);
    const auto ranks = ended_ranks(on_device(with(flags, {"--cuda_graph"})), {{"LLMLAUNCH_CUDA_HOST_FAIL", rules}});
    INFO(ranks[0].said << ranks[1].said);
    CHECK(ranks[0].status == 0);
    CHECK(ranks[1].status == 0);
    CHECK_THAT(ranks[1].said,
               Catch::Contains("warning: --cuda_graph: rank 1 on alpha, device 1: ") && Catch::Contains(said));
    CHECK_THAT(ranks[0].said, Catch::Contains("--cuda_graph: 1 of 2 ranks cannot; every step is started by the host"));
    CHECK(last_hash(ranks[0].said) == last_hash(plain[0].said));
  }
}

TEST_CASE("a stop, which ends the generation as well, leaves ranks on devices the time to save") {
  const TemporaryFolder folder;
  const std::string graph = GENERATE("false", "true");
  const Words flags = on_device(job("mlp", {"--cuda_graph", graph, "--output_dir", folder.file("run"), "--max_steps",
                                            "100000", "--save_strategy", "steps", "--save_steps", "100000"}));
  ServedRendezvous served({"alpha", "alpha"});
  Ranks ranks = start_on_devices(served, flags, {});
  REQUIRE(ranks[0]->wait_for("step 4/"));
  served.end_generation("stopped by SIGTERM");
  for (auto& rank : ranks) rank->kill(SIGTERM);
  for (auto& rank : ranks) {
    const int status = rank->wait();
    INFO(rank->output());
    CHECK(status == 128 + SIGTERM);
  }
  CHECK_THAT(ranks[0]->output(), Catch::Contains("stopped by SIGTERM after step ") && Catch::Contains(" has it"));
}

TEST_CASE("a loss that is no number has the CPU's words and status on the device, too, however its steps are started") {
  // The first step has rate 0, the second is wild, and those after it may be a graph's.
  const Words wild = job("mlp", {"--learning_rate", "1e38", "--warmup_steps", "1"}, "8", "1");
  for (const char* on_nan : {"stop", "continue", "skip"}) {
    const Ended cpu = ended(command(with(wild, {"--on_nan", on_nan})));
    for (const char* graph : {"false", "true"}) {
      if (on_nan == std::string("skip") && graph == std::string("true")) continue;  // refused
      CAPTURE(on_nan, graph);
      const Ended device = ended(on_device(with(wild, {"--on_nan", on_nan, "--cuda_graph", graph})), seed(3));
      CHECK(device.status == cpu.status);
      CHECK(device.status == 65);
      CHECK(complaints(device.said) == complaints(cpu.said));
      CHECK(!complaints(device.said).empty());
    }
  }
}

TEST_CASE("a device that is too old for a precision, and more ranks than devices, are one message and 69") {
  const Ended old = ended(on_device(job("mlp", {"--bf16"})), {{"LLMLAUNCH_CUDA_HOST_CAPABILITY", "7"}});
  CHECK(old.status == 69);
  CHECK_THAT(old.said, Catch::Contains("--bf16 needs a GPU of compute capability 8 (Ampere) or newer; this one has 7"));
  const Ended none = ended(on_device(job("mlp")), {{"LLMLAUNCH_CUDA_HOST_DEVICES", "0"}});
  CHECK(none.status == 69);
  CHECK_THAT(none.said, Catch::Contains("no GPU: cudaGetDeviceCount"));
}

}  // namespace emulated_train_test
