# unit tests of trainer
include(trainer_distributed.cmake)

if(NOT TARGET llmlaunch_trainer_core)
  return()
endif()
llmlaunch_unit_test(trainer_core
  SOURCES
    trainer_cpu_backend_test.cpp
    trainer_cpu_kernels_test.cpp
    trainer_dataset_test.cpp
    trainer_digits_test.cpp
    trainer_init_test.cpp
    trainer_pytorch_test.cpp
    trainer_sampler_test.cpp
  LIBRARIES llmlaunch_trainer_core nlohmann_json::nlohmann_json ZLIB::ZLIB)
target_compile_definitions(unit_trainer_core PRIVATE LLMLAUNCH_FIXTURES="${PROJECT_SOURCE_DIR}/tests/fixtures")
