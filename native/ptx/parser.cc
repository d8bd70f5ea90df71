#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <optional>

#include "core/check.h"
#include "ptx/lexer.h"
#include "ptx/module.h"

namespace ocelli {
namespace ptx {
namespace {

// Names of one pair of braces. Inline assembly opens its own, and its labels stay inside.
struct Scope {
  std::map<std::string, Operand, std::less<>> names;
  std::map<std::string, int, std::less<>> labels;
  std::vector<std::pair<int, int>> branches;  // instruction and operand whose label is not yet known
};

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(lex(source)) {}

  Module run() {
    scopes_.emplace_back();
    while (current().kind != Token::Kind::kEnd) statement_of_module();
    return std::move(module_);
  }

 private:
  const Token& current() const { return tokens_[at_]; }
  Token take() { return tokens_[at_ < tokens_.size() - 1 ? at_++ : at_]; }
  bool accept(std::string_view text) {
    if (!current().is(text)) return false;
    take();
    return true;
  }
  void expect(std::string_view text) {
    if (!accept(text)) fail("'" + std::string(text) + "'");
  }
  [[noreturn]] void fail(const std::string& expected) const {
    throw Error("ERR_PTX", "Expected " + expected + " at line " + std::to_string(current().line) +
                               " of the PTX but received '" + std::string(current().text) + "'");
  }
  std::string word() {
    if (current().kind != Token::Kind::kWord) fail("a name");
    return std::string(take().text);
  }
  int64_t integer() {
    const bool negative = accept("-");
    const Operand operand = number();
    if (operand.number != Operand::Number::kInteger) fail("an integer");
    return negative ? -operand.bits : operand.bits;
  }

  // 12, 0xFFU, 0f3F800000, 0d3FF0000000000000, 1.5
  Operand number() {
    if (current().kind != Token::Kind::kNumber) fail("a number");
    const std::string text(take().text);
    Operand operand;
    operand.kind = Operand::Kind::kImmediate;
    if (text.size() == 10 && (text[1] == 'f' || text[1] == 'F')) {
      operand.number = Operand::Number::kFloat32;
      operand.bits = static_cast<int64_t>(std::strtoull(text.c_str() + 2, nullptr, 16));
    } else if (text.size() == 18 && (text[1] == 'd' || text[1] == 'D')) {
      operand.number = Operand::Number::kFloat64;
      operand.bits = static_cast<int64_t>(std::strtoull(text.c_str() + 2, nullptr, 16));
    } else if (text.find('.') != text.npos) {
      const double value = std::strtod(text.c_str(), nullptr);
      operand.number = Operand::Number::kFloat64;
      std::memcpy(&operand.bits, &value, 8);
    } else {
      operand.bits = static_cast<int64_t>(std::strtoull(text.c_str(), nullptr, 0));
    }
    return operand;
  }

  void statement_of_module() {
    if (accept(".version") || accept(".address_size")) {
      take();
    } else if (accept(".target")) {
      do take();
      while (accept(","));
    } else if (current().is(".file")) {
      skip_line();
    } else if (accept(".section")) {
      take();
      while (!accept("}")) take();
    } else {
      while (accept(".visible") || accept(".extern") || accept(".weak") || accept(".common")) continue;
      if (accept(".entry")) {
        function(true);
      } else if (accept(".func")) {
        function(false);
      } else if (std::optional<Variable> variable = declaration()) {
        declare_global(std::move(*variable));
        while (accept(",")) fail("one variable a line");
        expect(";");
      } else {
        fail("a directive");
      }
    }
  }

  void skip_line() {
    const int line = current().line;
    while (current().line == line && current().kind != Token::Kind::kEnd) take();
  }

  void declare_global(Variable variable) {
    Operand operand;
    operand.kind = Operand::Kind::kGlobal;
    operand.index = static_cast<int>(module_.globals.size());
    scopes_.front().names[variable.name] = operand;
    module_.globals.push_back(std::move(variable));
  }

