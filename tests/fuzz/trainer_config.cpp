// A file of settings for the trainer: whatever it holds, it is refused with a place in it, or gives options within the
// limits that flags have.
#include "tests/fuzz/fuzz.hpp"
#include "trainer/options.hpp"

using namespace llmlaunch;
using namespace llmlaunch::trainer;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::vector<std::string> arguments = {"--config", "cfg.yaml"};
  const auto parsed = parse_options(arguments, [&](const std::string&) -> Result<std::string> { return text; });
  if (!parsed) {
    FUZZ_CHECK(parsed.error().code == Errc::invalid_config);
    FUZZ_CHECK(parsed.error().where.starts_with("cfg.yaml"));
    FUZZ_CHECK(!parsed.error().what.empty());
    return 0;
  }
  const TrainOptions& o = parsed->options;
  FUZZ_CHECK(parsed->answer.empty());
  FUZZ_CHECK(o.num_train_epochs > 0 && o.per_device_train_batch_size >= 1 && o.logging_steps > 0 && o.eval_steps >= 0 &&
             o.save_steps > 0);
  FUZZ_CHECK(o.max_steps == -1 || o.max_steps > 0);
  FUZZ_CHECK(o.learning_rate >= 0 && o.weight_decay >= 0 && o.adam_epsilon > 0 && o.max_grad_norm >= 0);
  FUZZ_CHECK(o.adam_beta1 >= 0 && o.adam_beta1 <= 1);
  FUZZ_CHECK(o.save_strategy == SaveStrategy::no || !o.output_dir.empty());
  FUZZ_CHECK(o.save_strategy != SaveStrategy::best ||
             (o.eval_strategy != IntervalStrategy::no && o.metric_for_best_model));
  FUZZ_CHECK(o.notes.size() <= 6);
  return 0;
}
