/// \file
/// The shared libraries that a pushed program needs: hosts that have none of them get each as a file of its own, beside
/// the program. Called by run_job, on the head, before the first host is touched.
///
/// Which ones they are is asked of the program's own loader, the file that its PT_INTERP names: `LOADER --list PROGRAM`
/// finds what an exec here would map, by the loader's own rules (RUNPATH, LD_LIBRARY_PATH, ld.so.cache), and never runs
/// the program. So the list cannot differ from what the program was linked with, and nothing has to be kept up by hand.
/// (LD_TRACE_LOADED_OBJECTS=1, as ldd uses it, would run a program that has no loader.)
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "launcher/plan.hpp"
#include "rendezvous/base/result.hpp"

namespace llmlaunch::launcher {

/// Is this library never pushed? glibc's own parts have to be of one version with each other and with the host's
/// loader, the user half of the NVIDIA driver with the host's kernel.
bool stays_on_host(std::string_view soname);

/// What the loader printed, as files to push, in its order: named as the loader asks for them, whatever file a link led
/// to. Leaves out what stays on the host and what has no name to look for (the vdso, the loader, a path).
std::vector<PushedProgram> libraries_in(std::string_view listing);

/// The libraries of `program`, a path with a '/'. None when it is static or no ELF file. Runs its loader and waits for
/// it. Errc::unsupported with the loader's words when the program cannot be loaded here, such as for a library that
/// this machine lacks; Errc::too_large for more files than a host takes.
Result<std::vector<PushedProgram>> libraries_of(const std::string& program);

}  // namespace llmlaunch::launcher
