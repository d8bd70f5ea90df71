#include "ptx/module.h"

#include "core/check.h"

namespace ocelli {
namespace ptx {
namespace {

struct TypeRow {
  const char* name;
  int bytes;
};

// In the order of Type.
constexpr TypeRow kTypes[] = {{"pred", 4},  {"b8", 1},   {"b16", 2},    {"b32", 4}, {"b64", 8}, {"u8", 1},  {"u16", 2},
                              {"u32", 4},   {"u64", 8},  {"s8", 1},     {"s16", 2}, {"s32", 4}, {"s64", 8}, {"f16", 2},
                              {"f16x2", 4}, {"bf16", 2}, {"bf16x2", 4}, {"f32", 4}, {"f64", 8}};

}  // namespace

int size_of(Type type) { return kTypes[static_cast<int>(type)].bytes; }
bool is_float(Type type) { return type >= Type::kF16; }
bool is_signed(Type type) { return type >= Type::kS8 && type <= Type::kS64; }

bool type_from_name(std::string_view name, Type* type) {
  for (size_t i = 0; i < sizeof kTypes / sizeof kTypes[0]; i++) {
    if (name != kTypes[i].name) continue;
    *type = static_cast<Type>(i);
    return true;
  }
  return false;
}

const Function& Module::entry(const std::string& name) const {
  std::string known;
  for (const Function& function : functions) {
    if (!function.entry) continue;
    if (function.name == name) return function;
    known += (known.empty() ? "" : ", ") + function.name;
  }
  throw Error("ERR_PTX", "Expected a kernel (" + known + ") but received '" + name + "'");
}

}  // namespace ptx
}  // namespace ocelli
