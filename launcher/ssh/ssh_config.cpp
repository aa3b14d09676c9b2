// The parser: text → lines of keywords and values, as ssh takes them apart. Knows which keywords there are from
// ssh_config_keywords.cpp; what they mean for a host is in ssh_config_host.cpp, files are read in ssh_config_files.cpp.
#include "launcher/ssh/ssh_config.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "launcher/config_source.hpp"
#include "launcher/ssh/ssh_config_lines.hpp"
#include "launcher/ssh/ssh_pattern.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

constexpr std::string_view kBlank = " \t";

std::size_t skip_blank(std::string_view line, std::size_t at) {
  return std::min(line.find_first_not_of(kBlank, at), line.size());
}

// "Keyword value", "Keyword=value", "Keyword = value": blanks and at most one equals sign.
std::size_t skip_separator(std::string_view line, std::size_t at) {
  at = skip_blank(line, at);
  if (at < line.size() && line[at] == '=') at = skip_blank(line, at + 1);
  return at;
}

std::string_view without_end(std::string_view line) {
  const std::size_t last = line.find_last_not_of(" \t\r\n\f");
  return last == std::string_view::npos ? std::string_view() : line.substr(0, last + 1);
}

bool escapes(std::string_view line, std::size_t at, char quote) {
  if (line[at] != '\\' || at + 1 >= line.size()) return false;
  const char next = line[at + 1];
  return next == '\\' || next == '"' || next == '\'' || (quote == 0 && next == ' ');
}

// One word with quotes and escapes resolved; `at` goes behind it. Nothing: a quote is not closed.
std::optional<std::string> take_word(std::string_view line, std::size_t& at) {
  std::string word;
  char quote = 0;
  for (; at < line.size(); ++at) {
    if (escapes(line, at, quote)) {
      word += line[++at];
    } else if (quote == 0 && kBlank.find(line[at]) != std::string_view::npos) {
      break;
    } else if (quote == 0 && (line[at] == '"' || line[at] == '\'')) {
      quote = line[at];
    } else if (quote != 0 && line[at] == quote) {
      quote = 0;
    } else {
      word += line[at];
    }
  }
  if (quote != 0) return std::nullopt;
  return word;
}

constexpr std::string_view kNoEnd = "a quote is not closed";

}  // namespace

struct ConfigParser::At {
  const ConfigSource& source;
  const ConfigFile& file;
  std::size_t number;  // from 1
  std::string_view line;
  int depth;

  std::string place() const { return fmt::format("{}:{}", file.path, number); }
  Error error(std::size_t offset, std::string_view what, std::string_view note = {}) const {
    return source.error_at(source.mark_at(number, offset), what, note);
  }
};

void ConfigParser::note(std::string text) {
  if (notes_.size() < kMaxConfigNotes)
    notes_.push_back(std::move(text));
  else
    ++more_notes_;
}

std::vector<std::string> ConfigParser::take_notes() {
  if (more_notes_ > 0) notes_.push_back(fmt::format("ssh configuration: {} more lines passed over", more_notes_));
  return std::move(notes_);
}

Result<std::vector<ConfigLine>> ConfigParser::parse(std::string_view text, const ConfigFile& file, int depth) {
  if (depth > kMaxIncludeDepth)
    return make_error(Errc::too_large, fmt::format("more than {} files include each other", kMaxIncludeDepth),
                      file.path, "look for a file that includes itself");
  if (text.size() > kMaxConfigBytes)
    return make_error(Errc::too_large, fmt::format("more than {} bytes are no ssh configuration", kMaxConfigBytes),
                      file.path);
  const ConfigSource source(file.path, text);
  std::vector<ConfigLine> lines;
  for (std::size_t number = 1; number <= source.line_count(); ++number) {
    if (++lines_ > kMaxConfigLines)
      return make_error(Errc::too_large, fmt::format("more than {} lines with all included files", kMaxConfigLines),
                        file.path, "look for a file that includes itself");
    auto line = parse_line(At{source, file, number, without_end(source.line(number)), depth});
    if (!line) return line.error();
    if (*line) lines.push_back(std::move(**line));
  }
  return lines;
}

Result<std::optional<ConfigLine>> ConfigParser::parse_line(const At& at) {
  const std::size_t start = skip_blank(at.line, 0);
  if (start == at.line.size() || at.line[start] == '#') return std::optional<ConfigLine>();
  if (at.line.find('\0') != std::string_view::npos) return at.error(at.line.find('\0'), "a zero byte in a text file");
  const std::size_t end = std::min(at.line.find_first_of(" \t=", start), at.line.size());
  ConfigLine line;
  line.written = std::string(at.line.substr(start, end - start));
  line.place = at.place();
  line.rule = find_keyword(line.written);
  if (!line.rule) {
    const auto ignored = [&](const std::string& list) {
      return match_list(lower_case(line.written), list) == ListMatch::yes;
    };
    if (std::none_of(ignore_unknown_.begin(), ignore_unknown_.end(), ignored))
      note(fmt::format("{}: unknown keyword '{}', passed over", line.place, line.written));
    return std::optional<ConfigLine>();
  }
  const std::size_t values = skip_separator(at.line, end);
  Result<void> read =
      line.rule->keyword == Keyword::match ? read_criteria(at, values, line) : read_words(at, values, line);
  if (read && line.rule->keyword == Keyword::include) read = read_includes(at, line);
  if (!read) return read.error();
  if (line.rule->keyword == Keyword::ignore_unknown) ignore_unknown_.push_back(lower_case(line.values.front()));
  return std::optional<ConfigLine>(std::move(line));
}

