#include "core/fixed.h"

#include "core/layout.h"
#include "core/staging.h"

namespace ocelli {
namespace {

std::vector<int64_t> shape_of(const Value& value) {
  std::vector<int64_t> shape;
  for (const Dim& dim : value.shape) shape.push_back(dim.constant);
  return shape;
}

}  // namespace

Fixed::Fixed(const Program& program, const Weights* weights, int program_index, Memory& memory)
    : tensors_(program.values.size()), placeholders_(program.weights.size()) {
  for (size_t i = 0; i < program.weights.size(); i++) {
    const ProgramWeight& weight = program.weights[i];
    Tensor& tensor = tensors_[weight.value];
    if (weights != nullptr) {
      tensor = weights->operand(program_index, static_cast<int>(i));
      continue;
    }
    const std::vector<int64_t> shape = shape_of(program.values[weight.value]);
    set_shape(&tensor, shape);
    if (!weight.linear) continue;
    placeholders_[i].n = shape[0];
    placeholders_[i].k = shape[1];
    tensor.packed = &placeholders_[i];
  }
  for (const ProgramConstant& constant : program.constants) add(constant, program.values[constant.value]);
  if (!memory.host()) place_constants(program, memory);
}

void Fixed::add(const ProgramConstant& constant, const Value& value) {
  Tensor& tensor = tensors_[constant.value];
  tensor.dtype = value.dtype;
  set_shape(&tensor, shape_of(value));
  constants_.emplace_back(constant.data.size() / 2 + 1);
  tensor.data = constants_.back().data();
  for (size_t i = 0; i < constant.data.size(); i++) {
    if (value.dtype == DType::kI32) {
      tensor.as<int32_t>()[i] = static_cast<int32_t>(constant.data[i]);
    } else {
      tensor.as<float>()[i] = static_cast<float>(constant.data[i]);
    }
  }
}

void Fixed::place_constants(const Program& program, Memory& memory) {
  uint64_t bytes = 0;
  for (const auto& words : constants_) bytes += Staging::room(words.size() * 8);
  placed_ = Allocation(memory, bytes, Use::kWhole, "constants", "");
  char* at = placed_.data();
  for (size_t i = 0; i < constants_.size(); i++) {
    memory.upload(at, constants_[i].data(), constants_[i].size() * 8);
    tensors_[program.constants[i].value].data = at;
    at += Staging::room(constants_[i].size() * 8);
  }
  memory.synchronize();
}

}  // namespace ocelli
