#!/bin/sh
# example.sh EXPECTED PROGRAM... - runs an example in an empty $COVE_DIR; looks at what it printed and left behind.
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# Good is status 0, the output that the file EXPECTED holds (where it exists), and nothing left: no file in $COVE_DIR,
# no System V memory that this process made, no name in /dev/shm that ends in its number. (Examples that leave their
# directory of names put their process's number into theirs.)
set -eu
expected=$1
shift
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/names"

status=0
COVE_DIR=$dir/names "$@" >"$dir/output" &
pid=$!
wait "$pid" || status=$?
cat "$dir/output"
if [ "$status" != 0 ]; then
    echo "example.sh: it ended with status $status" >&2
    exit "$status"
fi

if [ -f "$expected" ] && ! diff -u "$expected" "$dir/output" >&2; then
    echo "example.sh: it printed something else than $expected holds" >&2
    exit 1
fi
left=$(ls -A "$dir/names"; ls /dev/shm 2>/dev/null | grep -e "-$pid\$" || true
    awk -v pid="$pid" 'NR > 1 && $5 == pid { print "System V shmid " $2 }' /proc/sysvipc/shm 2>/dev/null || true)
if [ -n "$left" ]; then
    echo "example.sh: it left behind: $left" >&2
    exit 1
fi
