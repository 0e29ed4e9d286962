/* recovery.c - what any living member does for a dead one: put back its half-made change, free what it held.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Two parts, since the first must wait for nothing: it runs inside a wait for a lock.
 *   Locks   for the dead lane that is waited for: undo the inner journal, undo the outer one, store the phase, free
 *   the locks, waking all.
 *   Settle  blocks allocated or doomed in its transactions, objects that it had open, blocks that were its own, its
 *   lanes, its row.
 *           This takes the locks of directory and heap in the recoverer's own name. Whoever did only the first part
 *           notes a debt and pays it at the end of its call, when it holds no lock of the library's.
 *
 * I1  One recoverer a row at a time: it holds the row's recovery byte, which the kernel drops when the recoverer
 *     dies, and within a process a mark in the handle (a process does not see its own locks).
 * I2  Each step can be done again from the start by the next recoverer: undo is idempotent (journal.c), locks are
 *     freed only where they still name the lane, settling takes its records off one by one together with their
 *     effects.
 * I3  A row is given away only when nothing of the dead member is left: its lanes are clean, its blocks freed.
 *
 * A dead lane is proved dead by its sign of life (its thread ran its last instruction) or by its row's byte; a dead
 * member by the byte, or by /proc. */
#include "segment/segment.h"

#include <errno.h>

#define DEBT_REST_NS INT64_C(100000000) /* until a debt that could not be paid is looked at again */
#define DEBT_PATIENCE_NS \
    INT64_C(10000000) /* how long a call that has done its work may be held up to clear up after the dead */

#define NAP_NS INT64_C(100000)

/* ---- who recovers */

static bool mark_row(struct cove_segment *segment, uint32_t row)
{
    bool marked = false;
    (void)pthread_mutex_lock(&segment->mutex);
    uint32_t *place = NULL;
    for (int i = 0; i < COVEI_DEBTS; i++) {
        if (segment->recovering[i] == row + 1) {
            place = NULL;
            break;
        }
        if (segment->recovering[i] == 0)
            place = &segment->recovering[i];
    }
    if (place) {
        *place = row + 1;
        marked = true;
    }
    (void)pthread_mutex_unlock(&segment->mutex);
    return marked;
}

static void unmark_row(struct cove_segment *segment, uint32_t row)
{
    (void)pthread_mutex_lock(&segment->mutex);
    for (int i = 0; i < COVEI_DEBTS; i++)
        if (segment->recovering[i] == row + 1)
            segment->recovering[i] = 0;
    (void)pthread_mutex_unlock(&segment->mutex);
}

static bool claim_recovery(struct cove_segment *segment, uint32_t row)
{
    if (!covei_sees_all(segment) || !mark_row(segment, row))
        return false;
    if (covei_os->lock_try(segment->lock_file, COVEI_BYTE_RECOVERY(row), true) == 0)
        return true;
    unmark_row(segment, row);
    return false;
}

static void drop_recovery(struct cove_segment *segment, uint32_t row)
{
    (void)covei_os->lock_drop(segment->lock_file, COVEI_BYTE_RECOVERY(row));
    unmark_row(segment, row);
}

/* ---- locks */

static void free_one_lock(struct cove_segment *segment, uint32_t id, uint64_t offset, uint64_t flags)
{
    if (offset % 8 != 0 || !covei_inside(segment, offset, 8))
        return; /* somebody scribbled */
    _Atomic uint64_t *word = covei_address(segment, offset);
    uint64_t value = atomic_load_explicit(word, memory_order_acquire);
    if ((value & COVEI_LOCK_OWNER) == id)
        covei_lock_give(segment, word, value, flags);
    else /* it may have died between giving the word back and waking the next */
        covei_lock_nudge(segment, word);
}

/* What is held by standing in held[] is given up by emptying the place; who waits is told after that. But that a barrier
 * is broken is told before, as nothing would tell it again. */
