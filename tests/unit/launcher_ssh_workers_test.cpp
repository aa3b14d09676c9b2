// Threads that sessions live on, and what goes along with them: copies of keys.
#include "launcher/ssh/workers.hpp"

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <thread>

#include "launcher/ssh/libssh.hpp"
#include "launcher/ssh/ssh_shell.hpp"
#include "tests/support/catch.hpp"

namespace launcher_ssh_workers_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher::ssh;
using namespace std::chrono_literals;

namespace {

std::thread::id thread_of(asio::io_context& context) {
  const auto id = std::make_shared<std::promise<std::thread::id>>();
  asio::post(context, [id] { id->set_value(std::this_thread::get_id()); });
  return id->get_future().get();
}

KeyHandle read_certificate(const char* base64) {
  ssh_key key = nullptr;
  REQUIRE(ssh_pki_import_cert_base64(base64, SSH_KEYTYPE_ED25519_CERT01, &key) == SSH_OK);
  return KeyHandle(key);
}

// ssh-keygen -t ed25519; ssh-keygen -s ca -I me -n me: what any sshd is shown.
constexpr const char* kCertificate =
    "AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIAD7vY+Cv1cFcxtnX7nGwOIEIc0Qy3o7ym4w5l54gxSqAAAA"
    "IBXn9gi5DgWJwDXrHjRFU/sLI69MvHJX0WyOiO7shRqsAAAAAAAAAAAAAAABAAAAAm1lAAAACAAAAARyb290AAAAAAAAAAD/////"
    "/////wAAAAAAAACCAAAAFXBlcm1pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAA"
    "FnBlcm1pdC1wb3J0LWZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAAAAAAAAAz"
    "AAAAC3NzaC1lZDI1NTE5AAAAIMWtLgG0Hy630PQSVRdno2JpoIepRq5pgjPUdVhe9CdoAAAAUwAAAAtzc2gtZWQyNTUxOQAAAEDP"
    "g7kDHEBRA+fIsSMXU/rBFtzRPM27DspFtDRF1LXBThlmTGwjiJauexYGzCxQG5/stiMwMHIYx7y3yR4GWBYM";

}  // namespace

TEST_CASE("sessions have threads when there are cores beside the loop's and hosts for them") {
  CHECK(worker_count(15, 64) == 0);
  CHECK(worker_count(16, 64) == 8);
  CHECK(worker_count(1000, 4) == 3);
  CHECK(worker_count(1000, 3) == 2);
  CHECK(worker_count(1000, 2) == 0);  // one thread beside the loop would only be further away
  CHECK(worker_count(1000, 1) == 0);
  CHECK(worker_count(1000, 0) == 0);  // not known
}

TEST_CASE("a thread that does not get round to a question is behind, until it does") {
  Workers workers(2);
  std::promise<void> gate;
  asio::post(*workers.next(), [open = gate.get_future().share()] { open.wait(); });
  const auto asked = std::chrono::steady_clock::now();
  CHECK(workers.behind(asked) == 0ms);
  CHECK(workers.behind(asked + 300ms) == 300ms);
  gate.set_value();
  for (int turn = 0; turn < 2; ++turn) thread_of(*workers.next());  // both have come past the question
  CHECK(workers.behind(asked + 400ms) == 0ms);
  CHECK(Workers(0).behind(asked) == 0ms);
}

TEST_CASE("workers are threads of their own, given out in turn") {
  Workers workers(3);
  std::set<std::thread::id> threads{std::this_thread::get_id()};
  for (int i = 0; i < 3; ++i) threads.insert(thread_of(*workers.next()));
  CHECK(threads.size() == 4);
  for (int i = 0; i < 3; ++i) threads.insert(thread_of(*workers.next()));
  CHECK(threads.size() == 4);
}

TEST_CASE("without workers, or after their end, there is no other place than the loop") {
  Workers none(0);
  CHECK(none.next() == nullptr);
  Workers ended(2);
  ended.stop();
  CHECK(ended.next() == nullptr);
  ended.stop();
}

TEST_CASE("what is in a worker's queue at its end is done, once") {
  std::atomic<int> done = 0;
  {
    Workers workers(1);
    const auto context = workers.next();
    const auto begun = std::make_shared<std::promise<void>>(), go_on = std::make_shared<std::promise<void>>();
    asio::post(*context, [begun, go_on] {
      begun->set_value();
      go_on->get_future().wait();
    });
    begun->get_future().wait();
    for (int i = 0; i < 5; ++i) asio::post(*context, [&done] { ++done; });
    go_on->set_value();
  }
  CHECK(done == 5);
}

TEST_CASE("a copy of a key has its public half, and a copy of a certificate is one") {
  ssh_key made = nullptr;
  REQUIRE(ssh_pki_generate(SSH_KEYTYPE_ED25519, 0, &made) == SSH_OK);
  const KeyHandle key(made);
  const KeyHandle copy = copy_of(key.get());
  REQUIRE(copy);
  CHECK(copy.get() != key.get());
  CHECK(ssh_key_is_private(copy.get()) != 0);
  CHECK(public_blob(copy.get()) == public_blob(key.get()));

  const KeyHandle certificate = read_certificate(kCertificate);
  const KeyHandle other = copy_of(certificate.get());
  REQUIRE(other);
  CHECK(public_blob(other.get()) == public_blob(certificate.get()));
}

}  // namespace launcher_ssh_workers_test
