// A file of settings, by yaml-cpp's events: YAML::Node forgets keys that are given twice and expands aliases without a
// limit. Exceptions end here: yaml-cpp's own and the one by which an event stops the parser. Called by parse_options.
#include "trainer/config_file.hpp"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>

#include "rendezvous/base/cut_text.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/shown_line.hpp"

namespace llmlaunch::trainer {
namespace {

/// A terminal's usual width less the line's number: a file of JSON may be one line.
constexpr std::size_t kShownColumns = 100;

bool continues_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0U) == 0x80;  // UTF-8
}

std::size_t characters_in(std::string_view text) {
  return text.size() - static_cast<std::size_t>(std::count_if(text.begin(), text.end(), continues_character));
}

/// Line `number`, from 1, without its end.
std::string_view line_of(std::string_view text, std::size_t number) {
  for (; number > 1; --number) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  text = text.substr(0, text.find('\n'));
  if (text.ends_with('\r')) text.remove_suffix(1);
  return text;
}

constexpr std::size_t kPairOfEscapes = 12;  // characters of "\ud83d\ude00", of which one is made

/// A place of the text with joined escapes, in the text as it was.
FilePlace before_joining(FilePlace place, const std::vector<FilePlace>& joins) {
  const auto ahead = std::count_if(joins.begin(), joins.end(), [&](const FilePlace& join) {
    return join.line == place.line && join.column < place.column;
  });
  return {place.line, place.column + static_cast<std::size_t>(ahead) * (kPairOfEscapes - 1)};
}

FilePlace place_in(std::string_view text, std::size_t line, std::size_t byte) {
  return {line, characters_in(line_of(text, line).substr(0, byte)) + 1};
}

FilePlace place_of_byte(std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, at);
  const std::size_t start = before.rfind('\n');
  const auto lines = static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n'));
  return place_in(text, lines + 1, start == std::string_view::npos ? at : at - start - 1);
}

/// The place of the first byte that is no text, if there is one.
std::optional<FilePlace> place_of_no_text(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    const std::size_t length = lead < 0x80U ? 1 : lead >> 5U == 6 ? 2 : lead >> 4U == 14 ? 3 : lead >> 3U == 30 ? 4 : 0;
    bool good = length > 0 && lead != 0 && at + length <= text.size();
    for (std::size_t i = 1; good && i < length; ++i) good = continues_character(text[at + i]);
    if (!good) return place_of_byte(text, at);
    at += length;
  }
  return std::nullopt;
}

/// Leaves yaml-cpp's parser from within an event.
struct Refused {
  FilePlace place;
  std::string what;
};

constexpr std::string_view kTagOfText = "tag:yaml.org,2002:str";

