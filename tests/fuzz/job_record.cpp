// A job.json that lies in log_dir, whoever wrote it: it is read without harm, and is never the record of two runs.
#include "launcher/run_directories.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const bool first = recorded_run(text, "20261124-101530-4f2a0b1c") != RecordedRun::none;
  const bool second = recorded_run(text, "20261124-101531-4f2a0b1d") != RecordedRun::none;
  FUZZ_CHECK(!(first && second));
  FUZZ_CHECK(!first || text.find("llmlaunch_version") != text.npos || text.find('\\') != text.npos);
  return 0;
}
