// add, sub, mul, mad, fma, div, rem: integers with their carries, floats with their roundings.
#include "ptx/ops_float.h"

namespace ocelli {
namespace ptx {
namespace {

// Unsigned and at least as wide as int: where sums and products wrap without undefined behaviour.
template <class T>
using Wrap = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Wrap<T>>(a) + static_cast<Wrap<T>>(b));
  }
};
struct Sub {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Wrap<T>>(a) - static_cast<Wrap<T>>(b));
  }
};
struct Mul {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Wrap<T>>(a) * static_cast<Wrap<T>>(b));
  }
};
struct Fma {
  template <class T>
  T operator()(T a, T b, T c) const {
    return fused(a, b, c);
  }
};
struct MadLow {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add{}(Mul{}(a, b), c);
  }
};

template <class T>
T high(T a, T b) {
  using Wide = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
  return static_cast<T>(static_cast<Wide>(a) * static_cast<Wide>(b) >> sizeof(T) * 8);
}
struct MulHigh {
  template <class T>
  T operator()(T a, T b) const {
    return high(a, b);
  }
};
struct MadHigh {
  template <class T>
  T operator()(T a, T b, T c) const {
    return Add{}(high(a, b), c);
  }
};
template <class T>
using Wider = std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
                                 std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;
struct MulWide {
  template <class T>
  Wider<T> operator()(T a, T b) const {
    return static_cast<Wider<T>>(static_cast<Wider<T>>(a) * static_cast<Wider<T>>(b));
  }
};
struct MadWide {
  template <class T>
  Wider<T> operator()(T a, T b, Wider<T> c) const {
    return Add{}(MulWide{}(a, b), c);
  }
};

// Division by zero gives all ones on a GPU, and nothing on the host that one may run.
struct Div {
  template <class T>
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return static_cast<T>(-1);
      if (std::is_signed_v<T> && b == static_cast<T>(-1)) return Sub{}(T{0}, a);
    }
    return a / b;
  }
};
struct Rem {
  template <class T>
  T operator()(T a, T b) const {
    if (b == 0) return a;
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return a % b;
  }
};

// f32 rounded otherwise than to nearest. A product of two f32 is exact in double.
template <class F>
struct Directed {
  Rounding rounding;
  float make(double value) const { return bits_as<float>(narrow<8, 23>(value, rounding)); }
  float operator()(float a, float b) const {
    if (std::is_same_v<F, Mul>) return make(double(a) * double(b));
    return make(sum_to_odd(a, std::is_same_v<F, Sub> ? -double(b) : double(b)));
  }
  float operator()(float a, float b, float c) const { return make(sum_to_odd(double(a) * double(b), c)); }
};
template <class F, class... S>
void directed(Warp& warp, const Inst& inst, Mask mask) {
  map_lanes<float, Directed<F>, S...>(warp, inst, mask, Directed<F>{static_cast<Rounding>(inst.option)},
                                      std::index_sequence_for<S...>{});
}

template <class F, class... S>
void build_rounded(Decoding& d) {
  const Rounding rounding = take_rounding(d);
  if (rounding == Rounding::kNearest) return build_float32<F, S...>(d);
  d.inst.option = static_cast<uint32_t>(rounding);
  d.emit(directed<F, S...>);
}

// The carry of add.cc, sub.cc, mad.cc and their continuations, one bit a lane.
enum class Carry { kAdd, kSub, kMadLow, kMadHigh };
constexpr uint32_t kCarryIn = 1;
constexpr uint32_t kCarryOut = 2;

template <Carry kKind, class T>
void carried(Warp& warp, const Inst& inst, Mask mask) {
  using Wide = unsigned __int128;
  T out[kLanes];
  Mask carry = warp.carry & ~mask;
  const T* a = warp.at<T>(inst.arg[1]);
  const T* b = warp.at<T>(inst.arg[2]);
  for (int l = 0; l < kLanes; l++) {
    const Wide in = (inst.option & kCarryIn) ? warp.carry >> l & 1 : 0;
    Wide result;
    if (kKind == Carry::kAdd) {
      result = Wide{a[l]} + b[l] + in;
    } else if (kKind == Carry::kSub) {
      result = Wide{a[l]} - b[l] - in;
    } else {
      const T* c = warp.at<T>(inst.arg[3]);
      const Wide product = Wide{a[l]} * b[l];
      result = static_cast<T>(kKind == Carry::kMadLow ? product : product >> sizeof(T) * 8) + Wide{c[l]} + in;
    }
    out[l] = static_cast<T>(result);
    if (mask >> l & static_cast<Mask>(result >> sizeof(T) * 8 & 1)) carry |= Mask{1} << l;
  }
  if (inst.option & kCarryOut) warp.carry = carry;
  commit(warp.at<T>(inst.arg[0]), out, mask);
}