static void free_one_mark(struct cove_segment *segment, struct covei_lane_shm *shm, uint32_t place, uint64_t held,
                          bool died)
{
#ifdef COVE_PLANT_MARK_FIRST
    bool before = false;
#else
    bool before = COVEI_HELD_KIND(held) == COVEI_HELD_PARTY;
#endif
    if (before)
        covei_upper.mark_gone(segment, held, died);
    covei_order();
    atomic_store_explicit(&shm->held[place], 0, memory_order_release);
    covei_order();
    if (!died) /* the dead one's are counted down together: it may have died in between */
        atomic_store_explicit(&shm->marks, atomic_load_explicit(&shm->marks, memory_order_relaxed) - 1,
                              memory_order_release);
    if (!before)
        covei_upper.mark_gone(segment, held, died);
}

/* All but those whose places are in the mask `keep`; permits and memberships of barriers only of who `died`. */
static void free_locks(struct cove_segment *segment, struct covei_lane_shm *shm, uint32_t id, uint32_t keep,
                       uint64_t flags, bool died)
{
    if (died) /* before anybody is woken, who would find it waiting before him */
        atomic_store_explicit(&shm->waits_for, 0, memory_order_release);
    for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++) {
        uint64_t held = atomic_load_explicit(&shm->held[place], memory_order_relaxed);
        uint32_t kind = COVEI_HELD_KIND(held);
        if (held == 0 || keep & UINT32_C(1) << place ||
            (!died && (kind == COVEI_HELD_PERMIT || kind == COVEI_HELD_PARTY)))
            continue;
        if (kind != COVEI_HELD_WORD) {
            free_one_mark(segment, shm, place, held, died);
            continue;
        }
        free_one_lock(segment, id, held, flags);
        covei_order();
        atomic_store_explicit(&shm->held[place], 0, memory_order_relaxed);
    }
    if (died)
        atomic_store_explicit(&shm->marks, 0, memory_order_release); /* I3 of lane_shm.h: after the places */
}

static uint32_t phase_of(const struct covei_lane_shm *shm)
{
    return COVEI_TAILS_PHASE(atomic_load_explicit(&shm->tails, memory_order_relaxed));
}

void covei_lane_undo(struct covei_lane *lane, uint32_t keep, uint64_t flags)
{
    covei_outer_end(lane->segment, lane->shm);
    free_locks(lane->segment, lane->shm, lane->id, keep, flags, flags != 0);
}

void covei_lane_roll_back(struct covei_lane *lane)
{
    covei_inner_undo(lane->segment, lane->shm);
    if (lane->depth > 0)
        covei_lane_undo(lane, 0, COVEI_LOCK_RECOVERED);
    else
        free_locks(lane->segment, lane->shm, lane->id, 0, COVEI_LOCK_RECOVERED, true);
    lane->depth = lane->before = lane->marked = lane->effects = 0;
    covei_gate_leave(lane);
    lane->patience_ns = COVE_FOREVER;
    if (atomic_load_explicit(&lane->shm->tails, memory_order_relaxed) != 0)
        (void)covei_upper.settle_lane(lane, lane->shm); /* where it fails, tails tell */
}

/* The first part, for one lane. Under its row's recovery claim. */
static void free_dead_lane(struct cove_segment *segment, uint32_t index)
{
    struct covei_lane_shm *shm = &segment->lanes[index];
#ifdef COVE_PLANT_EARLY_FREE
    free_locks(segment, shm, index + 1, 0, COVEI_LOCK_RECOVERED, true);
#endif
#ifndef COVE_PLANT_NAIVE_RECOVERY
    covei_inner_undo(segment, shm);
    covei_outer_end(segment, shm);
#endif
    if (phase_of(shm) == COVEI_PHASE_ACTIVE)
        covei_tails_set_phase(shm, COVEI_PHASE_UNDONE);
    free_locks(segment, shm, index + 1, 0, COVEI_LOCK_RECOVERED, true);
    atomic_store_explicit(&shm->inside, 0, memory_order_release); /* what is left to do is done under locks */
}

