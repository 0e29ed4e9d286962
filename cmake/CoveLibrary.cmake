# CoveLibrary.cmake - how the library's sources are compiled and linked, also for the variants that the kill tests make of it.
# SPDX-License-Identifier: Apache-2.0 OR MIT

file(GLOB_RECURSE COVE_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/*.c)

function(cove_public_interface target)
    target_include_directories(${target} PUBLIC
        $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

# PLANT: the name of a known bug to build in (COVE_PLANT_<PLANT> is defined as 1), or "".
function(cove_compile_as_library target plant)
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON C_VISIBILITY_PRESET hidden)
    target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src)
    # The lock word names its owner by a thread-local number: in the general model each lock would cost a call to find it.
    target_compile_options(${target} PRIVATE -ftls-model=initial-exec)
    target_link_libraries(${target} PRIVATE cove_warnings Threads::Threads)
    if(plant)
        target_compile_definitions(${target} PRIVATE COVE_PLANT_${plant}=1)
    endif()
endfunction()

# nodelete: a thread's lane is given back by a destructor in the library, which must still be there when the thread ends.
# now: nothing is resolved at the first call, in the middle of an operation.
function(cove_link_as_library target)
    set_target_properties(${target} PROPERTIES
        OUTPUT_NAME cove EXPORT_NAME cove VERSION ${PROJECT_VERSION} SOVERSION 0
        LINK_DEPENDS ${CMAKE_SOURCE_DIR}/src/cove.map)
    cove_public_interface(${target})
    target_link_libraries(${target} PRIVATE Threads::Threads)
    target_link_options(${target} PRIVATE
        LINKER:--version-script=${CMAKE_SOURCE_DIR}/src/cove.map
        LINKER:-z,nodelete LINKER:-z,now LINKER:-z,relro)
    # A library linked with a sanitizer finds the sanitizer's functions in the program, so it cannot be closed.
    if(NOT COVE_SANITIZE)
        target_link_options(${target} PRIVATE LINKER:-z,defs)
    endif()
endfunction()

# cove_planted_library(LATE_OWNER): the target cove_planted_LATE_OWNER, a libcove.so with that bug, in planted/LATE_OWNER/ of
# the build directory. It has the real one's soname, so that one program can be run against either (LD_LIBRARY_PATH).
function(cove_planted_library plant)
    set(target cove_planted_${plant})
    add_library(${target} SHARED ${COVE_SOURCES})
    cove_compile_as_library(${target} ${plant})
    cove_link_as_library(${target})
    set_target_properties(${target} PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/planted/${plant})
endfunction()
