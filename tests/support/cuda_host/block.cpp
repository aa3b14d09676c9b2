// Fibers for the threads of one block, and the order in which they run.
#include "tests/support/cuda_host/block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/support/cuda_host/schedule.hpp"
#include "tests/support/cuda_host/settings.hpp"
#include "tests/support/sanitized.hpp"

#if LLMLAUNCH_SANITIZED  // by AddressSanitizer; ThreadSanitizer does without this
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
extern "C" void cuda_host_switch(void** from, void* to);
#else
#include <ucontext.h>
#endif

namespace cuda_host {

constinit thread_local Place place;
void note_error(cudaError_t error);

namespace {

constexpr std::size_t kStack = std::size_t{64} << 10U;
constexpr unsigned kMostThreads = 1024;

#if defined(__x86_64__)
// swapcontext asks the kernel about signals each time, a million times a step. This keeps what a function's caller
// expects to be kept, and changes the stack; a jump, as processors expect a return to lead back.
struct Context {
  void* stack_pointer = nullptr;
};
asm(R"(
.text
.type cuda_host_switch, @function
cuda_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmpq *%rcx
.size cuda_host_switch, . - cuda_host_switch
)");

void prepare(Context& context, std::byte* stack, std::size_t bytes, void (*entry)()) {
  // As if the entry had been called: 8 bytes off a multiple of 16, below six registers.
  auto** top = reinterpret_cast<void**>(stack + bytes) - 2;
  *top = reinterpret_cast<void*>(entry);
  context.stack_pointer = top - 6;
  for (int i = 1; i <= 6; ++i) top[-i] = nullptr;
}
void switch_context(Context& from, Context& to) {
  cuda_host_switch(&from.stack_pointer, to.stack_pointer);
}
#else
struct Context {
  ucontext_t registers;
};
void prepare(Context& context, std::byte* stack, std::size_t bytes, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = bytes;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
}
void switch_context(Context& from, Context& to) {
  swapcontext(&from.registers, &to.registers);
}
#endif

/// The fibers of this host thread. They never end: after a kernel's thread each waits for the next one.
class Fibers {
 public:
  ~Fibers() {
    for (std::byte* stack : stacks_) munmap(stack, kStack);
  }

  /// Thread 0 of a block, until its first barrier or its end. Whether it is the former.
  bool probe(const Threads& run) {
    begin(1, run);
    is_probe_ = true;
    left_ = 0;
    transfer(kHome, 0);
    is_probe_ = false;
    return open_[0] != 0;
  }

  /// All threads of a block; `is_begun`: thread 0 waits at its first barrier already.
  void run(unsigned count, const Threads& threads, bool is_begun) {
    begin(count, threads);
    turn_round();
    skips_first_ = is_begun;
    if (const unsigned first = next(); first != kHome) transfer(kHome, first);
  }

  bool is_inside() const { return current_ != kHome; }

  /// From a fiber: until all others have come to a barrier or their end.
  void wait_at_barrier() {
    const unsigned me = current_;
    if (const unsigned to = next(); to != me) transfer(me, to);
    place.thread.x = me;
  }

 private:
  static constexpr unsigned kHome = ~0U;

  static void entry();

  void begin(unsigned count, const Threads& run) {
    while (stacks_.size() < count) add_stack();
    run_ = &run;
    count_ = count;
    open_count_ = count;
    std::fill_n(open_.begin(), count, 1);
  }

  void add_stack() {
    void* const stack =
        mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
      std::perror("emulated device: a stack");
      std::abort();
    }
    stacks_.push_back(static_cast<std::byte*>(stack));
    contexts_.push_back(std::make_unique<Context>());
    fake_stacks_.push_back(nullptr);
    open_.push_back(0);
    // At equal places in their pages all of them would want the same few lines of the cache.
    const std::size_t unused = stacks_.size() % 32 * 512;
    prepare(*contexts_.back(), stacks_.back(), kStack - unused, &Fibers::entry);
  }

  /// From a barrier to the next one each thread that has not ended gets a turn, in one direction or the other.
  void turn_round() {
    left_ = count_;
    is_backwards_ = draw(2) == 1;
  }

  unsigned next() {
    if (is_probe_) return kHome;
    while (open_count_ > 0) {
      if (left_ == 0) {
        turn_round();
        skips_first_ = false;
      }
      --left_;
      const unsigned thread = is_backwards_ ? left_ : count_ - 1 - left_;
      if (open_[thread] != 0 && !(skips_first_ && thread == 0)) return thread;
    }
    return kHome;
  }

