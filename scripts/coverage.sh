#!/usr/bin/env bash
# coverage.sh - counts which lines of src/ and tools/ the tests reach. Killed processes write no counts, so the kill tests are left out.
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -u
cd "$(dirname "$0")/.." || exit 1
COVE_TESTS=ON scripts/build.sh coverage || exit 1
find build/coverage -name '*.gcda' -delete
ctest --test-dir build/coverage --output-on-failure -j"$(nproc)" -L '^(unit|cli|fault)$'
status=$?
gcovr --root . --filter src/ --filter tools/ --html-details build/coverage/coverage.html --print-summary build/coverage
exit $status
