// Gloo behind `Comm`. Collectives run one after another on a thread of their own, so that a bucket is on its way while
// the backward pass goes on; the other calls wait for their turn on the same thread. Gloo throws: this file is where
// that ends, as an `Error` that names the lost rank and its host. Where all ranks are on one machine, the all-reduce
// goes through memory that they share, and the rest still by Gloo.
#include "trainer/gloo_comm.hpp"

#include <fmt/format.h>
#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/common/error.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <algorithm>
#include <optional>
#include <system_error>
#include <utility>

#include "rendezvous/base/log.hpp"
#include "rendezvous/base/thread_limits.hpp"
#include "trainer/gloo_address.hpp"
#include "trainer/gloo_store.hpp"
#include "trainer/introduction.hpp"
#include "trainer/meeting.hpp"
#include "trainer/shared_memory_all_reduce.hpp"
#include "trainer/worker.hpp"

namespace llmlaunch::trainer {
namespace {

// Fewer and larger than Gloo's own 1 MiB: each segment costs every rank a wake-up. Gloo makes at least two per rank.
constexpr std::size_t kSegmentBytes = std::size_t{4} << 20;
constexpr std::uint64_t kProbeSlot = ~std::uint64_t{0};  // Gloo's collectives use the lower 56 bits

/// "[file:line] text" without the place in Gloo's source, which helps nobody here.
std::string plain(std::string text) {
  if (const auto end = text.find("] "); text.starts_with('[') && end != std::string::npos) text.erase(0, end + 2);
  return text;
}

class GlooComm final : public Comm {
 public:
  GlooComm(rendezvous::Client& client, std::shared_ptr<gloo::Context> mesh, std::string description,
           std::chrono::milliseconds connect_timeout)
      : client_(client), mesh_(std::move(mesh)), description_(std::move(description)), timeout_(connect_timeout) {}

  std::uint32_t rank() const override { return static_cast<std::uint32_t>(mesh_->rank); }
  std::uint32_t world_size() const override { return static_cast<std::uint32_t>(mesh_->size); }
  std::string description() const override { return description_; }

  Result<void> start_all_reduce_mean(std::span<float> values) override {
    return worker_.start(
        [this, values] { return shared_memory_ ? reduce_in_shared_memory(values) : reduce_by_gloo(values); });
  }

  Result<void> wait() override { return worker_.wait(); }

  Result<void> broadcast(std::span<float> values) override {
    return in_turn([this, values] {
      return guarded("broadcast", values.size_bytes(), [&] {
        gloo::BroadcastOptions options(mesh_);
        options.setOutput(values.data(), values.size());
        options.setRoot(0);
        options.setTag(tag_++);
        options.setTimeout(timeout_);
        gloo::broadcast(options);
      });
    });
  }

  Result<std::vector<Bytes>> all_gather(ByteView mine) override {
    if (mine.empty()) return std::vector<Bytes>(world_size());
    Bytes in(mine.begin(), mine.end());
    Bytes out(in.size() * world_size());
    auto done = in_turn([&] {
      return guarded("all-gather", in.size(), [&] {
        gloo::AllgatherOptions options(mesh_);
        options.setInput(reinterpret_cast<char*>(in.data()), in.size());
        options.setOutput(reinterpret_cast<char*>(out.data()), out.size());
        options.setTag(tag_++);
        options.setTimeout(timeout_);
        gloo::allgather(options);
      });
    });
    if (!done) return done.error();
    std::vector<Bytes> result;
    for (std::size_t i = 0; i < world_size(); ++i) {
      const auto first = out.begin() + static_cast<std::ptrdiff_t>(i * in.size());
      result.emplace_back(first, first + static_cast<std::ptrdiff_t>(in.size()));
    }
    return result;
  }

  Result<void> barrier() override {
    return in_turn([this] {
      return guarded("barrier", 0, [&] {
        gloo::BarrierOptions options(mesh_);
        options.setTag(tag_++);
        options.setTimeout(timeout_);
        gloo::barrier(options);
      });
    });
  }