template <Carry kKind>
void build_carry(Decoding& d, Type type, bool in) {
  d.inst.option = (in ? kCarryIn : 0) | (d.take("cc") ? kCarryOut : 0);
  if (kKind == Carry::kMadHigh && type != Type::kU32 && type != Type::kB32) d.fail("u32");
  d.emit(size_of(type) == 8 ? Handler(carried<kKind, uint64_t>) : Handler(carried<kKind, uint32_t>));
}

template <class F, Carry kCarry>
void build_sum(Decoding& d) {
  const bool carry_in = d.from.opcode[3] == 'c';
  const Type type = d.take_type();
  push(d, type, 2);
  if (type == Type::kF32) return build_rounded<F, float, float>(d);
  if (is_float(type)) {
    d.take("rn");
    return d.emit(other_float<F>(d, type));
  }
  if (carry_in || d.from.opcode.find(".cc") != std::string::npos) return build_carry<kCarry>(d, type, carry_in);
  d.emit(for_unsigned(d, type, [](auto tag) -> Handler { return same<F, typename decltype(tag)::type>(); }));
}

template <bool kAdd>
void build_product(Decoding& d) {
  const bool carry_in = d.from.opcode.rfind("madc", 0) == 0;
  const bool wide = d.take("wide"), upper = d.take("hi");
  d.take("lo");
  const Type type = d.take_type();
  const size_t operands = kAdd ? 3 : 2;
  if (is_float(type)) {
    push(d, type, operands);
    if (type == Type::kF32) {
      if constexpr (kAdd) return build_rounded<Fma, float, float, float>(d);
      if constexpr (!kAdd) return build_rounded<Mul, float, float>(d);
    }
    d.take("rn");
    return d.emit(kAdd ? other_float<Fma>(d, type) : other_float<Mul>(d, type));
  }
  if (wide) {
    const Type twice = size_of(type) == 2 ? Type::kB32 : Type::kB64;
    if (size_of(type) > 4) d.fail("16 or 32 bits");
    d.to(0, twice);
    d.value(1, type);
    d.value(2, type);
    if (kAdd) d.value(3, twice);
    return d.emit(for_integer(d, type, [](auto tag) -> Handler {
      using T = typename decltype(tag)::type;
      using W = Wider<T>;
      return kAdd ? Handler(alu<MadWide, W, T, T, W>) : Handler(alu<MulWide, W, T, T>);
    }));
  }
  push(d, type, operands);
  if (carry_in || d.from.opcode.find(".cc") != std::string::npos) {
    return upper ? build_carry<Carry::kMadHigh>(d, type, carry_in) : build_carry<Carry::kMadLow>(d, type, carry_in);
  }
  d.emit(for_integer(d, type, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    if (kAdd) return upper ? Handler(alu<MadHigh, T, T, T, T>) : Handler(alu<MadLow, T, T, T, T>);
    return upper ? Handler(alu<MulHigh, T, T, T>) : Handler(alu<Mul, T, T, T>);
  }));
}

void build_div(Decoding& d) {
  const bool approximate = d.take("approx") || d.take("full");
  d.take("rn");
  const Type type = d.take_type();
  push(d, type, 2);
  if (type == Type::kF32) return build_float32<Div, float, float>(d);
  if (type == Type::kF64 && !approximate) return d.emit(alu<Div, double, double, double>);
  d.emit(for_integer(d, type, [](auto tag) -> Handler { return same<Div, typename decltype(tag)::type>(); }));
}

void build_rem(Decoding& d) {
  const Type type = d.take_type();
  push(d, type, 2);
  d.emit(for_integer(d, type, [](auto tag) -> Handler { return same<Rem, typename decltype(tag)::type>(); }));
}

}  // namespace

void add_arithmetic(Table& table) {
  table["add"] = table["addc"] = build_sum<Add, Carry::kAdd>;
  table["sub"] = table["subc"] = build_sum<Sub, Carry::kSub>;
  table["mul"] = build_product<false>;
  table["mad"] = table["madc"] = table["fma"] = build_product<true>;
  table["div"] = build_div;
  table["rem"] = build_rem;
}

}  // namespace ptx
}  // namespace ocelli
