// setp, set, selp, slct, testp.
#include <cmath>

#include "ptx/decode.h"
#include "ptx/floats.h"

namespace ocelli {
namespace ptx {
namespace {

enum class Compare : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kNum, kNan };

template <class T>
auto plain(T value) {
  if constexpr (std::is_arithmetic_v<T>) {
    return value;
  } else {
    return double(value);
  }
}

// With `kUnordered` (equ, ltu, ...) a NaN makes the comparison true.
template <Compare kCompare, bool kUnordered, class T>
Mask compared(const T* a, const T* b) {
  Mask out = 0;
  for (int l = 0; l < kLanes; l++) {
    const auto x = plain(a[l]), y = plain(b[l]);
    bool result = false;
    if (kCompare == Compare::kEq) result = x == y;
    if (kCompare == Compare::kNe) result = x < y || x > y;
    if (kCompare == Compare::kLt) result = x < y;
    if (kCompare == Compare::kLe) result = x <= y;
    if (kCompare == Compare::kGt) result = x > y;
    if (kCompare == Compare::kGe) result = x >= y;
    if (kCompare == Compare::kNum) result = x == x && y == y;
    if (kCompare == Compare::kNan || kUnordered) result = result || x != x || y != y;
    out |= static_cast<Mask>(result) << l;
  }
  return out;
}

// What joins the comparison with a third predicate.
enum : uint32_t { kPlain, kAnd, kOr, kXor, kJoin = 3, kNegate = 4 };

template <Compare kCompare, bool kUnordered, class T>
void setp(Warp& warp, const Inst& inst, Mask mask) {
  const Mask result = compared<kCompare, kUnordered>(warp.at<T>(inst.arg[2]), warp.at<T>(inst.arg[3]));
  Mask first = result, second = ~result;
  if ((inst.option & kJoin) != kPlain) {
    Mask with = *warp.at<Mask>(inst.arg[4]);
    if (inst.option & kNegate) with = ~with;
    const uint32_t join = inst.option & kJoin;
    first = join == kAnd ? first & with : join == kOr ? first | with : first ^ with;
    second = join == kAnd ? second & with : join == kOr ? second | with : second ^ with;
  }
  Mask* to = warp.at<Mask>(inst.arg[0]);
  *to = (*to & ~mask) | (first & mask);
  if (inst.arg[1] == kNoSlot) return;
  Mask* other = warp.at<Mask>(inst.arg[1]);
  *other = (*other & ~mask) | (second & mask);
}

template <Compare kCompare, bool kUnordered>
Handler handler_of(Decoding& d, Type type) {
  switch (type) {
    case Type::kF32:
      return setp<kCompare, kUnordered, float>;
    case Type::kF64:
      return setp<kCompare, kUnordered, double>;
    case Type::kF16:
      return setp<kCompare, kUnordered, Half>;
    case Type::kBF16:
      return setp<kCompare, kUnordered, BFloat>;
    default:
      return for_integer(d, type,
                         [](auto tag) -> Handler { return setp<kCompare, kUnordered, typename decltype(tag)::type>; });
  }
}

using Chooser = Handler (*)(Decoding&, Type);
struct Row {
  const char* name;
  Chooser choose;
};
constexpr Row kRows[] = {
    {"eq", handler_of<Compare::kEq, false>},   {"ne", handler_of<Compare::kNe, false>},
    {"lt", handler_of<Compare::kLt, false>},   {"le", handler_of<Compare::kLe, false>},
    {"gt", handler_of<Compare::kGt, false>},   {"ge", handler_of<Compare::kGe, false>},
    {"equ", handler_of<Compare::kEq, true>},   {"neu", handler_of<Compare::kNe, true>},
    {"ltu", handler_of<Compare::kLt, true>},   {"leu", handler_of<Compare::kLe, true>},
    {"gtu", handler_of<Compare::kGt, true>},   {"geu", handler_of<Compare::kGe, true>},
    {"num", handler_of<Compare::kNum, false>}, {"nan", handler_of<Compare::kNan, false>},
};
// Unsigned spellings of the integer comparisons.
constexpr Row kUnsigned[] = {{"lo", handler_of<Compare::kLt, false>},
                             {"ls", handler_of<Compare::kLe, false>},
                             {"hi", handler_of<Compare::kGt, false>},
                             {"hs", handler_of<Compare::kGe, false>}};

void build_setp(Decoding& d) {
  Chooser choose = nullptr;
  for (const Row& row : kRows) {
    if (choose == nullptr && d.take(row.name)) choose = row.choose;
  }
  for (const Row& row : kUnsigned) {
    if (choose == nullptr && d.take(row.name)) choose = row.choose;
  }
  if (choose == nullptr) d.fail("a comparison");
  d.inst.option = d.take("and") ? kAnd : d.take("or") ? kOr : d.take("xor") ? kXor : kPlain;
  d.take("ftz");
  const Type type = d.take_type();
  const bool joined = d.inst.option != kPlain;
  const bool both = d.operands() == (joined ? 5u : 4u);
  const size_t first = both ? 2 : 1;
  d.to(0, Type::kPred);
  both ? d.to(1, Type::kPred) : d.arg(kNoSlot);
  d.value(first, type);
  d.value(first + 1, type);
  if (joined) {
    Operand with = d.operand(first + 2);
    if (with.negated) d.inst.option |= kNegate;
    with.negated = false;
    d.value(with, Type::kPred);
  }
  d.emit(choose(d, type));
}

template <class T>
void select(Warp& warp, const Inst& inst, Mask mask) {
  const Mask which = *warp.at<Mask>(inst.arg[3]) ^ inst.option;
  const T* a = warp.at<T>(inst.arg[1]);
  const T* b = warp.at<T>(inst.arg[2]);
  T out[kLanes];
  for (int l = 0; l < kLanes; l++) out[l] = which >> l & 1 ? a[l] : b[l];
  commit(warp.at<T>(inst.arg[0]), out, mask);
}
void build_selp(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, type);
  d.value(1, type);
  d.value(2, type);
  Operand which = d.operand(3);
  d.inst.option = which.negated ? kAllLanes : 0;
  which.negated = false;
  d.value(which, Type::kPred);
  d.emit(for_unsigned(d, type, [](auto tag) -> Handler { return select<typename decltype(tag)::type>; }));
}

enum class Test : uint8_t { kFinite, kInfinite, kNumber, kNotANumber };
template <Test kTest>
void testp(Warp& warp, const Inst& inst, Mask mask) {
  const float* a = warp.at<float>(inst.arg[1]);
  Mask out = 0;
  for (int l = 0; l < kLanes; l++) {
    const bool result = kTest == Test::kFinite     ? std::isfinite(a[l])
                        : kTest == Test::kInfinite ? std::isinf(a[l])
                        : kTest == Test::kNumber   ? !std::isnan(a[l])
                                                   : std::isnan(a[l]);
    out |= static_cast<Mask>(result) << l;
  }
  Mask* to = warp.at<Mask>(inst.arg[0]);
  *to = (*to & ~mask) | (out & mask);
}
void build_testp(Decoding& d) {
  Handler handler = d.take("finite")       ? Handler(testp<Test::kFinite>)
                    : d.take("infinite")   ? Handler(testp<Test::kInfinite>)
                    : d.take("number")     ? Handler(testp<Test::kNumber>)
                    : d.take("notanumber") ? Handler(testp<Test::kNotANumber>)
                                           : nullptr;
  if (d.take_type() != Type::kF32) d.fail("f32");
  d.to(0, Type::kPred);
  d.value(1, Type::kF32);
  d.emit(handler);
}

}  // namespace

void add_compare(Table& table) {
  table["setp"] = build_setp;
  table["selp"] = build_selp;
  table["testp"] = build_testp;
}

}  // namespace ptx
}  // namespace ocelli
