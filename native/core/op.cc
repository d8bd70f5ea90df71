#include "core/op.h"

namespace ocelli {

namespace contract {
#define OCELLI_OP(name) extern const OpContract name;
#include "core/ops.def"
#undef OCELLI_OP
}  // namespace contract

namespace {

const OpContract* const kContracts[] = {
#define OCELLI_OP(name) &contract::name,
#include "core/ops.def"
#undef OCELLI_OP
};

const char* const kNames[] = {
#define OCELLI_OP(name) #name,
#include "core/ops.def"
#undef OCELLI_OP
};

}  // namespace

void fail_index(const OpCall& call, const char* operand, const char* expected, int64_t limit, int64_t found,
                int64_t at) {
  throw Error("ERR_INDEX", "Expected " + std::string(expected) + " " + std::to_string(limit) + " for '" + operand +
                               "' of " + call.path + " but received " + std::to_string(found) + " at " +
                               std::to_string(at));
}

const OpContract* contract_of(Op op) { return kContracts[static_cast<int>(op)]; }

const char* name_of(Op op) { return op < Op::kCount ? kNames[static_cast<int>(op)] : "unknown"; }

bool op_from_name(const std::string& name, Op* op) {
  for (int i = 0; i < static_cast<int>(Op::kCount); i++) {
    if (name == kNames[i]) {
      *op = static_cast<Op>(i);
      return true;
    }
  }
  return false;
}

double Attrs::number(const char* name, double fallback) const {
  for (const auto& entry : numbers) {
    if (entry.first == name) return entry.second;
  }
  return fallback;
}

double Attrs::number(const char* name) const {
  for (const auto& entry : numbers) {
    if (entry.first == name) return entry.second;
  }
  throw Error("ERR_PROGRAM",
              std::string("Expected the number '") + name + "' among an op's attributes but received none");
}

const std::string& Attrs::string(const char* name) const {
  for (const auto& entry : strings) {
    if (entry.first == name) return entry.second;
  }
  throw Error("ERR_PROGRAM",
              std::string("Expected the string '") + name + "' among an op's attributes but received none");
}

const std::vector<double>* Attrs::list(const char* name) const {
  for (const auto& entry : lists) {
    if (entry.first == name) return &entry.second;
  }
  return nullptr;
}

}  // namespace ocelli
