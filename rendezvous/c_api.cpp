// The C functions of llmlaunch_rendezvous.h over `Client`: arguments checked, errors as a status and this thread's
// text, no exception beyond this file. Store and watches are in c_api_store.cpp.
#include "rendezvous/c_api.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace llmlaunch::rendezvous::c_api {
namespace {

thread_local std::string error_text;

// The numbers of the header, in its order; those up to 16 are the protocol's.
struct NamedStatus {
  int status;
  Errc code;
  const char* name;
};
constexpr NamedStatus kStatuses[] = {
    {LLMLAUNCH_RDV_TIMED_OUT, Errc::timed_out, "timed_out"},
    {LLMLAUNCH_RDV_CANCELED, Errc::canceled, "canceled"},
    {LLMLAUNCH_RDV_REFUSED, Errc::refused, "refused"},
    {LLMLAUNCH_RDV_CLOSED, Errc::closed, "closed"},
    {LLMLAUNCH_RDV_PROTOCOL, Errc::protocol, "protocol"},
    {LLMLAUNCH_RDV_TOO_LARGE, Errc::too_large, "too_large"},
    {LLMLAUNCH_RDV_VERSION_MISMATCH, Errc::version_mismatch, "version_mismatch"},
    {LLMLAUNCH_RDV_UNAUTHENTICATED, Errc::unauthenticated, "unauthenticated"},
    {LLMLAUNCH_RDV_DUPLICATE_RANK, Errc::duplicate_rank, "duplicate_rank"},
    {LLMLAUNCH_RDV_STALE_GENERATION, Errc::stale_generation, "stale_generation"},
    {LLMLAUNCH_RDV_WRONG_WORLD, Errc::wrong_world, "wrong_world"},
    {LLMLAUNCH_RDV_GENERATION_ENDED, Errc::generation_ended, "generation_ended"},
    {LLMLAUNCH_RDV_NOT_FOUND, Errc::not_found, "not_found"},
    {LLMLAUNCH_RDV_INVALID_ARGUMENT, Errc::invalid_argument, "invalid_argument"},
    {LLMLAUNCH_RDV_UNSUPPORTED, Errc::unsupported, "unsupported"},
    {LLMLAUNCH_RDV_OUT_OF_RESOURCES, Errc::out_of_resources, "out_of_resources"},
    {LLMLAUNCH_RDV_UNREACHABLE, Errc::unreachable, "unreachable"},
};

std::chrono::milliseconds known_or(std::int64_t ms, std::chrono::milliseconds otherwise) {
  return ms > 0 ? std::chrono::milliseconds(ms) : otherwise;
}

int join_with(ClientOptions options, llmlaunch_rdv** joined) {
  auto client = Client::join(options);
  if (!client) return failed(client.error());
  const int descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (descriptor < 0) return failed(system_error(errno, "eventfd"));
  auto handle = std::make_unique<llmlaunch_rdv>();
  handle->end_descriptor = descriptor;
  handle->client = std::move(*client);
  handle->client->on_end([state = handle.get()](const Error& reason) { state->end(to_string(reason)); });
  *joined = handle.release();
  return LLMLAUNCH_RDV_OK;
}

}  // namespace

int failed(const Error& error) {
  error_text = to_string(error);
  if (error.code.category() == error_category()) {
    for (const NamedStatus& known : kStatuses) {
      if (static_cast<int>(known.code) == error.code.value()) return known.status;
    }
  }
  return LLMLAUNCH_RDV_SYSTEM;
}

int missing_argument(const char* name) {
  return failed(make_error(Errc::invalid_argument, std::string("argument ") + name + " is NULL"));
}

void* copied(ByteView bytes) {
  auto* memory = static_cast<char*>(std::malloc(bytes.size() + 1));
  if (memory == nullptr) throw std::bad_alloc();
  if (!bytes.empty()) std::memcpy(memory, bytes.data(), bytes.size());
  memory[bytes.size()] = '\0';
  return memory;
}

}  // namespace llmlaunch::rendezvous::c_api

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using namespace llmlaunch::rendezvous::c_api;

llmlaunch_rdv::~llmlaunch_rdv() {
  client.reset();  // ends the thread that may call `end`
  if (end_descriptor >= 0) ::close(end_descriptor);
}

void llmlaunch_rdv::end(std::string why) {
  void (*told)(void*, const char*) = nullptr;
  void* with = nullptr;
  {
    const std::scoped_lock lock(mutex);
    end_reason = std::move(why);
    told = std::exchange(callback, nullptr);
    with = user;
  }
  const std::uint64_t one = 1;
  // An eventfd takes its first 8 bytes always.
  if (::write(end_descriptor, &one, sizeof one) != sizeof one) std::abort();
  if (told != nullptr) told(with, end_reason->c_str());
}

