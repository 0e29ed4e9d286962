# aarch64.cmake - builds for 64-bit ARM on another machine, with Debian's cross compiler; tests run under qemu-user.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Libraries besides libc come from the root that scripts/ports.sh fills (Debian's packages, unpacked, not installed).

set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)

find_program(COVE_CROSS_GCC REQUIRED
    NAMES aarch64-linux-gnu-gcc aarch64-linux-gnu-gcc-14 aarch64-linux-gnu-gcc-13 aarch64-linux-gnu-gcc-12)
set(CMAKE_C_COMPILER ${COVE_CROSS_GCC})

get_filename_component(port_root ${CMAKE_CURRENT_LIST_DIR}/../../build/ports/aarch64/root ABSOLUTE)
set(CMAKE_FIND_ROOT_PATH ${port_root})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${port_root}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${port_root})

# The libc of the cross compiler's packages.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
