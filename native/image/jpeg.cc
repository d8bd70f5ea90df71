#include "image/jpeg.h"

#include <map>
#include <memory>
#include <mutex>

#if defined(__linux__)
#include <dlfcn.h>
#endif

namespace ocelli {
namespace image {

#if defined(__linux__)
namespace {

// TurboJPEG's stable C interface, of version 2 and later (turbojpeg.h).
constexpr int kFormatRgb = 0;
constexpr int kFormatCmyk = 11;
constexpr int kFatal = 1;

struct Turbo {
  void* (*init)();
  int (*header)(void*, const unsigned char*, unsigned long, int*, int*, int*, int*);
  int (*decompress)(void*, const unsigned char*, unsigned long, unsigned char*, int, int, int, int, int);
  int (*error_code)(void*);
  int (*destroy)(void*);
};

template <typename Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

// Opened once for the life of the process: threads may be inside it when an environment ends. Null where it cannot be
// used.
const Turbo* open_library(const std::string& path) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<Turbo>> opened;
  std::lock_guard<std::mutex> lock(mutex);
  const auto known = opened.find(path);
  if (known != opened.end()) return known->second.get();
  auto turbo = std::make_unique<Turbo>();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  const bool whole = library != nullptr && find(library, "tjInitDecompress", &turbo->init) &&
                     find(library, "tjDecompressHeader3", &turbo->header) &&
                     find(library, "tjDecompress2", &turbo->decompress) &&
                     find(library, "tjGetErrorCode", &turbo->error_code) && find(library, "tjDestroy", &turbo->destroy);
  if (!whole) turbo.reset();
  return (opened[path] = std::move(turbo)).get();
}

}  // namespace

JpegResult decode_jpeg(const std::string& library, const uint8_t* bytes, size_t size, int width, int height,
                       int channels, uint8_t* dst) {
  const Turbo* turbo = open_library(library);
  if (turbo == nullptr) return JpegResult::kNoLibrary;
  const std::unique_ptr<void, int (*)(void*)> handle(turbo->init(), turbo->destroy);
  if (!handle) return JpegResult::kNoLibrary;
  int found_width = 0, found_height = 0, subsampling = 0, colorspace = 0;
  if (turbo->header(handle.get(), bytes, size, &found_width, &found_height, &subsampling, &colorspace) != 0 ||
      found_width != width || found_height != height) {
    return JpegResult::kCorrupt;
  }
  const int format = channels == 4 ? kFormatCmyk : kFormatRgb;
  const int result = turbo->decompress(handle.get(), bytes, size, dst, width, width * channels, height, format, 0);
  return result != 0 && turbo->error_code(handle.get()) == kFatal ? JpegResult::kCorrupt : JpegResult::kDecoded;
}
#else
JpegResult decode_jpeg(const std::string&, const uint8_t*, size_t, int, int, int, uint8_t*) {
  return JpegResult::kNoLibrary;
}
#endif

}  // namespace image
}  // namespace ocelli
