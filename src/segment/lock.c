/* lock.c - the lock word: a robust lock in one 64-bit word, when it cannot be had at once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     63          32 31       30          29        0
 *     | generation   | WAITERS | RECOVERED | lane + 1 |    0 in the low half: free
 *
 * The low half is the futex. One CAS takes the word and names the owner; one addition gives it back, with a
 * generation one higher, so that a word that was seen names one holding for ever.
 *
 * I1  A word names a lane only while that lane's held[] has its offset (see covei_lock_try and covei_lock_slow).
 * I2  A word that names a dead lane is changed by nobody but the owner of that member's recovery, save for the
 *     WAITERS bit.
 * I3  RECOVERED is set only on a free word, by recovery, and cleared by the next to take it.
 * Edge U: store by the holder, addition release -> CAS acquire, load by the next.
 *
 * Progress: blocking. A waiter spins briefly, then sleeps on the word and on its owner's sign of life together, in
 * slices, since a wake-up can be lost: its sender may be killed between the addition and the wake, or the woken one
 * before it takes the word.
 * Crash: dead with an entry and without the word: nothing. With the word: recovery puts back what was changed under
 * it, then frees it with RECOVERED. Dead after the addition: free. */
#include "segment/segment.h"

#include <errno.h>
#include <inttypes.h>

#define SPINS 100 /* pauses before sleeping */
#define SLICE_MIN_NS INT64_C(1000000) /* 1 ms */
#define SLICE_MAX_NS INT64_C(10000000) /* 10 ms: how long a lost wake-up may hold anybody up */

uint32_t *covei_lock_futex(_Atomic uint64_t *word)
{
    return (uint32_t *)(void *)word; /* the low half: the layout is little-endian */
}

uint32_t covei_lock_place(const struct covei_lane_shm *shm, uint64_t offset)
{
    uint32_t place = 0;
    while (place < COVEI_LANE_LOCKS && atomic_load_explicit(&shm->held[place], memory_order_relaxed) != offset)
        place++; /* relaxed: written by the lane's thread alone, or in its place */
    return place;
}

bool covei_lane_holds(const struct covei_lane_shm *shm)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
        /* for its own process, or for people */
        if (atomic_load_explicit(&shm->held[place], memory_order_relaxed) != 0)
            return true;
    return false;
}

void covei_lock_forget(struct covei_lane_shm *shm, uint64_t offset)
{
    uint32_t place = covei_lock_place(shm, offset);
    if (place < COVEI_LANE_LOCKS)
        atomic_store_explicit(&shm->held[place], 0, memory_order_release); /* not before the word is given back */
}

