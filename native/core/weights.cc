#include "core/weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "core/convert.h"
#include "core/layout.h"
#include "core/system.h"
#include "core/weights_dummy.h"

namespace ocelli {

namespace {

constexpr int64_t kRowAlignment = 64;       // Backend::pack's ranges begin at multiples of it
constexpr uint64_t kTaskBytes = 512 << 10;  // of source; large enough to hide a task's start, small enough to share out
constexpr uint64_t kBatchBytes = 64 << 20;  // between two looks at progress and cancellation

uint64_t align(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

// How dummy values fill a weight.
enum class Fill { kRandom, kOne, kZero };

// One weight as it is stored; weights of equal parts, kind and shape share it.
struct Slot {
  bool linear = false;
  std::string name;  // of the first program weight that asked, for errors
  std::vector<std::string> parts;
  std::vector<int64_t> shape;
  std::vector<const CheckpointTensor*> sources;  // empty: dummy
  Fill fill = Fill::kRandom;
  bool mapped = false;
  DType dtype = DType::kF32;
  uint64_t offset = 0;  // into the arena
  uint64_t bytes = 0;
  PackedMatrix matrix;
  Tensor tensor;

  int64_t rows() const { return shape.empty() ? 1 : shape[0]; }
  int64_t width() const {
    int64_t width = 1;
    for (size_t i = 1; i < shape.size(); i++) width *= shape[i];
    return width;
  }
  int64_t numel() const { return rows() * width(); }
};

struct Task {
  Slot* slot;
  int64_t row;
  int64_t rows;
  uint64_t bytes;
};

std::string describe_sizes(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// Norms multiply by their weight: 1 (0 where the program adds 1) keeps dummy activations in range.
std::map<int32_t, Fill> fills_of(const Program& program) {
  std::map<int32_t, Fill> fills;
  for (const ProgramOp& op : program.ops) {
    if ((op.op != Op::rms_norm && op.op != Op::layer_norm) || op.in.size() < 2) continue;
    fills[op.in[1]] = op.attrs.number("offset", 0) != 0 ? Fill::kZero : Fill::kOne;
    if (op.op == Op::layer_norm && op.in.size() > 2) fills[op.in[2]] = Fill::kZero;
  }
  return fills;
}

// All slots, and which one each program's weights use.
struct Inventory {
  std::vector<std::unique_ptr<Slot>> slots;
  std::vector<std::vector<Slot*>> of_program;
};

Inventory take_inventory(const std::vector<const Program*>& programs) {
  Inventory inventory;
  std::map<std::string, Slot*> known;
  for (const Program* program : programs) {
    std::map<int32_t, Fill> fills = fills_of(*program);
    inventory.of_program.emplace_back();
    for (const ProgramWeight& weight : program->weights) {
      std::string key = (weight.linear ? "linear" : "plain") + describe_sizes(weight.shape);
      for (const std::string& part : weight.parts) key += '\0' + part;
      Slot*& slot = known[key];
      if (slot == nullptr) {
        inventory.slots.emplace_back(new Slot);
        slot = inventory.slots.back().get();
        slot->linear = weight.linear;
        slot->name = weight.name;
        slot->parts = weight.parts;
        slot->shape = weight.shape;
        auto fill = fills.find(weight.value);
        if (fill != fills.end()) slot->fill = fill->second;
      }
      inventory.of_program.back().push_back(slot);
    }
  }
  return inventory;
}

void find_sources(const Checkpoint& checkpoint, const std::map<std::string, std::string>& names, Inventory* inventory) {
  std::string missing;
  int count = 0;
  for (auto& slot : inventory->slots) {
    for (const std::string& part : slot->parts) {
      auto renamed = names.find(part);
      const std::string& name = renamed == names.end() ? part : renamed->second;
      const CheckpointTensor* tensor = checkpoint.find(name);
      if (tensor != nullptr) {
        slot->sources.push_back(tensor);
      } else if (count++ == 0) {
        missing = "Expected tensor '" + name + "' in the checkpoint for weight '" + slot->name + "' but received none";
      }
    }
  }
  if (count == 0) return;
  if (count > 1) missing += " (and " + std::to_string(count - 1) + " more are absent)";
  throw Error("ERR_WEIGHT_MISSING", missing,
              "Check that every shard of the checkpoint is given and that it is of this architecture.");
}

[[noreturn]] void fail_shape(const Slot& slot, const CheckpointTensor& tensor, const std::string& expected) {
  throw Error("ERR_WEIGHT_SHAPE", "Expected " + expected + " for weight '" + slot.name + "' but received " +
                                      describe_sizes(tensor.shape) + " in checkpoint tensor '" + tensor.name + "'");
}

// A convolution's [out, c, p, p] may be read as [out, c * p * p].
bool flattens(const std::vector<int64_t>& found, const std::vector<int64_t>& wanted) {
  if (wanted.size() != 2 || found.size() <= 2 || found[0] != wanted[0]) return false;
  int64_t width = 1;
  for (size_t i = 1; i < found.size(); i++) {
    if (__builtin_mul_overflow(width, found[i], &width)) return false;
  }
  return width == wanted[1];
}

void check_sources(const Slot& slot) {
  int64_t rows = 0;
  for (const CheckpointTensor* tensor : slot.sources) {
    if (!tensor->readable ||
        (tensor->dtype != DType::kF32 && tensor->dtype != DType::kBF16 && tensor->dtype != DType::kF16)) {
      throw Error("ERR_WEIGHT_DTYPE",
                  "Expected f32, bf16 or f16 for weight '" + slot.name + "' but received " + tensor->stored +
                      " in checkpoint tensor '" + tensor->name + "'",
                  "Take an unquantised checkpoint of this model.");
    }
    std::vector<int64_t> wanted = slot.shape;
    if (slot.sources.size() > 1) {
      if (tensor->shape.empty()) fail_shape(slot, *tensor, "a part of " + describe_sizes(slot.shape));
      wanted[0] = tensor->shape[0];
      if (__builtin_add_overflow(rows, tensor->shape[0], &rows))
        fail_shape(slot, *tensor, "a part of " + describe_sizes(slot.shape));
    }
    if (tensor->shape != wanted && !flattens(tensor->shape, wanted)) fail_shape(slot, *tensor, describe_sizes(wanted));
  }
  if (slot.sources.size() > 1 && rows != slot.shape[0]) {
    fail_shape(slot, *slot.sources.back(), "parts of " + std::to_string(slot.shape[0]) + " rows together");
  }
}

bool aligned(const void* data, DType dtype) {
  return reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(size_of(dtype)) == 0;
}

DType common_dtype(const Slot& slot) {
  for (const CheckpointTensor* tensor : slot.sources) {
    if (tensor->dtype != slot.sources[0]->dtype) return DType::kF32;
  }
  return slot.sources[0]->dtype;
}

// Rows [row, row + count) of all parts joined, written as `dtype`.
void read_rows(const Slot& slot, uint64_t seed, int64_t row, int64_t count, DType dtype, void* out) {
  int64_t width = slot.width();
  char* to = static_cast<char*>(out);
  if (slot.sources.empty()) {
    std::vector<float> values(static_cast<size_t>(count * width), slot.fill == Fill::kOne ? 1.f : 0.f);
    // Several parts have one key: their values are dummies all the same.
    if (slot.fill == Fill::kRandom)
      fill_dummy(dummy_key(seed, slot.parts[0]), row * width, count * width, values.data());
    for (int64_t i = 0; i < count * width; i++) write_element(to, dtype, i, values[i]);
    return;
  }
  int64_t start = 0;  // of the part, in joined rows
  for (const CheckpointTensor* tensor : slot.sources) {
    int64_t rows = slot.sources.size() == 1 ? slot.rows() : tensor->shape[0];
    int64_t lo = std::max(row, start);
    int64_t hi = std::min(row + count, start + rows);
    start += rows;
    if (lo >= hi) continue;
    int64_t elements = (hi - lo) * width;
    int64_t first = (lo - (start - rows)) * width;
    if (tensor->dtype == dtype) {
      std::memcpy(to, static_cast<const char*>(tensor->data) + first * size_of(dtype), elements * size_of(dtype));
    } else {
      for (int64_t i = 0; i < elements; i++)
        write_element(to, dtype, i, read_element(tensor->data, tensor->dtype, first + i));
    }
    to += elements * size_of(dtype);
  }
}

void set_rows(Tensor* tensor, void* data, DType dtype, int64_t rows, int64_t width) {
  tensor->data = data;
  tensor->dtype = dtype;
  set_shape(tensor, {rows, width});
}

void execute(const Task& task, const Backend* backend, uint64_t seed) {
  Slot& slot = *task.slot;
  int64_t width = slot.width();
  if (!slot.linear) {
    read_rows(slot, seed, task.row, task.rows, slot.dtype,
              slot.tensor.as<char>() + task.row * width * size_of(slot.dtype));
    return;
  }
  DType dtype = slot.sources.empty() ? DType::kF32 : common_dtype(slot);
  Tensor rows;
  bool direct = slot.sources.size() == 1 && aligned(slot.sources[0]->data, dtype);
  std::vector<uint64_t> copy;
  if (direct) {
    const char* from = static_cast<const char*>(slot.sources[0]->data) + task.row * width * size_of(dtype);
    set_rows(&rows, const_cast<char*>(from), dtype, task.rows, width);
  } else {
    copy.resize(static_cast<size_t>(task.rows * width * size_of(dtype)) / 8 + 1);
    read_rows(slot, seed, task.row, task.rows, dtype, copy.data());
    set_rows(&rows, copy.data(), dtype, task.rows, width);
  }
  backend->pack(rows, task.row, slot.matrix);
}

// Decides where each slot lives; returns the arena's bytes.
uint64_t lay_out(Inventory* inventory, const Backend* backend, const WeightOptions& options) {
  uint64_t total = 0;
  for (auto& slot : inventory->slots) {
    if (slot->linear) {
      slot->dtype = options.format;
      slot->bytes = backend->packed_bytes(options.format, slot->rows(), slot->width());
    } else {
      slot->dtype = slot->sources.empty() ? options.format : common_dtype(*slot);
      slot->mapped =
          slot->sources.size() == 1 && aligned(slot->sources[0]->data, slot->dtype) && slot->sources[0]->bytes != 0;
      slot->bytes = static_cast<uint64_t>(slot->numel()) * size_of(slot->dtype);
    }
    if (slot->mapped) continue;
    slot->offset = total;
    if (__builtin_add_overflow(total, align(slot->bytes), &total))
      throw Error("ERR_OUT_OF_MEMORY", "Expected fewer than 2^64 bytes of weights");
  }
  return total;
}

std::string mebibytes(uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

struct Weights::State {
  std::shared_ptr<Checkpoint> checkpoint;
  Inventory inventory;
  char* arena = nullptr;
  uint64_t arena_bytes = 0;
  uint64_t mapped = 0;

  ~State() {
    if (arena != nullptr) munmap(arena, arena_bytes);
  }

  void allocate(uint64_t bytes) {
    uint64_t available = memory_info().available;
    if (available != 0 && bytes > available) {
      throw Error(
          "ERR_OUT_OF_MEMORY",
          "Expected " + mebibytes(bytes) + " of free memory for the weights but received " + mebibytes(available),
          "Choose dtype bf16, a smaller model, or give the process more memory.");
    }
    arena_bytes = bytes + 64;
    void* data = mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) {
      throw Error("ERR_OUT_OF_MEMORY", "Expected " + mebibytes(bytes) + " for the weights but the system refused them");
    }
    arena = static_cast<char*>(data);
#ifdef MADV_HUGEPAGE
    madvise(arena, arena_bytes, MADV_HUGEPAGE);
#endif
  }

  // The operands, before their bytes are there.
  void make_operands(const WeightOptions& options) {
    for (auto& slot : inventory.slots) {
      Tensor& tensor = slot->tensor;
      tensor.dtype = slot->dtype;
      set_shape(&tensor, slot->linear ? std::vector<int64_t>{slot->rows(), slot->width()} : slot->shape);
      if (slot->linear) {
        slot->matrix.n = slot->rows();
        slot->matrix.k = slot->width();
        slot->matrix.format = options.format;
        slot->matrix.data = arena + slot->offset;
        slot->matrix.bytes = slot->bytes;
        tensor.packed = &slot->matrix;
      } else if (slot->mapped) {
        tensor.data = const_cast<void*>(slot->sources[0]->data);
        mapped += slot->bytes;
      } else {
        tensor.data = arena + slot->offset;
      }
    }
  }

  std::vector<Task> tasks() const {
    std::vector<Task> tasks;
    for (auto& slot : inventory.slots) {
      if (slot->mapped) continue;
      int64_t source = slot->sources.empty() ? 4 : size_of(slot->sources[0]->dtype);
      uint64_t row_bytes = std::max<uint64_t>(1, static_cast<uint64_t>(slot->width() * source));
      int64_t step =
          static_cast<int64_t>(std::max<uint64_t>(1, kTaskBytes / (row_bytes * kRowAlignment))) * kRowAlignment;
      for (int64_t row = 0; row < slot->rows(); row += step) {
        int64_t rows = std::min(step, slot->rows() - row);
        tasks.push_back({slot.get(), row, rows, row_bytes * static_cast<uint64_t>(rows)});
      }
    }
    return tasks;
  }

  // Gives the file's pages back once a slot is copied. A tensor that is also mapped just reads them again.
  void release(const Slot& slot) const {
    for (const CheckpointTensor* tensor : slot.sources) checkpoint->release_pages(*tensor);
  }

  void fill(const Backend* backend, const WeightOptions& options, Pool& pool, const Progress& progress) {
    std::vector<Task> all = tasks();
    uint64_t total = 0;
    for (const Task& task : all) total += task.bytes;
    uint64_t loaded = 0;
    auto report = [&] {
      if (progress && !progress(loaded, total))
        throw Error("ERR_ABORTED", "Expected to load the weights but loading was aborted");
    };
    report();
    size_t first = 0;
    while (first < all.size()) {
      size_t last = first;
      uint64_t batch = 0;
      while (last < all.size() && batch < kBatchBytes) batch += all[last++].bytes;
      if (checkpoint != nullptr) checkpoint->verify_sizes();
      pool.parallel_for(static_cast<int64_t>(last - first),
                        [&](int64_t i, int) { execute(all[first + i], backend, options.seed); });
      for (size_t i = first; i < last; i++) {
        if (i + 1 == all.size() || all[i + 1].slot != all[i].slot) release(*all[i].slot);
      }
      loaded += batch;
      first = last;
      report();
    }
    if (checkpoint != nullptr) checkpoint->verify_sizes();
  }
};

Weights::Weights() : state_(new State) {}
Weights::~Weights() = default;

std::unique_ptr<Weights> Weights::load(const std::vector<const Program*>& programs,
                                       std::shared_ptr<Checkpoint> checkpoint,
                                       const std::map<std::string, std::string>& names, const Backend* backend,
                                       const WeightOptions& options, Pool& pool, const Progress& progress) {
  if (options.format != DType::kF32 && options.format != DType::kBF16 && options.format != DType::kF16) {
    throw Error("ERR_INVALID_ARGUMENT", std::string("Expected f32, bf16 or f16 for the weights' format but received ") +
                                            name_of(options.format));
  }
  if (!options.dummy && checkpoint == nullptr)
    throw Error("ERR_INVALID_ARGUMENT", "Expected a checkpoint for the weights but received none");
  std::unique_ptr<Weights> weights(new Weights);
  State& state = *weights->state_;
  state.inventory = take_inventory(programs);
  if (!options.dummy) {
    state.checkpoint = std::move(checkpoint);
    find_sources(*state.checkpoint, names, &state.inventory);
    for (auto& slot : state.inventory.slots) check_sources(*slot);
  }
  state.allocate(lay_out(&state.inventory, backend, options));
  state.make_operands(options);
  state.fill(backend, options, pool, progress);
  return weights;
}

const Tensor& Weights::operand(int program, int index) const {
  return state_->inventory.of_program[program][index]->tensor;
}

uint64_t Weights::resident_bytes() const { return state_->arena_bytes; }

uint64_t Weights::mapped_bytes() const { return state_->mapped; }

uint64_t Weights::resident_bytes(const std::vector<const Program*>& programs, const Backend* backend,
                                 const WeightOptions& options) {
  Inventory inventory = take_inventory(programs);
  uint64_t total = lay_out(&inventory, backend, options) + 64;
  if (options.dummy) return total;
  // A plain tensor of one part stays in the file's mapping.
  for (auto& slot : inventory.slots) {
    if (!slot->linear && slot->parts.size() == 1) total -= align(slot->bytes);
  }
  return total;
}

}  // namespace ocelli
