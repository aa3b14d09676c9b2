/// \file
/// Where the user is at home.
#pragma once

#include <string>
#include <string_view>

namespace llmlaunch {

/// `variable` is what HOME says. Where that is empty, as for services, cron and `env -i`, the password file knows;
/// empty where nobody does. Not to be called from several threads at once.
std::string home_directory(std::string_view variable);

/// The same, with this process's HOME.
std::string home_directory();

}  // namespace llmlaunch
