// The files that are not whole yet. Called by who writes one, and at the end of the process.
#include "trainer/unfinished.hpp"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <future>
#include <memory>
#include <mutex>
#include <set>
#include <system_error>
#include <thread>
#include <utility>

namespace llmlaunch::trainer {
namespace {

struct UnfinishedPaths {
  std::mutex mutex;
  std::set<std::string> paths;
};

/// A file system that hangs keeps nobody's Ctrl-C.
constexpr std::chrono::seconds kUnlinkWait{1};

/// Never destroyed: threads use it while the process ends.
UnfinishedPaths& unfinished_paths() {
  static auto* const all = new UnfinishedPaths;
  return *all;
}

}  // namespace

Unfinished::Unfinished(std::string path) : path_(std::move(path)) {
  const std::lock_guard lock(unfinished_paths().mutex);
  unfinished_paths().paths.insert(path_);
}

Result<void> Unfinished::finish(const std::string& name) {
  return finish_together({{this, name}});
}

Result<void> Unfinished::finish_together(const std::vector<Named>& all) {
  const std::lock_guard lock(unfinished_paths().mutex);
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (std::rename(all[i].file->path_.c_str(), all[i].name.c_str()) == 0) continue;
    const Error error = system_error(errno, "rename", all[i].file->path_);
    for (std::size_t done = 0; done < i; ++done) ::unlink(all[done].name.c_str());
    return error;
  }
  for (const Named& one : all) one.file->finished_ = true;
  return ok;
}

Unfinished::~Unfinished() {
  if (!finished_) ::unlink(path_.c_str());
  const std::lock_guard lock(unfinished_paths().mutex);
  unfinished_paths().paths.erase(path_);
}

void remove_unfinished() {
  static std::once_flag once;
  std::call_once(once, [] {
    auto removed = std::make_shared<std::promise<void>>();
    const auto ended = removed->get_future();
    try {
      std::thread([removed = std::move(removed)] {
        unfinished_paths().mutex.lock();  // for good
        for (const std::string& path : unfinished_paths().paths) ::unlink(path.c_str());
        removed->set_value();
      }).detach();
    } catch (const std::system_error&) {  // no thread is left; a file that stays has a name that says what it is
      return;
    }
    ended.wait_for(kUnlinkWait);
  });
}

}  // namespace llmlaunch::trainer
