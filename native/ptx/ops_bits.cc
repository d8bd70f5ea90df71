// Logic, shifts, bit fields and byte permutations.
#include <cmath>

#include "ptx/decode.h"
#include "ptx/floats.h"

namespace ocelli {
namespace ptx {
namespace {

struct And {
  template <class T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
struct Or {
  template <class T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct Xor {
  template <class T>
  T operator()(T a, T b) const {
    return a ^ b;
  }
};
struct Not {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct LogicalNot {
  template <class T>
  T operator()(T a) const {
    return a == 0;
  }
};

// Predicates are one bit a lane: logic works on the whole warp's word.
template <class F>
void predicate_logic(Warp& warp, const Inst& inst, Mask mask) {
  Mask* to = warp.at<Mask>(inst.arg[0]);
  const Mask a = *warp.at<Mask>(inst.arg[1]), b = *warp.at<Mask>(inst.arg[2]);
  *to = (*to & ~mask) | (F{}(a, b) & mask);
}

template <class F>
void build_logic(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, type);
  d.value(1, type);
  d.value(2, type);
  if (type == Type::kPred) return d.emit(predicate_logic<F>);
  d.emit(for_unsigned(d, type, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return alu<F, T, T, T>;
  }));
}

template <class F>
void build_one(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, type);
  d.value(1, type);
  if (type == Type::kPred) {
    d.arg(d.constant(UINT64_MAX, 4));
    return d.emit(predicate_logic<Xor>);
  }
  d.emit(for_unsigned(d, type, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return alu<F, T, T>;
  }));
}

// Shift counts above the width give what the width gives.
struct Left {
  template <class T>
  T operator()(T a, uint32_t by) const {
    return by >= sizeof(T) * 8 ? T{0} : static_cast<T>(static_cast<uint64_t>(a) << by);
  }
};
struct Right {
  template <class T>
  T operator()(T a, uint32_t by) const {
    if (by >= sizeof(T) * 8) return a < 0 ? static_cast<T>(-1) : T{0};
    return static_cast<T>(a >> by);
  }
};
template <class F>
void build_shift(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, type);
  d.value(1, type);
  d.value(2, Type::kU32);
  d.emit(for_integer(d, type, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return alu<F, T, T, uint32_t>;
  }));
}

template <bool kLeft, bool kWrap>
struct Funnel {
  uint32_t operator()(uint32_t low, uint32_t high, uint32_t by) const {
    by = kWrap ? by & 31 : (by > 32 ? 32 : by);
    const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
    return static_cast<uint32_t>(kLeft ? both << by >> 32 : both >> by);
  }
};
template <bool kLeft>
void build_funnel(Decoding& d) {
  const bool wrap = d.take("wrap");
  if (!wrap && !d.take("clamp")) d.fail(".wrap or .clamp");
  d.take_type();
  d.to(0, Type::kB32);
  for (size_t i = 1; i <= 3; i++) d.value(i, Type::kB32);
  using U = uint32_t;
  d.emit(wrap ? Handler(alu<Funnel<kLeft, true>, U, U, U, U>) : Handler(alu<Funnel<kLeft, false>, U, U, U, U>));
}
void build_shf(Decoding& d) { d.take("l") ? build_funnel<true>(d) : (d.take("r"), build_funnel<false>(d)); }

void lop3(Warp& warp, const Inst& inst, Mask mask) {
  const uint32_t* a = warp.at<uint32_t>(inst.arg[1]);
  const uint32_t* b = warp.at<uint32_t>(inst.arg[2]);
  const uint32_t* c = warp.at<uint32_t>(inst.arg[3]);
  uint32_t out[kLanes] = {};
  for (int row = 0; row < 8; row++) {
    if (!(inst.option >> row & 1)) continue;
    const uint32_t na = row & 4 ? 0 : ~0u, nb = row & 2 ? 0 : ~0u, nc = row & 1 ? 0 : ~0u;
    for (int l = 0; l < kLanes; l++) out[l] |= (a[l] ^ na) & (b[l] ^ nb) & (c[l] ^ nc);
  }
  commit(warp.at<uint32_t>(inst.arg[0]), out, mask);
}
void build_lop3(Decoding& d) {
  d.take_type();
  d.to(0, Type::kB32);
  for (size_t i = 1; i <= 3; i++) d.value(i, Type::kB32);
  d.inst.option = static_cast<uint32_t>(d.immediate(4));
  d.emit(lop3);
}

