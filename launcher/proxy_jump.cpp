// The grammar of ProxyJump, ssh_config(5): [user@]host[:port] or ssh://[user@]host[:port], with commas between them.
#include "launcher/proxy_jump.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "launcher/config_reader.hpp"
#include "rendezvous/base/cut_text.hpp"

namespace llmlaunch::launcher {
namespace {

// A text for messages.
constexpr std::size_t kShownJumpBytes = 80;

Error wrong_jump(std::string_view stop, std::string_view what) {
  return make_error(Errc::invalid_argument,
                    fmt::format("'{}' is no jump host: {}", cut_text(stop, kShownJumpBytes), what), {},
                    "it is written [user@]host[:port], several with commas between them, or none");
}

bool is_plain(std::string_view text, std::string_view more) {
  return !text.empty() && text.front() != '-' && std::all_of(text.begin(), text.end(), [&](unsigned char c) {
    return std::isalnum(c) != 0 || c >= 0x80 || more.find(static_cast<char>(c)) != std::string_view::npos;
  });
}

Result<JumpStop> parse_stop(std::string_view written) {
  std::string_view text = written;
  constexpr std::string_view kScheme = "ssh://";
  if (text.starts_with(kScheme)) text.remove_prefix(kScheme.size());
  JumpStop stop;
  if (const std::size_t sign = text.rfind('@'); sign != text.npos) {
    stop.user = text.substr(0, sign);
    if (!is_plain(*stop.user, "._-@\\+")) return wrong_jump(written, "that cannot be a user");
    text.remove_prefix(sign + 1);
  }
  const bool bracket = text.starts_with('[');
  const std::size_t end = bracket ? text.find(']') : std::min(text.find(':'), text.size());
  if (end == text.npos) return wrong_jump(written, "a bracket is not closed");
  stop.host = text.substr(bracket ? 1 : 0, end - (bracket ? 1 : 0));
  text.remove_prefix(bracket ? end + 1 : end);
  if (!is_plain(stop.host, bracket ? ".:%_-" : "._-")) return wrong_jump(written, "that cannot be a host");
  if (text.empty()) return stop;
  const auto port = text.front() == ':' ? parse_integer(text.substr(1)) : std::nullopt;
  if (!port || *port < 1 || *port > 65535) {
    const bool bare_six = !bracket && text.find(':', 1) != text.npos;
    return wrong_jump(written,
                      bare_six ? "brackets belong around an IPv6 address" : "a port is a number from 1 to 65535");
  }
  stop.port = static_cast<std::uint16_t>(*port);
  return stop;
}

}  // namespace

Result<std::vector<JumpStop>> parse_proxy_jump(std::string_view text) {
  std::vector<JumpStop> way;
  if (text == "none") return way;
  while (true) {
    const std::size_t comma = std::min(text.find(','), text.size());
    auto stop = parse_stop(text.substr(0, comma));
    if (!stop) return stop.error();
    way.push_back(std::move(*stop));
    if (way.size() > kMaxJumps)
      return make_error(Errc::invalid_argument,
                        fmt::format("more than {} jump hosts, one behind the other", kMaxJumps));
    if (comma == text.size()) return way;
    text.remove_prefix(comma + 1);
  }
}

std::string to_string(const JumpStop& stop) {
  std::string text = stop.user ? *stop.user + "@" : "";
  const bool six = stop.host.find_first_of(":%") != stop.host.npos;
  text += six ? fmt::format("[{}]", stop.host) : stop.host;
  if (stop.port) text += fmt::format(":{}", *stop.port);
  return text;
}

std::string to_string(const std::vector<JumpStop>& way) {
  std::string text;
  for (const JumpStop& stop : way) text += (text.empty() ? "" : ",") + to_string(stop);
  return text;
}

}  // namespace llmlaunch::launcher
