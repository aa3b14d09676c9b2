// Addresses as 128 bits: IPv4 ones stand where IPv6 maps them.
#include "rendezvous/address_list.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::rendezvous {
namespace {

using Bits = std::array<unsigned char, 16>;
constexpr unsigned kMappedBits = 96;  // in front of an IPv4 address

struct Digits {
  Bits bytes{};
  bool v4 = false;
};

std::optional<Digits> digits_of(const std::string& text) {
  Digits digits;
  const std::string address = text.substr(0, text.find('%'));  // a scope says which link, not which host
  if (::inet_pton(AF_INET6, address.c_str(), digits.bytes.data()) == 1) return digits;
  if (::inet_pton(AF_INET, text.c_str(), digits.bytes.data() + kMappedBits / 8) != 1) return std::nullopt;
  digits.bytes[10] = digits.bytes[11] = 0xff;
  digits.v4 = true;
  return digits;
}

bool same_front(const Bits& a, const Bits& b, unsigned bits) {
  const std::size_t whole = bits / 8;
  if (!std::equal(a.begin(), a.begin() + whole, b.begin())) return false;
  if (bits % 8 == 0) return true;
  const auto mask = static_cast<unsigned char>(0xff << (8 - bits % 8));
  return (a[whole] & mask) == (b[whole] & mask);
}

}  // namespace

Result<void> AddressList::add(std::string_view text) {
  const auto slash = text.find('/');
  const auto digits = digits_of(std::string(text.substr(0, slash)));
  unsigned bits = 0;
  bool understood = digits.has_value();
  if (understood && slash != text.npos) {
    const std::string_view length = text.substr(slash + 1);
    const auto number = parse_whole<unsigned>(length);
    understood = number && *number <= (digits->v4 ? 32u : 128u);
    bits = number.value_or(0);
  } else if (understood) {
    bits = digits->v4 ? 32 : 128;
  }
  if (!understood)
    return make_error(Errc::invalid_argument,
                      fmt::format("'{}' is no address (10.0.0.7, fd00::7) and no network (10.0.0.0/16)", text));
  networks_.push_back({digits->bytes, bits + (digits->v4 ? kMappedBits : 0)});
  return ok;
}

bool AddressList::contains(const std::string& address) const {
  const auto digits = digits_of(address);
  return digits && std::any_of(networks_.begin(), networks_.end(), [&](const Network& network) {
           return same_front(network.bytes, digits->bytes, network.bits);
         });
}

}  // namespace llmlaunch::rendezvous