Result<void> ConfigParser::read_words(const At& at, std::size_t offset, ConfigLine& line) {
  if (line.rule->words == Words::rest) {
    line.values.emplace_back(at.line.substr(offset));
    if (line.values.front().empty() && line.rule->keyword != Keyword::harmless)
      return at.error(offset, fmt::format("{} has no value", line.written));
    return ok;
  }
  std::size_t next = offset;
  while (next < at.line.size() && at.line[next] != '#') {
    const std::size_t start = next;
    const auto word = take_word(at.line, next);
    if (!word) return at.error(start, kNoEnd);
    if (word->empty()) return at.error(start, fmt::format("{} has an empty value", line.written));
    if (line.rule->words == Words::one && !line.values.empty())
      return at.error(start, fmt::format("{} has one value, this is one more", line.written),
                      "put quotes around a value with blanks");
    line.values.push_back(*word);
    next = skip_blank(at.line, next);
  }
  if (line.values.empty()) return at.error(offset, fmt::format("{} has no value", line.written));
  if (const std::string complaint = complaint_about(line); !complaint.empty())
    return at.error(offset, fmt::format("{} {}, not '{}'", line.written, complaint, line.values.front()));
  return ok;
}

Result<void> ConfigParser::read_criteria(const At& at, std::size_t offset, ConfigLine& line) {
  std::size_t next = offset;
  while (next < at.line.size() && at.line[next] != '#' && !line.never) {
    const std::size_t start = next;
    next = std::min(at.line.find_first_of(" \t=", start), at.line.size());
    MatchCriterion criterion{lower_case(at.line.substr(start, next - start)), {}, false};
    if (criterion.attribute.starts_with('!')) {
      criterion.negated = true;
      criterion.attribute.erase(0, 1);
    }
    const std::string_view name = criterion.attribute;
    if (name != "all") {
      if (name != "host" && name != "originalhost" && name != "user" && name != "localuser") {
        line.never = true;  // what follows may have a grammar of its own
        note(fmt::format("{}: 'Match {}' is not supported, the block is passed over", line.place, name));
        return ok;
      }
      next = skip_separator(at.line, next);
      const auto word = take_word(at.line, next);
      if (!word) return at.error(start, kNoEnd);
      if (word->empty() || word->starts_with('#')) return at.error(start, fmt::format("Match {} has no pattern", name));
      criterion.patterns = *word;
    }
    line.criteria.push_back(std::move(criterion));
    next = skip_blank(at.line, next);
  }
  if (line.criteria.empty()) return at.error(offset, "Match has no criterion", "for every host: Match all");
  const auto all = [](const MatchCriterion& criterion) { return criterion.attribute == "all"; };
  if (line.criteria.size() > 1 && std::any_of(line.criteria.begin(), line.criteria.end(), all))
    return at.error(offset, "Match all must stand alone");
  return ok;
}

Result<void> ConfigParser::read_includes(const At& at, ConfigLine& line) {
  for (const std::string& value : line.values) {
    if (!include_) {
      note(fmt::format("{}: Include {} was not read", line.place, value));
      continue;
    }
    std::string pattern = value;
    if (value.starts_with("~/"))
      pattern = user_.home + value.substr(1);
    else if (!value.starts_with('/'))
      pattern = at.file.include_base + "/" + value;
    auto files = include_(pattern);
    if (!files) {
      Error error = files.error();
      error.where = line.place + ": Include " + value;
      return error;
    }
    for (const IncludedFile& file : *files) {
      auto lines = parse(file.text, ConfigFile{file.path, at.file.include_base, false, true}, at.depth + 1);
      if (!lines) return lines.error();
      line.included.push_back(std::move(*lines));
    }
  }
  return ok;
}

Result<SshConfig> SshConfig::parse(std::string_view text, const ConfigFile& file, LocalUser user,
                                   const IncludeReader& include) {
  SshConfig config;
  config.user_ = std::move(user);
  ConfigParser parser(config.user_, include);
  auto lines = parser.parse(text, file);
  if (!lines) return lines.error();
  ConfigLines all;
  all.files.push_back(std::move(*lines));
  config.lines_ = std::make_shared<const ConfigLines>(std::move(all));
  config.notes_ = parser.take_notes();
  return config;
}

}  // namespace llmlaunch::launcher::ssh
