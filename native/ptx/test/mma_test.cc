// Which lane holds what in mma.sync and ldmatrix: the formulas of native/ptx/mma.h against pictures drawn after the
// figures of the PTX ISA's section on matrix fragments, and both against dense products in which one element of A or B
// is not zero.
#include "ptx/mma.h"

#include <cmath>
#include <cstring>

#include "core/convert.h"
#include "ptx/test/support.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

// A picture is the matrix itself: at each place the lane, and behind a colon the first element of that lane's run of
// `per` columns (for B: rows). Only the first eight rows (for B: columns) of A and C are drawn; eight further down the
// element is `below` more.
//
// A of m16n8k16, 16-bit elements: two columns a lane.
const char* const kA16 =
    " 0:0  1:0  2:0  3:0   0:4  1:4  2:4  3:4 "
    " 4:0  5:0  6:0  7:0   4:4  5:4  6:4  7:4 "
    " 8:0  9:0 10:0 11:0   8:4  9:4 10:4 11:4 "
    "12:0 13:0 14:0 15:0  12:4 13:4 14:4 15:4 "
    "16:0 17:0 18:0 19:0  16:4 17:4 18:4 19:4 "
    "20:0 21:0 22:0 23:0  20:4 21:4 22:4 23:4 "
    "24:0 25:0 26:0 27:0  24:4 25:4 26:4 27:4 "
    "28:0 29:0 30:0 31:0  28:4 29:4 30:4 31:4 ";
// A of m16n8k32, bytes: four columns a lane.
const char* const kA8 =
    " 0:0  1:0  2:0  3:0   0:8  1:8  2:8  3:8 "
    " 4:0  5:0  6:0  7:0   4:8  5:8  6:8  7:8 "
    " 8:0  9:0 10:0 11:0   8:8  9:8 10:8 11:8 "
    "12:0 13:0 14:0 15:0  12:8 13:8 14:8 15:8 "
    "16:0 17:0 18:0 19:0  16:8 17:8 18:8 19:8 "
    "20:0 21:0 22:0 23:0  20:8 21:8 22:8 23:8 "
    "24:0 25:0 26:0 27:0  24:8 25:8 26:8 27:8 "
    "28:0 29:0 30:0 31:0  28:8 29:8 30:8 31:8 ";
// A of m16n8k8, tf32: one column a lane.
const char* const kA32 =
    " 0:0  1:0  2:0  3:0   0:2  1:2  2:2  3:2 "
    " 4:0  5:0  6:0  7:0   4:2  5:2  6:2  7:2 "
    " 8:0  9:0 10:0 11:0   8:2  9:2 10:2 11:2 "
    "12:0 13:0 14:0 15:0  12:2 13:2 14:2 15:2 "
    "16:0 17:0 18:0 19:0  16:2 17:2 18:2 19:2 "
    "20:0 21:0 22:0 23:0  20:2 21:2 22:2 23:2 "
    "24:0 25:0 26:0 27:0  24:2 25:2 26:2 27:2 "
    "28:0 29:0 30:0 31:0  28:2 29:2 30:2 31:2 ";
// B, as [k, n], eight columns: a run of k in each line, of two, four or one.
const char* const kB16 =
    "0:0 4:0  8:0 12:0 16:0 20:0 24:0 28:0 "
    "1:0 5:0  9:0 13:0 17:0 21:0 25:0 29:0 "
    "2:0 6:0 10:0 14:0 18:0 22:0 26:0 30:0 "
    "3:0 7:0 11:0 15:0 19:0 23:0 27:0 31:0 "
    "0:2 4:2  8:2 12:2 16:2 20:2 24:2 28:2 "
    "1:2 5:2  9:2 13:2 17:2 21:2 25:2 29:2 "
    "2:2 6:2 10:2 14:2 18:2 22:2 26:2 30:2 "
    "3:2 7:2 11:2 15:2 19:2 23:2 27:2 31:2 ";
const char* const kB8 =
    "0:0 4:0  8:0 12:0 16:0 20:0 24:0 28:0 "
    "1:0 5:0  9:0 13:0 17:0 21:0 25:0 29:0 "
    "2:0 6:0 10:0 14:0 18:0 22:0 26:0 30:0 "
    "3:0 7:0 11:0 15:0 19:0 23:0 27:0 31:0 "
    "0:4 4:4  8:4 12:4 16:4 20:4 24:4 28:4 "
    "1:4 5:4  9:4 13:4 17:4 21:4 25:4 29:4 "
    "2:4 6:4 10:4 14:4 18:4 22:4 26:4 30:4 "
    "3:4 7:4 11:4 15:4 19:4 23:4 27:4 31:4 ";
