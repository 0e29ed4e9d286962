/* crowd.h - contestants that two or more processes use at once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include "bench.h"
#include "lock.h"

struct entrant {
    const struct lock_way *way;
    enum role role;
    bool seldom; /* takes part in every third round only: slow, and far from the goal */

    /* The engine's. */
    bool missing;
    struct lock_site site;
    uint64_t total; /* changes so far, by all */
    struct blocks {
        struct series rates, fairness, handovers;
    } blocks, disturbed; /* those that count, and those in which somebody had no CPU */
};

struct crowd {
    struct entrant *entrants;
    size_t count;
    unsigned processes; /* at most 8 */
    bool together; /* all count the same rounds: a rate is one process's */
    bool in_thousands; /* k/s, not M/s */
    double share; /* of settings->row_seconds */
};

/* In one process, uncontended; the figures are ns. */
void crowd_alone(struct crowd *crowd, const struct settings *settings, struct report *report);
/* In `processes` processes that are spread over two CPUs; the figures are rates, with fairness. */
void crowd_run(struct crowd *crowd, const struct settings *settings, struct report *report);

#endif
