// An expression as text: where its items begin and end. What they mean is host_expression.cpp's.
#include "launcher/host_scan.hpp"

#include <fmt/format.h>

namespace llmlaunch::launcher {
namespace {

constexpr std::size_t kShownHostBytes = 100;  // of an expression, on either side of the bad place
constexpr std::string_view kOperators = ",!&^";

}  // namespace

Error bad_hosts(std::string what, std::string hint) {
  return make_error(Errc::invalid_argument, std::move(what), {}, std::move(hint));
}

bool is_host_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

std::string_view trimmed_host(std::string_view text) {
  while (!text.empty() && is_host_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_host_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string shown_host(std::string_view text) {
  std::string out;
  for (const char c : text) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out;
}

std::string shown_short(std::string_view text) {
  constexpr std::size_t kMost = 60;
  return text.size() > kMost ? shown_host(text.substr(0, kMost)) + "…" : shown_host(text);
}

std::string with_caret(std::string_view expression, std::size_t at) {
  const std::size_t from = at > kShownHostBytes ? at - kShownHostBytes : 0;
  const std::string_view before = expression.substr(from, at - from);
  std::size_t columns = from > 0 ? 1 : 0;
  for (const char c : before) columns += (static_cast<unsigned char>(c) & 0xc0) == 0x80 ? 0 : 1;
  const std::string_view behind = expression.substr(at, kShownHostBytes);
  return fmt::format("\n   {}{}{}{}\n   {}^", from > 0 ? "…" : "", shown_host(before), shown_host(behind),
                     at + behind.size() < expression.size() ? "…" : "", std::string(columns, ' '));
}

void HostScan::skip_blanks() {
  while (at_ < text_.size() && is_host_blank(text_[at_])) ++at_;
}

bool HostScan::at_operator() const {
  return at_ < text_.size() && kOperators.find(text_[at_]) != kOperators.npos;
}

Result<void> HostScan::regex(HostItem& item) {
  std::size_t end = at_ + 1;
  while (end < text_.size() && text_[end] != '/') end += text_[end] == '\\' ? 2 : 1;
  if (end >= text_.size()) return bad_hosts("a regular expression without its closing '/'");
  item.kind = HostItem::Kind::regex;
  item.text = text_.substr(at_ + 1, end - at_ - 1);
  at_ = end + 1;
  return ok;
}

// Up to the next operator outside of brackets.
void HostScan::plain(HostItem& item) {
  std::size_t end = at_;
  for (bool inside = false; end < text_.size(); ++end) {
    if (text_[end] == '[') inside = true;
    if (text_[end] == ']') inside = false;
    if (!inside && kOperators.find(text_[end]) != kOperators.npos) break;
  }
  item.text = trimmed_host(text_.substr(at_, end - at_));
  at_ = end;
}

Result<HostItem> HostScan::next() {
  HostItem item;
  skip_blanks();
  if (at_ < text_.size() && text_[at_] == '-') {
    item.negative = true;
    ++at_;
    skip_blanks();
    if (at_ == text_.size() || (at_operator() && text_[at_] != '^')) {
      item.negative = false;
      item.kind = HostItem::Kind::standard_input;
      item.at = at_ - 1;
      return item;
    }
  }
  item.at = at_;
  if (at_ < text_.size() && text_[at_] == '/') {
    if (auto read = regex(item); !read) return read.error();
    return item;
  }
  if (at_ < text_.size() && (text_[at_] == '^' || text_[at_] == '@')) {
    item.kind = text_[at_] == '^' ? HostItem::Kind::file : HostItem::Kind::group;
    ++at_;
  }
  plain(item);
  const bool wild = item.text.find_first_of("*?") != item.text.npos;
  if (item.kind == HostItem::Kind::list && wild) item.kind = HostItem::Kind::pattern;
  if (!item.text.empty()) return item;
  if (at_ >= text_.size()) return bad_hosts("an item is missing at the end", "a sign too many?");
  return bad_hosts(fmt::format("an item is missing before '{}'", text_[at_]), "a sign too many?");
}

}  // namespace llmlaunch::launcher
