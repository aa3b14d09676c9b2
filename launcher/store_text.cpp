// Keys and values may be any bytes; what is shown of them steers no terminal and breaks no line.
#include "launcher/store_text.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "launcher/base64.hpp"
#include "rendezvous/base/log.hpp"

namespace llmlaunch::launcher {
namespace {

using nlohmann::ordered_json;
using rendezvous::KeyChange;
using rendezvous::Keyspace;
using std::chrono::system_clock;

// Of a value in a line of a watch: some addresses fit, and a pickle does not fill the screen.
constexpr std::size_t kShownValueBytes = 200;

bool is_utf8(std::string_view bytes) {
  try {
    (void)ordered_json(bytes).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

void put_bytes(ordered_json& into, const std::string& name, std::string_view bytes) {
  if (is_utf8(bytes))
    into[name] = bytes;
  else
    into[name + "_base64"] = base64(bytes);
}

long long millisecond_of(system_clock::time_point time) {
  const auto whole = std::chrono::floor<std::chrono::seconds>(time);
  return static_cast<long long>(std::chrono::duration_cast<std::chrono::milliseconds>(time - whole).count());
}

std::time_t seconds_of(system_clock::time_point time) {
  return system_clock::to_time_t(std::chrono::floor<std::chrono::seconds>(time));
}

}  // namespace

std::string one_line(std::string_view bytes, std::size_t most) {
  std::string marked;
  for (const char letter : bytes.substr(0, most)) {
    if (letter == '\\') marked += '\\';
    marked += letter;
  }
  std::string line;
  for (const char letter : printable(marked)) {
    if (letter == '\n')
      line += "\\n";
    else if (letter == '\t')
      line += "\\t";
    else
      line += letter;
  }
  return bytes.size() > most ? fmt::format("{}… ({} bytes)", line, bytes.size()) : line;
}

std::string store_lines(const std::vector<ListedKey>& keys) {
  std::string text;
  for (const auto& [keyspace, entry] : keys) {
    const std::string queue = entry.queued == 0 ? "" : fmt::format("  (a queue of {})", entry.queued);
    text += fmt::format("{:>10}  {:<7}  {}{}\n", entry.bytes, rendezvous::keyspace_name(keyspace), one_line(entry.key),
                        queue);
  }
  return text;
}

std::string store_json(const ObserverPass& pass, const std::vector<ListedKey>& keys) {
  ordered_json list = ordered_json::array();
  for (const auto& [keyspace, entry] : keys) {
    ordered_json one = {{"store", rendezvous::keyspace_name(keyspace)}};
    put_bytes(one, "key", entry.key);
    one["bytes"] = entry.bytes;
    one["queued"] = entry.queued == 0 ? ordered_json(nullptr) : ordered_json(entry.queued);
    list.push_back(std::move(one));
  }
  const ordered_json whole = {
      {"job_id", pass.job_id}, {"generation", number(pass.generation)}, {"keys", std::move(list)}};
  return whole.dump(2) + "\n";
}

std::string value_json(const std::string& key, const FoundValue& found) {
  ordered_json one = {{"store", rendezvous::keyspace_name(found.keyspace)}};
  put_bytes(one, "key", key);
  one["bytes"] = found.value.size();
  put_bytes(one, "value", as_text(found.value));
  return one.dump() + "\n";
}

std::string change_line(Keyspace keyspace, const KeyChange& change, system_clock::time_point when) {
  std::tm parts{};
  const std::time_t seconds = seconds_of(when);
  ::localtime_r(&seconds, &parts);
  const std::string value = change.value ? "  " + one_line(as_text(*change.value), kShownValueBytes) : "";
  return fmt::format("{:%H:%M:%S}.{:03}  {:<7}  {:<7}  {}{}\n", parts, millisecond_of(when),
                     change.value ? "set" : "deleted", rendezvous::keyspace_name(keyspace), one_line(change.key),
                     value);
}

std::string change_json(Keyspace keyspace, const KeyChange& change, system_clock::time_point when) {
  ordered_json one;
  one["time"] = fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(seconds_of(when)), millisecond_of(when));
  one["store"] = rendezvous::keyspace_name(keyspace);
  one["change"] = change.value ? "set" : "deleted";
  put_bytes(one, "key", change.key);
  one["bytes"] = change.value ? ordered_json(change.value->size()) : ordered_json(nullptr);
  if (change.value)
    put_bytes(one, "value", as_text(*change.value));
  else
    one["value"] = nullptr;
  return one.dump() + "\n";
}

}  // namespace llmlaunch::launcher
