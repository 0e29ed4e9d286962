/* hall.h - the segment of the storms of locks and meeting points, and what these storms share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Each of these storms is about one primitive: WORKERS use it, are killed and stopped at random, and every worker
 * looks all the while whether what it guards is even. What the primitive itself cannot prove is noted in the
 * ledger, outside of the segment, before and after each call: a worker that is killed between the two may have done
 * it or not, and just so much may be uneven in the end. */
#ifndef STORM_HALL_H
#define STORM_HALL_H

#include "storm.h"

enum { PERMITS = 3, TOKENS = 6, GOODS = 12, ONCES = 24, LINES = 4 };

/* Equal, for whoever has the lock. */
struct pair {
    int64_t left, right;
};

struct good {
    uint64_t maker, number; /* each maker's goods are numbered */
};

struct hall {
    cove_mutex fair; /* guards `turns` */
    struct pair turns;
    cove_rwlock rwlock; /* guards `books` and `writer` */
    struct pair books;
    uint64_t writer; /* 0 for whoever reads */
    cove_semaphore owned, plain;
    struct { /* guarded by its lock */
        cove_mutex lock;
        cove_condition filled, emptied;
        cove_event event; /* set when something is put in */
        uint64_t put_ns; /* the last time that something was */
        uint64_t first, count;
        struct good goods[GOODS];
        uint64_t made[WORKERS], used[WORKERS];
    } shop;
    cove_barrier barrier;
    cove_rwlock renewal; /* held to read while onces are called, to write while all are made anew */
    uint64_t renewals;
    struct {
        cove_once once;
        uint64_t count; /* how often it was done */
        cove_ref block;
    } onces[ONCES];
    cove_counter counter;
};

extern const struct cove_type hall_type;
#define SPREAD_NAME "spread"

/* One of these storms. */
struct hall_storm {
    const char *name;
    void (*begin)(struct worker *worker, struct hall *hall, uint32_t seat); /* of each worker; NULL: nothing */
    void (*step)(struct worker *worker, struct hall *hall, uint32_t seat);
    void (*judge)(struct worker *worker, struct hall *hall);
    const char *told[8]; /* what ledger->hall.tally counts */
};
bool hall_storm_run(const struct hall_storm *storm, const struct plan *plan, uint64_t *killed);

part found_hall;
void name_hall(void); /* segment_name is that of the hall's */
struct hall *open_hall(struct worker *worker, uint32_t flags);
void close_hall(struct worker *worker);

/* Any of the three ways to wait. */
int64_t some_patience(struct worker *worker);
/* Busy, timed out: not taken. Anything else below 0 is a fault. */
bool got_it(int result, const char *what);
void check_pair(const struct pair *pair, const char *where);
/* Adds to both sides; may be interrupted between. */
void change_pair(struct worker *worker, struct pair *pair);
/* Neither dead nor dying: it may execute an instruction of its own still. And: it is not stopped either. */
bool lives(int32_t pid);
bool runs(int32_t pid);
void count_up(int which);

/* An amount is about to be counted, and was. */
void intend(uint32_t seat, int64_t amount);
void achieve(uint32_t seat, int64_t amount);
/* `value` is what was counted, give or take what killed workers may have. */
void check_sum(int64_t value, const char *what);

#endif
