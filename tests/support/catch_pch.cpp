// Nothing but Catch2's header: the precompiled form of it, which all test programs share, belongs to this file.
#include "tests/support/catch.hpp"
