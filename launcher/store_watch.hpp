/// \file
/// Follows the changes of a job's store until the job ends. Nothing restarts a job yet, so that it has one generation;
/// a next one, whose pass takes the place of the old one, is followed. Used by cli/store.cpp.
#pragma once

#include <functional>
#include <string>

#include "launcher/store_view.hpp"

namespace llmlaunch::launcher {

struct StoreWatch {
  std::string text;    ///< a prefix, or a key; an empty prefix is all
  bool exact = false;  ///< this key alone
  KeyspaceChoice where;
  /// Gets each change. False ends the watch.
  std::function<bool(rendezvous::Keyspace, const rendezvous::KeyChange&)> on_change;
  /// What has happened, for people: from now on changes of this generation are told; it has ended; the job has ended.
  std::function<void(const std::string&)> on_news;
  /// A descriptor at whose end (a pipe that nobody reads any more) the watch ends, too; -1: none.
  int reader = -1;
};

/// Returns when the job has ended in order, the reader has gone or `on_change` wants no more. `Errc::unreachable` when
/// the job's llmlaunch died, or the connection was lost while the job goes on; `out_of_resources` when changes were
/// taken too slowly and some are lost; others as StoreView::open.
Result<void> follow_store(RunningJob job, const StoreWatch& watch);

}  // namespace llmlaunch::launcher
