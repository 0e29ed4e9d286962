/* scratch.h - a directory of its own in /dev/shm, and a guardian that removes it however the run ends.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef SCRATCH_H
#define SCRATCH_H

/* Makes /dev/shm/cove-kill-PID-..., sets COVE_DIR to it, runs `work` in a child and removes the directory when that has ended or this
 * process is told to end. Directories of earlier runs which were killed are removed as well. Returns the child's exit status. */
int scratch_run(int (*work)(const char *directory));

/* Removes what is in a directory, and it. */
void scratch_remove(const char *directory);

#endif
