// Names → folded lists. Each name is cut into texts and indices; neighbours that differ in one index become one item,
// and items that differ in one index become one again. Indices stay strings: "n2" and "n02" are two hosts.
#include "launcher/hostlist_fold.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "launcher/hostlist.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher {
namespace {

// Longer ones would not fit 64 bits, and are text.
constexpr std::size_t kMaxFoldedDigits = 18;

bool is_index_digit(char c) {
  return c >= '0' && c <= '9';
}

std::uint64_t index_number(std::string_view digits) {  // at most kMaxFoldedDigits digits
  std::uint64_t value = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

/// A name, or names already folded, cut into what can vary and what cannot.
struct Token {
  enum class Kind { text, index, bracket } kind;
  std::string text;
  bool operator==(const Token&) const = default;
};
using Tokens = std::vector<Token>;

Tokens tokens_of(const std::string& name) {
  if (name.find_first_of(":[]") != name.npos) return {{Token::Kind::text, name}};  // IPv6: left alone
  Tokens tokens;
  for (std::size_t at = 0; at < name.size();) {
    const bool digits = is_index_digit(name[at]);
    std::size_t end = at;
    while (end < name.size() && is_index_digit(name[end]) == digits) ++end;
    const bool index = digits && end - at <= kMaxFoldedDigits;
    tokens.push_back({index ? Token::Kind::index : Token::Kind::text, name.substr(at, end - at)});
    at = end;
  }
  return tokens;
}

std::string joined_tokens(const Tokens& tokens) {
  std::string text;
  for (const Token& token : tokens) text += token.text;
  return text;
}

bool may_fold(const Tokens& tokens, std::size_t at, const std::vector<int>& axes) {
  if (axes.empty()) return true;
  const auto varies = [](const Token& token) { return token.kind != Token::Kind::text; };
  const auto before = std::count_if(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(at), varies);
  const auto all = std::count_if(tokens.begin(), tokens.end(), varies);
  const auto from_front = static_cast<int>(before) + 1;
  const auto from_back = static_cast<int>(before - all);
  return std::any_of(axes.begin(), axes.end(), [&](int axis) { return axis == from_front || axis == from_back; });
}

/// Where two neighbours differ, if that is exactly one index with no bracket before it (a bracket further right varies
/// faster, which is the order of expansion).
std::optional<std::size_t> one_difference(const Tokens& a, const Tokens& b, const std::vector<int>& axes) {
  if (a.size() != b.size()) return std::nullopt;
  std::optional<std::size_t> found;
  bool bracket_before = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] != b[i]) {
      if (found || bracket_before || a[i].kind != Token::Kind::index || b[i].kind != Token::Kind::index)
        return std::nullopt;
      found = i;
    }
    bracket_before |= a[i].kind == Token::Kind::bracket;
  }
  return found && may_fold(a, *found, axes) ? found : std::nullopt;
}

/// Is `next` what a range with this step, begun by an index of that width, has behind `index`?
bool follows(const std::string& index, const std::string& next, std::uint64_t step, std::size_t width) {
  return fmt::format("{:0{}}", index_number(index) + step, width) == next;
}

/// The last of the indices from `first` on that have this distance.
std::size_t end_of_run(const std::vector<std::string>& indices, std::size_t first, std::uint64_t step) {
  const bool padded = indices[first].size() > 1 && indices[first].front() == '0';
  const std::size_t width = padded ? indices[first].size() : 0;
  std::size_t last = first;
  while (last + 1 < indices.size() && follows(indices[last], indices[last + 1], step, width)) ++last;
  return last;
}

std::string fold_indices(const std::vector<std::string>& indices, std::size_t steps_from) {
  std::string text = "[";
  for (std::size_t i = 0; i < indices.size();) {
    std::uint64_t step = 1;
    std::size_t last = end_of_run(indices, i, step);
    const bool alone = last == i && i + 1 < indices.size() && index_number(indices[i + 1]) > index_number(indices[i]);
    if (alone && steps_from > 0) {
      step = index_number(indices[i + 1]) - index_number(indices[i]);
      last = end_of_run(indices, i, step);
      if (last - i + 1 < steps_from) last = i;
    }
    if (i > 0) text += ',';
    text += indices[i];
    if (last > i) text += '-' + indices[last];
    if (last > i && step > 1) text += fmt::format("/{}", step);
    i = last + 1;
  }
  return text + "]";
}

/// One pass: neighbours that differ in the same single index become one item. True when anything was folded.
bool fold_once(std::vector<Tokens>& items, const FoldOptions& options) {
  const auto difference = [&](std::size_t i) { return one_difference(items[i], items[i + 1], options.axes); };
  std::vector<Tokens> folded;
  for (std::size_t i = 0; i < items.size();) {
    const auto field = i + 1 < items.size() ? difference(i) : std::nullopt;
    if (!field) {
      folded.push_back(std::move(items[i++]));
      continue;
    }
    std::vector<std::string> indices{items[i][*field].text};
    std::size_t end = i + 1;
    while (end < items.size() && difference(end - 1) == field) indices.push_back(items[end++][*field].text);
    Tokens item = std::move(items[i]);
    item[*field] = {Token::Kind::bracket, fold_indices(indices, options.steps_from)};
    folded.push_back(std::move(item));
    i = end;
  }
  const bool changed = folded.size() < items.size();
  items = std::move(folded);
  return changed;
}

}  // namespace

std::string fold_hostlist(const std::vector<std::string>& hosts, const FoldOptions& options) {
  std::vector<Tokens> items;
  items.reserve(hosts.size());
  for (const auto& host : hosts) items.push_back(tokens_of(host));
  while (fold_once(items, options)) {
  }
  std::string list;
  for (const auto& item : items) list += (list.empty() ? "" : ",") + joined_tokens(item);
  return list;
}

std::string compress_hostlist(const std::vector<std::string>& hosts) {
  return fold_hostlist(hosts, {});
}

std::vector<std::string> contiguous_hostlists(const std::vector<std::string>& hosts) {
  std::vector<std::string> lists;
  std::vector<std::string> part;
  std::optional<std::size_t> field;  // of the part
  std::size_t width = 0;
  Tokens before;
  for (const auto& host : hosts) {
    Tokens tokens = tokens_of(host);
    const auto found = part.empty() ? std::nullopt : one_difference(before, tokens, {});
    if (found && part.size() == 1) {
      const std::string& first = before[*found].text;
      width = first.size() > 1 && first.front() == '0' ? first.size() : 0;
      field = found;
    }
    const bool goes_on = found && found == field && follows(before[*found].text, tokens[*found].text, 1, width);
    if (!goes_on && !part.empty()) lists.push_back(compress_hostlist(std::exchange(part, {})));
    part.push_back(host);
    before = std::move(tokens);
  }
  if (!part.empty()) lists.push_back(compress_hostlist(part));
  return lists;
}

Result<std::vector<int>> parse_axes(std::string_view text) {
  std::vector<int> axes;
  while (true) {
    const auto comma = text.find(',');
    const std::string_view piece = text.substr(0, comma);
    const int axis = parse_whole<int>(piece).value_or(0);
    if (axis == 0 || axis > kMaxAxes || axis < -kMaxAxes)
      return make_error(Errc::invalid_argument, fmt::format("'{}' is no axis", piece.substr(0, 20)), {},
                        "1 is the first index of a name, -1 the last one; 1,2 are two of them");
    axes.push_back(axis);
    if (comma == text.npos) return axes;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace llmlaunch::launcher
