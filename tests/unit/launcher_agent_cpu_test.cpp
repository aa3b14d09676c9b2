// Cores for ranks, on machines that exist only as directories: what /sys says of them, and who gets which core.
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "launcher/agent/cpu_bind.hpp"
#include "launcher/agent/cpu_topology.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_directory.hpp"

namespace launcher_agent_cpu_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::agent;
namespace fs = std::filesystem;

namespace {

/// A directory that looks like /sys.
class FakeSys {
 public:
  void file(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  void cpu(unsigned number, const std::string& siblings) {
    file(fmt::format("devices/system/cpu/cpu{}/topology/thread_siblings_list", number), siblings);
  }
  void node(unsigned number, const std::string& cpus) {
    file(fmt::format("devices/system/node/node{}/cpulist", number), cpus);
  }
  void pci(const std::string& address, const char* kind, const char* vendor, int node) {
    file("bus/pci/devices/" + address + "/class", kind);
    file("bus/pci/devices/" + address + "/vendor", vendor);
    file("bus/pci/devices/" + address + "/numa_node", std::to_string(node));
  }
  std::string path() const { return root_.string(); }

 private:
  llmlaunch::test::TemporaryDirectory directory_;
  const fs::path& root_ = directory_.path;
};

/// Two sockets of four cores with two threads each, numbered as Linux does it; a GPU at each, and devices that are
/// none.
struct TwoSockets : FakeSys {
  TwoSockets() {
    for (unsigned core = 0; core < 8; ++core)
      for (const unsigned number : {core, core + 8}) cpu(number, fmt::format("{},{}", core, core + 8));
    node(0, "0-3,8-11");
    node(1, "4-7,12-15");
    pci("0000:b1:00.0", "0x030200", "0x10de", 1);
    pci("0000:3b:00.0", "0x030000", "0x10de", 0);
    pci("0000:00:02.0", "0x030000", "0x8086", 0);  // another vendor's display
    pci("0000:3b:00.1", "0x040300", "0x10de", 0);  // the sound of a GPU
  }
};

CpuList cpus_from(unsigned first, unsigned last) {
  CpuList cpus;
  for (unsigned cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
  return cpus;
}

/// "0,8 1,9 …" with the note behind it, or the error.
std::string shown(CpuBind policy, const CpuTopology& topology, const std::vector<std::optional<unsigned>>& gpus) {
  const auto bound = bind_ranks(policy, topology, gpus);
  if (!bound) return to_string(bound.error());
  std::string text;
  for (const CpuList& cpus : bound->cpus) text += (text.empty() ? "" : " ") + format_cpu_list(cpus);
  return text + (bound->note.empty() ? "" : " (" + bound->note + ")");
}

std::vector<std::optional<unsigned>> ranks(std::size_t count) {
  std::vector<std::optional<unsigned>> gpus;
  for (unsigned i = 0; i < count; ++i) gpus.emplace_back(i);
  return gpus;
}

}  // namespace

TEST_CASE("lists of CPUs are read as the kernel writes them, and others are empty") {
  CHECK(parse_cpu_list("0-3,8,10-11") == CpuList{0, 1, 2, 3, 8, 10, 11});
  CHECK(parse_cpu_list("3,1,1-2") == CpuList{1, 2, 3});
  CHECK(parse_cpu_list("0") == CpuList{0});
  for (const char* text : {"", "a", "1-", "-1", "3-1", "1,,2", "0-99999999", "0-16384", "4294967296", "1 2"}) {
    INFO(text);
    CHECK(parse_cpu_list(text).empty());
  }
  CHECK(format_cpu_list({0, 1, 2, 8, 10, 11}) == "0-2,8,10-11");
  CHECK(format_cpu_list({}).empty());
}

TEST_CASE("cores, their threads and nodes, and NVIDIA's GPUs in the order of their bus are found") {
  const TwoSockets sys;
  const CpuTopology topology = read_topology(sys.path(), cpus_from(0, 15));
  REQUIRE(topology.cores.size() == 8);
  CHECK(topology.cores[0].cpus == CpuList{0, 8});
  CHECK(topology.cores[0].node == 0);
  CHECK(topology.cores[7].cpus == CpuList{7, 15});
  CHECK(topology.cores[7].node == 1);
  CHECK(topology.gpu_nodes == std::vector<int>{0, 1});
}

TEST_CASE("only CPUs that the agent may use are counted") {
  const TwoSockets sys;
  const CpuTopology topology = read_topology(sys.path(), {1, 4, 9, 12});
  REQUIRE(topology.cores.size() == 2);
  CHECK(topology.cores[0].cpus == CpuList{1, 9});
  CHECK(topology.cores[1].cpus == CpuList{4, 12});
  CHECK(topology.cores[1].node == 1);
}

TEST_CASE("a machine that says nothing, or nonsense, has one core for each CPU, on one node") {
  const FakeSys empty;
  const CpuTopology topology = read_topology(empty.path(), {0, 1, 2});
  REQUIRE(topology.cores.size() == 3);
  CHECK(topology.cores[2].cpus == CpuList{2});
  CHECK(topology.cores[2].node == 0);
  CHECK(topology.gpu_nodes.empty());
  FakeSys lying;
  lying.cpu(0, "5-7");  // siblings without the CPU itself
  lying.node(0, "x");
  lying.pci("0000:01:00.0", "0x030000", "0x10de", -1);
  const CpuTopology odd = read_topology(lying.path(), {0});
  REQUIRE(odd.cores.size() == 1);
  CHECK(odd.cores[0].cpus == CpuList{0});
  CHECK(odd.gpu_nodes == std::vector<int>{-1});
}

TEST_CASE("cores are shared out equally, whole, and never twice") {
  const TwoSockets sys;
  const CpuTopology all = read_topology(sys.path(), cpus_from(0, 15));
  CHECK(shown(CpuBind::none, all, ranks(2)).empty());
  CHECK(shown(CpuBind::core, all, ranks(2)) == "0-3,8-11 4-7,12-15");
  CHECK(shown(CpuBind::core, all, ranks(3)) == "0-1,8-9 2-4,10-12 5-7,13-15");
  CHECK(shown(CpuBind::core, all, ranks(8)).starts_with("0,8 1,9 2,10 3,11 4,12"));
  CHECK(shown(CpuBind::core, read_topology(sys.path(), {0, 8}), ranks(2)) == "0 8");  // threads: there is 1 core
  CHECK(shown(CpuBind::core, read_topology(sys.path(), {0, 8}), ranks(3)) ==
        "3 ranks to bind, but only 2 CPUs may be used\n"
        "   hint: llmlaunch.cpu_bind: none lets ranks share what there is");
  for (std::size_t count = 1; count <= 16; ++count) {
    for (const CpuBind policy : {CpuBind::core, CpuBind::numa}) {
      const auto bound = bind_ranks(policy, all, ranks(count));
      REQUIRE(bound);
      std::vector<int> owners(16);
      for (const CpuList& cpus : bound->cpus) {
        CHECK_FALSE(cpus.empty());
        for (const unsigned cpu : cpus) ++owners[cpu];
      }
      for (const int number : owners) CHECK(number == 1);
    }
  }
}

TEST_CASE("by NUMA node, ranks stay on one node, or have several for themselves") {
  const TwoSockets sys;
  const CpuTopology all = read_topology(sys.path(), cpus_from(0, 15));
  CHECK(shown(CpuBind::numa, all, ranks(2)) == "0-3,8-11 4-7,12-15");
  CHECK(shown(CpuBind::numa, all, ranks(3)) == "0-1,8-9 2-3,10-11 4-7,12-15");
  CHECK(shown(CpuBind::numa, all, ranks(1)) == "0-15");
  CHECK(shown(CpuBind::numa, read_topology(sys.path(), {0, 4}), ranks(3)) ==
        "2 ranks to bind, but only 1 CPU may be used on NUMA node 0\n"
        "   hint: llmlaunch.cpu_bind: none lets ranks share what there is");
}

TEST_CASE("by GPU, ranks are on the node of theirs; where that is not known, as by node and with a note") {
  const TwoSockets sys;
  const CpuTopology all = read_topology(sys.path(), cpus_from(0, 15));
  CHECK(shown(CpuBind::gpu, all, {1, 0}) == "4-7,12-15 0-3,8-11");
  CHECK(shown(CpuBind::gpu, all, {1, 1}) == "4-5,12-13 6-7,14-15");
  CHECK(shown(CpuBind::gpu, all, {0, 5}) ==
        "0-3,8-11 4-7,12-15 (there are 2 NVIDIA GPUs, and local rank 1 uses GPU 5: its ranks are bound as by cpu_bind "
        "numa)");
  CHECK(
      shown(CpuBind::gpu, all, {0, std::nullopt}) ==
      "0-3,8-11 4-7,12-15 (it is not known which GPU its local rank 1 uses: its ranks are bound as by cpu_bind numa)");
  CpuTopology virtual_machine = all;
  virtual_machine.gpu_nodes = {-1, -1};
  CHECK(shown(CpuBind::gpu, virtual_machine, {0}) ==
        "0-15 (the NUMA node of GPU 0 is not known: its ranks are bound as by cpu_bind numa)");
  CHECK(shown(CpuBind::gpu, read_topology(sys.path(), {0, 1}), {1}) ==
        "0-1 (GPU 1 is on NUMA node 1, none of whose CPUs may be used: its ranks are bound as by cpu_bind numa)");
}

TEST_CASE("the GPU of a rank is the one at its place in CUDA_VISIBLE_DEVICES") {
  const auto gpu = [](const char* visible, unsigned local) {
    const std::string text = visible;
    return gpu_of_rank(&text, local);
  };
  CHECK(gpu_of_rank(nullptr, 3) == 3u);
  CHECK(gpu("2,0", 1) == 0u);
  CHECK(gpu("5", 3) == 5u);
  CHECK_FALSE(gpu("2,0", 2));
  CHECK_FALSE(gpu("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", 0));
  CHECK_FALSE(gpu("", 0));
}

TEST_CASE("a rank's cores are counted for its threads, at least one") {
  const TwoSockets sys;
  const CpuTopology all = read_topology(sys.path(), cpus_from(0, 15));
  CHECK(bind_ranks(CpuBind::none, all, ranks(2))->least_cores == 4);  // cores, not hardware threads
  CHECK(bind_ranks(CpuBind::none, all, ranks(16))->least_cores == 1);
  CHECK(bind_ranks(CpuBind::core, all, ranks(3))->least_cores == 2);
  CHECK(bind_ranks(CpuBind::gpu, all, {0, 0, 1})->least_cores == 2);
}

}  // namespace launcher_agent_cpu_test
