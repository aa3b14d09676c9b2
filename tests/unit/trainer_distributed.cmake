llmlaunch_unit_test(trainer_distributed
  SOURCES trainer_agreement_test.cpp trainer_config_file_test.cpp trainer_ddp_test.cpp trainer_failure_pauses_test.cpp
          trainer_options_test.cpp trainer_variable_settings_test.cpp trainer_wait_watch_test.cpp trainer_worker_test.cpp
  LIBRARIES llmlaunch_trainer_distributed llmlaunch_trainer_options nlohmann_json::nlohmann_json)
target_compile_definitions(unit_trainer_distributed PRIVATE LLMLAUNCH_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures")
if(TARGET llmlaunch_trainer_cuda)
  llmlaunch_unit_test(trainer_libraries SOURCES trainer_libraries_test.cpp LIBRARIES llmlaunch_trainer_cuda)
endif()
