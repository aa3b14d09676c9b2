// From a file's keys to options: the trainer's own go through the table of flags; Hugging Face's others are left out
// or, where they ask for other numbers, refused. Called by parse_options.
#include "trainer/file_settings.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/nearest.hpp"
#include "trainer/flag_values.hpp"
#include "trainer/known_arguments.hpp"

namespace llmlaunch::trainer {
namespace {

using Kind = FileValue::Kind;

/// A value as messages show it.
std::string shown_value(const FileValue& value) {
  switch (value.kind) {
    case Kind::null: return "null";
    case Kind::scalar:
      return value.text.size() > kShownWord ? fmt::format("{}…", cut_text(value.text, kShownWord)) : value.text;
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
    if (file_.settings().empty()) {
      applied_.note = fmt::format("{}: has no settings; is it whole?", file_.name());
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
    if (is_idle(setting)) return ok;
    if (const auto [other, added] = applied_.places.emplace(name, setting.place); !added) {
      if (is_said_alike(name, setting)) return ok;
      return file_.error_at(setting.place, fmt::format("'{}' is given twice", name),
                            fmt::format("first on line {}", other->second.line));
    }
    return set(name, *kind, setting.value);
  }

  Result<void> set(const std::string& name, FlagKind kind, const FileValue& value) {
    std::vector<std::string> words = {value.text};
    if (kind == FlagKind::list && (value.kind == Kind::list || value.kind == Kind::scalar)) {
      words.clear();
      for (const FileValue& item : value.kind == Kind::list ? value.items : split(value)) {
        if (item.kind != Kind::scalar) return wrong_type(name, item, "a word");
        if (is_other_report(item.text)) {
          left_out_.push_back(fmt::format("{} {}", name, item.text));
        } else {
          words.push_back(item.text);
        }
      }
      if (words.empty()) words = {"none"};
    } else if (value.kind != Kind::scalar) {
      return wrong_type(name, value, kind == FlagKind::number ? "a number" : "one value");
    }
    if (kind == FlagKind::number && value.quoted) {
      return file_.error_at(value.place, fmt::format("{}: a number is expected, and this is a text in quotes", name));
    }
    const auto done = table_.set(name, words);
    if (done) return ok;
    const bool secret =
        std::any_of(words.begin(), words.end(), [&](const std::string& word) { return file_.is_secret(word); });
    return file_.error_at(value.place, done.error().what, secret ? std::string() : done.error().hint);
  }

  /// One text is a list, too: "json,wandb".
  static std::vector<FileValue> split(const FileValue& value) {
    std::vector<FileValue> items;
    std::string_view rest = value.text;
    for (;;) {
      const std::size_t end = std::min(rest.find(','), rest.size());
      items.push_back(value);
      items.back().text = rest.substr(0, end);
      if (end == rest.size()) return items;
      rest.remove_prefix(end + 1);
    }
  }

  Error wrong_type(const std::string& name, const FileValue& value, const char* expected) const {
    return file_.error_at(value.place, fmt::format("{}: {} is expected, and this is {}", name, expected,
                                                   value.kind == Kind::null ? "null" : shown_value(value)));
  }

  const FileSetting* setting_of(std::string_view key) const {
    const auto& all = file_.settings();
    const auto found = std::find_if(all.begin(), all.end(), [&](const FileSetting& one) { return one.key == key; });
    return found == all.end() ? nullptr : &*found;
  }

  /// transformers 4 writes what was asked for by an old name under both names: no_cuda: true beside use_cpu: true.
  bool is_said_alike(const std::string& name, const FileSetting& setting) const {
    const auto& all = file_.settings();
    return std::all_of(all.begin(), all.end(), [&](const FileSetting& other) {
      if (other.key != name && present_name(other.key) != name) return true;
      if (other.value.kind == Kind::null) return true;
      if (other.value.kind != Kind::scalar || setting.value.kind != Kind::scalar) return false;
      const auto truth = truth_in(other.value.text);
      return other.value.text == setting.value.text || (truth && truth == truth_in(setting.value.text));
    });
  }

  /// Hugging Face's Trainer takes 0 and less where the strategy beside it looks at no steps: logging_strategy: epoch
  /// and logging_steps: 0.
  bool is_idle(const FileSetting& setting) const {
    if (setting.key != "logging_steps" && setting.key != "save_steps" && setting.key != "eval_steps") return false;
    if (setting.value.kind != Kind::scalar || setting.value.quoted) return false;
    const auto steps = number_in(setting.value.text);
    if (!steps || *steps > 0) return false;
    std::string word = setting.key == "eval_steps" ? std::string("no") : "steps";
    const std::string strategy = setting.key.substr(0, setting.key.find('_')) + "_strategy";
    for (const FileSetting& other : file_.settings()) {
      if (other.key != strategy && present_name(other.key) != strategy) continue;
      if (other.value.kind == Kind::scalar) word = other.value.text;
    }
    std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
    return word == "no" || word == "epoch" || word == "best";
  }

  static bool asks(const FileValue& value) {
    return value.kind != Kind::null && !(value.kind == Kind::scalar && !value.quoted && number_in(value.text) == 0);
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
    if (setting.value.kind == Kind::null) return ok;
    const auto share =
        setting.value.kind == Kind::scalar && !setting.value.quoted ? number_in(setting.value.text) : std::nullopt;
    if (!share || *share < 0 || *share > 1) {
      return file_.error_at(
          setting.value.place,
          fmt::format("warmup_ratio: a number from 0 to 1 is expected, and this is {}", shown_value(setting.value)));
    }
    if (!ratio_wins_) return ok;
    applied_.places["warmup_steps"] = setting.place;
    FileValue value = setting.value;
    // All steps: 1 would be one step. The share is rounded up to steps.
    if (*share == 1) value.text = fmt::format("{}", std::nextafter(1.0, 0.0));
    return set("warmup_steps", FlagKind::number, value);
  }

  Result<void> apply_known(const KnownArgument& known, const FileSetting& setting) {
    if (known.effect == KnownArgument::Effect::numbers) {
      if (is_nothing(known, setting.value)) return ok;
      return refused(known, setting.value);
    }
    if (setting.value.kind == Kind::mapping) {
      const auto asks = parts_ask(setting.value, setting.key == "accelerator_config");
      if (!asks) return asks.error();
      if (*asks) left_out_.push_back(setting.key);
      return ok;
    }
    if (!is_nothing(known, setting.value) && !is_own_run_name(setting)) left_out_.push_back(setting.key);
    return ok;
  }

  /// transformers 4 writes output_dir as run_name where nobody named the run.
  bool is_own_run_name(const FileSetting& setting) const {
    const FileSetting* folder = setting.key == "run_name" ? setting_of("output_dir") : nullptr;
    return folder != nullptr && setting.value.kind == Kind::scalar && folder->value.kind == Kind::scalar &&
           setting.value.text == folder->value.text;
  }

  /// Of a mapping, and of those inside it: whether it asks for something, but for other numbers.
  Result<bool> parts_ask(const FileValue& mapping, bool accelerator) const {
    bool asks = false;
    for (std::size_t i = 0; i + 1 < mapping.items.size(); i += 2) {
      const FileValue& value = mapping.items[i + 1];
      const std::string& name = mapping.items[i].text;
      const KnownArgument* known = accelerator ? known_accelerator_argument(name) : known_argument(name);
      const KnownArgument part = known != nullptr ? *known : KnownArgument{.name = {}, .harmless = "true"};
      if (value.kind == Kind::mapping) {
        const auto inner = parts_ask(value, accelerator);
        if (!inner) return inner.error();
        asks = asks || *inner;
      } else if (!is_nothing(part, value)) {
        if (part.effect == KnownArgument::Effect::numbers) return refused(part, value);
        asks = true;
      }
    }
    return asks;
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
    const std::string meant(nearest(setting.key, names));
    return file_.error_at(setting.place, fmt::format("unknown key '{}'", cut_text(setting.key, kShownWord)),
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
