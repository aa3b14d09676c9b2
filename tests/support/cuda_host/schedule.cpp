// The order of work: what may run next, and which of it does.
#include "tests/support/cuda_host/schedule.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "tests/support/cuda_host/memory.hpp"
#include "tests/support/cuda_host/settings.hpp"

namespace cuda_host {
namespace {

/// Between two looks at work that other ranks must do.
constexpr std::chrono::microseconds kElsewhere{20};
/// At most so much work per look at an event.
constexpr std::size_t kPerLook = 8;

struct State {
  std::mutex mutex;
  std::map<int, CUstream_st> legacy;
  std::set<cudaStream_t> streams;
  std::set<cudaEvent_t> events;
  std::vector<QueuedPtr> ready;      // what nothing comes before any more
  std::vector<QueuedPtr> elsewhere;  // begun, and waiting for other ranks
  std::map<int, std::size_t> open;   // by device: queued and not done
  std::vector<std::shared_ptr<Capture>> captures;
  std::map<int, cudaError_t> failures;
  std::set<std::string> used;  // kinds of work
  std::mt19937_64 bits{settings().seed};
  std::uint64_t waits = 0;
  // Out of 16: how often work runs that the wait does not need, and how often work runs as soon as it is queued.
  std::size_t strays = settings().seed == 0 ? 0 : bits() % 15 + 1;
  std::size_t at_once = settings().seed % 3 == 2 ? bits() % 8 + 1 : 0;
};

State& state() {
  static auto* const kState = new State;  // never destroyed: other threads and exit handlers may come later
  return *kState;
}

void finish(const QueuedPtr& queued) {
  State& s = state();
  queued->is_done = true;
  queued->work.start = nullptr;
  queued->is_done_elsewhere = nullptr;
  queued->before.clear();
  --s.open[queued->device];
  for (const QueuedPtr& follower : queued->followers) {
    if (--follower->missing == 0) s.ready.push_back(follower);
  }
  queued->followers.clear();
}

/// Lets the state go and everything queued is as done, as after a fault that ends a context.
void drop_work(int device) {
  State& s = state();
  for (auto* list : {&s.ready, &s.elsewhere}) {
    for (std::size_t i = 0; i < list->size();) {
      const QueuedPtr queued = (*list)[i];
      if (queued->device != device) {
        ++i;
        continue;
      }
      list->erase(list->begin() + static_cast<std::ptrdiff_t>(i));
      finish(queued);
      i = 0;
    }
  }
}

void run(const QueuedPtr& queued) {
  State& s = state();
  if (!queued->work.start) {
    finish(queued);
    return;
  }
  if (const int code = injected_failure("work"); code != 0) {
    fail_device(queued->device, static_cast<cudaError_t>(code));
    finish(queued);
    drop_work(queued->device);
    return;
  }
  set_running(queued->work.what);
  {
    const OpenMemory open;
    queued->is_done_elsewhere = queued->work.start();
  }
  set_running(nullptr);
  if (queued->is_done_elsewhere) {
    s.elsewhere.push_back(queued);
  } else {
    finish(queued);
  }
}

void look_elsewhere() {
  State& s = state();
  for (std::size_t i = 0; i < s.elsewhere.size();) {
    const QueuedPtr queued = s.elsewhere[i];
    if (queued->is_done_elsewhere()) {
      s.elsewhere.erase(s.elsewhere.begin() + static_cast<std::ptrdiff_t>(i));
      finish(queued);
    } else {
      ++i;
    }
  }
}

void want(const QueuedPtr& target, std::uint64_t wait) {
  std::vector<QueuedPtr> open = {target};
  while (!open.empty()) {
    const QueuedPtr next = open.back();
    open.pop_back();
    if (next->is_done || next->wanted_by == wait) continue;
    next->wanted_by = wait;
    open.insert(open.end(), next->before.begin(), next->before.end());
  }
}

/// One piece of work for this wait; false when all that is left must wait for other ranks.
bool run_one(std::uint64_t wait) {
  State& s = state();
  std::vector<std::size_t> choice;
  const bool any = draw(16) < s.strays;
  for (std::size_t i = 0; i < s.ready.size(); ++i) {
    if (any || s.ready[i]->wanted_by == wait) choice.push_back(i);
  }
  if (choice.empty()) return false;
  const std::size_t taken = choice[draw(choice.size())];
  const QueuedPtr queued = s.ready[taken];
  s.ready.erase(s.ready.begin() + static_cast<std::ptrdiff_t>(taken));
  run(queued);
  return true;
}

QueuedPtr put(int device, Work work, const std::vector<QueuedPtr>& before) {
  State& s = state();
  auto queued = std::make_shared<Queued>();
  queued->work = std::move(work);
  queued->device = device;
  for (const QueuedPtr& earlier : before) {
    if (earlier == nullptr || earlier->is_done) continue;
    queued->before.push_back(earlier);
    earlier->followers.push_back(queued);
    ++queued->missing;
  }
  ++s.open[device];
  if (queued->missing == 0) s.ready.push_back(queued);
  return queued;
}

/// What the stream's next work must wait for.
std::vector<QueuedPtr> line_of(CUstream_st& stream) {
  State& s = state();
  std::vector<QueuedPtr> before = {stream.last};
  if (stream.is_legacy) {
    for (const cudaStream_t other : s.streams) {
      if (other->device == stream.device && other->waits_for_legacy) before.push_back(other->last);
    }
  } else if (stream.waits_for_legacy) {
    before.push_back(s.legacy[stream.device].last);
  }
  return before;
}

void run_at_once() {
  State& s = state();
  while (s.at_once > 0 && draw(16) < s.at_once && !s.ready.empty()) run_one(++s.waits);
}

void join_capture(CUstream_st& stream, const std::shared_ptr<Capture>& capture) {
  if (stream.capture == capture) return;
  stream.capture = capture;
  capture->streams.push_back(&stream);
}

/// Whether every node comes before the origin's end.
bool is_joined(const Capture& capture, const std::vector<std::size_t>& ends) {
  std::vector<bool> seen(capture.nodes.size(), false);
  std::vector<std::size_t> open = ends;
  while (!open.empty()) {
    const std::size_t next = open.back();
    open.pop_back();
    if (seen[next]) continue;
    seen[next] = true;
    open.insert(open.end(), capture.nodes[next].after.begin(), capture.nodes[next].after.end());
  }
  return std::find(seen.begin(), seen.end(), false) == seen.end();
}

}  // namespace

std::mutex& device_mutex() {
  return state().mutex;
}

int& current_device() {
  thread_local int device = 0;
  return device;
}

std::size_t draw(std::size_t below) {
  return static_cast<std::size_t>(state().bits() % below);
}

CUstream_st* find_stream(cudaStream_t stream) {
  State& s = state();
  if (stream == nullptr || stream == cudaStreamLegacy) {
    CUstream_st& legacy = s.legacy[current_device()];
    legacy.device = current_device();
    legacy.is_legacy = true;
    return &legacy;
  }
  return s.streams.count(stream) > 0 ? stream : nullptr;
}

bool is_event(cudaEvent_t event) {
  return state().events.count(event) > 0;
}

cudaStream_t make_stream(bool waits_for_legacy) {
  auto* const stream = new CUstream_st;
  stream->device = current_device();
  stream->waits_for_legacy = waits_for_legacy;
  state().streams.insert(stream);
  return stream;
}

cudaError_t drop_stream(cudaStream_t stream) {
  if (state().streams.erase(stream) == 0) return cudaErrorInvalidResourceHandle;
  if (stream->capture != nullptr) stream->capture->is_valid = false;
  delete stream;  // what is queued goes on
  return cudaSuccess;
}

cudaEvent_t make_event() {
  auto* const event = new CUevent_st;
  event->device = current_device();
  state().events.insert(event);
  return event;
}

cudaError_t drop_event(cudaEvent_t event) {
  if (state().events.erase(event) == 0) return cudaErrorInvalidResourceHandle;
  delete event;
  return cudaSuccess;
}

cudaError_t queue(cudaStream_t stream, Work work) {
  const Lock lock(device_mutex());
  CUstream_st* const found = find_stream(stream);
  if (found == nullptr) return cudaErrorInvalidResourceHandle;
  return queue(*found, std::move(work));
}

cudaError_t queue(CUstream_st& stream, Work work) {
  if (const cudaError_t failed = device_failure(stream.device); failed != cudaSuccess) return failed;
  if (stream.capture != nullptr) {
    if (!stream.capture->is_valid) return cudaErrorStreamCaptureInvalidated;
    stream.capture->nodes.push_back({std::move(work), stream.device, stream.captured});
    stream.captured = {stream.capture->nodes.size() - 1};
    return cudaSuccess;
  }
  if (stream.is_legacy) {
    for (const auto& capture : state().captures) {
      if (!std::any_of(capture->streams.begin(), capture->streams.end(),
                       [](cudaStream_t one) { return one->waits_for_legacy; })) {
        continue;
      }
      capture->is_valid = false;
      return cudaErrorStreamCaptureImplicit;
    }
  }
  stream.last = put(stream.device, std::move(work), line_of(stream));
  run_at_once();
  return cudaSuccess;
}

cudaError_t record(CUevent_st& event, CUstream_st& stream) {
  if (const cudaError_t failed = device_failure(stream.device); failed != cudaSuccess) return failed;
  if (event.device != stream.device) return cudaErrorInvalidResourceHandle;
  event.is_captured = stream.capture != nullptr;
  if (event.is_captured) {
    if (!stream.capture->is_valid) return cudaErrorStreamCaptureInvalidated;
    event.capture = stream.capture;
    event.nodes = stream.captured;
    return cudaSuccess;
  }
  event.recorded = put(stream.device, {"an event", nullptr}, line_of(stream));
  stream.last = event.recorded;
  run_at_once();
  return cudaSuccess;
}

cudaError_t wait_event(CUstream_st& stream, CUevent_st& event) {
  if (const cudaError_t failed = device_failure(stream.device); failed != cudaSuccess) return failed;
  if (!event.is_captured) {
    if (stream.capture != nullptr && event.recorded != nullptr) {
      stream.capture->is_valid = false;
      return cudaErrorStreamCaptureIsolation;
    }
    auto before = line_of(stream);
    before.push_back(event.recorded);
    stream.last = put(stream.device, {"a wait for an event", nullptr}, before);
    run_at_once();
    return cudaSuccess;
  }
  const auto capture = event.capture.lock();
  if (capture == nullptr || (stream.capture != nullptr && stream.capture != capture)) {
    if (stream.capture != nullptr) stream.capture->is_valid = false;
    return capture == nullptr ? cudaErrorCapturedEvent : cudaErrorStreamCaptureMerge;
  }
  join_capture(stream, capture);
  stream.captured.insert(stream.captured.end(), event.nodes.begin(), event.nodes.end());
  return cudaSuccess;
}

cudaError_t begin_capture(CUstream_st& stream, cudaStreamCaptureMode mode) {
  if (stream.is_legacy) return cudaErrorStreamCaptureUnsupported;
  if (stream.capture != nullptr) return cudaErrorIllegalState;
  auto capture = std::make_shared<Capture>();
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  capture->origin = &stream;
  stream.captured.clear();
  join_capture(stream, capture);
  state().captures.push_back(capture);
  return cudaSuccess;
}

cudaError_t end_capture(CUstream_st& stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream.capture;
  if (capture == nullptr) return cudaErrorIllegalState;
  if (capture->origin != &stream) return cudaErrorStreamCaptureUnmatched;
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id()) {
    return cudaErrorStreamCaptureWrongThread;
  }
  const std::vector<std::size_t> ends = stream.captured;
  State& s = state();
  for (const cudaStream_t one : capture->streams) {
    if (s.streams.count(one) == 0) continue;
    one->capture = nullptr;
    one->captured.clear();
  }
  s.captures.erase(std::find(s.captures.begin(), s.captures.end(), capture));
  if (!capture->is_valid) return cudaErrorStreamCaptureInvalidated;
  if (!is_joined(*capture, ends)) return cudaErrorStreamCaptureUnjoined;
  *graph = new CUgraph_st{std::move(capture->nodes)};
  return cudaSuccess;
}

