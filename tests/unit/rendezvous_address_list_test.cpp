// Who may come, by address and by network, in both families.
#include "rendezvous/address_list.hpp"

#include "tests/support/catch.hpp"

namespace rendezvous_address_list_test {

using namespace llmlaunch::rendezvous;

namespace {

AddressList list_of(std::initializer_list<const char*> entries) {
  AddressList list;
  for (const char* entry : entries) REQUIRE(list.add(entry));
  return list;
}

}  // namespace

TEST_CASE("an address list has its addresses, and its networks to the bit") {
  const AddressList list = list_of({"10.0.0.7", "10.1.0.0/16", "192.168.4.0/22", "fd00::/64", "2001:db8::5"});
  for (const char* in : {"10.0.0.7", "::ffff:10.0.0.7", "10.1.255.255", "192.168.7.255", "fd00::ffff", "2001:db8::5"})
    CHECK(list.contains(in));
  for (const char* out :
       {"10.0.0.8", "10.2.0.0", "192.168.8.0", "192.168.3.255", "fd00:0:0:1::", "2001:db8::6", "::1", "gpu01", ""})
    CHECK_FALSE(list.contains(out));
  CHECK_FALSE(AddressList().contains("127.0.0.1"));
  CHECK(list_of({"0.0.0.0/0"}).contains("8.8.8.8"));
  CHECK_FALSE(list_of({"0.0.0.0/0"}).contains("fd00::1"));
  CHECK(list_of({"::/0"}).contains("8.8.8.8"));
}

TEST_CASE("what is no address and no network is refused by name") {
  for (const char* wrong : {"", "gpu01", "10.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/-1",
                            "fd00::/129", "/8", "10.0.0.0/8/8", "10.0.0.7:80", "256.0.0.1"}) {
    const auto added = AddressList().add(wrong);
    REQUIRE_FALSE(added);
    CHECK(added.error().what ==
          std::string("'") + wrong + "' is no address (10.0.0.7, fd00::7) and no network (10.0.0.0/16)");
  }
}

}  // namespace rendezvous_address_list_test
