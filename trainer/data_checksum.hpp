/// \file
/// What is in a job's files of images, as CRC-32s: what hosts that name a folder each compare, and what a checkpoint
/// keeps.
#pragma once

#include <cstdint>
#include <string>

#include "rendezvous/base/result.hpp"
#include "trainer/comm.hpp"
#include "trainer/data_source.hpp"
#include "trainer/world.hpp"

namespace llmlaunch::trainer {

/// Puts the checksums of both sets into `data`, of images and labels as of one file: "1c291ca3". From then on a file
/// that was touched is told from one that was changed (ImageSource::expect). The ranks of a host that have the same
/// plain file open read a part each; who shares no file reads all. Collective.
Result<void> checksum_data(Comm& comm, const World& world, DataSource& data);

}  // namespace llmlaunch::trainer
