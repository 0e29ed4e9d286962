/* table.h - verdicts by case and backend: read, print, compare.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef CONFORMANCE_TABLE_H
#define CONFORMANCE_TABLE_H

#include "conformance.h"

#define TABLE_ROWS 160u
#define TABLE_COLUMNS 12u

struct table {
    unsigned row_count, column_count;
    char column[TABLE_COLUMNS][VERDICT_BYTES];
    char row[TABLE_ROWS][48];
    char verdict[TABLE_ROWS][TABLE_COLUMNS][VERDICT_BYTES]; /* "": that cell was not run */
};

/* Read `path`. False, with a sentence on stderr, where it is no table. */
bool table_read(struct table *table, const char *path);
void table_print(const struct table *table, FILE *to);

/* How many cells differ; each is told to `tell` unless that is NULL. Cells that were not run do not count; rows and
 * columns that only one of them has do, unless `part` says that only some were run. `absent` and `skip` are no
 * differences: the runner lets through those only that the machine gives reason for. */
typedef void table_tell(const char *row, const char *column, const char *expected, const char *found);
unsigned table_compare(const struct table *expected, const struct table *found, bool part, table_tell *tell);

/* Can the comparison fail? Changes each cell of a copy of `expected`, one at a time and in both directions, takes
 * rows and columns away, and counts the changes that table_compare(changed, expected) does not report as exactly what
 * they are. */
unsigned table_blind_spots(const struct table *expected);

#endif
