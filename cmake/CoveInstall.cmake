# CoveInstall.cmake - what `make install` puts where: headers, libraries, cove.pc, the CMake package, the command, manual, texts.
# SPDX-License-Identifier: Apache-2.0 OR MIT

include(CMakePackageConfigHelpers)

install(FILES include/cove.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/cove DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS cove_shared cove_static EXPORT coveTargets)

if(TARGET cove_command)
    # The command finds its library beside itself, wherever the prefix is.
    file(RELATIVE_PATH from_bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
    set_target_properties(cove_command PROPERTIES INSTALL_RPATH "$ORIGIN/${from_bin_to_lib}")
    install(TARGETS cove_command)
endif()

# cove.pc is found from where it lies, so that an installed tree can be moved.
file(RELATIVE_PATH from_pc_to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" from_pc_to_prefix "${from_pc_to_prefix}")
file(RELATIVE_PATH from_prefix_to_lib ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH from_prefix_to_include ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
configure_file(cmake/cove.pc.in cove.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/cove.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

set(package_directory ${CMAKE_INSTALL_LIBDIR}/cmake/cove)
install(EXPORT coveTargets NAMESPACE cove:: DESTINATION ${package_directory})
configure_package_config_file(cmake/coveConfig.cmake.in coveConfig.cmake INSTALL_DESTINATION ${package_directory})
write_basic_package_version_file(coveConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/coveConfig.cmake ${CMAKE_BINARY_DIR}/coveConfigVersion.cmake
    DESTINATION ${package_directory})

foreach(section 1 3 7)
    file(GLOB pages CONFIGURE_DEPENDS man/*.${section})
    if(pages)
        install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
    endif()
endforeach()

foreach(text README.md ARCHITECTURE.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE-APACHE LICENSE-MIT)
    if(EXISTS ${CMAKE_SOURCE_DIR}/${text})
        install(FILES ${text} DESTINATION ${CMAKE_INSTALL_DOCDIR})
    endif()
endforeach()
install(FILES docs/memory.md docs/faults.md docs/sync.md DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
