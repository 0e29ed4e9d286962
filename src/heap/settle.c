/* settle.c - what becomes of the blocks of a transaction that is over, and of those that a member leaves.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * In phase UNDONE the blocks that the transaction allocated are freed and the doomed ones spared, in COMMITTED the
 * doomed ones are freed and the allocated ones stay. Each record is taken off the journal in the same step as its
 * effect: a kill leaves it done or to be done, never to be done twice. The lane's own thread does it at the end of
 * its transaction, a recoverer for the dead, in his own name; a part of a transaction that goes on is taken off in
 * the same way (join.c).
 *
 * T1  Whoever settles a lane reads its `tails` only under the heap's lock. A settler that dies leaves its own inner
 *     journal, which holds both the heap's words and that lane's `tails`, and the heap's lock; whoever gets the lock
 *     next has undone both. */
#include "heap/heap.h"

/* Take the last record off `target`'s outer journal, in the same step as what else is in the worker's inner journal.
 * */
static void commit_without(struct covei_lane *worker, struct covei_lane_shm *target, uint64_t units)
{
    if (target == worker->shm) {
        covei_inner_commit(worker, 0, units);
        return;
    }
    uint64_t tails = atomic_load_explicit(&target->tails, memory_order_relaxed);
    covei_inner_save(worker, &target->tails, sizeof target->tails);
    atomic_store_explicit(&target->tails, tails - COVEI_TAILS(units, 0, 0), memory_order_relaxed); /* T1 */
    covei_inner_commit(worker, 0, 0);
}

bool covei_spare_undone(struct covei_lane *lane, uint64_t offset)
{
    struct cove_segment *segment = lane->segment;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++) {
        const struct covei_lane_shm *shm = &segment->lanes[i];
        uint64_t tails = atomic_load_explicit(&shm->tails, memory_order_relaxed); /* T1 */
        struct covei_entry entry;
        if (COVEI_TAILS_PHASE(tails) != COVEI_PHASE_UNDONE)
            continue;
        for (uint64_t end = COVEI_TAILS_OUTER(tails); end > 0 && covei_outer_read(segment, shm, end, &entry);
             end -= entry.units)
            if (entry.kind == COVEI_RECORD_DOOMED && entry.offset == offset) {
                covei_outer_void(lane, &entry);
                return covei_block_doom(lane, offset, false) == 0;
            }
    }
    return false;
}

/* What a record of a block means in a phase; in ACTIVE, where a part of a transaction is undone, what it means in
 * UNDONE. A block that is none any more was spoilt by somebody: it is left. */
static void perform(struct covei_lane *worker, const struct covei_entry *entry, uint32_t phase)
{
    int result = 0;
    uint64_t marks = 0;
    if (covei_block_size(worker->segment, entry->offset, &marks) == 0)
        return;
    if (entry->kind == (phase == COVEI_PHASE_COMMITTED ? COVEI_RECORD_DOOMED : COVEI_RECORD_ALLOCATED))
        result = covei_block_give(worker, entry->offset);
    else if (entry->kind == COVEI_RECORD_DOOMED)
        result = marks & COVEI_BLOCK_ORPHAN ? covei_block_give(worker, entry->offset)
                                            : covei_block_doom(worker, entry->offset, false);
    if (result < 0)
        covei_inner_abort(worker);
}

/* Back from unit `end` to `from`: the newest record that wants something done in that phase. False: there is none.
 * `*end` becomes where it ends, or `from`. */
static bool find_effect(const struct covei_lane *worker, const struct covei_lane_shm *target, uint32_t phase,
                        uint64_t from, uint64_t *end, struct covei_entry *entry)
{
    for (; *end > from; *end -= entry->units) {
        if (!covei_outer_read(worker->segment, target, *end, entry) || entry->units > *end - from)
            break; /* somebody scribbled: there is nothing to go by */
        if (entry->kind != COVEI_RECORD_BYTES && (entry->kind != COVEI_RECORD_REVISION || phase == COVEI_PHASE_ACTIVE))
            return true;
    }
    *end = from;
    return false;
}

