/// \file
/// Whether all ranks are about to do the same job: the same program, flags and data. Asked before the first step,
/// because ranks that differ would hang in a collective or train nonsense.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "rendezvous/base/result.hpp"
#include "trainer/comm.hpp"

namespace llmlaunch::trainer {

/// What a rank is about to do, as names and values that a person knows: {"--learning_rate", "0.001"}. Names are equal
/// on all ranks of one version of the program.
using JobFacts = std::vector<std::pair<std::string, std::string>>;

/// What a rank may say in one text: facts are some kB, and a length that is nonsense asks nobody for memory.
inline constexpr std::uint64_t kMaxText = std::uint64_t{1} << 20;

/// Texts from all ranks; index = rank. `Errc::protocol` names a rank whose text is longer than kMaxText. Collective.
Result<std::vector<std::string>> gather_texts(Comm& comm, const std::string& mine);

/// The error names each fact that differs from rank 0's, with its value there and on the first rank that has another,
/// by rank and host: "--learning_rate is 0.01 on rank 2 (gpu03) and 0.001 on rank 0 (gpu01)". `host` is this rank's
/// own. Collective: all ranks find the same, and rank 0 tells it (`told_once`). `Errc::invalid_argument`.
Result<void> check_same_job(Comm& comm, const std::string& host, const JobFacts& mine);

/// Of an error that every rank finds alike at the same place: the rank `by` tells it, and the others wait until it has
/// ended and end without words, as the error without `what` that they get here. Collective.
Error told_once(Comm& comm, Error error, std::uint32_t by = 0);

}  // namespace llmlaunch::trainer
