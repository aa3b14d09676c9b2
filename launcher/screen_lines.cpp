// One stream's bytes through a terminal that is a few rows high. It knows of columns only that "\r" leads to the first
// one: a state that overwrites another replaces all of it, as progress bars mean it.
#include "launcher/screen_lines.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "launcher/log_mux.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kPlain = "\x1b[0m";
constexpr std::string_view kEndOfString = "\x1b\\";
constexpr std::string_view kSpecial = "\n\r\x1b\x0e\x0f";  // 0e and 0f switch letters to line drawing and back
// Colours in force, as escape sequences; what a program sets one by one beyond this begins anew.
constexpr std::size_t kMaxColourBytes = 128;

bool has_special(std::string_view bytes) {
  return std::any_of(kSpecial.begin() + 1, kSpecial.end(),
                     [bytes](char c) { return std::memchr(bytes.data(), c, bytes.size()) != nullptr; });
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(' ') == text.npos;
}

// The first number of a CSI sequence; 1 when there is none, and never more than there are rows.
std::size_t times_of(std::string_view parameters) {
  std::size_t times = 0;
  for (const char c : parameters) {
    if (c < '0' || c > '9') break;
    times = std::min<std::size_t>(10 * times + static_cast<std::size_t>(c - '0'), kMaxRows);
  }
  return std::max<std::size_t>(times, 1);
}

}  // namespace

void ScreenLines::feed(std::string_view bytes, const LineFunction& line) {
  const bool special = has_special(bytes);
  while (!bytes.empty()) {
    if (parser_ != Parser::text) {
      take_escape(bytes.front(), line);
      bytes.remove_prefix(1);
      continue;
    }
    const std::size_t end = special ? bytes.find_first_of(kSpecial) : bytes.find('\n');
    add(bytes.substr(0, end), line);
    if (end == bytes.npos) break;
    control(bytes[end], line);
    bytes.remove_prefix(end + 1);
  }
  // A rank that once wrote a long line does not keep its memory.
  if (row().text.empty() && row().text.capacity() > kMaxLineBytes / 8) row().text = std::string();
}

bool ScreenLines::redraws() const {
  return rows_.size() > 1 || rows_.front().redrawn || rows_.front().returned;
}

// The lowest one: of bars below each other that of the inner loop, which tells whether a program still moves.
std::string ScreenLines::redrawn_state() const {
  if (!redraws()) return {};
  for (auto row = rows_.rbegin(); row != rows_.rend(); ++row) {
    std::string state = row->redrawn || row->returned ? state_of(*row) : std::string();
    if (!is_blank(state)) return state;
  }
  return {};
}

void ScreenLines::show_updates(const LineFunction& line) {
  if (!redraws()) return;
  for (Row& row : rows_) {
    std::string state = state_of(row);
    if (is_blank(state) || state == row.shown) continue;
    line(state);
    row.shown = std::move(state);
  }
}

void ScreenLines::end(const LineFunction& line) {
  end_escape();
  for (Row& row : rows_) finish(row, line, true);
  rows_.assign(1, Row{});
  at_ = 0;
}

// --- text ------------------------------------------------------------------------------------------------------------

void ScreenLines::add(std::string_view text, const LineFunction& line) {
  if (text.empty()) return;
  if (row().returned) overwrite();
  while (!text.empty()) {
    std::string& held = row().text;
    if (held.size() >= kMaxLineBytes) cut(line);
    const std::size_t size = std::min(text.size(), kMaxLineBytes - held.size());
    held += text.substr(0, size);
    text.remove_prefix(size);
  }
}

void ScreenLines::add_whole(std::string_view escape, const LineFunction& line) {
  if (row().returned) overwrite();
  if (row().text.size() + escape.size() > kMaxLineBytes) cut(line);
  row().text += escape;
}

void ScreenLines::overwrite() {
  Row& here = row();
  if (!here.text.empty()) here.before = closed(here);
  here.text.clear();
  here.colour = open_colour_;
  here.redrawn = true;
  here.returned = false;
}

// The line has reached the limit: what there is of it is shown, and its next piece continues it.
void ScreenLines::cut(const LineFunction& line) {
  Row& here = row();
  const std::string mark(kCutMark);
  line((here.continued ? mark : "") + closed(here) + mark);
  here.text.clear();
  here.colour = open_colour_;
  here.continued = true;
}

// What the line shows since it was last begun, with nothing left open.
std::string ScreenLines::closed(const Row& row) const {
  std::string text = row.colour + row.text;
  const bool in_string = parser_ == Parser::string || parser_ == Parser::string_escape;
  if (in_string && &row == &rows_[at_]) text += kEndOfString;
  if (!open_colour_.empty()) text += kPlain;
  return text;
}

std::string ScreenLines::state_of(const Row& row) const {
  return row.text.empty() ? row.before : closed(row);
}

void ScreenLines::newline(const LineFunction& line) {
  if (down()) return;
  for (Row& row : rows_) finish(row, line, &row != &rows_.back());
  // Rows above come back when a program moves up again.
  if (rows_.size() > 1) rows_.erase(rows_.begin(), rows_.end() - 1);
  at_ = 0;
  Row& next = row();
  next.colour = open_colour_;
  next.text.clear();
  next.before.clear();
  next.shown.clear();
  next.returned = next.redrawn = next.continued = false;
}