const char* const kB32 =
    "0:0 4:0  8:0 12:0 16:0 20:0 24:0 28:0 "
    "1:0 5:0  9:0 13:0 17:0 21:0 25:0 29:0 "
    "2:0 6:0 10:0 14:0 18:0 22:0 26:0 30:0 "
    "3:0 7:0 11:0 15:0 19:0 23:0 27:0 31:0 "
    "0:1 4:1  8:1 12:1 16:1 20:1 24:1 28:1 "
    "1:1 5:1  9:1 13:1 17:1 21:1 25:1 29:1 "
    "2:1 6:1 10:1 14:1 18:1 22:1 26:1 30:1 "
    "3:1 7:1 11:1 15:1 19:1 23:1 27:1 31:1 ";
// C and D, eight columns, two a lane.
const char* const kC =
    " 0:0  1:0  2:0  3:0 "
    " 4:0  5:0  6:0  7:0 "
    " 8:0  9:0 10:0 11:0 "
    "12:0 13:0 14:0 15:0 "
    "16:0 17:0 18:0 19:0 "
    "20:0 21:0 22:0 23:0 "
    "24:0 25:0 26:0 27:0 "
    "28:0 29:0 30:0 31:0 ";

struct Holder {
  int lane;
  int element;
};
// A picture spelled out: holder of each [row][column].
using Picture = std::vector<std::vector<Holder>>;

std::vector<Holder> read(const char* text) {
  std::vector<Holder> holders;
  std::istringstream stream(text);
  Holder holder;
  char colon;
  while (stream >> holder.lane >> colon >> holder.element) holders.push_back(holder);
  return holders;
}

Picture rows_picture(const char* text, int per, int below) {
  const std::vector<Holder> drawn = read(text);
  const int runs = static_cast<int>(drawn.size()) / 8;
  Picture picture(16, std::vector<Holder>(runs * per));
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < runs * per; column++) {
      const Holder& first = drawn[row % 8 * runs + column / per];
      picture[row][column] = {first.lane, first.element + column % per + row / 8 * below};
    }
  }
  return picture;
}

Picture columns_picture(const char* text, int per) {
  const std::vector<Holder> drawn = read(text);
  Picture picture(drawn.size() / 8 * per, std::vector<Holder>(8));
  for (size_t row = 0; row < picture.size(); row++) {
    for (int column = 0; column < 8; column++) {
      const Holder& first = drawn[row / per * 8 + column];
      picture[row][column] = {first.lane, first.element + static_cast<int>(row % per)};
    }
  }
  return picture;
}

// A shape: pictures, and how an element is written into a register and read back.
struct Shape {
  const char* kernel;
  int per;  // elements in a register
  Picture a, b, c;
  bool integer;
};

void formulas_match(const Shape& shape) {
  const auto check = [&](const Picture& picture, int elements, auto cell, const char* which) {
    int held = 0;
    bool same = true;
    for (int lane = 0; lane < 32; lane++) {
      for (int i = 0; i < elements; i++) {
        const Cell at = cell(lane, i);
        const Holder& holder = picture[at.row][at.column];
        same = same && holder.lane == lane && holder.element == i;
        held++;
      }
    }
    expect(same && held == static_cast<int>(picture.size() * picture[0].size()),
           std::string(shape.kernel) + ": the formula of " + which + " is the picture");
  };
  check(
      shape.a, 4 * shape.per, [&](int l, int i) { return cell_of_a(l, i, shape.per); }, "A");
  check(
      shape.b, 2 * shape.per, [&](int l, int i) { return cell_of_b(l, i, shape.per); }, "B");
  check(
      shape.c, 4, [](int l, int i) { return cell_of_c(l, i); }, "C");
}

uint32_t element_bits(const Shape& shape, int value) {
  const float real = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &real, 4);
  if (shape.integer) return static_cast<uint8_t>(value);
  if (shape.per == 1) return bits;
  return std::strcmp(shape.kernel, "mma_f16") == 0 ? narrow_f16(real) : narrow_bf16(real);
}

void put(const Shape& shape, std::vector<uint32_t>* registers, int count, const Holder& holder, int value) {
  const int width = 32 / shape.per;
  (*registers)[holder.lane * count + holder.element / shape.per] |= element_bits(shape, value)
                                                                    << holder.element % shape.per * width;
}

