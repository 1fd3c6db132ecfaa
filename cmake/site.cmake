# A variant that is not built in place gets a package of its own in <build tree>/site: its modules, and links to the
# Python files. PYTHONPATH=<build tree>/site then runs anything on it.
file(GLOB_RECURSE python_files CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}"
  "${PROJECT_SOURCE_DIR}/cajun_fast/*.py" "${PROJECT_SOURCE_DIR}/cajun_fast/py.typed"
)
foreach(file IN LISTS python_files)
  cmake_path(GET file PARENT_PATH folder)
  file(MAKE_DIRECTORY "${CAJUN_SITE}/${folder}")
  file(CREATE_LINK "${PROJECT_SOURCE_DIR}/${file}" "${CAJUN_SITE}/${file}" SYMBOLIC)
endforeach()
