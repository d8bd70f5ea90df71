// Sizes bound: every value's shape, strides and place relative to the storage that it lies in.
#pragma once

#include <cstdint>
#include <vector>

#include "core/program.h"

namespace ocelli {

struct Placed {
  Tensor shape;        // dtype, shape, strides; data null
  int32_t root = -1;   // the value whose storage this one views; itself unless a view
  int64_t offset = 0;  // elements into that storage
};

void set_shape(Tensor* tensor, const std::vector<int64_t>& shape);  // at most kMaxRank sizes, dense
std::string describe_shape(const Tensor& tensor);                   // "[3, 64]"
int64_t evaluate(const Program& program, const Dim& dim, const std::vector<int64_t>& symbols, const std::string& where);
std::vector<int64_t> shape_of(const Program& program, int32_t value, const std::vector<int64_t>& symbols);
// ERR_SHAPE where a view does not fit what it views or would need a copy.
std::vector<Placed> place(const Program& program, const std::vector<int64_t>& symbols);

}  // namespace ocelli
