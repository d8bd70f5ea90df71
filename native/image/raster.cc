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

using LargeRoom = std::unique_ptr<uint8_t, FreeLarge>;

size_t whole_pages(size_t bytes) { return (bytes + kLargePage - 1) / kLargePage * kLargePage; }

LargeRoom large_room(size_t bytes) {
  LargeRoom room(static_cast<uint8_t*>(::operator new(bytes, std::align_val_t{kLargePage})));
  prefer_large_pages(room.get(), bytes);
  return room;
}

// Room for one picture that is no longer needed, for the next one: pages are handed out and cleared only once. Nothing
// is kept from free() on until room is asked for again: pictures may be let go long after the last was decoded.
class Spare {
 public:
  LargeRoom take(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    return size_ == bytes ? std::move(room_) : nullptr;
  }
  void keep(LargeRoom room, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!open_ || bytes > kLargestSpare) return;
    std::swap(room_, room);
    size_ = bytes;
  }
  void free() {
    LargeRoom dropped;
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = false;
    std::swap(room_, dropped);
  }

 private:
  std::mutex mutex_;  // guards what follows
  LargeRoom room_;
  size_t size_ = 0;
  bool open_ = false;
};

Spare& spare() {
  static Spare* one = new Spare;
  return *one;
}

}  // namespace

std::shared_ptr<uint8_t> room_for(size_t bytes) {
  if (bytes < kLargePicture) return {new uint8_t[bytes], std::default_delete<uint8_t[]>()};
  return large_room(whole_pages(bytes));
}

std::shared_ptr<uint8_t> raster_room_for(size_t bytes) {
  if (bytes < kLargePicture) return room_for(bytes);
  const size_t whole = whole_pages(bytes);
  LargeRoom room = spare().take(whole);
  if (room == nullptr) room = large_room(whole);
  return {room.release(), [whole](uint8_t* data) { spare().keep(LargeRoom(data), whole); }};
}

void free_spare_room() { spare().free(); }

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
