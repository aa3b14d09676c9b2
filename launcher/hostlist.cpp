// Host lists: expand and fold. Pure text; names nothing, looks nothing up. Every bracket is measured before a single
// name is made, so that "n[1-100000000]" costs nothing. Indices stay strings: "n2", "n01" and "n001" are three hosts.
#include "launcher/hostlist.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <optional>

#include "launcher/host_scan.hpp"

namespace llmlaunch::launcher {
namespace {

// DNS allows 253 bytes; user@ and a suffix make a little more.
constexpr std::size_t kMaxNameBytes = 320;
// Longer indices would not fit 64 bits, and no cluster counts that far.
constexpr std::size_t kMaxIndexDigits = 18;
// A list of kMaxHosts names of usual length written out in full.
constexpr std::size_t kMaxListBytes = 4u << 20;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}
bool is_padded(std::string_view digits) {
  return digits.size() > 1 && digits.front() == '0';
}

/// Where in the list the piece is that an error is about.
class Spot {
 public:
  explicit Spot(std::string_view list) : begin_(list.data()) {}
  void mark(std::string_view piece) { at_ = static_cast<std::size_t>(piece.data() - begin_); }
  std::size_t at() const { return at_; }

 private:
  const char* begin_;
  std::size_t at_ = 0;
};

std::uint64_t to_number(std::string_view digits) {  // at most kMaxIndexDigits digits
  std::uint64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

/// "01-16/2" inside brackets. `text` keeps a single index as written.
struct Range {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  std::uint64_t step = 1;
  std::size_t width = 0;
  std::uint64_t count() const { return (high - low) / step + 1; }
  std::size_t longest() const { return std::max(width, fmt::formatted_size("{}", high)); }
};

/// A host pattern is literals and brackets by turns: literal (bracket literal)*.
struct Bracket {
  std::vector<Range> ranges;
  std::uint64_t count = 0;
  std::size_t longest = 0;
};
struct Pattern {
  std::vector<std::string> literals;
  std::vector<Bracket> brackets;  // one fewer than literals
};

Result<Range> parse_range(std::string_view text, std::string_view item, Spot& spot) {
  const auto wrong = [&](std::string_view why, std::string hint = {}) {
    spot.mark(text);
    return bad_hosts(fmt::format("bad range '{}' in '{}': {}", shown_short(text), shown_short(item), why),
                     std::move(hint));
  };
  std::string_view bounds = text;
  std::optional<std::string_view> step;
  if (const auto slash = text.find('/'); slash != text.npos) {
    bounds = trimmed_host(text.substr(0, slash));
    step = trimmed_host(text.substr(slash + 1));
  }
  const auto dash = bounds.find('-');
  const std::string_view low = trimmed_host(bounds.substr(0, dash));
  const std::string_view high = dash == bounds.npos ? low : trimmed_host(bounds.substr(dash + 1));
  if (text.empty()) return wrong("it is empty");
  if (!is_number(low) || !is_number(high)) return wrong("expected a number, or two numbers with '-' between them");
  if (low.size() > kMaxIndexDigits || high.size() > kMaxIndexDigits)
    return wrong(fmt::format("a number has more than {} digits", kMaxIndexDigits));
  if (step && dash == bounds.npos) return wrong("a step needs two bounds, as in 0-6/2");
  if (step && (!is_number(*step) || step->size() > kMaxIndexDigits || to_number(*step) == 0))
    return wrong("the step must be a number of at least 1");
  Range range{to_number(low), to_number(high), step ? to_number(*step) : 1, is_padded(low) ? low.size() : 0};
  if (low.size() != high.size() && is_padded(high)) {
    const auto reading = [&](std::size_t width) {
      return fmt::format("{:0{}}-{:0{}}", range.low, width, range.high, width);
    };
    return wrong("the bounds are padded to different widths",
                 fmt::format("write {} or {}", reading(low.size()), reading(high.size())));
  }
  if (range.high < range.low) return wrong("it runs backwards");
  return range;
}

Result<Bracket> parse_bracket(std::string_view inside, std::string_view item, Spot& spot) {
  Bracket bracket;
  for (std::size_t at = 0;;) {
    const auto comma = inside.find(',', at);
    auto range = parse_range(trimmed_host(inside.substr(at, comma == inside.npos ? comma : comma - at)), item, spot);
    if (!range) return range.error();
    if (range->count() > kMaxHosts || bracket.count + range->count() > kMaxHosts) {
      spot.mark(item);
      return bad_hosts(fmt::format("'{}' names more than {} hosts", shown_short(item), kMaxHosts));
    }
    bracket.count += range->count();
    bracket.longest = std::max(bracket.longest, range->longest());
    bracket.ranges.push_back(*range);
    if (comma == inside.npos) return bracket;
    at = comma + 1;
  }
}

/// A host name goes to ssh, into messages and into YAML: what means something to a shell or to the other host list
/// dialects is refused by name rather than passed on.
Result<void> check_literal(std::string_view literal, std::string_view item, bool first, Spot& spot) {
  spot.mark(literal);
  if (first && (literal.starts_with('-') || literal.starts_with('@'))) {
    return bad_hosts(fmt::format("'{}' begins with '{}'", shown_short(item), literal.front()),
                     "exclusions and groups are not supported; write the host names");
  }
  for (const char& c : literal) {
    spot.mark(std::string_view(&c, 1));
    if (is_host_blank(c))
      return bad_hosts(fmt::format("blank inside '{}'", shown_short(item)), "separate hosts by commas");
    if (c == ':') {
      return bad_hosts(fmt::format("':' in '{}'", shown_short(item)),
                       "give a port with the key 'port' and the number of ranks with the key 'slots'");
    }
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    if (control || std::string_view("[]{}()/\\'\"`<>|&^!*?$#=;").find(c) != std::string_view::npos) {
      return bad_hosts(fmt::format("'{}' cannot stand in a host name: '{}'", control ? '?' : c, shown_short(item)));
    }
  }
  return ok;
}

Result<Pattern> parse_item(std::string_view item, Spot& spot) {
  Pattern pattern;
  std::size_t at = 0;
  for (;;) {
    const auto open = item.find_first_of("[]", at);
    const std::string_view literal = item.substr(at, open == item.npos ? open : open - at);
    if (open != item.npos) spot.mark(item.substr(open));
    if (open != item.npos && item[open] == ']')
      return bad_hosts(fmt::format("']' without '[' in '{}'", shown_short(item)));
    if (auto checked = check_literal(literal, item, at == 0, spot); !checked) return checked.error();
    pattern.literals.emplace_back(literal);
    if (open == item.npos) return pattern;
    spot.mark(item.substr(open));
    const auto close = item.find_first_of("[]", open + 1);
    if (close == item.npos || item[close] == '[')
      return bad_hosts(fmt::format("'[' without ']' in '{}'", shown_short(item)));
    auto bracket = parse_bracket(item.substr(open + 1, close - open - 1), item, spot);
    if (!bracket) return bracket.error();
    pattern.brackets.push_back(std::move(*bracket));
    at = close + 1;
  }
}

/// The number of names, once it is known that all fit the limits.
Result<std::uint64_t> measure(const Pattern& pattern, std::string_view item) {
  std::uint64_t count = 1;
  std::size_t bytes = 0;
  for (const auto& literal : pattern.literals) bytes += literal.size();
  for (const auto& bracket : pattern.brackets) {
    count *= bracket.count;  // both at most kMaxHosts: no overflow
    bytes += bracket.longest;
    if (count > kMaxHosts) return bad_hosts(fmt::format("'{}' names more than {} hosts", shown_short(item), kMaxHosts));
  }
  if (bytes > kMaxNameBytes) {
    return bad_hosts(fmt::format("a name of '{}' is longer than {} bytes", shown_short(item), kMaxNameBytes));
  }
  return count;
}

void append_names(const Pattern& pattern, std::size_t bracket, const std::string& prefix,
                  std::vector<std::string>& names) {
  const std::string name = prefix + pattern.literals[bracket];
  if (bracket == pattern.brackets.size()) {
    names.push_back(name);
    return;
  }
  for (const Range& range : pattern.brackets[bracket].ranges) {
    for (std::uint64_t n = 0, index = range.low; n < range.count(); ++n, index += range.step) {
      append_names(pattern, bracket + 1, fmt::format("{}{:0{}}", name, index, range.width), names);
    }
  }
}

/// "fe80::1%eth0" and "[2001:db8::1]:2222" are addresses, not patterns.
bool is_ipv6(std::string_view item) {
  if (item.find('\0') != item.npos) return false;  // inet_pton would read up to there
  if (item.starts_with('[')) {
    const auto close = item.find(']');
    if (close == item.npos) return false;
    const auto rest = item.substr(close + 1);
    if (!rest.empty() && (rest.front() != ':' || !is_number(rest.substr(1)))) return false;
    item = item.substr(1, close - 1);
  }
  const auto zone = item.find('%');
  if (zone != item.npos) {
    const auto name = item.substr(zone + 1);
    const auto allowed = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.' || c == '_';
    };
    if (name.empty() || name.size() > 32 || !std::all_of(name.begin(), name.end(), allowed)) return false;
  }
  in6_addr address{};
  return inet_pton(AF_INET6, std::string(item.substr(0, zone)).c_str(), &address) == 1;
}

/// Of an IPv6 address in brackets.
Result<void> check_port(std::string_view item) {
  const auto colon = item.find("]:");
  if (colon == item.npos) return ok;
  const auto digits = item.substr(colon + 2);
  if (digits.size() <= 5 && to_number(digits) >= 1 && to_number(digits) <= 65535) return ok;
  return bad_hosts(fmt::format("the port in '{}' must be from 1 to 65535", shown_short(item)));
}

/// The end of the item that begins at `at`: a comma inside brackets does not split the list.
std::size_t item_end(std::string_view list, std::size_t at) {
  bool inside = false;
  for (; at < list.size(); ++at) {
    if (list[at] == '[') inside = true;
    if (list[at] == ']') inside = false;
    if (list[at] == ',' && !inside) break;
  }
  return at;
}

}  // namespace

