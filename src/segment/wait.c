/* wait.c - sleeping until something changes, somebody dies, or the process is told to stop waiting.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * All waits of the library sleep here, on several words at once where the system can: what they wait for, the signs
 * of life of those who have it, and a word of this process that cove_interrupt changes.
 *
 * A wake-up can be lost: its sender is killed between the store and the wake, or the woken one before it took what it
 * was woken for. The first is told by the sender's sign of life, where he had what was waited for; for the rest sleep
 * goes in slices. A slice is 10 ms, and an eighth of the time waited so far once that is more: who waits for hours looks
 * four times a second.
 * Crash: nothing of this is in the segment but what a lane says that it waits for, which recovery clears. */
#include "segment/segment.h"

#include <cove/sync.h>
#include <errno.h>

#define SLICE_MIN_NS INT64_C(10000000) /* 10 ms: a nearer timer costs each sleep some microseconds */
#define SLICE_MAX_NS INT64_C(250000000) /* 250 ms */
#define SLICE_BLIND_NS INT64_C(10000000) /* 10 ms: where a death would not wake us */
#define SLICE_DEAF_NS INT64_C(50000000) /* 50 ms: where cove_interrupt would not wake us */
#define SLICE_PART 8

_Atomic uint32_t covei_interrupts;
static _Atomic bool one_word_only; /* the system cannot wait for several */

int cove_interrupt(void)
{
    /* seq_cst: who begins to sleep after this sees it, or is woken. */
    atomic_fetch_add_explicit(&covei_interrupts, 1, memory_order_seq_cst);
    (void)covei_os->wake((void *)&covei_interrupts, INT32_MAX);
    return 0;
}

void covei_wait_start(struct covei_wait *wait, const struct covei_lane *lane, int64_t timeout_ns)
{
    wait->lane = lane;
    wait->begun = covei_os->now();
    wait->deadline = timeout_ns >= INT64_MAX - wait->begun ? INT64_MAX : wait->begun + timeout_ns;
    wait->interruptible = lane->interruptible;
    wait->interrupts = lane->interruptible ? lane->interrupts
                                           : atomic_load_explicit(&covei_interrupts, memory_order_acquire);
}

int covei_wait_over(const struct covei_wait *wait, const struct cove_segment *segment)
{
    if (covei_segment_broken(segment)) /* what is waited for is private memory by now, and nobody will change it */
        return covei_segment_usable(segment);
    if (wait->interruptible && atomic_load_explicit(&covei_interrupts, memory_order_acquire) != wait->interrupts)
        return covei_error(-EINTR, "%s: the wait was ended by cove_interrupt", segment->name);
    return covei_wait_left(wait->deadline) == 0 ? -ETIMEDOUT : 0;
}

void covei_watch_add(struct covei_watch *watch, uint32_t lane)
{
    if (watch->count < sizeof watch->lanes / sizeof *watch->lanes)
        watch->lanes[watch->count++] = lane;
    else
        watch->more = true;
}

/* What to sleep on. False: somebody whose death should wake us is not among it. */
static bool fill(struct cove_segment *segment, const struct covei_watch *watch, struct covei_park *parks,
                 uint32_t *count)
{
    bool all = !watch->more;
    for (uint32_t i = 0; i < watch->count; i++) {
        uint32_t value = 0;
        _Atomic uint32_t *life = covei_lane_watch(segment, watch->lanes[i], &value);
        if (life)
            parks[(*count)++] = (struct covei_park){(void *)life, value};
        else if (i < watch->count - watch->hints)
            all = false;
    }
    return all;
}

void covei_sleep(struct cove_segment *segment, _Atomic uint32_t *word, uint32_t expected,
                 const struct covei_watch *watch, int64_t slice_ns, uint32_t interrupts)
{
    struct covei_park parks[COVEI_PARKS_MAX] = {{(void *)word, expected}, {(void *)&covei_interrupts, interrupts}};
    uint32_t count = 2;
    bool all = fill(segment, watch, parks, &count);
    if (!all && slice_ns > SLICE_BLIND_NS)
        slice_ns = SLICE_BLIND_NS;
    /* relaxed: found out once, by each who tries. */
    if (!atomic_load_explicit(&one_word_only, memory_order_relaxed)) {
        int result = covei_os->park_any(parks, count, slice_ns);
        if (result >= 0 || result == -EAGAIN || result == -EINTR || result == -ETIMEDOUT)
            return;
        if (result == -ENOSYS)
            atomic_store_explicit(&one_word_only, true, memory_order_relaxed);
    } /* else the system has no such call, or a sandbox forbids it, with whatever error */
    int64_t most_ns = watch->count > 0 || watch->more ? SLICE_BLIND_NS : SLICE_DEAF_NS;
    if (slice_ns > most_ns)
        slice_ns = most_ns;
    (void)covei_os->park((void *)word, expected, slice_ns);
}

/* Others that wait for the same, as far as there are places: the next to have it may be one of them, who is woken while we
 * sleep on, and then his death has to wake somebody who looks. Each watches those whose lanes follow its own. */
static void watch_waiters(const struct cove_segment *segment, const struct covei_lane *lane, struct covei_watch *watch)
{
    /* relaxed throughout: hints. */
    uint64_t waits_for = atomic_load_explicit(&lane->shm->waits_for, memory_order_relaxed);
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    if (waits_for == 0 || COVEI_HELD_KIND(waits_for) == COVEI_WAITS_NEWS)
        return;
    for (uint32_t i = 0; i + 1 < lanes && watch->count < sizeof watch->lanes / sizeof *watch->lanes; i++) {
        uint32_t other = (lane->id + i) % lanes;
        if (atomic_load_explicit(&segment->owners[other], memory_order_relaxed) != 0 &&
            atomic_load_explicit(&segment->lanes[other].waits_for, memory_order_relaxed) == waits_for) {
            covei_watch_add(watch, other);
            watch->hints++;
        }
    }
}

void covei_wait_sleep(struct cove_segment *segment, const struct covei_wait *wait, _Atomic uint32_t *word,
                      uint32_t expected, const struct covei_watch *watch, int64_t most_ns)
{
    int64_t now = covei_os->now(), slice = (now - wait->begun) / SLICE_PART;
    slice = slice < SLICE_MIN_NS ? SLICE_MIN_NS : slice > SLICE_MAX_NS ? SLICE_MAX_NS : slice;
    if (slice > most_ns)
        slice = most_ns;
    if (slice > wait->deadline - now)
        slice = wait->deadline - now;
    uint32_t interrupts = wait->interruptible ? wait->interrupts
                                              : atomic_load_explicit(&covei_interrupts, memory_order_relaxed);
    if (slice <= 0)
        return;
    struct covei_watch all = *watch;
    if (slice > SLICE_MIN_NS)
        watch_waiters(segment, wait->lane, &all);
    covei_sleep(segment, word, expected, &all, slice, interrupts);
}

void covei_wait_note(struct covei_lane *lane, uint64_t waits_for)
{
    /* relaxed, release: who reads what is waited for reads since when. */
    atomic_store_explicit(&lane->shm->waits_since, covei_os->now(), memory_order_relaxed);
    atomic_store_explicit(&lane->shm->waits_for, waits_for, memory_order_release);
}

void covei_wait_done(struct covei_lane *lane)
{
    atomic_store_explicit(&lane->shm->waits_for, 0, memory_order_release);
}
