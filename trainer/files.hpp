/// \file
/// Whole files of the trainer: read up to a limit, written so that they are on the disk, and hashed.
#pragma once

#include <cstddef>
#include <string>

#include "rendezvous/base/frame.hpp"
#include "rendezvous/base/result.hpp"
#include "rendezvous/base/unique_fd.hpp"

namespace llmlaunch::trainer {

/// All bytes of `path`. The system's error, or `Errc::invalid_config` for a file larger than `limit`, with `hint`, and
/// at once for a pipe or a device.
Result<Bytes> read_whole_file(const std::string& path, std::size_t limit, const std::string& hint = {});

/// Of a file or folder that is not there, by a path that is not absolute: with the folder in which it was looked for.
Error with_folder(Error error);

/// A file or folder to read; errors as read_whole_file's.
Result<UniqueFd> open_to_read(const std::string& path);

/// Writes a new file, or the contents of an old one anew. The system's error.
Result<void> write_whole_file(const std::string& path, ByteView bytes);

/// Until file or folder `path` is on the disk.
Result<void> sync_to_disk(const std::string& path);

/// Makes a folder and those above it that are missing. Each new name is on the disk when this returns: the folder that
/// it stands in is synced, if it may be read. The system's error.
Result<void> make_folders(const std::string& path);

/// SHA-256 of the bytes, as 64 hex digits. `Errc::unsupported` when libcrypto cannot make it (a FIPS or broken setup).
Result<std::string> digest(ByteView bytes);

}  // namespace llmlaunch::trainer
