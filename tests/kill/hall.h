/* hall.h - the locks and meeting points that the kill table's rows of synchronisation share, and what they guard.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The hall is an object of the image with one of each kind, in a struct of the user's. Whatever a lock guards is a
 * pair of equal numbers: whoever has the lock and sees them differ has seen half a change. The middle one has
 * things of its own there, all the while: it reads, owns a permit, is a party, and is about to change what a
 * revision tells of; the victim's death must take none of these from it. */
#ifndef HALL_H
#define HALL_H

#include "stage.h"

#include <pthread.h>

struct pair {
    int64_t left, right;
};

struct hall {
    cove_mutex fair; /* guards `turns` */
    struct pair turns;
    cove_rwlock rwlock; /* guards `shared` */
    struct pair shared;
    cove_mutex lock; /* guards what follows */
    struct pair goods;
    int64_t ready;
    cove_condition condition;
    cove_semaphore permits;
    cove_event event;
    cove_barrier barrier;
    cove_once once; /* makes `made` and `block` */
    struct pair made;
    cove_ref block;
    cove_counter counter;
    cove_revision revision; /* tells of `seen`, which `lock` guards */
    struct pair seen;
    struct { /* the middle one's own */
        cove_rwlock rwlock;
        cove_semaphore permits;
        cove_barrier barrier;
        cove_revision revision;
        struct pair pair;
    } middle;
};

void hall_fill(struct stage *stage); /* builder */
void hall_middle_enters(struct stage *stage);
void hall_middle_begins(struct stage *stage); /* inside its transaction */
void hall_middle_ends(struct stage *stage, int committed);
/* Probe: every lock of the hall can be had at once, and what each guards is even. */
void hall_check(struct stage *stage);

/* Take and give back a mutex; `take` returns what the lock returned. */
int take(struct stage *stage, cove_mutex *mutex);
void give(struct stage *stage, cove_mutex *mutex);

/* `what` is guarded, and whoever calls has the lock. */
void pair_must_be_even(struct stage *stage, const struct pair *pair, const char *what);
/* Saves it and adds to both sides. */
void pair_change(struct stage *stage, struct pair *pair, int64_t by);

/* A thread of the calling process that makes a call in which it sleeps. */
struct companion {
    struct stage *stage;
    void (*run)(struct stage *);
    pthread_t thread;
    _Atomic int tid, done;
};
/* Returns when it sleeps in a futex, or is done. The calling thread does not sleep meanwhile, so that whoever watches
 * this process does not take that for its own sleep. */
void companion_start(struct companion *companion);
void companion_join(struct companion *companion);
/* Waits likewise for the thread `tid` of this process to sleep in a futex; ends early when *done. */
void await_thread_asleep(int tid, const _Atomic int *done);
/* The same for a thread of the victim's that waits for the one which is stepped: it leaves the CPU to that. */
void await_stepped_asleep(int tid, const _Atomic int *done);

#endif
