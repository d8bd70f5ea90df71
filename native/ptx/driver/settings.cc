#include "ptx/driver/settings.h"

#include <cstdlib>

namespace ocelli {
namespace ptx {

Settings::Settings() {
  const char* text = std::getenv("OCELLI_EMULATED");
  std::string rest = text != nullptr ? text : "";
  while (!rest.empty()) {
    const size_t comma = rest.find(',');
    const std::string item = rest.substr(0, comma);
    rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
    const size_t equals = item.find('=');
    const std::string key = item.substr(0, equals), value = equals == std::string::npos ? "" : item.substr(equals + 1);
    if (key == "memory") memory = std::strtoull(value.c_str(), nullptr, 10);
    if (key == "devices") devices = std::atoi(value.c_str());
    if (key == "capability") capability = std::atoi(value.c_str());
    if (key == "version") version = std::atoi(value.c_str());
    if (key == "races") races = value != "0";
    if (key == "hide") hide = value;
    if (key == "fail") {
      const size_t first = value.find(':'), second = value.find(':', first + 1);
      fail = value.substr(0, first);
      fail_at = std::atoi(value.c_str() + first + 1);
      fail_code = std::atoi(value.c_str() + second + 1);
    }
  }
}

}  // namespace ptx
}  // namespace ocelli
