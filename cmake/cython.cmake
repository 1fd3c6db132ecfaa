# From .pyx to a module in the package. Needs CAJUN_CYTHON_FLAGS and the target cajun_flags.

set(CAJUN_SOURCES "${PROJECT_SOURCE_DIR}/src_pyx")
set(CAJUN_GENERATED "${PROJECT_BINARY_DIR}/c")
set(shared_utilities cajun_fast._cyutility)
if(CAJUN_INPLACE)
  set(CAJUN_SITE "${PROJECT_SOURCE_DIR}")
else()
  set(CAJUN_SITE "${PROJECT_BINARY_DIR}/site")
endif()

execute_process(
  COMMAND "${Python_EXECUTABLE}" -m cython --version
  OUTPUT_VARIABLE cython_version ERROR_VARIABLE cython_version RESULT_VARIABLE missing
  OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_STRIP_TRAILING_WHITESPACE
)
if(missing)
  message(FATAL_ERROR "${Python_EXECUTABLE} has no Cython: ${cython_version}\nInstall what [build-system] of pyproject.toml names.")
endif()
message(STATUS "${cython_version}, variant ${CAJUN_VARIANT}")

# cythonize(<dotted name> <.pyx, relative to the root> <C file>)
function(cythonize module pyx c_file)
  set(sources "${PROJECT_SOURCE_DIR}/${pyx}")
  # Named although the depfile lists it too: the depfile of an older run cannot know a .pxd written since.
  cmake_path(REPLACE_EXTENSION sources LAST_ONLY pxd OUTPUT_VARIABLE pxd)
  if(EXISTS "${pxd}")
    list(APPEND sources "${pxd}")
  endif()
  cmake_path(GET c_file PARENT_PATH folder)
  # Run from the root, so that tracebacks and line directives name src_pyx/... and no path of the building machine.
  add_custom_command(
    OUTPUT "${c_file}"
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${folder}"
    COMMAND "${Python_EXECUTABLE}" -m cython ${CAJUN_CYTHON_FLAGS} --depfile --include-dir src_pyx
            "--shared=${shared_utilities}" "--module-name=${module}" -o "${c_file}" "${pyx}"
    COMMAND "${CMAKE_COMMAND}" "-DDEPFILE=${c_file}.dep" "-DROOT=${PROJECT_SOURCE_DIR}"
            -P "${PROJECT_SOURCE_DIR}/cmake/absolute_depfile.cmake"
    DEPENDS ${sources}
    DEPFILE "${c_file}.dep"
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}"
    COMMENT "Cython ${module}"
    VERBATIM
  )
endfunction()

# link_module(<dotted name> <folder in the package> <C file>)
#
# The module is linked in the build tree and then renamed into its place, so that a program which imports meanwhile finds
# the old one or the new one, never half of one.
function(link_module module folder c_file)
  string(REGEX REPLACE ".*\\." "" name "${module}")
  Python_add_library(${module} MODULE WITH_SOABI "${c_file}")
  target_link_libraries(${module} PRIVATE cajun_flags)
  if(TARGET cajun_c)
    target_link_libraries(${module} PRIVATE cajun_c)
  endif()
  set_target_properties(${module} PROPERTIES
    OUTPUT_NAME "${name}"
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib/${folder}"
    SKIP_BUILD_RPATH ON
  )
  if(DEFINED SKBUILD)
    install(TARGETS ${module} LIBRARY DESTINATION "${folder}")
  else()
    set(placed "${CAJUN_SITE}/${folder}/$<TARGET_FILE_NAME:${module}>")
    add_custom_command(TARGET ${module} POST_BUILD VERBATIM
      COMMAND "${CMAKE_COMMAND}" -E make_directory "${CAJUN_SITE}/${folder}"
      COMMAND "${CMAKE_COMMAND}" -E copy "$<TARGET_FILE:${module}>" "${placed}.new"
      COMMAND "${CMAKE_COMMAND}" -E rename "${placed}.new" "${placed}"
    )
  endif()
endfunction()

# Cython's own helpers, once for all modules: a module's C shrinks to a quarter, and so does the time to compile it.
function(cajun_add_shared_utilities)
  set(c_file "${CAJUN_GENERATED}/cajun_fast/_cyutility.c")
  add_custom_command(
    OUTPUT "${c_file}"
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${CAJUN_GENERATED}/cajun_fast"
    COMMAND "${Python_EXECUTABLE}" -m cython ${CAJUN_CYTHON_FLAGS} "--generate-shared=${c_file}"
            "--module-name=${shared_utilities}"
    COMMENT "Cython ${shared_utilities}"
    VERBATIM
  )
  link_module(${shared_utilities} cajun_fast "${c_file}")
endfunction()

# cajun_add_module(<path of the .pyx below src_pyx>)
function(cajun_add_module pyx)
  cmake_path(GET pyx PARENT_PATH folder)
  cmake_path(REMOVE_EXTENSION pyx LAST_ONLY OUTPUT_VARIABLE stem)
  string(REPLACE "/" "." module "${stem}")
  cythonize(${module} "src_pyx/${pyx}" "${CAJUN_GENERATED}/${stem}.c")
  link_module(${module} "${folder}" "${CAJUN_GENERATED}/${stem}.c")
endfunction()

# Without an __init__.pxd Cython does not take a folder for a package and reads an installed, older .pxd instead.
function(cajun_require_init_pxd pyx_files)
  foreach(pyx IN LISTS pyx_files)
    cmake_path(GET pyx PARENT_PATH folder)
    while(folder)
      if(NOT EXISTS "${CAJUN_SOURCES}/${folder}/__init__.pxd")
        message(FATAL_ERROR "src_pyx/${folder}/__init__.pxd is missing; an empty file will do.")
      endif()
      cmake_path(GET folder PARENT_PATH folder)
    endwhile()
  endforeach()
endfunction()

# A module whose .pyx is gone would stay importable from the source tree for ever.
function(cajun_remove_orphans pyx_files)
  set(suffix ".${Python_SOABI}${CMAKE_SHARED_MODULE_SUFFIX}")
  file(GLOB_RECURSE built RELATIVE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/cajun_fast/*${suffix}")
  list(REMOVE_ITEM built "cajun_fast/_cyutility${suffix}")
  foreach(module IN LISTS built)
    string(REPLACE "${suffix}" ".pyx" pyx "${module}")
    if(NOT pyx IN_LIST pyx_files)
      message(STATUS "Removing ${module}: there is no src_pyx/${pyx}")
      file(REMOVE "${PROJECT_SOURCE_DIR}/${module}")
    endif()
  endforeach()
endfunction()
