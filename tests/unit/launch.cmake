llmlaunch_unit_test(launcher ASIO
  SOURCES
    launcher_call_test.cpp
    launcher_console_test.cpp
    launcher_exec_test.cpp
    launcher_job_each_host_test.cpp
    launcher_fan_out_test.cpp
    launcher_head_addresses_test.cpp
    launcher_job_control_test.cpp
    launcher_job_cut_test.cpp
    launcher_job_start_test.cpp
    launcher_job_state_test.cpp
    launcher_job_stop_test.cpp
    launcher_launch_test.cpp
    launcher_live_bars_test.cpp
    launcher_log_files_test.cpp
    launcher_log_mux_test.cpp
    launcher_member_state_test.cpp
    launcher_observer_pass_test.cpp
    launcher_pushed_libraries_test.cpp
    launcher_roll_call_test.cpp
    launcher_run_directories_test.cpp
    launcher_running_jobs_test.cpp
    launcher_same_reason_test.cpp
    launcher_store_text_test.cpp
    launcher_store_watch_test.cpp
    launcher_timeline_test.cpp
    ../support/fake_remote_shell.cpp
    ../support/job_bench.cpp
  LIBRARIES llmlaunch_launcher llmlaunch_rendezvous_client nlohmann_json::nlohmann_json OpenSSL::Crypto)

# The same with the real agent and real processes on this machine; no sshd, no root.
llmlaunch_unit_test(launcher_local ASIO
  SOURCES ../integration/launcher_local_test.cpp
  LIBRARIES llmlaunch_launcher)
target_compile_definitions(unit_launcher_local PRIVATE LLMLAUNCH_AGENT="$<TARGET_FILE:llmlaunch-agent>")
add_dependencies(unit_launcher_local llmlaunch-agent)
set_tests_properties(unit_launcher_local PROPERTIES LABELS integration)
