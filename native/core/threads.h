// The pool that executes ops. Not libuv's: one process-wide set of named threads, signals blocked, spin-then-sleep.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace ocelli {

// Cores that this process may use: min(affinity, cgroup quota), at least 1.
int available_cores();

// How much nicer than the event loop's thread ours are: with fewer cores than threads it would wait its turn behind
// them.
constexpr int kNicerToCompute = 2;
constexpr int kNicerToPrepare = 5;  // pictures, which must not make a step wait either
// Makes the calling thread so, on Linux. It counts from the niceness of the process, not of the thread that started it,
// which is inherited.
void stand_behind_event_loop(int nicer);

class Pool {
 public:
  explicit Pool(int threads);  // the caller of parallel_for is one of them
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const;
  // Calls body(task, worker) for task in [0, tasks), worker in [0, threads()). Tasks are handed out dynamically, so the
  // result of a task must not depend on which worker runs it. Exceptions of body are rethrown here (the first one).
  // Runs inline when tasks <= 1 or the pool has one thread. Not reentrant.
  void parallel_for(int64_t tasks, const std::function<void(int64_t task, int worker)>& body);

  // When each thread worked on which job, for traces. Off: nothing is kept.
  struct Span {
    int worker;
    std::chrono::steady_clock::time_point start, end;
  };
  void record(bool on);
  std::vector<Span> take_spans();  // since the last call; not while a job runs

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ocelli
