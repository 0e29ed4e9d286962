#!/bin/sh
# in_empty_cove_dir.sh PROGRAM... - runs a program whose segments live in a directory of their own, which goes afterwards.
# SPDX-License-Identifier: Apache-2.0 OR MIT
set -eu
COVE_DIR=$(mktemp -d)
export COVE_DIR
trap 'rm -rf "$COVE_DIR"' EXIT
"$@"
