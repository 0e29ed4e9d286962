#!/usr/bin/env bash
# bench.sh - builds what is shipped and runs the benchmarks; arguments go to the program.
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -eu
cd "$(dirname "$0")/.."
scripts/build.sh release cove_bench
exec build/release/cove-bench "$@"
