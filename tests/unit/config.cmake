llmlaunch_unit_test(launcher_config
  SOURCES launcher_hostlist_test.cpp launcher_config_test.cpp launcher_config_section_test.cpp
    launcher_config_process_test.cpp launcher_log_settings_test.cpp launcher_plan_test.cpp launcher_proxy_jump_test.cpp
  LIBRARIES llmlaunch_config)
target_compile_definitions(unit_launcher_config PRIVATE LLMLAUNCH_CONFIGS="${PROJECT_SOURCE_DIR}/configs")
