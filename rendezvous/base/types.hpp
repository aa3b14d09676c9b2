/// \file
/// Numbers that must not be mixed up, as types of their own.
#pragma once

#include <compare>
#include <cstdint>

namespace llmlaunch {

/// A rank of the job: 0 … world_size-1, over all hosts.
enum class Rank : std::uint32_t {};
/// A host's place in the job: 0 … number of hosts-1, in the order of the configuration.
enum class NodeRank : std::uint32_t {};
/// One admitted world; a restart makes the next one.
enum class Generation : std::uint32_t {};

constexpr std::uint32_t number(Rank rank) {
  return static_cast<std::uint32_t>(rank);
}
constexpr std::uint32_t number(NodeRank rank) {
  return static_cast<std::uint32_t>(rank);
}
constexpr std::uint32_t number(Generation generation) {
  return static_cast<std::uint32_t>(generation);
}

}  // namespace llmlaunch
