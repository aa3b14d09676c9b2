# Connections and ssh-agent over sockets of this machine.
llmlaunch_unit_test(launcher_ssh_sockets ASIO SOURCES launcher_ssh_connect_test.cpp launcher_ssh_places_test.cpp launcher_ssh_session_test.cpp launcher_ssh_workers_test.cpp LIBRARIES llmlaunch_ssh)
