#include "ptx/decode.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "core/check.h"
#include "ptx/floats.h"

namespace ocelli {
namespace ptx {

namespace {

const Table& table() {
  static const Table built = [] {
    Table rows;
    for (void (*add)(Table&) : {add_arithmetic, add_functions, add_bits, add_compare, add_convert, add_memory, add_copy,
                                add_warp, add_matrix, add_flow})
      add(rows);
    return rows;
  }();
  return built;
}

constexpr size_t kGap = 128;  // between shared variables: a row of banks, so that no conflict comes or goes

size_t aligned(size_t at, size_t to) { return (at + to - 1) / to * to; }

}  // namespace

class Decoder {
 public:
  Decoder(const Module& module, const std::vector<Address>& globals) : module_(module), globals_(globals) {}

  std::unique_ptr<Kernel> run(const std::string& entry) {
    kernel_ = std::make_unique<Kernel>();
    kernel_->name = entry;
    const Function& function = module_.entry(entry);
    place_module_shared();
    lay_out(&function);
    emit(function);
    // Functions follow as they are called; a call's target is known only now.
    for (size_t i = 0; i < queue_.size(); i++) emit(module_.functions[queue_[i]]);
    for (const auto& [at, callee] : calls_) kernel_->code[at].imm = starts_.at(&module_.functions[callee]);
    check_recursion(&function, {});
    return std::move(kernel_);
  }

  Slot register_slot(int index) const { return frames_.at(function_).registers[index]; }
  const Function& function() const { return *function_; }
  const Module& module() const { return module_; }

  Slot scratch(int bytes) {
    const size_t at = aligned(kernel_->register_bytes, 64);
    kernel_->register_bytes = at + static_cast<size_t>(bytes) * kLanes;
    return static_cast<Slot>(at);
  }

  Slot special(const std::string& name) {
    for (const auto& [slot, known] : kernel_->specials) {
      if (known == name) return slot;
    }
    if (std::find(kSpecials.begin(), kSpecials.end(), name) == kSpecials.end()) {
      throw Error("ERR_PTX", "Expected a special register that the emulator knows but received '" + name + "'");
    }
    kernel_->specials.emplace_back(scratch(4), name);
    return kernel_->specials.back().first;
  }

  Slot constant(const void* lanes, size_t bytes) {
    const std::string key(static_cast<const char*>(lanes), bytes);
    const auto known = constants_.find(key);
    if (known != constants_.end()) return known->second;
    const size_t at = aligned(kernel_->constants.size(), 64);
    kernel_->constants.resize(at + bytes);
    std::memcpy(kernel_->constants.data() + at, lanes, bytes);
    return constants_[key] = static_cast<Slot>(at) | 1;
  }

  // Where a variable lies in its space. A kernel's parameters are apart from those of the functions that it calls.
  uint64_t address_of(const Operand& operand, Space* space) const {
    if (operand.kind == Operand::Kind::kGlobal) {
      *space = module_.globals[operand.index].space;
      if (*space == Space::kShared) return module_shared_.at(operand.index);
      return globals_.at(operand.index);
    }
    const Variable& variable = function_->variables[operand.index];
    *space = variable.space;
    if (variable.space == Space::kParam && !is_kernel_parameter(operand.index)) *space = Space::kLocal;
    return frames_.at(function_).variables[operand.index];
  }

  // Notes that the instruction being decoded calls `function`.
  void call(int function) {
    const Function* target = &module_.functions[function];
    if (frames_.count(target) == 0) {
      if (!target->defined) throw Error("ERR_PTX", "Expected a definition of '" + target->name + "' but received none");
      lay_out(target);
      queue_.push_back(function);
    }
    calls_.emplace_back(kernel_->code.size(), function);
    edges_[function_].insert(target);
  }
  // Offsets in local memory of a function's parameters or results.
  std::vector<Place> places(int function, bool results) const {
    const Function& target = module_.functions[function];
    std::vector<Place> found;
    for (int index : results ? target.returns : target.params)
      found.push_back({frames_.at(&target).variables[index], static_cast<size_t>(target.variables[index].bytes)});
    return found;
  }
  void alias(int variable, size_t at) { frames_.at(function_).variables[variable] = at; }

 private:
  struct Frame {
    std::vector<Slot> registers;
    std::vector<uint64_t> variables;
  };

  bool is_kernel_parameter(int variable) const {
    return function_->entry && variable < static_cast<int>(function_->params.size());
  }

  uint64_t place_shared(const Variable& variable) {
    const size_t at = aligned(kernel_->shared_bytes, kGap);
    kernel_->shared_bytes = at + aligned(static_cast<size_t>(variable.bytes), kGap) + kGap;
    kernel_->shared_gaps.emplace_back(at + static_cast<size_t>(variable.bytes), kernel_->shared_bytes);
    return at;
  }

