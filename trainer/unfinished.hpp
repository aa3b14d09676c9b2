/// \file
/// Files under another name until they are whole: --predict's and --export_dataset's. However the process ends by its
/// own doing, none is left. Safe to use from any thread.
#pragma once

#include <string>
#include <vector>

#include "rendezvous/base/result.hpp"

namespace llmlaunch::trainer {

/// While it lives, `remove_unfinished` removes the file; so does its end, unless the file has its final name.
class Unfinished {
 public:
  explicit Unfinished(std::string path);
  ~Unfinished();
  Unfinished(const Unfinished&) = delete;
  Unfinished& operator=(const Unfinished&) = delete;

  const std::string& path() const { return path_; }
  /// Gives the file its final name.
  Result<void> finish(const std::string& name);
  struct Named {
    Unfinished* file = nullptr;
    std::string name;
  };
  /// Gives all of them their names, which nobody has yet, or none. The end of the process does not come between, but
  /// for a file system that hangs.
  static Result<void> finish_together(const std::vector<Named>& all);

 private:
  std::string path_;
  bool finished_ = false;
};

/// For who ends the process while another thread may write. No further one begins: its thread waits here for the end.
void remove_unfinished();

}  // namespace llmlaunch::trainer
