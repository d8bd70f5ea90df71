// min, max, abs, neg, and the approximations of transcendental functions.
//
// Approximations (ex2, lg2, sin, cos, tanh, rcp, rsqrt, sqrt.approx) are computed as the nearest f32: a GPU may differ
// by the few units in the last place that the PTX ISA allows, so that agreement with it is one of tolerance.
#include "ptx/ops_float.h"

namespace ocelli {
namespace ptx {
namespace {

struct Minus {
  template <class T>
  T operator()(T a) const {
    return static_cast<T>(0 - static_cast<uint64_t>(a));
  }
};

template <class T>
bool less(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    return a < b;
  } else {
    return double(a) < double(b) || (double(a) == double(b) && std::signbit(double(a)) && !std::signbit(double(b)));
  }
}
template <class T>
bool unordered(T a) {
  if constexpr (std::is_integral_v<T>) {
    return false;
  } else {
    return std::isnan(double(a));
  }
}
template <bool kLeast, bool kNan>
struct Extreme {
  template <class T>
  T operator()(T a, T b) const {
    if (unordered(a)) return kNan ? a : b;
    if (unordered(b)) return kNan ? b : a;
    return less(a, b) == kLeast ? a : b;
  }
  template <class T>
  Pair<T> operator()(Pair<T> a, Pair<T> b) const {
    return {(*this)(a.low, b.low), (*this)(a.high, b.high)};
  }
};

struct Neg {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::is_integral_v<T>) {
      return Minus{}(a);
    } else {
      return -a;
    }
  }
  Half operator()(Half a) const { return flip(a); }
  BFloat operator()(BFloat a) const { return flip(a); }
  template <class T>
  Pair<T> operator()(Pair<T> a) const {
    return {(*this)(a.low), (*this)(a.high)};
  }
  template <class T>
  T flip(T a) const {
    a.bits ^= 0x8000;
    return a;
  }
};
struct Abs {
  template <class T>
  T operator()(T a) const {
    if constexpr (std::is_integral_v<T>) {
      return a < 0 ? Minus{}(a) : a;
    } else {
      return std::fabs(a);
    }
  }
  Half operator()(Half a) const { return clear(a); }
  BFloat operator()(BFloat a) const { return clear(a); }
  template <class T>
  Pair<T> operator()(Pair<T> a) const {
    return {(*this)(a.low), (*this)(a.high)};
  }
  template <class T>
  T clear(T a) const {
    a.bits &= 0x7fff;
    return a;
  }
};

template <bool kLeast, bool kNan>
void build_extreme_of(Decoding& d, Type type) {
  using F = Extreme<kLeast, kNan>;
  if (type == Type::kF32) return build_float32<F, float, float>(d);
  if (is_float(type)) return d.emit(other_float<F>(d, type));
  d.emit(for_integer(d, type, [](auto tag) -> Handler { return same<F, typename decltype(tag)::type>(); }));
}

template <bool kLeast>
void build_extreme(Decoding& d) {
  const bool nan = d.take("NaN");
  const Type type = d.take_type();
  push(d, type, 2);
  nan ? build_extreme_of<kLeast, true>(d, type) : build_extreme_of<kLeast, false>(d, type);
}

template <class F>
void build_sign(Decoding& d) {
  const Type type = d.take_type();
  push(d, type, 1);
  if (type == Type::kF32) return build_float32<F, float>(d);
  if (is_float(type)) return d.emit(other_float<F>(d, type));
  d.emit(for_integer(d, type, [](auto tag) -> Handler { return same<F, typename decltype(tag)::type>(); }));
}

template <float (*kFunction)(double)>
struct Approximate {
  float operator()(float a) const { return kFunction(a); }
};
float exp2_of(double a) { return static_cast<float>(std::exp2(a)); }
float log2_of(double a) { return static_cast<float>(std::log2(a)); }
float sin_of(double a) { return static_cast<float>(std::sin(a)); }
float cos_of(double a) { return static_cast<float>(std::cos(a)); }
float tanh_of(double a) { return static_cast<float>(std::tanh(a)); }
float reciprocal_of(double a) { return static_cast<float>(1 / a); }
float root_of(double a) { return static_cast<float>(std::sqrt(a)); }
float reciprocal_root_of(double a) { return static_cast<float>(1 / std::sqrt(a)); }

template <float (*kFunction)(double)>
struct Small16 {
  template <class T>
  T operator()(T a) const {
    return T(kFunction(double(a)));
  }
  template <class T>
  Pair<T> operator()(Pair<T> a) const {
    return {(*this)(a.low), (*this)(a.high)};
  }
};

// rcp.rn, sqrt.rn and the like of f32 are the same function: the nearest f32 to the exact value.
template <float (*kFunction)(double)>
void build_function(Decoding& d) {
  d.take("approx");
  if (take_rounding(d) != Rounding::kNearest) d.fail("rounding to nearest");
  const Type type = d.take_type();
  push(d, type, 1);
  if (type == Type::kF32) return build_float32<Approximate<kFunction>, float>(d);
  if (type == Type::kF64) d.fail("f32");
  d.take("ftz");
  d.emit(other_float<Small16<kFunction>>(d, type));
}

struct Root {
  double operator()(double a) const { return std::sqrt(a); }
};
struct Reciprocal {
  double operator()(double a) const { return 1 / a; }
};
template <class F, float (*kFunction)(double)>
void build_root(Decoding& d) {
  if (d.from.opcode.find(".f64") == std::string::npos) return build_function<kFunction>(d);
  if (take_rounding(d) != Rounding::kNearest || d.take("approx")) d.fail("rounding to nearest");
  push(d, d.take_type(), 1);
  d.emit(alu<F, double, double>);
}

}  // namespace

void add_functions(Table& table) {
  table["min"] = build_extreme<true>;
  table["max"] = build_extreme<false>;
  table["abs"] = build_sign<Abs>;
  table["neg"] = build_sign<Neg>;
  table["ex2"] = build_function<exp2_of>;
  table["lg2"] = build_function<log2_of>;
  table["sin"] = build_function<sin_of>;
  table["cos"] = build_function<cos_of>;
  table["tanh"] = build_function<tanh_of>;
  table["rsqrt"] = build_function<reciprocal_root_of>;
  table["sqrt"] = build_root<Root, root_of>;
  table["rcp"] = build_root<Reciprocal, reciprocal_of>;
}

}  // namespace ptx
}  // namespace ocelli
