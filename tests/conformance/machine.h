/* machine.h - what the runner does with the machine; conformance.h has what cases do.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CONFORMANCE_MACHINE_H
#define CONFORMANCE_MACHINE_H

#include "conformance.h"

/* A process that puts the machine back as it was, however this program ends. */
struct janitor {
    pid_t pid;
    int pipe;
};

/* Directories, and huge pages where this user may have some. SIGUSR1 must be blocked: the janitor tells by it that
 * they are there. False, with errno, where directories cannot be made. */
bool machine_prepare(struct janitor *janitor);
void machine_clear(struct janitor *janitor); /* after the end of all workers */

/* This process, and those that it starts, get directories, and where that is allowed a machine, of their own. */
bool machine_begin(void);

/* Remove what a cell left: files, System V segments. Returns how many; `what` names one. */
unsigned machine_sweep(int key, char *what, size_t size);

#endif
