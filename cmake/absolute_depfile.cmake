# cmake -DDEPFILE=... -DROOT=... -P absolute_depfile.cmake
#
# Cython writes a depfile relative to the folder it ran in, Ninja reads it relative to the build tree.
file(READ "${DEPFILE}" depfile)
string(REGEX REPLACE "\n  ([^/ ])" "\n  ${ROOT}/\\1" depfile "${depfile}")
file(WRITE "${DEPFILE}" "${depfile}")
