/// \file
/// `HostSelector`: which hosts people mean. Host lists and what pdsh and ClusterShell users write around them:
///
///     expression := item { operator item }         operators from left to right, none before another
///     operator   := "," union | "!" difference | "&" intersection | "^" one of both
///     item       := host list item                 gpu[01-64], user@n1, ssh:user@n1, [2001:db8::1]:2222
///                 | www* | n?1                     matched against all known hosts
///                 | "@" group | "@*"               a group's own expression; all known hosts
///                | "@" source ":" group           of a source of groups (group_file.hpp); "@source:*": all of them
///                | "@@" [source]                  the names of the groups themselves
///                 | "^" file                       the expressions of a file, one a line
///                 | "-"                            the same from stdin
///                 | "/" regex "/"                  keep only hosts that match (POSIX extended), at the end
///                 | "-" item                       leave these out, at the end; "-/regex/" what matches
///
/// The result is a list: order is kept, and a host named twice is there twice. Exclusion wins over inclusion, wherever
/// it stands. Hosts are compared by name, whatever user stands before it. Lines of a file may end in a comment; a line
/// "#include name" takes in another file, once. Pure: files come through `HostSources`.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "launcher/group_file.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// What an expression may refer to.
struct HostSources {
  std::function<Result<std::string>(const std::string& path)> read_file;  ///< unset: files are refused
  std::function<Result<std::string>()> read_stdin;                        ///< unset: "-" is refused
  std::vector<std::string> all;                                           ///< for patterns and "@*"
  HostGroups groups;                                                      ///< "name" or "source:name" → expression
};

struct HostItem;  // one item of an expression, host_scan.hpp

class HostSelector {
 public:
  explicit HostSelector(HostSources sources);

  /// Errors (`Errc::invalid_argument`) show the expression and the place; `where` stands before them: "-w". Files that
  /// cannot be read: what `read_file` says.
  Result<void> include(std::string_view expression, const std::string& where);
  Result<void> exclude(std::string_view expression, const std::string& where);
  /// A file of expressions that was read already; `path` stands in messages and is where #include looks.
  Result<void> include_file(std::string_view text, const std::string& path);

  /// What was included, without what was excluded or filtered out.
  std::vector<std::string> names() const;
  /// Would this host, named elsewhere, be left in?
  bool keeps(std::string_view host) const;
  /// What was passed over and should be said aloud.
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  using Names = std::vector<std::string>;
  struct Filter {
    std::string pattern;
    bool keep;
  };
  Result<Names> evaluate(std::string_view expression, const std::string& where, int depth);
  Result<Names> value_of(const HostItem& item, const std::string& where, int depth);
  Result<Names> list_names(const HostItem& item);
  Result<Names> pattern_names(const HostItem& item);
  Result<Names> group_names(const HostItem& item, int depth);
  Result<Names> group_list(std::string_view source) const;
  Result<Names> of_groups(const std::string& source, const Names& groups, int depth);
  Error no_group(const std::string& name) const;
  Result<Names> all_groups(const std::string& source, int depth);
  Result<Names> file_names(std::string_view text, const std::string& path, int depth);
  Result<Names> included(std::string_view name, const std::string& from, std::size_t line, int depth);
  Result<Names> open_file(const std::string& path, int depth);
  Result<void> set_aside(const HostItem& item, const std::string& where, int depth);

  HostSources sources_;
  Names names_;
  std::unordered_set<std::string> excluded_;
  std::vector<Filter> filters_;
  std::vector<std::string> notes_;
  std::unordered_set<std::string> seen_files_;  // of one tree of #include
  std::size_t files_read_ = 0;
  std::string source_;  // of the group whose expression is being read
};

}  // namespace llmlaunch::launcher
