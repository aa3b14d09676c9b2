// The grammar of TCPStore's commands as one table, and a decoder that walks along it byte by byte.
#include "rendezvous/tcpstore_codec.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace llmlaunch::rendezvous::tcpstore {
namespace {

struct Row {
  std::string_view name;
  // k key, v value, 4 and 8 integers of that width. After * what follows comes as often as a count says.
  std::string_view fields;
};
// A row a command.
// clang-format off
constexpr std::array<Row, kVerbs> kRows{{
    {"VALIDATE", "4"},
    {"SET", "kv"},
    {"COMPARE_SET", "kvv"},
    {"GET", "k"},
    {"ADD", "k8"},
    {"CHECK", "*k"},
    {"WAIT", "*k"},
    {"NUM_KEYS", ""},
    {"DELETE_KEY", "k"},
    {"APPEND", "kv"},
    {"MULTI_GET", "*k"},
    {"MULTI_SET", "*kv"},
    {"CANCEL_WAIT", ""},
    {"PING", "4"},
    {"QUEUE_PUSH", "kv"},
    {"QUEUE_POP", "k"},
    {"QUEUE_LEN", "k"},
    {"LIST_KEYS", ""},
    {"BARRIER", "k8"},
}};
// clang-format on
// Of a key or value that is held, beside its bytes: so that many empty ones count, too.
constexpr std::size_t kTextOverhead = 32;

const Row& row_of(Verb verb) {
  return kRows[static_cast<std::size_t>(verb)];
}

Bytes little_endian(std::uint64_t value, unsigned width) {
  Bytes bytes;
  for (unsigned i = 0; i < width; ++i) bytes.push_back(static_cast<std::byte>(value >> (8 * i)));
  return bytes;
}

void put(Bytes& into, std::uint64_t value, unsigned width) {
  const Bytes bytes = little_endian(value, width);
  into.insert(into.end(), bytes.begin(), bytes.end());
}

void put_text(Bytes& into, ByteView text) {
  put(into, text.size(), 8);
  into.insert(into.end(), text.begin(), text.end());
}

}  // namespace

std::string_view verb_name(Verb verb) {
  return row_of(verb).name;
}

Error Decoder::refuse(Errc code, std::string what) const {
  return make_error(code, fmt::format("{}: {}", verb_name(command_->verb), what));
}

Result<std::optional<Command>> Decoder::next(ByteView& input) {
  if (error_) return *error_;
  while (true) {
    if (command_ && rounds_ == 0) {
      held_ = 0;
      return std::exchange(command_, std::nullopt);
    }
    if (input.empty()) return std::optional<Command>();
    const Result<void> done = command_ ? step(input) : begin(input);
    if (done) continue;
    error_ = done.error();
    command_.reset();
    return *error_;
  }
}

Result<void> Decoder::begin(ByteView& input) {
  const auto index = std::to_integer<std::size_t>(input.front());
  input = input.subspan(1);
  if (index >= kVerbs) return make_error(Errc::protocol, fmt::format("TCPStore has no command {}", index));
  command_.emplace();
  command_->verb = static_cast<Verb>(index);
  fields_ = kRows[index].fields;
  field_ = 0;
  rounds_ = fields_.empty() ? 0 : 1;
  return ok;
}

// One field, or as much of it as there is.
Result<void> Decoder::step(ByteView& input) {
  if (in_text_) {
    const std::size_t size = std::min(text_missing_, input.size());
    const ByteView piece = input.first(size);
    if (fields_[field_] == 'k')
      command_->keys.back() += as_text(piece);
    else
      command_->values.back().insert(command_->values.back().end(), piece.begin(), piece.end());
    input = input.subspan(size);
    text_missing_ -= size;
    in_text_ = text_missing_ > 0;
    if (!in_text_) end_field();
    return ok;
  }
  const unsigned width = fields_[field_] == '4' ? 4 : 8;
  while (integer_bytes_ < width && !input.empty()) {
    integer_ |= std::to_integer<std::uint64_t>(input.front()) << (8 * integer_bytes_++);
    input = input.subspan(1);
  }
  if (integer_bytes_ < width) return ok;
  integer_bytes_ = 0;
  return take_integer(std::exchange(integer_, 0));
}

Result<void> Decoder::take_integer(std::uint64_t value) {
  switch (fields_[field_]) {
    case '*':
      if (value > kMaxRequestKeys)
        return refuse(Errc::too_large, fmt::format("{} keys; the limit is {}", value, kMaxRequestKeys));
      fields_.remove_prefix(1);
      rounds_ = value;
      return ok;
    case 'k':
    case 'v': return open_text(value);
    default:
      command_->number = static_cast<std::int64_t>(value);
      end_field();
      return ok;
  }
}

// Nothing is reserved: a length alone costs nothing.
Result<void> Decoder::open_text(std::uint64_t size) {
  const bool key = fields_[field_] == 'k';
  const std::size_t limit = key ? kMaxKeyBytes : kMaxValueBytes;
  if (size > limit)
    return refuse(Errc::too_large,
                  fmt::format("a {} of {} bytes; the limit is {}", key ? "key" : "value", size, limit));
  held_ += size + kTextOverhead;
  if (held_ > kMaxRequestBytes)
    return refuse(Errc::too_large, fmt::format("more than {} bytes in one request, the limit", kMaxRequestBytes));
  if (key)
    command_->keys.emplace_back();
  else
    command_->values.emplace_back();
  text_missing_ = static_cast<std::size_t>(size);
  in_text_ = size > 0;
  if (!in_text_) end_field();
  return ok;
}

void Decoder::end_field() {
  if (++field_ < fields_.size()) return;
  field_ = 0;
  --rounds_;
}

Bytes encode(const Command& command) {
  Bytes bytes = answer_u8(static_cast<std::uint8_t>(command.verb));
  std::string_view fields = row_of(command.verb).fields;
  std::size_t rounds = 1;
  if (fields.starts_with('*')) {
    fields.remove_prefix(1);
    rounds = command.keys.size();
    put(bytes, rounds, 8);
  }
  std::size_t key = 0, value = 0;
  for (; rounds > 0; --rounds) {
    for (const char field : fields) {
      if (field == 'k') put_text(bytes, as_bytes(command.keys[key++]));
      if (field == 'v') put_text(bytes, command.values[value++]);
      if (field == '4' || field == '8')
        put(bytes, static_cast<std::uint64_t>(command.number), static_cast<unsigned>(field - '0'));
    }
  }
  return bytes;
}

Bytes answer_u8(std::uint8_t value) {
  return little_endian(value, 1);
}
Bytes answer_u32(std::uint32_t value) {
  return little_endian(value, 4);
}
Bytes answer_i64(std::int64_t value) {
  return little_endian(static_cast<std::uint64_t>(value), 8);
}
Bytes answer_value_head(std::size_t size) {
  return little_endian(size, 8);
}

}  // namespace llmlaunch::rendezvous::tcpstore
