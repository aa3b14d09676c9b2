// accelerate's keys. Every key of its file is known here: honoured, or said aloud when it asks for something that a run
// would otherwise lack in silence. The mapping `llmlaunch:` is read in config_llmlaunch.cpp.
#include "launcher/config.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include "launcher/accelerate_sections.hpp"
#include "launcher/config_layers.hpp"
#include "launcher/config_llmlaunch.hpp"
#include "launcher/config_process.hpp"
#include "launcher/config_reader.hpp"
#include "launcher/config_schema.hpp"
#include "launcher/file_kind.hpp"
#include "launcher/plan_env.hpp"
#include "rendezvous/base/cut_text.hpp"
#include "rendezvous/base/nearest.hpp"

namespace llmlaunch::launcher {
namespace {

/// What accelerate starts and llmlaunch does not.
struct ForeignType {
  std::string_view name;
  std::string_view why;
};
constexpr ForeignType kForeignTypes[] = {
    {"XLA", "TPU pods have a launcher of their own"},
    {"TPU", "TPU pods have a launcher of their own"},
    {"XLA_SPMD", "TPU pods have a launcher of their own"},
    {"MPS", "llmlaunch runs on Linux, and Apple's GPUs do not"},
    {"MULTI_NPU", "the devices of Ascend NPUs are not given out"},
    {"MULTI_MLU", "the devices of Cambricon MLUs are not given out"},
    {"MULTI_SDAA", "the devices of Tecorigin SDAA are not given out"},
    {"MULTI_MUSA", "the devices of Moore Threads GPUs are not given out"},
    {"MULTI_XPU", "the devices of Intel GPUs are not given out"},
    {"MULTI_HPU", "the devices of Gaudi HPUs are not given out"},
    {"MULTI_NEURON", "the devices of AWS Neuron are not given out"},
    {"TP", "of accelerate 1.3 alone; FSDP with parallelism_config_tp_size has taken its place"},
};

void read_environment_kind(MapReader& top) {
  const auto kind = top.text("compute_environment");
  if (!kind || *kind == "LOCAL_MACHINE") return;
  const YamlNode& value = *top.find("compute_environment");
  if (*kind == "AMAZON_SAGEMAKER") {
    top.check().fail(value.mark, "a SageMaker configuration: llmlaunch starts jobs on machines that it reaches by ssh");
  } else {
    top.refuse("compute_environment", value, "LOCAL_MACHINE");
  }
}

void read_distributed_type(MapReader& top, Config& config) {
  const auto type = top.text("distributed_type");
  if (!type) return;
  config.distributed_type =
      *type == "no" || *type == "No" ? "NO" : *type;  // plain NO is a boolean to accelerate's reader
  const std::string& kind = config.distributed_type;
  const auto known = words_of(*find_setting("distributed_type"));
  if (std::find(known.begin(), known.end(), kind) != known.end()) return;
  const YamlNode& value = *top.find("distributed_type");
  for (const ForeignType& foreign : kForeignTypes) {
    if (foreign.name != kind) continue;
    top.check().fail(value.mark, fmt::format("distributed_type {} is not supported: {}", kind, foreign.why),
                     fmt::format("supported are {}", fmt::join(known, ", ")));
    return;
  }
  const auto meant = nearest(kind, known);
  top.check().fail(
      value.mark, fmt::format("unknown distributed_type '{}'", cut_text(kind, 60)),
      meant.empty() ? fmt::format("one of {}", fmt::join(known, ", ")) : fmt::format("did you mean '{}'?", meant));
}

void read_precision(MapReader& top, Config& config) {
  if (top.boolean("fp16").value_or(false)) config.mixed_precision = "fp16";  // before accelerate 0.8
  const auto precision = top.text("mixed_precision");
  if (!precision) return;
  constexpr std::array<std::string_view, 4> kKnown{"no", "fp16", "bf16", "fp8"};
  std::string lower = *precision;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower == "false") lower = "no";  // what other YAML readers make of a plain no
  if (std::find(kKnown.begin(), kKnown.end(), lower) == kKnown.end()) {
    top.refuse("mixed_precision", *top.find("mixed_precision"), "one of no, fp16, bf16, fp8");
    return;
  }
  config.mixed_precision = lower;
}

void read_world(MapReader& top, Config& config) {
  constexpr std::uint64_t kMostProcesses = std::numeric_limits<std::int32_t>::max();
  const YamlNode* processes = top.find("num_processes");
  if (processes && processes->text == "-1") {
    // accelerate's own default; it means "not given"
  } else if (const auto count = top.integer("num_processes", 1, kMostProcesses)) {
    config.num_processes = static_cast<std::uint32_t>(*count);
  }
  if (const auto count = top.integer("num_machines", 1, kMostProcesses))
    config.num_machines = static_cast<std::uint32_t>(*count);
  if (const auto rank = top.integer("machine_rank", 0, kMostProcesses)) {
    config.machine_rank = static_cast<std::uint32_t>(*rank);
    if (*rank >= config.num_machines.value_or(1) && config.num_machines) {
      top.check().fail(top.find("machine_rank")->mark,
                       fmt::format("machine_rank {} with num_machines {}", *rank, *config.num_machines),
                       fmt::format("it must be 0 … {}", *config.num_machines - 1));
    }
  }
}

void read_main_process(MapReader& top, Config& config) {
  if (const YamlNode* value = top.find("main_process_ip");
      value && !(value->kind == YamlNode::Kind::scalar && value->text.empty())) {
    if (const auto address = top.text("main_process_ip")) {
      in6_addr six{};
      const bool is_six = inet_pton(AF_INET6, address->substr(0, address->find('%')).c_str(), &six) == 1;
      const bool is_name = std::all_of(address->begin(), address->end(), [](unsigned char c) {
        return std::isalnum(c) || c == '.' || c == '-' || c == '_';
      });
      if (!is_six && !is_name) {
        top.check().fail(
            value->mark,
            fmt::format("main_process_ip must be an address or a host name, not '{}'", cut_text(*address, 60)),
            address->find('@') != address->npos                      ? "a user belongs to llmlaunch.ssh.user"
            : std::count(address->begin(), address->end(), ':') == 1 ? "a port belongs to main_process_port"
                                                                     : "");
      }
      config.main_process_ip = address;
    }
  }
  if (const auto port = top.integer("main_process_port", 0, 65535))
    config.main_process_port = static_cast<std::uint16_t>(*port);
}

void note(MapReader& top, Config& config, std::string_view key, std::string_view what) {
  config.notes.push_back(fmt::format("{}: {} {}", top.check().source.place(top.key_mark(key)), key, what));
}

/// Machines on different networks: of use is here what each host is told.
void note_networks(MapReader& top, Config& config) {
  const bool several = config.hosts.size() > 1 || config.num_machines.value_or(1) > 1;
  if (top.boolean("same_network").value_or(true) || !several) return;
  note(top, config, "same_network",
       config.main_process_ip ? "false has no effect: all machines use main_process_ip, wherever they are"
                              : "false has no effect: each host is told the address of this machine that its ssh "
                                "connection comes from; main_process_ip names another");
}

void note_tpu_pods(MapReader& top, Config& config) {
  for (const std::string_view key : {"tpu_name", "tpu_zone", "tpu_vm", "tpu_env", "command_file", "commands"}) {
    const YamlNode* value = top.find(key);
    if (value && !(value->text.empty() && value->items.empty()))
      note(top, config, key, "has no effect: it is for TPU pods");
  }
}

void remember_places(MapReader& top, Config& config) {
  for (const std::string_view key : keys_of("")) {
    const ConfigMark mark = top.key_mark(key);
    if (mark.line != 0) config.places.emplace(key, top.check().source.origin_of(mark));
  }
}

}  // namespace

