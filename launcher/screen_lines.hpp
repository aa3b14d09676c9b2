/// \file
/// `ScreenLines`: what one stream of one rank would show on a terminal of its own, line by line, so that many of them
/// can share one. A line that is redrawn (progress bars: "\r", and bars below each other: "\x1b[A") has states; its
/// last one becomes a line, and those before are there for whoever asks in time. Pure; used by `Console`.
///
/// Passed on as they are: every byte of text, colours, hyperlinks. Obeyed and left out: "\r", moving up and down,
/// erasing a line. Left out: all else that moves the cursor, erases or changes how a terminal shows letters. A colour
/// or a string that a line leaves open is closed at its end; the stream's next line begins with that colour.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace llmlaunch::launcher {

/// Lines that one stream can redraw together. Each holds at most two states of kMaxLineBytes.
inline constexpr std::size_t kMaxRows = 4;
/// A longer escape sequence is none.
inline constexpr std::size_t kMaxEscapeBytes = 64;

class ScreenLines {
 public:
  /// A line without its end.
  using LineFunction = std::function<void(std::string_view text)>;

  /// Calls `line` for every line that these bytes complete; longer ones come in pieces as LogMux cuts them.
  void feed(std::string_view bytes, const LineFunction& line);
  /// A line is being redrawn: `show_updates` may have something.
  bool redraws() const;
  /// What the redrawn line shows now; of several, the lowest one with something to see. Empty: none has.
  std::string redrawn_state() const;
  /// The state of each redrawn line, where it was not shown before.
  void show_updates(const LineFunction& line);
  /// The stream has ended: what has no line end.
  void end(const LineFunction& line);

 private:
  enum class Parser { text, escape, charset, csi, string, string_escape };
  struct Row {
    std::string colour;      // in force where `text` begins
    std::string text;        // since the cursor was last at the line's beginning
    std::string before;      // the state that `text` overwrites, closed
    std::string shown;       // the state that was shown last, closed
    bool returned = false;   // the cursor is back at the beginning: what comes next overwrites
    bool redrawn = false;    // it has been overwritten
    bool continued = false;  // its beginning was cut off and shown
  };

  void add(std::string_view text, const LineFunction& line);
  void add_whole(std::string_view escape, const LineFunction& line);
  void overwrite();
  void cut(const LineFunction& line);
  void control(char c, const LineFunction& line);
  void take_escape(char c, const LineFunction& line);
  void begin_escape(char c, const LineFunction& line);
  void plain_byte(char c, const LineFunction& line);
  void take_csi(char c, const LineFunction& line);
  void obey(const LineFunction& line);
  void set_colour(std::string_view parameters, const LineFunction& line);
  void leave_row();
  void up();
  bool down();
  void erase(Row& row);
  void newline(const LineFunction& line);
  void finish(Row& row, const LineFunction& line, bool at_end);
  void end_escape();
  std::string closed(const Row& row) const;
  std::string state_of(const Row& row) const;
  Row& row() { return rows_[at_]; }

  std::vector<Row> rows_ = std::vector<Row>(1);  // the last one is where new lines come
  std::size_t at_ = 0;
  Parser parser_ = Parser::text;
  std::string escape_;       // of CSI, what has come behind "\x1b["
  std::string open_colour_;  // escape sequences, in force where the next byte goes
};

}  // namespace llmlaunch::launcher
