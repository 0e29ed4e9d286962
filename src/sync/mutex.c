/* mutex.c - the public mutex: a lock word in the user's own struct.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The protocol stands in segment/lock.c. Added here: checks of what users give, figures, and two-phase release:
 * inside a transaction that has saved something, unlocking only marks the lock, since another who took it could build
 * on a change that may still be undone. */
#include "sync/sync.h"

#include <cove/mutex.h>
#include <errno.h>

static _Atomic uint64_t *word_of(cove_mutex *mutex)
{
    return (_Atomic uint64_t *)(void *)&mutex->word;
}

/* The bit of a lock's place in held[]; 0 where this thread does not hold it. */
static uint32_t place_bit(const struct covei_lane *lane, const cove_mutex *mutex)
{
    uint32_t place = covei_lock_place(lane->shm, covei_offset(lane->segment, mutex));
    return place < COVEI_LANE_LOCKS ? UINT32_C(1) << place : 0;
}

static COVEI_COLD int lock_slowly(cove_segment *segment, cove_mutex *mutex, int64_t timeout_ns)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, mutex, sizeof *mutex, "mutex");
    if (result < 0)
        return result;
    call.waits = &mutex->waits;
    call.longest_us = &mutex->longest_us;
    struct covei_lane *lane = call.lane;
    uint32_t bit = lane->marked ? place_bit(lane, mutex) : 0;
    if (lane->marked & bit) { /* unlocked inside the transaction and held still: simply locked again, inside it */
        lane->marked &= ~bit;
        lane->before &= ~bit;
    } else
        result = covei_lock_take(lane, word_of(mutex), timeout_ns);
    return covei_call_end(&call, result);
}

/* Calls nothing but in its last step, so that it needs no stack: stores would hold up the CAS. */
COVEI_HOT int cove_mutex_lock(cove_segment *segment, cove_mutex *mutex, int64_t timeout_ns)
{
    if (covei_cached(segment)) {
        uint64_t offset = covei_offset(segment, mutex);
        if (COVEI_LIKELY(covei_word_inside(segment, offset)) &&
            covei_lock_try(covei_thread.shm, covei_thread.id, offset, word_of(mutex)))
            return 0;
    }
    return lock_slowly(segment, mutex, timeout_ns);
}

static bool is_mine(cove_mutex *mutex, uint64_t id)
{
    /* relaxed: only this thread makes the word name its lane. */
    return (atomic_load_explicit(word_of(mutex), memory_order_relaxed) & COVEI_LOCK_OWNER) == id;
}

static bool has_saved(const struct covei_lane_shm *shm)
{
    /* relaxed: this thread's own journal. */
    return COVEI_TAILS_OUTER(atomic_load_explicit(&shm->tails, memory_order_relaxed)) != 0;
}

static COVEI_COLD int unlock_slowly(cove_segment *segment, cove_mutex *mutex)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, mutex, sizeof *mutex, "mutex");
    if (result < 0)
        return result;
    struct covei_lane *lane = call.lane;
    uint32_t bit = is_mine(mutex, lane->id) ? place_bit(lane, mutex) : 0;
    if (bit == 0 || lane->marked & bit)
        result = covei_error(-EPERM, "%s: this thread does not hold that lock", call.segment->name);
    else if (lane->depth > 0 && has_saved(lane->shm))
        lane->marked |= bit;
    else
        covei_lock_drop(lane, word_of(mutex));
    return covei_call_end(&call, result);
}

/* The first place of held[] names the mutex: it is this segment's, and this thread's. */
COVEI_HOT int cove_mutex_unlock(cove_segment *segment, cove_mutex *mutex)
{
    if (covei_cached(segment)) {
        uint64_t offset = covei_offset(segment, mutex);
        struct covei_lane_shm *shm = covei_thread.shm;
        if (COVEI_LIKELY(atomic_load_explicit(&shm->held[0], memory_order_relaxed) == offset) &&
            COVEI_LIKELY(offset != 0 && !has_saved(shm))) { /* 0: nothing is held, and that is the segment's header */
            covei_lock_release_first(shm, covei_thread.id, offset, word_of(mutex));
            return 0;
        }
    }
    return unlock_slowly(segment, mutex);
}

int cove_mutex_holder(cove_segment *segment, const cove_mutex *mutex, struct cove_member_info *member)
{
    if (!segment)
        segment = cove_segment_of(mutex);
    int result = covei_segment_usable(segment);
    if (result == 0 && !member)
        result = covei_error(-EINVAL, "%s: there is no place for the holder", segment->name);
    if (result < 0)
        return result;
    if (!covei_user_address(segment, mutex, sizeof *mutex, 8))
        return covei_error(-EINVAL,
                           "%s: %p is no place for a mutex; it lies in the segment's memory, aligned to 8 bytes",
                           segment->name, (const void *)mutex);
    const _Atomic uint64_t *word = (const _Atomic uint64_t *)(const void *)&mutex->word;
    uint32_t index = (uint32_t)(atomic_load_explicit(word, memory_order_acquire) & COVEI_LOCK_OWNER) - 1;
    uint32_t owner = index < segment->max_lanes ? atomic_load_explicit(&segment->owners[index], memory_order_acquire)
                                                : 0;
    if (owner == 0 || owner > segment->max_members)
        return 0;
    covei_row_describe(segment, owner - 1, member);
    return 1;
}
