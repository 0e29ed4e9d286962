#!/usr/bin/env bash
# test.sh [KIND...] - builds what the tests need and runs them, or only those of the kinds named; `make test`.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Each row below is one run of ctest. Its budget is what it may take, builds apart, on a machine of 2 cores; together they keep the whole
# below 15 minutes for good. Who needs more room for a new test makes another one cheaper, or moves the long form to soak.sh.
# A row that finds no test at all has failed.
#
# The last line is `N passed, N failed`, over all rows; the status is 0 only if nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1

#       kind      preset   budget_s  labels (ctest -L)      show what the tests print
STAGES="house     release  60        ^house$                no
        unit      release  70        ^unit$                 no
        clang     clang    40        ^unit$                 no
        cli       release  60        ^cli$                  no
        example   release  20        ^example$              no
        conformance release 25       ^conformance$          no
        fault     release  60        ^fault$                no
        models    release  60        ^models$               yes
        storm     release  100       ^storm$                yes
        kill      release  330       ^kill$                 yes
        valgrind  release  60        ^valgrind$             no
        asan      asan     80        ^(unit|cli|fault|kill)$ no
        fuzz      asan     30        ^fuzz$                 no
        threads   tsan     40        ^threads$              no
        bench     release  30        ^bench$                no
        other     release  20        -                      no"
BUDGET_S=900

# What is built of a preset where that is not everything. (The kill tests of the release build step clang's library as well.)
declare -A TARGETS=([clang]=unit_tests [tsan]=unit_tests)
KINDS="house|unit|cli|example|conformance|fault|models|storm|kill|valgrind|fuzz|threads|bench"

JOBS=$(nproc)
LOGS=build/test-logs
started=$SECONDS
passed=0 failed=0 skipped=0
summary=()
declare -A built

# row KIND PRESET SECONDS BUDGET TEXT: one line of the closing table.
row()
{
    local note=
    if [ "$3" -gt "$4" ]; then
        note="  over its budget"
    fi
    summary+=("$(printf '%-11s %-9s %5s %6s   %s%s' "$1" "$2" "$3" "$4" "$5" "$note")")
}

# Build a preset once; remembers whether that went well.
build()
{
    local preset=$1 from=$SECONDS
    if [ -z "${built[$preset]:-}" ]; then
        echo "== building $preset"
        built[$preset]=no
        # shellcheck disable=SC2086 # a list of targets
        if COVE_TESTS=ON scripts/build.sh "$preset" ${TARGETS[$preset]:-}; then
            built[$preset]=yes
            row build "$preset" $((SECONDS - from)) 90 "built"
        else
            failed=$((failed + 1))
            row build "$preset" $((SECONDS - from)) 90 "NOT BUILT"
        fi
    fi
    [ "${built[$preset]}" = yes ]
}

# ThreadSanitizer of these compilers does not know the memory maps that newer kernels randomise most.
launcher()
{
    if [ "$1" = tsan ] && setarch -R true 2>/dev/null; then
        echo "setarch -R"
    fi
}

# ctest's lines, without its chatter; of what the tests print themselves, ctest -V puts "12: " before each line.
show()
{
    if [ "$1" = yes ]; then
        sed -nu -e 's/^[0-9]*: //p' -e '/Test *#/p'
    else
        sed -u -e '/^Internal ctest/d' -e '/^Test project/d' -e '/^ *Start /d' -e '/^$/d' -e '/^Label Time/,/^Total Test/d'
    fi
}

# Add up what ctest's log says; prints nothing, leaves the sentence in `verdict`.
count()
{
    local log=$1 kind=$2 total bad skips
    bad=$(sed -n 's/.* tests passed, \([0-9]*\) tests failed out of [0-9]*$/\1/p' "$log")
    total=$(sed -n 's/.* tests passed, [0-9]* tests failed out of \([0-9]*\)$/\1/p' "$log")
    skips=$(grep -c '\*\*\*Skipped' "$log")
    if [ -z "$total" ]; then
        verdict="no tests"
        if [ "$kind" != other ]; then
            verdict="NO TESTS FOUND"
            failed=$((failed + 1))
        fi
        return
    fi
    passed=$((passed + total - bad - skips))
    failed=$((failed + bad))
    skipped=$((skipped + skips))
    verdict="$((total - bad - skips)) passed"
    [ "$skips" = 0 ] || verdict+=", $skips skipped"
    [ "$bad" = 0 ] || verdict+=", $bad FAILED"
}

run_stage()
{
    local kind=$1 preset=$2 budget_s=$3 labels=$4 verbose=$5
    local log=$LOGS/$kind-$preset.log select=(-L "$labels")
    if [ "$labels" = - ]; then
        select=(-LE "^($KINDS)\$")
    fi
    if ! build "$preset"; then
        row "$kind" "$preset" 0 "$budget_s" "not run"
        return
    fi
    echo "== $kind ($preset)"
    local from=$SECONDS how=--output-on-failure
    if [ "$verbose" = yes ]; then
        how=--verbose
    fi
    # shellcheck disable=SC2046 # no words, or two
    $(launcher "$preset") ctest --test-dir "build/$preset" -j"$JOBS" $how "${select[@]}" </dev/null 2>&1 |
        tee "$log" | show "$verbose"
    count "$log" "$kind"
    row "$kind" "$preset" $((SECONDS - from)) "$budget_s" "$verdict"
}

mkdir -p "$LOGS"
wanted=" $* "
while read -r kind preset budget_s labels verbose; do
    if [ $# = 0 ] || [[ $wanted == *" $kind "* ]]; then
        run_stage "$kind" "$preset" "$budget_s" "$labels" "$verbose"
    fi
done <<<"$STAGES"

echo
printf '%-11s %-9s %5s %6s   %s\n' kind build took_s budget "result (logs in $LOGS)"
printf '%s\n' "${summary[@]}"
row all "" $((SECONDS - started)) $BUDGET_S "$skipped skipped"
printf '%s\n' "${summary[-1]}"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
