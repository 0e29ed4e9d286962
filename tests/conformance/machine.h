/* machine.h - what the runner does with the machine; conformance.h has what cases do.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CONFORMANCE_MACHINE_H
#define CONFORMANCE_MACHINE_H

#include "conformance.h"

struct huge_pages {
    pid_t keeper; /* gives back what was reserved, when the pipe ends */
    int pipe;
};

/* SIGUSR1 must be blocked: the keeper tells by it that the pages are there. */
void machine_reserve_huge_pages(struct huge_pages *pages);
void machine_give_huge_pages_back(struct huge_pages *pages);

/* This process, and those that it starts, get directories, and where that is allowed a machine, of their own. */
bool machine_begin(void);
void machine_end(void);

/* Remove what a cell left: files, System V segments. Returns how many; `what` names one. */
unsigned machine_sweep(char *what, size_t size);

#endif