bool is_ipv6_literal(std::string_view item) {
  return is_ipv6(item);
}

Result<std::vector<std::string>> expand_hostlist(std::string_view list) {
  std::size_t bad_at = 0;
  return expand_hostlist(list, bad_at);
}

namespace {

Result<std::vector<std::string>> expand(std::string_view list, Spot& spot) {
  std::vector<std::string> names;
  if (list.size() > kMaxListBytes)
    return bad_hosts(fmt::format("the host list is longer than {} bytes", kMaxListBytes));
  if (trimmed_host(list).empty()) return names;
  for (std::size_t at = 0;;) {
    const std::size_t end = item_end(list, at);
    const std::string_view item = trimmed_host(list.substr(at, end - at));
    spot.mark(list.substr(at));
    if (item.empty()) return bad_hosts(fmt::format("a comma too many in '{}'", shown_short(list)));
    spot.mark(item);
    if (is_ipv6(item)) {
      if (auto checked = check_port(item); !checked) return checked.error();
      names.emplace_back(item);
    } else {
      const auto pattern = parse_item(item, spot);
      if (!pattern) return pattern.error();
      spot.mark(item);
      const auto count = measure(*pattern, item);
      if (!count) return count.error();
      if (names.size() + *count > kMaxHosts) {
        return bad_hosts(fmt::format("the list names more than {} hosts, at '{}'", kMaxHosts, shown_short(item)));
      }
      // Twice as much each time: reserve() itself makes room for what is asked and no more, for every item anew.
      if (names.capacity() < names.size() + *count)
        names.reserve(std::max(names.size() + *count, 2 * names.capacity()));
      append_names(*pattern, 0, {}, names);
    }
    if (names.size() > kMaxHosts) return bad_hosts(fmt::format("the list names more than {} hosts", kMaxHosts));
    if (end >= list.size()) return names;
    at = end + 1;
  }
}

}  // namespace

Result<std::vector<std::string>> expand_hostlist(std::string_view list, std::size_t& bad_at) {
  Spot spot(list);
  auto names = expand(list, spot);
  bad_at = names ? 0 : std::min(spot.at(), list.size());
  return names;
}

Result<std::vector<std::size_t>> places_of_slice(std::string_view slice, std::size_t count) {
  Spot spot(slice);
  const auto bracket = parse_bracket(slice, slice, spot);
  if (!bracket) return bracket.error();
  std::vector<std::size_t> places;
  places.reserve(bracket->count);
  for (const Range& range : bracket->ranges) {
    if (range.low + (range.count() - 1) * range.step >= count) {
      return bad_hosts(fmt::format("slice '{}': there {} only {} host{}, counted from 0", shown_short(slice),
                                   count == 1 ? "is" : "are", count, count == 1 ? "" : "s"));
    }
    for (std::uint64_t n = 0, at = range.low; n < range.count(); ++n, at += range.step) places.push_back(at);
  }
  return places;
}

}  // namespace llmlaunch::launcher