  // .shared .align 4 .b8 name[16] = {..}; nothing where no space begins here.
  std::optional<Variable> declaration() {
    static const std::map<std::string, Space, std::less<>> kSpaces = {{".global", Space::kGlobal},
                                                                      {".const", Space::kConst},
                                                                      {".shared", Space::kShared},
                                                                      {".local", Space::kLocal},
                                                                      {".param", Space::kParam}};
    const auto space = kSpaces.find(current().text);
    if (space == kSpaces.end()) return std::nullopt;
    take();
    Variable variable;
    variable.space = space->second;
    int64_t align = 0;
    if (accept(".align")) align = integer();
    Type type;
    if (!type_from_name(std::string_view(word()).substr(1), &type)) fail("a type");
    if (accept(".ptr")) {  // where a pointer points and how it is aligned: a promise that nothing here relies on
      while (current().is(".global") || current().is(".shared") || current().is(".const") || current().is(".local"))
        take();
      if (accept(".align")) integer();
    }
    variable.align = align > 0 ? align : size_of(type);
    variable.name = word();
    variable.bytes = size_of(type);
    while (accept("[")) {
      variable.bytes *= current().is("]") ? 0 : integer();
      expect("]");
    }
    if (accept("=")) {
      const bool list = accept("{");
      do {
        const bool negative = accept("-");
        const int64_t bits = negative ? -number().bits : number().bits;
        const uint8_t* bytes = reinterpret_cast<const uint8_t*>(&bits);
        variable.init.insert(variable.init.end(), bytes, bytes + size_of(type));
      } while (list && accept(","));
      if (list) expect("}");
      variable.init.resize(static_cast<size_t>(variable.bytes));
    }
    return variable;
  }

  std::vector<int> parameters() {
    std::vector<int> indices;
    if (!accept("(")) return indices;
    while (!accept(")")) {
      std::optional<Variable> variable = declaration();
      if (!variable) fail(".param");
      indices.push_back(declare(std::move(*variable)));
      accept(",");
    }
    return indices;
  }

  int declare(Variable variable) {
    Operand operand;
    operand.kind = Operand::Kind::kVariable;
    operand.index = static_cast<int>(function_->variables.size());
    scopes_.back().names[variable.name] = operand;
    function_->variables.push_back(std::move(variable));
    return operand.index;
  }

  void function(bool entry) {
    Function parsed;
    function_ = &parsed;
    scopes_.emplace_back();
    parsed.entry = entry;
    if (!entry) parsed.returns = parameters();
    parsed.name = word();
    parsed.params = parameters();
    accept(".noreturn");
    while (accept(".maxntid") || accept(".reqntid") || accept(".minnctapersm") || accept(".maxnreg")) {
      do integer();
      while (accept(","));
    }
    const int index = declare_function(parsed.name);
    if (!accept(";")) {
      expect("{");
      while (!accept("}")) statement();
      close_scope();
      parsed.defined = true;
    } else {
      scopes_.pop_back();
    }
    if (parsed.defined || !module_.functions[index].defined) module_.functions[index] = std::move(parsed);
  }

  int declare_function(const std::string& name) {
    for (size_t i = 0; i < module_.functions.size(); i++) {
      if (module_.functions[i].name == name) return static_cast<int>(i);
    }
    Operand operand;
    operand.kind = Operand::Kind::kFunction;
    operand.index = static_cast<int>(module_.functions.size());
    scopes_.front().names[name] = operand;
    module_.functions.emplace_back();
    module_.functions.back().name = name;
    return operand.index;
  }

  void close_scope() {
    Scope scope = std::move(scopes_.back());
    scopes_.pop_back();
    for (const auto& [instruction, position] : scope.branches) {
      Operand& operand = function_->code[instruction].operands[position];
      const auto label = scope.labels.find(operand.name);
      if (label != scope.labels.end()) {
        operand.kind = Operand::Kind::kLabel;
        operand.index = label->second;
      } else if (scopes_.size() > 1) {
        scopes_.back().branches.emplace_back(instruction, position);
      } else {
        throw Error("ERR_PTX", "Expected a name that '" + function_->name + "' knows at line " +
                                   std::to_string(function_->code[instruction].line) + " of the PTX but received '" +
                                   operand.name + "'");
      }
    }
  }

