// From a file's keys to options: the trainer's own go through the table of flags; Hugging Face's others are left out
// or, where they ask for other numbers, refused. Called by parse_options.
#include "trainer/file_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "trainer/known_arguments.hpp"

namespace llmlaunch::trainer {
namespace {

using Kind = FileValue::Kind;

/// A value as messages show it.
std::string shown_value(const FileValue& value) {
  switch (value.kind) {
    case Kind::null: return "null";
    case Kind::scalar: return value.text.size() > 60 ? value.text.substr(0, 60) + "…" : value.text;
    case Kind::list: return "a list";
    case Kind::mapping: return "a mapping";
  }
  return {};
}

bool is_nothing(const KnownArgument& argument, const FileValue& value) {
  switch (value.kind) {
    case Kind::null: return true;
    case Kind::scalar: return asks_for_nothing(argument, value.text);
    case Kind::list:
      return std::all_of(value.items.begin(), value.items.end(),
                         [&](const FileValue& item) { return is_nothing(argument, item); });
    case Kind::mapping: return value.items.empty();
  }
  return false;
}

class Applying {
 public:
  Applying(const ConfigFile& file, OptionTable& table) : file_(file), table_(table), ratio_wins_(ratio_wins()) {}

  Result<AppliedFile> run() {
    for (const FileSetting& setting : file_.settings()) {
      if (auto done = apply(setting); !done) return done.error();
    }
    if (!left_out_.empty()) {
      applied_.note =
          fmt::format("{}: left out, for the trainer has no such thing: {}", file_.name(), fmt::join(left_out_, ", "));
    }
    return std::move(applied_);
  }

 private:
  Result<void> apply(const FileSetting& setting) {
    if (const KnownArgument* known = known_argument(setting.key)) return apply_known(*known, setting);
    if (setting.key == "warmup_ratio") return apply_ratio(setting);
    if (setting.key == "warmup_steps" && ratio_wins_) return ok;
    const std::string_view present = present_name(setting.key);
    const std::string name = present.empty() ? setting.key : std::string(present);
    const auto kind = table_.kind_of(name);
    if (!kind) return unknown(setting);
    if (setting.value.kind == Kind::null) return ok;
    // transformers 4 writes no_cuda: false beside use_cpu.
    if (!present.empty() && setting.value.kind == Kind::scalar && asks_for_nothing({}, setting.value.text)) return ok;
    if (const auto [other, added] = applied_.places.emplace(name, setting.place); !added) {
      return file_.error_at(setting.place, fmt::format("'{}' is given twice", name),
                            fmt::format("first on line {}", other->second.line));
    }
    return set(name, *kind, setting.value);
  }

  Result<void> set(const std::string& name, OptionTable::Kind kind, const FileValue& value) {
    std::vector<std::string> words = {value.text};
    if (value.kind == Kind::list && kind == OptionTable::Kind::list) {
      words.clear();
      for (const FileValue& item : value.items) {
        if (item.kind != Kind::scalar) return wrong_type(name, item, "a word");
        if (is_other_report(item.text)) {
          left_out_.push_back(fmt::format("{} {}", name, item.text));
        } else {
          words.push_back(item.text);
        }
      }
      if (words.empty()) words = {"none"};
    } else if (value.kind != Kind::scalar) {
      return wrong_type(name, value, kind == OptionTable::Kind::number ? "a number" : "one value");
    }
    if (kind == OptionTable::Kind::number && value.quoted) {
      return file_.error_at(value.place, fmt::format("{}: a number is expected, and this is a text in quotes", name));
    }
    if (auto done = table_.set(name, words); !done) return file_.error_at(value.place, done.error().what);
    return ok;
  }

  Error wrong_type(const std::string& name, const FileValue& value, const char* expected) const {
    return file_.error_at(value.place, fmt::format("{}: {} is expected, and this is {}", name, expected,
                                                   value.kind == Kind::null ? "null" : shown_value(value)));
  }

  static bool asks(const FileValue& value) {
    return value.kind != Kind::null && !(value.kind == Kind::scalar && std::atof(value.text.c_str()) == 0);
  }

  /// transformers 4 has warmup_ratio beside warmup_steps, which wins when it is not 0.
  bool ratio_wins() const {
    const auto said = [&](const char* key) {
      const auto& all = file_.settings();
      return std::any_of(all.begin(), all.end(),
                         [&](const FileSetting& setting) { return setting.key == key && asks(setting.value); });
    };
    return said("warmup_ratio") && !said("warmup_steps");
  }

  Result<void> apply_ratio(const FileSetting& setting) {
    if (!ratio_wins_) return ok;
    if (setting.value.kind != Kind::scalar || setting.value.quoted || !(std::atof(setting.value.text.c_str()) < 1)) {
      return file_.error_at(setting.value.place,
                            fmt::format("warmup_ratio: a number from 0 and below 1 is expected, and this is {}",
                                        shown_value(setting.value)));
    }
    applied_.places["warmup_steps"] = setting.place;
    return set("warmup_steps", OptionTable::Kind::number, setting.value);
  }

  Result<void> apply_known(const KnownArgument& known, const FileSetting& setting) {
    if (known.effect == KnownArgument::Effect::numbers) {
      if (is_nothing(known, setting.value)) return ok;
      return refused(known, setting.value);
    }
    bool asks = !is_nothing(known, setting.value);
    if (setting.value.kind == Kind::mapping) {
      // accelerator_config has arguments of its own, most of them true or null.
      asks = false;
      const auto& items = setting.value.items;
      for (std::size_t i = 0; i + 1 < items.size(); i += 2) {
        const KnownArgument* part = known_argument(items[i].text);
        const bool numbers = part != nullptr && part->effect == KnownArgument::Effect::numbers;
        if (numbers && !is_nothing(*part, items[i + 1])) return refused(*part, items[i + 1]);
        asks = asks || !(is_nothing(known, items[i + 1]) || items[i + 1].text == "true");
      }
    }
    if (asks) left_out_.push_back(setting.key);
    return ok;
  }

  Error refused(const KnownArgument& known, const FileValue& value) const {
    return file_.error_at(
        value.place,
        fmt::format("{}: {} would give other numbers than the trainer can", known.name, shown_value(value)),
        known.hint);
  }

  Error unknown(const FileSetting& setting) const {
    std::vector<std::string> names = table_.names();
    std::erase_if(names, [&](const std::string& name) { return !table_.kind_of(name); });
    for (const KnownArgument& known : known_arguments()) names.emplace_back(known.name);
    if (setting.value.kind == Kind::mapping || setting.value.kind == Kind::null) names.emplace_back("train");
    const std::string meant = nearest_name(names, setting.key);
    return file_.error_at(setting.place, fmt::format("unknown key '{}'", setting.key.substr(0, 60)),
                          meant.empty() ? "llmlaunch-train --help lists the flags, which are the keys"
                                        : fmt::format("did you mean '{}'?", meant));
  }

  const ConfigFile& file_;
  OptionTable& table_;
  const bool ratio_wins_;
  AppliedFile applied_;
  std::vector<std::string> left_out_;
};

}  // namespace

Result<AppliedFile> apply_file(const ConfigFile& file, OptionTable& table) {
  return Applying(file, table).run();
}

}  // namespace llmlaunch::trainer
