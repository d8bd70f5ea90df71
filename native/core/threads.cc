#include "core/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/denormals.h"
#include "core/model.h"
#include "core/system.h"

namespace ocelli {

namespace {

// Ops of one step follow each other within microseconds; a futex wake-up costs about 50.
constexpr std::chrono::microseconds kSpin(30);
constexpr size_t kStackBytes = 8 << 20;
constexpr int kMaxThreads = 256;

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Spins until ready() holds or the time is over; true when it holds.
template <class Ready>
bool spin(Ready ready) {
  if (ready()) return true;
  auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; i++) {
      if (ready()) return true;
      relax();
    }
  } while (std::chrono::steady_clock::now() < end);
  return ready();
}

thread_local bool inside_parallel_for = false;

}  // namespace

int available_cores() {
  int cores = 1;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  double quota = cgroup_cpu_quota();
  // More threads than the quota would be throttled in the middle of a step: round down.
  if (quota > 0) cores = std::min(cores, std::max(1, static_cast<int>(quota)));
  return std::max(1, cores);
}

void stand_behind_event_loop(int nicer) {
#ifdef __linux__
  setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, static_cast<id_t>(getpid())) + nicer);  // 0: this thread alone
#else
  (void)nicer;
#endif
}

// A task is taken by lowering `left` by compare-and-swap; only its owner reads body and tasks, and a job cannot end
// while a task is owned, so a worker that wakes late never sees a job half replaced and the caller waits for tasks, not
// for workers.
struct Pool::State {
  struct Worker {
    State* state;
    int index;
    pthread_t thread;
  };

  std::mutex callers;  // one job at a time
  std::atomic<uint32_t> left{0};
  std::atomic<uint32_t> pending{0};
  std::atomic<int> sleepers{0};
  std::atomic<bool> caller_sleeps{false};
  std::atomic<bool> stop{false};
  std::atomic<bool> failed{false};
  const std::function<void(int64_t, int)>* body = nullptr;
  int64_t tasks = 0;
  int64_t base = 0;
  std::exception_ptr error;
  std::mutex mutex;
  std::condition_variable wake;
  std::condition_variable done;
  std::vector<Worker> workers;
  std::atomic<bool> recording{false};
  std::vector<Span> spans;  // under `mutex`

  bool take(uint32_t* mine) {
    uint32_t now = left.load(std::memory_order_acquire);
    while (now > 0) {
      if (left.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel, std::memory_order_acquire)) {
        *mine = now;
        return true;
      }
    }
    return false;
  }

  void work(int worker) {
    if (!recording.load(std::memory_order_relaxed)) return run_tasks(worker);
    const auto start = std::chrono::steady_clock::now();
    run_tasks(worker);
    std::lock_guard<std::mutex> lock(mutex);
    spans.push_back({worker, start, std::chrono::steady_clock::now()});
  }

  void run_tasks(int worker) {
    uint32_t mine;
    while (take(&mine)) {
      if (!failed.load(std::memory_order_relaxed)) {
        try {
          (*body)(base + (tasks - mine), worker);
        } catch (...) {
          std::lock_guard<std::mutex> lock(mutex);
          if (!error) error = std::current_exception();
          failed.store(true, std::memory_order_relaxed);
        }
      }
      if (pending.fetch_sub(1) == 1 && caller_sleeps.load()) {
        std::lock_guard<std::mutex> lock(mutex);
        done.notify_all();
      }
    }
  }

  void loop(int index) {
    inside_parallel_for = true;
    FlushDenormals flush;
    for (;;) {
      auto ready = [this] { return left.load(std::memory_order_acquire) > 0 || stop.load(std::memory_order_acquire); };
      if (!spin(ready)) {
        std::unique_lock<std::mutex> lock(mutex);
        sleepers.fetch_add(1);
        while (left.load() == 0 && !stop.load()) wake.wait(lock);
        sleepers.fetch_sub(1);
      }
      if (stop.load()) return;
      work(index);
    }
  }

  void run(int64_t first, int64_t count, const std::function<void(int64_t, int)>& job) {
    body = &job;
    base = first;
    tasks = count;
    failed.store(false, std::memory_order_relaxed);
    pending.store(static_cast<uint32_t>(count));
    left.store(static_cast<uint32_t>(count));
    if (sleepers.load() > 0) {
      std::lock_guard<std::mutex> lock(mutex);
      if (count > 2) {
        wake.notify_all();
      } else {
        wake.notify_one();
      }
    }
    work(0);
    if (!spin([this] { return pending.load(std::memory_order_acquire) == 0; })) {
      std::unique_lock<std::mutex> lock(mutex);
      caller_sleeps.store(true);
      while (pending.load() != 0) done.wait(lock);
      caller_sleeps.store(false);
    }
  }

  static void* entry(void* argument) {
    Worker* worker = static_cast<Worker*>(argument);
    stand_behind_event_loop(kNicerToCompute);
    worker->state->loop(worker->index);
    return nullptr;
  }

  void join() {
    {
      std::lock_guard<std::mutex> lock(mutex);
      stop.store(true);
      wake.notify_all();
    }
    for (Worker& worker : workers) pthread_join(worker.thread, nullptr);
    workers.clear();
  }
};

