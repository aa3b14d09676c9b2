llmlaunch_unit_test(cli ASIO
  SOURCES
    cli_cron_test.cpp
    cli_docs_test.cpp
    cli_exec_test.cpp
    cli_foreign_flags_test.cpp
    cli_messages_test.cpp
    cli_options_test.cpp
    cli_plan_test.cpp
    cli_report_test.cpp
    cli_store_test.cpp
    cli_wizard_renewal_test.cpp
    cli_wizard_test.cpp
    cli_wizard_file_test.cpp
  LIBRARIES llmlaunch_cli CLI11::CLI11)
