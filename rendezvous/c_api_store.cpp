// The C functions for the store and its watches; see c_api.cpp.
#include <cstdlib>
#include <cstring>
#include <utility>

#include "rendezvous/c_api.hpp"

using namespace llmlaunch;
using namespace llmlaunch::rendezvous;
using namespace llmlaunch::rendezvous::c_api;

extern "C" {

int llmlaunch_rdv_set(llmlaunch_rdv* joined, const char* key, const void* value, size_t size) {
  if (key == nullptr) return missing_argument("key");
  if (value == nullptr && size > 0) return missing_argument("value");
  return guarded([&] { return status_of(joined->client->set(key, view_of(value, size))); });
}

int llmlaunch_rdv_get(llmlaunch_rdv* joined, const char* key, int64_t timeout_ms, void** value, size_t* size) {
  if (key == nullptr) return missing_argument("key");
  if (value == nullptr || size == nullptr) return missing_argument("value or size");
  return guarded([&] {
    const auto got = joined->client->get(key, joined->time(timeout_ms));
    if (!got) return failed(got.error());
    *value = copied(*got);
    *size = got->size();
    return static_cast<int>(LLMLAUNCH_RDV_OK);
  });
}

int llmlaunch_rdv_wait(llmlaunch_rdv* joined, const char* const* keys, size_t count, int64_t timeout_ms) {
  if (keys == nullptr && count > 0) return missing_argument("keys");
  return guarded([&] {
    std::vector<std::string> all;
    for (std::size_t i = 0; i < count; ++i) {
      if (keys[i] == nullptr) return missing_argument("keys[i]");
      all.emplace_back(keys[i]);
    }
    return status_of(joined->client->wait(all, joined->time(timeout_ms)));
  });
}

int llmlaunch_rdv_add(llmlaunch_rdv* joined, const char* key, int64_t delta, int64_t* sum) {
  if (key == nullptr) return missing_argument("key");
  return guarded([&] {
    const auto added = joined->client->add(key, delta);
    if (added && sum != nullptr) *sum = *added;
    return status_of(added);
  });
}

int llmlaunch_rdv_compare_and_set(llmlaunch_rdv* joined, const char* key, const void* expected, size_t expected_size,
                                  const void* value, size_t size, int* swapped, void** found, size_t* found_size) {
  if (key == nullptr) return missing_argument("key");
  if (value == nullptr && size > 0) return missing_argument("value");
  if (swapped == nullptr) return missing_argument("swapped");
  if (found != nullptr && found_size == nullptr) return missing_argument("found_size");
  return guarded([&] {
    std::optional<ByteView> old;
    if (expected != nullptr) old = view_of(expected, expected_size);
    const auto result = joined->client->compare_and_set(key, old, view_of(value, size));
    if (!result) return failed(result.error());
    if (found != nullptr) {
      *found = result->found ? copied(*result->found) : nullptr;
      *found_size = result->found ? result->found->size() : 0;
    }
    *swapped = result->swapped ? 1 : 0;
    return static_cast<int>(LLMLAUNCH_RDV_OK);
  });
}

int llmlaunch_rdv_append(llmlaunch_rdv* joined, const char* key, const void* value, size_t size, uint64_t* new_size) {
  if (key == nullptr) return missing_argument("key");
  if (value == nullptr && size > 0) return missing_argument("value");
  return guarded([&] {
    const auto grown = joined->client->append(key, view_of(value, size));
    if (grown && new_size != nullptr) *new_size = *grown;
    return status_of(grown);
  });
}

int llmlaunch_rdv_delete(llmlaunch_rdv* joined, const char* key, int* existed) {
  if (key == nullptr) return missing_argument("key");
  return guarded([&] {
    const auto removed = joined->client->remove(key);
    if (removed && existed != nullptr) *existed = *removed ? 1 : 0;
    return status_of(removed);
  });
}

int llmlaunch_rdv_list(llmlaunch_rdv* joined, const char* prefix, const char* after, uint32_t limit, char*** keys,
                       size_t* count, int* more) {
  if (prefix == nullptr) return missing_argument("prefix");
  if (after == nullptr) return missing_argument("after");
  if (keys == nullptr || count == nullptr || more == nullptr) return missing_argument("keys, count or more");
  return guarded([&] {
    const auto page = joined->client->list(prefix, after, limit == 0 ? std::uint32_t{kMaxListKeys} : limit);
    if (!page) return failed(page.error());
    std::size_t bytes = (page->keys.size() + 1) * sizeof(char*);
    for (const std::string& key : page->keys) bytes += key.size() + 1;
    auto* pointers = static_cast<char**>(std::malloc(bytes));
    if (pointers == nullptr) throw std::bad_alloc();
    auto* text = reinterpret_cast<char*>(pointers + page->keys.size() + 1);
    for (std::size_t i = 0; i < page->keys.size(); ++i) {
      pointers[i] = text;
      std::memcpy(text, page->keys[i].c_str(), page->keys[i].size() + 1);
      text += page->keys[i].size() + 1;
    }
    pointers[page->keys.size()] = nullptr;
    *keys = pointers;
    *count = page->keys.size();
    *more = page->more ? 1 : 0;
    return static_cast<int>(LLMLAUNCH_RDV_OK);
  });
}

int llmlaunch_rdv_watch_begin(llmlaunch_rdv* joined, const char* key, int prefix, llmlaunch_rdv_watch** watch) {
  if (key == nullptr) return missing_argument("key");
  if (watch == nullptr) return missing_argument("watch");
  return guarded([&] {
    auto watcher = prefix != 0 ? joined->client->watch_prefix(key) : joined->client->watch(key);
    if (!watcher) return failed(watcher.error());
    *watch = new llmlaunch_rdv_watch{std::move(*watcher), joined->time(-1)};
    return static_cast<int>(LLMLAUNCH_RDV_OK);
  });
}

int llmlaunch_rdv_watch_next(llmlaunch_rdv_watch* watch, int64_t timeout_ms, char** key, void** value, size_t* size) {
  if (key == nullptr || value == nullptr || size == nullptr) return missing_argument("key, value or size");
  return guarded([&] {
    const auto time = timeout_ms < 0 ? watch->timeout : std::chrono::milliseconds(timeout_ms);
    const auto change = watch->watcher->next(time);
    if (!change) return failed(change.error());
    std::unique_ptr<void, decltype(&std::free)> now(change->value ? copied(*change->value) : nullptr, &std::free);
    *key = static_cast<char*>(copied(as_bytes(change->key)));
    *value = now.release();
    *size = change->value ? change->value->size() : 0;
    return static_cast<int>(LLMLAUNCH_RDV_OK);
  });
}

int llmlaunch_rdv_watch_descriptor(llmlaunch_rdv_watch* watch, int* descriptor) {
  if (descriptor == nullptr) return missing_argument("descriptor");
  return guarded([&] {
    const auto made = watch->watcher->descriptor();
    if (made) *descriptor = *made;
    return status_of(made);
  });
}

void llmlaunch_rdv_watch_end(llmlaunch_rdv_watch* watch) {
  delete watch;
}

}  // extern "C"
