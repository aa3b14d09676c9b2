# cmake -DROOT=. -DSOURCES=sources.txt -DOUTPUT=source_digest.cpp -DDEPFILE=source_digest.d -P source_digest.cmake
# Writes the source that knows which sources the program is made of: a digest of names and contents, so that two builds
# of one version number are told apart, also where there is no git. SOURCES names them, a path below ROOT on each line;
# what they include of ours is found from them. A changed comment counts, too: contents are not understood here.
cmake_minimum_required(VERSION 3.25)
file(STRINGS ${SOURCES} open)
set(sources "")
while(open)
  list(POP_FRONT open source)
  if(source IN_LIST sources)
    continue()
  endif()
  list(APPEND sources ${source})
  file(STRINGS ${ROOT}/${source} includes REGEX "^[ \t]*#[ \t]*include[ \t]*\"[^\"]+\"")
  foreach(include IN LISTS includes)
    string(REGEX REPLACE "^[^\"]*\"([^\"]+)\".*" "\\1" header "${include}")
    if(EXISTS ${ROOT}/${header})
      list(APPEND open ${header})
    endif()
  endforeach()
endwhile()
list(SORT sources)
set(all "")
set(files "")
foreach(source IN LISTS sources)
  file(SHA256 ${ROOT}/${source} content)
  string(APPEND all "${source} ${content}\n")
  string(REPLACE " " "\\ " file "${ROOT}/${source}")
  string(APPEND files " \\\n  ${file}")
endforeach()
string(REPLACE " " "\\ " target "${OUTPUT}")
file(WRITE ${DEPFILE} "${target}:${files}\n")
string(SHA256 digest "${all}")
string(SUBSTRING ${digest} 0 12 digest)
file(WRITE ${OUTPUT} "// Made by trainer/source_digest.cmake.
#include \"trainer/source_digest.hpp\"

namespace llmlaunch::trainer {

const char* source_digest() {
  return \"${digest}\";
}

}  // namespace llmlaunch::trainer
")
