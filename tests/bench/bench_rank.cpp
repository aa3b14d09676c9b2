// A rank of the benchmarks: joins the rendezvous, waits for all others, writes one line. With the argument "stay" it
// then sleeps until it is stopped.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "rendezvous/client.hpp"

int main(int argc, char** argv) {
  const auto options = llmlaunch::rendezvous::client_options_from_environment();
  if (!options) {
    std::fprintf(stderr, "%s\n", to_string(options.error()).c_str());
    return 1;
  }
  const auto client = llmlaunch::rendezvous::Client::join(*options);
  if (!client) {
    std::fprintf(stderr, "%s\n", to_string(client.error()).c_str());
    return 1;
  }
  if (const auto all = (*client)->barrier("all"); !all) {
    std::fprintf(stderr, "%s\n", to_string(all.error()).c_str());
    return 1;
  }
  std::puts("joined");
  std::fflush(stdout);
  while (argc > 1 && std::strcmp(argv[1], "stay") == 0) ::pause();
  return 0;
}
