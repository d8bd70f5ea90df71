#include "core/program_check.h"

#include <cmath>
#include <set>

namespace ocelli {

namespace {

class Checker {
 public:
  explicit Checker(const Program& program) : program_(program), makers_(program.values.size(), 0) {}

  void check() {
    std::set<std::string> symbols;
    for (const std::string& symbol : program_.symbols) {
      if (symbol.empty() || !symbols.insert(symbol).second)
        fail("symbols", "names that differ", "'" + symbol + "' twice or empty");
    }
    for (size_t i = 0; i < program_.values.size(); i++) check_view(i);
    check_inputs();
    check_weights();
    check_constants();
    check_ops();
    for (size_t i = 0; i < program_.values.size(); i++) {
      if (!is_view(program_.values[i].kind) && makers_[i] == 0)
        fail(value_name(i), "something that makes it", "nothing");
    }
    for (const auto& entry : program_.outputs) check_result("outputs." + entry.first, entry.second);
    for (const auto& entry : program_.taps) check_result("taps." + entry.first, entry.second);
  }

 private:
  [[noreturn]] void fail(const std::string& where, const std::string& expected, const std::string& found) const {
    throw Error("ERR_PROGRAM",
                "Expected " + expected + " for " + where + " of program '" + program_.name + "' but received " + found);
  }

  std::string value_name(size_t i) const {
    const std::string& path = program_.values[i].path;
    return "values[" + std::to_string(i) + "]" + (path.empty() ? "" : " (" + path + ")");
  }

  const Value& value(const std::string& where, int32_t i) const {
    if (i < 0 || static_cast<size_t>(i) >= program_.values.size()) {
      fail(where, "a value below " + std::to_string(program_.values.size()), std::to_string(i));
    }
    return program_.values[i];
  }

  void make(const std::string& where, int32_t i, ValueKind kind, const char* kind_name) {
    const Value& made = value(where, i);
    if (made.kind != kind) fail(where, std::string("a value of kind ") + kind_name, value_name(i) + " of another kind");
    if (makers_[i]++ != 0) fail(value_name(i), "one maker", "a second, " + where);
  }

  void check_view(size_t i) const {
    const Value& view = program_.values[i];
    if (!is_view(view.kind)) return;
    std::string where = value_name(i);
    const Value& of = value(where, view.source);
    if (static_cast<size_t>(view.source) >= i)
      fail(where, "a view of an earlier value", "one of " + value_name(view.source));
    if (of.dtype != view.dtype)
      fail(where, std::string("the dtype ") + name_of(of.dtype) + " of what it views", name_of(view.dtype));
    size_t rank = view.shape.size();
    if (view.kind == ValueKind::kSlice && (rank != of.shape.size() || static_cast<size_t>(view.dim) >= rank)) {
      fail(where, "a slice along one of " + std::to_string(of.shape.size()) + " dimensions",
           "rank " + std::to_string(rank) + " and dimension " + std::to_string(view.dim));
    }
    if (view.kind == ValueKind::kExpand && rank < of.shape.size()) {
      fail(where, "at least rank " + std::to_string(of.shape.size()), "rank " + std::to_string(rank));
    }
  }

  void check_inputs() {
    std::set<std::string> names;
    for (const ProgramInput& input : program_.inputs) {
      if (!names.insert(input.name).second) fail("inputs", "names that differ", "'" + input.name + "' twice");
      make("input '" + input.name + "'", input.value, ValueKind::kInput, "input");
    }
  }

  // A symbol-free shape as numbers.
  std::vector<int64_t> fixed_shape(int32_t i) const {
    std::vector<int64_t> shape;
    for (const Dim& dim : program_.values[i].shape) {
      if (!dim.terms.empty() || dim.constant < 0) fail(value_name(i), "fixed sizes", "symbols or a negative size");
      shape.push_back(dim.constant);
    }
    return shape;
  }

  static constexpr int64_t kMaxElements = int64_t{1} << 44;

  int64_t elements(const std::string& where, const std::vector<int64_t>& shape) const {
    int64_t total = 1;
    for (int64_t size : shape) {
      if (__builtin_mul_overflow(total, size, &total) || total > kMaxElements)
        fail(where, "fewer than 2^44 elements", "more");
    }
    return total;
  }

