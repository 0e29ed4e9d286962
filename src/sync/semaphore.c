/* semaphore.c - a number of permits, owned or plain.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     63         32 31        30       29         0
 *     | sequence   | WAITERS | OWNED | permits     |    the low half is the futex
 *
 * `permits` counts all that there are but those taken for good (cove_semaphore_wait). A permit that somebody owns is
 * still counted: its owner has a mark in its lane (marks.c), so a death gives it back without anybody having to know
 * at which instruction it came. Free are `permits` less the marks.
 *
 *     acquire   look at the word and count the marks; if a permit is free: mark; CAS the sequence one up. Where that
 *               fails, count again: too many marks, and the mark goes
 *     release   empty the mark
 *     wait      look at the word and, if OWNED, count the marks; if a permit is free: CAS one permit off
 *     post      CAS or addition of permits
 *
 * I1  No more marks that stay than permits. Every taking, owned or plain, changes the word by a CAS from the value at
 *     which the marks were counted, and a mark is set before its CAS: of two that count on the same free permit the
 *     second fails. Marks that are set and not confirmed yet only make others think that there is less.
 * I2  OWNED is set once somebody owned a permit, and stays: without it there are no marks to count.
 * Sleeping: as in lock.c. Who gives something clears WAITERS and wakes one for each permit; who took after sleeping
 * leaves WAITERS, as others may sleep still, and wakes another where permits are left.
 * Edges: mark emptied (release), word changed (release) -> word seen (acquire), marks counted (acquire).
 * Crash: between mark and CAS: a mark without a permit, until recovery takes it; whoever waits looks for dead owners.
 * After it: owned, and given back by recovery. Everything else is one atomic step. Killed between a step and its
 * wake: slices, and the sign of life of owners. */
#include "sync/sync.h"

#include <cove/semaphore.h>
#include <errno.h>
#include <inttypes.h>

#define PERMITS UINT64_C(0x3fffffff)
#define OWNED UINT64_C(0x40000000)
#define WAITERS UINT64_C(0x80000000)
#define SEQUENCE (UINT64_C(1) << 32)
#define SPINS 100

_Static_assert(PERMITS == COVE_SEMAPHORE_MAX, "the public limit");

static _Atomic uint64_t *word_of(cove_semaphore *semaphore)
{
    return (_Atomic uint64_t *)(void *)&semaphore->word;
}

static uint64_t mark_of(const struct cove_segment *segment, const cove_semaphore *semaphore)
{
    return COVEI_HELD(COVEI_HELD_PERMIT, covei_offset(segment, semaphore));
}

/* Permits that are free as of that word. */
static int64_t free_permits(const struct cove_segment *segment, uint64_t word, uint64_t mark)
{
    int64_t owned = word & OWNED ? covei_marks_count(segment, mark, COVEI_NO_LANE, NULL) : 0;
    return (int64_t)(word & PERMITS) - owned;
}

/* `count` permits may have become free. */
static void wake_some(_Atomic uint64_t *word, uint64_t old, uint32_t count)
{
    if (old & WAITERS)
        (void)covei_os->wake(covei_lock_futex(word), count > INT32_MAX ? INT32_MAX : (int32_t)count);
}

/* A permit came back, or a mark that kept others from one is gone. */
static void tell_of_one(_Atomic uint64_t *word)
{
    atomic_thread_fence(memory_order_seq_cst); /* the emptied mark, then the look at WAITERS */
    if (atomic_load_explicit(word, memory_order_relaxed) & WAITERS)
        /* release: who finds the bit gone counts the marks without ours. */
        wake_some(word, atomic_fetch_and_explicit(word, ~WAITERS, memory_order_acq_rel), 1);
}

void covei_semaphore_mark_gone(struct cove_segment *segment, uint64_t offset, bool died)
{
    cove_semaphore *semaphore = covei_address(segment, offset);
    tell_of_one(word_of(semaphore));
    if (died) /* it may have cleared WAITERS and woken nobody */
        (void)covei_os->wake(covei_lock_futex(word_of(semaphore)), 1);
}

