/* cell.h - what the runner and the processes of a cell share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CONFORMANCE_CELL_H
#define CONFORMANCE_CELL_H

#include "conformance.h"

#define CELL_CHILD_DECIDED 99 /* exit status of a process that said the cell's verdict and is not its first one */

struct cell {
    _Atomic bool decided; /* the verdict is somebody's */
    _Atomic bool told; /* the sentence of a failure is somebody's */
    char verdict[VERDICT_BYTES];
    char sentence[512];
    int supports; /* what cove_supports says of the row's feature; -1: not asked */
    int key; /* System V: the cell's */
    _Atomic unsigned reached[STEP_COUNT];
    _Atomic uint64_t numbers[8];
};

void cell_begin(struct cell *cell); /* this process is the cell's first */

#endif