Pool::Pool(int threads) : state_(new State) {
  int extra = std::min(std::max(threads, 1), kMaxThreads) - 1;
  state_->workers.reserve(extra);
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0)
    throw Error("ERR_THREADS", "Expected to start pool threads but the system refused");
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // A signal handler of the host must never run on these threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = 0;
  for (int i = 0; i < extra && failure == 0; i++) {
    state_->workers.push_back({state_.get(), i + 1, {}});
    failure = pthread_create(&state_->workers.back().thread, &attributes, State::entry, &state_->workers.back());
    if (failure != 0) {
      state_->workers.pop_back();
    } else {
      pthread_setname_np(state_->workers.back().thread, "ocelli-pool");
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (failure != 0) {
    state_->join();
    throw Error("ERR_THREADS",
                "Expected " + std::to_string(extra + 1) + " pool threads but the system refused to start one",
                "Lower `threads` or raise the limit of processes (ulimit -u).");
  }
}

Pool::~Pool() { state_->join(); }

int Pool::threads() const { return static_cast<int>(state_->workers.size()) + 1; }

void Pool::parallel_for(int64_t tasks, const std::function<void(int64_t task, int worker)>& body) {
  if (tasks <= 0) return;
  if (inside_parallel_for)
    throw Error("ERR_INTERNAL", "Expected parallel_for outside of a pool task but it was called within one");
  FlushDenormals flush;
  if (tasks == 1 || state_->workers.empty()) {
    for (int64_t task = 0; task < tasks; task++) body(task, 0);
    return;
  }
  std::lock_guard<std::mutex> lock(state_->callers);
  inside_parallel_for = true;
  constexpr int64_t kMost = 1 << 30;  // `left` counts in 32 bits
  for (int64_t first = 0; first < tasks && !state_->error; first += kMost) {
    state_->run(first, std::min(kMost, tasks - first), body);
  }
  inside_parallel_for = false;
  state_->body = nullptr;
  if (state_->error) {
    std::exception_ptr error;
    std::swap(error, state_->error);
    std::rethrow_exception(error);
  }
}

void Pool::record(bool on) { state_->recording.store(on); }

std::vector<Pool::Span> Pool::take_spans() {
  std::lock_guard<std::mutex> lock(state_->mutex);
  return std::exchange(state_->spans, {});
}

std::shared_ptr<Pool> shared_pool(int threads) {
  // Leaked on purpose: process.exit() runs static destructors while threads are alive.
  static std::mutex* const mutex = new std::mutex;
  static auto* const pools = new std::map<int, std::weak_ptr<Pool>>;
  int count = threads > 0 ? threads : available_cores();
  std::lock_guard<std::mutex> lock(*mutex);
  std::shared_ptr<Pool> pool = (*pools)[count].lock();
  if (pool == nullptr) {
    pool = std::make_shared<Pool>(count);
    (*pools)[count] = pool;
  }
  return pool;
}

}  // namespace ocelli