// d = a b + c for small integers (exact in every type), fragments placed by the pictures.
void product(Arena& arena, Program& program, const Shape& shape, const std::vector<std::vector<int>>& a,
             const std::vector<std::vector<int>>& b, const std::string& what) {
  std::vector<uint32_t> as(128), bs(64), cs(128);
  const int depth = static_cast<int>(b.size());
  for (int m = 0; m < 16; m++) {
    for (int k = 0; k < depth; k++) put(shape, &as, 4, shape.a[m][k], a[m][k]);
  }
  for (int k = 0; k < depth; k++) {
    for (int n = 0; n < 8; n++) put(shape, &bs, 2, shape.b[k][n], b[k][n]);
  }
  const auto whole = [&](int value) {
    const float real = static_cast<float>(value);
    uint32_t bits = static_cast<uint32_t>(value);
    if (!shape.integer) std::memcpy(&bits, &real, 4);
    return bits;
  };
  std::vector<uint32_t> expected(128);
  for (int m = 0; m < 16; m++) {
    for (int n = 0; n < 8; n++) {
      const Holder& holder = shape.c[m][n];
      int sum = m * 8 + n;
      cs[holder.lane * 4 + holder.element] = whole(sum);
      for (int k = 0; k < depth; k++) sum += a[m][k] * b[k][n];
      expected[holder.lane * 4 + holder.element] = whole(sum);
    }
  }
  const Address in[] = {arena.upload(as), arena.upload(bs), arena.upload(cs)};
  const Address out = arena.allocate(512);
  const Report report = execute(arena, program.launch(shape.kernel, {}, {32, 1, 1}, 0, in[0], in[1], in[2], out), {});
  tally().instances++;
  tally().kernels.insert(shape.kernel);
  expect(report.clean() && report.counters.mma == 1, what + ": no faults, one mma\n" + report.text());
  expect(arena.download<uint32_t>(out, 128) == expected, what);
  for (Address address : {in[0], in[1], in[2], out}) arena.release(address);
}

void products(Arena& arena, Program& program, const Shape& shape) {
  const int depth = static_cast<int>(shape.b.size());
  const std::vector<std::vector<int>> zero_a(16, std::vector<int>(depth)), zero_b(depth, std::vector<int>(8));
  Noise noise(4);
  std::vector<std::vector<int>> a = zero_a, b = zero_b;
  for (auto& row : a) {
    for (int& value : row) value = noise.below(15) - 7;
  }
  for (auto& row : b) {
    for (int& value : row) value = noise.below(15) - 7;
  }
  product(arena, program, shape, a, b, std::string(shape.kernel) + ", dense");
  for (int m = 0; m < 16; m++) {
    for (int k = 0; k < depth; k++) {
      std::vector<std::vector<int>> one = zero_a;
      one[m][k] = 1;
      product(arena, program, shape, one, b,
              std::string(shape.kernel) + ", A at " + std::to_string(m) + ", " + std::to_string(k));
    }
  }
  for (int k = 0; k < depth; k++) {
    for (int n = 0; n < 8; n++) {
      std::vector<std::vector<int>> one = zero_b;
      one[k][n] = 1;
      product(arena, program, shape, a, one,
              std::string(shape.kernel) + ", B at " + std::to_string(k) + ", " + std::to_string(n));
    }
  }
}

void matrices(Arena& arena, Program& program) {
  std::vector<uint16_t> in(256);
  for (int i = 0; i < 256; i++) in[i] = static_cast<uint16_t>(i * 257 + 3);
  const Address from = arena.upload(in), to = arena.allocate(1024);
  const Report report =
      expect_proof(arena, program.launch("load_matrices", {}, {32, 1, 1}, 0, from, to), "load_matrices");
  // Stores of 16 bytes a lane: 4 wavefronts; two ldmatrix.x4 on rows side by side: 4 each.
  expect(report.counters.shared_wavefronts == 12 && report.counters.bank_conflicts() == 0,
         "load_matrices: no bank conflicts");
  const std::vector<uint32_t> out = arena.download<uint32_t>(to, 256);
  // The picture of an 8 x 8 matrix is that of A's upper left quarter.
  const Picture picture = rows_picture(kA16, 2, 2);
  bool plain = true, transposed = true;
  for (int matrix = 0; matrix < 4; matrix++) {
    for (int row = 0; row < 8; row++) {
      for (int column = 0; column < 8; column++) {
        const uint16_t value = in[matrix * 64 + row * 8 + column];
        const auto held = [&](const Holder& holder, int offset) {
          return static_cast<uint16_t>(out[holder.lane * 8 + offset + matrix] >> holder.element * 16);
        };
        plain = plain && held(picture[row][column], 0) == value;
        transposed = transposed && held(picture[column][row], 4) == value;
      }
    }
  }
  expect(plain, "ldmatrix puts rows where A's fragment has them");
  expect(transposed, "ldmatrix.trans puts columns there");
}

void body() {
  Arena arena;
  Program program(arena, read_ptx("fragments"));
  const Picture c = rows_picture(kC, 2, 2);
  const Shape shapes[] = {
      {"mma_bf16", 2, rows_picture(kA16, 2, 2), columns_picture(kB16, 2), c, false},
      {"mma_f16", 2, rows_picture(kA16, 2, 2), columns_picture(kB16, 2), c, false},
      {"mma_tf32", 1, rows_picture(kA32, 1, 1), columns_picture(kB32, 1), c, false},
      {"mma_s8", 4, rows_picture(kA8, 4, 4), columns_picture(kB8, 4), c, true},
  };
  for (const Shape& shape : shapes) {
    formulas_match(shape);
    products(arena, program, shape);
  }
  matrices(arena, program);
}

}  // namespace

int main(int argc, char** argv) { return run_test("mma", argc, argv, body); }
