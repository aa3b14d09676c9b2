// Host files of other tools, each as its own documents show it.
#include "launcher/hostfile.hpp"

#include <nlohmann/json.hpp>

#include "tests/support/catch.hpp"

namespace launcher_hostfile_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

/// "user@name:slots:port", one a word, "-" for what is not given.
std::string described(const std::vector<HostConfig>& hosts) {
  std::string text;
  for (const auto& host : hosts) {
    text += (text.empty() ? "" : " ") + (host.user ? *host.user + "@" : "") + host.name;
    text += host.slots ? "*" + std::to_string(*host.slots) : "";
    text += host.port ? ":" + std::to_string(*host.port) : "";
  }
  return text;
}

std::string parsed(const std::string& text, HostfileFormat format = HostfileFormat::automatic) {
  const auto read = parse_hostfile(text, "hosts", format, {});
  return read ? described(read->hosts) : to_string(read.error());
}

}  // namespace

TEST_CASE("host files of other tools are read by what stands in them") {
  struct Row {
    const char* text;
    HostfileFormat format;
    const char* hosts;
  };
  const std::vector<Row> rows{
      {"node1 slots=8 max_slots=8\nuser@node2 slots=4 # four\n\n# none\n", HostfileFormat::openmpi,
       "node1*8 user@node2*4"},
      {"worker-1 slots=4\nworker-2 slots=4\n", HostfileFormat::openmpi, "worker-1*4 worker-2*4"},
      {"node1\nnode1\nnode2 slots=2 max-slots=3\nnode1 slots=3\n", HostfileFormat::openmpi, "node1*5 node2*2"},
      {"n1 slots=2 port=2222 user=me\n", HostfileFormat::openmpi, "me@n1*2:2222"},
      {"gpu[01-02] slots=8\n", HostfileFormat::openmpi, "gpu01*8 gpu02*8"},
      {"node1:8\nnode2:4\nnode3\n", HostfileFormat::mpich, "node1*8 node2*4 node3"},
      {"node1 user=foo\nnode2\n", HostfileFormat::mpich, "foo@node1 node2"},
      {"n1\nn1\nn2\nn1\n", HostfileFormat::pbs, "n1*3 n2*1"},
      {"hostA 8 hostB 4\n", HostfileFormat::lsf, "hostA*8 hostB*4"},
      {"gpu[01-03]\nlogin0,login1\n", HostfileFormat::pdsh, "gpu01 gpu02 gpu03 login0 login1"},
      {"a\nb\n", HostfileFormat::pdsh, "a b"},
      {"fe80::1\n[2001:db8::1]:2222\n", HostfileFormat::pdsh, "fe80::1 2001:db8::1:2222"},
      {"", HostfileFormat::pdsh, ""},
      {"node1\r\nnode2\r\n", HostfileFormat::pdsh, "node1 node2"},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    CHECK(guess_hostfile_format(row.text) == row.format);
    CHECK(parsed(row.text) == row.hosts);
    CHECK(parsed(row.text, row.format) == row.hosts);
  }
  CHECK(parsed("a b a b a\n", HostfileFormat::lsf) == "a*3 b*2");
  CHECK(parsed("node[1-4,7],login0", HostfileFormat::slurm) == "node1 node2 node3 node4 node7 login0");
}

