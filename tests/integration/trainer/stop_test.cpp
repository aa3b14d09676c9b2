// A job that is stopped, by a signal or by the loss of its launcher, keeps what it has learnt.
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <memory>

#include "tests/integration/trainer/checkpoint_job.hpp"

namespace stop_test {

using namespace llmlaunch;
using namespace llmlaunch::test;

TEST_CASE("a SIGTERM to one rank saves the state of all, which end with 143 and say whose it was") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const std::string undisturbed = last_hash(finished_on_two(job("8", {}, kManyEpochs)));
  const Words saving =
      job("8", {"--output_dir", output, "--save_strategy", "epoch", "--log_level_replica", "info"}, kManyEpochs);
  {
    const ServedRendezvous served({"alpha", "beta"});
    Ranks ranks = start_ranks(served, 2, saving);
    REQUIRE(ranks[0]->wait_for("step 2" + kOfSteps));
    for (int i = 0; i < 2; ++i) ranks[1]->kill(SIGTERM);  // as coreutils' timeout, to the child and to its group
    for (auto& rank : ranks) {
      const int status = rank->wait();
      INFO(rank->output());
      CHECK(status == 128 + SIGTERM);
    }
    CHECK_THAT(ranks[0]->output(), Catch::Contains("stopped by SIGTERM to rank 1 on beta after step ") &&
                                       Catch::Contains(kOfSteps + "; " + output) && !Catch::Contains("warning"));
    CHECK_THAT(ranks[1]->output(), Catch::Contains(kOfSteps + "; rank 0's checkpoint has it") &&
                                       Catch::Contains("warning: stopped by SIGTERM to rank 1 on beta\n"));
  }
  CHECK(last_hash(finished_on_two(with(saving, {"--resume_from_checkpoint", "true"}))) == undisturbed);
}

TEST_CASE("ranks whose launcher is gone save the state of all") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  auto served = std::make_unique<ServedRendezvous>(std::vector<std::string>{"alpha", "beta"});
  Ranks ranks = start_ranks(*served, 2, job("8", {"--output_dir", output, "--save_strategy", "epoch"}, kManyEpochs));
  REQUIRE(ranks[0]->wait_for("step 2" + kOfSteps));
  served.reset();
  for (auto& rank : ranks) {
    const int status = rank->wait();
    INFO(rank->output());
    CHECK(status == 69);
  }
  const auto saved = names_in(output);
  REQUIRE_FALSE(saved.empty());
  INFO(ranks[0]->output());
  CHECK_THAT(ranks[0]->output(), Catch::Contains("stopped by the lost connection to the launcher after step ") &&
                                     Catch::Contains("/checkpoint-") && Catch::Contains(" has it\n"));
  CHECK_FALSE(std::filesystem::exists(output + "/" + saved.front() + ".unfinished"));
}

/// Carries one connection to the port that is its argument, and says where it waits for it.
constexpr const char* kRelay = R"(
import socket, sys, threading
door = socket.create_server(('127.0.0.1', 0))
print(f'port {door.getsockname()[1]}.', flush=True)
near, far = door.accept()[0], socket.create_connection(('127.0.0.1', int(sys.argv[1])))
def carry(taker, giver):
    while piece := taker.recv(65536):
        giver.sendall(piece)
threading.Thread(target=carry, args=(far, near), daemon=True).start()
carry(near, far)
)";

