// Walks through the lines for one host: which blocks apply, the first value of each keyword, and at the end what stands
// behind "~", %h and ${NAME}. Touches no file.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "launcher/ssh/ssh_config_lines.hpp"
#include "launcher/ssh/ssh_pattern.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// A value and where it stands, for messages.
struct Found {
  std::vector<std::string> values;
  const ConfigLine* line = nullptr;
};

const std::string* variable(const EnvList& environment, std::string_view name) {
  const auto found =
      std::find_if(environment.rbegin(), environment.rend(), [&](const auto& entry) { return entry.first == name; });
  return found == environment.rend() ? nullptr : &found->second;
}

// A value as messages show it. Variables and the words of a command may be secrets.
std::string shown_value(const ConfigLine& line, std::string_view value) {
  if (line.rule->keyword == Keyword::proxy_command) {
    const std::size_t word = value.find_first_of(" \t");
    return std::string(value.substr(0, word)) + (word == value.npos ? "" : " …");
  }
  if (line.rule->name != "setenv") return std::string(value);
  return std::string(value.substr(0, value.find('='))) + "=…";
}

std::string expand_host_name(std::string_view value, const std::string& typed) {
  std::string name;
  for (std::size_t at = 0; at < value.size(); ++at) {
    if (value[at] != '%')
      name += value[at];
    else if (value[++at] == 'h')
      name += typed;
    else
      name += '%';
  }
  return name;
}

class Walk {
 public:
  Walk(const LocalUser& user, const HostQuery& host) : user_(user), host_(host) {}

  void through(const std::vector<ConfigLine>& lines, bool enter);
  HostSettings settings();

 private:
  void take(const ConfigLine& line);
  void take_unsupported(const ConfigLine& line);
  void take_left_out(const ConfigLine& line);
  bool host_applies(const ConfigLine& line) const;
  bool match_applies(const ConfigLine& line) const;
  bool criterion_applies(const MatchCriterion& criterion) const;

  const std::string* first(Keyword keyword) const;
  std::string host_name() const;
  std::string user() const;
  // The value with everything filled in; nothing, and an entry in `unsupported`, when that cannot be done.
  std::optional<std::string> expand(std::string_view value, const ConfigLine& line);
  std::optional<std::string> token(char name) const;
  std::vector<std::string> files(Keyword keyword, const std::vector<std::string>& defaults);
  void identities(HostSettings& settings);
  void proxy(HostSettings& settings);
  void alive(HostSettings& settings) const;
  std::optional<std::string> fill_in(std::string_view value, const ConfigLine& line);
  std::optional<std::string> agent();
  void cannot(const ConfigLine& line, std::string_view value, std::string reason, bool refuse = false);

  const LocalUser& user_;
  const HostQuery& host_;
  std::vector<std::pair<Keyword, Found>> found_;
  std::vector<std::pair<std::string, const ConfigLine*>> identity_files_;
  std::vector<std::pair<std::string, const ConfigLine*>> certificate_files_;
  const ConfigLine* proxy_ = nullptr;           // of a command and a jump host, ssh takes the one that comes first
  std::set<std::string, std::less<>> decided_;  // keywords of the next two that have their first value
  std::vector<UnsupportedSetting> unsupported_;
  std::vector<std::string> left_out_;
};

void Walk::through(const std::vector<ConfigLine>& lines, bool enter) {
  bool active = enter;  // lines before the first block belong to every host
  for (const ConfigLine& line : lines) {
    switch (line.rule->keyword) {
      case Keyword::host: active = enter && host_applies(line); break;
      case Keyword::match: active = enter && match_applies(line); break;
      case Keyword::include:
        for (const auto& file : line.included) through(file, active);
        break;
      default:
        if (active) take(line);
    }
  }
}

