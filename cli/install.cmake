# cmake --install: the programs where llmlaunch looks for its own (../libexec/llmlaunch from itself), manual pages and
# completion where the shells look. Pages come from the program that was built, so a cross build goes without them.
include(GNUInstallDirs)
install(TARGETS llmlaunch RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS llmlaunch-agent llmlaunch-train RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/llmlaunch)

if(CMAKE_CROSSCOMPILING OR LLMLAUNCH_SANITIZE)
  return()
endif()

# llmlaunch_page(FILE FOLDER words…): the output of `llmlaunch docs words…` as share/FOLDER/FILE.
set(llmlaunch_pages)
function(llmlaunch_page file folder)
  set(page ${CMAKE_BINARY_DIR}/share/${file})
  add_custom_command(OUTPUT ${page}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/share
    COMMAND llmlaunch docs ${ARGN} > ${page}
    DEPENDS llmlaunch VERBATIM)
  install(FILES ${page} DESTINATION ${CMAKE_INSTALL_DATADIR}/${folder})
  set(llmlaunch_pages ${llmlaunch_pages} ${page} PARENT_SCOPE)
endfunction()

llmlaunch_page(llmlaunch.1 man/man1 man)
foreach(command run exec hosts env store docs config version)
  llmlaunch_page(llmlaunch-${command}.1 man/man1 man ${command})
endforeach()
llmlaunch_page(llmlaunch bash-completion/completions completion bash)
llmlaunch_page(_llmlaunch zsh/site-functions completion zsh)
llmlaunch_page(llmlaunch.fish fish/vendor_completions.d completion fish)
add_custom_target(llmlaunch_pages ALL DEPENDS ${llmlaunch_pages})
