// Which key a certificate is of, for bytes as ssh-keygen makes them and for bytes that are none.
#include "launcher/ssh/certificate.hpp"

#include <string>

#include "tests/support/catch.hpp"

namespace launcher_ssh_certificate_test {

using namespace llmlaunch;
using llmlaunch::launcher::ssh::certifies;

namespace {

std::string field(const std::string& text) {
  std::string framed(4, '\0');
  framed[2] = static_cast<char>(text.size() >> 8);
  framed[3] = static_cast<char>(text.size());
  return framed + text;
}

const std::string kKey = field("ssh-ed25519") + field("0123456789abcdef0123456789abcdef");
const std::string kCertificate = field("ssh-ed25519-cert-v01@openssh.com") + field("nonce") +
                                 field("0123456789abcdef0123456789abcdef") + std::string(8, '\0') + "and so on";

bool check(const std::string& certificate, const std::string& key) {
  return certifies(as_bytes(certificate), as_bytes(key));
}

}  // namespace

TEST_CASE("a certificate is of the key whose fields it repeats") {
  CHECK(check(kCertificate, kKey));
  CHECK(check(field("ssh-rsa-cert-v01@openssh.com") + field("n") + field("e") + field("modulus") + "rest",
              field("ssh-rsa") + field("e") + field("modulus")));
}

TEST_CASE("a certificate is not of another key, of another type, or of a part of it") {
  CHECK_FALSE(check(kCertificate, field("ssh-ed25519") + field("0123456789abcdef0123456789abcdeX")));
  CHECK_FALSE(check(kCertificate, field("ssh-ed448") + field("0123456789abcdef0123456789abcdef")));
  CHECK_FALSE(check(kKey, kKey));
  CHECK_FALSE(check(kCertificate, kCertificate));
  CHECK_FALSE(check(kCertificate, field("ssh-ed25519")));
}

TEST_CASE("bytes that end early are no certificate and no key") {
  for (std::size_t size = 0; size < kKey.size(); ++size) CHECK_FALSE(check(kCertificate.substr(0, size), kKey));
  for (std::size_t size = 0; size < 20; ++size)
    CHECK_FALSE(check(kCertificate, kKey.substr(0, std::min<std::size_t>(size, 15))));
  CHECK_FALSE(check(std::string("\xff\xff\xff\xff") + "x", kKey));
}

}  // namespace launcher_ssh_certificate_test
