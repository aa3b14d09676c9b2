/// \file
/// How llmlaunch's own failures look on stderr: "llmlaunch: error: cfg.yaml:14:1: unknown key …" and their exit status.
#pragma once

#include <string>

#include "cli/exit_status.hpp"
#include "launcher/config.hpp"
#include "rendezvous/base/error.hpp"

namespace llmlaunch::cli {

/// The whole text with its newline at the end. Control characters in it are shown as \x1b, so that a file's or a host's
/// text cannot steer the terminal.
std::string format_error(const Error& error, bool colour);

/// `--color` for everything that is said from now on; `automatic` until then.
void choose_colour(launcher::ColorWhen when);

/// Does this descriptor show colours? Where nothing was chosen: a terminal, NO_COLOR not set (or empty), TERM not
/// "dumb".
bool wants_colour(int fd);

/// A terminal on which a line can be drawn again.
bool can_redraw(int fd);

/// Prints to stderr, in one write.
void report_error(const Error& error);

/// Whether one of the errors that were printed was the end of this program itself by SIGINT.
bool was_interrupted();

/// For errors met before a job ran; a job's own status comes with its result.
ExitStatus exit_status_of(const Error& error);

/// Prints the error; the status to exit with.
int fail(const Error& error);

}  // namespace llmlaunch::cli
