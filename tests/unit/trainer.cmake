# unit tests of trainer
include(trainer_distributed.cmake)

if(NOT TARGET llmlaunch_trainer_core)
  return()
endif()
# An epoch says something of the numbers, which are the same there, and takes sanitizers two minutes.
set(trainer_core_arguments)
if(LLMLAUNCH_SANITIZE)
  set(trainer_core_arguments "~[epochs]")
endif()
llmlaunch_unit_test(trainer_files
  SOURCES trainer_checkpoint_test.cpp trainer_dealing_test.cpp trainer_files_test.cpp trainer_reports_test.cpp
          trainer_safetensors_test.cpp trainer_trainer_state_test.cpp
  LIBRARIES llmlaunch_trainer_files nlohmann_json::nlohmann_json OpenSSL::Crypto)
llmlaunch_unit_test(trainer_app
  SOURCES trainer_agenda_test.cpp trainer_data_checksum_test.cpp trainer_data_source_test.cpp
          trainer_gloo_options_test.cpp trainer_job_facts_test.cpp trainer_loss_log_test.cpp trainer_progress_test.cpp
          trainer_training_test.cpp
  LIBRARIES llmlaunch_trainer_app)
add_test(NAME unit_trainer_source_digest
  COMMAND ${CMAKE_COMMAND} -DSCRIPT=${PROJECT_SOURCE_DIR}/trainer/source_digest.cmake
          -DFOLDER=${CMAKE_CURRENT_BINARY_DIR}/source_digest -P ${CMAKE_CURRENT_SOURCE_DIR}/source_digest_test.cmake)
set_tests_properties(unit_trainer_source_digest PROPERTIES LABELS unit TIMEOUT 60)
llmlaunch_unit_test(trainer_core
  SOURCES
    trainer_batch_loader_test.cpp
    trainer_cpu_backend_test.cpp
    trainer_cpu_kernels_test.cpp
    trainer_data_files_test.cpp
    trainer_dataset_test.cpp
    trainer_digits_test.cpp
    trainer_host_steps_test.cpp
    trainer_image_source_test.cpp
    trainer_init_test.cpp
    trainer_model_test.cpp
    trainer_pytorch_test.cpp
    trainer_philox_test.cpp
    trainer_sampler_test.cpp
    trainer_grad_scaler_test.cpp
    trainer_schedule_test.cpp
    trainer_torch_numbers_test.cpp
  ARGUMENTS ${trainer_core_arguments}
  LIBRARIES llmlaunch_trainer_core nlohmann_json::nlohmann_json ZLIB::ZLIB)
# A linear model learns in it for 25 epochs: optimized, and so without the precompiled header of the others.
set_source_files_properties(trainer_digits_test.cpp PROPERTIES
  COMPILE_OPTIONS -O2 SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
target_compile_definitions(unit_trainer_core PRIVATE LLMLAUNCH_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures")
