// What an execution found out: faults that a GPU would not tell of, and counts that hold on every GPU.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ocelli {
namespace ptx {

enum class Fault : uint8_t {
  kUnwritten,    // a read of memory that nobody wrote
  kPendingCopy,  // a read of shared memory that a cp.async may still be writing
  kOutOfBounds,
  kMisaligned,
  kRace,        // two threads between the same barriers, at least one of them writing
  kBarrier,     // a barrier that only a part of the block reached
  kAbsentLane,  // a shuffle, vote or matrix instruction without a lane that it names
  kTrap,
  kRunaway,     // more instructions than the budget
  kOrder,       // results differ between orders of warps
  kCopyTiming,  // results depend on when asynchronous copies land
  kCount
};

const char* name_of(Fault fault);

struct Finding {
  Fault fault = Fault::kUnwritten;
  std::string kernel;
  int line = 0;         // in the PTX
  int source_line = 0;  // in the .cu, 0 where the PTX does not say
  std::string detail;   // of the first time
  uint64_t times = 0;
};

// Facts of the kernel and its shapes, whatever the GPU. A request is one instruction of one warp.
struct Counters {
  uint64_t lane_instructions = 0;
  uint64_t warp_instructions = 0;
  uint64_t global_requests = 0;
  uint64_t global_sectors = 0;         // of 32 bytes, touched
  uint64_t global_sectors_needed = 0;  // had the same bytes been side by side
  uint64_t shared_requests = 0;
  uint64_t shared_wavefronts = 0;
  uint64_t shared_wavefronts_needed = 0;  // without bank conflicts
  uint64_t mma = 0;
  uint64_t barriers = 0;  // per block

  uint64_t bank_conflicts() const { return shared_wavefronts - shared_wavefronts_needed; }
  void add(const Counters& other);
};

// What one line of the source costs beyond its need.
struct Waste {
  uint64_t bank_conflicts = 0;
  uint64_t sectors = 0;
};

struct Report {
  std::vector<Finding> findings;
  Counters counters;
  std::map<int, Waste> waste;  // by line of the source, or of the PTX where that is not known

  bool clean() const { return findings.empty(); }
  bool has(Fault fault) const;
  // One finding per kind and line: `times` counts the rest.
  void add(Fault fault, const std::string& kernel, int line, int source_line, const std::string& detail);
  void merge(const Report& other);  // findings; not the counters
  std::string text() const;         // one line per finding
  std::string waste_text() const;   // one line per line that wastes
};

}  // namespace ptx
}  // namespace ocelli