void covei_lock_released(struct covei_lane_shm *shm, uint64_t offset, _Atomic uint64_t *word, uint64_t old)
{
    covei_lock_forget(shm, offset);
    if (!(old & COVEI_LOCK_WAITERS))
        return;
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
    while ((now & COVEI_LOCK_OWNER) == 0 && (now & COVEI_LOCK_WAITERS) != 0)
        /* relaxed: the bit orders nothing. */
        if (atomic_compare_exchange_weak_explicit(word, &now, now & ~COVEI_LOCK_WAITERS, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            (void)covei_os->wake(covei_lock_futex(word), 1);
            return;
        }
    /* Somebody has taken it already, bit and all, and will wake the next. */
}

void covei_lock_give(_Atomic uint64_t *word, uint64_t held_value, uint64_t flags)
{
    uint64_t next = (COVEI_LOCK_GENERATION(held_value) + 1) << 32 | flags;
    /* release, edge U: what was put back is seen by the next holder. */
    uint64_t old = atomic_exchange_explicit(word, next, memory_order_release);
    if (old & COVEI_LOCK_WAITERS)
        (void)covei_os->wake(covei_lock_futex(word), INT32_MAX);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* "name (pid 12)" of the member whose thread holds the word, for a sentence. */
static int explain_holder(const struct covei_lane *lane, uint64_t word, int result)
{
    const struct cove_segment *segment = lane->segment;
    uint32_t index = (uint32_t)(word & COVEI_LOCK_OWNER) - 1;
    uint32_t owner = index < segment->max_lanes ? atomic_load_explicit(&segment->owners[index], memory_order_acquire)
                                                : 0;
    if (owner == 0 || owner > segment->max_members)
        return covei_error(result, "%s: the lock was busy", segment->name);
    struct cove_member_info member;
    covei_row_describe(segment, owner - 1, &member);
    return covei_error(result, "%s: %s (pid %" PRId32 ", thread %" PRId32 ") holds the lock%s", segment->name,
                       member.command, member.pid,
                       atomic_load_explicit(&segment->lanes[index].thread_id, memory_order_relaxed), /* for people */
                       result == -ETIMEDOUT ? "; wait longer, or look whether it is stopped" : "");
}

/* One try at a word that looks free. Adds WAITERS where we slept: others may sleep still. */
static bool try_take(struct covei_lane *lane, _Atomic uint64_t *word, uint64_t *old, uint64_t waiters)
{
    while ((*old & COVEI_LOCK_OWNER) == 0) {
        uint64_t next = (*old & ~COVEI_LOCK_RECOVERED) | waiters | lane->id;
        /* acquire, edge U; release: the place in held[] is filled. */
        if (atomic_compare_exchange_weak_explicit(word, old, next, memory_order_acq_rel, memory_order_relaxed))
            return true;
    }
    return false;
}

static bool spin_take(struct covei_lane *lane, _Atomic uint64_t *word, uint64_t *old)
{
    int spins = covei_os->cpu_count() > 1 ? SPINS : 1;
    for (int i = 0; i < spins; i++) {
        *old = atomic_load_explicit(word, memory_order_relaxed);
        if (try_take(lane, word, old, 0))
            return true;
        if ((*old & COVEI_LOCK_OWNER) == lane->id)
            return false;
        covei_relax();
    }
    return false;
}

/* I1: does that lane say that it holds the word, or is about to? */
static bool lane_lists(const struct cove_segment *segment, uint32_t index, const _Atomic uint64_t *word)
{
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
        /* acquire: against the second look at the word. */
        if (atomic_load_explicit(&segment->lanes[index].held[place], memory_order_acquire) ==
            covei_offset(segment, (const void *)word))
            return true;
    return false;
}

/* The word names a lane that nobody has, or that does not know of it, and did so before and after we looked: somebody
 * scribbled. */
static bool names_nobody(const struct cove_segment *segment, _Atomic uint64_t *word, uint64_t seen)
{
    uint32_t index = (uint32_t)(seen & COVEI_LOCK_OWNER) - 1;
    uint32_t ready = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
    if (index >= covei_min(ready, segment->max_lanes))
        return true;
    if (atomic_load_explicit(&segment->owners[index], memory_order_acquire) != 0 && lane_lists(segment, index, word))
        return false;
    uint64_t again = atomic_load_explicit(word, memory_order_acquire);
    return (again | COVEI_LOCK_WAITERS) == (seen | COVEI_LOCK_WAITERS);
}

/* Sleep until the word changes, its owner's thread ends, or the slice is over. */
static void sleep_on(struct covei_lane *lane, _Atomic uint64_t *word, uint64_t seen, int64_t slice_ns)
{
    if (!(seen & COVEI_LOCK_WAITERS)) {
        /* relaxed: the bit orders nothing; a failed CAS means that the word changed, so look again. */
        if (!atomic_compare_exchange_strong_explicit(word, &seen, seen | COVEI_LOCK_WAITERS, memory_order_relaxed,
                                                     memory_order_relaxed))
            return;
        seen |= COVEI_LOCK_WAITERS;
    }
    uint32_t owner_lane = (uint32_t)(seen & COVEI_LOCK_OWNER) - 1;
    covei_sleep(lane->segment, (_Atomic uint32_t *)(void *)covei_lock_futex(word), (uint32_t)seen, owner_lane,
                slice_ns);
}

static int wait_and_take(struct covei_lane *lane, _Atomic uint64_t *word, uint64_t *old, int64_t deadline)
{
    struct cove_segment *segment = lane->segment;
    for (int64_t slice = SLICE_MIN_NS;; slice = least(2 * slice, SLICE_MAX_NS)) {
        *old = atomic_load_explicit(word, memory_order_acquire); /* for names_nobody: then the place is filled */
        if (try_take(lane, word, old, COVEI_LOCK_WAITERS))
            return 0;
        if (slice > SLICE_MIN_NS &&
            names_nobody(segment, word, *old)) /* not at once: entries are stored before words */
            return covei_error(COVE_ECORRUPT,
                               "%s: a lock names an owner that does not exist: somebody wrote over it; cove "
                               "doctor %s tells more",
                               segment->name, segment->name);
        if (covei_recover_locks(lane, (uint32_t)(*old & COVEI_LOCK_OWNER) - 1))
            continue;
        int64_t left = covei_wait_left(deadline);
        if (left == 0)
            return explain_holder(lane, *old, -ETIMEDOUT);
        sleep_on(lane, word, *old, least(slice, left));
    }
}

static int take_slowly(struct covei_lane *lane, _Atomic uint64_t *word, uint64_t *old, int64_t timeout_ns)
{
    if (timeout_ns > 0 && spin_take(lane, word, old))
        return 0;
    *old = atomic_load_explicit(word, memory_order_relaxed);
    if (try_take(lane, word, old, 0))
        return 0;
    if ((*old & COVEI_LOCK_OWNER) == lane->id)
        return covei_error(-EDEADLK, "%s: this thread holds the lock already", lane->segment->name);
    if (timeout_ns <= 0) {
        if (covei_recover_locks(lane, (uint32_t)(*old & COVEI_LOCK_OWNER) - 1)) {
            *old = atomic_load_explicit(word, memory_order_relaxed);
            if (try_take(lane, word, old, COVEI_LOCK_WAITERS))
                return 0;
        }
        return explain_holder(lane, *old, -EBUSY);
    }
    /* relaxed: for people only. */
    atomic_store_explicit(&lane->shm->waits_for, covei_offset(lane->segment, word), memory_order_relaxed);
    int result = wait_and_take(lane, word, old, covei_wait_begin(timeout_ns));
    atomic_store_explicit(&lane->shm->waits_for, 0, memory_order_relaxed);
    return result;
}

int covei_lock_slow(struct covei_lane *lane, _Atomic uint64_t *word, int64_t timeout_ns)
{
    struct covei_lane_shm *shm = lane->shm;
    uint32_t place = covei_lock_place(shm, 0);
    if (place == COVEI_LANE_LOCKS)
        return covei_error(-ENOLCK, "%s: this thread holds %u locks of the segment already; free some first",
                           lane->segment->name, COVEI_LANE_LOCKS);
    if (place >= lane->places)
        lane->places = place + 1;
    atomic_store_explicit(&shm->held[place], covei_offset(lane->segment, word), memory_order_relaxed);
    covei_order();
    uint64_t old = 0;
    int result = lane->segment->durable ? covei_gate_pass(lane, place, covei_offset(lane->segment, word), timeout_ns)
                                        : 0;
    if (result == 0)
        result = take_slowly(lane, word, &old, timeout_ns);
    if (result == 0)
        return old & COVEI_LOCK_RECOVERED ? COVE_RECOVERED : 0;
    atomic_store_explicit(&shm->held[place], 0, memory_order_relaxed);
    return result;
}
