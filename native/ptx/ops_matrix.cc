// mma.sync m16n8k16 (f16, bf16) and m16n8k8 (f16, bf16, tf32) into f32, m16n8k32 and m16n8k16 (s8, u8) into s32;
// ldmatrix.
//
// A float sum is made in double, in ascending k, from the accumulator on, and rounded once. What a tensor core does
// inside (order, truncation) is not specified: agreement with a GPU is one of tolerance.
#include <cstring>

#include "ptx/decode.h"
#include "ptx/floats.h"
#include "ptx/mma.h"

namespace ocelli {
namespace ptx {
namespace {

constexpr int kM = 16, kN = 8;

float widen(BFloat value) { return static_cast<float>(value); }
float widen(Half value) { return static_cast<float>(value); }
struct Tf32 {
  uint32_t bits;
};
float widen(Tf32 value) { return bits_as<float>(value.bits & ~0x1fffu); }
int32_t widen(int8_t value) { return value; }
int32_t widen(uint8_t value) { return value; }

// Spreads `registers` fragment registers of all lanes into a matrix; `cell` says where an element goes.
template <class T, class W, class C>
void gather_fragment(Warp& warp, const Slot* slots, int registers, C cell, W* matrix, int row_stride,
                     int column_stride) {
  constexpr int kPer = 4 / sizeof(T);
  for (int r = 0; r < registers; r++) {
    const T* from = warp.at<T>(slots[r]);
    for (int l = 0; l < kLanes; l++) {
      for (int e = 0; e < kPer; e++) {
        const Cell at = cell(l, r * kPer + e, kPer);
        matrix[at.row * row_stride + at.column * column_stride] = widen(from[l * kPer + e]);
      }
    }
  }
}

// arg: 4 registers of D, A's, B's, 4 of C. A as [16, k], B as [k, 8]; the accumulator of floats is f32, of integers
// s32.
template <class A, class B, int kK>
void mma(Warp& warp, const Inst& inst, Mask mask) {
  if (!warp.gather(mask, kAllLanes)) return;
  using W = decltype(widen(A{}));
  using Sum = std::conditional_t<std::is_same_v<W, float>, double, int64_t>;
  constexpr int kPer = 4 / sizeof(A);
  constexpr int kRegistersA = kM * kK / kLanes / kPer, kRegistersB = kN * kK / kLanes / kPer;
  W a[kM * kK];
  W b[kK * kN];
  gather_fragment<A>(warp, inst.arg + 4, kRegistersA, cell_of_a, a, kK, 1);
  gather_fragment<B>(warp, inst.arg + 4 + kRegistersA, kRegistersB, cell_of_b, b, kN, 1);
  const Slot* c = inst.arg + 4 + kRegistersA + kRegistersB;
  Sum sum[kM][kN];
  for (int i = 0; i < 4; i++) {
    const W* from = warp.at<W>(c[i]);
    for (int l = 0; l < kLanes; l++) sum[cell_of_c(l, i).row][cell_of_c(l, i).column] = from[l];
  }
  for (int row = 0; row < kM; row++) {
    for (int k = 0; k < kK; k++) {
      const Sum factor = a[row * kK + k];
      for (int n = 0; n < kN; n++) sum[row][n] += factor * static_cast<Sum>(b[k * kN + n]);
    }
  }
  for (int i = 0; i < 4; i++) {
    W* to = warp.at<W>(inst.arg[i]);
    for (int l = 0; l < kLanes; l++) {
      const Sum value = sum[cell_of_c(l, i).row][cell_of_c(l, i).column];
      if constexpr (std::is_same_v<W, float>) {
        to[l] = static_cast<float>(value);
      } else {
        to[l] = static_cast<int32_t>(static_cast<uint32_t>(value));
      }
    }
  }
  warp.block->report->counters.mma++;
}

void build_mma(Decoding& d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("row") || !d.take("col")) d.fail("mma.sync.aligned of .row.col");
  d.inst.collective = true;
  const bool k8 = d.take("m16n8k8"), k16 = d.take("m16n8k16"), k32 = d.take("m16n8k32");
  const bool tf32 = d.take("tf32") && d.take("tf32");
  d.take("satfinite");
  const Type result = d.take_type();
  Type a = Type::kB32, b = Type::kB32;
  if (!tf32) a = d.take_type(), b = d.take_type();
  if (d.take_type() != result) d.fail("an accumulator of the result's type");
  const bool floats = result == Type::kF32 && a == b;
  const bool bytes = result == Type::kS32 && size_of(a) == 1 && size_of(b) == 1;
  Handler handler = nullptr;
  int k = 0;
  if (floats && tf32 && k8) handler = mma<Tf32, Tf32, 8>, k = 16;
  if (floats && a == Type::kBF16 && k16) handler = mma<BFloat, BFloat, 16>, k = 16;
  if (floats && a == Type::kBF16 && k8) handler = mma<BFloat, BFloat, 8>, k = 8;
  if (floats && a == Type::kF16 && k16) handler = mma<Half, Half, 16>, k = 16;
  if (floats && a == Type::kF16 && k8) handler = mma<Half, Half, 8>, k = 8;
  if (bytes && is_signed(a) && is_signed(b) && k32) handler = mma<int8_t, int8_t, 32>, k = 16;
  if (bytes && is_signed(a) && is_signed(b) && k16) handler = mma<int8_t, int8_t, 16>, k = 8;
  if (bytes && !is_signed(a) && is_signed(b) && k32) handler = mma<uint8_t, int8_t, 32>, k = 16;
  if (handler == nullptr) d.fail("a shape and types that the emulator knows");
  // `k` counts 16-bit columns from here on: 4 registers of A and 2 of B at 16, half of them at 8.
  const size_t expected[] = {4, static_cast<size_t>(k / 4), static_cast<size_t>(k / 8), 4};
  for (size_t i = 0; i < 4; i++) {
    const Operand& fragment = d.operand(i);
    if (fragment.kind != Operand::Kind::kVector || fragment.parts.size() != expected[i]) {
      d.fail(std::to_string(expected[i]) + " registers for operand " + std::to_string(i));
    }
    for (const Operand& part : fragment.parts) i == 0 ? d.to(part, Type::kB32) : d.value(part, Type::kB32);
  }
  d.emit(handler);
}

// Lane 8 m + r gives the address of row r of matrix m; the row has 16 bytes. Lane l receives of each matrix the pair of
// 16-bit elements at row l / 4, columns 2 (l % 4) and the next; transposed, the elements at those columns as rows.
template <bool kTranspose>
void ldmatrix(Warp& warp, const Inst& inst, Mask mask) {
  if (!warp.gather(mask, kAllLanes)) return;
  uint64_t address[kLanes];
  const Slot base = inst.arg[inst.count];
  for (int l = 0; l < kLanes; l++) {
    address[l] =
        static_cast<uint64_t>(inst.imm) + (inst.wide_address ? warp.at<uint64_t>(base)[l] : warp.at<uint32_t>(base)[l]);
    if (inst.space == Space::kGeneric) address[l] -= kSharedWindow;
  }
  const int rows = inst.count * 8;
  uint16_t matrix[4][8][8];
  for (int l = 0; l < rows; l++) {
    std::memcpy(matrix[l / 8][l % 8], resolve_shared(warp, l, address[l], 16, Access::kRead), 16);
  }
  count_shared(warp, rows == kLanes ? kAllLanes : (Mask{1} << rows) - 1, address, 16);
  for (int m = 0; m < inst.count; m++) {
    uint32_t* to = warp.at<uint32_t>(inst.arg[m]);
    for (int l = 0; l < kLanes; l++) {
      const int row = l / 4, column = l % 4 * 2;
      const uint16_t low = kTranspose ? matrix[m][column][row] : matrix[m][row][column];
      const uint16_t high = kTranspose ? matrix[m][column + 1][row] : matrix[m][row][column + 1];
      to[l] = static_cast<uint32_t>(high) << 16 | low;
    }
  }
}

void build_ldmatrix(Decoding& d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8")) d.fail("ldmatrix.sync.aligned.m8n8");
  d.inst.collective = true;
  const int count = d.take("x4") ? 4 : d.take("x2") ? 2 : d.take("x1") ? 1 : 0;
  const bool transpose = d.take("trans");
  d.inst.space = d.take("shared") || d.take("shared::cta") ? Space::kShared : Space::kGeneric;
  if (d.take_type() != Type::kB16) d.fail(".b16");
  const Operand& to = d.operand(0);
  if (to.kind != Operand::Kind::kVector || static_cast<int>(to.parts.size()) != count) d.fail("a register per matrix");
  for (const Operand& part : to.parts) d.to(part, Type::kB32);
  d.inst.count = static_cast<uint8_t>(count);
  d.address(1);
  d.emit(transpose ? ldmatrix<true> : ldmatrix<false>);
}

}  // namespace

void add_matrix(Table& table) {
  table["mma"] = build_mma;
  table["ldmatrix"] = build_ldmatrix;
}

}  // namespace ptx
}  // namespace ocelli