/* ---- taking */

/* One attempt to get a permit. */
struct taking {
    struct covei_lane *lane;
    _Atomic uint64_t *word;
    uint64_t mark;
    bool owned;
    int64_t deadline; /* at the gate of a durable segment; 0: do not wait */
    uint64_t seen; /* the word, when no permit was free */
};

static bool take_plain(struct taking *taking, uint64_t waiters)
{
    uint64_t word = atomic_load_explicit(taking->word, memory_order_acquire);
    while (free_permits(taking->lane->segment, word, taking->mark) > 0)
        /* acq_rel: as a lock, in case it serves as one. */
        if (atomic_compare_exchange_weak_explicit(taking->word, &word, (word - 1) | waiters, memory_order_acq_rel,
                                                  memory_order_acquire))
            return true;
    taking->seen = word;
    return false;
}

/* Whoever owns a permit is in the middle of something, as with a lock: others may wait for it with locks in hand, and he
 * has to get on. So he passes the gate before. 0, or as a lock that cannot be had, with the mark gone. */
static COVEI_COLD int pass_gate(struct taking *taking, uint32_t place)
{
    struct covei_lane_shm *shm = taking->lane->shm;
    int64_t left = taking->deadline == 0 ? COVE_NOWAIT : covei_wait_left(taking->deadline);
    uint64_t waits_for = atomic_load_explicit(&shm->waits_for, memory_order_relaxed); /* this thread's own */
    int result = covei_gate_pass(taking->lane, place, taking->mark, taking->deadline != 0 && left == 0 ? 1 : left);
    atomic_store_explicit(&shm->waits_for, waits_for, memory_order_release);
    if (result == 0)
        return 0;
    covei_mark_clear(taking->lane, place);
    tell_of_one(taking->word);
    return result;
}

/* The permit is free as of taking->seen: 1: it is ours, 0: it is not any more, or -ENOLCK. */
static int mark_and_confirm(struct taking *taking, uint64_t waiters)
{
    uint32_t place = covei_mark_set(taking->lane, taking->mark);
    if (place == COVEI_LANE_LOCKS)
        return -ENOLCK;
    int passed = taking->lane->segment->durable ? pass_gate(taking, place) : 0;
    if (passed < 0)
        return passed;
    uint64_t word = taking->seen;
    do {
        /* acq_rel, I1: the mark is seen by who sees the sequence. */
        if (atomic_compare_exchange_strong_explicit(taking->word, &word, (word + SEQUENCE) | OWNED | waiters,
                                                    memory_order_acq_rel, memory_order_acquire))
            return 1;
        /* Our mark is among them; and without OWNED nobody counts it. */
    } while (free_permits(taking->lane->segment, word | OWNED, taking->mark) >= 0);
    covei_mark_clear(taking->lane, place);
    tell_of_one(taking->word); /* somebody may have counted it */
    return 0;
}

static int take_owned(struct taking *taking, uint64_t waiters)
{
    for (;;) {
        taking->seen = atomic_load_explicit(taking->word, memory_order_acquire);
        if (free_permits(taking->lane->segment, taking->seen, taking->mark) <= 0)
            return 0;
        int result = mark_and_confirm(taking, waiters);
        if (result != 0)
            return result;
    }
}

/* 1: taken, 0: none is free, or an error. `waiters`: WAITERS where we slept. */
static int take(struct taking *taking, uint64_t waiters)
{
    int result = taking->owned ? take_owned(taking, waiters) : take_plain(taking, waiters);
    if (result == 1 && waiters) {
        uint64_t word = atomic_load_explicit(taking->word, memory_order_acquire);
        if (free_permits(taking->lane->segment, word, taking->mark) > 0)
            wake_some(taking->word, word, 1);
    }
    return result;
}

