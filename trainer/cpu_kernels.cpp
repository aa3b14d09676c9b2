// Plain loops over flat arrays, written so that the compiler vectorises them. Called by the CPU's network and backend.
#include "trainer/cpu_kernels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <cmath>

#include "trainer/philox.hpp"

namespace llmlaunch::trainer {
namespace {

using Row = std::span<const float, kClasses>;

Row row_of(std::span<const float> logits, std::size_t index) {
  return logits.subspan(index * kClasses).first<kClasses>();
}

/// Blocks of masks that are drawn side by side, so that the compiler uses vector instructions.
constexpr std::size_t kBlocksAtOnce = 16;

void draw_words(std::array<std::uint32_t, 4 * kBlocksAtOnce>& words, const MaskKey& key, std::uint32_t first_block) {
  for (std::uint32_t i = 0; i < kBlocksAtOnce; ++i) {
    const PhiloxBlock block = mask_block(key, first_block + i);
    for (std::size_t w = 0; w < 4; ++w) words[4 * i + w] = block.word[w];
  }
}

/// log Σ exp, of a row whose largest logit is `largest`, relative to it.
double log_sum(Row row, double largest) {
  double sum = 0;
  for (const float logit : row) sum += std::exp(logit - largest);
  return std::log(sum);
}

}  // namespace

void drop_out(std::span<float> values, std::size_t features, float p, const MaskChoice& choice) {
  assert(values.size() % features == 0);
  const float factor = 1.0F / (1.0F - p);
  MaskKey key{.seed = choice.seed, .sample = choice.samples.first, .layer = choice.layer};
  std::array<std::uint32_t, 4 * kBlocksAtOnce> words;
  for (std::size_t row = 0; row < values.size(); row += features, key.sample += choice.samples.stride) {
    for (std::size_t first = 0; first < features; first += words.size()) {
      draw_words(words, key, static_cast<std::uint32_t>(first / 4));
      const std::size_t count = std::min(words.size(), features - first);
      float* const piece = values.data() + row + first;
      for (std::size_t i = 0; i < count; ++i) piece[i] *= is_dropped(words[i], p) ? 0.0F : factor;
    }
  }
}

void round_to_bf16(std::span<float> values) {
  for (float& value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t rounded = (bits + 0x7fffU + (bits >> 16U & 1U)) & 0xffff0000U;
    const bool is_number = (bits & 0x7fffffffU) <= 0x7f800000U;  // what is none would round to infinity
    value = std::bit_cast<float>(is_number ? rounded : bits | 0x00400000U);
  }
}

void round_to_fp16(std::span<float> values) {
  constexpr std::uint32_t kSign = 0x80000000U, kInfinity = 0x7f800000U;
  constexpr std::uint32_t kFirstTooLarge = 0x477ff000U;  // 65520, between the largest half and the next power of 2
  constexpr std::uint32_t kSmallestNormal = 0x38800000U;
  for (float& value : values) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t size = bits & ~kSign;
    const std::uint32_t normal = (size + 0xfffU + (size >> 13U & 1U)) & ~0x1fffU;
    // Beside a half the last digit of a float is 2^-24, and so the sum is rounded to that.
    const auto small = std::bit_cast<std::uint32_t>((std::bit_cast<float>(size) + 0.5F) - 0.5F);
    const std::uint32_t not_finite = size > kInfinity ? size | 0x00400000U : kInfinity;
    const std::uint32_t finite = size < kSmallestNormal ? small : normal;
    value = std::bit_cast<float>((bits & kSign) | (size < kFirstTooLarge ? finite : not_finite));
  }
}

void relu_backward(std::span<float> gradient, std::span<const float> output, float factor) {
  assert(gradient.size() == output.size());
  for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = output[i] > 0 ? gradient[i] * factor : 0.0F;
}

BatchResult softmax_loss(std::span<const float> logits, std::span<const std::uint8_t> labels) {
  BatchResult result;
  result.count = labels.size();
  for (std::size_t b = 0; b < labels.size(); ++b) {
    const Row row = row_of(logits, b);
    const auto best = std::max_element(row.begin(), row.end());
    const double largest = *best;
    result.loss_sum += log_sum(row, largest) - (row[labels[b]] - largest);
    if (best - row.begin() == labels[b]) ++result.correct;
  }
  return result;
}

void softmax_loss_backward(std::span<float> gradient, std::span<const float> logits,
                           std::span<const std::uint8_t> labels, float scale) {
  const double factor = scale / static_cast<double>(labels.size());
  for (std::size_t b = 0; b < labels.size(); ++b) {
    const Row row = row_of(logits, b);
    const double largest = *std::max_element(row.begin(), row.end());
    const double sum = log_sum(row, largest);
    for (std::size_t c = 0; c < kClasses; ++c) {
      const double softmax = std::exp(row[c] - largest - sum);
      gradient[b * kClasses + c] = static_cast<float>((softmax - (c == labels[b] ? 1 : 0)) * factor);
    }
  }
}

double norm_of(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

double scale_by(std::span<float> values, float factor) {
  for (float& value : values) value *= factor;
  return norm_of(values);
}

void adamw_step(std::span<float> parameters, std::span<float> first_moment, std::span<float> second_moment,
                std::span<const float> gradient, const AdamWOptions& options, double learning_rate,
                std::uint64_t step) {
  const auto t = static_cast<double>(step);
  const auto decay = static_cast<float>(1 - learning_rate * options.weight_decay);
  const auto share1 = static_cast<float>(1 - options.beta1);
  const auto beta2 = static_cast<float>(options.beta2);
  const auto share2 = static_cast<float>(1 - options.beta2);
  const auto epsilon = static_cast<float>(options.epsilon);
  const auto step_size = static_cast<float>(learning_rate / (1 - std::pow(options.beta1, t)));
  const auto root_correction = static_cast<float>(std::sqrt(1 - std::pow(options.beta2, t)));
  float* const p = parameters.data();
  float* const m = first_moment.data();
  float* const v = second_moment.data();
  const float* const g = gradient.data();
#pragma GCC ivdep
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    m[i] += (g[i] - m[i]) * share1;
    v[i] = v[i] * beta2 + share2 * g[i] * g[i];
    p[i] = p[i] * decay - step_size * m[i] / (std::sqrt(v[i]) / root_correction + epsilon);
  }
}

}  // namespace llmlaunch::trainer
