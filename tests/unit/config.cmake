llmlaunch_unit_test(launcher_config
  SOURCES
    launcher_config_layers_test.cpp
    launcher_config_process_test.cpp
    launcher_config_references_test.cpp
    launcher_config_schema_test.cpp
    launcher_config_section_test.cpp
    launcher_config_test.cpp
    launcher_config_text_test.cpp
    launcher_group_file_test.cpp
    launcher_host_expression_test.cpp
    launcher_host_twins_test.cpp
    launcher_hostfile_test.cpp
    launcher_hostlist_fold_test.cpp
    launcher_hostlist_test.cpp
    launcher_log_settings_test.cpp
    launcher_plan_machines_test.cpp
    launcher_plan_test.cpp
    launcher_proxy_jump_test.cpp
    launcher_survey_test.cpp
  LIBRARIES llmlaunch_config nlohmann_json::nlohmann_json)
target_compile_definitions(unit_launcher_config PRIVATE LLMLAUNCH_CONFIGS="${PROJECT_SOURCE_DIR}/configs")

llmlaunch_unit_test(launcher_accelerate
  SOURCES
    launcher_accelerate_corpus_test.cpp
    launcher_accelerate_test.cpp
  LIBRARIES llmlaunch_config nlohmann_json::nlohmann_json)
target_compile_definitions(unit_launcher_accelerate PRIVATE
  LLMLAUNCH_ACCELERATE_FILES="${PROJECT_SOURCE_DIR}/tests/fixtures/accelerate")
