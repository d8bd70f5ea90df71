// The executable form of a kernel, and the state of a block that runs it. A register is 32 lanes side by side, so that
// an instruction is one loop over lanes that the compiler vectorises.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ptx/arena.h"
#include "ptx/module.h"
#include "ptx/report.h"
#include "ptx/shadow.h"

namespace ocelli {
namespace ptx {

constexpr int kLanes = 32;
using Mask = uint32_t;  // bit l: lane l
constexpr Mask kAllLanes = 0xffffffff;

struct Warp;
struct Inst;
// Executes `inst` for the lanes of `mask` (never empty). The program counter already points behind it.
using Handler = void (*)(Warp& warp, const Inst& inst, Mask mask);

// Where an operand lies: its byte offset among the warp's registers, or with bit 0 set among the kernel's constants.
using Slot = int32_t;
constexpr Slot kNoSlot = -1;

struct Inst {
  Handler run = nullptr;
  const Slot* arg = nullptr;
  int64_t imm = 0;       // an address's offset, a branch's target, a table's number
  Slot guard = kNoSlot;  // of @%p
  bool guard_negated = false;
  Space space = Space::kGeneric;
  uint8_t count = 1;         // elements of a vector, matrices of ldmatrix
  uint8_t bytes = 0;         // of one element, or of a copy
  bool collective = false;   // works on lanes of one warp together, and is no barrier
  bool wide_address = true;  // the address register has 64 bits, not 32
  uint32_t option = 0;       // the handler's own
  int line = 0;
  int source_line = 0;
};

// A piece of parameter or local memory.
struct Place {
  size_t at = 0;
  size_t bytes = 0;
};

// A kernel with every function that it calls. Immutable once decoded.
struct Kernel {
  std::string name;
  std::vector<Inst> code;  // the kernel begins at 0
  std::deque<std::vector<Slot>> args;
  std::vector<char> constants;
  std::vector<std::pair<Slot, std::string>> specials;  // registers that hold %tid.x and the like from the start
  size_t register_bytes = 0;
  size_t param_bytes = 0;
  size_t local_bytes = 0;   // per lane
  size_t shared_bytes = 0;  // static
  std::vector<std::pair<size_t, size_t>>
      shared_gaps;  // [begin, end) between static variables: touching them is a fault
  std::vector<Place> params;
};

// Dynamic shared memory begins here, above any static variable, so that its address does not depend on the launch.
constexpr uint64_t kDynamicShared = uint64_t{1} << 24;

struct Dim3 {
  uint32_t x = 1, y = 1, z = 1;
  uint32_t count() const { return x * y * z; }
};

struct Launch {
  const Kernel* kernel = nullptr;
  Dim3 grid;
  Dim3 block;
  size_t dynamic_shared = 0;
  std::vector<uint8_t> params;
};

enum class Order : uint8_t { kAscending, kDescending, kRandom };

struct Options {
  Order order = Order::kAscending;
  uint32_t seed = 1;            // of kRandom, and of the noise in unwritten registers and shared memory
  bool copies_at_once = false;  // cp.async lands when issued, not when awaited
  bool check_races = true;
  uint64_t budget = 1ull << 36;  // warp instructions a launch
};

struct Copy {   // one cp.async of one lane
  uint64_t to;  // address
  size_t at;    // in Block::shared
  uint8_t bytes;
  uint8_t data[16];
};

struct Block;

struct Warp {
  enum class State : uint8_t { kRunning, kAtBarrier, kDone };

  Block* block = nullptr;
  int index = 0;
  State state = State::kRunning;
  Mask live = 0;        // lanes that exist and have not returned
  Mask active = 0;      // the lanes that run at pc; the others wait at lane_pc
  Mask parked = 0;      // of the others: those that wait for lanes of their own warp
  bool forced = false;  // a parked group goes on although lanes that it waits for never came
  int pc = 0;
  int lane_pc[kLanes] = {};
  Mask carry = 0;            // the flag of add.cc and its kind
  uint32_t sync = 0;         // bar.warp.sync since the last barrier
  int barrier = 0;           // which, while kAtBarrier
  const char* base[2] = {};  // registers, constants: see Slot
  std::vector<char> registers;
  std::vector<uint8_t> local;  // lanes one behind the other
  Shadow local_shadow{0};
  std::vector<int> calls[kLanes];  // where each lane's functions return to
  std::vector<Copy> open[kLanes];  // copies not yet committed
  std::deque<std::vector<Copy>> groups[kLanes];

  template <class T>
  T* at(Slot slot) {
    return reinterpret_cast<T*>(const_cast<char*>(base[slot & 1]) + (slot & ~1));
  }
  int thread(int lane) const { return index * kLanes + lane; }
  const Inst& current() const;  // the instruction that runs
  void fault(Fault fault, int lane, const std::string& detail);

  // Lets the lanes of the running group that are not in `mask` go on behind the current instruction, alone.
  void split(Mask mask);
  // Picks the group that runs next: the lanes furthest behind. Called after each instruction of a diverged warp.
  void regroup();
  // True when every live lane of `need` is at the current instruction; else parks this group until they come, and the
  // handler must do nothing.
  bool gather(Mask mask, Mask need);
  // The lanes that the launch gave this warp, whether or not they have returned.
  Mask everyone() const;
};

struct Block {
  Arena* arena = nullptr;
  const Launch* launch = nullptr;
  const Options* options = nullptr;
  Report* report = nullptr;
  uint32_t index = 0;  // in the grid
  Dim3 at;
  uint32_t epoch = 0;
  std::vector<uint8_t> shared;
  Shadow shared_shadow{0};
  std::vector<Warp> warps;

  Actor actor(const Warp& warp, int lane) const {
    return {index, epoch, warp.sync, static_cast<uint32_t>(warp.thread(lane))};
  }
};

inline const Inst& Warp::current() const { return block->launch->kernel->code[pc - 1]; }

template <class T>
void commit(T* to, const T* from, Mask mask) {
  if (mask == kAllLanes) {
    for (int l = 0; l < kLanes; l++) to[l] = from[l];
  } else {
    for (int l = 0; l < kLanes; l++) {
      if (mask >> l & 1) to[l] = from[l];
    }
  }
}

// The special registers, all of 32 bits, and their values in the lanes of a warp.
extern const std::vector<std::string> kSpecials;
void fill_special(Warp& warp, const std::string& name, uint32_t* lanes);

// Host addresses of `bytes` at each active lane's device address, after every check (bounds, alignment, written, races)
// and count. A lane whose access is at fault gets scrap memory.
void resolve(Warp& warp, const Inst& inst, Mask mask, const uint64_t* address, int bytes, Access access,
             uint8_t** where);
// The same for one lane in shared memory, without counting: parts of matrix instructions.
uint8_t* resolve_shared(Warp& warp, int lane, uint64_t address, int bytes, Access access);
// Wavefronts of accesses to shared memory of `bytes` per lane: the banks are 32 words of 4 bytes.
void count_shared(Warp& warp, Mask mask, const uint64_t* address, int bytes);
void count_global(Warp& warp, Mask mask, const uint64_t* address, int bytes);

}  // namespace ptx
}  // namespace ocelli
