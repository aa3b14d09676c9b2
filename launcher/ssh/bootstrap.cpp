// Writes the sh program that starts the agent on a host. Nothing here runs it.
//
// It runs before anything of ours is on the host, under a login shell that we do not know, with the account's own files
// in the way. So: POSIX sh and the tools of every Linux; no variable of the host is changed, as the ranks inherit them;
// no single quote, exclamation mark, backslash or newline, so that one pair of single quotes protects it in csh and
// fish as well as in sh.
#include "launcher/ssh/bootstrap.hpp"

#include <fmt/format.h>

#include <string_view>

#include "launcher/agent/protocol.hpp"

namespace llmlaunch::launcher::ssh {
namespace {

// BSD csh refuses words of 1024 characters and more ("Word too long"): the program travels in several.
constexpr std::size_t kMaxWordBytes = 900;

// Agents of other versions that were installed longer ago are removed when a new one is.
constexpr int kKeepDays = 30;

// The date of an agent whose hash was checked, as touch reads it and as ls shows it.
constexpr std::string_view kSeal = "200102030405";
constexpr std::string_view kSealShown = "Feb 3 2001";

// Comments and line ends are taken away and @x@ are filled in, see `program`. Names begin with ll_ so that no exported
// variable is hit. Directories are looked at in the order of agent/file_cache.cpp, which then keeps its files there
// too.
constexpr std::string_view kProgram = R"sh(
# Says why and ends; 69 is "unavailable".
ll_fail() { echo "@FAIL@$*"; exit 69; };

# An empty line first: an rc file may have left its last line open.
echo;

# The way of every start but the first, with as few processes as can be, for they are what a start costs on the host.
# "Known" is an agent that nobody but us could write to and that nobody has written to since its hash was checked: it got
# a date then that no file has by itself. A shell without -O, or names with blanks, take the long way.
ll_known() {
  { [ -O "$1" ] && [ -O "$2" ]; } 2>/dev/null || return 1;
  ll_s=$(TZ=UTC0 LC_ALL=C ls -ldn "$1" "$2" 2>/dev/null) || return 1;
  set -- $ll_s;
  case $1 in (drwx--[-S]--[-T]*) ;; (*) return 1 ;; esac;
  case ${10} in (-rwx------*) ;; (*) return 1 ;; esac;
  [ "${14} ${15} ${16} ${17}" = "@size@ @seal_shown@" ];
};
ll_seal() { TZ=UTC0 touch -m -t @seal@ "$1" 2>/dev/null; };
for ll_d in "${XDG_CACHE_HOME:+$XDG_CACHE_HOME/llmlaunch}" "${HOME:+$HOME/.cache/llmlaunch}"
    "${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/llmlaunch}"; do
  case $ll_d in (/*)
    ll_f=$ll_d/agent-@hash@;
    [ -f "$ll_f" ] && ll_known "$ll_d" "$ll_f" && "$ll_f" --version </dev/null >/dev/null 2>&1 && exec "$ll_f" ;;
  esac;
done;

ll_m=$(uname -s -m);
[ "$ll_m" = "Linux @machine@" ] ||
  ll_fail "machine ${ll_m#* } (${ll_m% *}): the agent of this llmlaunch runs on Linux @machine@";
ll_u=$(id -u);

# A directory is good when it is no link, ours, and closed to everybody else: nobody can put a program there.
ll_safe() {
  ll_s=$(LC_ALL=C ls -ldn "$1" 2>/dev/null) || return 1;
  set -- $ll_s;
  case $1 in (drwx--[-S]--[-T]*) [ "$3" = "$ll_u" ] ;; (*) return 1 ;; esac;
};

# A file is good when size and hash agree (a host without sha256sum has to trust the size) and when it runs: it does not
# on a file system mounted noexec.
ll_good() {
  [ -f "$1" ] && [ $(wc -c <"$1") -eq @size@ ] || return 1;
  ll_s=$(sha256sum <"$1" 2>/dev/null);
  case $ll_s in (@hash@*|"") "$1" --version </dev/null >/dev/null 2>&1 ;; (*) return 1 ;; esac;
};

set -- "${XDG_CACHE_HOME:+$XDG_CACHE_HOME/llmlaunch}" "${HOME:+$HOME/.cache/llmlaunch}"
  "${XDG_RUNTIME_DIR:+$XDG_RUNTIME_DIR/llmlaunch}" "${TMPDIR:-/tmp}/llmlaunch-$ll_u" "/dev/shm/llmlaunch-$ll_u";

# Is it there all the same?
for ll_d in "$@"; do
  case $ll_d in (/*)
    ll_f=$ll_d/agent-@hash@;
    [ -e "$ll_f" ] && ll_safe "$ll_d" && ll_good "$ll_f" && { ll_seal "$ll_f"; exec "$ll_f"; } ;;
  esac;
done;

# Where can it go? To the first directory that takes a file of its size and runs it. The name is this process's own, also
# among hosts that share a home directory. A file without a first line for the kernel is run by sh itself, unless the
# kernel forbids execution there.
ll_t=; ll_w=; ll_b=;
ll_clean() { [ -z "$ll_t" ] || rm -f "$ll_t"; };
trap ll_clean 0;
trap "exit 69" 1 2 13 15;
ll_try() {
  mkdir -p -m 700 "$1" 2>/dev/null;
  ll_y="cannot be made";
  [ -d "$1" ] || return 1;
  ll_y="is open to others or not ours";
  ll_safe "$1" || return 1;
  ll_t=$1/agent-@hash@.part.$(uname -n).$$;
  ll_y="not writable";
  rm -f "$ll_t"; true 2>/dev/null >"$ll_t" && chmod 700 "$ll_t" || return 1;
  ll_y="no room for @size@ bytes";
  dd if=/dev/zero bs=@size@ count=1 2>/dev/null >"$ll_t" || return 1;
  ll_y="programs may not run there";
  echo exit 2>/dev/null >"$ll_t"; "$ll_t" </dev/null >/dev/null 2>&1;
};
for ll_d in "$@"; do
  case $ll_d in (/*)
    if ll_try "$ll_d"; then ll_b=$ll_d; break; fi;
    ll_clean; ll_t=; ll_w="$ll_w${ll_w:+; }$ll_d: $ll_y" ;;
  esac;
done;
[ -n "$ll_b" ] || ll_fail "no directory for the agent ($ll_w)";

# Push. Neither takes a byte beyond, as head would (busybox reads ahead): one dd that waits for all of it, where dd can;
# else, and for what is missing, one read after the other.
echo "@NEED@@hash@";
dd bs=@size@ count=1 iflag=fullblock 2>/dev/null >"$ll_t";
ll_s=-1;
while ll_n=$(( $(wc -c <"$ll_t") )); [ "$ll_n" -lt @size@ ] && [ "$ll_n" -gt "$ll_s" ]; do
  ll_s=$ll_n;
  dd bs=$(( @size@ - ll_s )) count=1 2>/dev/null >>"$ll_t";
done;
[ "$ll_n" -eq @size@ ] || ll_fail "$ll_n of @size@ bytes of the agent arrived in $ll_b";
ll_good "$ll_t" || ll_fail "the agent that arrived in $ll_b is damaged or does not run there";
ll_seal "$ll_t";
[ -d "$ll_b/agent-@hash@" ] && ll_fail "$ll_b/agent-@hash@ is a directory: remove it";
mv -f "$ll_t" "$ll_b/agent-@hash@" || ll_fail "cannot rename $ll_t";
find "$ll_b" -maxdepth 1 -type f -name "agent-*" -atime +@days@ -exec rm -f {} + 2>/dev/null;
exec "$ll_b/agent-@hash@"
)sh";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// One line: without comments, empty lines and indents.
std::string one_line(std::string_view text) {
  std::string line;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::size_t start = text.find_first_not_of(' ', at);
    if (start < end && text[start] != '#') line.append(line.empty() ? "" : " ").append(text.substr(start, end - start));
    at = end + 1;
  }
  return line;
}

std::string program(const std::string& agent_hash, std::size_t agent_size, const std::string& machine) {
  std::string text = one_line(kProgram);
  replace_all(text, "@hash@", agent_hash);
  replace_all(text, "@size@", std::to_string(agent_size));
  replace_all(text, "@machine@", machine);
  replace_all(text, "@days@", std::to_string(kKeepDays));
  replace_all(text, "@seal_shown@", kSealShown);
  replace_all(text, "@seal@", kSeal);
  replace_all(text, "@NEED@", agent::kNeedPrefix);
  replace_all(text, "@FAIL@", agent::kFailPrefix);
  return text;
}

}  // namespace

std::string bootstrap_command(const std::string& agent_hash, std::size_t agent_size, const std::string& machine) {
  const std::string text = program(agent_hash, agent_size, machine);
  std::string words, names;
  int count = 0;
  for (std::size_t at = 0; at < text.size(); at += kMaxWordBytes) {
    names += fmt::format("${{{}}}", count++);
    words += " '" + text.substr(at, kMaxWordBytes) + "'";
  }
  return "exec /bin/sh -c 'eval \"" + names + "\"'" + words;
}

}  // namespace llmlaunch::launcher::ssh
