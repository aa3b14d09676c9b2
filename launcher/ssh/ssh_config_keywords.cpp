// The keywords of ssh_config(5), what we do with each, and the values that some of them may have.
#include <algorithm>
#include <array>
#include <charconv>

#include "launcher/proxy_jump.hpp"
#include "launcher/ssh/ssh_config_lines.hpp"
#include "launcher/ssh/ssh_pattern.hpp"
#include "rendezvous/base/whole_number.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

constexpr std::string_view kAlgorithms = "llmlaunch uses the algorithms of its ssh library";
constexpr std::string_view kNoModules = "llmlaunch loads no modules; use ssh-agent";
constexpr std::string_view kSource = "the system chooses the address that connections leave from";

constexpr KeywordRule kRules[] = {
    {"host", Keyword::host, Words::some},
    {"match", Keyword::match, Words::rest},
    {"include", Keyword::include, Words::some},
    {"hostname", Keyword::host_name},
    {"user", Keyword::user},
    {"port", Keyword::port},
    {"identityfile", Keyword::identity_file},
    {"identityfile2", Keyword::identity_file},
    {"identitiesonly", Keyword::identities_only},
    {"identityagent", Keyword::identity_agent},
    {"userknownhostsfile", Keyword::user_known_hosts_file, Words::some},
    {"globalknownhostsfile", Keyword::global_known_hosts_file, Words::some},
    {"hostkeyalias", Keyword::host_key_alias},
    {"stricthostkeychecking", Keyword::strict_host_key_checking},
    {"hashknownhosts", Keyword::hash_known_hosts},
    {"connecttimeout", Keyword::connect_timeout},
    {"addressfamily", Keyword::address_family},
    {"ignoreunknown", Keyword::ignore_unknown},
    {"proxycommand", Keyword::proxy_command, Words::rest},
    {"proxyjump", Keyword::proxy_jump},
    {"certificatefile", Keyword::certificate_file},
    {"serveraliveinterval", Keyword::server_alive_interval},
    {"serveralivecountmax", Keyword::server_alive_count_max},
    {"batchmode", Keyword::batch_mode},

    // Connecting without these goes elsewhere, or trusts what ssh would not.
    {"revokedhostkeys", Keyword::unsupported, Words::one, "none",
     "llmlaunch reads revoked keys from @revoked lines of known_hosts only", true},
    {"proxyusefdpass", Keyword::unsupported, Words::one, "no", "llmlaunch takes stdin and stdout of a ProxyCommand",
     true},
    {"refuseconnection", Keyword::unsupported, Words::rest, {}, "ssh would refuse this host too", true},

    // Connecting without these may fail; it then says so.
    {"pkcs11provider", Keyword::unsupported, Words::one, "none", kNoModules},
    {"smartcarddevice", Keyword::unsupported, Words::one, "none", kNoModules},
    {"securitykeyprovider", Keyword::unsupported, Words::one, "internal", kNoModules},
    {"knownhostscommand", Keyword::unsupported, Words::rest, "none", "llmlaunch reads known_hosts files only"},
    {"bindaddress", Keyword::unsupported, Words::one, {}, kSource},
    {"bindinterface", Keyword::unsupported, Words::one, {}, kSource},
    {"canonicalizehostname", Keyword::unsupported, Words::one, "no", "llmlaunch looks the name up as it is"},
    {"hostbasedauthentication", Keyword::unsupported, Words::one, "no", "llmlaunch signs in with keys and passwords"},
    {"verifyhostkeydns", Keyword::unsupported, Words::one, "no", "llmlaunch reads known_hosts files only"},
    {"nohostauthenticationforlocalhost", Keyword::unsupported, Words::one, "no", "llmlaunch checks every host's key"},
    {"remotecommand", Keyword::unsupported, Words::rest, "none", "the command is llmlaunch's own"},
    {"setenv", Keyword::unsupported, Words::rest, {}, "variables for ranks stand in llmlaunch.env"},
    {"pubkeyauthentication", Keyword::unsupported, Words::one, "yes", "a password is asked for with --ask-pass alone"},
    {"ciphers", Keyword::unsupported, Words::one, {}, kAlgorithms},
    {"macs", Keyword::unsupported, Words::one, {}, kAlgorithms},
    {"kexalgorithms", Keyword::unsupported, Words::one, {}, kAlgorithms},
    {"hostkeyalgorithms", Keyword::unsupported, Words::one, {}, kAlgorithms},
    {"pubkeyacceptedalgorithms", Keyword::unsupported, Words::one, {}, kAlgorithms},
    {"pubkeyacceptedkeytypes", Keyword::unsupported, Words::one, {}, kAlgorithms},

    // Connecting does not change without these, but somebody may wait for what they promise.
    {"addkeystoagent", Keyword::left_out, Words::some, "no"},
    {"compression", Keyword::left_out, Words::some, "no"},
    {"dynamicforward", Keyword::left_out, Words::some},
    {"forwardagent", Keyword::left_out, Words::some, "no"},
    {"forwardx11", Keyword::left_out, Words::some, "no"},
    {"gssapidelegatecredentials", Keyword::left_out, Words::some, "no"},
    {"kbdinteractiveauthentication", Keyword::left_out, Words::some, "yes"},
    {"localcommand", Keyword::left_out, Words::rest},
    {"localforward", Keyword::left_out, Words::some},
    {"passwordauthentication", Keyword::left_out, Words::some, "yes"},
    {"preferredauthentications", Keyword::left_out, Words::some},
    {"remoteforward", Keyword::left_out, Words::some},
    {"tunnel", Keyword::left_out, Words::some, "no"},
};