class ValueBuilder final : public YAML::EventHandler {
 public:
  /// `joins` outlives it.
  ValueBuilder(std::string_view text, const std::vector<FilePlace>& joins) : joins_(joins) {
    for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
      lines_.push_back(text.substr(0, end));
      text.remove_prefix(end + 1);
    }
    lines_.push_back(text);
  }

  FileValue take_root() { return std::move(root_); }
  FilePlace last_place() const { return last_; }
  /// Of the innermost list or mapping that has not ended.
  FilePlace open_place() const { return open_.empty() ? FilePlace{1, 1} : open_.back().value.place; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) throw Refused{at(mark), "a second document; one file holds the settings of one job"};
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    keep(anchor, made(FileValue::Kind::null, mark), 1);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    check_tag(mark, tag);
    FileValue scalar = made(FileValue::Kind::scalar, mark);
    scalar.text = text;
    scalar.quoted = tag == "!" || tag == kTagOfText;
    const bool null = text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
    if (!scalar.quoted && null) scalar.kind = FileValue::Kind::null;
    keep(anchor, std::move(scalar), 1);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) throw Refused{at(mark), "an alias inside the value that it names"};
    count(at(mark), found->second.nodes);
    FileValue copy = found->second.value;
    copy.place = at(mark);
    attach(std::move(copy));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(FileValue::Kind::list, mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(FileValue::Kind::mapping, mark, tag, anchor);
  }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    FileValue value;
    YAML::anchor_t anchor = 0;
    std::size_t nodes_before = 0;
    std::map<std::string, FilePlace> keys;
  };
  struct Anchored {
    FileValue value;
    std::size_t nodes = 0;
  };

  FilePlace at(const YAML::Mark& mark) const {
    const auto line = std::min(static_cast<std::size_t>(std::max(mark.line, 0)), lines_.size() - 1);
    const auto byte = static_cast<std::size_t>(std::max(mark.column, 0));
    return before_joining({line + 1, characters_in(lines_[line].substr(0, byte)) + 1}, joins_);
  }

  FileValue made(FileValue::Kind kind, const YAML::Mark& mark) {
    FileValue value;
    value.kind = kind;
    value.place = last_ = at(mark);
    count(value.place, 1);
    return value;
  }

  void count(FilePlace place, std::size_t more) {
    nodes_ += more;
    if (nodes_ > kMaxTrainFileNodes) throw Refused{place, fmt::format("more than {} values", kMaxTrainFileNodes)};
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag) const {
    static const std::set<std::string> known = {"str", "int", "float", "bool", "null", "map", "seq"};
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    if (tag.empty() || tag == "?" || tag == "!") return;
    if (tag.starts_with(kCore) && known.contains(tag.substr(kCore.size()))) return;
    throw Refused{at(mark),
                  fmt::format("the tag '{}' is not supported; write the plain value", cut_text(tag, kShownWord))};
  }

  void begin(FileValue::Kind kind, const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) {
    check_tag(mark, tag);
    if (open_.size() >= kMaxTrainFileDepth) {
      throw Refused{at(mark), fmt::format("nested deeper than {} levels", kMaxTrainFileDepth)};
    }
    const std::size_t before = nodes_;
    open_.push_back({made(kind, mark), anchor, before, {}});
  }

  void end() {
    Open done = std::move(open_.back());
    open_.pop_back();
    const std::size_t nodes = nodes_ - done.nodes_before;
    if (done.anchor != 0) count(done.value.place, nodes);  // the kept copy: anchors around anchors multiply, too
    keep(done.anchor, std::move(done.value), nodes);
  }

  void keep(YAML::anchor_t anchor, FileValue value, std::size_t nodes) {
    if (anchor != 0) anchors_[anchor] = {value, nodes};
    attach(std::move(value));
  }

  void attach(FileValue child) {
    if (open_.empty()) {
      root_ = std::move(child);
      return;
    }
    Open& parent = open_.back();
    if (parent.value.kind == FileValue::Kind::mapping && parent.value.items.size() % 2 == 0) check_key(parent, child);
    parent.value.items.push_back(std::move(child));
  }

  static void check_key(Open& mapping, const FileValue& key) {
    if (key.kind != FileValue::Kind::scalar) throw Refused{key.place, "a key must be a plain text"};
    const auto [other, added] = mapping.keys.emplace(key.text, key.place);
    if (added) return;
    throw Refused{key.place, fmt::format("key '{}' is given twice, first on line {}", cut_text(key.text, kShownWord),
                                         other->second.line)};
  }

  const std::vector<FilePlace>& joins_;
  std::vector<std::string_view> lines_;
  FileValue root_;
  FilePlace last_{1, 1};
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  std::size_t nodes_ = 0;
  int documents_ = 0;
};

/// yaml-cpp's own words, with the usual reasons first: an end that is missing, a tab where YAML wants spaces.
Refused syntax_error(std::string_view text, const std::vector<FilePlace>& joins, const YAML::Exception& caught,
                     const ValueBuilder& builder) {
  const auto place = [&](std::size_t line, std::size_t byte) {
    return before_joining(place_in(text, line, byte), joins);
  };
  if (caught.msg == YAML::ErrorMsg::DOC_IN_SCALAR || caught.msg == YAML::ErrorMsg::EOF_IN_SCALAR) {
    return {builder.last_place(), "a text in quotes has no closing quote; it begins here or behind this"};
  }
  const bool list = caught.msg == YAML::ErrorMsg::END_OF_SEQ_FLOW;
  const auto line = static_cast<std::size_t>(std::max(caught.mark.line, 0)) + 1;
  if (list || caught.msg == YAML::ErrorMsg::END_OF_MAP_FLOW) {
    const bool at_end = line_of(text, line).find_first_not_of(" \t") == std::string_view::npos;
    if (at_end) return {builder.open_place(), list ? "a '[' without ']'" : "a '{' without '}'"};
    return {place(line, static_cast<std::size_t>(std::max(caught.mark.column, 0))),
            fmt::format("is a ',' or a '{}' missing before this?", list ? ']' : '}')};
  }
  for (const std::size_t candidate : {line, line - 1}) {
    if (candidate < 1) continue;
    const std::string_view shown = line_of(text, candidate);
    const std::size_t tab = shown.substr(0, shown.find_first_not_of(" \t")).find('\t');
    if (tab != std::string_view::npos) {
      return {place(candidate, tab), "a tab in the indentation; YAML indents by spaces"};
    }
  }
  if (caught.mark.is_null()) return {{}, "not valid YAML: " + caught.msg};
  return {place(line, static_cast<std::size_t>(std::max(caught.mark.column, 0))), "not valid YAML: " + caught.msg};
}