  Result<void> finish() override {
    if (auto done = worker_.wait(); !done) return done;
    return meet_at_end(client_, "gloo/finish", timeout_);
  }

  /// Fills the table of hosts, for errors, and gets memory where all ranks can share it. `timeout` is for every
  /// collective after this.
  Result<void> meet(bool share, std::chrono::milliseconds timeout) {
    auto introductions = introduce(*this, client_.options().host, share);
    if (!introductions) return introductions.error();
    hosts_ = introductions->hosts;
    auto memory = share_memory(*this, std::move(*introductions), timeout_);
    if (!memory) return memory.error();
    if (memory->group) {
      shared_memory_.emplace(std::move(*memory->group), rank());
      description_ = "shared memory, " + description_;
    } else if (rank() == 0 && !memory->why_not.empty()) {
      log_info("gradients are averaged over TCP and not in shared memory: {}", memory->why_not);
    }
    timeout_ = timeout;
    return ok;
  }

 private:
  Result<void> reduce_by_gloo(std::span<float> values) {
    return guarded("all-reduce", values.size_bytes(), [&] {
      const float scale = 1.0F / static_cast<float>(mesh_->size);
      for (float& value : values) value *= scale;
      gloo::AllreduceOptions options(mesh_);
      options.setOutput(values.data(), values.size());
      options.setReduceFunction(static_cast<void (*)(void*, const void*, const void*, std::size_t)>(&gloo::sum<float>));
      options.setTag(tag_++);
      options.setTimeout(timeout_);
      options.setMaxSegmentSize(kSegmentBytes);
      gloo::allreduce(options);
    });
  }

  Result<void> reduce_in_shared_memory(std::span<float> values) {
    const auto failure = shared_memory_->mean(values, timeout_);
    if (!failure) return ok;
    const std::string what = described("all-reduce", values.size_bytes());
    if (failure->code == Errc::timed_out) return late(what);
    if (failure->code == Errc::closed) return lost(what, {failure->ranks.begin(), failure->ranks.end()});
    return make_error(failure->code,
                      fmt::format("{}: rank {} has {} bytes", what, named(static_cast<int>(failure->ranks.front())),
                                  failure->values * sizeof(float)),
                      where(), "the ranks must run the same program on the same data with the same flags");
  }

  template <class Function>
  Result<void> in_turn(Function&& function) {
    if (auto started = worker_.start(std::forward<Function>(function)); !started) return started;
    return worker_.wait();
  }

  template <class Function>
  Result<void> guarded(const char* collective, std::size_t bytes, Function&& function) {
    try {
      function();
      return ok;
    } catch (const std::exception& e) {
      return explain(collective, bytes, e.what());
    }
  }

  std::string where() const { return fmt::format("rank {} on {}", mesh_->rank, client_.options().host); }

  std::string named(int peer) const {
    const auto index = static_cast<std::size_t>(peer);
    return index < hosts_.size() ? fmt::format("{} on {}", peer, hosts_[index]) : std::to_string(peer);
  }

  static std::string described(const char* collective, std::size_t bytes) {
    return bytes > 0 ? fmt::format("{} of {} bytes", collective, bytes) : std::string(collective);
  }

  Error late(const std::string& what) const {
    return make_error(Errc::timed_out,
                      fmt::format("{}: not complete within {} s", what, static_cast<double>(timeout_.count()) / 1000),
                      where(), "a rank hangs or its network is cut; --ddp_timeout sets the limit");
  }

  Error lost(const std::string& what, const std::vector<int>& peers) const {
    std::string text;
    for (const int peer : peers) text += fmt::format("{}{}", text.empty() ? "" : " and ", named(peer));
    return make_error(Errc::closed, fmt::format("{}: lost rank {}", what, text), where());
  }