/* ---- waiting */

static int explain(const struct taking *taking, int result)
{
    const struct cove_segment *segment = taking->lane->segment;
    struct covei_watch owners = {.count = 0};
    uint32_t owned = covei_marks_count(segment, taking->mark, COVEI_NO_LANE, &owners);
    if (owned == 0)
        return covei_error(result, "%s: the semaphore has no permit left; somebody must post one", segment->name);
    char name[COVEI_LANE_NAME_BYTES];
    covei_lane_name(segment, owners.lanes[0], name);
    if (owned == 1)
        return covei_error(result, "%s: %s has the permit", segment->name, name);
    return covei_error(result, "%s: all %" PRIu32 " permits are taken, one by %s", segment->name, owned, name);
}

static int spin(struct taking *taking)
{
    int spins = covei_os->cpu_count() > 1 ? SPINS : 1, result = 0;
    for (int i = 0; i < spins && result == 0; i++) {
        covei_relax();
        if ((atomic_load_explicit(taking->word, memory_order_relaxed) ^ taking->seen) != 0)
            result = take(taking, 0);
    }
    return result;
}

static int take_in_slices(struct taking *taking, const struct covei_wait *wait)
{
    struct covei_lane *lane = taking->lane;
    struct cove_segment *segment = lane->segment;
    for (;;) {
        int result = take(taking, WAITERS);
        if (result != 0)
            return result;
        if (taking->seen & OWNED && covei_marks_bury(lane, taking->mark))
            continue;
        result = covei_wait_over(wait, segment);
        if (result < 0)
            return result == -ETIMEDOUT ? explain(taking, result) : result;
        uint64_t word = taking->seen;
        if (!(word & WAITERS)) {
            /* seq_cst, then count again: whoever empties a mark sees the bit, or we see the place empty. */
            (void)atomic_compare_exchange_strong_explicit(taking->word, &word, word | WAITERS, memory_order_seq_cst,
                                                          memory_order_relaxed);
            atomic_thread_fence(memory_order_seq_cst);
            continue;
        }
        struct covei_watch owners = {.count = 0};
        if (word & OWNED)
            (void)covei_marks_count(segment, taking->mark, lane->id - 1, &owners);
        lane->waited++;
        covei_wait_sleep(segment, wait, (_Atomic uint32_t *)(void *)covei_lock_futex(taking->word), (uint32_t)word,
                         &owners, COVE_FOREVER);
    }
}

/* This waiter gives up. The wake-up of a permit may have been his, and WAITERS went with it: others may sleep still.
 * */
static void pass_on(const struct taking *taking)
{
    uint64_t word = atomic_fetch_or_explicit(taking->word, WAITERS, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    if (free_permits(taking->lane->segment, word, taking->mark) > 0)
        tell_of_one(taking->word);
}

static int take_slowly(struct taking *taking, int64_t timeout_ns)
{
    struct covei_lane *lane = taking->lane;
    int result = take(taking, 0);
    if (result != 0)
        return result;
    if (timeout_ns <= 0) {
        if (taking->seen & OWNED && covei_marks_bury(lane, taking->mark))
            result = take(taking, 0);
        return result != 0 ? result : explain(taking, -EBUSY);
    }
    result = spin(taking);
    if (result != 0)
        return result;
    struct covei_wait wait;
    covei_wait_start(&wait, lane, timeout_ns);
    covei_wait_note(lane, COVEI_HELD(COVEI_WAITS_PERMIT, COVEI_HELD_OFFSET(taking->mark)));
    result = take_in_slices(taking, &wait);
    covei_wait_done(lane);
    lane->saw_held_ns = covei_os->now() - wait.begun;
    if (result < 0)
        pass_on(taking);
    return result;
}

static int take_public(cove_segment *segment, cove_semaphore *semaphore, bool owned, int64_t timeout_ns)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, semaphore, sizeof *semaphore, "semaphore");
    if (result < 0)
        return result;
    call.waits = &semaphore->waits;
    call.longest_us = &semaphore->longest_us;
    struct taking taking = {.lane = call.lane,
                            .word = word_of(semaphore),
                            .mark = mark_of(call.segment, semaphore),
                            .owned = owned,
                            .deadline = call.segment->durable && timeout_ns > 0 ? covei_wait_begin(timeout_ns) : 0};
    result = take_slowly(&taking, timeout_ns);
    return covei_call_end(&call, result < 0 ? result : 0);
}