void covei_settle_records(struct covei_lane *worker, struct covei_lane_shm *target, uint64_t from)
{
    for (;;) {
        uint64_t tails = atomic_load_explicit(&target->tails, memory_order_relaxed); /* T1 */
        uint64_t length = COVEI_TAILS_OUTER(tails), end = length;
        struct covei_entry entry;
        bool found = find_effect(worker, target, COVEI_TAILS_PHASE(tails), from, &end, &entry);
        if (length > end)
            commit_without(worker, target, length - end);
        if (!found)
            return;
        if (entry.kind == COVEI_RECORD_REVISION)
            covei_revision_leave(worker, &entry, end - entry.units);
        else
            perform(worker, &entry, COVEI_TAILS_PHASE(tails));
        commit_without(worker, target, entry.units);
    }
}

/* Under the heap's lock: free the block that a field of a lane names. */
static void drop_journal(struct covei_lane *worker, uint64_t *field)
{
    if (*field == 0)
        return;
    if (covei_block_size(worker->segment, *field, NULL) != 0 && covei_block_give(worker, *field) < 0)
        covei_inner_abort(worker);
    covei_put(worker, field, 0);
    covei_inner_commit(worker, 0, 0);
}

static void drop_journals(struct covei_lane *worker, struct covei_lane_shm *target)
{
    if (target->journal_next == target->journal_block)
        target->journal_next = 0;
    if (target->journal_old == target->journal_block)
        target->journal_old = 0;
    covei_order();
    drop_journal(worker, &target->journal_next);
    drop_journal(worker, &target->journal_old);
    drop_journal(worker, &target->journal_block);
}

/* The heap's lock, for as long as the worker has patience; refused where the heap reaches beyond what is mapped here.
 * */
int covei_settle_lock(struct covei_lane *worker)
{
    struct covei_heap_shm *heap = covei_heap(worker->segment);
    int result = covei_lock_take(worker, &heap->lock, worker->patience_ns);
    if (result < 0 || heap->end <= worker->segment->mapped_bytes)
        return result;
    covei_lock_drop(worker, &heap->lock);
    return covei_sees_too_little(worker->segment);
}

int covei_settle_lane(struct covei_lane *worker, struct covei_lane_shm *target)
{
    struct covei_heap_shm *heap = covei_heap(worker->segment);
    int result = covei_settle_lock(worker);
    if (result < 0)
        return result;
    covei_settle_records(worker, target, 0);
    drop_journals(worker, target);
    covei_order();
    atomic_store_explicit(&target->tails, 0, memory_order_relaxed); /* T1; there is nothing left to undo */
    covei_lock_drop(worker, &heap->lock);
    return 0;
}

int covei_settle_row(struct covei_lane *worker, uint32_t row)
{
    struct cove_segment *segment = worker->segment;
    struct covei_heap_shm *heap = covei_heap(segment);
    int result = covei_settle_lock(worker);
    if (result < 0)
        return result;
    struct covei_row_shm *shm = &segment->rows[row];
    uint64_t limit = segment->mapped_bytes / sizeof(struct covei_block_shm);
    for (uint64_t i = 0; shm->pending != 0 && i <= limit; i++) {
        uint64_t offset = shm->pending + sizeof(struct covei_block_shm), marks = 0;
        bool block = covei_block_size(segment, offset, &marks) != 0;
        if (!block ||
            (marks & COVEI_BLOCK_DOOMED ? covei_block_orphan(worker, offset) : covei_block_give(worker, offset)) < 0) {
            covei_inner_abort(worker);
            break; /* somebody scribbled: the rest of the list cannot be found */
        }
        covei_inner_commit(worker, 0, 0);
    }
    shm->pending = 0;
    covei_lock_drop(worker, &heap->lock);
    return 0;
}
