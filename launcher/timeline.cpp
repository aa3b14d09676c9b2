// Moments of hosts → stages → two texts. The stage between two moments has the name of what was begun at the first one.
#include "launcher/timeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "launcher/log_files.hpp"
#include "rendezvous/base/replaceable.hpp"

namespace llmlaunch::launcher {
namespace {

static_assert(static_cast<std::size_t>(Moment::open) == static_cast<std::size_t>(OpenStep::open),
              "a step is noted as the moment of the same number");

// The stages of ranks that run: of those without output, all of their time is the second.
constexpr std::size_t kUntilFirstLine = static_cast<std::size_t>(Moment::go);
constexpr std::size_t kUntilEnd = static_cast<std::size_t>(Moment::first_output);

double in_milliseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

double in_microseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::micro>(time).count();
}

// Of each stage, and behind the last one of all together: the hosts that had it, with its milliseconds.
struct Column {
  std::vector<std::optional<double>> of_host;
  std::vector<double> sorted() const {
    std::vector<double> known;
    for (const auto& value : of_host)
      if (value) known.push_back(*value);
    std::sort(known.begin(), known.end());
    return known;
  }
};

std::vector<Column> timeline_columns(const Timeline& timeline) {
  const std::size_t stages = Timeline::stage_names().size();
  std::vector<Column> columns(stages + 1);
  for (Column& column : columns) column.of_host.resize(timeline.hosts().size());
  for (std::size_t host = 0; host < timeline.hosts().size(); ++host) {
    std::optional<double>& total = columns[stages].of_host[host];
    for (const Timeline::Stage& stage : timeline.stages(host)) {
      const double time = in_milliseconds(stage.to - stage.from);
      columns[stage.column].of_host[host] = time;
      total = total.value_or(0) + time;
    }
  }
  return columns;
}

std::string cell(const std::optional<double>& time) {
  return time ? fmt::format("{:.1f}", *time) : "-";
}

std::string median(const Column& column) {
  const std::vector<double> sorted = column.sorted();
  if (sorted.empty()) return "-";
  return cell((sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2);
}

// The slowest host's place; none had the stage: past the end.
std::size_t slowest(const Column& column) {
  const auto found = std::max_element(column.of_host.begin(), column.of_host.end());
  return found == column.of_host.end() || !*found ? column.of_host.size()
                                                  : static_cast<std::size_t>(found - column.of_host.begin());
}

using TimelineRow = std::vector<std::string>;

std::vector<TimelineRow> rows_of(const Timeline& timeline) {
  const std::vector<Column> columns = timeline_columns(timeline);
  std::vector<TimelineRow> rows(1, TimelineRow{"host"});
  for (const std::string& name : Timeline::stage_names()) rows[0].push_back(name);
  rows[0].emplace_back("total");
  for (std::size_t host = 0; host < timeline.hosts().size(); ++host) {
    TimelineRow row{timeline.hosts()[host]};
    for (const Column& column : columns) row.push_back(cell(column.of_host[host]));
    rows.push_back(std::move(row));
  }
  TimelineRow medians{"(median)"}, most{"(slowest)"}, where{"(on host)"};
  for (const Column& column : columns) {
    const std::size_t host = slowest(column);
    const bool known = host < timeline.hosts().size();
    medians.push_back(median(column));
    most.push_back(known ? cell(column.of_host[host]) : "-");
    where.push_back(known ? timeline.hosts()[host] : "-");
  }
  rows.insert(rows.end(), {medians, most, where});
  return rows;
}

}  // namespace

Timeline::Timeline(std::string job_id, std::vector<std::string> hosts, TimePoint began)
    : job_id_(std::move(job_id)), hosts_(std::move(hosts)), began_(began), moments_(hosts_.size()) {
  for (Moments& moments : moments_) moments[0] = began_;
}

void Timeline::open(std::size_t host, const StepTimes& steps) {
  if (moments_[host][static_cast<std::size_t>(Moment::hello)]) return;
  moments_[host] = {};
  for (std::size_t step = 0; step < kOpenSteps; ++step) moments_[host][step] = steps[step];
  moments_[host][0] = began_;
}

void Timeline::note(std::size_t host, Moment moment, TimePoint now) {
  std::optional<TimePoint>& noted = moments_[host][static_cast<std::size_t>(moment)];
  if (!noted || moment == Moment::end) noted = now;
}

void Timeline::finish(TimePoint now) {
  for (Moments& moments : moments_)
    if (auto& end = moments[static_cast<std::size_t>(Moment::end)]; !end) end = now;
}

std::vector<Timeline::Stage> Timeline::stages(std::size_t host) const {
  std::vector<Stage> stages;
  const Moments& moments = moments_[host];
  std::size_t from = 0;
  for (std::size_t to = 1; to < kMoments; ++to) {
    if (!moments[to]) continue;
    const bool silent = from == kUntilFirstLine && to != kUntilEnd;
    stages.push_back({silent ? kUntilEnd : from, *moments[from], *moments[to]});
    from = to;
  }
  return stages;
}

const std::vector<std::string>& Timeline::stage_names() {
  // By the moment that each begins with.
  static const std::vector<std::string> names{
      "wait",        "resolve", "TCP", "key exchange", "host key", "authentication", "shell start", "push",
      "agent hello", "ready",   "go",  "first line",   "end"};
  return names;
}

std::string timeline_table(const Timeline& timeline) {
  const std::vector<TimelineRow> rows = rows_of(timeline);
  std::vector<std::size_t> widths(rows[0].size());
  for (const TimelineRow& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text = fmt::format("job {}: milliseconds of each host in each stage\n", timeline.job_id());
  for (const TimelineRow& row : rows) {
    std::string line = fmt::format("{:<{}}", row[0], widths[0]);
    for (std::size_t i = 1; i < row.size(); ++i) line += fmt::format("  {:>{}}", row[i], widths[i]);
    text += line + "\n";
  }
  return text;
}

std::string timeline_trace(const Timeline& timeline) {
  using nlohmann::ordered_json;
  ordered_json events = ordered_json::array();
  const auto name = [&events](const char* what, std::size_t track, const std::string& text) {
    events.push_back({{"name", what}, {"ph", "M"}, {"pid", 1}, {"tid", track}, {"args", {{"name", text}}}});
  };
  name("process_name", 0, "llmlaunch " + timeline.job_id());
  for (std::size_t host = 0; host < timeline.hosts().size(); ++host) {
    name("thread_name", host + 1, timeline.hosts()[host]);
    for (const Timeline::Stage& stage : timeline.stages(host))
      events.push_back({{"name", Timeline::stage_names()[stage.column]},
                        {"cat", "launch"},
                        {"ph", "X"},
                        {"ts", in_microseconds(stage.from - timeline.began())},
                        {"dur", in_microseconds(stage.to - stage.from)},
                        {"pid", 1},
                        {"tid", host + 1}});
  }
  const ordered_json trace = {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}};
  return trace.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

TimelinePaths timeline_paths(const std::string& file) {
  constexpr std::string_view kText = ".txt";
  if (!file.ends_with(kText)) return {file + std::string(kText), file};
  return {file, file.substr(0, file.size() - kText.size()) + ".json"};
}

Result<void> write_timeline(const std::string& file, const Timeline& timeline) {
  const TimelinePaths paths = timeline_paths(file);
  const auto trace = replaceable_name(paths.trace);
  if (!trace) return trace.error();
  const auto table = replaceable_name(paths.table);
  if (!table) return table.error();
  if (auto written = replace_file(*trace, timeline_trace(timeline)); !written) return written;
  return replace_file(*table, timeline_table(timeline));
}

}  // namespace llmlaunch::launcher
