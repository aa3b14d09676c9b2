// Which keys the files have for a host. Names without pattern are found by a map, so that a thousand hosts against a
// thousand lines cost a thousand look-ups; only patterns and hashed names are tried one by one.
#include "launcher/ssh/known_hosts.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <unordered_map>

#include "launcher/ssh/known_hosts_lines.hpp"
#include "launcher/ssh/ssh_pattern.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// More malformed lines than these say the same thing.
constexpr std::size_t kMaxNotes = 5;

struct PlacedLine {
  KnownLine line;
  std::size_t file = 0;  // index into `files`
  std::size_t number = 0;
};

bool is_pattern(std::string_view names) {
  return names.find_first_of("*?!") != std::string_view::npos;
}

}  // namespace

struct KnownHostsLines {
  std::vector<std::string> files;
  std::vector<PlacedLine> lines;
  std::unordered_map<std::string, std::vector<std::size_t>> by_name;
  std::vector<std::size_t> tried;  // lines with patterns or a hashed name
  std::vector<std::string> notes;
  std::size_t malformed = 0;

  void add(KnownLine line, std::size_t file, std::size_t number);
  std::vector<const PlacedLine*> of(const std::string& name) const;
  std::string place(const PlacedLine& line) const {
    return line.number == 0 ? files[line.file] : fmt::format("{}:{}", files[line.file], line.number);
  }
};

void KnownHostsLines::add(KnownLine line, std::size_t file, std::size_t number) {
  const std::size_t index = lines.size();
  if (line.hashed || is_pattern(line.names)) {
    tried.push_back(index);
  } else {
    for (std::string_view rest = line.names; !rest.empty();) {
      const std::string_view name = rest.substr(0, rest.find(','));
      rest.remove_prefix(std::min(name.size() + 1, rest.size()));
      if (!name.empty()) by_name[std::string(name)].push_back(index);
    }
  }
  lines.push_back({std::move(line), file, number});
}

