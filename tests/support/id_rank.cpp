// See id_rank.hpp. Prints "rank R unique id sha256 HEX" and "rank R has N of N unique ids with sha256 HEX" on stdout,
// errors on stderr.
#include "tests/support/id_rank.hpp"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

namespace llmlaunch::rendezvous {
namespace {

std::string sha256_of(ByteView bytes) {
  std::array<unsigned char, 32> digest{};
  unsigned length = 0;
  if (::EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, ::EVP_sha256(), nullptr) != 1) return "failed";
  std::string hex;
  for (const unsigned char byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

Result<void> take_part(const std::function<Result<UniqueId>()>& make_id, int nccl_version) {
  auto options = client_options_from_environment();
  if (!options) return options.error();
  options->nccl_version = nccl_version;
  auto client = Client::join(*options);
  if (!client) return client.error();
  if (options->rank == Rank{0}) {
    const auto id = make_id();
    if (!id) return id.error();
    if (auto published = (*client)->publish_unique_id(0, *id); !published) return published;
  }
  const auto id = (*client)->unique_id(0);
  if (!id) return id.error();
  fmt::print("rank {} unique id sha256 {}\n", number(options->rank), sha256_of(*id));
  if (std::fflush(stdout) != 0) return make_error(Errc::io, "cannot write to stdout");
  const auto met = (*client)->add("received", 1);
  if (!met) return met.error();
  if (auto passed = (*client)->barrier("received"); !passed) return passed;
  const auto all = (*client)->get("received");
  if (!all) return all.error();
  if (as_text(*all) != fmt::to_string(options->world_size)) {
    return make_error(Errc::internal,
                      fmt::format("{} ranks were counted in a world of {}", as_text(*all), options->world_size));
  }
  // Several, as ncclCommInitRankScalable takes them: each is another rank's, and all ranks have them in the same order.
  const std::uint32_t count = std::min<std::uint32_t>(options->world_size, 3);
  const auto ids = (*client)->share_unique_ids(count, [&]() -> Result<UniqueId> {
    if (options->rank == Rank{0}) return *id;  // number 0 is published already
    return make_id();
  });
  if (!ids) return ids.error();
  Bytes joined;
  for (const UniqueId& one : *ids) joined.insert(joined.end(), one.begin(), one.end());
  const std::set<UniqueId> distinct(ids->begin(), ids->end());
  fmt::print("rank {} has {} of {} unique ids with sha256 {}\n", number(options->rank), distinct.size(), count,
             sha256_of(joined));
  if (std::fflush(stdout) != 0) return make_error(Errc::io, "cannot write to stdout");
  return (*client)->barrier("end");
}

}  // namespace

int run_id_rank(const std::function<Result<UniqueId>()>& make_id, int nccl_version) {
  const auto done = take_part(make_id, nccl_version);
  if (done) return 0;
  fmt::print(stderr, "error: {}\n", to_string(done.error()));
  return 1;
}

}  // namespace llmlaunch::rendezvous