  void place_module_shared() {
    for (size_t i = 0; i < module_.globals.size(); i++) {
      const Variable& variable = module_.globals[i];
      if (variable.space != Space::kShared) continue;
      module_shared_[static_cast<int>(i)] = variable.bytes > 0 ? place_shared(variable) : kDynamicShared;
    }
  }

  // Registers, parameters and arrays of a function lie at fixed places: nothing here calls itself.
  void lay_out(const Function* function) {
    Frame& frame = frames_[function];
    for (const Register& reg : function->registers) frame.registers.push_back(scratch_of(reg.type));
    for (size_t i = 0; i < function->variables.size(); i++) {
      const Variable& variable = function->variables[i];
      const size_t align = static_cast<size_t>(variable.align);
      if (variable.space == Space::kShared) {
        frame.variables.push_back(place_shared(variable));
      } else if (variable.space == Space::kParam && function->entry && i < function->params.size()) {
        const size_t at = aligned(kernel_->param_bytes, align);
        kernel_->params.push_back({at, static_cast<size_t>(variable.bytes)});
        kernel_->param_bytes = at + static_cast<size_t>(variable.bytes);
        frame.variables.push_back(at);
      } else {
        const size_t at = aligned(kernel_->local_bytes, align < 8 ? 8 : align);
        kernel_->local_bytes = at + static_cast<size_t>(variable.bytes);
        frame.variables.push_back(at);
      }
    }
  }

  Slot scratch_of(Type type) {
    if (type != Type::kPred) return scratch(size_of(type));
    const size_t at = aligned(kernel_->register_bytes, 4);
    kernel_->register_bytes = at + 4;
    return static_cast<Slot>(at);
  }

  void emit(const Function& function) {
    function_ = &function;
    const int start = static_cast<int>(kernel_->code.size());
    starts_[&function] = start;
    for (const Instruction& instruction : function.code) {
      Decoding decoding(*this, instruction);
      const std::string name = instruction.opcode.substr(0, instruction.opcode.find('.'));
      const auto row = table().find(name);
      if (row == table().end()) decoding.fail("an instruction that the emulator knows");
      row->second(decoding);
      decoding.finish();
      kernel_->args.push_back(decoding.take_args());
      decoding.inst.arg = kernel_->args.back().data();
      for (const Operand& operand : instruction.operands) {
        if (operand.kind == Operand::Kind::kLabel) decoding.inst.imm = start + operand.index;
      }
      kernel_->code.push_back(decoding.inst);
    }
    // Falling off the end returns, as does a label behind the last instruction.
    static const Instruction kReturn = [] {
      Instruction instruction;
      instruction.opcode = "ret";
      return instruction;
    }();
    Decoding decoding(*this, kReturn);
    table().at("ret")(decoding);
    kernel_->code.push_back(decoding.inst);
  }

  void check_recursion(const Function* function, std::set<const Function*> above) const {
    if (!above.insert(function).second) {
      throw Error("ERR_PTX", "Expected functions that do not call themselves but received '" + function->name + "'");
    }
    const auto edges = edges_.find(function);
    if (edges == edges_.end()) return;
    for (const Function* callee : edges->second) check_recursion(callee, above);
  }