extern "C" {

const char* llmlaunch_rdv_error_text(void) {
  return error_text.c_str();
}

const char* llmlaunch_rdv_status_name(int status) {
  if (status == LLMLAUNCH_RDV_OK) return "ok";
  if (status == LLMLAUNCH_RDV_SYSTEM) return "system";
  for (const NamedStatus& known : kStatuses) {
    if (known.status == status) return known.name;
  }
  return "unknown";
}

void llmlaunch_rdv_free(void* memory) {
  std::free(memory);
}

int llmlaunch_rdv_join_environment(int nccl_version, llmlaunch_rdv** joined) {
  if (joined == nullptr) return missing_argument("joined");
  return guarded([&] {
    auto options = client_options_from_environment();
    if (!options) return failed(options.error());
    options->nccl_version = nccl_version;
    return join_with(std::move(*options), joined);
  });
}

int llmlaunch_rdv_join(const llmlaunch_rdv_options* given, llmlaunch_rdv** joined) {
  if (joined == nullptr) return missing_argument("joined");
  if (given == nullptr) return missing_argument("options");
  return guarded([&] {
    llmlaunch_rdv_options known{};
    if (given->size < offsetof(llmlaunch_rdv_options, join_timeout_ms) + sizeof known.join_timeout_ms) {
      return failed(make_error(Errc::invalid_argument, "options.size is " + std::to_string(given->size) +
                                                           ", not sizeof(llmlaunch_rdv_options)"));
    }
    std::memcpy(&known, given, std::min(given->size, sizeof known));
    if (known.address == nullptr) return missing_argument("options.address");
    if (known.job_id == nullptr) return missing_argument("options.job_id");
    if (known.token == nullptr) return missing_argument("options.token");
    ClientOptions options;
    options.address = known.address;
    options.port = known.port;
    options.job_id = known.job_id;
    options.generation = Generation{known.generation};
    options.rank = Rank{known.rank};
    options.world_size = known.world_size;
    options.token = known.token;
    if (known.host != nullptr) options.host = known.host;
    options.nccl_version = known.nccl_version;
    options.observer = known.observer != 0;
    options.timeout = known_or(known.timeout_ms, options.timeout);
    if (known.join_timeout_ms > 0) options.join_timeout = std::chrono::milliseconds(known.join_timeout_ms);
    return join_with(std::move(options), joined);
  });
}

void llmlaunch_rdv_leave(llmlaunch_rdv* joined) {
  delete joined;
}

uint32_t llmlaunch_rdv_rank(const llmlaunch_rdv* joined) {
  return number(joined->client->options().rank);
}
uint32_t llmlaunch_rdv_world_size(const llmlaunch_rdv* joined) {
  return joined->client->options().world_size;
}
uint32_t llmlaunch_rdv_generation(const llmlaunch_rdv* joined) {
  return number(joined->client->options().generation);
}

int llmlaunch_rdv_publish_unique_id(llmlaunch_rdv* joined, uint32_t index, const void* id) {
  if (id == nullptr) return missing_argument("id");
  return guarded([&] {
    UniqueId bytes;
    std::memcpy(bytes.data(), id, bytes.size());
    return status_of(joined->client->publish_unique_id(index, bytes));
  });
}

int llmlaunch_rdv_unique_id(llmlaunch_rdv* joined, uint32_t index, int64_t timeout_ms, void* id) {
  if (id == nullptr) return missing_argument("id");
  return guarded([&] {
    const auto given = joined->client->unique_id(index, joined->time(timeout_ms));
    if (given) std::memcpy(id, given->data(), given->size());
    return status_of(given);
  });
}

int llmlaunch_rdv_share_unique_ids(llmlaunch_rdv* joined, uint32_t count, int (*make_id)(void* user, void* id),
                                   void* user, void* ids) {
  if (make_id == nullptr || ids == nullptr) return missing_argument("make_id or ids");
  return guarded([&] {
    const auto make = [&]() -> Result<UniqueId> {
      UniqueId id{};
      const int status = make_id(user, id.data());
      if (status == 0) return id;
      return make_error(Errc::canceled, "make_id gave " + std::to_string(status) + ": no unique id was made");
    };
    const auto shared = joined->client->share_unique_ids(count, make);
    if (shared) std::memcpy(ids, shared->data(), shared->size() * sizeof(UniqueId));
    return status_of(shared);
  });
}

int llmlaunch_rdv_barrier(llmlaunch_rdv* joined, const char* name, int64_t timeout_ms) {
  if (name == nullptr) return missing_argument("name");
  return guarded([&] { return status_of(joined->client->barrier(name, joined->time(timeout_ms))); });
}

int llmlaunch_rdv_end_descriptor(const llmlaunch_rdv* joined) {
  return joined->end_descriptor;
}

const char* llmlaunch_rdv_end_reason(const llmlaunch_rdv* joined) {
  const std::scoped_lock lock(joined->mutex);
  return joined->end_reason ? joined->end_reason->c_str() : nullptr;
}

void llmlaunch_rdv_on_end(llmlaunch_rdv* joined, void (*callback)(void*, const char*), void* user) {
  {
    const std::scoped_lock lock(joined->mutex);
    if (!joined->end_reason || callback == nullptr) {
      joined->callback = callback;
      joined->user = user;
      return;
    }
  }
  callback(user, joined->end_reason->c_str());
}

}  // extern "C"