void Walk::take(const ConfigLine& line) {
  const Keyword keyword = line.rule->keyword;
  if (keyword == Keyword::harmless || keyword == Keyword::ignore_unknown) return;
  if (keyword == Keyword::unsupported) return take_unsupported(line);
  if (keyword == Keyword::left_out) return take_left_out(line);
  if (keyword == Keyword::identity_file || keyword == Keyword::certificate_file) {
    auto& files = keyword == Keyword::identity_file ? identity_files_ : certificate_files_;
    const std::string& value = line.values.front();
    const auto same = [&](const auto& entry) { return entry.first == value; };
    if (std::none_of(files.begin(), files.end(), same)) files.emplace_back(value, &line);
    return;
  }
  if (keyword == Keyword::proxy_jump || keyword == Keyword::proxy_command) {
    if (proxy_ == nullptr) proxy_ = &line;
    return;
  }
  // In ssh this "none" is the same as no line at all.
  if (keyword == Keyword::connect_timeout && lower_case(line.values.front()) == "none") return;
  if (!first(keyword)) found_.push_back({keyword, Found{line.values, &line}});
}

void Walk::take_unsupported(const ConfigLine& line) {
  if (!decided_.insert(std::string(line.rule->name)).second) return;
  if (lower_case(line.values.front()) == line.rule->harmless_value) return;
  unsupported_.push_back({line.written, shown_value(line, line.values.front()), line.place,
                          std::string(line.rule->reason), line.rule->refuse});
}

void Walk::take_left_out(const ConfigLine& line) {
  if (!decided_.insert(std::string(line.rule->name)).second) return;
  if (lower_case(line.values.front()) == line.rule->harmless_value) return;
  left_out_.push_back(fmt::format("{} ({})", line.written, line.place));
}

bool Walk::host_applies(const ConfigLine& line) const {
  bool applies = false;
  for (std::string_view pattern : line.values) {
    const bool negated = pattern.starts_with('!');
    if (negated) pattern.remove_prefix(1);
    if (!matches_pattern(host_.name, pattern)) continue;
    if (negated) return false;
    applies = true;
  }
  return applies;
}

bool Walk::match_applies(const ConfigLine& line) const {
  if (line.never) return false;
  return std::all_of(line.criteria.begin(), line.criteria.end(),
                     [&](const auto& criterion) { return criterion_applies(criterion); });
}

bool Walk::criterion_applies(const MatchCriterion& criterion) const {
  bool applies = true;  // "all"
  if (criterion.attribute == "user")
    applies = match_list(user(), criterion.patterns) == ListMatch::yes;
  else if (criterion.attribute == "localuser")
    applies = match_list(user_.name, criterion.patterns) == ListMatch::yes;
  else if (criterion.attribute != "all") {
    const std::string name = criterion.attribute == "host" ? host_name() : host_.name;
    applies = match_list(lower_case(name), lower_case(criterion.patterns)) == ListMatch::yes;
  }
  return applies != criterion.negated;
}

const std::string* Walk::first(Keyword keyword) const {
  const auto place =
      std::find_if(found_.begin(), found_.end(), [&](const auto& entry) { return entry.first == keyword; });
  return place == found_.end() ? nullptr : &place->second.values.front();
}

std::string Walk::host_name() const {
  if (host_.address) return lower_case(*host_.address);
  const std::string* value = first(Keyword::host_name);
  return lower_case(value ? expand_host_name(*value, host_.name) : host_.name);
}

std::string Walk::user() const {
  const std::string* value = first(Keyword::user);
  return host_.user ? *host_.user : value ? *value : user_.name;
}

std::optional<std::string> Walk::token(char name) const {
  const std::string* port = first(Keyword::port);
  const std::string* alias = first(Keyword::host_key_alias);
  switch (name) {
    case '%': return "%";
    case 'd': return user_.home;
    case 'h': return host_name();
    case 'k': return alias ? *alias : host_.name;
    case 'n': return host_.name;
    case 'p': return host_.port ? std::to_string(*host_.port) : port ? *port : std::to_string(kDefaultSshPort);
    case 'r': return user();
    case 'u': return user_.name;
    default: return std::nullopt;
  }
}

