// What is known about each byte of a piece of memory beside its value: whether it was written, by whom and when it was
// last written and read. A race is told from that alone, whatever order the threads really ran in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ocelli {
namespace ptx {

enum class Access : uint8_t { kRead, kWrite, kAtomic };

// A thread between two barriers. Threads of one warp are also ordered by bar.warp.sync, which `sync` counts anew after
// each barrier of the block.
struct Actor {
  uint32_t block = 0;   // < 2^20
  uint32_t epoch = 0;   // barriers of the block so far, < 2^16
  uint32_t sync = 0;    // < 2^14
  uint32_t thread = 0;  // in the block, < 2^11
};

class Shadow {
 public:
  enum State : uint8_t { kUnwritten = 0, kWritten = 1, kPending = 2, kOutside = 3 };

  explicit Shadow(size_t bytes, State state = kUnwritten) : state_(bytes, state) {}

  // As new: `bytes` unwritten ones.
  void reset(size_t bytes);

  size_t size() const { return state_.size(); }
  void set(size_t at, size_t bytes, State state);
  // The first state among the bytes that is not kWritten, or kWritten.
  State state(size_t at, size_t bytes) const;

  // Forgets who accessed what: a kernel's launch orders it behind everything before.
  void begin_launch();
  // Notes the access and says whether it races with an earlier one of this launch.
  bool races(size_t at, size_t bytes, Access access, const Actor& actor);

 private:
  struct Cell {
    uint64_t write = 0;
    uint64_t read = 0;
  };
  void refine(size_t granule);

  std::vector<uint8_t> state_;
  std::vector<Cell> cells_;  // one per `granule_` bytes; empty until the first access of a launch
  size_t granule_ = 4;
};

}  // namespace ptx
}  // namespace ocelli