int cove_semaphore_acquire(cove_segment *segment, cove_semaphore *semaphore, int64_t timeout_ns)
{
    return take_public(segment, semaphore, true, timeout_ns);
}

/* Where a permit is free and nobody ever owned one: as take_plain. */
COVEI_HOT int cove_semaphore_wait(cove_segment *segment, cove_semaphore *semaphore, int64_t timeout_ns)
{
    if (covei_cached(segment)) {
        uint64_t offset = covei_offset(segment, semaphore);
        if (COVEI_LIKELY(covei_word_inside(segment, offset) && covei_word_inside(segment, offset + 8))) {
            uint64_t word = atomic_load_explicit(word_of(semaphore), memory_order_relaxed); /* the CAS acquires */
            if (COVEI_LIKELY(!(word & OWNED) && (word & PERMITS) != 0) &&
                atomic_compare_exchange_strong_explicit(word_of(semaphore), &word, word - 1, memory_order_acq_rel,
                                                        memory_order_relaxed))
                return 0;
        }
    }
    return take_public(segment, semaphore, false, timeout_ns);
}

/* ---- giving */

int cove_semaphore_release(cove_segment *segment, cove_semaphore *semaphore)
{
    struct covei_call call = {0};
    int result = covei_call_begin(&call, segment, semaphore, sizeof *semaphore, "semaphore");
    if (result < 0)
        return result;
    uint32_t place = covei_mark_place(call.lane->shm, mark_of(call.segment, semaphore));
    if (place < COVEI_LANE_LOCKS)
        covei_held_release(call.lane, place);
    else
        result = covei_error(-EPERM, "%s: this thread owns no permit of that semaphore", call.segment->name);
    return covei_call_end(&call, result);
}

COVEI_HOT int cove_semaphore_post(cove_segment *segment, cove_semaphore *semaphore, uint32_t permits)
{
    int result = covei_call_light(&segment, semaphore, sizeof *semaphore);
    if (result < 0)
        return result;
    _Atomic uint64_t *word = word_of(semaphore);
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed); /* relaxed: the CAS orders */
    do
        if (permits > PERMITS - (old & PERMITS))
            return -EOVERFLOW;
    while (permits > 0 && /* release: what was done before is seen by who takes a permit */
           !atomic_compare_exchange_weak_explicit(word, &old, (old + permits) & ~WAITERS, memory_order_release,
                                                  memory_order_relaxed));
    if (permits > 0)
        wake_some(word, old, permits);
    return 0;
}

int64_t cove_semaphore_value(cove_segment *segment, const cove_semaphore *semaphore)
{
    if (!segment)
        segment = cove_segment_of(semaphore);
    int result = covei_segment_usable(segment);
    if (result < 0)
        return result;
    if (!covei_user_address(segment, semaphore, sizeof *semaphore, 8))
        return covei_error(-EINVAL, "%s: %p is no place for a semaphore; it lies in the segment's memory, aligned to 8",
                           segment->name, (const void *)semaphore);
    const _Atomic uint64_t *word = (const _Atomic uint64_t *)(const void *)&semaphore->word;
    int64_t value = free_permits(segment, atomic_load_explicit(word, memory_order_acquire),
                                 mark_of(segment, semaphore));
    return value > 0 ? value : 0;
}
