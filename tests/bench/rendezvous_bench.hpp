/// \file
/// The rendezvous under ten thousand clients, which one process plays with epoll: what is measured is the server, not
/// ten thousand programs. Parts of rendezvous_bench.cpp.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <string>

#include "rendezvous/base/frame.hpp"

namespace llmlaunch::bench {

using Clock = std::chrono::steady_clock;

/// The job that `serve` serves and the clients belong to.
inline constexpr const char* kJobId = "bench";
inline constexpr const char* kToken = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Where the server listens; 127.0.0.1.
struct Target {
  std::uint16_t port = 0;
};

/// Prints why and ends the program: a benchmark has nobody to report to.
[[noreturn]] void die(const std::string& what);

/// Raises the limit of open files as far as this process may, and ends the program when that is too little.
void prepare(std::size_t connections);

/// A connection to 127.0.0.1 from `source`, an address below 127/8 in host order: one of them has 28,000 ports, and
/// each port rests for a minute after its connection. Established before it returns; does not block later.
int connect_from(std::uint32_t source, Target target);

/// Sends all bytes. A server that stops reading is waited for: nothing here is that large.
void send_all(int fd, ByteView bytes);

/// Seconds of a duration.
inline double seconds(Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

/// `world` ranks join, all but rank 0 ask for the unique id, rank 0 comes last and publishes it, then all pass one
/// barrier. Prints seconds as `total=… last_id_ms=… ` and the server's growth as `bytes_per_client=…`.
void join(Target target, std::uint32_t world, int server_pid);

/// `clients` connections, each of which sets a key and gets it again `pairs` times, 128 bytes. `dialect` is native or
/// tcpstore. Prints `pairs_per_s=… median_us=… p99_us=…`.
void store(Target target, const std::string& dialect, std::uint32_t clients, std::uint32_t pairs);

}  // namespace llmlaunch::bench
