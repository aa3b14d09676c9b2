# libllmlaunch_rendezvous.so: the client behind a C header, for programs in any language, and how they find it.
#   cmake --install BUILD --component rendezvous      this alone
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

add_library(llmlaunch_rendezvous_shared SHARED c_api.cpp c_api_store.cpp)
target_link_libraries(llmlaunch_rendezvous_shared PRIVATE llmlaunch_rendezvous_client)
target_include_directories(llmlaunch_rendezvous_shared INTERFACE
  $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# Only the functions of the header leave the library; what it is made of may be in the program a second time.
set(symbols ${CMAKE_CURRENT_SOURCE_DIR}/llmlaunch_rendezvous.map)
target_link_options(llmlaunch_rendezvous_shared PRIVATE -Wl,--version-script=${symbols})
set_target_properties(llmlaunch_rendezvous_shared PROPERTIES
  OUTPUT_NAME llmlaunch_rendezvous
  EXPORT_NAME rendezvous
  VERSION ${PROJECT_VERSION}
  SOVERSION 0
  LINK_DEPENDS ${symbols}
  UNITY_BUILD OFF  # each file opens our namespaces for its extern "C"
  PUBLIC_HEADER llmlaunch_rendezvous.h)
add_library(llmlaunchRendezvous::rendezvous ALIAS llmlaunch_rendezvous_shared)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/llmlaunchRendezvous)
install(TARGETS llmlaunch_rendezvous_shared EXPORT llmlaunchRendezvousTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT rendezvous NAMELINK_COMPONENT rendezvous
  PUBLIC_HEADER DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT rendezvous)
install(EXPORT llmlaunchRendezvousTargets NAMESPACE llmlaunchRendezvous:: DESTINATION ${package} COMPONENT rendezvous)
configure_package_config_file(llmlaunchRendezvousConfig.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/llmlaunchRendezvousConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/llmlaunchRendezvousConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)  # before 1.0, a minor version may change a function
# The folders of pkg-config are written from where the file is, so that an installation may be moved as a whole.
file(RELATIVE_PATH LLMLAUNCH_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
string(REGEX REPLACE "/$" "" LLMLAUNCH_PC_PREFIX "${LLMLAUNCH_PC_PREFIX}")
configure_file(llmlaunch_rendezvous.pc.in llmlaunch_rendezvous.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/llmlaunchRendezvousConfig.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/llmlaunchRendezvousConfigVersion.cmake DESTINATION ${package} COMPONENT rendezvous)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/llmlaunch_rendezvous.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT rendezvous)
