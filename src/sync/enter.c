/* enter.c - the beginning and the end of public calls on locks and meeting points.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "sync/sync.h"

#include <errno.h>

static int no_segment(const void *thing, const char *what)
{
    return covei_error(-EINVAL, "%p is no place for a %s: it lies in no segment that this process has open", thing,
                       what);
}

int covei_call_begin(struct covei_call *call, cove_segment *segment, const void *thing, size_t bytes, const char *what)
{
    call->segment = segment ? segment : cove_segment_of(thing);
    if (!call->segment)
        return no_segment(thing, what);
    int result = covei_lane_get(&call->lane, call->segment);
    if (result < 0)
        return result;
    if (!covei_user_address(call->segment, thing, bytes, 8))
        return covei_error(-EINVAL, "%s: %p is no place for a %s; it lies in the segment's memory, aligned to 8 bytes",
                           call->segment->name, thing, what);
    call->lane->interruptible = true;
    call->lane->interrupts = atomic_load_explicit(&covei_interrupts, memory_order_acquire);
    call->lane->waited = 0;
    call->lane->saw_held_ns = 0;
    return 0;
}

/* Figures for people: what another adds at the same moment may be lost. */
static void add_figures(const struct covei_call *call)
{
    const struct covei_lane *lane = call->lane;
    if (lane->waited == 0)
        return;
    _Atomic uint32_t *waits = (_Atomic uint32_t *)(void *)call->waits;
    _Atomic uint32_t *longest = (_Atomic uint32_t *)(void *)call->longest_us;
    uint32_t us = (uint32_t)covei_min((uint64_t)lane->saw_held_ns / 1000, UINT32_MAX);
    if (waits)
        atomic_fetch_add_explicit(waits, 1, memory_order_relaxed);
    if (longest && us > atomic_load_explicit(longest, memory_order_relaxed))
        atomic_store_explicit(longest, us, memory_order_relaxed);
}

int covei_call_end(struct covei_call *call, int result)
{
    add_figures(call);
    call->lane->interruptible = false;
    covei_recover_debts(call->lane);
    /* Whatever it found it found in zeros. */
    return COVEI_UNLIKELY(covei_segment_broken(call->segment)) ? covei_segment_usable(call->segment) : result;
}

int covei_call_light(cove_segment **segment, const void *thing, size_t bytes)
{
    if (!*segment) /* takes a lock of this process: not for handlers */
        *segment = cove_segment_of(thing);
    if (!*segment)
        return -EINVAL;
    if (covei_segment_broken(*segment))
        return COVE_ETRUNCATED;
    if (!covei_segment_current(*segment))
        return COVE_EFORKED;
    if (atomic_load_explicit(&(*segment)->closed, memory_order_relaxed)) /* finds the plain mistakes */
        return COVE_ECLOSED;
    if ((*segment)->flags & COVE_READONLY)
        return -EPERM;
    return covei_user_address(*segment, thing, bytes, 8) ? 0 : -EINVAL;
}
