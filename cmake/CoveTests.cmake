# CoveTests.cmake - decides whether there are tests: BUILD_TESTING, and where cmocka is.
# SPDX-License-Identifier: Apache-2.0 OR MIT

set(BUILD_TESTING OFF)
if(COVE_TESTS)
    find_path(CMOCKA_INCLUDE_DIR cmocka.h)
    find_library(CMOCKA_LIBRARY cmocka)
    if(CMOCKA_INCLUDE_DIR AND CMOCKA_LIBRARY)
        set(BUILD_TESTING ON)
        enable_testing()
    elseif(COVE_TESTS STREQUAL "AUTO")
        message(STATUS "No cmocka here: building without tests (make test installs it)")
    else()
        message(FATAL_ERROR "The tests need cmocka: apt-get install libcmocka-dev, or -DCOVE_TESTS=OFF")
    endif()
endif()