void Walk::cannot(const ConfigLine& line, std::string_view value, std::string reason, bool refuse) {
  unsupported_.push_back({line.written, shown_value(line, value), line.place, std::move(reason), refuse});
}

std::optional<std::string> Walk::expand(std::string_view value, const ConfigLine& line) {
  std::string text;
  std::size_t at = 0;
  if (value == "~" || value.starts_with("~/")) {
    text = user_.home;
    at = 1;
  } else if (value.starts_with('~')) {
    cannot(line, value, "the home directory of another user is not looked up");
    return std::nullopt;
  }
  for (; at < value.size(); ++at) {
    if (value[at] == '%') {
      const auto filled = at + 1 < value.size() ? token(value[at + 1]) : std::nullopt;
      if (!filled) {
        cannot(line, value, fmt::format("'{}' is not known here", value.substr(at, 2)));
        return std::nullopt;
      }
      text += *filled;
      ++at;
    } else if (value.substr(at).starts_with("${")) {
      const std::size_t end = std::min(value.find('}', at), value.size());
      const std::string_view name = value.substr(at + 2, end - at - 2);
      const std::string* content = variable(user_.environment, name);
      if (!content || end == value.size()) {
        cannot(line, value, fmt::format("the variable {} is not set", name));
        return std::nullopt;
      }
      text += *content;
      at = end;
    } else {
      text += value[at];
    }
  }
  return text;
}

// Percent signs alone: what a shell does with the rest is the shell's. What is filled in must mean nothing to it, as in
// ssh: a host's name is no program.
std::optional<std::string> Walk::fill_in(std::string_view value, const ConfigLine& line) {
  constexpr std::string_view kForShells = "'`\"$\\;&<>|(){}*?[]~# \t\r\n";
  std::string text;
  for (std::size_t at = 0; at < value.size(); ++at) {
    if (value[at] != '%') {
      text += value[at];
      continue;
    }
    const char name = ++at < value.size() ? value[at] : '\0';
    constexpr std::string_view kNames = "%hnpr";
    const auto filled = kNames.find(name) == kNames.npos ? std::nullopt : token(name);
    if (!filled || filled->starts_with('-') || filled->find_first_of(kForShells) != filled->npos) {
      cannot(line, value,
             filled ? fmt::format("'{}' in place of %{} is no plain name", *filled, name)
                    : fmt::format("'{}' is not known here", value.substr(at - 1, 2)),
             true);
      return std::nullopt;
    }
    text += *filled;
  }
  return text;
}

// Without what is said here one would go elsewhere: what cannot be done is refused.
void Walk::proxy(HostSettings& settings) {
  if (proxy_ == nullptr || lower_case(proxy_->values.front()) == "none") return;
  settings.proxy_place = proxy_->place;
  const auto text = fill_in(proxy_->values.front(), *proxy_);
  if (!text) return;
  if (proxy_->rule->keyword == Keyword::proxy_command) {
    settings.proxy_command = *text;
    return;
  }
  auto way = parse_proxy_jump(*text);
  if (way)
    settings.jumps = std::move(*way);
  else
    cannot(*proxy_, *text, way.error().what, true);
}