TEST_CASE("one rank that loses its connection to the launcher says so, and the state of all is saved") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const ServedRendezvous served({"alpha", "beta"});
  ChildProcess relay({"/usr/bin/python3", "-c", kRelay, std::to_string(served.port())});
  REQUIRE(relay.wait_for("."));
  const std::string port = relay.output().substr(5, relay.output().find('.') - 5);
  const Words words = command(job("8", {"--output_dir", output, "--save_strategy", "epoch"}, kManyEpochs));
  auto behind = served.environment(1);
  behind["LLMLAUNCH_RENDEZVOUS"] = "127.0.0.1:" + port;
  ChildProcess first(words, served.environment(0)), second(words, behind);
  REQUIRE(first.wait_for("step 2" + kOfSteps));
  relay.kill(SIGKILL);
  CHECK(second.wait() == 69);
  CHECK(first.wait() == 143);
  INFO(first.output() << second.output());
  CHECK_THAT(second.output(), Catch::Contains("llmlaunch-train: error: ") && Catch::Contains("127.0.0.1:" + port));
  CHECK_THAT(first.output(),
             Catch::Contains("stopped by the lost connection to the launcher of rank 1 on beta after step ") &&
                 Catch::Contains("/checkpoint-") && Catch::Contains(" has it\n"));
}

TEST_CASE("a SIGTERM ends a test that takes longer than the launcher waits, and what was learnt is saved before it") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const auto words = [&](const char* images, const Words& more) {
    return with(
        {"--train_samples", "160", "--per_device_train_batch_size", "16", "--logging_steps", "1", "--max_steps", "2",
         "--output_dir", output, "--save_strategy", "steps", "--save_steps", "10", "--eval_samples", images},
        more);
  };
  ChildProcess run(command(words(LLMLAUNCH_SANITIZED ? "4000" : "60000", {})), kAlone);
  REQUIRE(run.wait_for("step 2/2"));
  run.kill(SIGTERM);
  const int status = run.wait();
  INFO(run.output());
  CHECK(status == 128 + SIGTERM);
  CHECK_THAT(run.output(), Catch::Contains("stopped by SIGTERM after step 2/2; " + output + "/checkpoint-2 has it") &&
                               !Catch::Contains("test accuracy"));
  CHECK_THAT(finished_alone(words("20", {"--resume_from_checkpoint", "true"})),
             Catch::Contains("nothing is left to train: 2 of 2 steps are done") && Catch::Contains("test accuracy"));
}

TEST_CASE("a SIGTERM to one rank ends a long step of both, which then was not taken") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const Words words = {"--train_samples",
                       "16384",
                       "--per_device_train_batch_size",
                       "32",
                       "--logging_steps",
                       "1",
                       "--gradient_accumulation_steps",
                       "128",
                       "--eval_samples",
                       "20",
                       "--output_dir",
                       output,
                       "--save_strategy",
                       "steps",
                       "--save_steps",
                       "1000",
                       "--num_train_epochs",
                       "3"};
  const ServedRendezvous served({"alpha", "beta"});
  Ranks ranks = start_ranks(served, 2, words);
  REQUIRE(ranks[0]->wait_for("step 1/"));
  ranks[1]->kill(SIGTERM);
  for (auto& rank : ranks) {
    const int status = rank->wait();
    INFO(rank->output());
    CHECK(status == 128 + SIGTERM);
  }
  CHECK_THAT(ranks[0]->output(), Catch::Contains("stopped by SIGTERM to rank 1 on beta after step 1/"));
  CHECK(names_in(output) == std::vector<std::string>{"checkpoint-1"});
}

