// Checks and cuts safetensors files. Called by checkpoint.cpp; touches no file.
#include "trainer/safetensors.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "rendezvous/base/counted.hpp"

namespace llmlaunch::trainer {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "tensors are written as they lie in memory");

constexpr std::size_t kLengthBytes = 8;
constexpr const char* kMetadata = "__metadata__";

Error bad_file(const std::string& name, std::string what) {
  return make_error(Errc::invalid_config, std::move(what), name);
}

/// One entry of the header, checked by itself.
struct Place {
  std::string name;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// Nothing where the product does not fit.
std::optional<std::uint64_t> bytes_of(const std::vector<std::uint64_t>& shape) {
  std::uint64_t bytes = sizeof(float);
  for (const std::uint64_t side : shape) {
    if (side != 0 && bytes > kMaxSafetensorsFile / side) return std::nullopt;
    bytes *= side;
  }
  return bytes;
}

std::optional<std::vector<std::uint64_t>> numbers_in(const json& entry, const char* key) {
  const auto list = entry.find(key);
  if (list == entry.end() || !list->is_array()) return std::nullopt;
  std::vector<std::uint64_t> numbers;
  for (const json& number : *list) {
    if (!number.is_number_unsigned()) return std::nullopt;
    numbers.push_back(number.get<std::uint64_t>());
  }
  return numbers;
}

Result<Place> parse_place(const std::string& tensor, const json& entry, std::uint64_t data_bytes,
                          const std::string& name) {
  if (!entry.is_object()) return bad_file(name, fmt::format("tensor {}: its entry is no mapping", tensor));
  const auto type = entry.find("dtype");
  if (type == entry.end() || !type->is_string()) return bad_file(name, fmt::format("tensor {}: no dtype", tensor));
  if (*type != "F32") {
    return bad_file(name, fmt::format("tensor {}: dtype {}; F32 is read", tensor, type->get<std::string>()));
  }
  const auto shape = numbers_in(entry, "shape");
  const auto offsets = numbers_in(entry, "data_offsets");
  if (!shape || !offsets || offsets->size() != 2) {
    return bad_file(name, fmt::format("tensor {}: no shape and data_offsets of numbers", tensor));
  }
  const std::uint64_t begin = offsets->front();
  const std::uint64_t end = offsets->back();
  if (begin > end || end > data_bytes) {
    return bad_file(name, fmt::format("tensor {}: bytes {} to {} of {}", tensor, begin, end, data_bytes));
  }
  if (bytes_of(*shape) != end - begin) {
    return bad_file(name, fmt::format("tensor {}: {} bytes do not fit its shape ({})", tensor, end - begin,
                                      fmt::join(*shape, ", ")));
  }
  return Place{tensor, *shape, begin, end};
}

Result<std::map<std::string, std::string>> parse_metadata(const json& entry, const std::string& name) {
  std::map<std::string, std::string> metadata;
  if (!entry.is_object()) return bad_file(name, "__metadata__ is no mapping");
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) return bad_file(name, fmt::format("__metadata__: {} is no text", key));
    metadata[key] = value.get<std::string>();
  }
  return metadata;
}

ByteView data_of(const TensorView& tensor) {
  return tensor.bytes.empty() ? std::as_bytes(tensor.values) : std::as_bytes(tensor.bytes);
}

/// Every byte of the data belongs to one tensor.
Result<void> check_cover(std::vector<Place> places, std::uint64_t data_bytes, const std::string& name) {
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t next = 0;
  for (const Place& place : places) {
    if (place.begin != next) {
      return bad_file(name, fmt::format("tensor {} begins at byte {}, not {}", place.name, place.begin, next));
    }
    next = place.end;
  }
  if (next != data_bytes)
    return bad_file(name, fmt::format("{} after the last tensor", counted(data_bytes - next, "byte")));
  return ok;
}

}  // namespace

Bytes write_safetensors(std::span<const TensorView> tensors, const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header;
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::uint64_t next = 0;
  for (const TensorView& tensor : tensors) {
    assert(next % sizeof(float) == 0 || !tensor.bytes.empty());
    const std::uint64_t size = data_of(tensor).size();
    header[tensor.name] = {
        {"dtype", tensor.bytes.empty() ? "F32" : "U8"}, {"shape", tensor.shape}, {"data_offsets", {next, next + size}}};
    next += size;
  }
  std::string text = header.is_null() ? "{}" : header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  Bytes file;
  file.reserve(kLengthBytes + text.size() + next);
  for (std::size_t i = 0; i < kLengthBytes; ++i) file.push_back(static_cast<std::byte>(text.size() >> (8 * i)));
  const auto append = [&](ByteView bytes) { file.insert(file.end(), bytes.begin(), bytes.end()); };
  append(as_bytes(text));
  for (const TensorView& tensor : tensors) append(data_of(tensor));
  return file;
}

Result<Safetensors> parse_safetensors(ByteView file, const std::string& name) {
  if (file.size() < kLengthBytes)
    return bad_file(
        name, fmt::format("{} {} no safetensors file", counted(file.size(), "byte"), file.size() == 1 ? "is" : "are"));
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i > 0; --i) length = length << 8U | std::to_integer<std::uint64_t>(file[i - 1]);
  if (length > kMaxSafetensorsHeader) {
    return bad_file(name, fmt::format("claims a header of {} bytes; the limit is {}", length, kMaxSafetensorsHeader));
  }
  if (length > file.size() - kLengthBytes) {
    return bad_file(name, fmt::format("is truncated: {} bytes, and its header alone has {}", file.size(), length));
  }
  const json header = json::parse(as_text(file.subspan(kLengthBytes, length)), nullptr, false);
  if (!header.is_object()) return bad_file(name, "its header is no JSON mapping");
  const ByteView data = file.subspan(kLengthBytes + length);

  Safetensors result;
  std::vector<Place> places;
  for (const auto& [key, entry] : header.items()) {
    if (key == kMetadata) {
      auto metadata = parse_metadata(entry, name);
      if (!metadata) return metadata.error();
      result.metadata = std::move(*metadata);
      continue;
    }
    auto place = parse_place(key, entry, data.size(), name);
    if (!place) return place.error();
    places.push_back(std::move(*place));
  }
  if (auto whole = check_cover(places, data.size(), name); !whole) return whole.error();
  for (Place& place : places) {
    std::vector<float> values((place.end - place.begin) / sizeof(float));
    if (!values.empty()) std::memcpy(values.data(), data.data() + place.begin, place.end - place.begin);
    result.tensors[place.name] = {std::move(place.shape), std::move(values)};
  }
  return result;
}

}  // namespace llmlaunch::trainer