bool runs_per_machine(const Config& config) {
  return config.hosts.empty() && config.num_machines.value_or(1) > 1 && config.main_process_ip;
}

std::string note_of_machine_rank(const Config& config) {
  return fmt::format("{}: machine_rank {} has no effect: the order of the hosts is the order of the ranks",
                     place_of(config, "machine_rank"), config.machine_rank);
}

std::optional<std::string> note_of_backend(const Config& config) {
  const std::string& backend = config.rdzv_backend;
  if (backend == "static" || (backend == "c10d" && runs_per_machine(config))) return std::nullopt;
  return fmt::format("{}: rdzv_backend '{}' has no effect: llmlaunch serves the rendezvous itself",
                     place_of(config, "rdzv_backend"), backend);
}

namespace {

Result<Config> read_tree(const ConfigLayers& layers) {
  const YamlNode* const root = &layers.root;
  const ConfigSource& source = *layers.sources.front();
  Config config;
  config.file = source.name();
  ConfigCheck check{source, std::nullopt};
  if (root->kind == YamlNode::Kind::mapping) {
    // First, so that a SageMaker file is called what it is, and not a file with unknown keys.
    ConfigCheck kind_check{source, std::nullopt};
    std::vector<std::string_view> every;
    for (std::size_t i = 0; i < root->items.size(); i += 2) every.push_back(root->items[i].text);
    MapReader top(kind_check, *root, "", std::move(every));
    read_environment_kind(top);
    if (kind_check.error) return *kind_check.error;
  }
  MapReader top(check, *root, "", keys_of(""));
  remember_places(top, config);
  read_distributed_type(top, config);
  read_precision(top, config);
  config.use_cpu = top.boolean("use_cpu").value_or(false);
  config.debug = top.boolean("debug").value_or(false);
  read_world(top, config);
  config.gpu_ids = read_gpu_ids(top);
  config.enable_cpu_affinity = top.boolean("enable_cpu_affinity").value_or(false);
  read_main_process(top, config);
  read_accelerate_sections(top, config);
  config.rdzv_backend = top.text("rdzv_backend").value_or(config.rdzv_backend);
  const std::size_t noted = config.notes.size();
  note_tpu_pods(top, config);
  if (const YamlNode* own = top.find("llmlaunch")) read_llmlaunch_section(check, *own, config);
  note_networks(top, config);
  // These depend on the hosts, and are said with the other keys of accelerate.
  std::vector<std::string> late;
  if (auto said = note_of_backend(config)) late.push_back(std::move(*said));
  if (config.machine_rank != 0 && !runs_per_machine(config)) late.push_back(note_of_machine_rank(config));
  config.notes.insert(config.notes.begin() + static_cast<std::ptrdiff_t>(noted), late.begin(), late.end());
  if (check.error) return *check.error;
  return config;
}

/// `what` is the message's part before the reason.
Result<std::string> read_text(const std::string& path, std::string_view what) {
  const auto failed = [&](const char* call) {
    const int cause = errno;
    Error error = system_error(cause, call, path);
    error.what = fmt::format("{}{}", what, std::error_code(cause, std::generic_category()).message());
    error.code = make_error_code(cause == ENOENT || cause == ENOTDIR ? Errc::not_found : Errc::io);
    return error;
  };
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed("open");
  std::string text;
  std::array<char, 65536> buffer;
  // One byte beyond the limit is enough to know; a pipe or a device may have no end.
  while (text.size() <= kMaxConfigBytes) {
    const ssize_t got = ::read(fd, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      Error error = failed("read");
      ::close(fd);
      return error;
    }
    if (got == 0) break;
    text.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(fd);
  if (text.size() > kMaxConfigBytes) {
    return make_error(Errc::invalid_config, fmt::format("the file is larger than {} bytes", kMaxConfigBytes), path);
  }
  return text;
}

}  // namespace

Result<Config> parse_config(const std::string& text, const ConfigInput& input, const ConfigFileReader& read) {
  const std::string_view byte_order_mark = "\xef\xbb\xbf";
  const std::string content = text.substr(text.starts_with(byte_order_mark) ? byte_order_mark.size() : 0);
  ConfigLayers layers;
  const auto layered = read_layers(layers, content, input, read);
  const bool no_mapping = layers.sources.size() == 1 && !is_mapping(&layers.root);
  if (no_mapping && (!layered || layers.root.kind == YamlNode::Kind::scalar) && looks_like_hostfile(content))
    return make_error(Errc::invalid_config, "a list of hosts, and no configuration", input.path,
                      "--hostfile takes such a file, with or without --config");
  if (!layered) return without_values(layered.error(), layers.secrets);
  auto config = read_tree(layers);
  if (!config) return without_values(config.error(), layers.secrets);
  for (std::string& note : config->notes) note = without_values(std::move(note), layers.secrets);
  config->values = values_of(layers);
  config->secrets = std::move(layers.secrets);
  return config;
}

Result<Config> parse_config(const std::string& text, const std::string& name) {
  return parse_config(text, ConfigInput{name, {}, {}}, [](const std::string&) -> Result<std::string> {
    return make_error(Errc::invalid_config, "this text includes no files");
  });
}

Result<Config> load_config(const std::string& text, const ConfigInput& input) {
  return parse_config(text, input, [](const std::string& path) { return read_text(path, ""); });
}

Result<Config> load_config(const ConfigInput& input) {
  if (input.path.empty()) return load_config("", input);
  const auto text = read_text(input.path, "cannot read the configuration: ");
  if (!text) return text.error();
  return load_config(*text, input);
}

Result<Config> load_config(const std::string& path) {
  return load_config(ConfigInput{path, {}, {}});
}

}  // namespace llmlaunch::launcher
