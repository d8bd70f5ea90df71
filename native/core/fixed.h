// What a program's runs have in common: its weights and constants, where a backend's tensors lie.
#pragma once

#include <vector>

#include "core/memory.h"
#include "core/program.h"
#include "core/weights.h"

namespace ocelli {

class Fixed {
 public:
  // weights may be null for planning only: there are shapes then, no data.
  Fixed(const Program& program, const Weights* weights, int program_index, Memory& memory);

  // Of a value that is a weight or a constant, with data where it is known.
  const Tensor& operator[](int32_t value) const { return tensors_[value]; }

 private:
  void add(const ProgramConstant& constant, const Value& value);
  void place_constants(const Program& program, Memory& memory);

  std::vector<Tensor> tensors_;                   // per value
  std::vector<PackedMatrix> placeholders_;        // of packed weights while planning
  std::vector<std::vector<uint64_t>> constants_;  // 8-byte words, for alignment
  Allocation placed_;                             // where the host's are out of reach
};

}  // namespace ocelli
