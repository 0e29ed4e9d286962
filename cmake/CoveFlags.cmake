# CoveFlags.cmake - compiler flags: the warnings, the sanitizers, what every file of this tree is compiled with.
# SPDX-License-Identifier: Apache-2.0 OR MIT

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)

# Asserts stay in release builds: they check our own logic, and a process that stops is recovered by the others, where one that
# goes on with a wrong idea of its own state is not. So no -DNDEBUG here, which is CMake's default.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-O0 -g3")

# Asserts name files from the root of the tree, wherever it was built.
add_compile_options(-fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
add_compile_definitions(_GNU_SOURCE _FILE_OFFSET_BITS=64)

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

# Linked by all code of the tree, never installed.
add_library(cove_warnings INTERFACE)
target_compile_options(cove_warnings INTERFACE
    -Wall -Wextra -Wshadow -Wconversion -Wmissing-prototypes -Wstrict-prototypes -Wvla
    $<$<BOOL:${COVE_WERROR}>:-Werror>)

if(COVE_SANITIZE)
    add_compile_options(-fsanitize=${COVE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    add_link_options(-fsanitize=${COVE_SANITIZE})
endif()

if(COVE_COVERAGE)
    add_compile_options(--coverage -fprofile-update=atomic)
    add_link_options(--coverage)
endif()
