/// \file
/// `Result<T>`: a value or an `Error`, with the member names of C++23's `std::expected`, which it will become.
/// Functions that cross a room's border return it; exceptions stay inside the adaptor that calls a throwing library.
#pragma once

#include <tl/expected.hpp>
#include <utility>

#include "rendezvous/base/error.hpp"

namespace llmlaunch {

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  /// A failed result: `return make_error(Errc::closed, …);` works in every function that gives a `Result`.
  Result(Error error)
      : tl::expected<T, Error>(tl::unexpect, std::move(error)) {}  // NOLINT(google-explicit-constructor)
};

/// The value-less success: `return ok;`
struct Ok {};
inline constexpr Ok ok{};

template <>
class [[nodiscard]] Result<void> : public tl::expected<void, Error> {
 public:
  Result() = default;
  Result(Ok) {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : tl::expected<void, Error>(tl::unexpect, std::move(error)) {}  // NOLINT(google-explicit-constructor)
};

}  // namespace llmlaunch
