/// \file
/// How a rank is stopped from outside. SIGTERM and SIGINT end the process wherever it is, also inside a collective or a
/// computation; a job that saves its state gets the time for it: its first SIGTERM is only noted, and the training loop
/// ends after a step that all ranks agree on. So is the first SIGINT of a process that no launcher started: it is
/// somebody's Ctrl-C; a launcher takes that itself, and then sends SIGTERM. What people read is written line by line,
/// so nothing is lost.
#pragma once

namespace llmlaunch::trainer {

/// Before any other thread is made. Also ignores SIGPIPE and SIGXFSZ: Gloo writes to connections of ranks that are
/// gone, and files may end at the limit of ulimit -f; both are errors to be told.
void take_stop_signals();

/// From now on the first SIGTERM, or SIGINT where it comes from the keyboard, is only noted, or again ends the process
/// at once. One that was noted stays so.
void note_first_stop(bool on, bool from_keyboard = false);

/// A rank that a launcher has started hears of the job's end from now on. Before that a signal ends it without a word:
/// it has done nothing yet, and the launcher may have sent it because of another rank.
void mark_joined();

/// The connection to the launcher is lost, which then may send no SIGTERM any more: where one would be noted, and none
/// was, this is noted in its place, and true. A SIGTERM that comes all the same is the first.
bool note_lost_launcher();
/// Whether that is what was noted.
bool is_launcher_lost();

/// Whether one was noted.
bool is_stop_noted();
/// Which one it was. Where only another rank noted one, that was a SIGTERM.
int noted_stop();

/// The training loop goes on: a batch is done, or a file is being written (until `mark_batch`).
void mark_batch();
void mark_saving();

/// Around a file that another thread writes: false where the process is about to end, and nothing may be begun.
bool begin_writing();
void end_writing();
/// For whoever ends the process by an error: from now on nothing is begun, and what was begun is whole afterwards,
/// unless the disk takes longer than a person would wait.
void wait_while_writing();

/// For the thread that hears that the job is over: returns at once where no SIGTERM is noted or soon is; else not
/// before the training loop, which then ends the process itself, has stood still for a while: in a collective with a
/// lost rank it would stand for ever.
void wait_while_saving();

}  // namespace llmlaunch::trainer