static void note_debt(struct cove_segment *segment, uint32_t row)
{
    for (int i = 0; i < COVEI_DEBTS; i++) {
        uint32_t none = 0;
        if (atomic_load_explicit(&segment->debts[i], memory_order_relaxed) == row + 1 ||
            atomic_compare_exchange_strong_explicit(&segment->debts[i], &none, row + 1, memory_order_relaxed,
                                                    memory_order_relaxed))
            break; /* where there is no place the row is found by the next look at the roster */
    }
    atomic_store_explicit(&segment->has_debts, true, memory_order_relaxed); /* hints of this process to itself */
}

/* The row of the member that has the lane, or max_members. */
static uint32_t row_of_lane(const struct cove_segment *segment, uint32_t index)
{
    if (index >= segment->max_lanes)
        return segment->max_members;
    uint32_t owner = atomic_load_explicit(&segment->owners[index], memory_order_acquire);
    return owner == 0 || owner > segment->max_members ? segment->max_members : owner - 1;
}

static bool lane_dead(struct cove_segment *segment, uint32_t index, uint32_t row)
{
    return covei_lane_died(&segment->lanes[index]) || covei_row_dead(segment, row);
}

bool covei_recover_locks(struct covei_lane *lane, uint32_t index)
{
    struct cove_segment *segment = lane->segment;
    uint32_t row = row_of_lane(segment, index);
    /* We are settling another thread of that member: the claim is ours already. */
    if (lane->settling && row == lane->settling_row && lane_dead(segment, index, row)) {
        free_dead_lane(segment, index);
        return true;
    }
    if (row >= segment->max_members || !lane_dead(segment, index, row))
        return false;
    int cancel = covei_cancel_hold();
    if (!claim_recovery(segment, row)) {
        covei_cancel_restore(cancel);
        return false;
    }
    bool dead = row_of_lane(segment, index) == row && lane_dead(segment, index, row);
    if (dead) {
        free_dead_lane(segment, index);
        note_debt(segment, row);
    }
    drop_recovery(segment, row);
    covei_cancel_restore(cancel);
    return dead;
}

/* ---- settling */

/* free_dead_lane has been here: the bytes are back, the locks free. A thread that died since is left to the next
 * look. */
static bool is_undone(const struct covei_lane_shm *shm)
{
    return (phase_of(shm) == COVEI_PHASE_UNDONE || phase_of(shm) == COVEI_PHASE_COMMITTED) && !covei_lane_holds(shm) &&
           COVEI_TAILS_INNER(atomic_load_explicit(&shm->tails, memory_order_relaxed)) == 0;
}

/* The process is past its last instruction, but the kernel has not yet walked that thread's list of robust mutexes,
 * which leads through the lane: its memory must stay as it is for a moment. */
static bool still_listed(const struct cove_segment *segment, uint32_t index, uint32_t row)
{
    return covei_lane_life(&segment->lanes[index]) != NULL && !covei_lane_died(&segment->lanes[index]) &&
           row != segment->row && covei_os->lock_held(segment->region.file, COVEI_BYTE_ALIVE(row)) != 0;
}

static int settle_lanes(struct covei_lane *worker, uint32_t row, bool all, bool *any)
{
    struct cove_segment *segment = worker->segment;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    /* All locks first: settling waits for locks of the library's, which these lanes may hold. */
    for (uint32_t i = 0; i < lanes; i++)
        if (i + 1 != worker->id && row_of_lane(segment, i) == row && (all || covei_lane_died(&segment->lanes[i]))) {
            free_dead_lane(segment, i);
            *any = true;
        }
    for (uint32_t i = 0; *any && i < lanes; i++) {
        if (i + 1 == worker->id || row_of_lane(segment, i) != row || (!all && !covei_lane_died(&segment->lanes[i])))
            continue;
        if (!is_undone(&segment->lanes[i])) {
            if (all)
                return -EAGAIN;
            continue;
        }
        int result = covei_upper.settle_lane(worker, &segment->lanes[i]);
        if (result == 0 && still_listed(segment, i, row))
            result = -EAGAIN;
        if (result < 0)
            return result;
        atomic_store_explicit(&segment->lanes[i].life_at, 0, memory_order_relaxed); /* ordered by the release below */
        /* release: the lane is clean before it is free. */
        atomic_store_explicit(&segment->owners[i], 0, memory_order_release);
    }
    return 0;
}

