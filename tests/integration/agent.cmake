# The real agent over a socket pair: every kind of end, output, fault and leftover of a rank.
add_executable(integration_agent
  ${CMAKE_CURRENT_LIST_DIR}/agent_test.cpp
  ${CMAKE_CURRENT_LIST_DIR}/agent_cgroup_test.cpp
  ${CMAKE_CURRENT_LIST_DIR}/agent_conditions_test.cpp
  ${CMAKE_CURRENT_LIST_DIR}/agent_faults_test.cpp
  ${CMAKE_CURRENT_LIST_DIR}/local_shell_test.cpp
  ${CMAKE_CURRENT_LIST_DIR}/../support/agent_driver.cpp
)
target_link_libraries(integration_agent PRIVATE llmlaunch_catch_asio llmlaunch_local_shell)
set_target_properties(integration_agent PROPERTIES UNITY_BUILD "${unity}")
target_precompile_headers(integration_agent REUSE_FROM llmlaunch_catch_asio)
target_compile_definitions(integration_agent PRIVATE AGENT_PROGRAM="$<TARGET_FILE:llmlaunch-agent>")
if(LLMLAUNCH_SANITIZE)
  target_compile_definitions(integration_agent PRIVATE LLMLAUNCH_SANITIZED)
endif()
add_dependencies(integration_agent llmlaunch-agent)
add_test(NAME integration_agent COMMAND integration_agent)
set_tests_properties(integration_agent PROPERTIES LABELS integration TIMEOUT 300)

# Its sockets alone, over loopback.
add_executable(integration_agent_network ${CMAKE_CURRENT_LIST_DIR}/agent_network_test.cpp)
target_link_libraries(integration_agent_network PRIVATE llmlaunch_catch llmlaunch_agent_core)
add_test(NAME integration_agent_network COMMAND integration_agent_network)
set_tests_properties(integration_agent_network PROPERTIES LABELS integration TIMEOUT 60)
