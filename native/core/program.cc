// Reads a program's JSON. What the parts mean to each other is checked in program_check.cc.
#include "core/program.h"

#include <limits>

#include "core/json.h"
#include "core/program_check.h"

namespace ocelli {

namespace {

// Beyond what any model needs; each keeps a hostile program from costing more than its text.
constexpr size_t kMaxText = 256u << 20;
constexpr size_t kMaxSymbols = 64;
constexpr size_t kMaxTerms = 16;
constexpr int64_t kMaxFactor = int64_t{1} << 40;

// Which keys of one object have been seen: a key that comes twice is refused.
class Keys {
 public:
  explicit Keys(const JsonReader& reader) : reader_(reader) {}
  // The position of `key` among `known`; fails for others and for a second time.
  template <size_t N>
  size_t at(const std::string& key, const char* const (&known)[N]) {
    static_assert(N <= 32, "one bit each");
    for (size_t i = 0; i < N; i++) {
      if (key != known[i]) continue;
      if ((seen_ >> i & 1) != 0) reader_.fail("each key once ('" + key + "')");
      seen_ |= 1u << i;
      return i;
    }
    reader_.fail("a known key instead of '" + key.substr(0, 40) + "'");
  }
  void require(size_t i, const char* name) const {
    if ((seen_ >> i & 1) == 0) reader_.fail(std::string("the key '") + name + "' before this place");
  }
  bool has(size_t i) const { return (seen_ >> i & 1) != 0; }

 private:
  const JsonReader& reader_;
  uint32_t seen_ = 0;
};

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text), json_(text, "ERR_PROGRAM", "the program") {}

  Program parse() {
    if (text_.size() > kMaxText) json_.fail("a program of at most 256 MiB");
    find_symbols();
    static const char* const kKeys[] = {"name",      "symbols", "values",  "inputs", "weights",
                                        "constants", "ops",     "outputs", "taps"};
    Keys keys = object(kKeys, [&](size_t key) {
      switch (key) {
        case 0:
          program_.name = json_.string();
          break;
        case 1:
          json_.skip();
          break;
        case 2:
          for_each([this] { value(); });
          break;
        case 3:
          for_each([this] { input(); });
          break;
        case 4:
          for_each([this] { weight(); });
          break;
        case 5:
          for_each([this] { constant(); });
          break;
        case 6:
          for_each([this] { op(); });
          break;
        case 7:
          named_values(&program_.outputs);
          break;
        default:
          named_values(&program_.taps);
      }
    });
    for (size_t i : {0, 1, 2, 3, 4, 6, 7}) keys.require(i, kKeys[i]);
    json_.finish();
    return std::move(program_);
  }

 private:
  // Reads an object: field(i) reads the value of the key names[i]. What was there is returned.
  template <size_t N, class F>
  Keys object(const char* const (&names)[N], F field) {
    Keys keys(json_);
    std::string key;
    json_.begin_object();
    while (json_.next_key(&key)) field(keys.at(key, names));
    return keys;
  }

  template <class F>
  void for_each(F element) {
    json_.begin_array();
    while (json_.next_element()) element();
  }

  // Dimensions name symbols, and keys come in any order.
  void find_symbols() {
    JsonReader ahead(text_, "ERR_PROGRAM", "the program");
    std::string key;
    ahead.begin_object();
    while (ahead.next_key(&key)) {
      if (key != "symbols") {
        ahead.skip();
        continue;
      }
      ahead.begin_array();
      while (ahead.next_element()) {
        program_.symbols.push_back(ahead.string(256));
        if (program_.symbols.size() > kMaxSymbols) ahead.fail("at most " + std::to_string(kMaxSymbols) + " symbols");
      }
      return;
    }
  }

  int64_t bounded(int64_t min, int64_t max) {
    int64_t number = json_.integer();
    if (number < min || number > max)
      json_.fail("an integer from " + std::to_string(min) + " to " + std::to_string(max));
    return number;
  }

  int32_t index() { return static_cast<int32_t>(bounded(0, std::numeric_limits<int32_t>::max())); }