  Context& context(unsigned fiber) { return fiber == kHome ? home_ : *contexts_[fiber]; }

  void transfer(unsigned from, unsigned to) {
    current_ = to;
#if LLMLAUNCH_SANITIZED
    void*& fake = from == kHome ? home_fake_stack_ : fake_stacks_[from];
    if (to == kHome) {
      __sanitizer_start_switch_fiber(&fake, home_stack_, home_stack_size_);
    } else {
      __sanitizer_start_switch_fiber(&fake, stacks_[to], kStack);
    }
    is_from_home_ = from == kHome;
#endif
    switch_context(context(from), context(to));
    arrived(from);
  }

  void arrived([[maybe_unused]] unsigned here) {
#if LLMLAUNCH_SANITIZED
    const void* stack = nullptr;
    std::size_t size = 0;
    __sanitizer_finish_switch_fiber(here == kHome ? home_fake_stack_ : fake_stacks_[here], &stack, &size);
    if (is_from_home_) {
      home_stack_ = stack;
      home_stack_size_ = size;
      is_from_home_ = false;
    }
#endif
  }

  const Threads* run_ = nullptr;
  unsigned current_ = kHome;
  unsigned count_ = 0, open_count_ = 0, left_ = 0;
  bool is_backwards_ = false, is_probe_ = false, skips_first_ = false;
  Context home_;
  std::vector<std::byte*> stacks_;
  std::vector<std::unique_ptr<Context>> contexts_;
  std::vector<char> open_;  // threads that have not ended
  std::vector<void*> fake_stacks_;
  [[maybe_unused]] void* home_fake_stack_ = nullptr;
  [[maybe_unused]] const void* home_stack_ = nullptr;
  [[maybe_unused]] std::size_t home_stack_size_ = 0;
  [[maybe_unused]] bool is_from_home_ = false;
};

constinit thread_local Fibers* current_fibers = nullptr;  // a pointer is found faster than what has a destructor

Fibers& fibers() {
  if (current_fibers == nullptr) {
    thread_local Fibers instance;
    current_fibers = &instance;
  }
  return *current_fibers;
}

void Fibers::entry() {
  Fibers& all = fibers();
  all.arrived(all.current_);
  for (;;) {
    const unsigned me = all.current_;
    (*all.run_)(me, 1, false);
    all.open_[me] = 0;
    --all.open_count_;
    if (const unsigned to = all.next(); to != me) all.transfer(me, to);
  }
}

void run_grid(unsigned blocks, unsigned threads, const Threads& run) {
  const bool backwards = draw(2) == 1;
  bool has_barrier = false;
  for (unsigned i = 0; i < blocks; ++i) {
    place.blocks = dim3(blocks);
    place.threads = dim3(threads);
    place.block.x = backwards ? blocks - 1 - i : i;
    if (i == 0) {
      has_barrier = fibers().probe(run);
      if (has_barrier) {
        fibers().run(threads, run, true);
      } else {
        run(1, threads - 1, backwards);
      }
    } else if (has_barrier) {
      fibers().run(threads, run, false);
    } else {
      run(0, threads, backwards);
    }
  }
}

}  // namespace

void queue_grid(const void* kernel, unsigned blocks, unsigned threads, cudaStream_t stream, Threads run) {
  if (const int code = injected_failure("launch"); code != 0) {
    note_error(static_cast<cudaError_t>(code));
    return;
  }
  if (blocks == 0 || threads == 0 || threads > kMostThreads) {
    note_error(cudaErrorInvalidConfiguration);
    return;
  }
  const Lock lock(device_mutex());
  CUstream_st* const found = find_stream(stream);
  if (found == nullptr) {
    note_error(cudaErrorInvalidResourceHandle);
    return;
  }
  char kind[40];
  std::snprintf(kind, sizeof kind, "the kernel at %p", kernel);
  if (const cudaError_t refused = refuse_first_use(*found, kind); refused != cudaSuccess) {
    note_error(refused);
    return;
  }
  note_error(queue(*found, {"a kernel", [blocks, threads, run = std::move(run)]() -> std::function<bool()> {
                              run_grid(blocks, threads, run);
                              return nullptr;
                            }}));
}

void barrier() {
  if (Fibers& all = fibers(); all.is_inside()) {
    all.wait_at_barrier();
    return;
  }
  std::fprintf(stderr, "emulated device: a thread comes to a barrier to which thread 0 of the first block does not\n");
  std::abort();
}

}  // namespace cuda_host
