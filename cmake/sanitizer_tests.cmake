# ctest for a sanitizing variant. The interpreter is not instrumented, so the sanitizer's runtime has to be loaded before
# everything else; pytest must not capture file descriptors, or it swallows the report.
enable_testing()

set(preload "")
foreach(runtime IN LISTS CAJUN_SANITIZER_RUNTIMES)
  execute_process(
    COMMAND "${CMAKE_C_COMPILER}" "-print-file-name=${runtime}" OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE
  )
  if(NOT EXISTS "${path}")
    message(FATAL_ERROR "${CMAKE_C_COMPILER} has no ${runtime}; on Debian it comes with the compiler's libgcc-*-dev.")
  endif()
  list(APPEND preload "${path}")
endforeach()
list(JOIN preload ":" preload)

set(options halt_on_error=1 abort_on_error=0 print_stacktrace=1)
list(JOIN options ":" options)
set(environment
  "LD_PRELOAD=${preload}"
  # The interpreter never frees all it allocates, and keeps small objects in arenas that hide an overrun.
  "ASAN_OPTIONS=${options}:detect_leaks=0"
  "UBSAN_OPTIONS=${options}"
  "TSAN_OPTIONS=${options}:ignore_noninstrumented_modules=1"
  PYTHONMALLOC=malloc
  PYTHONSAFEPATH=1
  "PYTHONPATH=${CAJUN_SITE}"
  HYPOTHESIS_PROFILE=brief
)

function(add_python_test name)
  add_test(NAME "${name}" COMMAND "${Python_EXECUTABLE}" ${ARGN} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  set_tests_properties("${name}" PROPERTIES ENVIRONMENT "${environment}" TIMEOUT 420)
endfunction()

add_python_test(core -m pytest tests/core --capture=sys --timeout=300 -q -p no:cacheprovider)

# A net that has never caught anything proves nothing: these faults are planted, and have to be reported.
cythonize(planted_faults tests/build/planted_faults.pyx "${CAJUN_GENERATED}/planted_faults.c")
link_module(planted_faults "" "${CAJUN_GENERATED}/planted_faults.c")
function(add_planted_fault name report)
  add_python_test("planted_${name}" -c "__import__('planted_faults').${name}()")
  set_tests_properties("planted_${name}" PROPERTIES PASS_REGULAR_EXPRESSION "${report}")
endfunction()

if(CAJUN_VARIANT STREQUAL "asan")
  add_planted_fault(read_past_the_end "heap-buffer-overflow.*planted_faults.pyx")
  add_planted_fault(shift_too_far "planted_faults.pyx:[0-9]+:[0-9]+: runtime error: shift exponent")
else()
  add_planted_fault(race "data race.*planted_faults.pyx")
endif()