// Each nibble of the selector names a byte of {b, a}; its high bit spreads the byte's sign.
struct Permute {
  uint32_t operator()(uint32_t a, uint32_t b, uint32_t selector) const {
    const uint64_t bytes = static_cast<uint64_t>(b) << 32 | a;
    uint32_t out = 0;
    for (int i = 0; i < 4; i++) {
      const uint32_t nibble = selector >> i * 4 & 15;
      const uint8_t byte = static_cast<uint8_t>(bytes >> (nibble & 7) * 8);
      out |= static_cast<uint32_t>(nibble & 8 ? (byte & 0x80 ? 0xff : 0) : byte) << i * 8;
    }
    return out;
  }
};
void build_prmt(Decoding& d) {
  d.take_type();  // the default mode only; f4e, rc8 and the like are left over and fail
  d.to(0, Type::kB32);
  for (size_t i = 1; i <= 3; i++) d.value(i, Type::kB32);
  d.emit(alu<Permute, uint32_t, uint32_t, uint32_t, uint32_t>);
}

struct Extract {
  template <class T>
  T operator()(T a, uint32_t at, uint32_t length) const {
    constexpr uint32_t kBits = sizeof(T) * 8;
    at &= 255;
    length &= 255;
    T out = 0;
    const uint32_t last = at + length - 1 < kBits - 1 ? at + length - 1 : kBits - 1;
    const bool sign = T(-1) < T(0) && length != 0 && (static_cast<uint64_t>(a) >> last & 1);
    for (uint32_t i = 0; i < kBits; i++) {
      const bool bit = i < length && at + i < kBits ? static_cast<uint64_t>(a) >> (at + i) & 1 : sign;
      out = static_cast<T>(static_cast<uint64_t>(out) | static_cast<uint64_t>(bit) << i);
    }
    return out;
  }
};
void build_bfe(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, type);
  d.value(1, type);
  d.value(2, Type::kU32);
  d.value(3, Type::kU32);
  d.emit(for_integer(d, type, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return alu<Extract, T, T, uint32_t, uint32_t>;
  }));
}

struct Insert {
  template <class T>
  T operator()(T field, T into, uint32_t at, uint32_t length) const {
    at &= 255;
    length &= 255;
    if (at >= sizeof(T) * 8) return into;
    const T ones = length >= sizeof(T) * 8 ? static_cast<T>(-1) : static_cast<T>((T{1} << length) - 1);
    return (into & ~(ones << at)) | ((field & ones) << at);
  }
};
void build_bfi(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, type);
  d.value(1, type);
  d.value(2, type);
  d.value(3, Type::kU32);
  d.value(4, Type::kU32);
  d.emit(size_of(type) == 8 ? Handler(alu<Insert, uint64_t, uint64_t, uint64_t, uint32_t, uint32_t>)
                            : Handler(alu<Insert, uint32_t, uint32_t, uint32_t, uint32_t, uint32_t>));
}

struct Count {
  template <class T>
  uint32_t operator()(T a) const {
    return static_cast<uint32_t>(__builtin_popcountll(a));
  }
};
struct LeadingZeros {
  template <class T>
  uint32_t operator()(T a) const {
    return a == 0 ? sizeof(T) * 8 : static_cast<uint32_t>(__builtin_clzll(a)) - (64 - sizeof(T) * 8);
  }
};
template <class F>
void build_count(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, Type::kU32);
  d.value(1, type);
  d.emit(size_of(type) == 8 ? Handler(alu<F, uint32_t, uint64_t>) : Handler(alu<F, uint32_t, uint32_t>));
}

