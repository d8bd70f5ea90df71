// A program: plain data, one row per op, made by tracing a model's forward() in TypeScript (lib/nn/trace.ts). Parsed from JSON,
// validated, sizes bound, laid out in one arena.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/op.h"

namespace ocelli {

// A dimension: constant + sum of symbol * mul / div (exact; a remainder is ERR_SHAPE when bound).
struct DimTerm {
  int32_t symbol;
  int64_t mul;
  int64_t div;
};
struct Dim {
  int64_t constant = 0;
  std::vector<DimTerm> terms;
};

enum class ValueKind : uint8_t { kInput, kWeight, kOp, kSlice, kReshape, kExpand, kConstant };

struct Value {
  ValueKind kind;
  DType dtype;  // 'act' in JSON becomes the backend's activation dtype (f32 on CPU)
  std::vector<Dim> shape;
  int32_t source = -1;  // input, weight or constant index; for views: the value viewed
  int32_t dim = 0;      // slice: which dimension
  Dim start;            // slice: from where
  std::string path;
};

struct ProgramInput {
  std::string name;
  std::string kind;  // 'data', 'rowIndex', 'cuSeqlens', 'positions', 'tokens': how pictures are concatenated
  int32_t value;
};

struct ProgramWeight {
  std::string name;  // module path + parameter
  std::vector<int64_t> shape;  // the checkpoint's, parts joined; a linear one of rank > 2 (a patch kernel) packs as [n, rest]
  bool linear;  // packed for `linear`; else plain rows
  std::vector<std::string> parts;  // names joined along dimension 0 (fused qkv); a single one is the usual case
  int32_t value;
};

// A small table that the configuration fixes (rope frequencies); fixed shape, dtype kF32 or kI32.
struct ProgramConstant {
  int32_t value;
  std::vector<double> data;  // row-major; an f32 reads back exactly
};

struct ProgramOp {
  Op op;
  std::vector<int32_t> in;  // value ids; -1: absent
  std::vector<int32_t> out;
  Attrs attrs;
  std::string path;
};

struct Program {
  std::string name;
  std::vector<std::string> symbols;
  std::vector<Value> values;
  std::vector<ProgramInput> inputs;
  std::vector<ProgramWeight> weights;
  std::vector<ProgramConstant> constants;  // absent in JSON: none
  std::vector<ProgramOp> ops;
  std::map<std::string, int32_t> outputs;
  std::map<std::string, int32_t> taps;  // module path -> the value it returned

  // Throws ERR_PROGRAM with the path of what is wrong. No input can make it crash, recurse without bound or allocate more
  // than a small multiple of the text's size.
  static Program parse(const std::string& json);
};

}  // namespace ocelli
