if(TARGET llmlaunch_trainer_core)
  llmlaunch_fuzz_target(trainer_idx SOURCES trainer_idx.cpp LIBRARIES llmlaunch_trainer_core)
endif()
