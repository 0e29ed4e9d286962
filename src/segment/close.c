/* close.c - closing segments, and the end of a handle.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Closing gives back what was opened in the segment, this thread's lane, the row. A thread with a lane has a robust
 * mutex in the mapping, whose place the kernel and libc remember until the thread ends; so the mapping and the row
 * stay (LINGERING) until the last such thread is gone.
 *
 * Crash: closed, or a dead member, which others recover. */
#include "segment/build.h"

#include <errno.h>

void covei_child_add(struct cove_segment *segment, struct covei_child *child)
{
    (void)pthread_mutex_lock(&segment->mutex);
    child->previous = NULL;
    child->next = segment->children;
    if (child->next)
        child->next->previous = child;
    segment->children = child;
    (void)pthread_mutex_unlock(&segment->mutex);
}

static void unlink_child(struct cove_segment *segment, struct covei_child *child)
{
    if (child->previous)
        child->previous->next = child->next;
    else
        segment->children = child->next;
    if (child->next)
        child->next->previous = child->previous;
}

void covei_child_drop(struct cove_segment *segment, struct covei_child *child)
{
    unlink_child(segment, child);
}

void covei_child_remove(struct cove_segment *segment, struct covei_child *child)
{
    (void)pthread_mutex_lock(&segment->mutex);
    unlink_child(segment, child);
    (void)pthread_mutex_unlock(&segment->mutex);
}

static void close_children(struct cove_segment *segment)
{
    for (;;) {
        (void)pthread_mutex_lock(&segment->mutex);
        struct covei_child *child = segment->children;
        if (child)
            unlink_child(segment, child);
        (void)pthread_mutex_unlock(&segment->mutex);
        if (!child)
            return;
        child->close(child);
    }
}

/* Is a thread of ours in the middle of something? */
static bool is_busy(const struct cove_segment *segment)
{
    for (uint32_t i = 0; i < segment->max_lanes; i++) {
        if (atomic_load_explicit(&segment->owners[i], memory_order_relaxed) != segment->row + 1)
            continue; /* relaxed: our own lanes; a thread that takes one now races with the close */
        const struct covei_lane_shm *shm = &segment->lanes[i];
        uint64_t tails = atomic_load_explicit(&shm->tails, memory_order_relaxed);
        uint32_t phase = COVEI_TAILS_PHASE(tails);
        /* One that is over, and could not be settled, is left to recovery. */
        if ((tails != 0 && phase != COVEI_PHASE_UNDONE && phase != COVEI_PHASE_COMMITTED) || covei_lane_holds_lock(shm))
            return true;
    }
    struct covei_lane *lane = covei_thread.lanes;
    while (lane && lane->segment != segment)
        lane = lane->next;
    return lane && lane->depth > 0;
}

static void store_lingering(struct cove_segment *segment)
{
    /* release: LINGERING says that nothing is held any more. */
    atomic_store_explicit(&segment->states[segment->row], COVEI_STATE_WORD(segment->generation, COVEI_ROW_LINGERING),
                          memory_order_release);
}

/* No longer a member. LAST_OUT: whoever finds that no living member is left takes the name away; two that go at once
 * do so one after the other, so that one of them finds it. */
static void stop_being_member(struct cove_segment *segment)
{
    const struct covei_backend *backend = segment->region.backend;
    bool last_out = segment->header->lifetime == COVE_LAST_OUT && covei_can(backend, COVE_CAN_NAME);
    if (!covei_segment_owns(segment, segment->region.file) || !covei_segment_owns(segment, segment->lock_file)) {
        store_lingering(segment);
        return;
    }
    if (segment->durable)
        (void)covei_os->file_sync(segment->region.file); /* most of the work, while others may still open it */
    if ((!last_out && !segment->durable) ||
        covei_life_cycle_lock(segment->lock_file, segment->name, true, covei_wait_begin(COVEI_LIFE_CYCLE_NS)) < 0) {
        store_lingering(segment); /* where the byte could not be had, cove_gc finds the segment */
        return;
    }
    store_lingering(segment);
    bool alone = covei_roster_others(segment) == 0;
    if (alone && last_out && backend->leads_to(&segment->region, &segment->place))
        (void)covei_remove_name(&segment->region, &segment->place);
    else if (alone && segment->durable)
        covei_durable_end(segment);
    covei_life_cycle_unlock(segment->lock_file);
}

/* Nobody has it open and no thread has a lane: the handle ends. True for exactly one caller. Under the registry's
 * lock. */
static bool ends_now(struct cove_segment *segment)
{
    if (segment->opens != 0 || segment->lane_count != 0 || segment->closing || segment->inode == 0)
        return false;
    segment->closing = true; /* nobody finds it any more */
    return true;
}

