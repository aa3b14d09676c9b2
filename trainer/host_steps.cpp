// Each step is taken when it is launched. Called by the training loop, and by tests as the measure of a device's steps.
#include "trainer/host_steps.hpp"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "trainer/dataset.hpp"

namespace llmlaunch::trainer {
namespace {

class HostSteps final : public ResidentSteps {
 public:
  HostSteps(Backend& backend, ResidentPlan plan)
      : backend_(backend),
        plan_(std::move(plan)),
        pixels_(plan_.batch_size * kImageValues),
        labels_(plan_.batch_size) {}

  Result<void> begin(std::span<const std::uint32_t> order, std::span<const ResidentStep> steps) override {
    if (!losses_.empty()) {
      return make_error(Errc::internal, fmt::format("{} steps were not looked at", losses_.size()));
    }
    order_.assign(order.begin(), order.end());
    steps_.assign(steps.begin(), steps.end());
    next_ = 0;
    return ok;
  }

  Result<void> launch() override {
    if (next_ == steps_.size() || losses_.size() == kStepsInFlight) {
      return make_error(Errc::internal, fmt::format("step {} of {} cannot be launched, {} wait to be looked at",
                                                    next_ + 1, steps_.size(), losses_.size()));
    }
    const ResidentStep& step = steps_[next_++];
    fill_batch(*plan_.images, std::span(order_).subspan(step.first_position, plan_.batch_size), pixels_, labels_);
    const Batch batch = {
        .images = pixels_, .labels = labels_, .samples = {.first = step.first_sample, .stride = plan_.sample_stride}};
    const auto result = backend_.forward_backward(batch, {}, plan_.ready);
    if (!result) return result.error();
    losses_.push_back(result->loss_sum / static_cast<double>(result->count));
    if (auto averaged = plan_.averaged(); !averaged) return averaged;
    halted_ = halted_ || (plan_.halts && !std::isfinite(losses_.back()));
    return halted_ ? Result<void>(ok) : backend_.optimizer_step(step.optimizer_step, step.learning_rate);
  }

  Result<std::vector<double>> collect() override {
    if (auto drained = plan_.drained(); !drained) return drained.error();
    return std::exchange(losses_, {});
  }

 private:
  Backend& backend_;
  ResidentPlan plan_;
  std::vector<float> pixels_;
  std::vector<std::uint8_t> labels_;
  std::vector<std::uint32_t> order_;
  std::vector<ResidentStep> steps_;
  std::vector<double> losses_;
  std::size_t next_ = 0;
  bool halted_ = false;
};

}  // namespace

std::unique_ptr<ResidentSteps> make_host_steps(Backend& backend, ResidentPlan plan) {
  return std::make_unique<HostSteps>(backend, std::move(plan));
}

}  // namespace llmlaunch::trainer
