// A configuration of several sources: the input is --set, variables, the file and what it includes, in this order, with
// lines of "%%" between them. Whatever they hold, the end is a configuration or a message with a place, and no secret
// of a reference stands in it. A file that includes any name gets the last part, so that cycles and limits are walked
// too.
#include "launcher/config.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

constexpr const char* kSecret = "open-sesame";

std::string take_part(std::string& rest) {
  const auto end = rest.find("\n%%\n");
  std::string part = rest.substr(0, end);
  rest.erase(0, end == rest.npos ? end : end + 4);
  return part;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t start = 0; start < text.size();) {
    const auto end = std::min(text.find('\n', start), text.size());
    lines.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return lines;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > 8192) return 0;  // longer texts say nothing new, and each include repeats them
  std::string rest(reinterpret_cast<const char*>(data), size);
  ConfigInput input{"dir/cfg.yaml", lines_of(take_part(rest)), {{"HF_TOKEN", kSecret}, {"A", "b"}, {"HOME", "/h"}}};
  for (const std::string& line : lines_of(take_part(rest))) {
    const auto equals = line.find('=');
    if (equals != line.npos) input.environment.emplace_back(line.substr(0, equals), line.substr(equals + 1));
  }
  const std::string file = take_part(rest);
  const auto secret_in = [&](const std::string& text) {
    return std::string(reinterpret_cast<const char*>(data), size).find(kSecret) == std::string::npos &&
           text.find(kSecret) != text.npos;
  };
  (void)misspelt_variables(input.environment);
  const auto config = parse_config(file, input, [&](const std::string& path) -> Result<std::string> {
    FUZZ_CHECK(!path.empty());
    if (path.ends_with("none")) return make_error(Errc::not_found, "No such file or directory", path);
    return rest;
  });
  if (!config) {
    FUZZ_CHECK(config.error().code == Errc::invalid_config);
    FUZZ_CHECK(!config.error().where.empty() && !config.error().what.empty());
    FUZZ_CHECK(!secret_in(to_string(config.error())));
    return 0;
  }
  for (const auto& value : config->values) {
    FUZZ_CHECK(!value.path.empty() && !value.where.empty());
    FUZZ_CHECK(!secret_in(value.text));
  }
  for (const auto& note : config->notes) FUZZ_CHECK(!secret_in(note));
  return 0;
}
