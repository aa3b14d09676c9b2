// Initial weights, the order of the images and AdamW's steps against PyTorch's own:
// tests/fixtures/make_torch_numbers.py drew them.
#include <zlib.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "tests/support/catch.hpp"
#include "trainer/backend.hpp"
#include "trainer/cpu_kernels.hpp"
#include "trainer/init.hpp"
#include "trainer/sampler.hpp"
#include "trainer/torch_random.hpp"

namespace trainer_torch_numbers_test {

using namespace llmlaunch::trainer;

namespace {

nlohmann::json fixture() {
  std::ifstream file(LLMLAUNCH_FIXTURES "/torch_numbers.json");
  REQUIRE(file);
  return nlohmann::json::parse(file);
}

template <class T>
std::uint32_t checksum(std::span<const T> values) {
  const auto* bytes = reinterpret_cast<const Bytef*>(values.data());
  return static_cast<std::uint32_t>(crc32(0, bytes, static_cast<uInt>(values.size_bytes())));
}

}  // namespace

TEST_CASE("the initial weights are PyTorch's, bit for bit") {
  const auto all = fixture();
  REQUIRE(all.at("weights").size() == 5 * all_models().size());
  std::map<std::string, int> seen;
  for (const auto& one : all.at("weights")) {
    const auto seed = one.at("seed").get<std::uint64_t>();
    const Model* const model = find_model(one.at("model").get<std::string>());
    REQUIRE(model != nullptr);
    ++seen[model->name];
    REQUIRE(one.at("crc32").size() == model->parameters.size());
    const std::vector<float> values = initial_parameters(*model, seed);
    for (const Parameter& parameter : model->parameters) {
      CAPTURE(model->name, seed, parameter.name);
      const auto tensor = std::span<const float>(values).subspan(parameter.first, parameter.count);
      CHECK(checksum(tensor) == one.at("crc32").at(parameter.name).get<std::uint32_t>());
    }
  }
  for (const Model* model : all_models()) CHECK(seen[model->name] == 5);
}

TEST_CASE("every rank's images in an epoch are DistributedSampler's, in its order") {
  const auto all = fixture();
  REQUIRE(all.at("samplers").size() == 26);
  for (const auto& one : all.at("samplers")) {
    const auto ranks = one.at("ranks").get<std::uint32_t>();
    const auto tail = one.at("drop_last").get<bool>() ? Tail::drop : Tail::repeat;
    std::vector<std::uint32_t> lists;
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      const DistributedSampler sampler(one.at("images"), ranks, rank, one.at("seed"), tail);
      const auto list = sampler.epoch(one.at("epoch"));
      CAPTURE(one.dump());
      REQUIRE(list.size() == one.at("size").get<std::size_t>());
      CHECK(sampler.size() == list.size());
      lists.insert(lists.end(), list.begin(), list.end());
    }
    CAPTURE(one.dump());
    CHECK(checksum(std::span<const std::uint32_t>(lists)) == one.at("crc32").get<std::uint32_t>());
  }
}

TEST_CASE("AdamW's steps are those of torch.optim.AdamW(fused=True), bit for bit") {
  const auto all = fixture();
  REQUIRE(all.at("adamw").size() == 3);
  for (const auto& one : all.at("adamw")) {
    CAPTURE(one.dump());
    const std::size_t values = one.at("values");
    TorchGenerator generator(values);
    const auto numbers = [&] {
      std::vector<float> drawn(values);
      for (float& value : drawn) value = generator.uniform(0, 1) * 2 - 1;
      return drawn;
    };
    std::vector<float> parameters = numbers();
    std::vector<float> first(values), second(values);
    const AdamWOptions options{.weight_decay = one.at("weight_decay"),
                               .beta1 = one.at("beta1"),
                               .beta2 = one.at("beta2"),
                               .epsilon = one.at("epsilon")};
    float part = 1;
    for (std::uint64_t step = 1; step <= one.at("steps").get<std::uint64_t>(); ++step, part /= 2) {
      std::vector<float> gradient = numbers();
      for (float& value : gradient) value *= part;
      adamw_step(parameters, first, second, gradient, options, one.at("learning_rate"), step);
    }
    CHECK(checksum(std::span<const float>(first)) == one.at("exp_avg").get<std::uint32_t>());
    CHECK(checksum(std::span<const float>(second)) == one.at("exp_avg_sq").get<std::uint32_t>());
    CHECK(checksum(std::span<const float>(parameters)) == one.at("parameters").get<std::uint32_t>());
  }
}

TEST_CASE("uniform numbers are torch.rand's") {
  TorchGenerator generator(0);
  for (const float expected : fixture().at("uniform_seed_0").get<std::vector<float>>()) {
    CHECK(generator.uniform(0, 1) == expected);
  }
}

TEST_CASE("a permutation of 60,000 is torch.randperm's") {
  // Checksums of the list as little-endian int32, from published runs of PyTorch.
  for (const auto& [seed, expected] :
       std::vector<std::pair<std::uint64_t, std::uint32_t>>{{0, 0x7641ac11}, {1, 0x4da87566}, {42, 0x21905774}}) {
    const auto order = shuffled(60'000, seed);
    CHECK(checksum(std::span<const std::uint32_t>(order)) == expected);
  }
}

}  // namespace trainer_torch_numbers_test