static int settle_member(struct covei_lane *worker, uint32_t row, uint32_t generation)
{
    bool any = false;
    int result = settle_lanes(worker, row, true, &any);
    if (result == 0)
        result = covei_upper.settle_objects(worker, row, generation);
    if (result == 0)
        result = covei_upper.settle_row(worker, row);
    return result;
}

/* Under the recovery claim. */
static int recover_claimed(struct covei_lane *worker, uint32_t row)
{
    struct cove_segment *segment = worker->segment;
    uint64_t word = atomic_load_explicit(&segment->states[row], memory_order_acquire);
    if (!covei_row_used(word))
        return 0;
    if (!covei_row_dead(segment, row)) {
        bool any = false;
        int result = settle_lanes(worker, row, false, &any);
        return result < 0 ? result : any;
    }
    int result = settle_member(worker, row, COVEI_GENERATION_OF(word));
    if (result < 0)
        return result;
    /* release, edge R: nothing of the dead member is left when somebody takes the row. */
    atomic_store_explicit(&segment->states[row], COVEI_STATE_WORD(COVEI_GENERATION_OF(word), COVEI_ROW_RECOVERED),
                          memory_order_release);
    return 1;
}

/* The claim, and a way through the gate: who waits there must not have the claim, for which a copier may be waiting.
 * 1: the gate is to be left; 0: not; -EAGAIN: somebody else recovers it, or the gate stays shut. */
static int begin_recovery(struct covei_lane *worker, uint32_t row, int64_t patience_ns)
{
    int64_t deadline = covei_wait_begin(patience_ns);
    for (;;) {
        if (!claim_recovery(worker->segment, row))
            return -EAGAIN;
        int entered = covei_gate_try_enter(worker);
        if (entered >= 0)
            return entered;
        drop_recovery(worker->segment, row);
        if (covei_gate_wait_open(worker, covei_wait_left(deadline)) < 0)
            return -EAGAIN;
    }
}

int covei_recover_row(struct covei_lane *worker, uint32_t row, int64_t patience_ns)
{
    if (worker->settling || row >= worker->segment->max_members)
        return 0;
    int cancel = covei_cancel_hold();
    int entered = begin_recovery(worker, row, patience_ns);
    if (entered < 0) {
        covei_cancel_restore(cancel);
        return 0;
    }
    worker->settling = true;
    worker->settling_row = row;
    worker->patience_ns = patience_ns;
    int result = recover_claimed(worker, row);
    worker->settling = false;
    drop_recovery(worker->segment, row);
    if (entered)
        covei_gate_leave(worker);
    covei_cancel_restore(cancel);
    return result;
}

/* As begin_recovery, for who has the row's recovery byte and must not give up: -errno where it cannot be had again.
 * */
static int begin_inheriting(struct covei_lane *worker)
{
    struct cove_segment *segment = worker->segment;
    int entered;
    while ((entered = covei_gate_try_enter(worker)) < 0) {
        (void)covei_os->lock_drop(segment->lock_file, COVEI_BYTE_RECOVERY(segment->row));
        (void)covei_gate_wait_open(worker, COVE_FOREVER);
        int result;
        while ((result = covei_os->lock_try(segment->lock_file, COVEI_BYTE_RECOVERY(segment->row), true)) == -EAGAIN)
            covei_os->nap(NAP_NS);
        if (result < 0)
            return covei_error(result, "%s: locking a byte of the file failed: %s", segment->name,
                               cove_strerror(result));
    }
    return entered;
}

int covei_recover_inherited(struct covei_lane *worker)
{
    struct cove_segment *segment = worker->segment;
    uint64_t word = atomic_load_explicit(&segment->states[segment->row], memory_order_acquire);
    int entered = begin_inheriting(worker);
    if (entered < 0)
        return entered;
    worker->patience_ns = COVE_FOREVER;
    int result = settle_member(worker, segment->row, COVEI_GENERATION_OF(word));
    if (entered)
        covei_gate_leave(worker);
    return result;
}