std::string utf8_of(std::uint32_t code) {
  std::string bytes;
  const auto rest = [&](unsigned shift) { bytes += static_cast<char>(0x80U | ((code >> shift) & 0x3fU)); };
  bytes += static_cast<char>(0xf0U | (code >> 18U));
  rest(12);
  rest(6);
  rest(0);
  return bytes;
}

/// JSON writes a character above U+FFFF as two escapes ("\ud83d\ude00"), which YAML does not know. `joins` gets the
/// places of those that became one character.
std::string with_joined_surrogates(std::string_view text, std::vector<FilePlace>& joins) {
  const auto escape_at = [&](std::size_t at, char kind) -> std::optional<std::uint32_t> {
    if (text.size() < at + 6 || text[at] != '\\' || text[at + 1] != 'u') return std::nullopt;
    std::uint32_t code = 0;
    for (const char digit : text.substr(at + 2, 4)) {
      if (std::isxdigit(static_cast<unsigned char>(digit)) == 0) return std::nullopt;
      const int value = std::isdigit(static_cast<unsigned char>(digit)) != 0
                            ? digit - '0'
                            : std::tolower(static_cast<unsigned char>(digit)) - 'a' + 10;
      code = code * 16 + static_cast<std::uint32_t>(value);
    }
    const std::uint32_t first = kind == 'h' ? 0xd800U : 0xdc00U;
    if (code < first || code >= first + 0x400U) return std::nullopt;
    return code - first;
  };
  std::string joined;
  FilePlace here{1, 1};
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] != '\\') {
      if (text[at] == '\n') {
        here = {here.line + 1, 1};
      } else if (!continues_character(text[at])) {
        ++here.column;
      }
      joined += text[at++];
      continue;
    }
    const auto high = escape_at(at, 'h');
    const auto low = high ? escape_at(at + 6, 'l') : std::nullopt;
    if (low) {
      joined += utf8_of(0x10000U + (*high << 10U) + *low);
      joins.push_back(here);
      ++here.column;
      at += kPairOfEscapes;
    } else if (at + 1 < text.size() && text[at + 1] == '\\') {
      joined += text.substr(at, 2);  // an escaped backslash begins no escape
      here.column += 2;
      at += 2;
    } else {
      joined += text[at++];
      ++here.column;
    }
  }
  return joined;
}

std::vector<std::string> shown_characters(std::string_view line) {
  std::vector<std::string> characters;
  for (const char c : line) {
    if (continues_character(c) && !characters.empty()) {
      characters.back() += c;
    } else {
      const bool control = static_cast<unsigned char>(c) < 0x20U || c == 0x7f;
      characters.emplace_back(1, control ? ' ' : c);  // a tab as one column, so that the caret stands right
    }
  }
  return characters;
}

}  // namespace

Result<ConfigFile> ConfigFile::parse(std::string name, std::string text) {
  if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
  ConfigFile file(std::move(name), std::move(text));
  if (auto read = file.read(); !read) return read.error();
  return file;
}

Result<void> ConfigFile::read() {
  if (text_.size() > kMaxTrainFile) {
    return error_at({}, fmt::format("{} bytes are more than the limit of {}", text_.size(), kMaxTrainFile));
  }
  if (const auto place = place_of_no_text(text_)) {
    return error_at({}, fmt::format("this is no UTF-8 text: see line {}, column {}", place->line, place->column));
  }
  const std::size_t first = text_.find_first_not_of(" \t\r\n");
  std::vector<FilePlace> joins;
  const std::string text =
      first != std::string::npos && text_[first] == '{' ? with_joined_surrogates(text_, joins) : text_;
  ValueBuilder builder(text, joins);
  try {
    // yaml-cpp 0.7 takes the end of the file for a closing quote when a line ends there, but not the end of a document.
    std::istringstream stream(text + (text.ends_with('\n') ? "...\n" : "\n...\n"));
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {
    }
  } catch (const Refused& refused) {
    return error_at(refused.place, refused.what);
  } catch (const YAML::Exception& caught) {
    const Refused refused = syntax_error(text, joins, caught, builder);
    return error_at(refused.place, refused.what);
  }
  FileValue root = builder.take_root();
  note_secrets(root, false);
  return take_settings(std::move(root), true);
}

