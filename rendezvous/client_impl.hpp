/// \file
/// What a `Client` is made of, and what its calls have in common. Private to client*.cpp.
#pragma once

#include <utility>

#include "rendezvous/client_link.hpp"

namespace llmlaunch::rendezvous {

struct Client::Impl : ClientLink {
  using ClientLink::ClientLink;

  /// `unsupported` when the server does not know whose keys are meant.
  Result<void> knows(Keyspace keyspace) const {
    return keyspace == Keyspace::native ? Result<void>(ok) : needs_minor(2, "way to PyTorch's store");
  }

  /// The answer to a request if it is a T; any other type is the server's mistake.
  template <class T, class Request>
  Result<T> ask_for(Request request, std::chrono::milliseconds timeout, const std::string& subject) {
    auto answer = ask(std::move(request), timeout, subject);
    if (!answer) return answer.error();
    if (auto* wanted = std::get_if<T>(&*answer)) return std::move(*wanted);
    return make_error(Errc::protocol, "the server answered with another type", where_of(options()));
  }
};

}  // namespace llmlaunch::rendezvous
