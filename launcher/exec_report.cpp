// Gathered output for people and for programs. Nothing here holds a whole stream: output may be larger than memory.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "launcher/base64.hpp"
#include "launcher/exec.hpp"
#include "launcher/exec_story.hpp"
#include "launcher/hostlist.hpp"
#include "launcher/job_state.hpp"

namespace llmlaunch::launcher {
namespace {

using agent::Stream;
using nlohmann::ordered_json;

constexpr std::string_view kRule = "----------------\n";
// Of text that is escaped at a time; a multiple of 3, so that base64 has no padding in between.
constexpr std::size_t kReportPieceBytes = 48u << 10;

Rank rank_of(std::size_t host) {
  return Rank{static_cast<std::uint32_t>(host)};  // one rank on each
}

// Indices of hosts that printed the same, in the order of the first of each group.
Result<std::vector<std::vector<std::size_t>>> groups_of(std::size_t hosts, const GatheredOutput& gathered,
                                                        Stream stream) {
  std::vector<std::vector<std::size_t>> groups;
  std::map<std::string, std::size_t> places;
  for (std::size_t host = 0; host < hosts; ++host) {
    if (gathered.size(rank_of(host), stream) == 0) continue;
    Result<std::string> digest = gathered.digest(rank_of(host), stream);
    if (!digest) return digest.error();
    const auto [place, is_new] = places.emplace(std::move(*digest), groups.size());
    if (is_new) groups.emplace_back();
    groups[place->second].push_back(host);
  }
  return groups;
}

Result<void> write_stream(const std::vector<HostEnd>& hosts, const GatheredOutput& gathered, Stream stream,
                          const TextSink& sink) {
  const auto groups = groups_of(hosts.size(), gathered, stream);
  if (!groups) return groups.error();
  for (const auto& group : *groups) {
    std::vector<std::string> names;
    for (const std::size_t host : group) names.push_back(hosts[host].host);
    const std::string header = fmt::format("{}{} ({}){}\n{}", kRule, compress_hostlist(names), names.size(),
                                           stream == Stream::err ? " stderr" : "", kRule);
    if (auto written = sink(header); !written) return written;
    char last = '\n';
    auto written = gathered.read(rank_of(group.front()), stream, [&](std::string_view piece) {
      last = piece.back();
      return sink(piece);
    });
    if (written && last != '\n') written = sink("\n");
    if (!written) return written;
  }
  return ok;
}

// The length of `text` without a character that is cut at its end. Text that is no UTF-8 at all loses 3 bytes at most.
std::size_t whole_characters(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0) == 0x80) continue;  // in the middle of a character
    const std::size_t needs = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return needs > back ? text.size() - back : text.size();
  }
  return text.size();
}

// A piece as it stands inside a JSON string; nothing when it is no UTF-8.
std::optional<std::string> escaped(std::string_view piece) {
  try {
    std::string text = ordered_json(piece).dump();
    return text.substr(1, text.size() - 2);
  } catch (const nlohmann::json::type_error&) {
    return std::nullopt;
  }
}

// Cuts a stream into pieces that `each` takes whole: it says how much of what it is shown it has taken.
template <class Each>
Result<void> in_pieces(const GatheredOutput& gathered, Rank rank, Stream stream, const Each& each) {
  std::string held;
  auto taken = gathered.read(rank, stream, [&](std::string_view text) -> Result<void> {
    while (!text.empty()) {
      const std::size_t size = std::min(text.size(), kReportPieceBytes - held.size());
      held += text.substr(0, size);
      text.remove_prefix(size);
      if (held.size() < kReportPieceBytes) continue;
      const Result<std::size_t> used = each(std::string_view(held), false);
      if (!used) return used.error();
      held.erase(0, *used);
    }
    return ok;
  });
  if (!taken || held.empty()) return taken;
  const Result<std::size_t> used = each(std::string_view(held), true);
  return used ? Result<void>(ok) : Result<void>(used.error());
}

