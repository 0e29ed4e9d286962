/* gate.c - holding up all who change a durable segment, while it is copied.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The gate is a lock word in the header. Who copies the segment (durable.c) holds it and then waits until nobody is
 * in the middle of anything. Whoever begins something says so first, then looks whether the gate is shut, and if it
 * is takes that back and waits; who is in the middle of something goes on to its end.
 *
 *     beginning                       says so in                 seen by the copier in
 *     a lock word                     held[] of the lane         covei_lane_idle
 *     a transaction                   inside, of the lane        likewise
 *     a stream's record or cursor     busy, of the end           objects_quiet, of its type
 *     recovering a dead member        inside, of the lane        covei_lane_idle
 *
 * Edge Q: say so, fence, gate loaded | gate taken, fence, that looked at. One of the two sees the other.
 * All that the library itself changes otherwise is changed under its lock words. Segments that are not durable have
 * no gate and pay a predicted branch.
 * Who recovers a dead member does not wait here while he keeps others from recovering it: the copier may be waiting
 * for that member's lane, and does it himself then.
 * Crash: the gate is a lock like any other; what a dead one said is cleared with its lane or by its type. */
#include "segment/segment.h"

#include <errno.h>

#define NAP_NS INT64_C(1000000)

static _Atomic uint64_t *gate_of(const struct cove_segment *segment)
{
    return &segment->header->gate_lock;
}

bool covei_gate_is_shut(const struct cove_segment *segment)
{
    /* seq_cst: total order of saying, gate | gate, looking (edge Q). */
    atomic_thread_fence(memory_order_seq_cst);
    return (atomic_load_explicit(gate_of(segment), memory_order_acquire) & COVEI_LOCK_OWNER) != 0;
}

/* Waiting at the gate, or to make a copy, is being in the middle of nothing. */
bool covei_lane_idle(const struct covei_lane_shm *shm)
{
    bool idle = atomic_load_explicit(&shm->tails, memory_order_acquire) == 0 &&
                atomic_load_explicit(&shm->inside, memory_order_acquire) == 0;
    for (uint32_t place = 0; idle && place < COVEI_LANE_LOCKS; place++) {
        uint64_t offset = atomic_load_explicit(&shm->held[place], memory_order_acquire);
        idle = offset == 0 || COVEI_HELD_KIND(offset) == COVEI_HELD_PARTY ||
               offset == offsetof(struct covei_header_shm, gate_lock) ||
               offset == offsetof(struct covei_header_shm, sync_lock);
    }
    return idle;
}

static bool shut_to(const struct covei_lane *lane)
{
    return covei_gate_is_shut(lane->segment) &&
           (atomic_load_explicit(gate_of(lane->segment), memory_order_relaxed) & COVEI_LOCK_OWNER) != lane->id;
}

/* Wait until the gate is open, by taking it for a moment. One that names nobody, since somebody wrote over it, is
 * opened: without a copier there is nothing to wait for, and a lock that cannot be had must not stop all others. */
static int wait_at(struct covei_lane *lane, int64_t timeout_ns)
{
    _Atomic uint64_t *gate = gate_of(lane->segment);
    uint64_t seen = atomic_load_explicit(gate, memory_order_acquire);
    int result = covei_lock_take(lane, gate, timeout_ns);
    if (result >= 0)
        covei_lock_drop(lane, gate);
    if (result == COVE_ECORRUPT) {
        uint64_t open = (COVEI_LOCK_GENERATION(seen) + 1) << 32;
        (void)atomic_compare_exchange_strong_explicit(gate, &seen, open, memory_order_acq_rel, memory_order_relaxed);
        (void)covei_os->wake(covei_lock_futex(gate), INT32_MAX);
    }
    return result < 0 ? result : 0;
}

int covei_gate_pass(struct covei_lane *lane, uint32_t place, uint64_t offset, int64_t timeout_ns)
{
    struct covei_lane_shm *shm = lane->shm;
    if (offset == covei_offset(lane->segment, gate_of(lane->segment)))
        return 0;
    atomic_store_explicit(&shm->held[place], 0, memory_order_relaxed);
    bool idle = covei_lane_idle(shm);
    atomic_store_explicit(&shm->held[place], offset, memory_order_release);
    int64_t deadline = timeout_ns > 0 ? covei_wait_begin(timeout_ns) : 0;
    while (idle && shut_to(lane)) {
        atomic_store_explicit(&shm->held[place], 0, memory_order_release);
        int64_t left = timeout_ns > 0 ? covei_wait_left(deadline) : COVE_NOWAIT;
        int result = wait_at(lane, timeout_ns > 0 && left == 0 ? 1 : left); /* -ETIMEDOUT, not -EBUSY */
        if (result < 0)
            return result;
        atomic_store_explicit(&shm->held[place], offset, memory_order_release);
    }
    return 0;
}

void covei_gate_enter(struct covei_lane *lane)
{
    struct covei_lane_shm *shm = lane->shm;
    bool idle = covei_lane_idle(shm);
    atomic_store_explicit(&shm->inside, 1, memory_order_release);
    while (idle && shut_to(lane)) {
        atomic_store_explicit(&shm->inside, 0, memory_order_release);
        if (wait_at(lane, COVE_FOREVER) < 0)
            covei_os->nap(NAP_NS); /* somebody scribbled over the gate: its holder's check will tell */
        atomic_store_explicit(&shm->inside, 1, memory_order_release);
    }
}

int covei_gate_try_enter(struct covei_lane *lane)
{
    struct covei_lane_shm *shm = lane->shm;
    if (!lane->segment->durable || !covei_lane_idle(shm))
        return 0;
    atomic_store_explicit(&shm->inside, 1, memory_order_release); /* edge Q */
    if (!shut_to(lane))
        return 1;
    atomic_store_explicit(&shm->inside, 0, memory_order_release);
    return -EAGAIN;
}

int covei_gate_wait_open(struct covei_lane *lane, int64_t timeout_ns)
{
    return wait_at(lane, timeout_ns);
}

void covei_gate_leave(struct covei_lane *lane)
{
    atomic_store_explicit(&lane->shm->inside, 0, memory_order_release); /* what was changed comes before */
}

void covei_gate_wait(struct cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    if (covei_lane_get(&lane, segment) < 0 || wait_at(lane, COVE_FOREVER) < 0)
        covei_os->nap(NAP_NS);
}
