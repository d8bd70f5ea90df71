// What a PTX file says, before it is made executable: variables, functions, instructions with resolved names.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ocelli {
namespace ptx {

enum class Type : uint8_t {
  kPred,
  kB8,
  kB16,
  kB32,
  kB64,
  kU8,
  kU16,
  kU32,
  kU64,
  kS8,
  kS16,
  kS32,
  kS64,
  kF16,
  kF16x2,
  kBF16,
  kBF16x2,
  kF32,
  kF64
};  // clang-format keeps lists of enumerators as they are when they end like this

int size_of(Type type);  // bytes; a predicate has 4, one bit a lane
bool is_float(Type type);
bool is_signed(Type type);
// False where `name` ("f32", without the dot) is no type.
bool type_from_name(std::string_view name, Type* type);

enum class Space : uint8_t { kGeneric, kGlobal, kConst, kShared, kLocal, kParam };

struct Variable {
  std::string name;
  Space space = Space::kGlobal;
  int64_t bytes = 0;  // 0: `extern .shared x[]`, sized by the launch
  int64_t align = 1;
  std::vector<uint8_t> init;  // empty: none
};

struct Register {
  std::string name;
  Type type = Type::kB32;
};

struct Operand {
  enum class Kind : uint8_t {
    kRegister,   // index: into Function::registers
    kSpecial,    // name: "%tid.x"
    kImmediate,  // bits, as `number` says
    kVariable,   // index: into Function::variables; offset: bits. The variable's address
    kGlobal,     // the same in Module::globals
    kAddress,    // [parts[0] + bits]
    kVector,     // {parts} or (parts)
    kLabel,      // index: of the instruction
    kFunction,   // index: into Module::functions
    kSink,       // _
  };
  enum class Number : uint8_t { kInteger, kFloat32, kFloat64 };
  Kind kind = Kind::kSink;
  Number number = Number::kInteger;
  bool negated = false;  // !%p
  int index = -1;
  int64_t bits = 0;
  std::string name;
  std::vector<Operand> parts;
};

struct Instruction {
  int line = 0;         // in the PTX
  int source_line = 0;  // in the .cu, 0 where the PTX does not say
  std::string opcode;   // "ld.global.v4.f32"
  int guard = -1;       // the register of @%p
  bool guard_negated = false;
  std::vector<Operand> operands;  // `d|p` is two operands, of which the second begins with Kind::kRegister
};

struct Function {
  std::string name;
  bool entry = false;
  bool defined = false;
  std::vector<int> params;   // into variables
  std::vector<int> returns;  // into variables
  std::vector<Register> registers;
  std::vector<Variable> variables;  // .param, .local and .shared
  std::vector<Instruction> code;
};

struct Module {
  std::vector<Variable> globals;  // .global, .const, and .shared of the whole module
  std::vector<Function> functions;

  // Throws ERR_PTX where there is no such kernel.
  const Function& entry(const std::string& name) const;
};

// Parses PTX as nvcc prints it. Throws ERR_PTX with the line for whatever it does not know.
Module parse(std::string_view source);

}  // namespace ptx
}  // namespace ocelli
