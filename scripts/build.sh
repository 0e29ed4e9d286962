#!/usr/bin/env bash
# build.sh PRESET [TARGET...] - configures and builds build/PRESET. Says nothing but what is wrong; the rest is in build/PRESET.log.
# SPDX-License-Identifier: Apache-2.0 OR MIT
# COVE_TESTS=ON or OFF decides about the tests; otherwise they are built where what they need is there.
set -u
cd "$(dirname "$0")/.." || exit 1

preset=$1
shift
targets=()
if [ $# -gt 0 ]; then
    targets=(--target "$@")
fi

# A make above us has its own idea of jobs.
unset MAKEFLAGS MFLAGS
mkdir -p build
log=build/$preset.log
if ! { cmake --preset "$preset" -DCOVE_TESTS="${COVE_TESTS:-AUTO}" &&
    cmake --build "build/$preset" -j"${JOBS:-$(nproc)}" ${targets[@]+"${targets[@]}"}; } >"$log" 2>&1; then
    grep -v -e '^\[ *[0-9]*%\]' -e '^-- ' "$log" >&2
    echo "Building $preset failed; all of it is in $log" >&2
    exit 1
fi
