/// \file
/// Which name a file may take that is written beside another one and then takes its place. Used for what somebody
/// names on a command line: --predict, --timeline, config --output.
#pragma once

#include <string>

#include "rendezvous/base/result.hpp"

namespace llmlaunch {

/// `path`, or where it leads when it is a link, whether a file is there yet or not: the link stays. `rename` would put
/// a file in the place of anything but a folder, as root even of /dev/null; so what is there and neither a file nor a
/// folder is refused (`Errc::invalid_config`, the path in `where`). What cannot be looked at is for the write to find.
Result<std::string> replaceable_name(const std::string& path);

}  // namespace llmlaunch