  /// Peers whose connection has failed. Gloo's text names at best an address of one of them, often a port that nobody
  /// has seen before; but it refuses to use a failed connection again.
  std::vector<int> lost_peers() {
    std::vector<int> peers;
    char byte = 0;
    const auto probe = mesh_->createUnboundBuffer(&byte, sizeof byte);
    for (int peer = 0; peer < mesh_->size; ++peer) {
      if (peer == mesh_->rank) continue;
      try {
        probe->recv(peer, kProbeSlot);
      } catch (const std::exception&) {
        peers.push_back(peer);
      }
    }
    return peers;
  }

  Error explain(const char* collective, std::size_t bytes, const std::string& text) {
    const std::string what = described(collective, bytes);
    // A time-out fails every connection, so that asking them would tell nothing.
    if (text.find("imed out") != std::string::npos) return late(what);
    if (const auto peers = lost_peers(); !peers.empty()) return lost(what, peers);
    return make_error(Errc::closed, fmt::format("{}: {}", what, plain(text)), where());
  }

  rendezvous::Client& client_;
  std::shared_ptr<gloo::Context> mesh_;
  std::vector<std::string> hosts_;
  std::string description_;
  std::chrono::milliseconds timeout_;
  std::uint32_t tag_ = 0;
  std::optional<SharedMemoryAllReduce> shared_memory_;
  Worker worker_;  // last: its thread uses all of the above
};

std::string rank_on_host(const rendezvous::Client& client) {
  return fmt::format("rank {} on {}", number(client.options().rank), client.options().host);
}

/// What was thrown while connecting, as one line.
Error connect_error(const rendezvous::Client& client, const std::string& place) {
  const std::string where = rank_on_host(client);
  try {
    throw;
  } catch (const GlooStoreError& e) {
    Error error = e.error();
    error.where = error.where.empty() ? where : fmt::format("{}: {}", where, error.where);
    return error;
  } catch (const std::system_error& e) {  // Gloo's thread, or ours; its sockets have exceptions of their own
    return make_error(Errc::out_of_resources,
                      fmt::format("a thread to connect the ranks with cannot be started: {}", e.code().message()),
                      where, kSeeThreadLimits);
  } catch (const std::exception& e) {
    return make_error(Errc::unreachable,
                      fmt::format("cannot connect the ranks by Gloo on {}: {}", place, plain(e.what())), where,
                      "every host must reach every other on this network; GLOO_SOCKET_IFNAME chooses the interface");
  }
}

}  // namespace

Result<std::unique_ptr<Comm>> make_gloo_comm(rendezvous::Client& client, const GlooOptions& options) {
  // GLOO_SOCKET_IFNAME may be a list, one device each; one is enough here. Gloo is told an address and not a name: its
  // own search for the name leaks, and on failure it does not say which names there are.
  const std::string interface = options.interface.substr(0, options.interface.find(','));
  const auto address = interface.empty() ? local_address_towards(client.options().address, client.options().port)
                                         : address_of_interface(interface);
  if (!address) {
    Error error = address.error();
    if (error.where.empty()) error.where = rank_on_host(client);
    return error;
  }
  gloo::transport::tcp::attr place;
  place.hostname = *address;
  try {
    std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(place);
    GlooStore store(client, "gloo", options.connect_timeout);
    auto mesh = std::make_shared<gloo::rendezvous::Context>(static_cast<int>(number(client.options().rank)),
                                                            static_cast<int>(client.options().world_size));
    mesh->setTimeout(options.connect_timeout);
    mesh->connectFullMesh(store, device);
    auto comm = std::make_unique<GlooComm>(client, mesh, fmt::format("gloo on {}", *address), options.connect_timeout);
    if (auto met = comm->meet(options.share_memory, options.timeout); !met) {
      return met.error();
    }
    return std::unique_ptr<Comm>(std::move(comm));
  } catch (const std::exception&) {
    return connect_error(client, *address);
  }
}

}  // namespace llmlaunch::trainer
