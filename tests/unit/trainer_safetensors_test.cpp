// safetensors files: what is written is read again, and every way to be damaged has its own words.
#include "trainer/safetensors.hpp"

#include "tests/support/catch.hpp"

namespace trainer_safetensors_test {

using namespace llmlaunch;
using namespace llmlaunch::trainer;

namespace {

std::string with_header(const std::string& header, std::size_t data_bytes) {
  std::string file;
  for (unsigned i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i));
  return file + header + std::string(data_bytes, '\0');
}

std::string error_of(const std::string& file) {
  const auto parsed = parse_safetensors(as_bytes(file), "file");
  REQUIRE_FALSE(parsed);
  CHECK(parsed.error().code == Errc::invalid_config);
  CHECK(parsed.error().where == "file");
  return parsed.error().what;
}

std::string entry(const std::string& shape, const std::string& offsets, const std::string& type = "F32") {
  return R"({"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

}  // namespace

TEST_CASE("tensors come back with names, shapes, values and metadata") {
  const std::vector<float> weight = {1, -2.5F, 3e-30F, 4, 5, 6};
  const std::vector<float> bias = {7};
  const TensorView tensors[] = {{"fc.weight", {2, 3}, weight}, {"fc.bias", {1}, bias}, {"none", {0, 4}, {}}};
  const Bytes file = write_safetensors(tensors, {{"format", "pt"}});
  const auto parsed = parse_safetensors(file, "file");
  REQUIRE(parsed);
  CHECK(parsed->metadata == std::map<std::string, std::string>{{"format", "pt"}});
  REQUIRE(parsed->tensors.size() == 3);
  CHECK(parsed->tensors.at("fc.weight").shape == std::vector<std::uint64_t>{2, 3});
  CHECK(parsed->tensors.at("fc.weight").values == weight);
  CHECK(parsed->tensors.at("fc.bias").values == bias);
  CHECK(parsed->tensors.at("none").values.empty());
  // The data begins at a multiple of 8, as readers that map the file want it.
  CHECK((file.size() - 7 * sizeof(float)) % 8 == 0);
  CHECK(parse_safetensors(write_safetensors({}, {}), "file")->tensors.empty());
}

TEST_CASE("a file cut anywhere is an error") {
  const std::vector<float> values(4, 1.0F);
  const TensorView tensors[] = {{"a", {4}, values}};
  const Bytes file = write_safetensors(tensors, {});
  for (std::size_t size = 0; size < file.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(parse_safetensors(ByteView(file).first(size), "file"));
  }
}

TEST_CASE("damage is named") {
  CHECK(error_of("short") == "5 bytes are no safetensors file");
  CHECK(error_of(std::string(8, '\xff')) == "claims a header of 18446744073709551615 bytes; the limit is 1048576");
  CHECK(error_of(with_header("{}", 0).substr(0, 9)) == "is truncated: 9 bytes, and its header alone has 2");
  CHECK(error_of(with_header("[]", 0)) == "its header is no JSON mapping");
  CHECK(error_of(with_header("{", 0)) == "its header is no JSON mapping");
  CHECK(error_of(with_header(R"({"a":3})", 0)) == "tensor a: its entry is no mapping");
  CHECK(error_of(with_header(R"({"a":{}})", 0)) == "tensor a: no dtype");
  CHECK(error_of(with_header(R"({"a":)" + entry("[1]", "[0,2]", "F16") + "}", 2)) ==
        "tensor a: dtype F16; F32 is read");
  CHECK(error_of(with_header(R"({"a":)" + entry("[-1]", "[0,4]") + "}", 4)) ==
        "tensor a: no shape and data_offsets of numbers");
  CHECK(error_of(with_header(R"({"a":)" + entry("[1]", "[0]") + "}", 4)) ==
        "tensor a: no shape and data_offsets of numbers");
  CHECK(error_of(with_header(R"({"a":)" + entry("[1]", "[0,8]") + "}", 4)) == "tensor a: bytes 0 to 8 of 4");
  CHECK(error_of(with_header(R"({"a":)" + entry("[1]", "[4,0]") + "}", 4)) == "tensor a: bytes 4 to 0 of 4");
  CHECK(error_of(with_header(R"({"a":)" + entry("[2]", "[0,4]") + "}", 4)) ==
        "tensor a: 4 bytes do not fit its shape (2)");
  CHECK(error_of(with_header(R"({"a":)" + entry("[4294967296,4294967296,4]", "[0,4]") + "}", 4)) ==
        "tensor a: 4 bytes do not fit its shape (4294967296, 4294967296, 4)");
  CHECK(error_of(with_header(R"({"a":)" + entry("[1]", "[4,8]") + "}", 8)) == "tensor a begins at byte 4, not 0");
  CHECK(error_of(with_header(R"({"a":)" + entry("[1]", "[0,4]") + R"(,"b":)" + entry("[1]", "[0,4]") + "}", 4)) ==
        "tensor b begins at byte 0, not 4");
  CHECK(error_of(with_header(R"({"a":)" + entry("[1]", "[0,4]") + "}", 12)) == "8 bytes after the last tensor");
  CHECK(error_of(with_header(R"({"__metadata__":{"step":3}})", 0)) == "__metadata__: step is no text");
  CHECK(error_of(with_header(R"({"__metadata__":"pt"})", 0)) == "__metadata__ is no mapping");
}

}  // namespace trainer_safetensors_test
