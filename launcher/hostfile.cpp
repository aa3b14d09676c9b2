// The dialects of host files. Each line is cut into words; what a word may be depends on the dialect. Slots of a host
// that comes again are added where the dialect counts lines, and are an error where it does not.
#include "launcher/hostfile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "launcher/file_kind.hpp"
#include "launcher/host_scan.hpp"
#include "launcher/hostlist.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::uint32_t kMaxHostSlots = 4096;  // as llmlaunch.hosts allows

struct Word {
  std::string_view text;
  std::size_t column = 1;
};
struct HostfileLine {
  std::size_t number = 0;
  std::vector<Word> words;
};

bool is_line_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r';
}

std::vector<Word> words_in(std::string_view line) {
  std::vector<Word> words;
  line = line.substr(0, line.find('#'));
  for (std::size_t at = 0; at < line.size();) {
    if (is_line_blank(line[at])) {
      ++at;
      continue;
    }
    std::size_t end = at;
    for (bool inside = false; end < line.size() && (inside || !is_line_blank(line[end])); ++end) {
      if (line[end] == '[') inside = true;
      if (line[end] == ']') inside = false;
    }
    words.push_back({line.substr(at, end - at), at + 1});
    at = end;
  }
  return words;
}

std::vector<HostfileLine> lines_of(std::string_view text) {
  std::vector<HostfileLine> lines;
  for (std::size_t at = 0, number = 1; at < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    HostfileLine line{number, words_in(text.substr(at, end - at))};
    if (!line.words.empty()) lines.push_back(std::move(line));
    at = end + 1;
  }
  return lines;
}

/// Collects hosts; knows the file's name for messages.
class Reader {
 public:
  Reader(const std::string& file, HostfileFormat format) : file_(file), format_(format) {}

  Result<void> settings_line(const HostfileLine& line);  // openmpi, deepspeed, mpich
  Result<void> name_line(const HostfileLine& line);      // pbs
  Result<void> pairs(const std::vector<HostfileLine>& lines);
  std::vector<HostConfig> take() && { return std::move(hosts_); }

 private:
  Error wrong(const HostfileLine& line, const Word& word, std::string what, std::string hint = {}) const {
    return make_error(Errc::invalid_config, std::move(what), fmt::format("{}:{}:{}", file_, line.number, word.column),
                      std::move(hint));
  }
  Result<std::uint32_t> count(const HostfileLine& line, const Word& word, std::string_view key, std::string_view text,
                              std::uint32_t most) const;
  Result<void> setting(const HostfileLine& line, const Word& word, HostConfig& shared,
                       std::optional<std::uint32_t>& most);
  Result<void> add(const HostfileLine& line, const Word& word, const HostConfig& shared, bool counted);

  std::string file_;
  HostfileFormat format_;
  std::vector<HostConfig> hosts_;
  std::unordered_map<std::string, std::size_t> places_;
};

Result<std::uint32_t> Reader::count(const HostfileLine& line, const Word& word, std::string_view key,
                                    std::string_view text, std::uint32_t most) const {
  const auto value = parse_whole<std::uint32_t>(text);
  if (value && *value >= 1 && *value <= most) return *value;
  return wrong(line, word, fmt::format("{} must be a number from 1 to {}, not '{}'", key, most, shown_short(text)));
}

// "slots=8": a key that changes what runs is read or refused, never passed over.
Result<void> Reader::setting(const HostfileLine& line, const Word& word, HostConfig& shared,
                             std::optional<std::uint32_t>& most) {
  const auto equals = word.text.find('=');
  const std::string_view key = word.text.substr(0, equals);
  const std::string_view value = equals == word.text.npos ? std::string_view{} : word.text.substr(equals + 1);
  if (equals == word.text.npos)
    return wrong(line, word, fmt::format("'{}' behind a host: expected slots=N", shown_short(word.text)),
                 "one host a line");
  if (key == "slots" || key == "max_slots" || key == "max-slots") {
    const auto number = count(line, word, key, value, kMaxHostSlots);
    if (!number) return number.error();
    (key == "slots" ? shared.slots : most) = *number;
  } else if (key == "port") {
    const auto number = count(line, word, key, value, 65535);
    if (!number) return number.error();
    shared.port = static_cast<std::uint16_t>(*number);
  } else if (key == "user" || key == "username") {
    if (value.empty()) return wrong(line, word, fmt::format("{} is empty", key));
    shared.user = std::string(value);
  } else {
    return wrong(line, word, fmt::format("unknown key '{}'", shown_short(key)),
                 "known are slots, max_slots, user and port");
  }
  return ok;
}

