/// \file
/// How what a store has is shown: lines for people, JSON for programs. Pure.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/store_view.hpp"

namespace llmlaunch::launcher {

/// Bytes as one line of text: what a terminal would not show is \xNN, and \n, \t, \\ are what they are in C. Cut after
/// `most` bytes of the original, which is said with their number.
std::string one_line(std::string_view bytes, std::size_t most = std::string_view::npos);

/// "        12  native   ready/0\n" for each key: bytes, whose, key; a queue of PyTorch's says so.
std::string store_lines(const std::vector<ListedKey>& keys);
/// One object with a newline at its end: job_id, generation, keys: [{store, key, bytes, queued}]. `queued` is null for
/// what is no queue; a key that is no UTF-8 is key_base64.
std::string store_json(const ObserverPass& pass, const std::vector<ListedKey>& keys);

/// One object on a line: store, key, bytes, value. What is no UTF-8 is key_base64 and value_base64.
std::string value_json(const std::string& key, const FoundValue& found);

/// "10:15:30.123  set      native   ready/0  yes\n"
std::string change_line(rendezvous::Keyspace keyspace, const rendezvous::KeyChange& change,
                        std::chrono::system_clock::time_point when);
/// One object on a line: time, store, change ("set" or "deleted"), key, bytes, value; the last two are null when it was
/// deleted.
std::string change_json(rendezvous::Keyspace keyspace, const rendezvous::KeyChange& change,
                        std::chrono::system_clock::time_point when);

}  // namespace llmlaunch::launcher
