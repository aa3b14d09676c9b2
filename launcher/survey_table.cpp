// Facts × hosts as a table. What makes it readable for a thousand hosts: those that are the same are one column.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "launcher/hostlist.hpp"
#include "launcher/survey_facts.hpp"
#include "launcher/survey_report.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

constexpr std::string_view kDiffers = "≠ ";
constexpr std::string_view kSame = "  ";

struct TableColumn {
  std::vector<std::string> names;
  std::vector<std::string> values;  // in the order of facts_of
};

// Of a text with umlauts and signs: code points, not bytes.
std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t width) {
  const std::size_t has = width_of(text);
  return has < width ? text + std::string(width - has, ' ') : text;
}

std::vector<TableColumn> columns_of(const std::vector<HostSurvey>& hosts) {
  std::vector<TableColumn> columns;
  std::map<std::vector<std::string>, std::size_t> places;
  for (const HostSurvey& host : hosts) {
    if (!host.facts) continue;
    std::vector<std::string> values;
    for (const Fact& fact : facts_of(*host.facts)) values.push_back(printable(fact.value));
    const auto [place, is_new] = places.emplace(values, columns.size());
    if (is_new) columns.push_back({{}, std::move(values)});
    columns[place->second].names.push_back(host.name);
  }
  return columns;
}

// The value that most hosts have; of several the first one.
std::string usual_value(const std::vector<TableColumn>& columns, std::size_t row) {
  std::map<std::string, std::size_t> hosts;
  for (const TableColumn& column : columns) hosts[column.values[row]] += column.names.size();
  std::string best = columns.front().values[row];
  for (const TableColumn& column : columns)
    if (hosts[column.values[row]] > hosts[best]) best = column.values[row];
  return best;
}

std::string heading(const TableColumn& column) {
  const std::string names = printable(compress_hostlist(column.names));
  return column.names.size() == 1 ? names : fmt::format("{} ({})", names, column.names.size());
}

std::string without_end(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

class Table {
 public:
  explicit Table(const std::vector<HostSurvey>& hosts) : columns_(columns_of(hosts)) {
    for (const Fact& fact : facts_of({})) names_.emplace_back(fact.name);
    for (std::size_t row = 0; row < names_.size() && !columns_.empty(); ++row) {
      usual_.push_back(usual_value(columns_, row));
      differs_.push_back(std::any_of(columns_.begin(), columns_.end(),
                                     [&](const TableColumn& column) { return column.values[row] != usual_[row]; }));
      label_width_ = std::max(label_width_, width_of(names_[row]) + 2);
    }
  }

  std::string text(std::size_t width) const {
    std::string text;
    for (std::size_t first = 0; first < columns_.size();) {
      std::size_t end = first, used = label_width_;
      while (end < columns_.size() && (end == first || used + column_width(end) + 2 <= width))
        used += column_width(end++) + 2;
      text += (first == 0 ? "" : "\n") + block(first, end);
      first = end;
    }
    return text;
  }

 private:
  std::string cell(std::size_t column, std::size_t row) const {
    const std::string& value = columns_[column].values[row];
    return std::string(value == usual_[row] ? kSame : kDiffers) + value;
  }
  bool is_empty(std::size_t row) const { return !differs_[row] && usual_[row] == "-"; }
  std::size_t column_width(std::size_t column) const {
    std::size_t width = width_of(heading(columns_[column])) + 2;
    for (std::size_t row = 0; row < names_.size(); ++row) width = std::max(width, width_of(cell(column, row)));
    return width;
  }
  std::string block(std::size_t first, std::size_t end) const {
    std::string line(label_width_, ' ');
    for (std::size_t i = first; i < end; ++i)
      line += "  " + padded(std::string(kSame) + heading(columns_[i]), column_width(i));
    std::string text = without_end(line);
    for (std::size_t row = 0; row < names_.size(); ++row) {
      if (is_empty(row)) continue;
      line = padded(std::string(differs_[row] ? kDiffers : kSame) + names_[row], label_width_);
      for (std::size_t i = first; i < end; ++i) line += "  " + padded(cell(i, row), column_width(i));
      text += without_end(line);
    }
    return text;
  }

  std::vector<TableColumn> columns_;
  std::vector<std::string> names_;
  std::vector<std::string> usual_;  // by row
  std::vector<bool> differs_;
  std::size_t label_width_ = 0;
};

// "gpu07, gpu12: not reached: …", each reason once.
std::string failures(const std::vector<HostSurvey>& hosts) {
  std::vector<std::pair<std::string, std::vector<std::string>>> reasons;
  for (const HostSurvey& host : hosts) {
    if (!host.failure) continue;
    const std::string hint = host.failure->hint.empty() ? "" : "\n   hint: " + host.failure->hint;
    const std::string reason = printable(host.failure->what) + printable(hint);
    const auto same =
        std::find_if(reasons.begin(), reasons.end(), [&](const auto& one) { return one.first == reason; });
    if (same == reasons.end())
      reasons.push_back({reason, {host.name}});
    else
      same->second.push_back(host.name);
  }
  std::string text;
  for (const auto& [reason, names] : reasons)
    text += fmt::format("{}: not reached: {}\n", printable(compress_hostlist(names)), reason);
  return text;
}

}  // namespace

std::string survey_table(const std::vector<HostSurvey>& hosts, std::size_t width) {
  const std::string table = Table(hosts).text(width), unreached = failures(hosts);
  return table + (table.empty() || unreached.empty() ? "" : "\n") + unreached;
}

}  // namespace llmlaunch::launcher
