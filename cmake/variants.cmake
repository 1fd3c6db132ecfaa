# The variants: which flags the C compiler and Cython get. Sets the target cajun_flags and the lists CAJUN_CYTHON_FLAGS
# and CAJUN_SANITIZER_RUNTIMES.
#
# A file never says boundscheck, wraparound, cdivision or initializedcheck itself: a directive in a file wins
# over the ones below, and the checking variants could not switch it on again.

set(known_variants release debug asan fuzz tsan coverage profile)
if(NOT CAJUN_VARIANT IN_LIST known_variants)
  list(JOIN known_variants ", " names)
  message(FATAL_ERROR "CAJUN_VARIANT is '${CAJUN_VARIANT}'; it can be one of: ${names}")
endif()

# The variant alone decides: nothing is inherited from CMAKE_BUILD_TYPE, which every caller sets differently.
foreach(config IN ITEMS DEBUG RELEASE RELWITHDEBINFO MINSIZEREL)
  set(CMAKE_C_FLAGS_${config} "")
endforeach()

add_library(cajun_flags INTERFACE)
target_compile_features(cajun_flags INTERFACE c_std_11)
if(MSVC)
  target_compile_options(cajun_flags INTERFACE /O2)
else()
  target_compile_options(cajun_flags INTERFACE -fvisibility=hidden -fwrapv)
endif()
if(CAJUN_WERROR)
  target_compile_options(cajun_flags INTERFACE -Werror)
endif()

set(fast_directives boundscheck=False wraparound=False initializedcheck=False cdivision=True)
set(checking_directives boundscheck=True wraparound=False initializedcheck=True cdivision=False)
set(CAJUN_SANITIZER_RUNTIMES "")

if(CAJUN_VARIANT STREQUAL "release")
  set(directives ${fast_directives})
  target_compile_definitions(cajun_flags INTERFACE NDEBUG CYTHON_WITHOUT_ASSERTIONS)
  if(NOT MSVC)
    target_compile_options(cajun_flags INTERFACE -O3 -ffunction-sections -fdata-sections)
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
      # -fno-plt: most calls go to libpython, straight through its table; 4 % less CPU a message.
      target_compile_options(cajun_flags INTERFACE -fno-semantic-interposition -fno-plt)
    endif()
    if(NOT APPLE)
      target_link_options(cajun_flags INTERFACE -Wl,--gc-sections -Wl,-O1)
    endif()
  endif()
elseif(CAJUN_VARIANT STREQUAL "debug")
  set(directives ${checking_directives})
  target_compile_options(cajun_flags INTERFACE -Og -g3)
elseif(CAJUN_VARIANT STREQUAL "asan")
  set(directives ${checking_directives})
  set(CAJUN_SANITIZER_RUNTIMES libasan.so libubsan.so)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined)
elseif(CAJUN_VARIANT STREQUAL "fuzz")
  set(directives ${checking_directives})
  set(CAJUN_SANITIZER_RUNTIMES libasan.so libubsan.so)
  set(sanitizers -fsanitize=address,undefined -fno-sanitize-recover=undefined -fsanitize-coverage=trace-pc)
elseif(CAJUN_VARIANT STREQUAL "tsan")
  set(directives ${checking_directives})
  set(CAJUN_SANITIZER_RUNTIMES libtsan.so)
  set(sanitizers -fsanitize=thread)
elseif(CAJUN_VARIANT STREQUAL "coverage")
  set(directives ${checking_directives} linetrace=True)
  target_compile_options(cajun_flags INTERFACE -O0 -g1)
  target_compile_definitions(
    cajun_flags INTERFACE CYTHON_TRACE=1 CYTHON_TRACE_NOGIL=1 CYTHON_USE_SYS_MONITORING=0
  )
elseif(CAJUN_VARIANT STREQUAL "profile")
  set(directives ${fast_directives})
  target_compile_definitions(cajun_flags INTERFACE NDEBUG CYTHON_WITHOUT_ASSERTIONS)
  target_compile_options(cajun_flags INTERFACE -O3 -g -fno-omit-frame-pointer)
endif()
if(sanitizers)
  target_compile_options(cajun_flags INTERFACE -O1 -g -fno-omit-frame-pointer ${sanitizers})
  target_link_options(cajun_flags INTERFACE ${sanitizers})
endif()

# Without binding a call from Python takes a quarter less time (32 ns against 43 for a small method); the signature in
# argument-clinic form gives inspect and stubtest back what binding would have shown them.
set(directives
  language_level=3 binding=False embedsignature=True embedsignature.format=clinic ${directives}
)
set(CAJUN_CYTHON_FLAGS "")
foreach(directive IN LISTS directives)
  list(APPEND CAJUN_CYTHON_FLAGS -X ${directive})
endforeach()
# The C debugger and the sanitizers then name lines of the .pyx; coverage reads the unchanged C instead.
if(CAJUN_VARIANT MATCHES "^(debug|asan|fuzz|tsan|profile)$")
  list(APPEND CAJUN_CYTHON_FLAGS --line-directives)
endif()