// ssh's own numbers for what is not said: never, and three times.
void Walk::alive(HostSettings& settings) const {
  const std::string* interval = first(Keyword::server_alive_interval);
  const std::string* count = first(Keyword::server_alive_count_max);
  const std::chrono::seconds every =
      interval ? parse_time(*interval).value_or(std::chrono::seconds(0)) : std::chrono::seconds(0);
  const int times = count ? parse_count(*count).value_or(3) : 3;
  constexpr std::chrono::seconds kLongest{86'400};
  if (every.count() > 0 && times > 0)
    settings.alive_limit = std::min(kLongest, std::min(every, kLongest) * std::min(times, 86'400));
}

std::vector<std::string> Walk::files(Keyword keyword, const std::vector<std::string>& defaults) {
  const auto place =
      std::find_if(found_.begin(), found_.end(), [&](const auto& entry) { return entry.first == keyword; });
  if (place == found_.end()) return defaults;
  std::vector<std::string> paths;
  for (const std::string& value : place->second.values) {
    if (lower_case(value) == "none") continue;
    if (auto path = expand(value, *place->second.line)) paths.push_back(std::move(*path));
  }
  return paths;
}

void Walk::identities(HostSettings& settings) {
  settings.identities_are_default = identity_files_.empty();
  // ssh's own order.
  if (identity_files_.empty())
    for (const char* name : {"id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"})
      settings.identity_files.push_back(user_.home + "/.ssh/" + name);
  for (const auto& [value, line] : identity_files_) {
    if (lower_case(value) == "none") continue;
    if (auto path = expand(value, *line)) settings.identity_files.push_back(std::move(*path));
  }
}

std::optional<std::string> Walk::agent() {
  const auto place = std::find_if(found_.begin(), found_.end(),
                                  [](const auto& entry) { return entry.first == Keyword::identity_agent; });
  const std::string value = place == found_.end() ? "SSH_AUTH_SOCK" : place->second.values.front();
  if (lower_case(value) == "none") return std::nullopt;
  const bool named = value == "SSH_AUTH_SOCK" || (value.starts_with('$') && !value.starts_with("${"));
  if (!named) return expand(value, *place->second.line);
  const std::string* socket = variable(user_.environment, value.starts_with('$') ? value.substr(1) : value);
  if (!socket || socket->empty()) return std::nullopt;
  return *socket;
}

HostSettings Walk::settings() {
  HostSettings settings;
  const std::string own = user_.home + "/.ssh/known_hosts", global = "/etc/ssh/ssh_known_hosts";
  settings.host_name = host_name();
  settings.user = user();
  if (const std::string* value = first(Keyword::port)) settings.port = parse_port(*value).value_or(kDefaultSshPort);
  if (host_.port) settings.port = *host_.port;
  identities(settings);
  for (const auto& [value, line] : certificate_files_) {
    if (lower_case(value) == "none") continue;
    if (auto path = expand(value, *line)) settings.certificate_files.push_back(std::move(*path));
  }
  settings.identity_agent = agent();
  settings.user_known_hosts_files = files(Keyword::user_known_hosts_file, {own, own + "2"});
  settings.global_known_hosts_files = files(Keyword::global_known_hosts_file, {global, global + "2"});
  if (const std::string* value = first(Keyword::identities_only)) settings.identities_only = parse_flag(*value) == true;
  if (const std::string* value = first(Keyword::host_key_alias)) settings.host_key_alias = *value;
  if (const std::string* value = first(Keyword::strict_host_key_checking))
    settings.host_key_checking = parse_checking(*value);
  if (const std::string* value = first(Keyword::hash_known_hosts)) settings.hash_known_hosts = parse_flag(*value);
  if (const std::string* value = first(Keyword::connect_timeout)) settings.connect_timeout = parse_time(*value);
  if (settings.connect_timeout == std::chrono::seconds(0)) settings.connect_timeout.reset();  // for ever, as unset
  if (const std::string* value = first(Keyword::address_family))
    settings.address_family = parse_family(*value).value_or(AddressFamily::any);
  if (const std::string* value = first(Keyword::batch_mode)) settings.batch_mode = parse_flag(*value) == true;
  proxy(settings);
  alive(settings);
  settings.unsupported = std::move(unsupported_);
  settings.left_out = std::move(left_out_);
  return settings;
}

}  // namespace

std::string to_string(const UnsupportedSetting& setting) {
  return fmt::format("{} {} ({}): {}", setting.keyword, setting.value, setting.place, setting.reason);
}

HostSettings SshConfig::for_host(const HostQuery& host) const {
  Walk walk(user_, host);
  if (lines_)
    for (const auto& file : lines_->files) walk.through(file, true);
  return walk.settings();
}

}  // namespace llmlaunch::launcher::ssh
