/// \file
/// What TensorBoard reads, as bytes. An event file is a row of TFRecords:
///
///     length   8 bytes, little-endian: how many bytes `data` has
///     crc      4 bytes, little-endian: masked CRC-32C of the 8 before it
///     data     a protobuf message, tensorflow.Event
///     crc      4 bytes, little-endian: masked CRC-32C of `data`
///
/// masked(c) = ((c >> 15) | (c << 17)) + 0xa282ead8, modulo 2^32. Of Event these fields are written, each as a varint
/// of its number × 8 + its wire type (0: varint, 1: 8 bytes, 2: length and bytes, 5: 4 bytes) and its value:
///
///     Event        1 wall_time (double)   2 step (int64)   3 file_version (string)   5 summary   7 session_log
///     Summary      1 value (repeated)
///     Value        1 tag (string)         2 simple_value (float)
///     SessionLog   1 status: 1 is START
///
/// The first record of a file has file_version "brain.Event:2". A START with step k makes TensorBoard forget what other
/// files of the folder say of step k and later ones: so a job that was resumed has each step once.
///
/// The record of file_version "brain.Event:2" at wall_time 0: length 24 = 18 00 00 00 00 00 00 00, crc a3 7f 4b 22,
/// data 09 00 00 00 00 00 00 00 00  1a 0d 62 72 61 69 6e 2e 45 76 65 6e 74 3a 32, and its crc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace llmlaunch::trainer {

/// CRC-32C (Castagnoli), not masked.
std::uint32_t crc32c(std::string_view bytes);

/// `data` as one record.
std::string tf_record(std::string_view data);

/// Whole records. `wall_time` counts seconds since 1970.
std::string version_event(double wall_time);
std::string start_event(double wall_time, std::uint64_t step);
std::string scalar_event(double wall_time, std::uint64_t step, std::string_view tag, double value);

}  // namespace llmlaunch::trainer
