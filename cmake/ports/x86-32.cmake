# x86-32.cmake - builds 32-bit programs on x86-64 (gcc -m32, Debian's gcc-12-multilib).
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# gcc-12-multilib brings the 32-bit libc but not the link to the kernel's headers, which gcc-multilib would; that one cannot be
# installed beside a cross compiler. Libraries besides libc come from the root that scripts/ports.sh fills (Debian's packages,
# unpacked, not installed).

set(CMAKE_SYSTEM_PROCESSOR i686)
set(CMAKE_LIBRARY_ARCHITECTURE i386-linux-gnu)
set(CMAKE_C_COMPILER gcc)
execute_process(COMMAND gcc -print-multiarch OUTPUT_VARIABLE multiarch OUTPUT_STRIP_TRAILING_WHITESPACE)
set(CMAKE_C_FLAGS_INIT "-m32 -idirafter /usr/include/${multiarch}")

get_filename_component(port_root ${CMAKE_CURRENT_LIST_DIR}/../../build/ports/x86-32/root ABSOLUTE)
set(CMAKE_FIND_ROOT_PATH ${port_root})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${port_root}/usr/lib/i386-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${port_root})
