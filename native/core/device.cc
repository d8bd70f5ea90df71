#include "core/device.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

namespace ocelli {

namespace {

// The library and its devices stay to the end of the process: threads may use them until then.
const OcelliDeviceApi* api = nullptr;

void check(bool right, const OcelliFailure& failure) {
  if (!right) throw Error(failure.code, failure.message, failure.hint);
}

class Pinned final : public Memory {
 public:
  explicit Pinned(OcelliDevice* device) : device_(device) {}
  bool host() const override { return true; }
  Memory& staging() override { return *this; }
  void* allocate(uint64_t bytes, Use) override {
    OcelliFailure failure{};
    void* data = api->allocate(device_, bytes, true, &failure);
    check(failure.code[0] == 0, failure);
    return data;
  }
  void release(void* data, uint64_t) noexcept override { api->release(device_, data, true); }
  void upload(void* to, const void* from, uint64_t bytes) override { host_memory().upload(to, from, bytes); }
  void download(void* to, const void* from, uint64_t bytes) override { host_memory().download(to, from, bytes); }
  void copy(void* to, const void* from, uint64_t bytes) override { host_memory().copy(to, from, bytes); }
  void synchronize() override {}

 private:
  OcelliDevice* device_;
};

class DeviceMemory final : public Memory {
 public:
  explicit DeviceMemory(OcelliDevice* device) : device_(device), pinned_(device) {}
  bool host() const override { return false; }
  Memory& staging() override { return pinned_; }
  void* allocate(uint64_t bytes, Use) override {
    OcelliFailure failure{};
    void* data = api->allocate(device_, bytes, false, &failure);
    check(failure.code[0] == 0, failure);
    return data;
  }
  void release(void* data, uint64_t) noexcept override { api->release(device_, data, false); }
  void upload(void* to, const void* from, uint64_t bytes) override {
    OcelliFailure failure{};
    if (bytes > 0) check(api->upload(device_, to, from, bytes, &failure), failure);
  }
  void download(void* to, const void* from, uint64_t bytes) override {
    OcelliFailure failure{};
    if (bytes > 0) check(api->download(device_, to, from, bytes, &failure), failure);
  }
  void copy(void* to, const void* from, uint64_t bytes) override {
    OcelliFailure failure{};
    if (bytes > 0) check(api->copy(device_, to, from, bytes, &failure), failure);
  }
  void synchronize() override {
    OcelliFailure failure{};
    check(api->synchronize(device_, &failure), failure);
  }
  void run(Op op, const OpCall& call) {
    OcelliFailure failure{};
    check(api->run(device_, op, &call, &failure), failure);
  }
  size_t scratch(Op op, const OpCall& call) {
    OcelliFailure failure{};
    uint64_t bytes = 0;
    check(api->scratch(device_, op, &call, &bytes, &failure), failure);
    return bytes;
  }

 private:
  OcelliDevice* device_;
  Pinned pinned_;
};

class DeviceRecorder final : public Recorder {
 public:
  explicit DeviceRecorder(OcelliDevice* device) : device_(device) {}
  void* record(const std::function<void()>& ops) override {
    OcelliFailure failure{};
    if (!api->begin_recording(device_, &failure)) return nullptr;
    bool complete = true;
    try {
      ops();
    } catch (const std::exception&) {  // whoever runs them as they come is told
      complete = false;
    }
    void* recording = api->end_recording(device_, &failure);
    if (complete || recording == nullptr) return recording;
    release(recording);
    return nullptr;
  }
  void replay(void* recording) override {
    OcelliFailure failure{};
    check(api->replay(device_, recording, &failure), failure);
  }
  void release(void* recording) noexcept override { api->forget(device_, recording); }

 private:
  OcelliDevice* device_;
};

DeviceMemory& device_of(const OpCall& call) { return static_cast<DeviceMemory&>(*call.memory); }

template <Op op>
void run(const OpCall& call) {
  device_of(call).run(op, call);
}
template <Op op>
size_t scratch(const OpCall& call) {
  return device_of(call).scratch(op, call);
}
template <Op op>
constexpr OpImpl kForwarded = {run<op>, scratch<op>};

size_t packed_bytes(WeightFormat format, int64_t n, int64_t k) {
  OcelliFailure failure{};
  uint64_t bytes = 0;
  check(api->packed_bytes(format, n, k, &bytes, &failure), failure);
  return bytes;
}

void pack(const Tensor& rows, int64_t row, PackedMatrix& packed) {
  OcelliFailure failure{};
  check(api->pack(&rows, row, &packed, &failure), failure);
}

struct Opened {
  OcelliDevice* handle;
  DeviceMemory memory;
  DeviceRecorder recorder;
  Backend backend;

  explicit Opened(OcelliDevice* device)
      : handle(device),
        memory(device),
        recorder(device),
        backend{"device",
                {
#define OCELLI_OP(name) &kForwarded<Op::name>,
#include "core/ops.def"
#undef OCELLI_OP
                },
                packed_bytes,
                pack,
                &memory,
                &recorder} {
  }
};

struct Devices {
  std::mutex mutex;
  std::map<int, Opened*> opened;
};

Devices& devices() {
  static Devices* all = new Devices;
  return *all;
}

// Unloads the library on every way out but the one on which a device opens.
struct Library {
  void* handle;
  ~Library() {
    if (handle != nullptr) dlclose(handle);
  }
};

[[noreturn]] void fail_library(const std::string& path, const std::string& received) {
  throw Error("ERR_DEVICE_LIBRARY", "Expected a device library of this version at " + path + " but " + received,
              "Install it anew, in the version of this package.");
}

}  // namespace

DeviceInfo open_device(const std::string& path, int ordinal) {
  Devices& all = devices();
  const std::lock_guard<std::mutex> lock(all.mutex);
  Opened*& device = all.opened[ordinal];
  OcelliFailure failure{};
  if (device == nullptr) {
    Library library{dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)};
    if (library.handle == nullptr) fail_library(path, std::string("it does not load: ") + dlerror());
    const auto entry = reinterpret_cast<OcelliDeviceEntry>(dlsym(library.handle, "ocelli_device"));
    if (entry == nullptr) fail_library(path, "it is something else");
    const OcelliDeviceApi* found = entry();
    if (std::string(found->version) != OCELLI_VERSION || found->shape != kDeviceShape)
      fail_library(path, std::string("received another build, of version ") + found->version);
    OcelliDevice* handle = found->open(path.c_str(), ordinal, &failure);
    check(handle != nullptr, failure);
    api = found;
    library.handle = nullptr;
    device = new Opened(handle);
  }
  DeviceInfo info{api->name(device->handle), 0};
  check(api->free_bytes(device->handle, &info.free_bytes, &failure), failure);
  return info;
}

const Backend* device_backend(int ordinal) {
  Devices& all = devices();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.opened.find(ordinal);
  if (found != all.opened.end() && found->second != nullptr) return &found->second->backend;
  throw Error("ERR_INTERNAL", "Expected device " + std::to_string(ordinal) + " to be open but it is not");
}

}  // namespace ocelli