void covei_recover_debts(struct covei_lane *worker)
{
    struct cove_segment *segment = worker->segment;
    if (COVEI_LIKELY(!atomic_load_explicit(&segment->has_debts, memory_order_relaxed)) || worker->settling)
        return;
    int64_t now = covei_os->now();
    if (now <
        atomic_load_explicit(&segment->debts_rest_until, memory_order_relaxed)) /* hints of this process to itself */
        return;
    char sentence[COVEI_ERROR_BYTES]; /* of the call that pays, and perhaps has failed */
    covei_error_save(sentence);
    atomic_store_explicit(&segment->has_debts, false, memory_order_relaxed);
    for (int i = 0; i < COVEI_DEBTS; i++) {
        uint32_t debt = atomic_exchange_explicit(&segment->debts[i], 0, memory_order_relaxed);
        if (debt != 0 && covei_recover_row(worker, debt - 1, DEBT_PATIENCE_NS) < 0) {
            note_debt(segment, debt - 1); /* somebody stands in the directory or the heap: not again in every call */
            atomic_store_explicit(&segment->debts_rest_until, now + DEBT_REST_NS, memory_order_relaxed);
        }
    }
    covei_error_restore(sentence);
}

bool covei_recover_free_lanes(struct cove_segment *segment)
{
    bool freed = false;
    for (uint32_t i = 0; i < segment->max_lanes; i++) {
        uint32_t row = row_of_lane(segment, i);
        if (row >= segment->max_members || !lane_dead(segment, i, row) || !claim_recovery(segment, row))
            continue;
        struct covei_lane_shm *shm = &segment->lanes[i];
        if (row_of_lane(segment, i) == row && lane_dead(segment, i, row) && phase_of(shm) == COVEI_PHASE_ACTIVE) {
            free_dead_lane(segment, i);
            uint64_t tails = atomic_load_explicit(&shm->tails, memory_order_relaxed);
            if (COVEI_TAILS_OUTER(tails) == 0 && shm->journal_block == 0 && shm->journal_next == 0 &&
                shm->journal_old == 0) {
                atomic_store_explicit(&shm->tails, 0, memory_order_relaxed);
                atomic_store_explicit(&shm->life_at, 0, memory_order_relaxed); /* both ordered by the release below */
                atomic_store_explicit(&segment->owners[i], 0, memory_order_release);
                freed = true;
            }
        }
        drop_recovery(segment, row);
    }
    return freed;
}

/* ---- looking for the dead */

static int recover_if_dead(struct cove_segment *segment, uint32_t row)
{
    if (!covei_row_dead(segment, row))
        return 0;
    struct covei_lane *worker = NULL;
    int result = covei_lane_get(&worker, segment);
    return result < 0 ? result : covei_recover_row(worker, row, DEBT_PATIENCE_NS);
}

void covei_recover_some(struct cove_segment *segment, uint32_t most)
{
    struct covei_header_shm *header = segment->header;
    uint32_t start = atomic_load_explicit(&header->scan_hint, memory_order_relaxed) % segment->max_members;
    uint32_t looked = 0, step = 0;
    for (; step < segment->max_members && looked < most; step++) {
        uint32_t row = (start + step) % segment->max_members;
        if (row == segment->row || !covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)))
            continue;
        looked++;
        (void)recover_if_dead(segment, row); /* whoever needs it meets the error itself */
    }
    /* a hint */
    atomic_store_explicit(&header->scan_hint, (start + step) % segment->max_members, memory_order_relaxed);
}

int64_t covei_recover_all(struct cove_segment *segment, int64_t patience_ns)
{
    int64_t count = 0;
    struct covei_lane *worker = NULL;
    int result = covei_lane_get(&worker, segment);
    if (result < 0)
        return result;
    for (uint32_t row = 0; row < segment->max_members; row++) {
        if (!covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)))
            continue;
        result = covei_recover_row(worker, row, patience_ns);
        if (result < 0)
            return result;
        count += result;
    }
    return count;
}
