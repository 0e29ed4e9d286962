#!/bin/sh
# fuzz.sh TARGET SECONDS - runs a fuzz target from a corpus made for it, and says how much it tried. With COVE_SOAK=1
# for FUZZ_SECONDS (600).
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# The engine is the one that the target was linked with: libFuzzer, or AFL++ where the compiler was afl-clang-fast.
set -u
target=$1 seconds=$2
if [ "${COVE_SOAK:-}" = 1 ]; then
    seconds=${FUZZ_SECONDS:-600}
fi
if [ -w /dev/shm ]; then
    TMPDIR=/dev/shm
    export TMPDIR
fi
scratch=$(mktemp -d)
FUZZ_DIR=$scratch
export FUZZ_DIR
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
mkdir "$scratch/corpus"
name=$(basename "$target")
"$target" --seeds "$scratch/corpus" || exit 1

show_inputs()
{
    for input in "$@"; do
        [ -f "$input" ] && echo "The input, to be given to $name as a file: $(base64 -w0 "$input")"
    done
}

with_libfuzzer()
{
    "$target" -max_total_time="$seconds" -timeout=20 -max_len=400 -print_final_stats=1 \
        -artifact_prefix="$scratch/crash-" "$scratch/corpus" >"$scratch/log" 2>&1
    status=$?
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log")
    if [ $status = 0 ]; then
        reached=$(grep -a -o 'cov: [0-9]*' "$scratch/log" | tail -n 1)
        echo "$name: $executions inputs in $seconds s, $reached, no crash, no hang"
    else
        tail -n 60 "$scratch/log"
        show_inputs "$scratch"/crash-*
    fi
    return $status
}

# What AFL++ would like of the machine (core dumps to a file, a fixed frequency) is not worth changing it.
with_afl()
{
    AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 AFL_NO_AFFINITY=1 AFL_FAST_CAL=1 \
        AFL_TMPDIR=$scratch ASAN_OPTIONS=abort_on_error=1:symbolize=0:detect_leaks=0 UBSAN_OPTIONS=abort_on_error=1:symbolize=0 \
        afl-fuzz -i "$scratch/corpus" -o "$scratch/out" -m none -t 5000 -V "$seconds" -- "$target" >"$scratch/log" 2>&1
    stats=$scratch/out/default/fuzzer_stats
    if [ ! -f "$stats" ]; then
        tail -n 60 "$scratch/log"
        return 1
    fi
    figure() { sed -n "s/^$1 *: *//p" "$stats"; }
    crashes=$(figure saved_crashes) hangs=$(figure saved_hangs)
    echo "$name (AFL++): $(figure execs_done) inputs in $seconds s, $(figure corpus_count) kept," \
        "$(figure edges_found) edges, $crashes crashes, $hangs hangs"
    show_inputs "$scratch"/out/default/crashes/id* "$scratch"/out/default/hangs/id*
    [ "$crashes" = 0 ] && [ "$hangs" = 0 ]
}

if grep -aq 'AFL_PERSISTENT' "$target" || grep -aq '__AFL_SHM_ID' "$target"; then
    with_afl
else
    with_libfuzzer
fi
