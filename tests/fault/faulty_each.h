/* faulty_each.h - an operation with its first call failing, then with its second, until it makes no more.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each time it succeeds all the same, or says why not in a sentence; and no descriptor, mapping or file is left that
 * was not there before. */
#ifndef FAULTY_EACH_H
#define FAULTY_EACH_H

#include "unit.h"

struct faulty_operation {
    const char *name;
    void (*prepare)(void);
    int64_t (*run)(void); /* under the fault */
    void (*settle)(int64_t result); /* give back what the run took, look at what it left, and clear up */
    unsigned least; /* calls that can fail, at least: fewer, and the test does not test what it should */
};

/* With each of the two errors that a call may give. */
void faulty_each(const struct faulty_operation *operation);

int faulty_count(const char *path); /* entries of a directory, "." and ".." among them */

#endif
