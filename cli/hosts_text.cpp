// The forms of `llmlaunch hosts`: slice, pick, then one of lines, fold, count, parts, JSON. Pure.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <numeric>
#include <random>

#include "cli/hosts.hpp"
#include "launcher/hostfile.hpp"
#include "launcher/hostlist.hpp"
#include "launcher/hostlist_fold.hpp"

namespace llmlaunch::cli {
namespace {

using HostNames = std::vector<std::string>;

/// Only the hosts at these places.
HostChoice at_places(const HostChoice& choice, const std::vector<std::size_t>& places) {
  HostChoice kept;
  for (const std::size_t place : places) {
    kept.hosts.push_back(choice.hosts[place]);
    kept.written.push_back(choice.written[place]);
  }
  return kept;
}

HostChoice picked(const HostChoice& choice, std::size_t number, std::uint64_t chance) {
  std::vector<std::size_t> all(choice.hosts.size()), places;
  std::iota(all.begin(), all.end(), std::size_t{0});
  std::mt19937_64 random(chance);
  std::sample(all.begin(), all.end(), std::back_inserter(places), number, random);  // keeps their order
  return at_places(choice, places);
}

/// Parts that differ by at most one host; none is empty.
std::string in_parts(const HostNames& names, std::size_t parts, const launcher::FoldOptions& folding) {
  std::string text;
  std::size_t at = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t size = names.size() / parts + (part < names.size() % parts ? 1 : 0);
    if (size == 0) break;
    const auto first = names.begin() + static_cast<std::ptrdiff_t>(at);
    text += launcher::fold_hostlist(HostNames(first, first + static_cast<std::ptrdiff_t>(size)), folding) + "\n";
    at += size;
  }
  return text;
}

std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (text[i] == '\\' && (next == 'n' || next == 't' || next == '\\')) {
      out += next == 'n' ? '\n' : next == 't' ? '\t' : '\\';
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

Result<std::string> text_of_hosts(HostChoice choice, const HostsOptions& options, std::uint64_t chance) {
  if (options.slice) {
    const auto places = launcher::places_of_slice(*options.slice, choice.hosts.size());
    if (!places) return make_error(Errc::usage, "--slice: " + places.error().what, {}, places.error().hint);
    choice = at_places(choice, *places);
  }
  if (options.pick) {
    if (*options.pick > choice.hosts.size())
      return make_error(Errc::usage, fmt::format("--pick {}: there {} only {} host{}", *options.pick,
                                                 choice.hosts.size() == 1 ? "is" : "are", choice.hosts.size(),
                                                 choice.hosts.size() == 1 ? "" : "s"));
    choice = picked(choice, *options.pick, chance);
  }
  if (options.json) return launcher::hosts_json(choice.hosts);
  if (options.count) return fmt::format("{}\n", choice.written.size());
  if (options.split) return in_parts(choice.written, *options.split, options.folding);
  if (choice.written.empty()) return std::string();
  if (options.contiguous) return fmt::format("{}\n", fmt::join(launcher::contiguous_hostlists(choice.written), "\n"));
  if (options.fold) return launcher::fold_hostlist(choice.written, options.folding) + "\n";
  return fmt::format("{}\n", fmt::join(choice.written, unescaped(options.separator)));
}

}  // namespace llmlaunch::cli
