// HOME and the password file. Called at a program's start.
#include "rendezvous/base/home.hpp"

#include <pwd.h>
#include <unistd.h>

#include <cstdlib>

namespace llmlaunch {

std::string home_directory(std::string_view variable) {
  if (!variable.empty()) return std::string(variable);
  const passwd* const entry = ::getpwuid(::getuid());
  return entry != nullptr && entry->pw_dir != nullptr ? entry->pw_dir : "";
}

std::string home_directory() {
  const char* const variable = std::getenv("HOME");
  return home_directory(variable != nullptr ? variable : "");
}

}  // namespace llmlaunch