// Terminals, other ways to log in, comfort: nothing of it touches where and how we connect. SendEnv is among them, as
// many distributions set it for all hosts.
constexpr std::string_view kHarmless[] = {
    "addressfamilies",
    "afstokenpassing",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "casignaturealgorithms",
    "challengeresponseauthentication",
    "channeltimeout",
    "checkhostip",
    "cipher",
    "clearallforwardings",
    "compressionlevel",
    "connectionattempts",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fallbacktorsh",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "globalknownhostsfile2",
    "gssapiauthentication",
    "gssapiclientidentity",
    "gssapikexalgorithms",
    "gssapikeyexchange",
    "gssapirenewalforcesrekey",
    "gssapiserveridentity",
    "gssapitrustdns",
    "hostbasedacceptedalgorithms",
    "hostbasedkeytypes",
    "ipqos",
    "kbdinteractivedevices",
    "keepalive",
    "kerberosauthentication",
    "kerberostgtpassing",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "obscurekeystroketiming",
    "permitlocalcommand",
    "permitremoteopen",
    "protocol",
    "rekeylimit",
    "requesttty",
    "requiredrsasize",
    "rhostsauthentication",
    "rhostsrsaauthentication",
    "rsaauthentication",
    "sendenv",
    "sessiontype",
    "skeyauthentication",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tag",
    "tcpkeepalive",
    "tisauthentication",
    "tunneldevice",
    "updatehostkeys",
    "useblacklistedkeys",
    "userknownhostsfile2",
    "useprivilegedport",
    "useroaming",
    "usersh",
    "versionaddendum",
    "visualhostkey",
    "warnweakcrypto",
    "xauthlocation",
};
constexpr KeywordRule kHarmlessRule{"", Keyword::harmless, Words::rest};

template <class T, std::size_t N>
std::optional<T> choose(std::string_view text, const std::array<std::pair<std::string_view, T>, N>& choices) {
  const std::string lower = lower_case(text);
  for (const auto& [name, value] : choices)
    if (lower == name) return value;
  return std::nullopt;
}

bool bad_host_name(std::string_view text) {
  for (std::size_t at = text.find('%'); at != std::string_view::npos; at = text.find('%', at + 2))
    if (at + 1 >= text.size() || (text[at + 1] != 'h' && text[at + 1] != '%')) return true;
  return false;
}

