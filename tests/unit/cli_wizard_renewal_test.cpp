// What `config update` makes of older words: the same to every rank, in the same places.
#include "cli/wizard_renewal.hpp"
#include "tests/support/catch.hpp"

namespace cli_wizard_renewal_test {

using namespace llmlaunch;
using namespace llmlaunch::cli;

namespace {

using Names = std::vector<std::string>;

Renewal renew(const std::string& text) {
  const auto read = [](const std::string& words) { return launcher::parse_config(words, "a.yaml"); };
  const auto config = read(text);
  INFO((config ? "" : to_string(config.error())));
  REQUIRE(config);
  return renewed(text, "a.yaml", *config, read);
}

struct Row {
  const char* before;
  const char* after;
  Names renamed;
  Names added = {};
};

}  // namespace

TEST_CASE("older words become those that accelerate reads now, and all else stays") {
  const Row rows[] = {
      {"# mine\nfp16: true   # not bf16\n",
       "# mine\nmixed_precision: fp16   # not bf16\n",
       {"fp16 to mixed_precision"}},
      {"fp16: false\n", "mixed_precision: \"no\"\n", {"fp16 to mixed_precision"}},
      {"{fp16: yes, debug: true}", "{mixed_precision: fp16, debug: true}", {"fp16 to mixed_precision"}},
      {"dynamo_backend: INDUCTOR # fast\ndebug: true\n",
       "dynamo_config:\n  dynamo_backend: INDUCTOR # fast\ndebug: true\n",
       {"dynamo_backend to dynamo_config.dynamo_backend"}},
      {"mixed_precision: fp8\nfp8_config:\n  amax_history_length: 8\n  'fp8_amax_compute_algorithm': max\n"
       "  optimization_level: O1\n  backend: TE\n",
       "mixed_precision: fp8\nfp8_config:\n  amax_history_len: 8\n  'fp8_amax_compute_algo': max\n  opt_level: O1\n"
       "  backend: TE\n",
       {"fp8_config.amax_history_length to amax_history_len",
        "fp8_config.fp8_amax_compute_algorithm to fp8_amax_compute_algo",
        "fp8_config.optimization_level to opt_level"}},
      {"distributed_type: FSDP\nfsdp_config: {fsdp_version: 1, fsdp_backward_prefetch_policy: BACKWARD_PRE}\n",
       "distributed_type: FSDP\nfsdp_config: {fsdp_version: 1, fsdp_backward_prefetch: BACKWARD_PRE}\n",
       {"fsdp_config.fsdp_backward_prefetch_policy to fsdp_backward_prefetch"}},
      {"\xef\xbb\xbf"
       "fp16: true\n",
       "\xef\xbb\xbf"
       "mixed_precision: fp16\n",
       {"fp16 to mixed_precision"}},
      // Without effect, or said by another key: nothing to do.
      {"fp16: true\nmixed_precision: bf16\n", nullptr, {}},
      {"dynamo_backend: INDUCTOR\ndynamo_config: {dynamo_mode: default}\n", nullptr, {}},
      {"mixed_precision: fp8\nfp8_config: {amax_history_len: 8, fp8_margin: 1}\n", nullptr, {}},
  };
  for (const Row& row : rows) {
    INFO(row.before);
    const Renewal done = renew(row.before);
    CHECK(done.text == (row.after != nullptr ? row.after : row.before));
    CHECK(done.renamed == row.renamed);
    CHECK(done.added.empty());
    CHECK(renew(done.text).renamed.empty());
  }
}

TEST_CASE("a file of FSDP without a version is written down as the version 1 that it has") {
  const Row rows[] = {
      {"distributed_type: FSDP\nfsdp_config:\n  # mine\n  fsdp_offload_params: true\n  fsdp_use_orig_params: false\n",
       "distributed_type: FSDP\nfsdp_config:\n  # mine\n  fsdp_version: 1\n  fsdp_offload_params: true\n"
       "  fsdp_use_orig_params: false\n",
       {}},
      {"distributed_type: FSDP\nfsdp_config: { offload_params: true }\n",
       "distributed_type: FSDP\nfsdp_config: { fsdp_version: 1, offload_params: true }\n",
       {}},
  };
  for (const Row& row : rows) {
    const Renewal done = renew(row.before);
    CHECK(done.text == row.after);
    CHECK(done.added == Names{"fsdp_config.fsdp_version"});
  }
  for (const char* text : {"distributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n", "distributed_type: FSDP\n",
                           "distributed_type: MULTI_GPU\nfsdp_config: {fsdp_offload_params: true}\n"})
    CHECK(renew(text).text == text);
}

TEST_CASE("a change that does not fit how the file is written is not made") {
  const std::string flow = "distributed_type: FSDP\nfsdp_config: {\n  offload_params: true }\n";
  CHECK(renew(flow).text == flow);  // a line on its own belongs to no {…}
  const std::string keyed = "{dynamo_backend: INDUCTOR, debug: true}";
  CHECK(renew(keyed).text == keyed);
}

TEST_CASE("a place is found by its line and its characters") {
  const std::string text = "a: 1\n  \xc3\xa4\xc3\xb6: {'key': 2}\n";
  CHECK(offset_of(text, "f:1:1") == 0u);
  CHECK(offset_of(text, "f:x:2:3") == 7u);
  CHECK(offset_of(text, "f:2:8") == text.find('\''));
  CHECK(key_at(text, "f:2:8") == "key");
  for (const char* place : {"", "f", ":1", "1:1", "f:0:1", "f:1:0", "f:9:1", "f:1:99", "f:1:x", "f:3:1"})
    CHECK_FALSE(offset_of(text, place));
}

}  // namespace cli_wizard_renewal_test
