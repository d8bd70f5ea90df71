// What a run brings from the host, gathered and copied to where a backend's tensors lie, once.
#pragma once

#include "core/memory.h"
#include "core/step.h"

namespace ocelli {

class Staging {
 public:
  explicit Staging(Memory& memory) : memory_(memory) {}

  // Room for `bytes` in all, each array's padding included. Allocates only where that is more than ever before.
  void reserve(uint64_t bytes);
  // Forgets what was placed before.
  void begin(uint64_t bytes);
  // Where the array will lie after send(): the host's own address where the backend reads it.
  void* place(const void* data, uint64_t bytes);
  // A step whose arrays were placed; `*placed` has to live as long as it is used.
  const StepContext* place(const StepContext* step, StepContext* placed);
  void send();

  // Bytes that an array takes, and those that a step's arrays take.
  static uint64_t room(uint64_t bytes) { return (bytes + kGap - 1) / kGap * kGap; }
  static uint64_t room(const StepContext& step);
  // Of steps of at most so many rows and sequences, each of at most so many blocks.
  static uint64_t room(int64_t rows, int64_t sequences, int64_t blocks);

 private:
  static constexpr uint64_t kGap = 64;  // no two arrays share a line of cache

  Memory& memory_;
  Allocation host_, device_;
  uint64_t used_ = 0;
  bool under_way_ = false;
};

}  // namespace ocelli
