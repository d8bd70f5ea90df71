#include "core/layout.h"

#include <algorithm>

#include "core/program_check.h"

namespace ocelli {

namespace {

constexpr int64_t kMaxSize = int64_t{1} << 40;
constexpr int64_t kMaxElements = int64_t{1} << 44;

[[noreturn]] void fail(const std::string& where, const std::string& expected, const std::string& found) {
  throw Error("ERR_SHAPE", "Expected " + expected + " for " + where + " but received " + found);
}

std::string name_of_value(const Program& program, int32_t id) {
  const std::string& path = program.values[id].path;
  return "value " + std::to_string(id) + (path.empty() ? "" : " (" + path + ")") + " of program '" + program.name + "'";
}

void set_dense(Tensor* tensor) {
  int64_t stride = 1;
  for (int i = tensor->rank - 1; i >= 0; i--) {
    tensor->stride[i] = stride;
    stride *= tensor->shape[i];
  }
}

}  // namespace

void set_shape(Tensor* tensor, const std::vector<int64_t>& shape) {
  tensor->rank = static_cast<int8_t>(shape.size());
  std::copy(shape.begin(), shape.end(), tensor->shape);
  set_dense(tensor);
}

namespace {

// Strides under which `to` (shape set) views the elements of `from` in order; false where only a copy could. Dimensions
// of `from` that follow each other without a gap merge into runs; `to` must cut each run by itself.
bool reshape(const Tensor& from, Tensor* to) {
  if (from.numel() == 0) {
    set_dense(to);
    return true;
  }
  int t = to->rank - 1;
  int f = from.rank - 1;
  while (f >= 0) {
    if (from.shape[f] == 1) {
      f--;
      continue;
    }
    int64_t run = from.shape[f];
    int64_t base = from.stride[f];
    int64_t next = base * from.shape[f];
    f--;
    while (f >= 0 && (from.shape[f] == 1 || from.stride[f] == next)) {
      run *= from.shape[f];
      if (from.shape[f] != 1) next = from.stride[f] * from.shape[f];
      f--;
    }
    int64_t stride = base;
    while (run > 1) {
      if (t < 0 || run % to->shape[t] != 0) return false;
      to->stride[t] = stride;
      stride *= to->shape[t];
      run /= to->shape[t];
      t--;
    }
  }
  for (; t >= 0; t--) to->stride[t] = t + 1 < to->rank ? to->stride[t + 1] * to->shape[t + 1] : 1;
  return true;
}

void place_view(const Program& program, int32_t id, const std::vector<int64_t>& symbols, const Placed& of,
                Placed* view) {
  const Value& value = program.values[id];
  Tensor& to = view->shape;
  const Tensor& from = of.shape;
  view->root = of.root;
  view->offset = of.offset;
  if (value.kind == ValueKind::kReshape) {
    if (to.numel() != from.numel())
      fail(name_of_value(program, id), "as many elements as " + describe_shape(from), describe_shape(to));
    if (!reshape(from, &to)) {
      fail(name_of_value(program, id), "a reshape that needs no copy",
           describe_shape(from) + " with gaps, as " + describe_shape(to));
    }
    return;
  }
  if (value.kind == ValueKind::kSlice) {
    int64_t start = evaluate(program, value.start, symbols, name_of_value(program, id));
    for (int i = 0; i < to.rank; i++) {
      to.stride[i] = from.stride[i];
      bool fits = i == value.dim ? start + to.shape[i] <= from.shape[i] : to.shape[i] == from.shape[i];
      if (!fits) {
        fail(name_of_value(program, id),
             "a slice of " + describe_shape(from) + " along dimension " + std::to_string(value.dim),
             describe_shape(to) + " from " + std::to_string(start));
      }
    }
    view->offset += start * from.stride[value.dim];
    return;
  }
  int lead = to.rank - from.rank;
  for (int i = 0; i < to.rank; i++) {
    int64_t size = i < lead ? 1 : from.shape[i - lead];
    if (size != 1 && size != to.shape[i])
      fail(name_of_value(program, id), "an expansion of " + describe_shape(from), describe_shape(to));
    to.stride[i] = size == to.shape[i] && i >= lead ? from.stride[i - lead] : 0;
  }
}

}  // namespace

std::string describe_shape(const Tensor& tensor) {
  std::string text = "[";
  for (int i = 0; i < tensor.rank; i++) text += (i > 0 ? ", " : "") + std::to_string(tensor.shape[i]);
  return text + "]";
}

int64_t evaluate(const Program& program, const Dim& dim, const std::vector<int64_t>& symbols,
                 const std::string& where) {
  int64_t total = dim.constant;
  for (const DimTerm& term : dim.terms) {
    int64_t product = 0;
    if (__builtin_mul_overflow(symbols[term.symbol], term.mul, &product)) fail(where, "a size below 2^40", "more");
    if (product % term.div != 0) {
      fail(
          where,
          program.symbols[term.symbol] + " * " + std::to_string(term.mul) + " divisible by " + std::to_string(term.div),
          program.symbols[term.symbol] + " = " + std::to_string(symbols[term.symbol]));
    }
    if (__builtin_add_overflow(total, product / term.div, &total)) fail(where, "a size below 2^40", "more");
  }
  if (total < 0 || total > kMaxSize) fail(where, "a size from 0 to 2^40", std::to_string(total));
  return total;
}

std::vector<int64_t> shape_of(const Program& program, int32_t value, const std::vector<int64_t>& symbols) {
  if (symbols.size() != program.symbols.size()) {
    fail("the sizes of program '" + program.name + "'", std::to_string(program.symbols.size()) + " symbols",
         std::to_string(symbols.size()));
  }
  std::vector<int64_t> shape;
  int64_t total = 1;
  for (const Dim& dim : program.values[value].shape) {
    shape.push_back(evaluate(program, dim, symbols, name_of_value(program, value)));
    if (__builtin_mul_overflow(total, std::max<int64_t>(shape.back(), 1), &total) || total > kMaxElements) {
      fail(name_of_value(program, value), "fewer than 2^44 elements", "more");
    }
  }
  return shape;
}

std::vector<Placed> place(const Program& program, const std::vector<int64_t>& symbols) {
  std::vector<Placed> placed(program.values.size());
  for (size_t i = 0; i < program.values.size(); i++) {
    int32_t id = static_cast<int32_t>(i);
    const Value& value = program.values[i];
    std::vector<int64_t> shape = shape_of(program, id, symbols);
    Placed& mine = placed[i];
    mine.shape.dtype = value.dtype;
    mine.shape.rank = static_cast<int8_t>(shape.size());
    for (size_t d = 0; d < shape.size(); d++) mine.shape.shape[d] = shape[d];
    if (is_view(value.kind)) {
      place_view(program, id, symbols, placed[value.source], &mine);
    } else {
      set_dense(&mine.shape);
      mine.root = id;
    }
  }
  return placed;
}

}  // namespace ocelli