// The position of the highest bit that differs from the sign, or how far left it would have to go; all ones where none
// does.
template <bool kShiftAmount>
struct FindHighest {
  template <class T>
  uint32_t operator()(T a) const {
    const uint64_t bits = static_cast<std::make_unsigned_t<T>>(a < 0 ? ~a : a);
    if (bits == 0) return UINT32_MAX;
    const uint32_t position = 63 - static_cast<uint32_t>(__builtin_clzll(bits));
    return kShiftAmount ? sizeof(T) * 8 - 1 - position : position;
  }
};
void build_bfind(Decoding& d) {
  const bool shift = d.take("shiftamt");
  const Type type = d.take_type();
  d.to(0, Type::kU32);
  d.value(1, type);
  d.emit(for_integer(d, type, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return shift ? Handler(alu<FindHighest<true>, uint32_t, T>) : Handler(alu<FindHighest<false>, uint32_t, T>);
  }));
}

struct Reverse {
  template <class T>
  T operator()(T a) const {
    T out = 0;
    for (size_t i = 0; i < sizeof(T) * 8; i++) out |= (a >> i & 1) << (sizeof(T) * 8 - 1 - i);
    return out;
  }
};

// d = b with a's sign.
struct CopySign {
  float operator()(float a, float b) const { return std::copysign(b, a); }
  double operator()(double a, double b) const { return std::copysign(b, a); }
};
void build_copysign(Decoding& d) {
  const Type type = d.take_type();
  d.to(0, type);
  d.value(1, type);
  d.value(2, type);
  if (!is_float(type)) d.fail("f32 or f64");
  d.emit(type == Type::kF64 ? Handler(alu<CopySign, double, double, double>)
                            : Handler(alu<CopySign, float, float, float>));
}

// Four products of bytes and a sum.
template <class A, class B>
struct Dot4 {
  int32_t operator()(uint32_t a, uint32_t b, int32_t sum) const {
    uint32_t out = static_cast<uint32_t>(sum);
    for (int i = 0; i < 4; i++) out += static_cast<uint32_t>(static_cast<A>(a >> i * 8) * static_cast<B>(b >> i * 8));
    return static_cast<int32_t>(out);
  }
};
void build_dp4a(Decoding& d) {
  const Type a = d.take_type(), b = d.take_type();
  d.to(0, Type::kS32);
  for (size_t i = 1; i <= 3; i++) d.value(i, Type::kS32);
  const bool signed_a = is_signed(a), signed_b = is_signed(b);
  using S = int8_t;
  using U = uint8_t;
  if (signed_a && signed_b) return d.emit(alu<Dot4<S, S>, int32_t, uint32_t, uint32_t, int32_t>);
  if (signed_a) return d.emit(alu<Dot4<S, U>, int32_t, uint32_t, uint32_t, int32_t>);
  if (signed_b) return d.emit(alu<Dot4<U, S>, int32_t, uint32_t, uint32_t, int32_t>);
  d.emit(alu<Dot4<U, U>, int32_t, uint32_t, uint32_t, int32_t>);
}

}  // namespace

void add_bits(Table& table) {
  table["and"] = build_logic<And>;
  table["or"] = build_logic<Or>;
  table["xor"] = build_logic<Xor>;
  table["not"] = build_one<Not>;
  table["cnot"] = build_one<LogicalNot>;
  table["brev"] = build_one<Reverse>;
  table["shl"] = build_shift<Left>;
  table["shr"] = build_shift<Right>;
  table["shf"] = build_shf;
  table["lop3"] = build_lop3;
  table["prmt"] = build_prmt;
  table["bfe"] = build_bfe;
  table["bfi"] = build_bfi;
  table["popc"] = build_count<Count>;
  table["clz"] = build_count<LeadingZeros>;
  table["bfind"] = build_bfind;
  table["copysign"] = build_copysign;
  table["dp4a"] = build_dp4a;
}

}  // namespace ptx
}  // namespace ocelli
