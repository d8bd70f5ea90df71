// Pixels in native memory, shared by the threads and environments of the process: nothing is copied on the event loop,
// and what nobody holds is freed at once. In V8's ArrayBuffers, megabytes a picture would have it collect several times
// a second a heap in which there is nothing to collect.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

namespace ocelli {
namespace image {

// Not cleared. Throws std::bad_alloc.
std::shared_ptr<uint8_t> room_for(size_t bytes);
// For threads that decode: of a large picture it is kept for the next one once nobody holds it.
std::shared_ptr<uint8_t> raster_room_for(size_t bytes);
// Frees what is kept, and keeps nothing until there is room for another.
void free_spare_room();

// Made on one thread, filled on another, read by any: who reads holds what `pixels` gave, whatever becomes of the rest.
class Raster {
 public:
  struct Pixels {
    std::shared_ptr<const uint8_t> bytes;  // null: not filled yet, or released
    size_t size = 0;
  };

  static std::shared_ptr<Raster> make();
  // The raster of that id; null where nobody holds it any more.
  static std::shared_ptr<Raster> find(uint64_t id);
  ~Raster();

  uint64_t id() const { return id_; }
  // Once: what is there already stays, and what comes after `release` is dropped.
  void fill(Pixels pixels);
  Pixels pixels() const;
  void release();

 private:
  Raster() = default;

  uint64_t id_ = 0;
  mutable std::mutex mutex_;  // guards what follows
  Pixels pixels_;
  bool closed_ = false;
};

}  // namespace image
}  // namespace ocelli
