#include "engine/trace.h"

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace ocelli {

std::unique_ptr<Trace> Trace::open(const std::string& path) {
  if (path.empty()) return nullptr;
  std::FILE* file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    throw Error("ERR_TRACE_FILE",
                "Expected to write traceFile '" + path + "' but the system says: " + std::strerror(errno),
                "Name a file in a folder that exists and that this process may write to.");
  }
  return std::unique_ptr<Trace>(new Trace(file));
}

Trace::Trace(std::FILE* file) : file_(file), origin_(std::chrono::steady_clock::now()) {
  // The format allows the closing bracket to be absent: a file cut short by the end of the process still opens.
  std::fputs("[\n{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",\"args\":{\"name\":\"ocelli\"}}", file_);
  name_track(kSteps, "engine");
  name_track(kEncoder, "encoder");
}

Trace::~Trace() {
  std::fputs("\n]\n", file_);
  std::fclose(file_);
}

double Trace::microseconds(Time time) const {
  return std::chrono::duration<double, std::micro>(time - origin_).count();
}

void Trace::name_track(int track, const char* name) {
  std::fprintf(file_, ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"name\":\"thread_name\",\"args\":{\"name\":\"%s\"}}",
               track, name);
}

void Trace::span(const char* name, int track, Time start, Time end, const std::string& args) {
  for (; track >= kPool + named_pool_; named_pool_++) {
    const std::string thread = "pool thread " + std::to_string(named_pool_);
    name_track(kPool + named_pool_, thread.c_str());
  }
  std::fprintf(file_, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"name\":\"%s\",\"ts\":%.1f,\"dur\":%.1f,\"args\":{%s}}",
               track, name, microseconds(start), microseconds(end) - microseconds(start), args.c_str());
}

void Trace::request(const char* name, int id, Time start, Time end, const std::string& args) {
  const char* format =
      ",\n{\"ph\":\"%c\",\"cat\":\"request\",\"id\":%d,\"pid\":1,\"tid\":1,\"name\":\"%s\",\"ts\":%.1f,\"args\":{%s}}";
  std::fprintf(file_, format, 'b', id, name, microseconds(start), args.c_str());
  std::fprintf(file_, format, 'e', id, name, microseconds(end), "");
}

}  // namespace ocelli
