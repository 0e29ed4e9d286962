#!/usr/bin/env bash
# soak.sh - the long forms of the tests: every kill point, ten thousand random kills, ten minutes of fuzzing for each target. Hours.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# A row is run if its program was built; each that fails is named at the end, and the status is then 1.
set -u
cd "$(dirname "$0")/.." || exit 1

export COVE_SOAK=1
export FUZZ_SECONDS=${FUZZ_SECONDS:-600} # for each target and fuzzer
failures=() runs=0

# run DIRECTORY COMMAND...: in a build directory.
run()
{
    local directory=$1 from=$SECONDS
    shift
    echo "== $directory: $*"
    runs=$((runs + 1))
    if (cd "$directory" && "$@"); then
        echo "== passed in $((SECONDS - from)) s"
    else
        failures+=("$directory: $*")
    fi
}

for preset in release clang asan tsan; do
    COVE_TESTS=ON scripts/build.sh "$preset" || { failures+=("build of $preset"); break; }
done

for preset in release clang; do
    [ -x build/$preset/kill_table ] && run build/$preset ./kill_table --all
    [ -x build/$preset/kill_table ] && run build/$preset ./kill_table --stops --all
    [ -x build/$preset/storm ] || continue
    run build/$preset ./storm --kills 10000
    for place in file sysv fd; do run build/$preset ./storm --place $place --storm work --kills 10000; done
    for place in file sysv; do run build/$preset ./storm --place $place --storm comings --kills 10000; done
    for kind in fair rwlock owned plain counter goods barrier once; do
        run build/$preset ./storm --place file --storm $kind --kills 3000
    done
    for kind in replacing copying; do run build/$preset ./storm --storm $kind --kills 10000; done
    run build/$preset ./examples/bank 100000000 20000 1200 # transfers, kills, seconds at most
done

# What takes COVE_SOAK as the wish for more rounds.
run build/release ctest --output-on-failure --timeout 7200 -L '^(unit|fault|cli)$'
run build/asan ctest --output-on-failure --timeout 7200 -L '^(unit|fault|cli)$'
[ -x build/release/fault/fault_process_races ] &&
    run build/release env COVE_TEST_SCALE=20 COVE_FAULT_SECONDS=600 ./fault/fault_process_races
[ -x build/release/fault/fault_process_stopped ] &&
    run build/release env COVE_TEST_SCALE=20 COVE_FAULT_POINTS=400 ./fault/fault_process_stopped
run build/tsan ctest --output-on-failure --timeout 7200 -L '^threads$'

run build/asan ctest -V --timeout 7200 -L '^fuzz$'
if command -v afl-clang-fast >/dev/null; then
    COVE_TESTS=ON scripts/build.sh afl fuzz_targets && run build/afl ctest -V --timeout 7200 -R '^fuzz[.]fuzz_' || failures+=("afl")
fi

echo
printf 'FAILED  %s\n' ${failures[@]+"${failures[@]}"} | sed '/FAILED  $/d'
echo "$((runs - ${#failures[@]})) passed, ${#failures[@]} failed"
[ ${#failures[@]} = 0 ]
