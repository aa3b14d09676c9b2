llmlaunch_fuzz_target(config SOURCES config.cpp LIBRARIES llmlaunch_config)
llmlaunch_fuzz_target(hostlist SOURCES hostlist.cpp LIBRARIES llmlaunch_config)
