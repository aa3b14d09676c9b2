// Whose a connection is, and what NCCL's files say: texts of the host in, answers out.
#include <arpa/inet.h>

#include "launcher/agent/carrier.hpp"
#include "launcher/agent/nccl_file.hpp"
#include "tests/support/catch.hpp"

namespace launcher_agent_network_test {

using namespace llmlaunch::launcher::agent;

namespace {

std::string hex_address(const char* address) {
  char text[16];
  std::snprintf(text, sizeof text, "%08X", ::inet_addr(address));
  return text;
}

std::string line(const std::string& own, const std::string& peer, const char* uid = " 1000") {
  return "   7: " + own + " " + peer + " 01 00000000:00000000 02:0000A1B2 00000000 " + uid + "        0 81234 2 00\n";
}

}  // namespace

TEST_CASE("the owner of a connection is that of the line with both of its ends") {
  const std::string loopback = hex_address("127.0.0.1");
  const std::string peer = loopback + ":C350", port = loopback + ":1F90";  // 50000, 8080
  const auto owner = [](const std::string& text) {
    return owner_in_line(text, ::inet_addr("127.0.0.1"), 50'000, 8'080);
  };
  CHECK(owner(line(peer, port)) == 1000u);
  CHECK(owner(line(peer, port, "    0")) == 0u);
  CHECK_FALSE(owner(line(port, peer)));  // our own end of it
  CHECK_FALSE(owner(line(loopback + ":C351", port)));
  CHECK_FALSE(owner(line(peer, loopback + ":1F91")));
  CHECK_FALSE(owner(line(hex_address("127.0.0.2") + ":C350", port)));
  const std::string mapped = "0000000000000000FFFF0000";
  CHECK(owner(line(mapped + peer, mapped + port)) == 1000u);
  CHECK_FALSE(owner(line("000000000000000000000000" + peer, mapped + port)));
  CHECK_FALSE(
      owner("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"));
  CHECK_FALSE(owner(line(peer, port, " 10x0")));
  CHECK_FALSE(owner(""));
}

TEST_CASE("a file of NCCL's names the interface only where it sets it") {
  CHECK(names_nccl_interface("NCCL_DEBUG=INFO\nNCCL_SOCKET_IFNAME=ib0\n"));
  CHECK(names_nccl_interface(" NCCL_SOCKET_IFNAME = ^docker # never that one"));
  CHECK_FALSE(names_nccl_interface("#NCCL_SOCKET_IFNAME=ib0\n"));
  CHECK_FALSE(names_nccl_interface("NCCL_SOCKET_IFNAME_X=ib0\nNCCL_SOCKET_IFNAME\n"));
  CHECK_FALSE(names_nccl_interface(""));
}

}  // namespace launcher_agent_network_test
