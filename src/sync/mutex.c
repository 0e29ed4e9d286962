/* mutex.c - the public mutex: a lock word in the user's own struct.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The protocol stands in segment/lock.c. Added here: checks of what users give, and two-phase release: inside a transaction that has
 * saved something, unlocking only marks the lock, since another who took it could build on a change that may still be undone. */
#include "segment/segment.h"

#include <cove/mutex.h>
#include <errno.h>

static int bad_address(const cove_segment *segment, const void *mutex)
{
    return covei_error(-EINVAL, "%s: %p is no place for a mutex; it lies in the segment's memory, aligned to 8 bytes",
                       segment->name, mutex);
}

static _Atomic uint64_t *word_of(cove_mutex *mutex)
{
    return (_Atomic uint64_t *)(void *)&mutex->word;
}

/* The place of a lock in held[], or COVEI_LANE_LOCKS. */
static uint32_t place_of(const struct covei_lane *lane, const cove_mutex *mutex)
{
    uint64_t offset = covei_offset(lane->segment, mutex);
    uint32_t count = atomic_load_explicit(&lane->shm->held_count, memory_order_relaxed); /* this thread's own */
    for (uint32_t i = 0; i < count; i++)
        if (atomic_load_explicit(&lane->shm->held[i], memory_order_relaxed) == offset)
            return i;
    return COVEI_LANE_LOCKS;
}

/* It was unlocked inside the transaction and is held still: it is simply locked again. */
static bool unmark(struct covei_lane *lane, cove_mutex *mutex)
{
    uint32_t place = lane->marked ? place_of(lane, mutex) : COVEI_LANE_LOCKS;
    if (place == COVEI_LANE_LOCKS || !(lane->marked & UINT32_C(1) << place))
        return false;
    lane->marked &= ~(UINT32_C(1) << place);
    return true;
}

int cove_mutex_lock(cove_segment *segment, cove_mutex *mutex, int64_t timeout_ns)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (COVEI_UNLIKELY(result < 0))
        return result;
    if (COVEI_UNLIKELY(!covei_user_address(segment, mutex, sizeof *mutex, 8)))
        return bad_address(segment, mutex);
    if (COVEI_UNLIKELY(lane->marked != 0) && unmark(lane, mutex))
        return 0;
    result = covei_lock_take(lane, word_of(mutex), timeout_ns);
    if (COVEI_UNLIKELY(atomic_load_explicit(&segment->has_debts, memory_order_relaxed))) /* a hint to ourselves */
        covei_recover_debts(lane);
    return result;
}

/* Inside a transaction with something to undo: mark it. */
static int unlock_later(struct covei_lane *lane, cove_mutex *mutex)
{
    uint32_t place = place_of(lane, mutex);
    if (place == COVEI_LANE_LOCKS || lane->marked & UINT32_C(1) << place)
        return covei_error(-EPERM, "%s: this thread does not hold that lock", lane->segment->name);
    lane->marked |= UINT32_C(1) << place;
    return 0;
}

int cove_mutex_unlock(cove_segment *segment, cove_mutex *mutex)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (COVEI_UNLIKELY(result < 0))
        return result;
    if (COVEI_UNLIKELY(!covei_user_address(segment, mutex, sizeof *mutex, 8)))
        return bad_address(segment, mutex);
    if (COVEI_UNLIKELY(!covei_lock_is_mine(lane, word_of(mutex))))
        return covei_error(-EPERM, "%s: this thread does not hold that lock", segment->name);
    /* relaxed: this thread's own journal. */
    if (COVEI_UNLIKELY(COVEI_TAILS_OUTER(atomic_load_explicit(&lane->shm->tails, memory_order_relaxed)) != 0))
        return unlock_later(lane, mutex);
    covei_lock_release(lane, word_of(mutex));
    return 0;
}

int cove_mutex_holder(cove_segment *segment, const cove_mutex *mutex, struct cove_member_info *member)
{
    int result = covei_segment_usable(segment);
    if (result < 0)
        return result;
    if (!covei_user_address(segment, mutex, sizeof *mutex, 8))
        return bad_address(segment, mutex);
    const _Atomic uint64_t *word = (const _Atomic uint64_t *)(const void *)&mutex->word;
    uint32_t index = (uint32_t)(atomic_load_explicit(word, memory_order_acquire) & COVEI_LOCK_OWNER) - 1;
    uint32_t owner = index < segment->max_lanes ? atomic_load_explicit(&segment->owners[index], memory_order_acquire)
                                                : 0;
    if (owner == 0 || owner > segment->max_members)
        return 0;
    covei_row_describe(segment, owner - 1, member);
    return 1;
}