  const Module& module_;
  const std::vector<Address>& globals_;
  std::unique_ptr<Kernel> kernel_;
  const Function* function_ = nullptr;
  std::map<const Function*, Frame> frames_;
  std::map<const Function*, int> starts_;
  std::map<const Function*, std::set<const Function*>> edges_;
  std::vector<int> queue_;
  std::vector<std::pair<size_t, int>> calls_;
  std::map<int, uint64_t> module_shared_;
  std::unordered_map<std::string, Slot> constants_;
};

Decoding::Decoding(Decoder& decoder, const Instruction& instruction) : from(instruction), decoder_(decoder) {
  inst.line = from.line;
  inst.source_line = from.source_line;
  if (from.guard >= 0) inst.guard = decoder.register_slot(from.guard);
  inst.guard_negated = from.guard_negated;
  size_t at = from.opcode.find('.');
  while (at != std::string::npos) {
    const size_t next = from.opcode.find('.', at + 1);
    modifiers_.push_back(from.opcode.substr(at + 1, next == std::string::npos ? next : next - at - 1));
    at = next;
  }
}

void Decoding::fail(const std::string& expected) const {
  throw Error("ERR_PTX",
              "Expected " + expected + " at line " + std::to_string(from.line) + " of the PTX but received '" +
                  from.opcode + "' in '" + decoder_.function().name + "'",
              "Teach native/ptx the instruction, or write the kernel without it.");
}

bool Decoding::take(const char* modifier) {
  for (size_t i = 0; i < modifiers_.size(); i++) {
    if (modifiers_[i] != modifier) continue;
    modifiers_.erase(modifiers_.begin() + static_cast<std::ptrdiff_t>(i));
    return true;
  }
  return false;
}

bool Decoding::take_type(Type* type) {
  for (size_t i = 0; i < modifiers_.size(); i++) {
    if (!type_from_name(modifiers_[i], type)) continue;
    modifiers_.erase(modifiers_.begin() + static_cast<std::ptrdiff_t>(i));
    return true;
  }
  return false;
}

Type Decoding::take_type() {
  Type type;
  if (!take_type(&type)) fail("a type");
  return type;
}

void Decoding::finish() const {
  if (!modifiers_.empty()) fail("no modifier '." + modifiers_[0] + "'");
  if (inst.run == nullptr) fail("a form that the emulator knows");
}

const Operand& Decoding::operand(size_t i) const {
  if (i >= from.operands.size()) fail("at least " + std::to_string(i + 1) + " operands");
  return from.operands[i];
}

Type Decoding::register_type(const Operand& operand) const {
  if (operand.kind != Operand::Kind::kRegister) fail("a register");
  return decoder_.function().registers[operand.index].type;
}

void Decoding::to(const Operand& operand, Type type) {
  if (operand.kind == Operand::Kind::kSink) return arg(decoder_.scratch(size_of(type)));
  const Type own = register_type(operand);
  if (size_of(own) != size_of(type) || (own == Type::kPred) != (type == Type::kPred))
    fail("registers of the type's size");
  arg(decoder_.register_slot(operand.index));
}

void Decoding::value(const Operand& operand, Type type) {
  switch (operand.kind) {
    case Operand::Kind::kRegister:
      if (operand.negated) fail("no negated operand");
      return to(operand, type);
    case Operand::Kind::kSpecial:
      if (size_of(type) != 4) fail("32 bits for " + operand.name);
      return arg(decoder_.special(operand.name));
    case Operand::Kind::kVariable:
    case Operand::Kind::kGlobal: {
      Space space;
      return arg(constant(decoder_.address_of(operand, &space) + static_cast<uint64_t>(operand.bits), size_of(type)));
    }
    case Operand::Kind::kImmediate:
      break;
    default:
      fail("a register or a number");
  }
  uint64_t bits = static_cast<uint64_t>(operand.bits);
  if (type == Type::kPred) {
    bits = bits != 0 ? kAllLanes : 0;
    const uint32_t lanes = static_cast<uint32_t>(bits);
    return arg(decoder_.constant(&lanes, 4));
  }
  if (operand.number == Operand::Number::kFloat32 && size_of(type) != 4) fail("a number of the type's size");
  if (operand.number == Operand::Number::kFloat64 && type == Type::kF32) {
    bits = bits_as<uint32_t>(static_cast<float>(bits_as<double>(bits)));
  }
  arg(constant(bits, size_of(type)));
}

Slot Decoding::constant(uint64_t bits, int bytes) {
  std::string lanes;
  for (int l = 0; l < kLanes; l++) lanes.append(reinterpret_cast<const char*>(&bits), static_cast<size_t>(bytes));
  return decoder_.constant(lanes.data(), lanes.size());
}

void Decoding::address(size_t i) {
  const Operand& from_operand = operand(i);
  if (from_operand.kind != Operand::Kind::kAddress) fail("an address");
  const Operand& base = from_operand.parts[0];
  inst.imm = from_operand.bits;
  if (base.kind == Operand::Kind::kRegister) {
    const int bytes = size_of(register_type(base));
    if (bytes < 4) fail("an address of 32 or 64 bits");
    inst.wide_address = bytes == 8;
    return arg(decoder_.register_slot(base.index));
  }
  inst.wide_address = true;
  if (base.kind == Operand::Kind::kImmediate) return arg(constant(static_cast<uint64_t>(base.bits), 8));
  if (base.kind != Operand::Kind::kVariable && base.kind != Operand::Kind::kGlobal) fail("an address");
  Space space;
  arg(constant(decoder_.address_of(base, &space), 8));
  if (inst.space == Space::kParam || inst.space == Space::kGeneric) inst.space = space;
}

int64_t Decoding::immediate(size_t i) const {
  const Operand& from_operand = operand(i);
  if (from_operand.kind != Operand::Kind::kImmediate) fail("a number");
  return from_operand.bits;
}

void Decoding::call(int function) { decoder_.call(function); }

std::vector<Place> Decoding::places(int function, bool results) const { return decoder_.places(function, results); }

Place Decoding::place(const Operand& operand) const {
  if (operand.kind != Operand::Kind::kVariable) fail("a variable of .param");
  Space space;
  return {decoder_.address_of(operand, &space),
          static_cast<size_t>(decoder_.function().variables[operand.index].bytes)};
}

void Decoding::alias(const Operand& operand, const Place& to) {
  if (place(operand).bytes != to.bytes) fail("results of the callee's sizes");
  decoder_.alias(operand.index, to.at);
}

std::unique_ptr<Kernel> decode(const Module& module, const std::string& entry, const std::vector<Address>& globals) {
  return Decoder(module, globals).run(entry);
}

}  // namespace ptx
}  // namespace ocelli
