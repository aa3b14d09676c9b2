/// \file
/// Boost.Asio's TLS streams, beside asio.hpp and not in it: OpenSSL's headers cost every file that includes them.
#pragma once

#include <boost/asio/ssl.hpp>

#include "rendezvous/asio.hpp"
