# What ssh needs and libssh does not do: decisions over plain data, with neither libssh nor Asio.
add_library(llmlaunch_ssh_core STATIC
  bootstrap.cpp
  certificate.cpp
  host_key_error.cpp
  known_hosts.cpp
  known_hosts_append.cpp
  known_hosts_lines.cpp
  ssh_config.cpp
  ssh_config_files.cpp
  ssh_config_host.cpp
  ssh_config_keywords.cpp
  ssh_pattern.cpp
)
target_link_libraries(llmlaunch_ssh_core PUBLIC llmlaunch_config llmlaunch_agent_greeting PRIVATE OpenSSL::Crypto)
target_precompile_headers(llmlaunch_ssh_core REUSE_FROM llmlaunch_base)
# Defines OPENSSL_SUPPRESS_DEPRECATED, which must come before anybody's OpenSSL.
set_source_files_properties(known_hosts_lines.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