cudaError_t launch_graph(CUgraphExec_st& graph, CUstream_st& stream) {
  if (const cudaError_t failed = device_failure(stream.device); failed != cudaSuccess) return failed;
  if (stream.capture != nullptr) return cudaErrorNotSupported;
  auto before = line_of(stream);
  before.push_back(graph.last);
  std::vector<QueuedPtr> all;
  for (const Node& node : graph.nodes) {
    std::vector<QueuedPtr> earlier;
    for (const std::size_t place : node.after) earlier.push_back(all[place]);
    all.push_back(put(node.device, node.work, node.after.empty() ? before : earlier));
  }
  all.insert(all.end(), before.begin(), before.end());
  graph.last = put(stream.device, {"a graph's end", nullptr}, all);
  stream.last = graph.last;
  run_at_once();
  return cudaSuccess;
}

cudaError_t refuse_unsafe_call() {
  bool is_refused = false;
  for (const auto& capture : state().captures) {
    const bool is_mine = capture->thread == std::this_thread::get_id();
    if (is_mine ? capture->mode == cudaStreamCaptureModeRelaxed : capture->mode != cudaStreamCaptureModeGlobal)
      continue;
    capture->is_valid = false;
    is_refused = true;
  }
  return is_refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t refuse_first_use(CUstream_st& stream, const std::string& kind) {
  if (stream.capture == nullptr) {
    state().used.insert(kind);
    return cudaSuccess;
  }
  if (state().used.count(kind) > 0) return cudaSuccess;
  std::fprintf(stderr, "emulated device: %s is used in a capture for the first time\n", kind.c_str());
  stream.capture->is_valid = false;
  return cudaErrorStreamCaptureUnsupported;
}

void invalidate(CUstream_st& stream) {
  if (stream.capture != nullptr) stream.capture->is_valid = false;
}

cudaError_t wait_for(const QueuedPtr& target, Lock& lock, int device) {
  State& s = state();
  if (target == nullptr || target->is_done) return device_failure(device);
  const OpenMemory open;  // once for all of the work
  while (!target->is_done && device_failure(device) == cudaSuccess) {
    const std::uint64_t wait = ++s.waits;
    want(target, wait);
    look_elsewhere();
    bool is_stuck = false;
    while (!target->is_done && !is_stuck) is_stuck = !run_one(wait);
    if (target->is_done) break;
    if (s.ready.empty() && s.elsewhere.empty()) {
      std::fprintf(stderr, "emulated device: a wait for what can never be done\n");
      std::abort();
    }
    lock.unlock();
    std::this_thread::sleep_for(kElsewhere);
    lock.lock();
  }
  return device_failure(device);
}

cudaError_t wait_for_all(int device, Lock& lock) {
  State& s = state();
  if (s.open[device] == 0) return device_failure(device);
  const OpenMemory open;
  while (s.open[device] > 0 && device_failure(device) == cudaSuccess) {
    look_elsewhere();
    QueuedPtr next;
    for (const QueuedPtr& queued : s.ready) {
      if (queued->device == device && (next == nullptr || draw(2) == 0)) next = queued;
    }
    if (next != nullptr) {
      s.ready.erase(std::find(s.ready.begin(), s.ready.end(), next));
      run(next);
      continue;
    }
    lock.unlock();
    std::this_thread::sleep_for(kElsewhere);
    lock.lock();
  }
  return device_failure(device);
}

bool look_at(const QueuedPtr& target) {
  if (target == nullptr || target->is_done) return true;
  State& s = state();
  const std::uint64_t wait = ++s.waits;
  want(target, wait);
  look_elsewhere();
  if (s.ready.empty()) return target->is_done;
  const OpenMemory open;
  for (std::size_t left = draw(kPerLook + 1); left > 0 && !target->is_done; --left) run_one(wait);
  return target->is_done;
}

cudaError_t device_failure(int device) {
  const auto found = state().failures.find(device);
  return found == state().failures.end() ? cudaSuccess : found->second;
}

void fail_device(int device, cudaError_t error) {
  state().failures.emplace(device, error);
}

}  // namespace cuda_host