Result<void> Reader::settings_line(const HostfileLine& line) {
  Word host = line.words.front();
  HostConfig shared;
  std::optional<std::uint32_t> most;
  const auto colon = host.text.rfind(':');
  const bool counted_by_colon =
      format_ == HostfileFormat::mpich && colon != host.text.npos && !is_ipv6_literal(host.text);
  if (counted_by_colon) {
    const auto slots = count(line, host, "the number behind ':'", host.text.substr(colon + 1), kMaxHostSlots);
    if (!slots) return slots.error();
    shared.slots = *slots;
    host.text = host.text.substr(0, colon);
  }
  for (std::size_t i = 1; i < line.words.size(); ++i)
    if (auto read = setting(line, line.words[i], shared, most); !read) return read;
  if (most && shared.slots.value_or(1) > *most)
    return wrong(line, host, fmt::format("slots={} is more than max_slots={}", shared.slots.value_or(1), *most));
  return add(line, host, shared, format_ == HostfileFormat::openmpi);
}

Result<void> Reader::name_line(const HostfileLine& line) {
  if (line.words.size() > 1)
    return wrong(line, line.words[1],
                 fmt::format("'{}' behind a host: expected one host a line", shown_short(line.words[1].text)));
  return add(line, line.words.front(), {}, true);
}

// "node1 8 node2 8", or names alone.
Result<void> Reader::pairs(const std::vector<HostfileLine>& lines) {
  std::vector<std::pair<const HostfileLine*, Word>> words;
  for (const HostfileLine& line : lines)
    for (const Word& word : line.words) words.emplace_back(&line, word);
  const bool paired = words.size() > 1 && parse_whole<std::uint32_t>(words[1].second.text).has_value();
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto& [line, word] = words[i];
    HostConfig shared;
    if (paired) {
      if (i + 1 == words.size())
        return wrong(*line, word, fmt::format("no number behind '{}'", shown_short(word.text)),
                     "expected host n host n …");
      const auto slots = count(*words[i + 1].first, words[i + 1].second, "the number behind a host",
                               words[i + 1].second.text, kMaxHostSlots);
      if (!slots) return slots.error();
      shared.slots = *slots;
      ++i;
    }
    if (auto added = add(*line, word, shared, true); !added) return added;
  }
  return ok;
}

// `counted`: a host that comes again has more slots, and a line without slots is one.
Result<void> Reader::add(const HostfileLine& line, const Word& word, const HostConfig& shared, bool counted) {
  if (word.text.starts_with('+'))
    return wrong(line, word,
                 fmt::format("'{}': hosts relative to an allocation are not supported", shown_short(word.text)),
                 "write the host's name");
  const auto names = expand_hostlist(word.text);
  const auto colon = word.text.rfind(':');
  const bool like_mpich = colon != word.text.npos && word.text.find(':') == colon &&
                          parse_whole<std::uint32_t>(word.text.substr(colon + 1)).has_value();
  if (!names && like_mpich)
    return wrong(
        line, word, names.error().what,
        fmt::format("the file is read as one of {}; --from takes another format: name:N is mpich's, on every line",
                    kHostfileFormats[static_cast<std::size_t>(format_)]));
  if (!names) return wrong(line, word, names.error().what, names.error().hint);
  for (const std::string& written : *names) {
    HostConfig host = host_named(written);
    if (host.name.empty() || host.name.find('@') != std::string::npos || (host.user && host.user->empty()))
      return wrong(line, word, fmt::format("'{}' is no host name: expected name or user@name", shown_short(written)));
    if (shared.user) host.user = shared.user;
    if (shared.port) host.port = shared.port;
    host.slots = shared.slots;
    host.where = fmt::format("{}:{}", file_, line.number);
    const auto [place, is_new] = places_.emplace(host.name, hosts_.size());
    if (is_new) {
      if (hosts_.size() == kMaxHosts) return wrong(line, word, fmt::format("more than {} hosts", kMaxHosts));
      if (counted && !host.slots && format_ != HostfileFormat::openmpi) host.slots = 1;
      hosts_.push_back(std::move(host));
      continue;
    }
    HostConfig& first = hosts_[place->second];
    if (!counted || first.user != host.user || first.port != host.port)
      return wrong(line, word, fmt::format("host '{}' is listed twice", host.name), "first at " + first.where);
    first.slots = first.slots.value_or(1) + host.slots.value_or(1);
    if (*first.slots > kMaxHostSlots)
      return wrong(line, word, fmt::format("host '{}' has more than {} slots", host.name, kMaxHostSlots));
  }
  return ok;
}

Result<HostfileHosts> expressions(std::string_view text, const std::string& name, const HostSources& sources) {
  HostSelector selector(sources);
  if (auto read = selector.include_file(text, name); !read) {
    Error error = read.error();
    if (error.code == Errc::invalid_argument) error.code = make_error_code(Errc::invalid_config);
    return error;
  }
  HostfileHosts found;
  for (const std::string& written : selector.names()) {
    HostConfig host = host_named(written);
    host.where = name;
    found.hosts.push_back(std::move(host));
  }
  found.notes = selector.notes();
  return found;
}

}  // namespace

