llmlaunch_unit_test(launcher_agent
  SOURCES
    launcher_agent_conditions_test.cpp
    launcher_agent_cpu_test.cpp
    launcher_agent_exec_spec_test.cpp
    launcher_agent_file_cache_test.cpp
    launcher_agent_left_cgroups_test.cpp
    launcher_agent_left_processes_test.cpp
    launcher_agent_network_test.cpp
    launcher_agent_outbound_log_test.cpp
    launcher_agent_protocol_test.cpp
    launcher_agent_state_test.cpp
    ../support/agent_driver.cpp
  LIBRARIES llmlaunch_agent_core)