  Dim dim() {
    Dim dim;
    if (json_.peek() == JsonReader::Kind::kNumber) {
      dim.constant = bounded(-kMaxFactor, kMaxFactor);
      return dim;
    }
    static const char* const kKeys[] = {"c", "terms"};
    Keys keys = object(kKeys, [&](size_t key) {
      if (key == 0) {
        dim.constant = bounded(-kMaxFactor, kMaxFactor);
      } else {
        for_each([this, &dim] { dim.terms.push_back(term()); });
        if (dim.terms.size() > kMaxTerms) json_.fail("at most " + std::to_string(kMaxTerms) + " terms");
      }
    });
    keys.require(1, "terms");
    return dim;
  }

  DimTerm term() {
    static const char* const kKeys[] = {"sym", "mul", "div"};
    DimTerm term = {-1, 1, 1};
    Keys keys = object(kKeys, [&](size_t key) {
      switch (key) {
        case 0: {
          std::string name = json_.string(256);
          for (size_t i = 0; i < program_.symbols.size(); i++) {
            if (program_.symbols[i] == name) term.symbol = static_cast<int32_t>(i);
          }
          if (term.symbol < 0) json_.fail("a declared symbol instead of '" + name.substr(0, 40) + "'");
          break;
        }
        case 1:
          term.mul = bounded(-kMaxFactor, kMaxFactor);
          break;
        default:
          term.div = bounded(1, kMaxFactor);
      }
    });
    keys.require(0, "sym");
    return term;
  }

  void value() {
    static const char* const kKeys[] = {"kind", "dtype", "shape", "of", "dim", "start", "path"};
    Value value;
    value.kind = ValueKind::kOp;
    value.dtype = DType::kF32;
    Keys keys = object(kKeys, [&](size_t key) {
      switch (key) {
        case 0:
          value.kind = value_kind();
          break;
        case 1: {
          std::string name = json_.string(16);
          if (name == "i32") {
            value.dtype = DType::kI32;
          } else if (name != "act" && name != "f32") {
            json_.fail("the dtype act, f32 or i32 instead of '" + name + "'");
          }
          break;
        }
        case 2:
          for_each([this, &value] {
            value.shape.push_back(dim());
            if (value.shape.size() > static_cast<size_t>(kMaxRank))
              json_.fail("at most " + std::to_string(kMaxRank) + " dimensions");
          });
          break;
        case 3:
          value.source = index();
          break;
        case 4:
          value.dim = index();
          break;
        case 5:
          value.start = dim();
          break;
        default:
          value.path = json_.string();
      }
    });
    for (size_t i : {0, 1, 2}) keys.require(i, kKeys[i]);
    bool view =
        value.kind == ValueKind::kSlice || value.kind == ValueKind::kReshape || value.kind == ValueKind::kExpand;
    if (keys.has(3) != view) json_.fail(view ? "the key 'of' in a view" : "no key 'of' outside views");
    if (value.kind == ValueKind::kSlice) keys.require(4, "dim");
    program_.values.push_back(std::move(value));
  }

  ValueKind value_kind() {
    static const std::pair<const char*, ValueKind> kKinds[] = {
        {"input", ValueKind::kInput},   {"weight", ValueKind::kWeight}, {"constant", ValueKind::kConstant},
        {"op", ValueKind::kOp},         {"slice", ValueKind::kSlice},   {"reshape", ValueKind::kReshape},
        {"expand", ValueKind::kExpand},
    };
    std::string name = json_.string(16);
    for (const auto& kind : kKinds) {
      if (name == kind.first) return kind.second;
    }
    json_.fail("a kind of value instead of '" + name + "'");
  }

  void input() {
    static const char* const kKeys[] = {"name", "kind", "value"};
    ProgramInput input;
    Keys keys = object(kKeys, [&](size_t key) {
      switch (key) {
        case 0:
          input.name = json_.string(1024);
          break;
        case 1:
          input.kind = json_.string(16);
          break;
        default:
          input.value = index();
      }
    });
    for (size_t i : {0, 1, 2}) keys.require(i, kKeys[i]);
    bool known = false;
    for (const char* kind : {"data", "rowIndex", "cuSeqlens", "positions", "tokens"})
      known = known || input.kind == kind;
    if (!known) json_.fail("a kind of input instead of '" + input.kind + "'");
    program_.inputs.push_back(std::move(input));
  }

