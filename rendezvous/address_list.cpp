// Addresses as 128 bits: IPv4 ones stand where IPv6 maps them.
#include "rendezvous/address_list.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "rendezvous/asio.hpp"

namespace llmlaunch::rendezvous {
namespace {

namespace ip = asio::ip;
using Bits = std::array<unsigned char, 16>;
constexpr unsigned kMappedBits = 96;  // in front of an IPv4 address

struct Digits {
  Bits bytes{};
  bool v4 = false;
};

std::optional<Digits> digits_of(const std::string& text) {
  boost::system::error_code error;
  const ip::address address = ip::make_address(text, error);
  if (error) return std::nullopt;
  if (address.is_v6()) return Digits{address.to_v6().to_bytes(), false};
  return Digits{ip::make_address_v6(ip::v4_mapped, address.to_v4()).to_bytes(), true};
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
    const auto [end, code] = std::from_chars(length.data(), length.data() + length.size(), bits);
    understood = code == std::errc() && end == length.data() + length.size() && bits <= (digits->v4 ? 32u : 128u);
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
