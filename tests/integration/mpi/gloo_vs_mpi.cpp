// The same tensors summed twice: by MPI_Allreduce, and by the trainer's Gloo communicator, whose ranks meet at a real
// rendezvous server in rank 0. Whole numbers must agree exactly, others within the rounding of a different order.
#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "rendezvous/client.hpp"
#include "rendezvous/server.hpp"
#include "trainer/gloo_comm.hpp"

namespace {

using namespace llmlaunch;

constexpr const char* kJob = "gloo-vs-mpi";
// One value, fewer than ranks, layers of the example's model, its whole gradient (4.8 MB), more than one segment of
// Gloo's.
constexpr std::array<std::size_t, 8> kSizes = {1, 3, 4, 320, 1290, 18'496, 1'199'882, 3'000'001};

/// What the other ranks must know to join.
struct Meeting {
  std::uint16_t port = 0;
  std::array<char, 65> token{};
};

void check(const Result<void>& result) {
  if (result) return;
  fmt::print(stderr, "gloo_vs_mpi: {}\n", to_string(result.error()));
  MPI_Abort(MPI_COMM_WORLD, 1);
}

template <class T>
T value_of(Result<T> result) {
  if (!result) check(result.error());
  return std::move(*result);
}

std::vector<float> tensor(std::size_t size, int rank, bool whole_numbers) {
  std::mt19937 bits(static_cast<unsigned>(size) * 31U + static_cast<unsigned>(rank));
  std::vector<float> values(size);
  for (float& value : values) {
    if (whole_numbers) {
      value = static_cast<float>(static_cast<int>(bits() % 2'000'001U) - 1'000'000);
    } else {
      value = std::ldexp(static_cast<float>(bits() >> 8U), -24) - 0.5F;
    }
  }
  return values;
}

/// The largest difference, in units of the last place of the sum of magnitudes: what another order can change.
double worst_difference(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& magnitude) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) || std::isnan(b[i])) return std::numeric_limits<double>::infinity();
    const float unit = std::nextafter(magnitude[i], std::numeric_limits<float>::infinity()) - magnitude[i];
    worst =
        std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])) / static_cast<double>(unit));
  }
  return worst;
}

/// One size, one kind of numbers; the worst difference over all ranks.
double compare(trainer::Comm& comm, std::size_t size, bool whole_numbers) {
  const int count = static_cast<int>(size);
  const std::vector<float> mine = tensor(size, static_cast<int>(comm.rank()), whole_numbers);
  std::vector<float> by_mpi(size), magnitude(size), magnitudes(size);
  std::transform(mine.begin(), mine.end(), magnitude.begin(), [](float value) { return std::abs(value); });
  MPI_Allreduce(mine.data(), by_mpi.data(), count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  MPI_Allreduce(magnitude.data(), magnitudes.data(), count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);

  std::vector<float> by_gloo = mine;
  check(comm.start_all_reduce_mean(by_gloo));
  check(comm.wait());
  // The communicator gives the mean; with a power of two as the number of ranks, that scaling is exact.
  for (float& value : by_gloo) value *= static_cast<float>(comm.world_size());

  double worst = worst_difference(by_gloo, by_mpi, magnitudes);
  MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return worst;
}

/// All ranks, both kinds of numbers, all sizes. Returns how many comparisons failed.
int compare_all(trainer::Comm& comm) {
  int failures = 0;
  // n - 1 additions of one tensor may round differently in another order.
  const double limit = static_cast<double>(comm.world_size()) - 1;
  for (const std::size_t size : kSizes) {
    const double whole = compare(comm, size, true);
    const double other = compare(comm, size, false);
    const bool good = whole == 0 && other <= limit;
    if (!good) ++failures;
    if (comm.rank() == 0) {
      fmt::print("{:>9} floats: whole numbers differ by {} ulp, others by {:.2f} ulp (at most {}): {}\n", size, whole,
                 other, limit, good ? "ok" : "WRONG");
    }
  }
  return failures;
}

/// The server and the thread that runs it, in rank 0.
class ServedRendezvous {
 public:
  explicit ServedRendezvous(int world_size) {
    rendezvous::ServerOptions options;
    options.job_id = kJob;
    options.token = rendezvous::make_token();
    options.hosts.assign(static_cast<std::size_t>(world_size), "localhost");
    options.bind_address = "127.0.0.1";
    server_ = value_of(rendezvous::Server::start(context_.get_executor(), options));
    meeting_.port = server_->port();
    std::copy(options.token.begin(), options.token.end(), meeting_.token.begin());
    thread_ = std::thread([this] { context_.run(); });
  }
  ~ServedRendezvous() {
    asio::post(context_, [this] { server_->close(); });
    thread_.join();
  }
  const Meeting& meeting() const { return meeting_; }

 private:
  asio::io_context context_;
  std::unique_ptr<rendezvous::Server> server_;
  Meeting meeting_;
  std::thread thread_;
};

int run(int rank, int world_size) {
  std::unique_ptr<ServedRendezvous> served;
  Meeting meeting;
  if (rank == 0) {
    served = std::make_unique<ServedRendezvous>(world_size);
    meeting = served->meeting();
  }
  MPI_Bcast(&meeting, sizeof meeting, MPI_BYTE, 0, MPI_COMM_WORLD);

  rendezvous::ClientOptions options;
  options.address = "127.0.0.1";
  options.port = meeting.port;
  options.job_id = kJob;
  options.rank = Rank{static_cast<std::uint32_t>(rank)};
  options.world_size = static_cast<std::uint32_t>(world_size);
  options.token = meeting.token.data();
  options.host = "localhost";
  int failures = 0;
  {
    const auto client = value_of(rendezvous::Client::join(options));
    const auto comm = value_of(trainer::make_gloo_comm(*client, trainer::GlooOptions{}));
    failures = compare_all(*comm);
    check(comm->finish());
  }
  MPI_Barrier(MPI_COMM_WORLD);  // the server stays until every client has left
  return failures;
}

}  // namespace

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  int rank = 0;
  int world_size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world_size);
  const int failures = run(rank, world_size);
  MPI_Finalize();
  return failures == 0 ? 0 : 1;
}
