/* marks.c - what is held by standing in a lane's held[]: read locks, permits, memberships of barriers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A mark is one store into this thread's own lane, so a kill leaves it set or not, and recovery takes it back by
 * emptying the place. Who wants to know how many there are looks at the lanes; `marks` of a lane is at least the
 * number of its marks (I3 of lane_shm.h), so that most lanes are passed over after one look.
 * Crash: I3 holds at each instruction: the number goes up before a mark is set and down after it is cleared. */
#include "sync/sync.h"

#include <cove/barrier.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>
#include <errno.h>

/* What may be held for long, and has no part in transactions, leaves the first places, with which locks are quick, to
 * locks. It is not counted in `places` of the lane. */
uint32_t covei_mark_place(const struct covei_lane_shm *shm, uint64_t held)
{
    for (uint32_t place = COVEI_LANE_LOCKS; place-- > 0;)
        /* relaxed: written by this thread alone. */
        if (atomic_load_explicit(&shm->held[place], memory_order_relaxed) == held)
            return place;
    return COVEI_LANE_LOCKS;
}

uint32_t covei_mark_set(struct covei_lane *lane, uint64_t held)
{
    struct covei_lane_shm *shm = lane->shm;
    bool lock = COVEI_HELD_KIND(held) == COVEI_HELD_SHARED;
    uint32_t place = lock ? covei_held_find(lane) : covei_mark_place(shm, 0);
    if (place == COVEI_LANE_LOCKS)
        return lock ? place : covei_held_find(lane); /* the same, with a sentence */
    /* relaxed: written by this thread alone. */
    atomic_store_explicit(&shm->marks, atomic_load_explicit(&shm->marks, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&shm->held[place], held, memory_order_release); /* I3: after the number */
    return place;
}

void covei_mark_clear(struct covei_lane *lane, uint32_t place)
{
    struct covei_lane_shm *shm = lane->shm;
    atomic_store_explicit(&shm->held[place], 0, memory_order_release); /* what was done under it comes before */
    atomic_store_explicit(&shm->marks, atomic_load_explicit(&shm->marks, memory_order_relaxed) - 1,
                          memory_order_release); /* I3: after the place */
}

static uint64_t without_epoch(uint64_t held)
{
    return held & (UINT64_C(0xffff) << 48 ^ UINT64_MAX);
}

uint32_t covei_marks_count(const struct cove_segment *segment, uint64_t held, uint32_t except,
                           struct covei_watch *watch)
{
    uint32_t count = 0;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++) {
        const struct covei_lane_shm *shm = &segment->lanes[i];
        /* acquire: what a thread that has ended since read under its mark comes before. */
        if (i == except || atomic_load_explicit(&segment->owners[i], memory_order_acquire) == 0 ||
            atomic_load_explicit(&shm->marks, memory_order_acquire) == 0)
            continue;
        uint32_t before = count;
        for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
            /* acquire: pairs with the release that empties it. */
            count += without_epoch(atomic_load_explicit(&shm->held[place], memory_order_acquire)) == held;
        if (count > before && watch)
            covei_watch_add(watch, i);
    }
    return count;
}

bool covei_marks_bury(struct covei_lane *lane, uint64_t held)
{
    struct cove_segment *segment = lane->segment;
    bool any = false;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++) {
        const struct covei_lane_shm *shm = &segment->lanes[i];
        if (i == lane->id - 1 || atomic_load_explicit(&shm->marks, memory_order_acquire) == 0)
            continue;
        bool has = false;
        for (uint32_t place = 0; place < COVEI_LANE_LOCKS && !has; place++)
            has = without_epoch(atomic_load_explicit(&shm->held[place], memory_order_acquire)) == held;
        any |= has && covei_recover_locks(lane, i);
    }
    return any;
}

void covei_marks_gone(struct cove_segment *segment, uint64_t held, bool died)
{
    uint64_t offset = COVEI_HELD_OFFSET(held);
    uint64_t bytes = COVEI_HELD_KIND(held) == COVEI_HELD_SHARED   ? sizeof(cove_rwlock)
                     : COVEI_HELD_KIND(held) == COVEI_HELD_PERMIT ? sizeof(cove_semaphore)
                                                                  : sizeof(cove_barrier);
    if (offset < segment->heap_at || !covei_inside(segment, offset, bytes))
        return; /* somebody scribbled */
    if (COVEI_HELD_KIND(held) == COVEI_HELD_SHARED)
        covei_rwlock_mark_gone(segment, offset);
    else if (COVEI_HELD_KIND(held) == COVEI_HELD_PERMIT)
        covei_semaphore_mark_gone(segment, offset, died);
    else if (COVEI_HELD_KIND(held) == COVEI_HELD_PARTY)
        covei_barrier_mark_gone(segment, offset, COVEI_HELD_EPOCH(held), died);
}
