/// \file
/// ssh_config files as lines of keywords and values: what the parser makes and for_host walks through. Private to
/// ssh_config*.cpp.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/ssh/ssh_config.hpp"

namespace llmlaunch::launcher::ssh {

/// Keywords that mean something to us; all others are `unsupported` (said aloud for the host), `left_out` (what ssh
/// would do beside connecting: named in one line) or `harmless`.
enum class Keyword {
  host,
  match,
  include,
  host_name,
  user,
  port,
  identity_file,
  identities_only,
  identity_agent,
  user_known_hosts_file,
  global_known_hosts_file,
  host_key_alias,
  strict_host_key_checking,
  hash_known_hosts,
  connect_timeout,
  address_family,
  ignore_unknown,
  proxy_command,
  proxy_jump,
  certificate_file,
  server_alive_interval,
  server_alive_count_max,
  batch_mode,
  unsupported,
  left_out,
  harmless,
};

/// How many words stand behind a keyword. `rest`: all of the line, as it is.
enum class Words { one, some, rest };

struct KeywordRule {
  std::string_view name;  ///< in small letters
  Keyword keyword = Keyword::harmless;
  Words words = Words::one;
  // For `unsupported` and, but for the last two, `left_out`:
  std::string_view harmless_value = {};  ///< with this value there is nothing to say
  std::string_view reason = {};
  bool refuse = false;
};

/// The rule of a keyword in any case, or nullptr for one that no ssh we know has.
const KeywordRule* find_keyword(std::string_view written);

struct MatchCriterion {
  std::string attribute;  ///< "all", "host", "originalhost", "user", "localuser"
  std::string patterns;
  bool negated = false;
};

struct ConfigLine {
  const KeywordRule* rule = nullptr;
  std::string written;  ///< the keyword as written
  std::vector<std::string> values;
  std::vector<MatchCriterion> criteria;           ///< of Match
  bool never = false;                             ///< a Match with a criterion that we do not have
  std::string place;                              ///< "file:line"
  std::vector<std::vector<ConfigLine>> included;  ///< of Include: one list a file
};

struct ConfigLines {
  std::vector<std::vector<ConfigLine>> files;
};

// A configuration of this size is no configuration; with Include it also ends a file that includes itself twice.
inline constexpr std::size_t kMaxConfigBytes = 4u << 20;
inline constexpr std::size_t kMaxConfigLines = 100'000;
// ssh's own limit.
inline constexpr int kMaxIncludeDepth = 16;
// More notes than these are no longer read; they are counted.
inline constexpr std::size_t kMaxConfigNotes = 20;

/// Parses one file after another; the limits count over all of them.
class ConfigParser {
 public:
  ConfigParser(const LocalUser& user, const IncludeReader& include) : user_(user), include_(include) {}

  Result<std::vector<ConfigLine>> parse(std::string_view text, const ConfigFile& file, int depth = 0);
  std::vector<std::string> take_notes();

 private:
  struct At;  // the line that is being read
  Result<std::optional<ConfigLine>> parse_line(const At& at);
  Result<void> read_words(const At& at, std::size_t offset, ConfigLine& line);
  Result<void> read_criteria(const At& at, std::size_t offset, ConfigLine& line);
  Result<void> read_includes(const At& at, ConfigLine& line);
  void note(std::string text);

  const LocalUser& user_;
  const IncludeReader& include_;
  std::vector<std::string> ignore_unknown_;
  std::vector<std::string> notes_;
  std::size_t more_notes_ = 0;
  std::size_t lines_ = 0;
};

// Values. Nothing for text that ssh would refuse.
std::optional<bool> parse_flag(std::string_view text);
std::optional<std::uint16_t> parse_port(std::string_view text);
std::optional<int> parse_count(std::string_view text);
std::optional<StrictHostKeyChecking> parse_checking(std::string_view text);
std::optional<AddressFamily> parse_family(std::string_view text);
/// "30", "1m30s"; "none" is 0 seconds.
std::optional<std::chrono::seconds> parse_time(std::string_view text);

/// What is wrong with a value of this line, or nothing.
std::string complaint_about(const ConfigLine& line);

}  // namespace llmlaunch::launcher::ssh
