/// \file
/// A password or a passphrase: lives in memory alone, in one place that does not move, and is wiped with its owner.
#pragma once

#include <string.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string_view>

namespace llmlaunch::launcher::ssh {

/// Longer than what a terminal takes as one line of a person's typing.
inline constexpr std::size_t kMaxSecretBytes = 1024;

class Secret {
 public:
  Secret() : bytes_(std::make_unique<std::array<char, kMaxSecretBytes + 1>>()) {}
  ~Secret() {
    if (bytes_) ::explicit_bzero(bytes_->data(), bytes_->size());
  }
  Secret(Secret&&) = default;
  Secret& operator=(Secret&&) = delete;

  /// False when it is full.
  bool append(char c) {
    if (size_ == kMaxSecretBytes) return false;
    (*bytes_)[size_++] = c;
    return true;
  }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {bytes_->data(), size_}; }
  const char* c_str() const { return bytes_->data(); }  ///< zeros follow what was put in

 private:
  std::unique_ptr<std::array<char, kMaxSecretBytes + 1>> bytes_;  // make_unique fills it with zeros
  std::size_t size_ = 0;
};

}  // namespace llmlaunch::launcher::ssh
