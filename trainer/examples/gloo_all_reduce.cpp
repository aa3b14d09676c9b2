// All ranks of a job add up a vector on their CPUs: Gloo and llmlaunch's rendezvous, no MPI.
//
//   rdv=llmlaunch_rendezvous
//   flags="$(pkg-config --cflags --libs $rdv) -Wl,-rpath,$(pkg-config --variable=libdir $rdv)"
//   c++ -std=c++17 gloo_all_reduce.cpp -o gloo_all_reduce $flags -lgloo
//   llmlaunch run --config job.yaml ./gloo_all_reduce
#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <llmlaunch_rendezvous.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

void check(int status, const char* what) {
  if (status != LLMLAUNCH_RDV_OK) throw std::runtime_error(std::string(what) + ": " + llmlaunch_rdv_error_text());
}

// What Gloo asks of a store while its ranks look for each other.
class JobStore : public gloo::rendezvous::Store {
 public:
  explicit JobStore(llmlaunch_rdv* job) : job_(job) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    check(llmlaunch_rdv_set(job_, ("gloo/" + key).c_str(), data.data(), data.size()), "set");
  }
  std::vector<char> get(const std::string& key) override {
    void* value = nullptr;
    std::size_t size = 0;
    check(llmlaunch_rdv_get(job_, ("gloo/" + key).c_str(), -1, &value, &size), "get");
    const std::vector<char> data(static_cast<char*>(value), static_cast<char*>(value) + size);
    llmlaunch_rdv_free(value);
    return data;
  }
  void wait(const std::vector<std::string>& keys) override { wait(keys, std::chrono::milliseconds(-1)); }
  void wait(const std::vector<std::string>& keys, const std::chrono::milliseconds& timeout) override {
    std::vector<std::string> full;
    for (const std::string& key : keys) full.push_back("gloo/" + key);
    std::vector<const char*> texts;
    for (const std::string& key : full) texts.push_back(key.c_str());
    check(llmlaunch_rdv_wait(job_, texts.data(), texts.size(), timeout.count()), "wait");
  }

 private:
  llmlaunch_rdv* job_;
};

void all_reduce(llmlaunch_rdv* job) {
  const int rank = static_cast<int>(llmlaunch_rdv_rank(job));
  const int world = static_cast<int>(llmlaunch_rdv_world_size(job));
  gloo::transport::tcp::attr place;
  if (const char* interface = std::getenv("GLOO_SOCKET_IFNAME")) place.iface = interface;
  auto device = gloo::transport::tcp::CreateDevice(place);
  auto context = std::make_shared<gloo::rendezvous::Context>(rank, world);
  JobStore store(job);
  context->connectFullMesh(store, device);

  std::vector<float> values(1 << 20, static_cast<float>(rank + 1));
  gloo::AllreduceOptions options(context);
  options.setOutput(values.data(), values.size());
  options.setReduceFunction(static_cast<void (*)(void*, const void*, const void*, std::size_t)>(&gloo::sum<float>));
  gloo::allreduce(options);
  for (const float value : values) {
    if (value != static_cast<float>(world * (world + 1) / 2)) throw std::runtime_error("a sum is wrong");
  }
  std::printf("rank %d of %d: the sum is %.0f\n", rank, world, values[0]);
  check(llmlaunch_rdv_barrier(job, "done", -1), "barrier");  // nobody closes a connection that another still uses
}

}  // namespace

int main() {
  llmlaunch_rdv* job = nullptr;
  try {
    check(llmlaunch_rdv_join_environment(0, &job), "join");
    all_reduce(job);
    llmlaunch_rdv_leave(job);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    llmlaunch_rdv_leave(job);
    return 1;
  }
  return 0;
}
