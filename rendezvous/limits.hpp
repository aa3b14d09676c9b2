/// \file
/// The limits of the rendezvous protocol, each with its reason: everything that a peer can make the server hold is
/// bounded by one of them. Part of message.hpp, by which others include it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace llmlaunch::rendezvous {

/// Job id and host name in a hello: host names end at 253 characters.
inline constexpr std::size_t kMaxNameBytes = 255;
/// Store keys and barrier names, as PyTorch's TCPStore allows: its prefixes nest deeply.
inline constexpr std::size_t kMaxKeyBytes = 8 * 1024;
/// A store value, as TCPStore's: enough for the addresses of 10,000 ranks in one value.
inline constexpr std::size_t kMaxValueBytes = 8 * 1024 * 1024;
/// Keys per generation: gloo needs some per pair of ranks in its worst set-up, 131,072 serve 362 such ranks. A key
/// costs the head some 200 bytes beside its own. Half of this is common, the other half is shared out to the ranks and,
/// as one more, the observers (shares.hpp): who adds keys without end is refused, and every other rank has still room
/// for its share, which is 13 keys in a world of 10,000.
inline constexpr std::size_t kMaxKeys = 256 * 1024;
/// Keys and values of a generation together: what the head can spare for a job. Shared out likewise.
inline constexpr std::size_t kMaxStoreBytes = 256 * 1024 * 1024;
/// Keys in one Wait.
inline constexpr std::size_t kMaxWaitKeys = 4096;
/// The largest message is a Set of the largest key and value.
inline constexpr std::size_t kMaxFrameBytes = kMaxKeyBytes + kMaxValueBytes + 64;
/// Before the proof a peer is a stranger: a hello with two names fits, and nothing more.
inline constexpr std::size_t kMaxHandshakeFrameBytes = 1024;
/// NCCL unique ids per generation: communicators and their roots are a handful.
inline constexpr std::uint32_t kMaxUniqueIds = 1024;
/// Requests of one peer held back at a time, watches included: a rank's threads, each waiting for one thing.
inline constexpr std::size_t kMaxOpenRequests = 256;
/// Key bytes in the requests of one peer held back.
inline constexpr std::size_t kMaxOpenRequestBytes = 16 * 1024 * 1024;
/// Keys and bytes of keys in one answer to a List: a listing goes by pages, so that no answer fills a connection's
/// queue.
inline constexpr std::size_t kMaxListKeys = 4096;
inline constexpr std::size_t kMaxListBytes = 1024 * 1024;
/// Observers at a time: people and their scripts who look into a job, not members of it. They come out of the spare
/// connections, and most of these stay for ranks.
inline constexpr std::size_t kMaxObservers = 16;
/// From accept to proof. A handshake takes two round trips; 10 s survives three lost packets.
inline constexpr std::chrono::milliseconds kHandshakeTimeout{10'000};
/// Connections beyond two per rank; when all are taken, the oldest unfinished handshake makes room.
inline constexpr std::size_t kSpareConnections = 64;
/// Bytes queued for a peer that does not read, before it loses its connection.
inline constexpr std::size_t kMaxQueuedBytes = 8 * kMaxFrameBytes;
/// Bytes queued for a peer above which its watches end instead of growing the queue: one change of the largest size is
/// being sent and another waits.
inline constexpr std::size_t kMaxWatchQueuedBytes = 2 * kMaxFrameBytes;
/// Bytes queued for a peer above which its further requests stay unread.
inline constexpr std::size_t kPauseQueuedBytes = 1024 * 1024;
/// Texts in Failure and Ended; longer ones are cut, keeping any answer readable.
inline constexpr std::size_t kMaxReasonBytes = 16 * 1024;

}  // namespace llmlaunch::rendezvous
