# The distributed half of the trainer, the program, and the CUDA backend where the toolkit is.
find_package(Gloo REQUIRED)
set_target_properties(gloo PROPERTIES IMPORTED_GLOBAL TRUE)  # the tests look into it too

# Collectives and data parallelism; knows no model.
add_library(llmlaunch_trainer_distributed STATIC
  agreement.cpp
  ddp.cpp
  gloo_address.cpp
  gloo_comm.cpp
  gloo_store.cpp
  introduction.cpp
  late_ranks.cpp
  shared_memory_all_reduce.cpp
  shared_memory_bootstrap.cpp
  shared_memory_region.cpp
  wait_watch.cpp
)
target_link_libraries(llmlaunch_trainer_distributed
  PUBLIC llmlaunch_rendezvous_client llmlaunch_base
  PRIVATE gloo Threads::Threads)
target_precompile_headers(llmlaunch_trainer_distributed REUSE_FROM llmlaunch_base)

# Gloo adds by a template of its headers, which is vectorised only so, and so do we. Every machine's sums are the same bits.
set_source_files_properties(gloo_comm.cpp shared_memory_all_reduce.cpp PROPERTIES
  COMPILE_OPTIONS "$<$<CONFIG:Release>:-O3>;-ffp-contract=off"
  SKIP_PRECOMPILE_HEADERS ON  # which was compiled without it
  SKIP_UNITY_BUILD_INCLUSION ON)

# The command line and files of settings; the only part that sees CLI11 and yaml-cpp.
add_library(llmlaunch_trainer_options STATIC
  config_file.cpp
  exit_status.cpp
  failure_pauses.cpp
  file_settings.cpp
  flag_maker.cpp
  flag_values.cpp
  known_arguments.cpp
  option_table.cpp
  options.cpp
  shown_line.cpp
  unknown_flag.cpp
  variable_settings.cpp
)
target_link_libraries(llmlaunch_trainer_options PUBLIC llmlaunch_base PRIVATE llmlaunch_trainer_models CLI11::CLI11 yaml-cpp)
target_compile_options(llmlaunch_trainer_options PRIVATE $<$<CONFIG:Release>:-O1>)

include(cuda/detect.cmake)
if(LLMLAUNCH_HAVE_CUDA_BACKEND)
  add_subdirectory(cuda)
endif()

if(NOT TARGET llmlaunch_trainer_core)
  return()
endif()

# The story of a training job, over the core (numerics and data) and the above: all of it but the door to a device, so that
# tests can put another one there.
add_library(llmlaunch_trainer_job OBJECT
  ${CMAKE_CURRENT_BINARY_DIR}/source_digest.cpp
  agenda.cpp
  best_model.cpp
  checkpoint_keeper.cpp
  data_checksum.cpp
  data_source.cpp
  evaluation.cpp
  gloo_options.cpp
  host_loop.cpp
  job_facts.cpp
  loss_log.cpp
  model_check.cpp
  output.cpp
  output_folders.cpp
  predictions.cpp
  progress.cpp
  resident_loop.cpp
  resume.cpp
  same_everywhere.cpp
  same_program.cpp
  stop.cpp
  stop_story.cpp
  story.cpp
  train.cpp
  training_job.cpp
  world.cpp
)
target_link_libraries(llmlaunch_trainer_job
  PUBLIC llmlaunch_trainer_core llmlaunch_trainer_distributed llmlaunch_trainer_files llmlaunch_trainer_options
  PRIVATE ZLIB::ZLIB)
target_precompile_headers(llmlaunch_trainer_job REUSE_FROM llmlaunch_base)

add_library(llmlaunch_trainer_app STATIC device.cpp)
target_link_libraries(llmlaunch_trainer_app PUBLIC llmlaunch_trainer_job)
target_precompile_headers(llmlaunch_trainer_app REUSE_FROM llmlaunch_base)
if(LLMLAUNCH_HAVE_CUDA_BACKEND)
  target_compile_definitions(llmlaunch_trainer_app PRIVATE LLMLAUNCH_CUDA_BACKEND)
  target_link_libraries(llmlaunch_trainer_app PUBLIC llmlaunch_trainer_cuda)
endif()

add_executable(llmlaunch-train main.cpp)
target_link_libraries(llmlaunch-train PRIVATE llmlaunch_trainer_app)

# Ranks of one version number, and of other sources, are not of one job.
include(program_sources.cmake)
include(cuda/sources.cmake)
llmlaunch_program_sources(llmlaunch-train llmlaunch_train_sources)
list(TRANSFORM llmlaunch_cuda_sources PREPEND trainer/cuda/)
list(APPEND llmlaunch_train_sources ${llmlaunch_cuda_sources})
list(REMOVE_DUPLICATES llmlaunch_train_sources)
list(JOIN llmlaunch_train_sources "\n" llmlaunch_train_sources)
file(CONFIGURE OUTPUT program_sources.txt CONTENT "${llmlaunch_train_sources}\n" @ONLY)
add_custom_command(OUTPUT source_digest.cpp
  COMMAND ${CMAKE_COMMAND} -DROOT=${PROJECT_SOURCE_DIR} -DSOURCES=${CMAKE_CURRENT_BINARY_DIR}/program_sources.txt
          -DOUTPUT=${CMAKE_CURRENT_BINARY_DIR}/source_digest.cpp -DDEPFILE=${CMAKE_CURRENT_BINARY_DIR}/source_digest.d
          -P ${CMAKE_CURRENT_SOURCE_DIR}/source_digest.cmake
  DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/program_sources.txt source_digest.cmake
  DEPFILE ${CMAKE_CURRENT_BINARY_DIR}/source_digest.d
  VERBATIM)
