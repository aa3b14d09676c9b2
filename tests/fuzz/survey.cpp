// A host's answer to the survey: it is refused with a reason, or its facts are within the limits and can be shown.
#include "launcher/survey.hpp"

#include "launcher/survey_report.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace llmlaunch;
using namespace llmlaunch::launcher;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto facts = parse_survey(text);
  if (!facts) {
    FUZZ_CHECK(!facts.error().what.empty());
    return 0;
  }
  FUZZ_CHECK(facts->gpus.size() <= kMaxGpus && facts->interfaces.size() <= kMaxInterfaces);
  FUZZ_CHECK(facts->os.size() <= kMaxSurveyValue);
  const std::vector<HostSurvey> hosts{{"n1", *facts, std::nullopt, {}}, {"n2", HostFacts{}, std::nullopt, {}}};
  const std::string table = survey_table(hosts, 80);
  FUZZ_CHECK(table.find('\x1b') == table.npos);
  FUZZ_CHECK(survey_list(*facts).find('\x1b') == std::string::npos);
  FUZZ_CHECK(!survey_json(hosts).empty() && !survey_line(*facts).empty());
  return 0;
}
