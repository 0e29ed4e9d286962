#!/bin/sh
# planted.sh - shows that the kill table is not blind: each known bug that can be built into the library must turn it red.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
#   planted.sh KILL_TABLE DIRECTORY NAME:OPERATION...
#
# DIRECTORY/NAME holds a libcove.so with that bug, with the soname of the real one. The table is run against it until it
# finds something wrong with the OPERATION that meets the bug, for SECONDS_EACH (45) at most. Exit status 1 if one bug was not
# found; 2 if a library is not there.
set -u
table=$1
directory=$2
shift 2
blind=0
output=$(mktemp)
trap 'rm -f "$output"' EXIT
for pair in "$@"; do
    name=${pair%%:*}
    operation=${pair#*:}
    if ! [ -e "$directory/$name/libcove.so" ]; then
        echo "planted.sh: no library in $directory/$name" >&2
        exit 2
    fi
    LD_LIBRARY_PATH=$directory/$name${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
        "$table" --seconds "${SECONDS_EACH:-45}" --until-found --seed 1 --only "$operation" >"$output" 2>&1
    status=$?
    if [ "$status" = 77 ]; then
        cat "$output"
        exit 77
    fi
    if ! grep -q "stepping $directory/$name/" "$output"; then
        echo "planted.sh: another library than $directory/$name/libcove.so was stepped" >&2
        exit 2
    fi
    if [ "$status" = 1 ] && grep -qE '^      (HANG|CORRUPT|LOST|LEAKED) ' "$output" &&
        ! grep -q 'not killed, ' "$output"; then
        echo "found      $name, by \"$operation\":"
        grep -E -m 1 -A 1 '(killed|stopped) at point' "$output"
    else
        echo "NOT FOUND  $name, by \"$operation\" (status $status)"
        cat "$output"
        blind=1
    fi
done
exit $blind
