#include "core/checkpoint.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>

#include "core/check.h"
#include "core/convert.h"
#include "core/safetensors.h"

namespace ocelli {

namespace {

std::string reason() {
  char text[256] = {};
  // strerror_r of glibc returns the text, which need not be in the buffer.
  return strerror_r(errno, text, sizeof(text));
}

// A descriptor and its mapping. The descriptor stays open so that the size can be looked at again.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor_ < 0) fail("Expected to open " + path + " but received: " + reason());
    struct stat info;
    if (fstat(descriptor_, &info) != 0) {
      close_all();
      fail("Expected to look at " + path + " but received: " + reason());
    }
    if (!S_ISREG(info.st_mode)) {
      close_all();
      fail("Expected a regular file at " + path + " but received another kind");
    }
    bytes_ = static_cast<uint64_t>(info.st_size);
    if (bytes_ == 0) return;
    data_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
    if (data_ == MAP_FAILED) {
      data_ = nullptr;
      std::string why = reason();
      close_all();
      fail("Expected to map " + path + " (" + std::to_string(bytes_) + " bytes) but received: " + why);
    }
  }
  ~MappedFile() { close_all(); }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  const char* data() const { return static_cast<const char*>(data_); }
  uint64_t bytes() const { return bytes_; }

  void verify_size() const {
    struct stat info;
    uint64_t now = fstat(descriptor_, &info) == 0 ? static_cast<uint64_t>(info.st_size) : 0;
    if (now == bytes_) return;
    throw Error(
        "ERR_CHECKPOINT_CHANGED",
        "Expected " + path_ + " to keep its " + std::to_string(bytes_) + " bytes but it now has " + std::to_string(now),
        "Write new checkpoints to a new file and rename it; never write into one that is in use.");
  }

 private:
  [[noreturn]] static void fail(const std::string& message) { throw Error("ERR_CHECKPOINT_IO", message); }
  void close_all() {
    if (data_ != nullptr) munmap(data_, bytes_);
    if (descriptor_ >= 0) ::close(descriptor_);
    data_ = nullptr;
    descriptor_ = -1;
  }

  std::string path_;
  int descriptor_ = -1;
  void* data_ = nullptr;
  uint64_t bytes_ = 0;
};

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

struct Checkpoint::State {
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<std::vector<GgufValue>> metadata;  // by file
  std::vector<CheckpointTensor> tensors;
  std::map<std::string, size_t> index;

  void add(CheckpointTensor tensor) {
    auto added = index.emplace(tensor.name, tensors.size());
    if (!added.second) {
      throw Error("ERR_CHECKPOINT_DUPLICATE", "Expected each tensor in one file but received '" + tensor.name +
                                                  "' in " + files[tensors[added.first->second].file]->path() + " and " +
                                                  files[tensor.file]->path());
    }
    tensors.push_back(std::move(tensor));
  }

  void add_safetensors(const MappedFile& mapped, int32_t file) {
    SafetensorsFile header =
        read_safetensors(std::string_view(mapped.data(), mapped.bytes()), mapped.bytes(), mapped.path());
    for (SafetensorsEntry& entry : header.entries) {
      CheckpointTensor tensor;
      tensor.name = std::move(entry.name);
      set_stored(&tensor, lower(entry.dtype));
      tensor.shape = std::move(entry.shape);
      tensor.data = mapped.data() + header.data_offset + entry.begin;
      tensor.bytes = entry.end - entry.begin;
      tensor.file = file;
      add(std::move(tensor));
    }
  }

  void add_gguf(const MappedFile& mapped, int32_t file) {
    GgufFile header = read_gguf(std::string_view(mapped.data(), mapped.bytes()), mapped.path());
    for (GgufTensor& entry : header.tensors) {
      CheckpointTensor tensor;
      tensor.name = std::move(entry.name);
      set_stored(&tensor, entry.format->name);
      if (!tensor.readable && entry.format->decode != nullptr) {
        tensor.blocks = entry.format;
        tensor.readable = true;
      }
      tensor.shape = std::move(entry.shape);
      tensor.data = mapped.data() + entry.offset;
      tensor.bytes = entry.bytes;
      tensor.file = file;
      add(std::move(tensor));
    }
    metadata.back() = std::move(header.metadata);
  }

  static void set_stored(CheckpointTensor* tensor, std::string name) {
    tensor->readable = false;
    tensor->dtype = DType::kU8;
    for (DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kI8, DType::kU8, DType::kI32, DType::kI64}) {
      if (name != name_of(dtype)) continue;
      tensor->dtype = dtype;
      tensor->readable = true;
    }
    tensor->stored = std::move(name);
  }
};

Checkpoint::Checkpoint() : state_(new State) {}
Checkpoint::~Checkpoint() = default;

std::unique_ptr<Checkpoint> Checkpoint::open(const std::vector<std::string>& paths) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint);
  State& state = *checkpoint->state_;
  if (paths.empty()) throw Error("ERR_CHECKPOINT_IO", "Expected at least one checkpoint file but received none");
  for (const std::string& path : paths) {
    int32_t file = static_cast<int32_t>(state.files.size());
    state.files.emplace_back(new MappedFile(path));
    state.metadata.emplace_back();
    const MappedFile& mapped = *state.files.back();
    if (is_gguf(std::string_view(mapped.data(), mapped.bytes()))) {
      state.add_gguf(mapped, file);
    } else {
      state.add_safetensors(mapped, file);
    }
    mapped.verify_size();
  }
  return checkpoint;
}

const std::vector<CheckpointTensor>& Checkpoint::tensors() const { return state_->tensors; }

const CheckpointTensor* Checkpoint::find(const std::string& name) const {
  auto found = state_->index.find(name);
  return found == state_->index.end() ? nullptr : &state_->tensors[found->second];
}

const std::string& Checkpoint::path(int32_t file) const { return state_->files[file]->path(); }

const std::vector<GgufValue>& Checkpoint::metadata(int32_t file) const { return state_->metadata[file]; }

int32_t Checkpoint::files() const { return static_cast<int32_t>(state_->files.size()); }

void Checkpoint::verify_sizes() const {
  for (const auto& file : state_->files) file->verify_size();
}

void read_elements(const CheckpointTensor& tensor, int64_t first, int64_t count, DType dtype, void* out) {
  if (tensor.blocks == nullptr) {
    if (tensor.dtype == dtype) {
      std::memcpy(out, static_cast<const char*>(tensor.data) + first * size_of(dtype), count * size_of(dtype));
      return;
    }
    for (int64_t i = 0; i < count; i++)
      write_element(out, dtype, i, read_element(tensor.data, tensor.dtype, first + i));
    return;
  }
  if (dtype == DType::kF32 && reinterpret_cast<uintptr_t>(out) % alignof(float) == 0) {
    decode_blocks(*tensor.blocks, tensor.data, first, count, static_cast<float*>(out));
    return;
  }
  float values[256];  // of the largest block
  for (int64_t i = 0; i < count; i += tensor.blocks->elements) {
    decode_blocks(*tensor.blocks, tensor.data, first + i, tensor.blocks->elements, values);
    for (int64_t j = 0; j < tensor.blocks->elements; j++) write_element(out, dtype, i + j, values[j]);
  }
}

void Checkpoint::release_pages(const CheckpointTensor& tensor) const {
  uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  uintptr_t begin = (reinterpret_cast<uintptr_t>(tensor.data) + page - 1) / page * page;
  uintptr_t end = (reinterpret_cast<uintptr_t>(tensor.data) + tensor.bytes) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace ocelli
