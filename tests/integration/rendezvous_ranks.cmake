# Ranks that only use the rendezvous; the integration tests start them on their hosts.
add_executable(rendezvous_echo_rank ../support/rendezvous_echo_rank.cpp ../support/id_rank.cpp)
target_link_libraries(rendezvous_echo_rank PRIVATE llmlaunch_rendezvous_client OpenSSL::Crypto)
if(TARGET llmlaunch_nccl)
  add_executable(nccl_id_rank ../support/nccl_id_rank.cpp ../support/id_rank.cpp)
  target_link_libraries(nccl_id_rank PRIVATE llmlaunch_rendezvous_client llmlaunch_nccl OpenSSL::Crypto)
endif()