void ScreenLines::finish(Row& row, const LineFunction& line, bool at_end) {
  if (row.redrawn || !row.shown.empty()) {
    const std::string state = state_of(row);
    if (!is_blank(state) && state != row.shown) line(state);
  } else if (row.continued || !row.colour.empty() || !open_colour_.empty()) {
    if (!at_end || !row.text.empty()) line((row.continued ? std::string(kCutMark) : "") + closed(row));
  } else if (!at_end || !row.text.empty()) {
    line(row.text);
  }
}

// --- control characters and escape sequences -------------------------------------------------------------------------

void ScreenLines::control(char c, const LineFunction& line) {
  switch (c) {
    case '\n': newline(line); break;
    case '\r': row().returned = true; break;
    case '\x1b': parser_ = Parser::escape; break;
    default: break;
  }
}

// What is not complete when a line ends would take the beginning of the next one for its rest.
void ScreenLines::end_escape() {
  if (parser_ == Parser::string || parser_ == Parser::string_escape) row().text += kEndOfString;
  parser_ = Parser::text;
}

void ScreenLines::take_escape(char c, const LineFunction& line) {
  if (c == '\n' || c == '\r') {
    end_escape();
    return control(c, line);
  }
  switch (parser_) {
    case Parser::escape: return begin_escape(c, line);
    case Parser::charset: parser_ = c >= 0x20 && c < 0x30 ? Parser::charset : Parser::text; return;
    case Parser::csi: return take_csi(c, line);
    case Parser::string_escape:
      end_escape();
      if (c != '\\') begin_escape(c, line);
      return;
    case Parser::string:
      if (c == '\x1b') {
        parser_ = Parser::string_escape;
        return;
      }
      if (c == '\a' || c < 0 || c >= 0x20) add(std::string_view(&c, 1), line);
      if (c == '\a') parser_ = Parser::text;
      return;
    case Parser::text: return;
  }
}

// Behind "\x1b".
void ScreenLines::begin_escape(char c, const LineFunction& line) {
  constexpr std::string_view kStrings = "]P_^X";  // title, hyperlink, picture: until BEL or "\x1b\\"
  parser_ = Parser::text;
  if (c == '[') {
    escape_.clear();
    parser_ = Parser::csi;
  } else if (c >= 0x20 && c < 0x30) {
    parser_ = Parser::charset;
  } else if (kStrings.find(c) != kStrings.npos) {
    add_whole(std::string("\x1b") + c, line);
    parser_ = Parser::string;
  } else if (c < 0x20 || c == 0x7f) {  // no escape sequence; also what is no ASCII, as char is signed
    plain_byte(c, line);
  }  // what is left is position, reset, tab stops, letters, keys
}

void ScreenLines::plain_byte(char c, const LineFunction& line) {
  if (kSpecial.find(c) != kSpecial.npos)
    control(c, line);
  else
    add(std::string_view(&c, 1), line);
}

// Behind "\x1b[": parameters, then the letter that says what to do.
void ScreenLines::take_csi(char c, const LineFunction& line) {
  if (c < 0x20 || c == 0x7f || escape_.size() >= kMaxEscapeBytes) {  // also what is no ASCII: char is signed
    parser_ = Parser::text;
    return plain_byte(c, line);
  }
  escape_ += c;
  if (c < 0x40) return;
  parser_ = Parser::text;
  obey(line);
}

void ScreenLines::obey(const LineFunction& line) {
  const char what = escape_.back();
  escape_.pop_back();
  const std::size_t times = times_of(escape_);
  switch (what) {
    case 'm': return set_colour(escape_, line);
    case 'A':
    case 'F':
      for (std::size_t i = 0; i < times; ++i) up();
      break;
    case 'B':
    case 'E':
      for (std::size_t i = 0; i < times && down(); ++i) continue;
      break;
    case 'J':
      for (std::size_t below = at_ + 1; below < rows_.size() && escape_.empty(); ++below) erase(rows_[below]);
      [[fallthrough]];
    case 'K':
      if (row().returned || escape_ == "2") erase(row());
      break;
    default: break;
  }
}

void ScreenLines::set_colour(std::string_view parameters, const LineFunction& line) {
  if (parameters.find_first_not_of("0123456789;:") != parameters.npos) return;  // it is something else that ends in m
  const std::string sequence = "\x1b[" + std::string(parameters) + "m";
  add_whole(sequence, line);
  const bool plain = parameters.find_first_not_of("0;:") == parameters.npos;
  const bool anew = parameters.starts_with("0;") || parameters.starts_with(';') ||
                    open_colour_.size() + sequence.size() > kMaxColourBytes;
  if (plain || anew) open_colour_.clear();
  if (!plain) open_colour_ += sequence;
}

void ScreenLines::up() {
  leave_row();
  if (at_ > 0) {
    --at_;
  } else if (rows_.size() < kMaxRows) {
    rows_.insert(rows_.begin(), Row{});
  }
  row().returned = true;
}

// False on the last row.
bool ScreenLines::down() {
  if (at_ + 1 == rows_.size()) return false;
  leave_row();
  ++at_;
  row().returned = true;
  return true;
}

// Only the row where the cursor is has something open.
void ScreenLines::leave_row() {
  if (!open_colour_.empty() && !row().text.empty()) row().text += kPlain;
}

void ScreenLines::erase(Row& row) {
  row.text.clear();
  row.before.clear();
  row.colour = open_colour_;
  row.redrawn = true;
  row.returned = false;
}

}  // namespace llmlaunch::launcher
