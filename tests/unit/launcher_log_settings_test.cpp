// The words of `llmlaunch.logs` and of the options of the same names.
#include "launcher/log_settings.hpp"

#include <fmt/format.h>

#include "launcher/config.hpp"
#include "tests/support/catch.hpp"

namespace launcher_log_settings_test {

using namespace llmlaunch;
using namespace llmlaunch::launcher;

namespace {

/// A template as text again, with its names in angle brackets.
std::string pieces_of(std::string_view text) {
  const auto pieces = parse_prefix(text);
  if (!pieces) return "error: " + to_string(pieces.error());
  std::string shown;
  for (const auto& piece : *pieces) {
    const auto* field = std::get_if<PrefixField>(&piece);
    shown += field ? fmt::format("<{}>", static_cast<int>(*field)) : std::get<std::string>(piece);
  }
  return shown;
}

std::string ranges_of(std::string_view text) {
  const auto ranges = parse_ranks(text);
  if (!ranges) return "error: " + to_string(ranges.error());
  std::string shown;
  for (const auto& [first, last] : *ranges) shown += fmt::format("{}..{} ", first, last);
  return shown;
}

}  // namespace

TEST_CASE("a prefix is taken apart, and what is no prefix is refused with what was meant") {
  const std::string kBraces = "\n   hint: {{ and }} stand for braces";
  const std::string kKnown =
      "which is none of {host}, {rank}, {local_rank}, {node_rank}, {time}, {stream}, {world_size}";
  struct Row {
    std::string text;
    std::string pieces;
  };
  const std::vector<Row> rows{
      {"", ""},
      {"none", ""},
      {"none ", "none "},
      {"{time} [{rank}] ", "<4> [<1>] "},
      {"{host}{rank}{local_rank}{node_rank}{time}{stream}{world_size}", "<0><1><2><3><4><5><6>"},
      {"{{{rank}}} gr\u00fcn", "{<1>} gr\u00fcn"},
      {"{ranks}", "error: the prefix names '{ranks}', " + kKnown + "\n   hint: did you mean '{rank}'?"},
      {"{}", "error: the prefix names '{}', " + kKnown + kBraces},
      {"{gpu}", "error: the prefix names '{gpu}', " + kKnown + kBraces},
      {"{rank", "error: the prefix has a '{' without its other half" + kBraces},
      {"rank}", "error: the prefix has a '}' without its other half" + kBraces},
      {"a\nb",
       "error: the prefix holds a line end or a zero byte\n   hint: it stands before each line, on the same line"},
      {std::string(201, 'x'), "error: the prefix has 201 bytes, of 200 that it may have"},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    CHECK(pieces_of(row.text) == row.pieces);
  }
}

TEST_CASE("a list of ranks is numbers and ranges, and all of them exist") {
  const std::string kHint = "\n   hint: ranks look like 0,8-15";
  CHECK(ranges_of("0") == "0..0 ");
  CHECK(ranges_of("0,8-15,3") == "0..0 8..15 3..3 ");
  for (const std::string bad : {"x", "-1", "3-1", "1-", "1-2-3", "4294967296", " 1", "1 "})
    CHECK(ranges_of(bad) == "error: '" + bad + "' is no rank and no range of ranks" + kHint);
  CHECK(ranges_of("") == "error: '' is no rank and no range of ranks" + kHint);
  CHECK(ranges_of("0,,1") == "error: '' is no rank and no range of ranks" + kHint);
  CHECK(check_ranks({{0, 15}}, 16));
  CHECK(to_string(check_ranks({{0, 0}, {8, 16}}, 16).error()) == "rank 16 does not exist: the job has 16 ranks, 0-15");
  CHECK(to_string(check_ranks({{1, 1}}, 1).error()) == "rank 1 does not exist: the job has rank 0 alone");
  CHECK(ranks_in_words({}) == "");
  CHECK(ranks_in_words({0, 1, 2, 4, 6, 7}) == "0-2,4,6-7");
}

TEST_CASE("sizes are bytes, or have a unit") {
  CHECK(parse_bytes("0") == 0u);
  CHECK(parse_bytes("4096") == 4096u);
  CHECK(parse_bytes("100MB") == 100'000'000u);
  CHECK(parse_bytes("100 MB") == 100'000'000u);
  CHECK(parse_bytes("64K") == 64'000u);
  CHECK(parse_bytes("64KiB") == 65'536u);
  CHECK(parse_bytes("2TiB") == 2ull << 40);
  for (const char* bad : {"", "MB", "-1", "1.5GB", "1XB", "1 ", "1mb", "1iB", "18446744073709551616", "2000000TB"})
    CHECK(parse_bytes(bad) == std::nullopt);
  CHECK(bytes_in_words(100'000'000) == "100 MB");
  CHECK(bytes_in_words(65'536) == "64 KiB");
  CHECK(bytes_in_words(1234) == "1234 bytes");
}

TEST_CASE("every key below llmlaunch.logs is read, and none is needed") {
  const auto config = parse_config(
      "llmlaunch:\n"
      "  logs:\n"
      "    prefix: '{time} [{rank}] '\n"
      "    color: always\n"
      "    color_by: rank\n"
      "    ranks: ['0', 8-15]\n"
      "    fold_lines: true\n"
      "    updates_per_second: 0\n"
      "    per_rank: false\n"
      "    merged: no\n"
      "    max_file_bytes: 100MB\n"
      "    keep: 7\n",
      "cfg.yaml");
  REQUIRE(config);
  const LogSettings& logs = config->logs;
  CHECK(logs.prefix == "{time} [{rank}] ");
  CHECK(logs.color == ColorWhen::always);
  CHECK(logs.color_by == ColorBy::rank);
  CHECK(logs.ranks == std::vector<RankRange>{{0, 0}, {8, 15}});
  CHECK(logs.fold_lines);
  CHECK(logs.updates_per_second == 0);
  CHECK_FALSE(logs.per_rank);
  CHECK_FALSE(logs.merged);
  CHECK(logs.max_file_bytes == 100'000'000);
  CHECK(logs.keep == 7);
  CHECK(config->places.at("llmlaunch.logs.ranks").text == "cfg.yaml:6:12");

  const auto nothing = parse_config("llmlaunch: {logs: {}}\n", "cfg.yaml");
  REQUIRE(nothing);
  CHECK(nothing->logs.prefix == std::nullopt);
  CHECK(nothing->logs.color == ColorWhen::automatic);
  CHECK(nothing->logs.ranks.empty());
  CHECK(nothing->logs.updates_per_second == 1);
  CHECK(nothing->logs.per_rank);
  CHECK(nothing->logs.merged);
  CHECK(nothing->logs.max_file_bytes == 0);
  CHECK(nothing->logs.keep == 5);
}

TEST_CASE("a key of llmlaunch.logs that is wrong is shown where it stands") {
  struct Row {
    std::string line;
    std::size_t column;
    std::string what;
    std::string note;
  };
  const std::vector<Row> rows{
      {"    prefix: '{hots} '", 13,
       "llmlaunch.logs.prefix: the prefix names '{hots}', which is none of {host}, {rank}, {local_rank}, {node_rank}, "
       "{time}, {stream}, {world_size}",
       " did you mean '{host}'?"},
      {"    color: sometimes", 12, "llmlaunch.logs.color must be auto, always or never, not 'sometimes'", ""},
      {"    color_by: node", 15, "llmlaunch.logs.color_by must be host or rank, not 'node'", ""},
      {"    ranks: 0,x", 12, "llmlaunch.logs.ranks: 'x' is no rank and no range of ranks", " ranks look like 0,8-15"},
      {"    max_file_bytes: 1000", 21,
       "llmlaunch.logs.max_file_bytes must be a size such as 100MB or 64KiB, at least 1 KiB, or 0 for no limit, not "
       "'1000'",
       ""},
      {"    keep: 101", 11, "llmlaunch.logs.keep must be a whole number from 0 to 100, not '101'", ""},
      {"    updates_per_second: fast", 25,
       "llmlaunch.logs.updates_per_second must be a whole number from 0 to 100, not 'fast'", ""},
      {"    prefx: x", 5, "unknown key 'prefx' in llmlaunch.logs", " did you mean 'prefix'?"},
  };
  for (const Row& row : rows) {
    INFO(row.line);
    const auto config = parse_config("llmlaunch:\n  logs:\n" + row.line + "\n", "cfg.yaml");
    REQUIRE_FALSE(config);
    CHECK(to_string(config.error()) == fmt::format("cfg.yaml:3:{}: {}\n    3 | {}\n      | {:{}}^{}", row.column,
                                                   row.what, row.line, "", row.column - 1, row.note));
  }
}

}  // namespace launcher_log_settings_test
