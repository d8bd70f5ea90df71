#include "ptx/report.h"

namespace ocelli {
namespace ptx {

const char* name_of(Fault fault) {
  static const char* const kNames[] = {"unwritten", "pending-copy", "out-of-bounds", "misaligned",
                                       "race",      "barrier",      "absent-lane",   "trap",
                                       "runaway",   "order",        "copy-timing"};
  return fault < Fault::kCount ? kNames[static_cast<int>(fault)] : "unknown";
}

void Counters::add(const Counters& other) {
  lane_instructions += other.lane_instructions;
  warp_instructions += other.warp_instructions;
  global_requests += other.global_requests;
  global_sectors += other.global_sectors;
  global_sectors_needed += other.global_sectors_needed;
  shared_requests += other.shared_requests;
  shared_wavefronts += other.shared_wavefronts;
  shared_wavefronts_needed += other.shared_wavefronts_needed;
  mma += other.mma;
  barriers += other.barriers;
}

bool Report::has(Fault fault) const {
  for (const Finding& finding : findings) {
    if (finding.fault == fault) return true;
  }
  return false;
}

void Report::add(Fault fault, const std::string& kernel, int line, int source_line, const std::string& detail) {
  for (Finding& finding : findings) {
    if (finding.fault != fault || finding.line != line || finding.kernel != kernel) continue;
    finding.times++;
    return;
  }
  findings.push_back({fault, kernel, line, source_line, detail, 1});
}

void Report::merge(const Report& other) {
  for (const Finding& finding : other.findings) {
    add(finding.fault, finding.kernel, finding.line, finding.source_line, finding.detail);
  }
}

std::string Report::waste_text() const {
  std::string text;
  for (const auto& [line, waste] : waste) {
    text += "line " + std::to_string(line) + ": " + std::to_string(waste.bank_conflicts) + " bank conflicts, " +
            std::to_string(waste.sectors) + " sectors too many\n";
  }
  return text;
}

std::string Report::text() const {
  std::string text;
  for (const Finding& finding : findings) {
    text += std::string(name_of(finding.fault)) + " in " + finding.kernel;
    if (finding.line > 0) text += " at line " + std::to_string(finding.line) + " of the PTX";
    if (finding.source_line > 0) text += " (" + std::to_string(finding.source_line) + " of the source)";
    text += ": " + finding.detail;
    if (finding.times > 1) text += " (" + std::to_string(finding.times) + " times)";
    text += "\n";
  }
  return text;
}

}  // namespace ptx
}  // namespace ocelli