Result<void> ConfigFile::take_settings(FileValue root, bool top) {
  if (root.kind == FileValue::Kind::null) return ok;
  if (root.kind != FileValue::Kind::mapping) {
    return error_at(root.place, "these are no settings", "write 'key: value' on a line for each");
  }
  for (std::size_t i = 0; i + 1 < root.items.size(); i += 2) {
    const FileValue& key = root.items[i];
    FileValue& value = root.items[i + 1];
    const bool section = top && key.text == "train";
    if (section && value.kind != FileValue::Kind::mapping && value.kind != FileValue::Kind::null) {
      return error_at(value.place, "train: a mapping is expected", "write settings below it, indented");
    }
    if (section && root.items.size() == 2) return take_settings(std::move(value), false);
    if (section) {
      const FileValue& other = root.items[i == 0 ? 2 : 0];
      return error_at(other.place, fmt::format("key '{}' stands beside 'train'", cut_text(other.text, kShownWord)),
                      "all settings are below 'train:', or all are at the top");
    }
    settings_.push_back({key.text, key.place, std::move(value)});
  }
  return ok;
}

void ConfigFile::note_secrets(const FileValue& value, bool secret) {
  // A short one would be found in other words; truths and the like are none.
  constexpr std::size_t kLeastSecret = 5;
  if (value.kind == FileValue::Kind::scalar && secret && value.text.size() >= kLeastSecret && !truth_in(value.text)) {
    secrets_.push_back(value.text);
    if (value.text.size() > kShownWord) secrets_.emplace_back(cut_text(value.text, kShownWord));
  }
  for (std::size_t i = 0; i < value.items.size(); ++i) {
    const bool in_mapping = value.kind == FileValue::Kind::mapping;
    if (in_mapping && i % 2 == 0) continue;  // a key
    note_secrets(value.items[i], secret || (in_mapping && is_secret_name(value.items[i - 1].text)));
  }
}

std::string ConfigFile::without_secrets(std::string_view message) const {
  std::string shown(message);
  for (const std::string& secret : secrets_) {
    for (std::size_t at = shown.find(secret); at != std::string::npos; at = shown.find(secret, at)) {
      shown.replace(at, secret.size(), "…");
    }
  }
  return shown;
}

bool ConfigFile::is_secret(std::string_view value) const {
  return std::any_of(secrets_.begin(), secrets_.end(),
                     [&](const std::string& secret) { return value.find(secret) != std::string_view::npos; });
}

Error ConfigFile::error_at(FilePlace place, std::string_view said, std::string_view said_note) const {
  const std::string what = without_secrets(said);
  const std::string note = without_secrets(said_note);
  if (place.line == 0) return make_error(Errc::invalid_config, what, name_, note);
  const auto characters = shown_characters(shown_line(text_, place.line));
  const std::size_t caret = std::min(std::max<std::size_t>(place.column, 1) - 1, characters.size());
  // A long line is shown around the caret, and the cuts are marked.
  const std::size_t begin = caret > kShownColumns * 3 / 4 ? caret - kShownColumns / 2 : 0;
  const std::size_t end = std::min(characters.size(), begin + kShownColumns);
  std::string shown = begin > 0 ? "…" : "";
  for (std::size_t i = begin; i < end; ++i) shown += characters[i];
  if (end < characters.size()) shown += "…";
  const std::string number = fmt::format("{:5}", place.line);
  const std::string gap(caret - begin + (begin > 0 ? 1 : 0), ' ');
  return make_error(Errc::invalid_config,
                    fmt::format("{}\n{} | {}\n{} | {}^{}{}", what, number, shown, std::string(number.size(), ' '), gap,
                                note.empty() ? "" : " ", note),
                    fmt::format("{}:{}:{}", name_, place.line, place.column));
}

}  // namespace llmlaunch::trainer
