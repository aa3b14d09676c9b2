// RankSettings ↔ the last fields of a Prepare. Keeps the limits of what a frame may hold; what the values mean on a
// host is checked where they are used.
#include "launcher/agent/settings.hpp"

namespace llmlaunch::launcher::agent {

Error too_many(const char* what, std::size_t count, std::size_t limit) {
  return make_error(Errc::too_large,
                    std::to_string(count) + " " + what + " in one message; the limit is " + std::to_string(limit));
}

void put(FrameEncoder& out, const RankSettings& settings) {
  out.u32(static_cast<std::uint32_t>(settings.limits.size()));
  for (const LimitSpec& limit : settings.limits) out.text(limit.name).u64(limit.value);
  out.u32(settings.umask).u8(static_cast<std::uint8_t>(settings.cpu_bind)).u8(settings.choose_omp_threads ? 1 : 0);
  out.u32(static_cast<std::uint32_t>(settings.setup.size()));
  for (const std::string& line : settings.setup) out.text(line);
  out.u32(settings.start_timeout_ms).u32(static_cast<std::uint32_t>(settings.stdin_ranks.size()));
  for (const std::uint32_t rank : settings.stdin_ranks) out.u32(rank);
}

Result<RankSettings> take_settings(FieldReader& in) {
  RankSettings settings;
  const std::uint32_t limits = in.count(kMinTextBytes + 8);
  if (limits > kMaxLimits) return too_many("limits", limits, kMaxLimits);
  settings.limits.resize(limits);
  for (LimitSpec& limit : settings.limits) {
    limit.name = in.text();
    limit.value = in.u64();
  }
  settings.umask = in.u32();
  const std::uint8_t bind = in.u8();
  const std::uint8_t choose = in.u8();
  if (bind > static_cast<std::uint8_t>(CpuBind::gpu) || choose > 1)
    return make_error(Errc::protocol, "settings of ranks with a value that means nothing");
  settings.cpu_bind = static_cast<CpuBind>(bind);
  settings.choose_omp_threads = choose == 1;
  const std::uint32_t lines = in.count(kMinTextBytes);
  if (lines > kMaxSetupLines) return too_many("setup lines", lines, kMaxSetupLines);
  settings.setup.resize(lines);
  for (std::string& line : settings.setup) {
    line = in.text();
    if (line.size() > kMaxSetupLineBytes) return too_many("bytes of a setup line", line.size(), kMaxSetupLineBytes);
  }
  settings.start_timeout_ms = in.u32();
  settings.stdin_ranks.resize(in.count(4));
  for (std::uint32_t& rank : settings.stdin_ranks) rank = in.u32();
  return settings;
}

}  // namespace llmlaunch::launcher::agent
