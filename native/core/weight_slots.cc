#include "core/weight_slots.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/convert.h"
#include "core/layout.h"
#include "core/weights_dummy.h"

namespace ocelli {

namespace {

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

// The weight of the last linear layer of a program that gives logits; -1 where there is none.
int32_t weight_of_logits(const Program& program) {
  int32_t weight = -1;
  if (program.outputs.count("logits") == 0) return weight;
  for (const ProgramOp& op : program.ops) {
    if (op.op == Op::linear && op.in.size() > 1) weight = op.in[1];
  }
  return weight;
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

// The matrices fill the tensor, which is of the shape that is read or is one matrix.
void check_transposed(const Slot& slot, const WeightSource& source, const std::vector<int64_t>& wanted) {
  const CheckpointTensor& tensor = *source.tensor;
  const std::vector<int64_t>& matrix = source.transposed;
  int64_t elements = 1, total = 1;
  bool fits = matrix.size() == 2 && tensor.plain() && (tensor.shape == wanted || tensor.shape == matrix);
  for (int64_t n : matrix) fits = fits && n > 0 && !__builtin_mul_overflow(elements, n, &elements);
  for (int64_t n : wanted) fits = fits && !__builtin_mul_overflow(total, n, &total);
  if (fits && total % elements == 0 && (tensor.shape == wanted || total == elements)) return;
  fail_shape(slot, tensor, describe_sizes(wanted) + " in transposed matrices of " + describe_sizes(matrix));
}

void check_sources(const Slot& slot) {
  int64_t rows = 0;
  for (const WeightSource& source : slot.sources) {
    const CheckpointTensor& tensor = *source.tensor;
    bool floats = tensor.dtype == DType::kF32 || tensor.dtype == DType::kBF16 || tensor.dtype == DType::kF16;
    // Rows are read one by one, so each begins with a block.
    bool readable = tensor.blocks != nullptr ? slot.width() % tensor.blocks->elements == 0 : tensor.readable && floats;
    if (!readable) {
      throw Error("ERR_WEIGHT_DTYPE",
                  "Expected f32, bf16, f16 or quantised rows for weight '" + slot.name + "' but received " +
                      tensor.stored + " in checkpoint tensor '" + tensor.name + "'",
                  "Take a checkpoint of this model in another type.");
    }
    std::vector<int64_t> wanted = slot.shape;
    if (slot.sources.size() > 1) {
      if (tensor.shape.empty()) fail_shape(slot, tensor, "a part of " + describe_sizes(slot.shape));
      wanted[0] = tensor.shape[0];
      if (__builtin_add_overflow(rows, tensor.shape[0], &rows))
        fail_shape(slot, tensor, "a part of " + describe_sizes(slot.shape));
    }
    if (!source.transposed.empty())
      check_transposed(slot, source, wanted);
    else if (tensor.shape != wanted && !flattens(tensor.shape, wanted))
      fail_shape(slot, tensor, describe_sizes(wanted));
    int64_t heads = source.paired_heads;
    if (heads != 0 && (heads < 0 || wanted[0] % heads != 0 || wanted[0] / heads % 2 != 0))
      fail_shape(slot, tensor, "rows of " + std::to_string(heads) + " heads");
  }
  if (slot.sources.size() > 1 && rows != slot.shape[0]) {
    fail_shape(slot, *slot.sources.back().tensor, "parts of " + std::to_string(slot.shape[0]) + " rows together");
  }
}

// Adds rows [row, row + count) of scale * B A to out [count, width]: in float32, over the rank in ascending order.
void add_delta(const DeltaSource& delta, int64_t width, int64_t row, int64_t count, float* out) {
  const int64_t rank = delta.a->shape[0];
  std::vector<float> a(static_cast<size_t>(rank * width)), b(static_cast<size_t>(count * rank)), sum(width);
  read_elements(*delta.a, 0, rank * width, DType::kF32, a.data());
  read_elements(*delta.b, row * rank, count * rank, DType::kF32, b.data());
  for (int64_t i = 0; i < count; i++) {
    std::fill(sum.begin(), sum.end(), 0.f);
    for (int64_t r = 0; r < rank; r++) {
      for (int64_t j = 0; j < width; j++) sum[j] += b[i * rank + r] * a[r * width + j];
    }
    for (int64_t j = 0; j < width; j++) out[i * width + j] += delta.scale * sum[j];
  }
}

// Rows [row, row + count) of one part as they are stored.
void read_stored(const WeightSource& source, int64_t width, int64_t row, int64_t count, DType dtype, char* out) {
  const CheckpointTensor& tensor = *source.tensor;
  if (!source.transposed.empty()) {
    int64_t rows = source.transposed[0], columns = source.transposed[1];
    for (int64_t i = row * width; i < (row + count) * width; i++, out += size_of(dtype)) {
      int64_t at = i % (rows * columns);
      read_elements(tensor, i - at + at % rows * columns + at / rows, 1, dtype, out);
    }
    return;
  }
  if (source.paired_heads == 0) {
    read_elements(tensor, row * width, count * width, dtype, out);
    return;
  }
  int64_t head = tensor.shape[0] / source.paired_heads;
  for (int64_t r = row; r < row + count; r++, out += width * size_of(dtype)) {
    int64_t at = r % head;
    int64_t stored = r - at + at % (head / 2) * 2 + at / (head / 2);
    read_elements(tensor, stored * width, width, dtype, out);
  }
}

// The same with what is added to them.
void read_part(const WeightSource& source, int64_t width, int64_t row, int64_t count, DType dtype, char* out) {
  if (source.deltas.empty()) {
    read_stored(source, width, row, count, dtype, out);
    return;
  }
  std::vector<float> rows(static_cast<size_t>(count * width));
  read_stored(source, width, row, count, DType::kF32, reinterpret_cast<char*>(rows.data()));
  for (const DeltaSource& delta : source.deltas) add_delta(delta, width, row, count, rows.data());
  for (int64_t i = 0; i < count * width; i++) write_element(out, dtype, i, rows[i]);
}

// One half of a delta: a plain matrix of the file.
const CheckpointTensor* delta_half(const WeightDelta& delta, const std::string& name) {
  const CheckpointTensor* tensor = delta.checkpoint->find(name);
  const bool floats = tensor != nullptr && tensor->plain() &&
                      (tensor->dtype == DType::kF32 || tensor->dtype == DType::kBF16 || tensor->dtype == DType::kF16);
  if (floats && tensor->shape.size() == 2) return tensor;
  throw Error("ERR_LORA", "Expected a matrix of f32, bf16 or f16 for the adapter's tensor '" + name +
                              "' but received " + (tensor == nullptr ? "none" : tensor->stored));
}

std::vector<DeltaSource> deltas_of(const Slot& slot, const std::string& part, const CheckpointTensor& tensor,
                                   const WeightPlaces& places) {
  std::vector<DeltaSource> sources;
  auto found = places.deltas.find(part);
  if (found == places.deltas.end()) return sources;
  for (const WeightDelta& delta : found->second) {
    const DeltaSource source{delta_half(delta, delta.a), delta_half(delta, delta.b), delta.scale};
    const std::vector<int64_t>&a = source.a->shape, &b = source.b->shape;
    if (!slot.linear || tensor.shape.empty() || a[1] != slot.width() || b[0] != tensor.shape[0] || a[0] != b[1]) {
      throw Error("ERR_LORA", "Expected halves [r, " + std::to_string(slot.width()) + "] and [rows, r] for '" + part +
                                  "' but received " + describe_sizes(a) + " and " + describe_sizes(b));
    }
    sources.push_back(source);
  }
  return sources;
}

}  // namespace

bool WeightSource::direct() const {
  return tensor->plain() && paired_heads == 0 && transposed.empty() && deltas.empty() &&
         reinterpret_cast<uintptr_t>(tensor->data) % static_cast<uintptr_t>(size_of(tensor->dtype)) == 0;
}

Inventory take_inventory(const std::vector<const Program*>& programs) {
  Inventory inventory;
  std::map<std::string, Slot*> known;
  for (const Program* program : programs) {
    std::map<int32_t, Fill> fills = fills_of(*program);
    int32_t logits = weight_of_logits(*program);
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
      slot->logits = slot->logits || weight.value == logits;
      inventory.of_program.back().push_back(slot);
    }
  }
  return inventory;
}

void find_sources(const Checkpoint& checkpoint, const WeightPlaces& places, Inventory* inventory) {
  std::string missing;
  int count = 0;
  for (auto& slot : inventory->slots) {
    for (const std::string& part : slot->parts) {
      auto renamed = places.names.find(part);
      const std::string& name = renamed == places.names.end() ? part : renamed->second;
      auto paired = places.paired_heads.find(name);
      const CheckpointTensor* tensor = checkpoint.find(name);
      if (tensor != nullptr) {
        auto transposed = places.transposed.find(name);
        slot->sources.push_back({tensor, paired == places.paired_heads.end() ? 0 : paired->second,
                                 transposed == places.transposed.end() ? std::vector<int64_t>() : transposed->second,
                                 deltas_of(*slot, part, *tensor, places)});
      } else if (count++ == 0) {
        missing = "Expected tensor '" + name + "' in the checkpoint for weight '" + slot->name + "' but received none";
      }
    }
  }
  if (count == 0) {
    for (auto& slot : inventory->slots) check_sources(*slot);
    return;
  }
  if (count > 1) missing += " (and " + std::to_string(count - 1) + " more are absent)";
  throw Error("ERR_WEIGHT_MISSING", missing,
              "Check that every shard of the checkpoint is given and that it is of this architecture.");
}

DType stored_dtype(const Slot& slot, DType other) {
  for (const WeightSource& source : slot.sources) {
    if (!source.tensor->plain() || !source.deltas.empty() || source.tensor->dtype != slot.sources[0].tensor->dtype)
      return other;
  }
  return slot.sources.empty() ? other : slot.sources[0].tensor->dtype;
}

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
  for (const WeightSource& source : slot.sources) {
    int64_t rows = slot.sources.size() == 1 ? slot.rows() : source.tensor->shape[0];
    int64_t lo = std::max(row, start);
    int64_t hi = std::min(row + count, start + rows);
    start += rows;
    if (lo >= hi) continue;
    read_part(source, width, lo - (start - rows), hi - lo, dtype, to);
    to += (hi - lo) * width * size_of(dtype);
  }
}

}  // namespace ocelli
