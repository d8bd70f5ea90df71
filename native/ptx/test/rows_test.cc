// The ops that work row by row, CUDA against the reference: odd widths, no rows and one, strides, every format.
#include "ptx/test/ops.h"

namespace ocelli {
namespace ref {
#define OCELLI_OP(name) extern const OpImpl name;
#include "core/ops.def"
#undef OCELLI_OP
}  // namespace ref
}  // namespace ocelli

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

constexpr DType kFormats[] = {DType::kF32, DType::kBF16, DType::kF16};
// One value, less than a run, runs and a rest, whole runs, more than a block takes at once (128 or 256 threads of
// eight).
constexpr int64_t kWidths[] = {1, 7, 65, 128, 1100, 2049};

std::string text(const char* op, const std::vector<int64_t>& shape, DType dtype) {
  std::string what = std::string(op) + " " + name_of(dtype) + "[";
  for (size_t i = 0; i < shape.size(); i++) what += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return what + "]";
}

void activations() {
  for (const char* kind : {"gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "tanh"}) {
    for (DType dtype : kFormats) {
      for (int64_t width : {int64_t{7}, int64_t{520}}) {
        Case test{text("act", {3, width}, dtype) + " " + kind,
                  &cuda::act,
                  &ref::act,
                  {noise({3, width}, 1, dtype)},
                  {3, width},
                  dtype,
                  {}};
        test.attrs.strings = {{"kind", kind}};
        // A f32 formula near a zero of the function (x near -0.7 for gelu's tail) cancels: a few units of x itself.
        test.allowed = [](double expected) { return 1e-6 * std::fabs(expected) + 3e-7; };
        run_case(test);
        Case gated{text("gated_act", {3, 2 * width}, dtype) + " " + kind,
                   &cuda::gated_act,
                   &ref::gated_act,
                   {noise({3, 2 * width}, 2, dtype)},
                   {3, width},
                   dtype,
                   {}};
        gated.attrs.strings = {{"kind", kind}};
        gated.allowed = [](double expected) { return 1e-6 * std::fabs(expected) + 6e-6; };  // times up to 40
        run_case(gated);
      }
    }
  }
}

void sums_and_products() {
  for (DType dtype : kFormats) {
    for (const auto& [name, cuda, ref] :
         {std::make_tuple("add", &cuda::add, &ref::add), std::make_tuple("mul", &cuda::mul, &ref::mul)}) {
      for (int64_t width : {int64_t{1}, int64_t{65}, int64_t{264}}) {
        Case same{text(name, {5, width}, dtype),
                  cuda,
                  ref,
                  {noise({5, width}, 1, dtype), noise({5, width}, 2, dtype)},
                  {5, width},
                  dtype,
                  {}};
        run_case(same);
        Case suffix{text(name, {4, 3, width}, dtype) + " with a suffix",
                    cuda,
                    ref,
                    {noise({4, 3, width}, 3, dtype), noise({3, width}, 4, DType::kBF16)},
                    {4, 3, width},
                    dtype,
                    {}};
        run_case(suffix);
        Case number{text(name, {2, width}, dtype) + " with a number",
                    cuda,
                    ref,
                    {noise({2, width}, 5, dtype)},
                    {2, width},
                    dtype,
                    {}};
        number.attrs.numbers = {{"value", 0.37}};
        run_case(number);
      }
      Case none{
          text(name, {0, 8}, dtype), cuda, ref, {noise({0, 8}, 1, dtype), noise({0, 8}, 2, dtype)}, {0, 8}, dtype, {}};
      run_case(none);
    }
  }
}

void norms() {
  for (DType dtype : kFormats) {
    for (int64_t width : kWidths) {
      for (int64_t rows : {int64_t{0}, int64_t{1}, int64_t{3}}) {
        // The weight's own dtype differs from x's.
        Case rms{text("rms_norm", {rows, width}, dtype),
                 &cuda::rms_norm,
                 &ref::rms_norm,
                 {noise({rows, width}, 1, dtype), noise({width}, 2, DType::kBF16)},
                 {rows, width},
                 dtype,
                 {}};
        rms.attrs.numbers = {{"eps", 1e-6}, {"offset", rows == 3 ? 1.0 : 0.0}};
        rms.allowed = [](double expected) {
          return 6e-7 * std::fabs(expected);
        };  // scale: a sum, a root and a quotient
        run_case(rms);
        Case layer{text("layer_norm", {rows, width}, dtype),
                   &cuda::layer_norm,
                   &ref::layer_norm,
                   {noise({rows, width}, 3, dtype), noise({width}, 4), noise({width}, 5, DType::kF16)},
                   {rows, width},
                   dtype,
                   {}};
        layer.attrs.numbers = {{"eps", 1e-5}};
        if (rows == 1) layer.in.pop_back();
        // The mean's error is that of a sum of `width` values of magnitude up to 40, over the deviation (about 3).
        layer.allowed = [](double expected) { return 1e-6 * std::fabs(expected) + 2e-5; };
        run_case(layer);
      }
    }
  }
}

// A row's bits do not depend on the rows around it.
void rows_alone() {
  Case all{"rms_norm, five rows",
           &cuda::rms_norm,
           &ref::rms_norm,
           {noise({5, 1100}, 1), noise({1100}, 2)},
           {5, 1100},
           DType::kF32,
           {}};
  all.attrs.numbers = {{"eps", 1e-6}};
  const std::vector<float> together = run_case(all);
  const std::vector<float> last(all.in[0].values.end() - 1100, all.in[0].values.end());
  Case one{"rms_norm, the last alone",
           &cuda::rms_norm,
           &ref::rms_norm,
           {floats({1, 1100}, last), all.in[1]},
           {1, 1100},
           DType::kF32,
           {}};
  one.attrs.numbers = {{"eps", 1e-6}};
  const std::vector<float> alone = run_case(one);
  expect(std::equal(alone.begin(), alone.end(), together.end() - 1100),
         "rms_norm: a row alone has the bits it has among others");
}

void gathers() {
  for (DType dtype : kFormats) {
    for (int64_t width : {int64_t{1}, int64_t{65}, int64_t{128}}) {
      Case gather{text("gather_rows", {9, width}, dtype),
                  &cuda::gather_rows,
                  &ref::gather_rows,
                  {noise({9, width}, 1, dtype), integers({6}, {8, 0, -1, 3, 3, 7})},
                  {6, width},
                  dtype,
                  {}};
      gather.allowed = [](double) { return 0; };
      run_case(gather);
      for (double add : {0.0, 1.0}) {
        Case scatter{text("scatter_rows", {9, width}, dtype) + (add > 0 ? " add" : ""),
                     &cuda::scatter_rows,
                     &ref::scatter_rows,
                     {noise({9, width}, 2, dtype), integers({5}, {4, -1, 0, 4, 8}), noise({5, width}, 3, DType::kBF16)},
                     {9, width},
                     dtype,
                     {}};
        scatter.attrs.numbers = {{"add", add}};
        run_case(scatter);
      }
      Case join{text("concat", {2, 7, width}, dtype),
                &cuda::concat,
                &ref::concat,
                {noise({2, 3, width}, 4, dtype), noise({2, 4, width}, 5, dtype)},
                {2, 7, width},
                dtype,
                {}};
      join.attrs.numbers = {{"dim", 1}};
      run_case(join);
      Case wide{text("concat", {3, 2 * width + 5}, dtype),
                &cuda::concat,
                &ref::concat,
                {noise({3, width}, 6, dtype), noise({3, width + 5}, 7, dtype)},
                {3, 2 * width + 5},
                dtype,
                {}};
      wide.attrs.numbers = {{"dim", 1}};
      run_case(wide);
    }
    Case patches{text("patchify", {2, 3, 9, 14}, dtype),
                 &cuda::patchify,
                 &ref::patchify,
                 {noise({2, 3, 9, 14}, 8, dtype)},
                 {2, 6, 48},
                 dtype,
                 {}};
    patches.attrs.numbers = {{"patch", 4}};
    patches.allowed = [](double) { return 0; };
    run_case(patches);
  }
}

void rotations() {
  const std::vector<int32_t> one_axis = {0, 1, 77, 1500, 131071};
  std::vector<int32_t> axes;
  for (int axis = 0; axis < 3; axis++) {
    for (int t = 0; t < 5; t++) axes.push_back(t * 13 + axis * 7);
  }
  for (DType dtype : kFormats) {
    for (const char* style : {"half", "pairs"}) {
      for (int kind = 0; kind < 4; kind++) {
        const int64_t rotary = kind == 0 ? 64 : 24;
        std::vector<float> frequencies;
        for (int64_t j = 0; j < rotary / 2; j++)
          frequencies.push_back(static_cast<float>(std::pow(10000, -2.0 * j / rotary)));
        Case test{text("rope", {5, 3, 64}, dtype) + " " + style + " " + std::to_string(kind),
                  &cuda::rope,
                  &ref::rope,
                  {noise({5, 3, 64}, 1, dtype), kind < 2 ? integers({5}, one_axis) : integers({3, 5}, axes),
                   floats({rotary / 2}, frequencies)},
                  {5, 3, 64},
                  dtype,
                  {}};
        test.attrs.numbers = {
            {"rotary", static_cast<double>(rotary)}, {"scale", 1.5}, {"interleaved", kind == 3 ? 1.0 : 0.0}};
        test.attrs.strings = {{"style", style}};
        if (kind >= 2) test.attrs.lists = {{"sections", {4, 5, 3}}};
        // Two products of values up to 40 x 1.5 and cosines within 2 units in the last place.
        test.allowed = [](double expected) { return 5e-7 * std::fabs(expected) + 2e-5; };
        run_case(test);
      }
    }
  }
}

void body() {
  activations();
  sums_and_products();
  norms();
  rows_alone();
  gathers();
  rotations();
}

}  // namespace

int main(int argc, char** argv) { return run_test("rows", argc, argv, body); }
