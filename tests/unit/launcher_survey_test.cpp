// A survey's answer, and what is shown of several.
#include "launcher/survey.hpp"

#include <nlohmann/json.hpp>

#include "launcher/survey_report.hpp"
#include "tests/support/catch.hpp"

namespace launcher_survey_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

constexpr const char* kAnswer =
    "Welcome to gpu01!\n\nllmlaunch-survey 1\n"
    "hostname\tgpu01\ncores\t128\nmemory_kib\t2113929216\nshm_kib\t1056964608\nnuma_nodes\t2\n"
    "nofile\t1024\nmemlock\t65536\nnccl\t2.21.5\nsome_news\tof a later version\n"
    "gpu\t0\tNVIDIA H100 80GB HBM3\t81559\t9.0\t550.54.15\n"
    "gpu\t1\tNVIDIA H100 80GB HBM3\t81559\t9.0\t550.54.15\n"
    "gpu\t2\tTesla K80\t[N/A]\t[N/A]\t550.54.15\n"
    "iface\teth0\tup\t25000\t1500\tdevice\t10.0.0.7/24 fe80::1/64 \n"
    "iface\tdocker0\tdown\t-1\t1500\tvirtual\t172.17.0.1/16\n"
    "iface\tlo\tup\t0\t65536\tloopback\t127.0.0.1/8\n"
    "head\t10.0.0.1\nroute_interface\teth0\nroute_address\t10.0.0.7\nend\nbye\n";

HostSurvey host(const std::string& name, const std::string& driver) {
  HostFacts facts;
  facts.cores = 8;
  facts.driver = driver;
  return {name, facts, std::nullopt, {}};
}

}  // namespace

TEST_CASE("a survey's answer is read line by line, whatever was printed before and after") {
  const auto facts = parse_survey(kAnswer);
  REQUIRE(facts);
  CHECK(facts->hostname == "gpu01");
  CHECK(facts->cores == 128);
  CHECK(facts->memory_kib == 2113929216);
  CHECK(facts->numa_nodes == 2);
  CHECK(facts->nccl == "2.21.5");
  CHECK(facts->driver == "550.54.15");
  REQUIRE(facts->gpus.size() == 3);
  CHECK(facts->gpus[0] == GpuFacts{"NVIDIA H100 80GB HBM3", 81559, "9.0"});
  CHECK(facts->gpus[2] == GpuFacts{"Tesla K80", 0, ""});
  REQUIRE(facts->interfaces.size() == 3);
  CHECK(facts->interfaces[0].up);
  CHECK(facts->interfaces[0].speed_mbit == 25000);
  CHECK(facts->interfaces[0].addresses == std::vector<std::string>{"10.0.0.7/24", "fe80::1/64"});
  CHECK(facts->interfaces[1].kind == InterfaceFacts::Kind::virtual_);
  CHECK(facts->interfaces[1].speed_mbit == 0);
  CHECK(facts->interfaces[2].kind == InterfaceFacts::Kind::loopback);
  CHECK(facts->head == "10.0.0.1");
  CHECK(facts->route_interface == "eth0");
}

TEST_CASE("an interface without addresses is a line that ends with what is known of it") {
  HostFacts facts;
  facts.interfaces.resize(2);
  facts.interfaces[0].name = "ifb0";
  facts.interfaces[0].kind = InterfaceFacts::Kind::virtual_;
  facts.interfaces[1].name = "eth0";
  facts.interfaces[1].up = true;
  facts.interfaces[1].addresses = {"10.0.0.7/24", "fe80::1/64"};
  const std::string list = survey_list(facts);
  CHECK(list.find("interface       ifb0 down virtual\n") != std::string::npos);
  CHECK(list.find("interface       eth0 10.0.0.7/24 fe80::1/64\n") != std::string::npos);
}

TEST_CASE("what a host does not say, or says badly, is not known") {
  const auto facts =
      parse_survey("llmlaunch-survey 1\ncores\tmany\nmemory_kib\t99999999999999999999999\nlonely\nend\n");
  REQUIRE(facts);
  CHECK(!facts->cores);
  CHECK(!facts->memory_kib);
  CHECK(facts->gpus.empty());
}

TEST_CASE("an answer that is cut off, none or too long is an error") {
  const auto cut = parse_survey("llmlaunch-survey 1\ncores\t8\n");
  REQUIRE(!cut);
  CHECK(cut.error().code == Errc::protocol);
  CHECK(cut.error().what == "the host's answer to the survey is cut off");
  CHECK(parse_survey("hello\n").error().what == "the host did not answer the survey");
  CHECK(parse_survey(std::string(kMaxSurveyBytes + 1, 'x')).error().code == Errc::too_large);
  CHECK(parse_survey(std::string(kMaxSurveyLines + 1, '\n')).error().code == Errc::too_large);
  std::string gpus = "llmlaunch-survey 1\n";
  for (std::size_t i = 0; i <= kMaxGpus; ++i) gpus += "gpu\t0\tX\n";
  CHECK(parse_survey(gpus + "end\n").error().what == "more than 256 GPUs");
}

TEST_CASE("a long value is cut") {
  const auto facts = parse_survey("llmlaunch-survey 1\nos\t" + std::string(5000, 'a') + "\nend\n");
  REQUIRE(facts);
  CHECK(facts->os.size() == kMaxSurveyValue);
}

TEST_CASE("the table has equal hosts in one column and marks what differs") {
  std::vector<HostSurvey> hosts{host("n1", "550"), host("n2", "550"), host("n3", "535")};
  HostSurvey away{"n4", std::nullopt, make_error(Errc::refused, "connection refused", "host n4", "start sshd"), {}};
  hosts.push_back(away);
  away.name = "n5";
  hosts.push_back(away);
  CHECK(survey_table(hosts, 100) ==
        "                    n[1-2] (2)    n3\n"
        "  GPUs              none          none\n"
        "≠ driver            550         ≠ 535\n"
        "  cores             8             8\n"
        "\n"
        "n[4-5]: not reached: connection refused\n"
        "   hint: start sshd\n");
  // What does not fit beside each other stands below.
  CHECK(survey_table({host("n1", "550"), host("n3", "535")}, 30).find("\n\n") != std::string::npos);
}

TEST_CASE("the words for GPUs count equal ones together") {
  const GpuFacts h100{"H100", 81559, "9.0"}, t4{"T4", 0, ""};
  CHECK(gpus_in_words({h100, h100, t4}) == "2 × H100 (80 GiB) + 1 × T4");
  CHECK(gpus_in_words({}) == "none");
}

TEST_CASE("JSON of a survey tells what differs and who was not reached") {
  std::vector<HostSurvey> hosts{host("n1", "550"), host("n2", "535")};
  hosts.push_back({"n3", std::nullopt, make_error(Errc::refused, "refused", {}, "start it"), {}});
  const auto told = nlohmann::json::parse(survey_json(hosts));
  CHECK(told["differences"] == nlohmann::json::array({"driver"}));
  CHECK(told["hosts"][0]["driver"] == "550");
  CHECK(told["hosts"][0]["reached"] == true);
  CHECK(told["hosts"][2]["reached"] == false);
  CHECK(told["hosts"][2]["reason"] == "refused");
  CHECK(told["hosts"][2]["hint"] == "start it");
}

}  // namespace launcher_survey_test