TEST_CASE("a wrong host file is told with line and column") {
  struct Row {
    const char* text;
    HostfileFormat format;
    const char* message;
  };
  const std::vector<Row> rows{
      {"n1 slots=8\nn2 slots=0\n", HostfileFormat::automatic,
       "hosts:2:4: slots must be a number from 1 to 4096, not '0'"},
      {"n1 slots=\n", HostfileFormat::automatic, "hosts:1:4: slots must be a number from 1 to 4096, not ''"},
      {"n1 slots=8x\n", HostfileFormat::automatic, "hosts:1:4: slots must be a number from 1 to 4096, not '8x'"},
      {"n1 slot=8\nn2 slots=8\n", HostfileFormat::automatic,
       "hosts:1:4: unknown key 'slot'\n   hint: known are slots, max_slots, user and port"},
      {"n1 slots=9 max_slots=8\n", HostfileFormat::automatic, "hosts:1:1: slots=9 is more than max_slots=8"},
      {"n1 slots=1\nn1 slots=1\n", HostfileFormat::deepspeed,
       "hosts:2:1: host 'n1' is listed twice\n   hint: first at hosts:1"},
      {"a@n1 slots=1\nb@n1 slots=1\n", HostfileFormat::openmpi,
       "hosts:2:1: host 'n1' is listed twice\n   hint: first at hosts:1"},
      {"n1 slots=4000\nn1 slots=4000\n", HostfileFormat::openmpi, "hosts:2:1: host 'n1' has more than 4096 slots"},
      {"+n0 slots=1\n", HostfileFormat::openmpi,
       "hosts:1:1: '+n0': hosts relative to an allocation are not supported\n   hint: write the host's name"},
      {"n1 n2\n", HostfileFormat::openmpi, "hosts:1:4: 'n2' behind a host: expected slots=N\n   hint: one host a line"},
      {"n1 n2\n", HostfileFormat::pbs, "hosts:1:4: 'n2' behind a host: expected one host a line"},
      {"n1:0\n", HostfileFormat::mpich, "hosts:1:1: the number behind ':' must be a number from 1 to 4096, not '0'"},
      {"a 8 b\n", HostfileFormat::lsf, "hosts:1:5: no number behind 'b'\n   hint: expected host n host n …"},
      {"a 8 b c\n", HostfileFormat::lsf,
       "hosts:1:7: the number behind a host must be a number from 1 to 4096, not 'c'"},
      {"n[3-1] slots=1\n", HostfileFormat::openmpi, "hosts:1:1: bad range '3-1' in 'n[3-1]': it runs backwards"},
      {"@n1 slots=1\n", HostfileFormat::openmpi,
       "hosts:1:1: '@n1' begins with '@'\n   hint: exclusions and groups are not supported; write the host names"},
      {"n1 slots=8\nn2:4\n", HostfileFormat::automatic,
       "hosts:2:1: ':' in 'n2:4'\n   hint: the file is read as one of openmpi; --from takes another format: name:N is "
       "mpich's, on every line"},
      {"n1\nn[2-1]\n", HostfileFormat::pdsh,
       "hosts:2: bad range '2-1' in 'n[2-1]': it runs backwards\n   n[2-1]\n     ^"},
  };
  for (const auto& row : rows) {
    INFO(row.text);
    CHECK(parsed(row.text, row.format) == row.message);
    const auto read = parse_hostfile(row.text, "hosts", row.format, {});
    CHECK(read.error().code == Errc::invalid_config);
  }
  CHECK(parsed(std::string((8u << 20) + 1, 'n')) == "hosts: more than 8388608 bytes are no list of hosts");
  CHECK(parsed("n[1-65536]\nm slots=1\n") == "hosts:2:1: more than 65536 hosts");
}

TEST_CASE("the names of the formats are those that are shown") {
  for (std::size_t i = 0; i < kHostfileFormats.size(); ++i)
    CHECK(hostfile_format(kHostfileFormats[i]) == static_cast<HostfileFormat>(i));
  CHECK_FALSE(hostfile_format("mpi").has_value());
}

TEST_CASE("Slurm's tasks per node are slots") {
  using Slots = std::vector<std::uint32_t>;
  CHECK(*slurm_tasks("8(x2),4", 3) == Slots{8, 8, 4});
  CHECK(*slurm_tasks("1", 1) == Slots{1});
  CHECK(to_string(slurm_tasks("8(x2)", 3).error()) ==
        "SLURM_TASKS_PER_NODE '8(x2)' speaks of 2 nodes, the node list of 3");
  for (const char* bad : {"8(x4)", "8(x", "8(xa)", "x", "0", "8,", "8(x99999999999)"}) {
    INFO(bad);
    CHECK_FALSE(slurm_tasks(bad, 3).has_value());
  }
}

TEST_CASE("hosts for programs are an array of objects") {
  const auto read = parse_hostfile("me@n1 slots=8 port=22\nn2\n", "hosts", HostfileFormat::openmpi, {});
  const auto json = nlohmann::json::parse(hosts_json(read->hosts));
  CHECK(json.size() == 2);
  CHECK(json[0] == nlohmann::json{{"name", "n1"}, {"user", "me"}, {"port", 22}, {"slots", 8}});
  CHECK(json[1] == nlohmann::json{{"name", "n2"}, {"user", nullptr}, {"port", nullptr}, {"slots", nullptr}});
  CHECK(nlohmann::json::parse(hosts_json({})).empty());
}

}  // namespace launcher_hostfile_test
