/* faulty_os.h - a table of system calls of which the n-th fails, and likewise allocations of memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef FAULTY_OS_H
#define FAULTY_OS_H

#include <stdbool.h>

/* From now on the call number `turn` (1 is the next one) of those that can fail fails, with the error of its kind
 * that `variant` picks (0 or 1). */
void faulty_begin(unsigned turn, unsigned variant);

/* Back to the system's own table. Returns whether the call number `turn` was reached, and so failed. */
bool faulty_end(void);

/* The name of the call that failed. */
const char *faulty_name(void);

#endif
