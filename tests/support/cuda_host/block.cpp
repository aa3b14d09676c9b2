// Fibers for the threads of one block, and the order in which they run.
#include "tests/support/cuda_host/block.hpp"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/support/cuda_host/schedule.hpp"
#include "tests/support/cuda_host/settings.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define CUDA_HOST_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_HOST_ASAN
#endif
#endif
#ifdef CUDA_HOST_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
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
// expects to be kept, and changes the stack.
struct Context {
  void* stack_pointer = nullptr;
};
extern "C" void cuda_host_switch(void** from, void* to);
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
  ret
.size cuda_host_switch, . - cuda_host_switch
)");

void prepare(Context& context, std::byte* stack, void (*entry)()) {
  // As if the entry had been called: 8 bytes off a multiple of 16, below six registers.
  auto** top = reinterpret_cast<void**>(stack + kStack) - 2;
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
void prepare(Context& context, std::byte* stack, void (*entry)()) {
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = kStack;
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

  /// One block from its first barrier or, for the first `is_probe` only thread 0, until whatever it comes to.
  bool probe(const Threads& run) {
    ensure(1);
    begin(0, run);
    resume(0);
    return waiting_[0];
  }

  /// The block's threads; `is_begun`: thread 0 waits at its first barrier already.
  void run(unsigned count, const Threads& threads, bool is_begun) {
    ensure(count);
    for (unsigned i = is_begun ? 1 : 0; i < count; ++i) begin(i, threads);
    bool is_first = true;
    bool more = true;
    while (more) {
      more = false;
      const bool backwards = draw(2) == 1;
      for (unsigned i = 0; i < count; ++i) {
        const unsigned thread = backwards ? count - 1 - i : i;
        const bool is_at_barrier = is_first && is_begun && thread == 0;
        if (!is_at_barrier && open_[thread]) resume(thread);
        more = more || open_[thread];
      }
      is_first = false;
    }
  }

  bool is_inside() const { return inside_; }

  /// From a fiber: back to the block's loop, until it is resumed.
  void wait_at_barrier() {
    const unsigned me = current_;
    waiting_[me] = true;
    leave(me);
    waiting_[me] = false;
    place.thread.x = me;
  }

 private:
  static void entry();

  void ensure(unsigned count) {
    while (stacks_.size() < count) {
      void* const stack =
          mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (stack == MAP_FAILED) {
        std::perror("emulated device: a stack");
        std::abort();
      }
      stacks_.push_back(static_cast<std::byte*>(stack));
      contexts_.push_back(std::make_unique<Context>());
      fake_stacks_.push_back(nullptr);
      open_.push_back(false);
      waiting_.push_back(false);
      prepare(*contexts_.back(), stacks_.back(), &Fibers::entry);
    }
  }

  void begin(unsigned thread, const Threads& run) {
    run_ = &run;
    open_[thread] = true;
    waiting_[thread] = false;
  }

  void resume(unsigned thread) {
    current_ = thread;
    inside_ = true;
#ifdef CUDA_HOST_ASAN
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stacks_[thread], kStack);
#endif
    switch_context(home_, *contexts_[thread]);
#ifdef CUDA_HOST_ASAN
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
    inside_ = false;
  }

  void leave(unsigned thread) {
#ifdef CUDA_HOST_ASAN
    __sanitizer_start_switch_fiber(&fake_stacks_[thread], home_stack_, home_stack_size_);
#endif
    switch_context(*contexts_[thread], home_);
#ifdef CUDA_HOST_ASAN
    entered(thread);
#endif
  }

  void entered([[maybe_unused]] unsigned thread) {
#ifdef CUDA_HOST_ASAN
    __sanitizer_finish_switch_fiber(fake_stacks_[thread], &home_stack_, &home_stack_size_);
#endif
  }

  const Threads* run_ = nullptr;
  unsigned current_ = 0;
  bool inside_ = false;
  Context home_;
  std::vector<std::byte*> stacks_;
  std::vector<std::unique_ptr<Context>> contexts_;
  std::vector<void*> fake_stacks_;
  std::vector<char> open_, waiting_;
  [[maybe_unused]] const void* home_stack_ = nullptr;
  [[maybe_unused]] std::size_t home_stack_size_ = 0;
};

Fibers& fibers() {
  thread_local Fibers instance;
  return instance;
}

void Fibers::entry() {
  Fibers& all = fibers();
  all.entered(all.current_);
  for (;;) {
    const unsigned me = all.current_;
    (*all.run_)(me, 1, false);
    all.open_[me] = false;
    all.leave(me);
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

void queue_grid(unsigned blocks, unsigned threads, cudaStream_t stream, Threads run) {
  if (const int code = injected_failure("launch"); code != 0) {
    note_error(static_cast<cudaError_t>(code));
    return;
  }
  if (blocks == 0 || threads == 0 || threads > kMostThreads) {
    note_error(cudaErrorInvalidConfiguration);
    return;
  }
  note_error(queue(stream, {"a kernel", [blocks, threads, run = std::move(run)]() -> std::function<bool()> {
                              run_grid(blocks, threads, run);
                              return nullptr;
                            }}));
}

void barrier() {
  if (fibers().is_inside()) {
    fibers().wait_at_barrier();
    return;
  }
  std::fprintf(stderr, "emulated device: a thread comes to a barrier to which thread 0 of the first block does not\n");
  std::abort();
}

}  // namespace cuda_host
