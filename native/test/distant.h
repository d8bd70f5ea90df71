// A backend whose memory the host cannot touch and where everything happens late: the reference's ops, queued until
// somebody waits, on pages that are closed at all other times. What reads a result too early, or a device's address on
// the host, ends the test.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "core/op.h"

namespace ocelli {
namespace test {

class Distant final : public Memory, public Recorder {
 public:
  using Work = std::vector<std::function<void()>>;

  bool host() const override { return false; }
  Memory& staging() override { return host_memory(); }

  void* allocate(uint64_t bytes, Use) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (bytes > room_) return nullptr;
    void* data = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return nullptr;
    regions_[data] = bytes;
    return data;
  }
  void release(void* data, uint64_t bytes) noexcept override {
    const std::lock_guard<std::mutex> lock(mutex_);
    try {
      drain();
    } catch (const Error&) {
      // Whoever waited for it was told, or nobody did.
    }
    regions_.erase(data);
    munmap(data, bytes);
  }

  void upload(void* to, const void* from, uint64_t bytes) override { copy(to, from, bytes); }
  void download(void* to, const void* from, uint64_t bytes) override { copy(to, from, bytes); }
  void copy(void* to, const void* from, uint64_t bytes) override {
    enqueue([=] { std::memcpy(to, from, bytes); });
  }
  void synchronize() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    drain();
  }

  void enqueue(std::function<void()> work) {
    const std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(std::move(work));
  }
  // What an op comes to: into the recording that its thread makes, or among what waits.
  void launch(std::function<void()> work) {
    Work* kept = recording();
    kept != nullptr ? kept->push_back(std::move(work)) : enqueue(std::move(work));
  }
  void* record(const std::function<void()>& ops) override {
    if (!records_) return nullptr;
    auto kept = std::make_unique<Work>();
    recording() = kept.get();
    ops();
    recording() = nullptr;
    recordings_++;
    return kept.release();
  }
  void replay(void* recording) override {
    for (const auto& work : *static_cast<Work*>(recording)) enqueue(work);
    replays_++;
  }
  void release(void* recording) noexcept override {
    delete static_cast<Work*>(recording);
    recordings_--;
  }
  void refuse_recordings(bool refused) { records_ = !refused; }
  int64_t recordings() const { return recordings_; }  // that there are
  int64_t replays() const { return replays_; }        // so far
  // The next op fails when it comes to run.
  void break_next() { broken_ = true; }
  bool take_broken() { return broken_.exchange(false); }
  void limit(uint64_t bytes) { room_ = bytes; }  // of one allocation
  size_t allocations() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return regions_.size();
  }

 private:
  void drain() {
    if (waiting_.empty()) return;
    Work work;
    std::swap(work, waiting_);
    open(PROT_READ | PROT_WRITE);
    try {
      for (const auto& each : work) each();
    } catch (...) {
      open(PROT_NONE);
      throw;
    }
    open(PROT_NONE);
  }
  void open(int protection) {
    for (const auto& [data, bytes] : regions_) mprotect(data, bytes, protection);
  }

  static Work*& recording() {
    static thread_local Work* kept = nullptr;
    return kept;
  }

  std::mutex mutex_;
  std::map<void*, uint64_t> regions_;
  Work waiting_;
  std::atomic<bool> records_{true};
  std::atomic<int64_t> recordings_{0}, replays_{0};
  std::atomic<bool> broken_{false};
  std::atomic<uint64_t> room_{UINT64_MAX};
};

inline Distant& distant() {
  static Distant* one = new Distant;
  return *one;
}

// A device reads tensors and the step's sizes at the launch, what they point to when it runs.
template <Op op>
void run_late(const OpCall& call) {
  struct Late {
    OpCall call;
    StepContext step;
    std::vector<Tensor> tensors;
  };
  auto late = std::make_shared<Late>();
  late->call = call;
  late->tensors.assign(call.in, call.in + call.inputs);
  late->tensors.insert(late->tensors.end(), call.out, call.out + call.outputs);
  late->call.in = late->tensors.data();
  late->call.out = late->tensors.data() + call.inputs;
  if (call.step != nullptr) {
    late->step = *call.step;
    late->call.step = &late->step;
  }
  distant().launch([late] {
    if (distant().take_broken()) throw Error("ERR_CUDA", "Expected an op to run but the device broke");
    ref_backend()->op[static_cast<int>(op)]->run(late->call);
  });
}

template <Op op>
size_t scratch_of(const OpCall& call) {
  const OpImpl& impl = *ref_backend()->op[static_cast<int>(op)];
  return impl.scratch != nullptr ? impl.scratch(call) : 0;
}

template <Op op>
constexpr OpImpl kLate = {run_late<op>, scratch_of<op>};

inline const Backend* distant_backend() {
  static const Backend* one = new Backend{"distant",
                                          {
#define OCELLI_OP(name) &kLate<Op::name>,
#include "core/ops.def"
#undef OCELLI_OP
                                          },
                                          ref_backend()->packed_bytes,
                                          ref_backend()->pack,
                                          &distant(),
                                          &distant()};
  return one;
}

}  // namespace test
}  // namespace ocelli
