/* kill.h - what the rows about death share: a waiter, a victim, and what they do.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef BENCH_KILL_H
#define BENCH_KILL_H

#include "bench.h"

#include <cove.h>
#include <pthread.h>

struct kill_page {
    _Atomic uint32_t ready, holding, go;
    uint64_t woken_ns;
    pthread_mutex_t robust;
};

/* One way to hold something and one to wait for it. */
struct hold {
    const char *name;
    enum role role;
    void (*make)(void); /* before the round's processes; NULL: nothing to do */
    void (*born)(void); /* in the judge, when both have begun; NULL: nothing to do */
    void (*take)(void); /* the victim: take it, and return */
    void (*prepare)(void); /* the waiter: whatever comes before waiting */
    void (*wait)(void); /* the waiter: returns when it goes on; sets kill_page->woken_ns, then checks */
    struct series times;
};

extern struct kill_page *kill_page;

void kill_run(struct hold *holds, size_t count, unsigned kills, size_t resident_bytes, const struct settings *settings,
              struct report *report);

/* ---- of Cove's: kill_sync.c */

extern const char *kill_segment_name;
extern cove_segment *kill_segment;

void kill_check(int64_t result, const char *what); /* negative: the row fails */
void kill_open(void); /* the segment, in this process */
void kill_close(void);

#endif
