// JPEG by a libjpeg-turbo that the host has installed: opened when it is first asked for, never linked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ocelli {
namespace image {

enum class JpegResult {
  kDecoded,  // warnings about damaged entropy data included: the picture is there, as in Pillow
  kCorrupt,
  kNoLibrary,  // there is none at that path, or one without TurboJPEG's functions
};

// Decodes `bytes` into dst: [height, width, 3] RGB, or [height, width, 4] CMYK as it is stored. Accurate integer IDCT
// and fancy upsampling, the library's defaults, give Pillow's bytes. kCorrupt where the file's size is not width x
// height. Takes as long as the picture needs and cannot be stopped: the caller bounds pixels and scans.
JpegResult decode_jpeg(const std::string& library, const uint8_t* bytes, size_t size, int width, int height,
                       int channels, uint8_t* dst);

}  // namespace image
}  // namespace ocelli
