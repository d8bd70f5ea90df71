// The border between core and backends. Of core a backend sees this file and what it includes, numbers and formats
// (convert.h, quantize.h), gated_linear.h, and of what devices do themselves device.h and sample.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/memory.h"
#include "core/step.h"
#include "core/tensor.h"
#include "core/threads.h"

namespace ocelli {

// Attributes of one op: few, so a linear search is the fastest map.
struct Attrs {
  std::vector<std::pair<std::string, double>> numbers;
  std::vector<std::pair<std::string, std::string>> strings;
  std::vector<std::pair<std::string, std::vector<double>>> lists;

  double number(const char* name, double fallback) const;
  double number(const char* name) const;  // throws ERR_PROGRAM when absent
  int64_t integer(const char* name) const { return static_cast<int64_t>(number(name)); }
  int64_t integer(const char* name, int64_t fallback) const {
    return static_cast<int64_t>(number(name, static_cast<double>(fallback)));
  }
  const std::string& string(const char* name) const;        // throws ERR_PROGRAM when absent
  const std::vector<double>* list(const char* name) const;  // null when absent
};

// One execution of one op. Absent optional operands are tensors with !present().
struct OpCall {
  const char* path = "";  // module path, for errors: "model.layers.3.mlp.down_proj"
  const Tensor* in = nullptr;
  int inputs = 0;
  const Tensor* out = nullptr;
  int outputs = 0;
  const Attrs* attrs = nullptr;
  const StepContext* step = nullptr;  // null outside text programs
  Pool* pool = nullptr;
  Memory* memory = nullptr;  // where the operands lie, the backend's
  void* scratch = nullptr;   // as many bytes as OpImpl::scratch asked for, 64-byte aligned, contents undefined
};

// What every backend agrees on, stated once beside the reference (native/ref/<op>.cc): operands, dtypes, shapes,
// attributes. Throws ERR_SHAPE or ERR_DTYPE naming path, operand, what was expected and what came. Runs when sizes are
// bound (data pointers may be null then, packed weights have n, k, format), not per execution.
struct OpContract {
  void (*check)(const OpCall&);
  bool in_place;  // out[0] may be the storage of in[0] (same shape, elementwise)
};

struct OpImpl {
  void (*run)(const OpCall&);
  size_t (*scratch)(const OpCall&);  // null: none; a function of shapes and threads only
};

enum class Op : uint8_t {
#define OCELLI_OP(name) name,
#include "core/ops.def"
#undef OCELLI_OP
  kCount
};

// Keeps what ops launch, and launches all of it at once later: a step of some hundred small kernels then costs one call.
class Recorder {
 public:
  virtual ~Recorder() = default;
  // Ops that `ops` runs on this thread are kept instead of run, with the addresses and sizes that they are given. Null
  // where they cannot be: they are then run as they come.
  virtual void* record(const std::function<void()>& ops) = 0;
  // Behind what was launched before; what the addresses hold is read as it runs.
  virtual void replay(void* recording) = 0;
  virtual void release(void* recording) noexcept = 0;
};

// A backend: one OpImpl per row of ops.def (a missing one fails at link), and how it packs weights of `linear`.
struct Backend {
  const char* name;  // "ref", "cpu-baseline", "cpu-avx2", "cpu-avx512", "cpu-amx"
  const OpImpl* op[static_cast<int>(Op::kCount)];
  // Bytes that packing an [n, k] matrix of `format` takes.
  size_t (*packed_bytes)(WeightFormat format, int64_t n, int64_t k);
  // Packs rows [row, row + rows.shape[0]) of dst from `rows` ([r, k], any of f32/bf16/f16, contiguous), converting to
  // dst.format (round to nearest even; blocks as core/quantize.h has them). May be called for several row ranges from
  // several threads at once; ranges start at multiples of 64 rows except that any range may be the last one of its
  // part. dst.data was zeroed.
  void (*pack)(const Tensor& rows, int64_t row, PackedMatrix& dst);
  // Where its tensors lie; null: the host's memory.
  Memory* memory = nullptr;
  Recorder* recorder = nullptr;  // null: it keeps nothing
};

inline Memory& memory_of(const Backend& backend) { return backend.memory ? *backend.memory : host_memory(); }

// ERR_INDEX: "Expected <expected> <limit> for '<operand>' of <path> but received <found> at <at>".
[[noreturn]] void fail_index(const OpCall& call, const char* operand, const char* expected, int64_t limit,
                             int64_t found, int64_t at);

const OpContract* contract_of(Op op);
const char* name_of(Op op);
bool op_from_name(const std::string& name, Op* op);

const Backend* ref_backend();
// The best that this CPU runs, or the one that OCELLI_ISA (baseline, avx2, avx512, amx, neon) names; throws ERR_ISA when the
// CPU lacks it or the name is unknown.
const Backend* cpu_backend();
const Backend* cpu_backend(const std::string& isa);
std::vector<std::string> cpu_isas();  // compiled in and runnable here, best first

}  // namespace ocelli