static void leave(struct cove_segment *segment)
{
    if (!segment->left_over && segment->lock_file >= 0) /* else it goes as the dead go, and is recovered */
        covei_roster_release(segment);
    covei_handle_drop(segment);
}

void covei_handle_lane_begins(struct cove_segment *segment)
{
    covei_registry_lock();
    segment->lane_count++;
    covei_registry_unlock();
}

void covei_handle_lane_ends(struct cove_segment *segment)
{
    covei_registry_lock();
    segment->lane_count--;
    bool ends = ends_now(segment);
    covei_registry_unlock();
    if (ends)
        leave(segment);
}

/* No thread of ours is a party of a barrier any more. (Who uses one while the segment closes makes a mistake.) */
static void leave_barriers(struct cove_segment *segment)
{
    for (uint32_t i = 0; i < segment->max_lanes; i++)
        /* relaxed: our own lanes. */
        if (atomic_load_explicit(&segment->owners[i], memory_order_relaxed) == segment->row + 1)
            covei_lane_leave_barriers(&segment->lanes[i]);
}

static void close_last(struct cove_segment *segment)
{
    leave_barriers(segment);
    covei_recover_some(segment, COVEI_ROWS_LOOKED_AT);
    struct covei_lane *lane = NULL;
    int settled = covei_lane_get(&lane, segment);
    if (settled == 0) {
        lane->patience_ns = COVE_FOREVER;
        settled = covei_upper.settle_row(lane, segment->row); /* what was allocated and not kept goes back */
    }
    segment->left_over = settled < 0;
    stop_being_member(segment);
    covei_registry_lock();
    segment->opens = 0;
    segment->closing = false;
    /* The shortest paths find everything outside; the longer ones look at `closed`. */
    atomic_store_explicit(&segment->known_size, segment->heap_at, memory_order_relaxed);
    atomic_store_explicit(&segment->closed, true, memory_order_relaxed); /* guarded by the registry */
    bool ends = !lane && ends_now(segment);
    covei_registry_unlock();
    if (lane)
        covei_lane_release(lane); /* ends the handle too, if it was the last */
    else if (ends)
        leave(segment);
}

/* Somebody truncated the file under us: what is mapped is private memory by now, in part. To the others we died. */
static int close_broken(struct cove_segment *segment)
{
    bool last = segment->opens <= 1;
    if (last) {
        while (segment->children) {
            struct covei_child *child = segment->children;
            unlink_child(segment, child);
            child->forget(child);
        }
        covei_registry_lock();
        segment->opens = 0;
        if (segment->alive_file >= 0 && segment->alive_file != segment->lock_file)
            covei_os->file_close(segment->alive_file);
        if (segment->lock_file >= 0)
            covei_os->file_close(segment->lock_file);
        segment->lock_file = segment->alive_file = -1;
        bool ends = ends_now(segment);
        covei_registry_unlock();
        if (ends)
            covei_handle_drop(segment);
    } else
        segment->opens--;
    return 0;
}

/* In a forked child: what it inherited is a copy of the parent's handle, not a membership, and as often opened.
 * (segment->mutex may have been locked by a thread that is not here, and there is no other.) */
static int close_inherited(struct cove_segment *segment)
{
    if (segment->opens > 1) {
        segment->opens--;
        return 0;
    }
    while (segment->children) {
        struct covei_child *child = segment->children;
        unlink_child(segment, child);
        child->forget(child);
    }
    covei_lane_forget(segment);
    covei_handle_drop(segment);
    return 0;
}

/* Count the open back. True for the last: then nobody can open the handle again until it is closed. */
static bool begin_close(struct cove_segment *segment)
{
    covei_registry_lock();
    bool last = segment->opens == 1;
    if (last)
        segment->closing = true;
    else
        segment->opens--;
    covei_registry_unlock();
    return last;
}

static int refuse_close(struct cove_segment *segment)
{
    covei_registry_lock();
    segment->closing = false;
    covei_registry_unlock();
    return covei_error(-EBUSY, "%s: a thread is inside a transaction or holds a lock; commit or unlock first",
                       segment->name);
}

int cove_close(cove_segment *segment)
{
    if (!segment)
        return 0;
    int result = covei_segment_usable(segment);
    if (result == COVE_ETRUNCATED)
        return close_broken(segment);
    if (result == COVE_EFORKED)
        return close_inherited(segment);
    if (result < 0)
        return result;
    if (segment->flags & COVE_READONLY) {
        covei_handle_drop(segment);
        return 0;
    }
    if (!begin_close(segment))
        return 0;
    if (is_busy(segment))
        return refuse_close(segment);
    close_children(segment);
    close_last(segment);
    return 0;
}
