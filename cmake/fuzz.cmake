# The instrumented build for tests/fuzz/fuzz.py: every module says which edges it takes. <build tree>/fuzz runs a program on
# it, with the sanitizers and the edge counter loaded before everything else.
add_library(cover SHARED "${PROJECT_SOURCE_DIR}/tests/fuzz/cover.c")
target_compile_options(cover PRIVATE -O2)
set_target_properties(cover PROPERTIES LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")

set(preload "")
foreach(runtime IN LISTS CAJUN_SANITIZER_RUNTIMES)
  execute_process(
    COMMAND "${CMAKE_C_COMPILER}" "-print-file-name=${runtime}" OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE
  )
  string(APPEND preload "${path}:")
endforeach()

file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/fuzz" @ONLY CONTENT [[#!/bin/sh
LD_PRELOAD="@preload@@PROJECT_BINARY_DIR@/libcover.so" PYTHONMALLOC=malloc PYTHONSAFEPATH=1 \
PYTHONPATH="@CAJUN_SITE@:@PROJECT_SOURCE_DIR@" UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
ASAN_OPTIONS=detect_leaks=0:halt_on_error=1:allocator_may_return_null=1 exec "@Python_EXECUTABLE@" "$@"
]])
file(CHMOD "${PROJECT_BINARY_DIR}/fuzz" PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE)
