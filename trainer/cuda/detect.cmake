# CUDA Toolkit, NCCL and cuDNN, each found or not, said in one line each. Sets LLMLAUNCH_HAVE_CUDA_BACKEND and makes
# the target llmlaunch_nccl (NCCL's headers and library) when NCCL is there. Needs no GPU.
#
#   -DLLMLAUNCH_CUDA=AUTO|ON|OFF     ON: anything missing is an error
#   -DNCCL_ROOT=DIR                  with include/nccl.h and lib/libnccl.so*; or a folder of Python packages, as pip's
#                                    nvidia-nccl leaves it: nvidia/nccl/include, nvidia/nccl/lib
#   -DCUDNN_ROOT=DIR                 the same for cuDNN
set(LLMLAUNCH_HAVE_CUDA_BACKEND FALSE)
set(NCCL_ROOT "" CACHE PATH "Where NCCL is: include/ and lib/, or a folder of Python packages")
set(CUDNN_ROOT "" CACHE PATH "Where cuDNN is: include/ and lib/, or a folder of Python packages")

# Folders of Python packages, where pip puts NVIDIA's wheels.
function(llmlaunch_python_folders result)
  set(folders)
  find_program(LLMLAUNCH_ANY_PYTHON NAMES python3 python)
  if(LLMLAUNCH_ANY_PYTHON)
    execute_process(
      COMMAND ${LLMLAUNCH_ANY_PYTHON} -c
        "import site, sysconfig; print(';'.join([sysconfig.get_paths()['purelib'], site.getusersitepackages()]))"
      OUTPUT_VARIABLE folders OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  set(${result} ${folders} PARENT_SCOPE)
endfunction()

# llmlaunch_find_gpu_library(NCCL nccl nccl.h libnccl.so.2): sets <NAME>_INCLUDE_DIR, <NAME>_LIBRARY in the cache.
function(llmlaunch_find_gpu_library name folder header soname)
  # A place that was named is the only one looked at, so that a wrong name is not answered by another version.
  if(${name}_ROOT)
    set(places ${${name}_ROOT})
    set(only NO_DEFAULT_PATH)
  else()
    llmlaunch_python_folders(packages)
    set(places $ENV{${name}_ROOT} $ENV{${name}_HOME} ${CUDAToolkit_TARGET_DIR} ${CUDAToolkit_INCLUDE_DIRS}
      ${CUDAToolkit_LIBRARY_DIR} ${packages})
    set(only)
  endif()
  find_path(${name}_INCLUDE_DIR ${header} HINTS ${places} PATH_SUFFIXES include nvidia/${folder}/include ${only})
  # pip's wheels have no libnccl.so, only the name with the version.
  find_library(${name}_LIBRARY NAMES ${folder} ${soname} NAMES_PER_DIR HINTS ${places}
    PATH_SUFFIXES lib lib64 nvidia/${folder}/lib ${only})
  if(${name}_INCLUDE_DIR AND ${name}_LIBRARY)
    message(STATUS "${name}: ${${name}_LIBRARY}, headers in ${${name}_INCLUDE_DIR}")
  elseif(${name}_ROOT)
    message(FATAL_ERROR "${name}_ROOT=${${name}_ROOT} has no include/${header} with lib/${soname}, "
      "nor nvidia/${folder}/include and nvidia/${folder}/lib")
  endif()
endfunction()

function(llmlaunch_no_cuda reason)
  if(LLMLAUNCH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LLMLAUNCH_CUDA=ON, but ${reason}")
  endif()
  message(STATUS "CUDA backend: not built, ${reason}")
endfunction()

if(LLMLAUNCH_CUDA STREQUAL "OFF")
  message(STATUS "CUDA backend: not built, LLMLAUNCH_CUDA=OFF")
  return()
endif()

find_package(CUDAToolkit QUIET)
if(NOT CUDAToolkit_FOUND)
  llmlaunch_no_cuda("no CUDA Toolkit was found (CUDAToolkit_ROOT or nvcc in PATH names one)")
  return()
endif()
message(STATUS "CUDA Toolkit: ${CUDAToolkit_VERSION} in ${CUDAToolkit_TARGET_DIR}")

llmlaunch_find_gpu_library(NCCL nccl nccl.h libnccl.so.2)
if(NOT NCCL_INCLUDE_DIR OR NOT NCCL_LIBRARY)
  llmlaunch_no_cuda("no NCCL was found (-DNCCL_ROOT=DIR names its folder, or that of the Python wheel)")
  return()
endif()
add_library(llmlaunch_nccl INTERFACE)
target_include_directories(llmlaunch_nccl SYSTEM INTERFACE ${NCCL_INCLUDE_DIR} ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(llmlaunch_nccl INTERFACE ${NCCL_LIBRARY})

llmlaunch_find_gpu_library(CUDNN cudnn cudnn.h libcudnn.so.9)
if(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
  llmlaunch_no_cuda("no cuDNN was found (-DCUDNN_ROOT=DIR names its folder, or that of the Python wheel)")
  return()
endif()
if(NOT TARGET CUDA::cublas)
  llmlaunch_no_cuda("the CUDA Toolkit in ${CUDAToolkit_TARGET_DIR} has no cuBLAS")
  return()
endif()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  llmlaunch_no_cuda("the CUDA Toolkit in ${CUDAToolkit_TARGET_DIR} has no working nvcc")
  return()
endif()
# Turing to Hopper as machine code; newer GPUs compile Hopper's intermediate code when the program starts.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 75-real 80-real 90)
endif()
enable_language(CUDA)
# The kernels need no more, and CMake 3.25 knows no flag of nvcc 13 for C++20.
set(CMAKE_CUDA_STANDARD 17)
set(LLMLAUNCH_HAVE_CUDA_BACKEND TRUE)
message(STATUS "CUDA backend: built by ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}")
