llmlaunch_unit_test(base
  SOURCES base_child_signals_test.cpp base_error_test.cpp base_frame_test.cpp base_home_test.cpp base_log_test.cpp base_replaceable_test.cpp
    base_signal_end_test.cpp base_tcp_tuning_test.cpp base_whole_number_test.cpp base_write_all_test.cpp
  LIBRARIES llmlaunch_base)
