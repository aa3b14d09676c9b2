/// \file
/// `HostScan`: cuts a host expression into items and operators; and how a bad place in one is shown. Private to
/// host_expression.cpp; hostlist.cpp and hostfile.cpp show words as it does.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

struct HostItem {
  enum class Kind { list, pattern, group, file, standard_input, regex } kind = Kind::list;
  std::string_view text;  ///< without its sign
  std::size_t at = 0;     ///< of the text
  bool negative = false;
  mutable std::size_t bad_at = 0;  ///< after an error
};

class HostScan {
 public:
  explicit HostScan(std::string_view expression) : text_(expression) {}

  void skip_blanks();
  std::size_t at() const { return at_; }
  bool at_operator() const;
  char take_operator() { return text_[at_++]; }
  /// The item that begins here. Errors: `Errc::invalid_argument`, for what is at `at`.
  Result<HostItem> next();

 private:
  Result<void> regex(HostItem& item);
  void plain(HostItem& item);

  std::string_view text_;
  std::size_t at_ = 0;
};

/// `Errc::invalid_argument`.
Error bad_hosts(std::string what, std::string hint = {});
bool is_host_blank(char c);
std::string_view trimmed_host(std::string_view text);
/// Without control characters.
std::string shown_host(std::string_view text);
/// The same, and no longer than a message can bear.
std::string shown_short(std::string_view text);
/// The expression with a caret below the bad place; of a long one what stands around it.
std::string with_caret(std::string_view expression, std::size_t at);

}  // namespace llmlaunch::launcher