std::optional<HostfileFormat> hostfile_format(std::string_view name) {
  const auto found = std::find(kHostfileFormats.begin(), kHostfileFormats.end(), name);
  if (found == kHostfileFormats.end()) return std::nullopt;
  return static_cast<HostfileFormat>(found - kHostfileFormats.begin());
}

HostfileFormat guess_hostfile_format(std::string_view text) {
  bool repeated = false;
  std::unordered_map<std::string_view, int> seen;
  const auto has_key = [](const Word& word, std::string_view key) { return word.text.starts_with(key); };
  const auto lines = lines_of(text);
  for (const HostfileLine& line : lines) {
    for (const Word& word : line.words)
      if (has_key(word, "slots=") || has_key(word, "max_slots=") || has_key(word, "max-slots="))
        return HostfileFormat::openmpi;
  }
  for (const HostfileLine& line : lines) {
    const std::string_view first = line.words.front().text;
    const auto colon = first.rfind(':');
    const bool counted = colon != first.npos && parse_whole<std::uint32_t>(first.substr(colon + 1)) &&
                         first.find(':') == colon && !is_ipv6_literal(first);
    if (counted || (line.words.size() > 1 && has_key(line.words[1], "user="))) return HostfileFormat::mpich;
    if (line.words.size() > 1 && parse_whole<std::uint32_t>(line.words[1].text)) return HostfileFormat::lsf;
    if (line.words.size() > 1 && line.words[1].text.find('=') != std::string_view::npos) return HostfileFormat::openmpi;
    repeated |= ++seen[first] > 1;
  }
  return repeated ? HostfileFormat::pbs : HostfileFormat::pdsh;
}

Result<HostfileHosts> parse_hostfile(std::string_view text, const std::string& name, HostfileFormat format,
                                     const HostSources& sources) {
  if (text.size() > kMaxHostfileBytes)
    return make_error(Errc::invalid_config, fmt::format("more than {} bytes are no list of hosts", kMaxHostfileBytes),
                      name);
  if (looks_like_configuration(text))
    return make_error(Errc::invalid_config, "a configuration, and no list of hosts", name,
                      "--config takes such a file, with the hosts that it names");
  if (format == HostfileFormat::automatic) format = guess_hostfile_format(text);
  if (format == HostfileFormat::pdsh || format == HostfileFormat::slurm) return expressions(text, name, sources);
  const auto lines = lines_of(text);
  Reader reader(name, format);
  if (format == HostfileFormat::lsf) {
    if (auto read = reader.pairs(lines); !read) return read.error();
    return HostfileHosts{std::move(reader).take(), {}};
  }
  for (const HostfileLine& line : lines) {
    auto read = format == HostfileFormat::pbs ? reader.name_line(line) : reader.settings_line(line);
    if (!read) return read.error();
  }
  return HostfileHosts{std::move(reader).take(), {}};
}

Result<std::vector<std::uint32_t>> slurm_tasks(std::string_view text, std::size_t nodes) {
  std::vector<std::uint32_t> tasks;
  const auto bad = [&text] {
    return make_error(Errc::invalid_argument,
                      fmt::format("SLURM_TASKS_PER_NODE '{}' is not like 8(x2),4", shown_short(text)));
  };
  const auto speaks_of = [&text, nodes](const std::string& number) {
    return make_error(Errc::invalid_argument,
                      fmt::format("SLURM_TASKS_PER_NODE '{}' speaks of {} nodes, the node list of {}",
                                  shown_short(text), number, nodes));
  };
  for (std::string_view rest = text; !rest.empty();) {
    const auto comma = rest.find(',');
    std::string_view piece = rest.substr(0, comma);
    rest = comma == rest.npos ? std::string_view{} : rest.substr(comma + 1);
    std::uint32_t times = 1;
    if (const auto open = piece.find("(x"); open != piece.npos && piece.ends_with(')')) {
      const auto number = parse_whole<std::uint32_t>(piece.substr(open + 2, piece.size() - open - 3));
      if (!number) return bad();
      if (*number > nodes) return speaks_of("more");
      times = *number;
      piece = piece.substr(0, open);
    }
    const auto number = parse_whole<std::uint32_t>(piece);
    if (!number || *number < 1 || *number > kMaxHostSlots) return bad();
    if (tasks.size() + times > nodes) return speaks_of("more");
    tasks.insert(tasks.end(), times, *number);
  }
  if (tasks.size() == nodes) return tasks;
  return speaks_of(std::to_string(tasks.size()));
}

}  // namespace llmlaunch::launcher