  void check_weights() {
    // A tied embedding is read both ways: as rows and packed.
    std::set<std::pair<std::string, bool>> names;
    for (const ProgramWeight& weight : program_.weights) {
      std::string where = "weight '" + weight.name + "'";
      if (!names.insert({weight.name, weight.linear}).second)
        fail("weights", "names that differ", "'" + weight.name + "' twice");
      make(where, weight.value, ValueKind::kWeight, "weight");
      if (program_.values[weight.value].dtype == DType::kI32) fail(where, "dtype act or f32", "i32");
      int64_t total = elements(where, weight.shape);
      if (weight.linear && weight.shape.size() < 2)
        fail(where, "rank 2 or more for a linear weight", "rank " + std::to_string(weight.shape.size()));
      std::vector<int64_t> shape = weight.shape;
      if (weight.linear) shape = {shape[0], shape[0] == 0 ? 0 : total / shape[0]};
      if (fixed_shape(weight.value) != shape) fail(where, "the shape of its value", "another one");
      if (weight.parts.size() > 1 && weight.shape.empty()) fail(where, "a dimension to join parts along", "rank 0");
    }
  }

  void check_constants() {
    for (size_t i = 0; i < program_.constants.size(); i++) {
      const ProgramConstant& constant = program_.constants[i];
      std::string where = "constants[" + std::to_string(i) + "]";
      make(where, constant.value, ValueKind::kConstant, "constant");
      int64_t expected = elements(where, fixed_shape(constant.value));
      if (static_cast<int64_t>(constant.data.size()) != expected) {
        fail(where, std::to_string(expected) + " numbers", std::to_string(constant.data.size()));
      }
      bool integers = program_.values[constant.value].dtype == DType::kI32;
      for (double number : constant.data) {
        bool fits = integers ? number >= INT32_MIN && number <= INT32_MAX && std::floor(number) == number
                             : std::fabs(number) <= 3.4028235677973366e38;
        if (!fits)
          fail(where, std::string("numbers that ") + (integers ? "i32" : "f32") + " holds", std::to_string(number));
      }
    }
  }

  // Where a value's bytes come from: follows views, which point backwards.
  int32_t root(int32_t i) const {
    while (is_view(program_.values[i].kind)) i = program_.values[i].source;
    return i;
  }

  void check_ops() {
    std::vector<char> packed(program_.values.size(), 0);
    for (const ProgramWeight& weight : program_.weights) packed[weight.value] = weight.linear;
    for (size_t i = 0; i < program_.values.size(); i++) {
      if (is_view(program_.values[i].kind) && packed[root(static_cast<int32_t>(i))] != 0) {
        fail(value_name(i), "a view of plain rows", "one of a packed weight");
      }
    }
    packed_ = packed;
    for (size_t i = 0; i < program_.ops.size(); i++) {
      const ProgramOp& op = program_.ops[i];
      std::string where = "ops[" + std::to_string(i) + "] (" + name_of(op.op) + " at " + op.path + ")";
      for (size_t j = 0; j < op.in.size(); j++) {
        if (op.in[j] < 0) continue;
        value(where, op.in[j]);
        int32_t from = root(op.in[j]);
        if (program_.values[from].kind == ValueKind::kOp && makers_[from] == 0) {
          fail(where, "operands that earlier ops made", value_name(op.in[j]));
        }
        bool operand = op.op == Op::linear && j == 1;
        if (operand != (packed[from] != 0)) {
          fail(where, operand ? "a linear weight as operand 1" : "packed weights only as operand 1 of linear",
               value_name(op.in[j]));
        }
      }
      for (int32_t out : op.out) make(where, out, ValueKind::kOp, "op");
    }
  }

  void check_result(const std::string& where, int32_t i) const {
    value(where, i);
    if (packed_[i] != 0) fail(where, "a value with rows", "a packed weight");
  }

  const Program& program_;
  std::vector<uint32_t> makers_;
  std::vector<char> packed_;
};

}  // namespace

bool is_view(ValueKind kind) {
  return kind == ValueKind::kSlice || kind == ValueKind::kReshape || kind == ValueKind::kExpand;
}

void check_program(const Program& program) { Checker(program).check(); }

}  // namespace ocelli