TEST_CASE("Ctrl-C on a job that no launcher started saves it, and again ends it at once") {
  const TemporaryFolder folder;
  const std::string output = folder.file("run");
  const std::string undisturbed = last_hash(finished_alone(job("16", {}, kManyEpochs)));
  const Words saving = job("16", {"--output_dir", output, "--resume_from_checkpoint", "true"}, kManyEpochs);
  {
    ChildProcess run(command(saving), kAlone);
    REQUIRE(run.wait_for("step 2" + kOfSteps));
    run.kill(SIGINT);
    const int status = run.wait();
    INFO(run.output());
    CHECK(status == 128 + SIGINT);
    const std::string saved = names_in(output).at(0);
    CHECK_THAT(run.output(),
               Catch::Contains("llmlaunch-train: Ctrl-C: the job is saved and ends; once more ends it at once\n") &&
                   Catch::Contains("stopped by Ctrl-C after step " + saved.substr(11) + kOfSteps + "; " + output + "/" +
                                   saved + " has it\n"));
  }
  CHECK(last_hash(finished_alone(saving)) == undisturbed);
  // Two steps so long that all of this comes within the second of them.
  ChildProcess slow(
      command({"--train_samples", "2048", "--per_device_train_batch_size", "256", "--gradient_accumulation_steps", "4",
               "--logging_steps", "1", "--output_dir", folder.file("slow")}),
      kAlone);
  REQUIRE(slow.wait_for("step 1/2"));
  slow.kill(SIGINT);
  REQUIRE(slow.wait_for("Ctrl-C: the job is saved and ends"));
  while (!slow.ends_within(std::chrono::milliseconds(10))) slow.kill(SIGINT);  // what comes at once is the same one
  CHECK(slow.wait() == 128 + SIGINT);
  CHECK_THAT(slow.output(), !Catch::Contains("stopped by Ctrl-C") &&
                                Catch::Contains("warning: stopped by a second SIGINT; no checkpoint was waited for\n"));
  CHECK(names_in(folder.file("slow")).empty());
}

TEST_CASE("SIGINT to a rank of many still ends it at once: its launcher takes Ctrl-C, and sends SIGTERM") {
  const TemporaryFolder folder;
  const ServedRendezvous served({"alpha", "beta"});
  Ranks ranks = start_ranks(served, 2, job("8", {"--output_dir", folder.file("run")}, kManyEpochs));
  REQUIRE(ranks[0]->wait_for("step 2" + kOfSteps));
  ranks[0]->kill(SIGINT);
  CHECK(ranks[0]->wait() == 128 + SIGINT);
  CHECK(ranks[1]->wait() == 69);
  CHECK(names_in(folder.file("run")).empty());
}

TEST_CASE("the test of the step that a SIGTERM ended is made up for") {
  const TemporaryFolder folder;
  const auto saving = [&](const char* name, const std::string& steps) {
    return with(kShort,
                {"--per_device_train_batch_size", "16", "--max_steps", steps, "--eval_strategy", "steps",
                 "--eval_steps", "1", "--save_strategy", "steps", "--save_steps", "1", "--load_best_model_at_end",
                 "--save_total_limit", "2", "--output_dir", folder.file(name), "--report_to", "json"});
  };
  const auto resuming = [&](const std::string& steps) {
    return with(saving("stopped", steps), {"--resume_from_checkpoint", "true"});
  };
  ChildProcess run(command(saving("stopped", "2000")), kAlone);
  REQUIRE(run.wait_for("step 2/2000"));
  run.kill(SIGTERM);
  REQUIRE(run.wait() == 128 + SIGTERM);
  const std::string before = "stopped by SIGTERM after step ";
  const std::string said = run.output().substr(run.output().find(before) + before.size());
  const int step = std::stoi(said);
  CHECK_FALSE(is_tested(state_in(folder.file("stopped"), step), step));
  // As if it had been the last step, and as one in the middle.
  for (const int last : {step, step + 3}) {
    const std::string steps = std::to_string(last);
    CAPTURE(steps);
    finished_alone(resuming(steps));
    finished_alone(saving(("undisturbed" + steps).c_str(), steps));
    const auto resumed = state_in(folder.file("stopped"), last);
    const auto undisturbed = state_in(folder.file("undisturbed" + steps), last);
    CHECK(is_tested(resumed, step));
    CHECK(told_by(resumed.at("log_history")) == told_by(undisturbed.at("log_history")));
    CHECK(resumed.at("best_global_step") == undisturbed.at("best_global_step"));
    CHECK(resumed.at("best_metric") == undisturbed.at("best_metric"));
    CHECK(told_by(records_in(folder.file("stopped"))) == told_by(records_in(folder.file("undisturbed" + steps))));
  }
}

}  // namespace stop_test
