// Which lane holds which element of a matrix that mma.sync and ldmatrix work on.
//
// The formulas here and the pictures in native/ptx/test/mma_test.cc were written apart, from the PTX ISA's section on
// matrix fragments; the test holds one against the other.
#pragma once

namespace ocelli {
namespace ptx {

struct Cell {
  int row;
  int column;
};

// Element `i` of lane `lane` of a fragment whose 32-bit registers hold `per` elements side by side, eight rows to a
// register: registers go down first (rows g, g + 8), then to the right by 4 * per columns. A: rows of m, columns of k.
constexpr Cell cell_of_a(int lane, int i, int per) {
  const int reg = i / per;
  return {lane / 4 + reg % 2 * 8, lane % 4 * per + i % per + reg / 2 * 4 * per};
}
// B, as [k, n]: each register goes on down k.
constexpr Cell cell_of_b(int lane, int i, int per) { return {lane % 4 * per + i % per + i / per * 4 * per, lane / 4}; }
// C and D of f32 or s32: two columns side by side in rows g and g + 8.
constexpr Cell cell_of_c(int lane, int i) { return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2}; }

}  // namespace ptx
}  // namespace ocelli
