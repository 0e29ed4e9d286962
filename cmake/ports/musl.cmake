# musl.cmake - builds with musl in place of glibc, by Debian's musl-gcc.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# musl-gcc looks for headers among musl's own only, so the kernel's are put behind them: <linux/futex.h> and what it includes.
# Libraries besides libc come from the root that scripts/ports.sh fills (built with musl from Debian's sources).

set(CMAKE_C_COMPILER musl-gcc)

# Also in the scratch projects that CMake makes to try the compiler, so not by CMAKE_BINARY_DIR alone.
set(kernel_headers ${CMAKE_BINARY_DIR}/kernel-headers)
file(MAKE_DIRECTORY ${kernel_headers})
execute_process(COMMAND gcc -print-multiarch OUTPUT_VARIABLE multiarch OUTPUT_STRIP_TRAILING_WHITESPACE)
foreach(pair linux:/usr/include/linux asm-generic:/usr/include/asm-generic asm:/usr/include/${multiarch}/asm)
    string(REPLACE ":" ";" pair ${pair})
    list(GET pair 0 name)
    list(GET pair 1 place)
    if(NOT EXISTS ${kernel_headers}/${name})
        file(CREATE_LINK ${place} ${kernel_headers}/${name} SYMBOLIC)
    endif()
endforeach()
set(CMAKE_C_FLAGS_INIT "-idirafter ${kernel_headers}")

get_filename_component(port_root ${CMAKE_CURRENT_LIST_DIR}/../../build/ports/musl/root ABSOLUTE)
set(CMAKE_FIND_ROOT_PATH ${port_root})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${port_root}/lib/pkgconfig)