  void statement() {
    if (accept("{")) {
      scopes_.emplace_back();
      while (!accept("}")) statement();
      close_scope();
    } else if (accept(".loc")) {
      const bool own = integer() == 1;  // not a header's
      const int source_line = static_cast<int>(integer());
      if (own) source_line_ = source_line;
      const int line = tokens_[at_ - 1].line;
      while (current().line == line) take();
    } else if (accept(".pragma")) {
      take();
      expect(";");
    } else if (accept(".reg")) {
      registers();
    } else if (accept(";")) {
      // An empty statement, as inline assembly leaves them.
    } else if (std::optional<Variable> variable = declaration()) {
      declare(std::move(*variable));
      expect(";");
    } else if (current().kind == Token::Kind::kWord && tokens_[at_ + 1].is(":")) {
      scopes_.back().labels[word()] = static_cast<int>(function_->code.size());
      expect(":");
    } else {
      instruction();
    }
  }

  // .reg .b32 %r<144>; .reg .pred p, q;
  void registers() {
    Type type;
    if (!type_from_name(std::string_view(word()).substr(1), &type)) fail("a register type");
    do {
      const std::string name = word();
      if (accept("<")) {
        const int64_t count = integer();
        for (int64_t i = 0; i < count; i++) declare_register(name + std::to_string(i), type);
        expect(">");
      } else {
        declare_register(name, type);
      }
    } while (accept(","));
    expect(";");
  }

  void declare_register(const std::string& name, Type type) {
    Operand operand;
    operand.kind = Operand::Kind::kRegister;
    operand.index = static_cast<int>(function_->registers.size());
    scopes_.back().names[name] = operand;
    function_->registers.push_back({name, type});
  }

  void instruction() {
    Instruction instruction;
    instruction.line = current().line;
    instruction.source_line = source_line_;
    if (accept("@")) {
      instruction.guard_negated = accept("!");
      const Operand guard = operand();
      if (guard.kind != Operand::Kind::kRegister) fail("a predicate");
      instruction.guard = guard.index;
    }
    instruction.opcode = word();
    while (!accept(";")) {
      instruction.operands.push_back(operand());
      if (accept("|")) instruction.operands.push_back(operand());
      if (!current().is(";")) expect(",");
    }
    const int index = static_cast<int>(function_->code.size());
    for (size_t i = 0; i < instruction.operands.size(); i++) {
      const Operand& operand = instruction.operands[i];
      if (operand.kind == Operand::Kind::kLabel) scopes_.back().branches.emplace_back(index, static_cast<int>(i));
    }
    function_->code.push_back(std::move(instruction));
  }

  Operand operand() {
    Operand result;
    if (accept("[")) {
      result.kind = Operand::Kind::kAddress;
      result.parts.push_back(operand());
      if (result.parts[0].kind != Operand::Kind::kRegister) std::swap(result.bits, result.parts[0].bits);
      if (accept("+")) result.bits += integer();
      if (current().is("-")) result.bits += integer();
      expect("]");
    } else if (current().is("{") || current().is("(")) {
      const char* close = take().is("{") ? "}" : ")";
      result.kind = Operand::Kind::kVector;
      while (!accept(close)) {
        result.parts.push_back(operand());
        accept(",");
      }
    } else if (accept("!")) {
      result = operand();
      result.negated = true;
    } else if (accept("-")) {
      result = number();
      if (result.number == Operand::Number::kInteger) {
        result.bits = -result.bits;
      } else {
        result.bits ^= result.number == Operand::Number::kFloat32 ? int64_t{1} << 31 : INT64_MIN;
      }
    } else if (current().kind == Token::Kind::kNumber) {
      result = number();
    } else if (accept("_")) {
      result.kind = Operand::Kind::kSink;
    } else {
      result = named(word());
      if ((result.kind == Operand::Kind::kVariable || result.kind == Operand::Kind::kGlobal) && accept("+"))
        result.bits = integer();
    }
    return result;
  }

  Operand named(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto found = scope->names.find(name);
      if (found != scope->names.end()) return found->second;
    }
    Operand result;
    result.kind = name[0] == '%' ? Operand::Kind::kSpecial : Operand::Kind::kLabel;
    result.name = name;
    if (name == "WARP_SZ") {
      result.kind = Operand::Kind::kImmediate;
      result.bits = 32;
    }
    return result;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Module module_;
  std::vector<Scope> scopes_;
  Function* function_ = nullptr;
  int source_line_ = 0;
};

}  // namespace

Module parse(std::string_view source) { return Parser(source).run(); }

}  // namespace ptx
}  // namespace ocelli
