// The PTX in what cuModuleLoadData takes.
#pragma once

#include <string>

namespace ocelli {
namespace ptx {

// `image`: PTX text that ends with a zero, or a fat binary with uncompressed PTX in it (nvcc --no-compress). Empty
// where there is none.
std::string ptx_of_image(const void* image);

}  // namespace ptx
}  // namespace ocelli
