/// \file
/// A program of llmlaunch's own, or a library of it, on its way to hosts that lack it: named by content, read piece by
/// piece, so that its size costs the head no memory however many hosts ask for it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "launcher/agent/protocol.hpp"
#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::launcher {

class PushedFile {
 public:
  /// Opens the file and reads it once for its hash. Errors name the path.
  static Result<PushedFile> open(const PushedProgram& program);

  const agent::FileSpec& spec() const { return spec_; }
  /// The piece at `offset`, marked when it is the last one. Errc::io when the file has become shorter.
  Result<agent::FileChunk> read(std::uint32_t index, std::uint64_t offset) const;

 private:
  PushedFile() = default;
  UniqueFd fd_;
  std::string path_;
  agent::FileSpec spec_;
};

/// What a job pushes: the plan's program, then its libraries. In the order of Prepare::files.
using PushedFiles = std::vector<std::shared_ptr<const PushedFile>>;

}  // namespace llmlaunch::launcher
