/* run.h - running a command that must not go on without us.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVE_TOOLS_RUN_H
#define COVE_TOOLS_RUN_H

#include <stdbool.h>

/* Run it and wait until it has ended. Meanwhile signals are passed on to it; when this process is killed, it is too; and
 * a terminal's stop and continue go through both. Returns the status for a shell: its own, 128 + the signal's number that
 * it died of, CLI_RUN_UNFIT, CLI_RUN_MISSING, or CLI_RUN_FAILED after a sentence. `go_on` tells whether processes that
 * it started go on with what it inherited. Signals stay blocked afterwards. */
int run_command(const char *about, char *const *command, bool *go_on);

#endif
