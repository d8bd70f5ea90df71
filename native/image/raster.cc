#include "image/raster.h"

#include <map>
#include <new>

#include "image/large_pages.h"

namespace ocelli {
namespace image {
namespace {

constexpr size_t kLargestSpare = 64 << 20;

// Without a destructor: threads may be alive at process.exit.
struct Known {
  std::mutex mutex;
  uint64_t next = 1;
  std::map<uint64_t, std::weak_ptr<Raster>> rasters;
};

Known& known() {
  static Known* all = new Known;
  return *all;
}

struct FreeLarge {
  void operator()(uint8_t* data) const { ::operator delete(data, std::align_val_t{kLargePage}); }
};

// Room for one picture that is no longer needed, for the next one: pages are handed out and cleared only once.
struct Spare {
  std::mutex mutex;
  std::unique_ptr<uint8_t, FreeLarge> data;
  size_t size = 0;

  std::unique_ptr<uint8_t, FreeLarge> take(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    return size == bytes ? std::move(data) : nullptr;
  }
  // Returns what nobody may keep.
  std::unique_ptr<uint8_t, FreeLarge> keep(std::unique_ptr<uint8_t, FreeLarge> room, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    std::swap(data, room);
    size = bytes;
    return room;
  }
};

Spare& spare() {
  static Spare* one = new Spare;
  return *one;
}

}  // namespace

std::shared_ptr<uint8_t> room_for(size_t bytes) {
  if (bytes < kLargePicture) return {new uint8_t[bytes], std::default_delete<uint8_t[]>()};
  const size_t whole = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  std::unique_ptr<uint8_t, FreeLarge> room = spare().take(whole);
  if (room == nullptr) {
    room.reset(static_cast<uint8_t*>(::operator new(whole, std::align_val_t{kLargePage})));
    prefer_large_pages(room.get(), whole);
  }
  const auto done = [whole](uint8_t* data) {
    std::unique_ptr<uint8_t, FreeLarge> own(data);
    if (whole <= kLargestSpare) spare().keep(std::move(own), whole);
  };
  return {room.release(), done};
}

void free_spare_room() { spare().keep(nullptr, 0); }

std::shared_ptr<Raster> Raster::make() {
  std::shared_ptr<Raster> raster(new Raster);
  Known& all = known();
  std::lock_guard<std::mutex> lock(all.mutex);
  raster->id_ = all.next++;
  all.rasters[raster->id_] = raster;
  return raster;
}

std::shared_ptr<Raster> Raster::find(uint64_t id) {
  Known& all = known();
  std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.rasters.find(id);
  return found == all.rasters.end() ? nullptr : found->second.lock();
}

Raster::~Raster() {
  Known& all = known();
  std::lock_guard<std::mutex> lock(all.mutex);
  all.rasters.erase(id_);
}

void Raster::fill(Pixels pixels) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  closed_ = true;
  pixels_ = std::move(pixels);
}

Raster::Pixels Raster::pixels() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return pixels_;
}

void Raster::release() {
  Pixels dropped;  // freed outside the lock
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  std::swap(dropped, pixels_);
}

}  // namespace image
}  // namespace ocelli