// What stands in place of percent signs is looked at when it is known.
bool bad_way(const std::string& text) {
  return text.find('%') == text.npos && lower_case(text) != "none" && !parse_proxy_jump(text);
}

bool names_several(const std::vector<std::string>& values) {
  const auto none = [](const std::string& value) { return lower_case(value) == "none"; };
  return values.size() > 1 && std::any_of(values.begin(), values.end(), none);
}

}  // namespace

const KeywordRule* find_keyword(std::string_view written) {
  const std::string name = lower_case(written);
  for (const KeywordRule& rule : kRules)
    if (rule.name == name) return &rule;
  const bool harmless = std::find(std::begin(kHarmless), std::end(kHarmless), name) != std::end(kHarmless);
  return harmless ? &kHarmlessRule : nullptr;
}

std::optional<bool> parse_flag(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, bool>, 4> kFlags{
      {{"yes", true}, {"true", true}, {"no", false}, {"false", false}}};
  return choose(text, kFlags);
}

std::optional<std::uint16_t> parse_port(std::string_view text) {
  const auto port = parse_whole<std::uint16_t>(text);
  return port == 0 ? std::nullopt : port;
}

std::optional<int> parse_count(std::string_view text) {
  const auto count = parse_whole<int>(text);
  return count && *count < 0 ? std::nullopt : count;
}

std::optional<StrictHostKeyChecking> parse_checking(std::string_view text) {
  using enum StrictHostKeyChecking;
  constexpr std::array<std::pair<std::string_view, StrictHostKeyChecking>, 7> kChoices{
      {{"yes", yes}, {"true", yes}, {"no", no}, {"false", no}, {"off", no}, {"ask", ask}, {"accept-new", accept_new}}};
  return choose(text, kChoices);
}

std::optional<AddressFamily> parse_family(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, AddressFamily>, 3> kChoices{
      {{"any", AddressFamily::any}, {"inet", AddressFamily::inet}, {"inet6", AddressFamily::inet6}}};
  return choose(text, kChoices);
}

std::optional<std::chrono::seconds> parse_time(std::string_view text) {
  if (lower_case(text) == "none") return std::chrono::seconds(0);
  constexpr std::int64_t kLongest = 365 * 86400;
  std::int64_t total = 0;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    std::int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number < 0 || number > kLongest) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    constexpr std::string_view kUnits = "smhdw";
    constexpr std::int64_t kSeconds[] = {1, 60, 3600, 86400, 604800};
    const std::size_t unit = text.empty() ? 0 : kUnits.find(lower_case(text.substr(0, 1)));
    if (unit == std::string_view::npos) return std::nullopt;
    if (!text.empty()) text.remove_prefix(1);
    total += number * kSeconds[unit];
    if (total > kLongest) return std::nullopt;
  }
  return std::chrono::seconds(total);
}

std::string complaint_about(const ConfigLine& line) {
  const std::string& value = line.values.front();
  switch (line.rule->keyword) {
    case Keyword::port: return parse_port(value) ? "" : "must be a number from 1 to 65535";
    case Keyword::identities_only:
    case Keyword::batch_mode:
    case Keyword::hash_known_hosts: return parse_flag(value) ? "" : "must be yes or no";
    case Keyword::strict_host_key_checking: return parse_checking(value) ? "" : "must be yes, no, ask or accept-new";
    case Keyword::address_family: return parse_family(value) ? "" : "must be any, inet or inet6";
    case Keyword::server_alive_count_max: return parse_count(value) ? "" : "must be a number";
    case Keyword::server_alive_interval:
    case Keyword::connect_timeout: return parse_time(value) ? "" : "must be a time like 30 or 1m30s, or none";
    case Keyword::proxy_jump: return bad_way(value) ? "must be [user@]host[:port], several with commas, or none" : "";
    case Keyword::host_name: return bad_host_name(value) ? "may have no other percent signs than %h and %%" : "";
    case Keyword::user_known_hosts_file:
    case Keyword::global_known_hosts_file: return names_several(line.values) ? "must be files, or none alone" : "";
    default: return "";
  }
}

}  // namespace llmlaunch::launcher::ssh
