#!/bin/sh
# fuzz.sh TARGET SECONDS - runs a fuzz target from a corpus made for it, and says how much it tried. COVE_SOAK=1: ten minutes.
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -u
target=$1 seconds=$2
if [ "${COVE_SOAK:-}" = 1 ]; then
    seconds=600
fi
if [ -w /dev/shm ]; then
    TMPDIR=/dev/shm
    export TMPDIR
fi
scratch=$(mktemp -d)
FUZZ_DIR=$scratch
export FUZZ_DIR
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/corpus"
"$target" --seeds "$scratch/corpus" || exit 1
"$target" -max_total_time="$seconds" -timeout=10 -max_len=400 -print_final_stats=1 \
    -artifact_prefix="$scratch/crash-" "$scratch/corpus" >"$scratch/log" 2>&1
status=$?
name=$(basename "$target")
executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$scratch/log")
if [ $status = 0 ]; then
    echo "$name: $executions inputs in $seconds s, $(grep -o 'cov: [0-9]*' "$scratch/log" | tail -1), no crash, no hang"
else
    tail -60 "$scratch/log"
    for input in "$scratch"/crash-*; do
        [ -f "$input" ] && echo "The input, to be given to $name as a file: $(base64 -w0 "$input")"
    done
fi
exit $status
