llmlaunch_unit_test(rendezvous
  SOURCES
    rendezvous_address_list_test.cpp
    rendezvous_auth_test.cpp
    rendezvous_client_environment_test.cpp
    rendezvous_exploration_test.cpp
    rendezvous_message_test.cpp
    rendezvous_parallel_test.cpp
    rendezvous_standstill_test.cpp
    rendezvous_store_test.cpp
    rendezvous_tcpstore_codec_test.cpp
    rendezvous_tcpstore_state_test.cpp
    rendezvous_wording_test.cpp
    rendezvous_world_state_test.cpp
    rendezvous_world_store_test.cpp
  LIBRARIES llmlaunch_rendezvous llmlaunch_rendezvous_client)
# It goes through so many orders of events that it is optimized in every build, and so without the common header.
set_source_files_properties(rendezvous_exploration_test.cpp PROPERTIES
  COMPILE_OPTIONS -O1 SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
# Server and client over loopback sockets, ranks as threads.
llmlaunch_unit_test(rendezvous_sockets ASIO
  SOURCES
    rendezvous_client_store_test.cpp
    rendezvous_client_test.cpp
    rendezvous_half_open_test.cpp
    rendezvous_hostile_test.cpp
    rendezvous_server_test.cpp
    rendezvous_tcpstore_server_test.cpp
  LIBRARIES llmlaunch_rendezvous llmlaunch_rendezvous_client)
