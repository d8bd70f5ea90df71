// From the PTX's instructions to the executable form. An instruction set is a table of builders; each takes the
// modifiers that it knows, and whatever is left over is an error.
#pragma once

#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ptx/arena.h"
#include "ptx/machine.h"
#include "ptx/module.h"

namespace ocelli {
namespace ptx {

// Makes `entry` and all that it calls executable. Module variables must lie at `globals`. Throws ERR_PTX for an unknown
// instruction or modifier, and for recursion.
std::unique_ptr<Kernel> decode(const Module& module, const std::string& entry, const std::vector<Address>& globals);

class Decoder;

// One instruction on its way.
class Decoding {
 public:
  Decoding(Decoder& decoder, const Instruction& from);

  const Instruction& from;
  Inst inst;

  // The opcode's pieces behind the first, in order. Each take removes one.
  bool take(const char* modifier);
  Type take_type();
  bool take_type(Type* type);  // false where the next piece is no type
  // Throws where modifiers are left or an operand was not used.
  void finish() const;
  [[noreturn]] void fail(const std::string& expected) const;

  size_t operands() const { return from.operands.size(); }
  const Operand& operand(size_t i) const;
  // Each appends one argument: a register of exactly `type`'s size, or a constant.
  void to(size_t i, Type type) { to(operand(i), type); }
  void to(const Operand& operand, Type type);  // `_` gives a register that nobody reads
  void value(size_t i, Type type) { value(operand(i), type); }
  void value(const Operand& operand, Type type);
  // The base register or constant of [a + b], as 64 bits; sets inst.imm, and inst.space where the variable says it.
  void address(size_t i);
  // A register's own size, for the operands that may be wider than the instruction's type.
  Type register_type(const Operand& operand) const;
  void arg(Slot slot) { args_.push_back(slot); }
  Slot constant(uint64_t bits, int bytes);  // the same in every lane
  void emit(Handler handler) { inst.run = handler; }
  int64_t immediate(size_t i) const;
  // What a call needs: to note the callee, where its parameters or results lie, where the caller's variable lies, and
  // to make that variable a name of another place.
  void call(int function);
  std::vector<Place> places(int function, bool results) const;
  Place place(const Operand& operand) const;
  void alias(const Operand& operand, const Place& place);
  std::vector<Slot> take_args() { return std::move(args_); }

 private:
  Decoder& decoder_;
  std::vector<std::string> modifiers_;
  std::vector<Slot> args_;
};

using Builder = void (*)(Decoding&);
using Table = std::unordered_map<std::string, Builder>;

void add_arithmetic(Table& table);  // add, mul, fma and kin
void add_functions(Table& table);   // min, abs, ex2 and kin
void add_bits(Table& table);        // logic, shifts, fields, permutations
void add_compare(Table& table);     // setp, selp and kin
void add_convert(Table& table);     // mov, cvt, cvta
void add_memory(Table& table);      // ld, st, atom, red
void add_copy(Table& table);        // cp.async
void add_warp(Table& table);        // shfl, vote, match, redux
void add_matrix(Table& table);      // mma, ldmatrix
void add_flow(Table& table);        // bra, call, ret, bar

// f(Tag<T>) for the C++ type T of `type`: how builders choose among a handler's instances.
template <class T>
struct Tag {
  using type = T;
};

template <class F>
Handler for_unsigned(Decoding& d, Type type, F f) {
  switch (size_of(type)) {
    case 1:
      return f(Tag<uint8_t>{});
    case 2:
      return f(Tag<uint16_t>{});
    case 4:
      return f(Tag<uint32_t>{});
    default:
      return f(Tag<uint64_t>{});
  }
}

template <class F>
Handler for_integer(Decoding& d, Type type, F f) {
  switch (type) {
    case Type::kS8:
      return f(Tag<int8_t>{});
    case Type::kS16:
      return f(Tag<int16_t>{});
    case Type::kS32:
      return f(Tag<int32_t>{});
    case Type::kS64:
      return f(Tag<int64_t>{});
    default:
      if (is_float(type)) d.fail("an integer type");
      return for_unsigned(d, type, f);
  }
}

template <class D, class F, class... S, size_t... I>
void map_lanes(Warp& warp, const Inst& inst, Mask mask, F f, std::index_sequence<I...>) {
  D out[kLanes];
  const auto run = [&](const S*... in) {
    for (int l = 0; l < kLanes; l++) out[l] = f(in[l]...);
  };
  run(warp.at<S>(inst.arg[1 + I])...);
  commit(warp.at<D>(inst.arg[0]), out, mask);
}

// arg[0] = F(arg[1], ...), lane by lane.
template <class F, class D, class... S>
void alu(Warp& warp, const Inst& inst, Mask mask) {
  map_lanes<D, F, S...>(warp, inst, mask, F{}, std::index_sequence_for<S...>{});
}

}  // namespace ptx
}  // namespace ocelli
