/* hall.c - fills, uses and checks the locks and meeting points of hall.h.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "hall.h"

#include "stepper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ASLEEP_NS INT64_C(10000000000) /* how long a thread may take to fall asleep; one that is stepped is slow */

int take(struct stage *stage, cove_mutex *mutex)
{
    int got = cove_mutex_lock(stage->segment, mutex, PATIENCE_NS * 2);
    must(stage, got >= 0, "lock");
    return got;
}

void give(struct stage *stage, cove_mutex *mutex)
{
    must(stage, cove_mutex_unlock(stage->segment, mutex) == 0, "unlock");
}

void pair_must_be_even(struct stage *stage, const struct pair *pair, const char *what)
{
    if (pair->left != pair->right)
        finding(stage, VERDICT_CORRUPT, "%s: half a change: %lld and %lld", what, (long long)pair->left,
                (long long)pair->right);
}

void pair_change(struct stage *stage, struct pair *pair, int64_t by)
{
    must(stage, cove_save(stage->segment, pair, sizeof *pair) == 0, "save");
    pair->left += by;
    atomic_signal_fence(memory_order_seq_cst); /* two stores, with a point between them */
    pair->right += by;
}

void hall_fill(struct stage *stage)
{
    struct hall *hall = stage->hall;
    hall->fair = (cove_mutex)COVE_MUTEX_FAIR;
    must(stage, cove_semaphore_post(stage->segment, &hall->middle.permits, 1) == 0, "building: a permit");
}

/* ---- the middle one ------------------------------------------------------------------------------------------- */

void hall_middle_enters(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_rwlock_lock_shared(stage->segment, &hall->middle.rwlock, PATIENCE_NS) == 0, "my read lock");
    must(stage, cove_semaphore_acquire(stage->segment, &hall->middle.permits, PATIENCE_NS) == 0, "my permit");
    must(stage, cove_barrier_wait(stage->segment, &hall->middle.barrier, 1, COVE_NOWAIT) == COVE_LEADER,
         "my round of one");
}

void hall_middle_begins(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_revision_change(stage->segment, &hall->middle.revision) == 0, "my revision");
    must(stage, cove_save(stage->segment, &hall->middle.pair, sizeof hall->middle.pair) == 0, "save");
    hall->middle.pair.left++;
}

void hall_middle_ends(struct stage *stage, int committed)
{
    struct hall *hall = stage->hall;
    struct pair *pair = &hall->middle.pair;
    uint64_t seen = cove_revision_read(stage->segment, &hall->middle.revision);
    must(stage, seen % 2 == 0 && pair->left == committed && pair->right == 0, "what my revision tells of");
    pair->left = 0;
    must(stage, cove_semaphore_value(stage->segment, &hall->middle.permits) == 0, "my permit is mine");
    must(stage, cove_rwlock_unlock(stage->segment, &hall->middle.rwlock) == 0, "my read unlock");
    must(stage, cove_semaphore_release(stage->segment, &hall->middle.permits) == 0, "giving my permit back");
    must(stage, cove_barrier_wait(stage->segment, &hall->middle.barrier, 1, COVE_NOWAIT) == COVE_LEADER,
         "my second round of one");
    must(stage, cove_barrier_leave(stage->segment, &hall->middle.barrier) == 0, "leaving my barrier");
}

/* ---- the probe ------------------------------------------------------------------------------------------------ */

static void check_rwlock(struct stage *stage, cove_rwlock *rwlock)
{
    if (!must(stage, cove_rwlock_lock(stage->segment, rwlock, COVE_NOWAIT) >= 0, "a rwlock that nobody holds"))
        return;
    must(stage, cove_rwlock_unlock(stage->segment, rwlock) == 0, "write unlock");
    must(stage, cove_rwlock_lock_shared(stage->segment, rwlock, COVE_NOWAIT) == 0, "reading what nobody writes");
    must(stage, cove_rwlock_unlock(stage->segment, rwlock) == 0, "read unlock");
}

void hall_check(struct stage *stage)
{
    struct hall *hall = stage->hall;
    cove_mutex *mutex[] = {&hall->fair, &hall->lock};
    for (size_t i = 0; i < sizeof mutex / sizeof *mutex; i++)
        if (must(stage, cove_mutex_lock(stage->segment, mutex[i], COVE_NOWAIT) >= 0, "a mutex that nobody holds"))
            give(stage, mutex[i]);
    check_rwlock(stage, &hall->rwlock);
    check_rwlock(stage, &hall->middle.rwlock);
    pair_must_be_even(stage, &hall->turns, "turns");
    pair_must_be_even(stage, &hall->shared, "what the rwlock guards");
    pair_must_be_even(stage, &hall->goods, "goods");
    pair_must_be_even(stage, &hall->made, "what is made once");
    pair_must_be_even(stage, &hall->seen, "what the revision tells of");
    must(stage, cove_semaphore_value(stage->segment, &hall->middle.permits) == 1, "the middle one's permit is back");
    must(stage, cove_revision_read(stage->segment, &hall->revision) % 2 == 0, "a revision that nobody changes is even");
}

/* ---- companions ----------------------------------------------------------------------------------------------- */

static int sleeps_in_futex(int tid)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    close(fd);
    long number = got > 0 && text[0] >= '0' && text[0] <= '9' ? strtol(text, NULL, 10) : -1;
    return number == SYS_futex || number == 449 /* futex_waitv */;
}

void await_thread_asleep(int tid, const _Atomic int *done)
{
    int64_t deadline_ns = stepper_now_ns() + ASLEEP_NS;
    while (!sleeps_in_futex(tid) && !atomic_load(done) && stepper_now_ns() < deadline_ns)
        sched_yield();
}

void await_stepped_asleep(int tid, const _Atomic int *done)
{
    int64_t deadline_ns = stepper_now_ns() + ASLEEP_NS;
    while (!sleeps_in_futex(tid) && !atomic_load(done) && stepper_now_ns() < deadline_ns)
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

static void *companion_main(void *argument)
{
    struct companion *companion = argument;
    atomic_store(&companion->tid, (int)syscall(SYS_gettid));
    companion->run(companion->stage);
    atomic_store(&companion->done, 1);
    return NULL;
}

void companion_start(struct companion *companion)
{
    if (pthread_create(&companion->thread, NULL, companion_main, companion) != 0)
        exit(7);
    while (atomic_load(&companion->tid) == 0)
        sched_yield();
    await_thread_asleep(atomic_load(&companion->tid), &companion->done);
}

void companion_join(struct companion *companion)
{
    pthread_join(companion->thread, NULL);
}
