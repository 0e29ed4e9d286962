/* cove_site.h - where Cove's locks lie in the rows about locks.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef BENCH_COVE_SITE_H
#define BENCH_COVE_SITE_H

#include "lock.h"

#include <cove.h>

enum { SITE_LINE = 128, SITE_LINES = 8 };

struct site_object {
    uint64_t bytes[(SITE_LINES + 1) * SITE_LINE / 8];
};

extern cove_segment *site_segment; /* of this process; NULL: not open */

void site_check(int result, const char *what);
void site_open(const struct lock_site *site);
void site_enter(struct lock_site *site); /* opens both; `handle` becomes SITE_LINES zeroed lines at a line's begin */
void site_close(struct lock_site *site);

#endif