// In the order of the files.
std::vector<const PlacedLine*> KnownHostsLines::of(const std::string& name) const {
  std::vector<std::size_t> found;
  if (const auto place = by_name.find(name); place != by_name.end()) found = place->second;
  for (const std::size_t index : tried) {
    const KnownLine& line = lines[index].line;
    const bool matches = line.hashed ? line.hashed->matches(name) : match_list(name, line.names) == ListMatch::yes;
    if (matches) found.push_back(index);
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  std::vector<const PlacedLine*> result;
  for (const std::size_t index : found) result.push_back(&lines[index]);
  return result;
}

KnownHosts::KnownHosts() : lines_(std::make_shared<KnownHostsLines>()) {}

Result<KnownHosts> KnownHosts::load(const std::vector<std::string>& files) {
  KnownHosts hosts;
  for (const std::string& path : files) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info {};
    if (!fd && (errno == ENOENT || errno == ENOTDIR)) continue;
    const char* hint = "make it readable, or name other files in llmlaunch.ssh.known_hosts_files";
    if (!fd || ::fstat(fd.value(), &info) != 0) return system_error(errno, "known hosts cannot be read", path, hint);
    if (S_ISDIR(info.st_mode)) return make_error(Errc::io, "known hosts cannot be read from a directory", path, hint);
    std::string text, piece(65536, '\0');
    while (true) {
      const ssize_t got = ::read(fd.value(), piece.data(), piece.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return system_error(errno, "known hosts cannot be read", path, hint);
      if (got == 0) break;
      text.append(piece, 0, static_cast<std::size_t>(got));
      if (text.size() > kMaxKnownHostsBytes)
        return make_error(Errc::too_large, fmt::format("more than {} bytes of known hosts", kMaxKnownHostsBytes), path,
                          hint);
    }
    hosts.parse(text, path);
  }
  return hosts;
}

void KnownHosts::parse(std::string_view text, const std::string& file) {
  lines_->files.push_back(file);
  for (std::size_t number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    auto parsed = parse_known_line(line);
    if (parsed && *parsed) lines_->add(std::move(**parsed), lines_->files.size() - 1, number);
    if (!parsed && ++lines_->malformed <= kMaxNotes)
      lines_->notes.push_back(fmt::format("{}:{}: passed over: {}", file, number, parsed.error().what));
  }
}

void KnownHosts::add(const std::string& name, const HostKey& key, const std::string& file) {
  lines_->files.push_back(file);
  lines_->add({Marker::none, name, {}, key}, lines_->files.size() - 1, 0);
}

HostKeyAnswer KnownHosts::check(const std::string& name, const HostKey& key) const {
  HostKeyAnswer answer;
  const auto decide = [&](HostKeyStatus status, const PlacedLine& line) {
    answer.status = status;
    answer.place = lines_->place(line);
    answer.file = lines_->files[line.file];
    answer.recorded = line.line.key;
  };
  // A line may only make the answer more certain: other type, changed, ok, revoked.
  const auto rank = [](HostKeyStatus status) {
    constexpr HostKeyStatus kOrder[] = {HostKeyStatus::unknown, HostKeyStatus::other_type, HostKeyStatus::changed,
                                        HostKeyStatus::ok, HostKeyStatus::revoked};
    return std::find(std::begin(kOrder), std::end(kOrder), status) - std::begin(kOrder);
  };
  for (const PlacedLine* line : lines_->of(name)) {
    const HostKey& recorded = line->line.key;
    const bool same = recorded.blob == key.blob;
    HostKeyStatus status = same ? HostKeyStatus::ok : HostKeyStatus::changed;
    if (!same && recorded.type != key.type) status = HostKeyStatus::other_type;
    if (line->line.marker == Marker::revoked) status = same ? HostKeyStatus::revoked : HostKeyStatus::unknown;
    if (line->line.marker == Marker::cert_authority) {
      if (answer.authority_place.empty()) answer.authority_place = lines_->place(*line);
      continue;
    }
    if (rank(status) > rank(answer.status)) decide(status, *line);
  }
  if (!name.starts_with('[')) return answer;
  // The host's own lines, without the port, may forbid this key, or have it; they do not make the host known.
  HostKeyAnswer plain = check(name.substr(1, name.rfind(']') - 1), key);
  const bool helps = answer.status == HostKeyStatus::unknown && plain.status == HostKeyStatus::ok;
  return helps || plain.status == HostKeyStatus::revoked ? plain : answer;
}

HostKeyAnswer KnownHosts::check_any(const std::vector<std::string>& names, const HostKey& key) const {
  const auto rank = [](HostKeyStatus status) {
    constexpr HostKeyStatus kOrder[] = {HostKeyStatus::unknown, HostKeyStatus::other_type, HostKeyStatus::ok,
                                        HostKeyStatus::changed, HostKeyStatus::revoked};
    return std::find(std::begin(kOrder), std::end(kOrder), status) - std::begin(kOrder);
  };
  HostKeyAnswer decided;
  for (const std::string& name : names) {
    HostKeyAnswer answer = check(name, key);
    if (rank(answer.status) > rank(decided.status)) std::swap(answer, decided);
    if (decided.authority_place.empty()) decided.authority_place = answer.authority_place;
  }
  return decided;
}

std::vector<std::string> KnownHosts::types_of(const std::string& name) const {
  std::vector<std::string> types;
  for (const PlacedLine* line : lines_->of(name)) {
    const std::string& type = line->line.key.type;
    if (line->line.marker == Marker::none && std::find(types.begin(), types.end(), type) == types.end())
      types.push_back(type);
  }
  if (types.empty() && name.starts_with('[')) return types_of(name.substr(1, name.rfind(']') - 1));
  return types;
}

std::vector<std::string> KnownHosts::notes() const {
  std::vector<std::string> notes = lines_->notes;
  if (lines_->malformed > notes.size())
    notes.push_back(fmt::format("known hosts: {} more lines passed over", lines_->malformed - notes.size()));
  return notes;
}

std::string known_hosts_name(std::string_view host, std::uint16_t port, const std::string& alias) {
  if (!alias.empty()) return lower_case(alias);
  return port == 22 ? lower_case(host) : fmt::format("[{}]:{}", lower_case(host), port);
}

std::string host_key_algorithms(const std::vector<std::string>& known_types) {
  // What a server may sign with, best first; SHA-1 and DSA are not among them.
  constexpr std::string_view kAll[] = {"ssh-ed25519",         "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
                                       "ecdsa-sha2-nistp521", "rsa-sha2-512",        "rsa-sha2-256"};
  const auto type_of = [](std::string_view algorithm) { return algorithm.starts_with("rsa-") ? "ssh-rsa" : algorithm; };
  std::string text;
  const auto add = [&](bool known) {
    for (const std::string_view algorithm : kAll) {
      const bool is_known = std::find(known_types.begin(), known_types.end(), type_of(algorithm)) != known_types.end();
      if (is_known == known) text.append(text.empty() ? "" : ",").append(algorithm);
    }
  };
  add(true);
  add(false);
  return text;
}

}  // namespace llmlaunch::launcher::ssh
