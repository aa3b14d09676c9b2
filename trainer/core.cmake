# The numerical core of the trainer: data, order, weights, and networks on the CPU by oneDNN.
#
# Not find_package(dnnl): Debian's configuration of it also wants OpenCL's headers, which nothing here needs.
find_path(DNNL_INCLUDE_DIR dnnl.hpp REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)

# Models as data; sees neither devices nor files. One source for each line of the list.
file(STRINGS models/list.inc llmlaunch_models REGEX "^LLMLAUNCH_MODEL")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/models/list.inc)
list(TRANSFORM llmlaunch_models REPLACE "^LLMLAUNCH_MODEL.([a-z0-9_]+).*" "models/\\1.cpp")
add_library(llmlaunch_trainer_models STATIC model.cpp ${llmlaunch_models})
target_link_libraries(llmlaunch_trainer_models PUBLIC llmlaunch_base)
target_precompile_headers(llmlaunch_trainer_models REUSE_FROM llmlaunch_base)

# Files: as a whole, checkpoints made of them, and reports that grow; sees neither devices nor networks.
add_library(llmlaunch_trainer_files STATIC
  append_file.cpp
  checkpoint.cpp
  checkpoint_writer.cpp
  dealing.cpp
  divergence.cpp
  event_file.cpp
  files.cpp
  output_lock.cpp
  reports.cpp
  safetensors.cpp
  step_lines.cpp
  trainer_state.cpp
  unfinished.cpp
)
target_link_libraries(llmlaunch_trainer_files
  PUBLIC llmlaunch_trainer_models llmlaunch_base
  PRIVATE nlohmann_json::nlohmann_json OpenSSL::Crypto Threads::Threads)
target_precompile_headers(llmlaunch_trainer_files REUSE_FROM llmlaunch_base)

add_library(llmlaunch_trainer_core STATIC
  batch_loader.cpp
  cpu_backend.cpp
  cpu_kernels.cpp
  cpu_layers.cpp
  cpu_network.cpp
  compute_threads.cpp
  data_files.cpp
  dataset.cpp
  digits.cpp
  grad_scaler.cpp
  host_steps.cpp
  idx.cpp
  image_source.cpp
  init.cpp
  sampler.cpp
  schedule.cpp
  still_file.cpp
)
# oneDNN runs on GCC's OpenMP; it must be asked for its number of threads there, also by a program built with Clang.
target_include_directories(llmlaunch_trainer_core SYSTEM PRIVATE ${DNNL_INCLUDE_DIR})
target_link_libraries(llmlaunch_trainer_core
  PUBLIC llmlaunch_trainer_models llmlaunch_base
  PRIVATE llmlaunch_trainer_files ${DNNL_LIBRARY} gomp ZLIB::ZLIB Threads::Threads)
target_precompile_headers(llmlaunch_trainer_core REUSE_FROM llmlaunch_base)
if(LLMLAUNCH_SANITIZE STREQUAL "thread")
  target_sources(llmlaunch_trainer_core INTERFACE
    $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${PROJECT_SOURCE_DIR}/tests/support/tsan_suppressions.cpp>)
endif()
# The same bytes on every machine.
set_source_files_properties(digits.cpp PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
# Nobody asks for errno or traps of these loops, and without them they are vectorised. AdamW rounds as PyTorch's does.
set_source_files_properties(cpu_kernels.cpp PROPERTIES
  COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>;-fno-math-errno;-fno-trapping-math;-ffp-contract=off"
  SKIP_PRECOMPILE_HEADERS ON)  # which was compiled without these
