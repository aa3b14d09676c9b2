/// \file
/// The secret that machines which are started one by one have in common. It is the key of their connections, and what
/// the job's ranks get is made from it and the job id, so that ranks of an earlier job with the same token stay
/// outside.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

inline constexpr std::size_t kMinCallTokenChars = 32;
inline constexpr std::size_t kMaxCallTokenChars = 4096;

/// Wiped when it goes; shown nowhere.
class CallToken {
 public:
  using Key = std::array<unsigned char, 32>;

  /// White space at the end does not count. `where` names the file or variable. Errors: `Errc::invalid_config`, without
  /// the value.
  static Result<CallToken> parse(std::string_view text, const std::string& where);
  /// The same from a file that nobody else may read.
  static Result<CallToken> read(const std::string& path, const std::string& where);
  ~CallToken();
  CallToken(const CallToken&) = default;
  CallToken& operator=(const CallToken&) = default;

  /// Of the connections between the machines.
  const Key& key() const { return key_; }
  /// 64 hex digits, for the ranks of one job.
  std::string rank_token(const std::string& job_id) const;

 private:
  CallToken() = default;
  Key key_{};
  Key ranks_{};
};

/// How to make one; the hint of all that is said about a token that is missing or unfit.
inline constexpr std::string_view kMakesToken = "(umask 077; openssl rand -hex 32 > token) makes one";

}  // namespace llmlaunch::launcher
