// Pictures on the device against native/image: every byte and every float equal, over sizes, filters, channels and
// orders of passes.
#include "cuda/image.h"
#include "image/filters.h"
#include "image/pack.h"
#include "image/resize.h"
#include "ptx/test/ops.h"

namespace {

using namespace ocelli;
using namespace ocelli::ptx;

const uint8_t* bytes_at(ptx::Address address) { return reinterpret_cast<const uint8_t*>(address); }
const int* ints(Bench& bench, const std::vector<int>& values) {
  return reinterpret_cast<const int*>(bench.arena.upload(values));
}

std::vector<uint8_t> noisy(size_t n, uint32_t seed) {
  Noise noise(seed);
  std::vector<uint8_t> made(n);
  for (uint8_t& value : made) value = static_cast<uint8_t>(noise.bits() >> 9);
  return made;
}

void resizes(int width, int height, int out_width, int out_height, int channels, image::Filter filter,
             bool vertical_first) {
  const std::string what = "resize " + std::to_string(width) + " x " + std::to_string(height) + " to " +
                           std::to_string(out_width) + " x " + std::to_string(out_height) + ", " +
                           std::to_string(channels) + " channels";
  const std::vector<uint8_t> in = noisy(static_cast<size_t>(width) * height * channels, 7);
  std::vector<uint8_t> expected(static_cast<size_t>(out_width) * out_height * channels);
  image::resize({in.data(), width, height, channels, static_cast<size_t>(width) * channels}, out_width, out_height,
                filter, vertical_first ? image::PassOrder::kPillow13 : image::PassOrder::kBefore13,
                {0, 0, out_width, out_height}, expected.data(), static_cast<size_t>(out_width) * channels, nullptr);
  Bench bench(what);
  const image::Weights columns = image::make_weights(width, out_width, filter, 0, out_width);
  const image::Weights rows = image::make_weights(height, out_height, filter, 0, out_height);
  const int *column_lo = ints(bench, columns.lo), *column_weights = ints(bench, columns.weights);
  const int *row_lo = ints(bench, rows.lo), *row_weights = ints(bench, rows.weights);
  const ptx::Address src = bench.arena.upload(in), dst = bench.arena.allocate(expected.size());
  const size_t between_bytes = vertical_first ? static_cast<size_t>(width) * out_height * channels
                                              : static_cast<size_t>(out_width) * height * channels;
  const ptx::Address between = bench.arena.allocate(between_bytes);
  const auto horizontal = [&](ptx::Address from, ptx::Address to, int lines) {
    cuda::image_horizontal({bytes_at(from), const_cast<uint8_t*>(bytes_at(to)), column_lo, column_weights,
                            width * channels, out_width * channels, columns.taps, out_width, 0, lines, channels, 0});
  };
  const auto vertical = [&](ptx::Address from, ptx::Address to, int stride) {
    cuda::image_vertical({bytes_at(from), const_cast<uint8_t*>(bytes_at(to)), row_lo, row_weights, stride, stride,
                          rows.taps, out_height, 0, stride, 0, 0});
  };
  if (vertical_first) {
    vertical(src, between, width * channels);
    horizontal(between, dst, out_height);
  } else {
    horizontal(src, between, height);
    vertical(between, dst, out_width * channels);
  }
  expect(bench.arena.download<uint8_t>(dst, expected.size()) == expected, what + ": every byte");
}

void packs(int width, int height, int cols, int rows, DType dtype) {
  const std::vector<uint8_t> in = noisy(static_cast<size_t>(width) * height * cols * rows * 3, 3);
  const float mean[3] = {0.48f, 0.46f, 0.41f}, deviation[3] = {0.27f, 0.26f, 0.28f};
  const image::ValueTable table = image::make_value_table(1.0 / 255, mean, deviation);
  const image::PixelView view{in.data(), width * cols, height * rows, 3, static_cast<size_t>(width) * cols * 3};
  std::vector<float> expected(in.size());
  image::pack(view, table, {width, height, cols, rows}, expected.data());
  Bench bench("pack");
  const std::vector<float> values(table.values[0], table.values[0] + 768);
  const ptx::Address to = bench.arena.allocate(in.size() * size_of(dtype));
  cuda::image_pack({bytes_at(bench.arena.upload(in)), width * cols * 3,
                    reinterpret_cast<const float*>(bench.arena.upload(values)), reinterpret_cast<void*>(to),
                    cuda::format_of(dtype), width, height, cols, rows});
  std::vector<uint8_t> bytes(in.size() * size_of(dtype)), wanted(bytes.size());
  bench.arena.read(bytes.data(), to, bytes.size());
  for (size_t i = 0; i < expected.size(); i++)
    write_element(wanted.data(), dtype, static_cast<int64_t>(i), expected[i]);
  expect(bytes == wanted, std::string("pack to ") + name_of(dtype) + ": every value");
}

void body() {
  constexpr image::Filter kFilters[] = {image::Filter::kBox, image::Filter::kBilinear, image::Filter::kHamming,
                                        image::Filter::kBicubic, image::Filter::kLanczos};
  Noise noise(5);
  for (image::Filter filter : kFilters) {
    for (int round = 0; round < 4; round++) {
      // Sizes differ along both sides, so that both passes run.
      const int width = 2 + noise.below(60), height = 2 + noise.below(60),
                channels = round == 0   ? 1
                           : round == 1 ? 4
                                        : 3;
      int out_width = 1 + noise.below(70), out_height = 1 + noise.below(70);
      if (out_width == width) out_width++;
      if (out_height == height) out_height++;
      const int across = width - out_width, down = height - out_height;
      const bool vertical_first = down > 0 && down > 2 * across;  // Pillow 13's rule
      resizes(width, height, out_width, out_height, channels, filter, vertical_first);
      if (!vertical_first) continue;
      resizes(width, height, out_width, out_height, channels, filter, false);
    }
    resizes(30, 100, 28, 20, 3, filter, true);
  }
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    packs(14, 10, 1, 1, dtype);
    packs(7, 9, 3, 2, dtype);
  }
}

}  // namespace

int main(int argc, char** argv) { return run_test("pictures", argc, argv, body); }
