if(TARGET llmlaunch_trainer_core)
  llmlaunch_fuzz_target(trainer_idx SOURCES trainer_idx.cpp LIBRARIES llmlaunch_trainer_core)
  llmlaunch_fuzz_target(trainer_safetensors SOURCES trainer_safetensors.cpp LIBRARIES llmlaunch_trainer_files)
endif()