  void weight() {
    static const char* const kKeys[] = {"name", "shape", "linear", "parts", "value"};
    ProgramWeight weight;
    weight.linear = false;
    Keys keys = object(kKeys, [&](size_t key) {
      switch (key) {
        case 0:
          weight.name = json_.string(1024);
          break;
        case 1:
          for_each([this, &weight] {
            weight.shape.push_back(bounded(0, kMaxFactor));
            if (weight.shape.size() > static_cast<size_t>(kMaxRank))
              json_.fail("at most " + std::to_string(kMaxRank) + " dimensions");
          });
          break;
        case 2:
          weight.linear = json_.boolean();
          break;
        case 3:
          for_each([this, &weight] { weight.parts.push_back(json_.string(1024)); });
          break;
        default:
          weight.value = index();
      }
    });
    for (size_t i : {0, 1, 4}) keys.require(i, kKeys[i]);
    if (weight.parts.empty()) weight.parts.push_back(weight.name);
    program_.weights.push_back(std::move(weight));
  }

  void constant() {
    static const char* const kKeys[] = {"value", "data"};
    ProgramConstant constant;
    Keys keys = object(kKeys, [&](size_t key) {
      if (key == 0) {
        constant.value = index();
      } else {
        for_each([this, &constant] { constant.data.push_back(json_.number()); });
      }
    });
    for (size_t i : {0, 1}) keys.require(i, kKeys[i]);
    program_.constants.push_back(std::move(constant));
  }

  void op() {
    static const char* const kKeys[] = {"op", "in", "out", "attrs", "path"};
    ProgramOp op;
    Keys keys = object(kKeys, [&](size_t key) {
      switch (key) {
        case 0: {
          std::string name = json_.string(64);
          if (!op_from_name(name, &op.op)) json_.fail("an op that this build has instead of '" + name + "'");
          break;
        }
        case 1:
          for_each([this, &op] {
            if (json_.peek() == JsonReader::Kind::kNull) {
              json_.null();
              op.in.push_back(-1);
            } else {
              op.in.push_back(index());
            }
          });
          break;
        case 2:
          for_each([this, &op] { op.out.push_back(index()); });
          break;
        case 3:
          attrs(&op.attrs);
          break;
        default:
          op.path = json_.string(4096);
      }
    });
    for (size_t i : {0, 1, 2, 4}) keys.require(i, kKeys[i]);
    program_.ops.push_back(std::move(op));
  }

  void attrs(Attrs* attrs) {
    std::string key;
    json_.begin_object();
    while (json_.next_key(&key)) {
      if (attrs->numbers.size() + attrs->strings.size() + attrs->lists.size() >= 32)
        json_.fail("at most 32 attributes");
      for (const auto& entry : attrs->numbers) refuse_twice(entry.first, key);
      for (const auto& entry : attrs->strings) refuse_twice(entry.first, key);
      for (const auto& entry : attrs->lists) refuse_twice(entry.first, key);
      switch (json_.peek()) {
        case JsonReader::Kind::kString:
          attrs->strings.emplace_back(key, json_.string(256));
          break;
        case JsonReader::Kind::kArray: {
          std::vector<double> list;
          for_each([this, &list] { list.push_back(json_.number()); });
          attrs->lists.emplace_back(key, std::move(list));
          break;
        }
        default:
          attrs->numbers.emplace_back(key, json_.number());
      }
    }
  }

  void refuse_twice(const std::string& known, const std::string& key) {
    if (known == key) json_.fail("each attribute once ('" + key.substr(0, 40) + "')");
  }

  void named_values(std::map<std::string, int32_t>* map) {
    std::string key;
    json_.begin_object();
    while (json_.next_key(&key)) {
      if (!map->emplace(key, index()).second) json_.fail("each name once ('" + key.substr(0, 80) + "')");
    }
  }

  const std::string& text_;
  JsonReader json_;
  Program program_;
};

}  // namespace

Program Program::parse(const std::string& json) {
  Program program = Parser(json).parse();
  check_program(program);
  return program;
}

}  // namespace ocelli
