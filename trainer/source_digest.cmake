# cmake -DFOLDER=trainer -DOUTPUT=source_digest.cpp -P source_digest.cmake
# Writes the source that knows which sources the program is made of: a digest of names and contents, so that two builds
# of one version number are told apart, also where there is no git.
file(GLOB_RECURSE sources RELATIVE ${FOLDER} ${FOLDER}/*.cpp ${FOLDER}/*.hpp ${FOLDER}/*.cu ${FOLDER}/*.cuh ${FOLDER}/*.inc)
list(SORT sources)
set(all "")
foreach(source IN LISTS sources)
  file(SHA256 ${FOLDER}/${source} content)
  string(APPEND all "${source} ${content}\n")
endforeach()
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
