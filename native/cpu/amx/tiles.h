// AMX's tile registers: eight of up to 16 rows of 64 bytes, with sizes that belong to the thread.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace ocelli {
namespace cpu {
namespace OCELLI_ISA_NS {

// What one task does with them: sets sizes, which clears all tiles, as often as these change, and gives the registers
// up at its end, lest the system saves 8 KiB whenever the thread is switched.
class TileRegisters {
 public:
  TileRegisters() = default;
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
  ~TileRegisters() { _tile_release(); }

  TileRegisters& size(int tile, int rows, int row_bytes) {
    sizes_.rows[tile] = static_cast<uint8_t>(rows);
    sizes_.row_bytes[tile] = static_cast<uint16_t>(row_bytes);
    return *this;
  }
  // Not the intrinsic, which in gcc 12 names eight of the 64 bytes that it reads.
  void apply() { asm volatile("ldtilecfg %0" : : "m"(sizes_)); }

 private:
  struct Sizes {
    uint8_t palette = 1;
    uint8_t first_row = 0;
    uint8_t reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};
  } sizes_;
};

// What was stored so far is there for the tiles that are loaded next: gcc 12's intrinsic does not say that it reads.
inline void before_tile_loads() { asm volatile("" ::: "memory"); }

}  // namespace OCELLI_ISA_NS
}  // namespace cpu
}  // namespace ocelli