Result<bool> is_text(const GatheredOutput& gathered, Rank rank, Stream stream) {
  bool text = true;
  const auto read = in_pieces(gathered, rank, stream, [&text](std::string_view held, bool last) -> Result<std::size_t> {
    const std::size_t size = last ? held.size() : whole_characters(held);
    text = text && escaped(held.substr(0, size)).has_value();
    return size;
  });
  if (!read) return read.error();
  return text;
}

// `,"stdout":"…"`
Result<void> write_json_stream(const GatheredOutput& gathered, Rank rank, Stream stream, const TextSink& out) {
  const Result<bool> text = is_text(gathered, rank, stream);
  if (!text) return text.error();
  const std::string name = stream == Stream::err ? "stderr" : "stdout";
  if (auto written = out(fmt::format(",\"{}{}\":\"", name, *text ? "" : "_base64")); !written) return written;
  const auto written = in_pieces(gathered, rank, stream, [&](std::string_view held, bool last) -> Result<std::size_t> {
    const std::size_t size = last || !*text ? held.size() : whole_characters(held);
    const std::string_view piece = held.substr(0, size);
    if (auto put = out(*text ? escaped(piece).value_or("") : base64(piece)); !put) return put.error();
    return size;
  });
  if (!written) return written;
  return out("\"");
}

const char* end_word(HostEnd::Kind kind) {
  switch (kind) {
    case HostEnd::Kind::not_started: return "not started";
    case HostEnd::Kind::failed: return "failed";
    case HostEnd::Kind::lost: return "lost";
    case HostEnd::Kind::timed_out: return "timed out";
    case HostEnd::Kind::stopped: return "stopped";
    case HostEnd::Kind::signaled: return "signaled";
    case HostEnd::Kind::exited: return "exited";
  }
  return "unknown";
}

// As text without its closing brace: the streams follow.
std::string json_of_host(const HostEnd& end) {
  const auto seconds = [](std::chrono::milliseconds time) { return static_cast<double>(time.count()) / 1000; };
  ordered_json host = {{"host", end.host}, {"end", end_word(end.kind)}, {"status", status_of_host(end)}};
  const bool signaled = end.kind == HostEnd::Kind::signaled;
  host["signal"] = signaled ? ordered_json(signal_name(end.value)) : ordered_json(nullptr);
  host["reason"] = end.failure ? ordered_json(to_string(*end.failure)) : ordered_json(nullptr);
  host["connect_s"] = seconds(end.connect);
  host["run_s"] = seconds(end.run);
  std::string text = host.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  text.pop_back();
  return text;
}

}  // namespace

Result<void> write_groups(const std::vector<HostEnd>& hosts, const GatheredOutput& gathered, const TextSink& out,
                          const TextSink& err) {
  if (auto written = write_stream(hosts, gathered, Stream::out, out); !written) return written;
  return write_stream(hosts, gathered, Stream::err, err);
}

Result<void> write_table(const std::vector<HostEnd>& hosts, const TextSink& to) {
  return to(exec_table(hosts));
}

Result<void> write_json(const LaunchPlan& plan, const JobResult& result, const GatheredOutput& gathered,
                        const TextSink& out) {
  ordered_json head = {
      {"job_id", plan.job_id}, {"argv", without_secrets(plan.argv)}, {"exit_status", result.exit_status}};
  head["failure"] = result.failure ? ordered_json(to_string(*result.failure)) : ordered_json(nullptr);
  std::string text = head.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
  text.back() = ',';
  if (auto written = out(text + "\"hosts\":["); !written) return written;
  for (std::size_t host = 0; host < result.hosts.size(); ++host) {
    if (auto written = out((host == 0 ? "\n" : ",\n") + json_of_host(result.hosts[host])); !written) return written;
    for (const Stream stream : {Stream::out, Stream::err})
      if (auto written = write_json_stream(gathered, rank_of(host), stream, out); !written) return written;
    if (auto written = out("}"); !written) return written;
  }
  return out("\n]}\n");
}

}  // namespace llmlaunch::launcher
