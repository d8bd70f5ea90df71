#include "core/weights.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "core/layout.h"
#include "core/quantize.h"
#include "core/system.h"

namespace ocelli {

namespace {

constexpr int64_t kRowAlignment = 64;       // Backend::pack's ranges begin at multiples of it
constexpr uint64_t kTaskBytes = 512 << 10;  // of source; large enough to hide a task's start, small enough to share out
constexpr uint64_t kBatchBytes = 64 << 20;  // between two looks at progress and cancellation

uint64_t align(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

struct Task {
  Slot* slot;
  int64_t row;
  int64_t rows;
  uint64_t bytes;
};

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
  DType dtype = stored_dtype(slot, DType::kF32);
  Tensor rows;
  bool direct = slot.sources.size() == 1 && slot.sources[0].direct();
  std::vector<uint64_t> copy;
  if (direct) {
    const char* from = static_cast<const char*>(slot.sources[0].tensor->data) + task.row * width * size_of(dtype);
    set_rows(&rows, const_cast<char*>(from), dtype, task.rows, width);
  } else {
    copy.resize(static_cast<size_t>(task.rows * width * size_of(dtype)) / 8 + 1);
    read_rows(slot, seed, task.row, task.rows, dtype, copy.data());
    set_rows(&rows, copy.data(), dtype, task.rows, width);
  }
  backend->pack(rows, task.row, slot.matrix);
}

// What a file has quantised already does not lose by it: what has more than five bits stays in eight, and blocks of 32
// with four bits each, which i4 holds as they are, stay in four. The layer that logits come from, where errors are not
// averaged by later layers and few rows pass, meets exact activations.
WeightFormat format_of(const Slot& slot, WeightFormat wanted) {
  if (!quantized(wanted)) return wanted;
  if (slot.logits) wanted = in_bits(WeightFormat::kI8Exact, four_bits(wanted));
  bool fours = !slot.sources.empty();
  for (const WeightSource& source : slot.sources) {
    const BlockFormat* blocks = source.tensor->blocks;
    bool small = blocks != nullptr && blocks->bytes * 8 <= blocks->elements * 5;
    if (blocks != nullptr && !small) wanted = in_bits(wanted, false);
    fours = fours && small && blocks->elements == kQuantBlock;
  }
  return fours ? in_bits(wanted, true) : wanted;
}

// Decides where each slot lives; returns the arena's bytes. What a backend of another memory needs is never left in the
// file.
uint64_t lay_out(Inventory* inventory, const Backend* backend, const WeightOptions& options) {
  uint64_t total = 0;
  for (auto& slot : inventory->slots) {
    if (slot->linear) {
      slot->matrix.format = format_of(*slot, options.format);
      slot->bytes = backend->packed_bytes(slot->matrix.format, slot->rows(), slot->width());
    } else {
      slot->dtype = stored_dtype(*slot, options.dtype);
      slot->mapped = memory_of(*backend).host() && slot->sources.size() == 1 && slot->sources[0].direct() &&
                     slot->sources[0].tensor->bytes != 0;
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
  std::vector<std::shared_ptr<Checkpoint>> adapters;
  Inventory inventory;
  Allocation arena;   // where the backend's tensors lie
  Allocation filled;  // of the host, as large: where slots are filled on their way to another memory
  uint64_t mapped = 0;

  void allocate(Memory& memory, uint64_t bytes) {
    uint64_t available = memory_info().available;
    if (memory.host() && available != 0 && bytes > available) {
      throw Error(
          "ERR_OUT_OF_MEMORY",
          "Expected " + mebibytes(bytes) + " of free memory for the weights but received " + mebibytes(available),
          "Choose dtype bf16, a smaller model, or give the process more memory.");
    }
    const char* remedy = "Choose dtype bf16 or a smaller model.";
    arena = Allocation(memory, bytes + 64, Use::kWhole, "the weights", remedy);
    if (!memory.host()) filled = Allocation(host_memory(), bytes + 64, Use::kInParts, "the weights", remedy);
  }

  // A slot that is filled goes to where the backend reads it; its pages on the way are given back.
  void send(Memory& memory, const Slot& slot) const {
    if (filled.data() == nullptr) return;
    memory.upload(arena.data() + slot.offset, filled.data() + slot.offset, slot.bytes);
    memory.synchronize();
    constexpr uint64_t kPage = 4096;
    const uint64_t first = (slot.offset + kPage - 1) / kPage * kPage, last = (slot.offset + slot.bytes) / kPage * kPage;
    if (first < last) madvise(filled.data() + first, last - first, MADV_DONTNEED);
  }

  // From where slots were filled to where they lie.
  void move_operands() {
    if (filled.data() == nullptr) return;
    for (auto& slot : inventory.slots) {
      void*& data = slot->linear ? slot->matrix.data : slot->tensor.data;
      data = arena.data() + slot->offset;
    }
    filled.reset();
  }

  // The operands, before their bytes are there.
  void make_operands() {
    char* base = filled.data() != nullptr ? filled.data() : arena.data();
    for (auto& slot : inventory.slots) {
      Tensor& tensor = slot->tensor;
      tensor.dtype = slot->dtype;
      set_shape(&tensor, slot->linear ? std::vector<int64_t>{slot->rows(), slot->width()} : slot->shape);
      if (slot->linear) {
        slot->matrix.n = slot->rows();
        slot->matrix.k = slot->width();
        slot->matrix.data = base + slot->offset;
        slot->matrix.bytes = slot->bytes;
        tensor.packed = &slot->matrix;
      } else if (slot->mapped) {
        tensor.data = const_cast<void*>(slot->sources[0].tensor->data);
        mapped += slot->bytes;
      } else {
        tensor.data = base + slot->offset;
      }
    }
  }

  std::vector<Task> tasks() const {
    std::vector<Task> tasks;
    for (auto& slot : inventory.slots) {
      if (slot->mapped) continue;
      int64_t source = size_of(stored_dtype(*slot, DType::kF32));
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
    for (const WeightSource& source : slot.sources) checkpoint->release_pages(*source.tensor);
  }

  void verify_sizes() const {
    if (checkpoint != nullptr) checkpoint->verify_sizes();
    for (const auto& adapter : adapters) adapter->verify_sizes();
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
      verify_sizes();
      pool.parallel_for(static_cast<int64_t>(last - first),
                        [&](int64_t i, int) { execute(all[first + i], backend, options.seed); });
      for (size_t i = first; i < last; i++) {
        if (i + 1 < all.size() && all[i + 1].slot == all[i].slot) continue;
        send(memory_of(*backend), *all[i].slot);
        release(*all[i].slot);
      }
      loaded += batch;
      first = last;
      report();
    }
    verify_sizes();
  }
};

Weights::Weights() : state_(new State) {}
Weights::~Weights() = default;

std::unique_ptr<Weights> Weights::load(const std::vector<const Program*>& programs,
                                       std::shared_ptr<Checkpoint> checkpoint, const WeightPlaces& places,
                                       const Backend* backend, const WeightOptions& options, Pool& pool,
                                       const Progress& progress) {
  if (!options.dummy && checkpoint == nullptr)
    throw Error("ERR_INVALID_ARGUMENT", "Expected a checkpoint for the weights but received none");
  std::unique_ptr<Weights> weights(new Weights);
  State& state = *weights->state_;
  state.inventory = take_inventory(programs);
  if (!options.dummy) {
    state.checkpoint = std::move(checkpoint);
    find_sources(*state.checkpoint, places, &state.inventory);
    for (const auto& [part, deltas] : places.deltas) {
      for (const WeightDelta& delta : deltas) state.adapters.push_back(delta.checkpoint);
    }
  }
  state.allocate(memory_of(*backend), lay_out(&state.inventory, backend, options));
  state.make_operands();
  state.fill(backend, options, pool, progress);
  state.move_operands();
  return weights;
}

const Tensor& Weights::operand(int program, int index) const {
  return state_->inventory.of_program[program][index]->tensor;
}

uint64_t Weights::resident_bytes() const { return state_->arena.bytes(); }

uint64_t Weights::mapped_bytes() const { return state_->mapped; }

uint64_t Weights::resident_bytes(const std::vector<const Program*>& programs, const Checkpoint* checkpoint,
                                 const WeightPlaces& places, const Backend* backend, const WeightOptions& options) {
  Inventory inventory = take_inventory(programs);
  if (checkpoint != nullptr && !options.dummy) find_sources(*checkpoint, places, &inventory);
  uint64_t total = lay_out(&inventory, backend, options) + 64;
  if (options.dummy || checkpoint != nullptr || !memory_of(*backend).host()) return total;
  // A plain tensor of one part stays in the file's mapping.
  for (auto& slot : inventory.slots) {
    if (!slot->linear && slot->parts.size() == 1) total -= align(slot->bytes);
  }
  return total;
}

}  // namespace ocelli
