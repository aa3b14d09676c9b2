llmlaunch_unit_test(launcher_ssh
  SOURCES
    launcher_agent_greeting_test.cpp
    launcher_ssh_bootstrap_test.cpp
    launcher_ssh_certificate_test.cpp
    launcher_ssh_config_test.cpp
    launcher_ssh_known_hosts_test.cpp
    ../support/bootstrap_host.cpp
  LIBRARIES llmlaunch_ssh_core)
# The bootstrap test runs the line in real shells and starts the real agent.
add_dependencies(unit_launcher_ssh llmlaunch-agent)
target_compile_definitions(unit_launcher_ssh PRIVATE LLMLAUNCH_AGENT_PATH="$<TARGET_FILE:llmlaunch-agent>")
