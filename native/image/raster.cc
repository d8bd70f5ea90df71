#include "image/raster.h"

#include <cstring>
#include <map>
#include <new>

#include "image/large_pages.h"

namespace ocelli {
namespace image {
namespace {

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

}  // namespace

std::shared_ptr<uint8_t> room_for(size_t bytes) {
  if (bytes < kLargePicture) return {new uint8_t[bytes], std::default_delete<uint8_t[]>()};
  const std::align_val_t alignment{kLargePage};
  const size_t whole = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  auto* data = static_cast<uint8_t*>(::operator new(whole, alignment));
  std::shared_ptr<uint8_t> owned(data, [alignment](uint8_t* p) { ::operator delete(p, alignment); });
  prefer_large_pages(data, whole);
  return owned;
}

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

void Raster::fill(const uint8_t* bytes, size_t size) {
  std::shared_ptr<uint8_t> room = room_for(size);
  std::memcpy(room.get(), bytes, size);
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return;
  closed_ = true;
  pixels_ = {std::move(room), size};
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
