/* rows.h - the rows of the kill table: counting trials, printing them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef ROWS_H
#define ROWS_H

#include "trial.h"

enum { EXIT_SKIP = 77 };

struct row {
    const char *name;
    size_t instructions, points, killed, slept;
    uint64_t count[VERDICT_COUNT];
    uint32_t *recovery_us;
    size_t recovery_count;
    uint64_t drifted, missed;
    double steps_per_second;
    int out_of_range, broken, shown;
};

/* How failures are shown: the seed that repeats them, and whether all of them or the first few of a row. */
void rows_show(uint64_t seed, int all_failures);

/* Adds a trial, and prints what it found. Ends the process with EXIT_SKIP where ptrace was refused. */
void row_count(struct row *row, const struct trial *trial);

void rows_print_head(void);
void row_print(struct row *row);
int row_failed(const struct row *row);
void row_add(struct row *total, const struct row *row);

#endif
