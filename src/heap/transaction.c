/* transaction.c - begin, save, commit, abort; and what recovery does with the blocks of a dead transaction.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The outer journal holds, in the order in which they happened, old bytes, blocks allocated and blocks doomed. The
 * phase, in the same word as the journal's length, decides what becomes of them:
 *
 *     ACTIVE     bytes go back, then UNDONE
 *     UNDONE     allocated blocks are freed, doomed ones spared; each record goes with its effect, in one step
 *     COMMITTED  doomed blocks are freed, allocated ones stay; likewise
 *
 * Locks are freed after the phase is stored and before blocks are freed: freeing needs the heap's lock and may take
 * long.
 *
 * T1  Whoever settles a lane reads its `tails` only under the heap's lock. A settler that dies leaves its own inner
 *     journal, which holds both the heap's words and that lane's `tails`, and the heap's lock; whoever gets the lock
 *     next has undone both.
 *
 * Growth of the journal: a larger block is allocated into journal_next, the records are copied, journal_old and then
 * journal_block take their new values, journal_next is cleared, the old block freed. A kill between any two leaves up
 * to three fields, two of which may name the same block; all records stay where journal_block (or the lane itself)
 * has them. */
#include "heap/heap.h"

#include <cove/transaction.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* ---- growth of the journal */

static int written_over(const struct covei_lane *lane)
{
    return covei_error(COVE_ECORRUPT, "%s: somebody wrote over this thread's journal", lane->segment->name);
}

static int move_journal(struct covei_lane *lane, uint64_t offset, uint64_t capacity)
{
    struct covei_lane_shm *shm = lane->shm;
    uint64_t *units = covei_address(lane->segment, offset);
    uint64_t used = COVEI_TAILS_OUTER(atomic_load_explicit(&shm->tails, memory_order_relaxed));
    if (used > lane->outer_capacity)
        return written_over(lane);
    units[0] = capacity;
    memcpy(units + 1, lane->outer, (size_t)used * 8); /* not what the lane says now: the place that was looked at */
    covei_order();
    shm->journal_old = shm->journal_block;
    covei_order();
    shm->journal_block = offset;
    covei_order();
    shm->journal_next = 0;
    covei_order();
    covei_outer_locate(lane);
    return covei_free_internal(lane, &shm->journal_old);
}

int covei_outer_reserve(struct covei_lane *lane, uint64_t units)
{
    if (covei_outer_has_room(lane, units))
        return 0;
    uint64_t capacity = covei_max(2 * lane->outer_capacity, lane->outer_capacity + units);
    uint64_t offset = 0;
    int result = covei_alloc(lane, COVEI_ALLOC_INTERNAL, 8 + capacity * 8, 16, &lane->shm->journal_next, &offset);
    if (result == 0)
        result = move_journal(lane, offset, capacity);
    if (result == 0 && !covei_outer_has_room(lane, units)) /* how much it holds stands in shared memory */
        result = written_over(lane);
    return result;
}

/* ---- the transaction */

static int settle_own(struct covei_lane *lane)
{
    lane->patience_ns = COVE_FOREVER;
    int result = covei_settle_lane(lane, lane->shm);
    covei_outer_locate(lane);
    return result;
}

/* What stands in held[] is another member's to write, too: an offset of a lock word, or somebody scribbled. */
static bool is_lock(const struct covei_lane *lane, uint64_t offset)
{
    return COVEI_LIKELY(offset % 8 == 0 && covei_inside(lane->segment, offset, 8));
}

static uint64_t generation_at(const struct covei_lane *lane, uint64_t offset)
{
    if (!is_lock(lane, offset))
        return 0;
    const _Atomic uint64_t *word = covei_address(lane->segment, offset);
    return COVEI_LOCK_GENERATION(atomic_load_explicit(word, memory_order_relaxed)); /* we hold it */
}

int covei_begin(struct covei_lane *lane)
{
    if (lane->depth > 0) {
        lane->depth++;
        return 0;
    }
    /* Left over where an earlier end could not be settled: nothing may be built on it. */
    if (COVEI_UNLIKELY(covei_tails_load(lane->shm) != 0)) {
        int result = settle_own(lane);
        if (result < 0)
            return result;
    }
    if (COVEI_UNLIKELY(lane->segment->durable))
        covei_gate_enter(lane);
    lane->depth = 1;
    lane->before = 0;
    for (uint32_t place = 0; place < lane->places; place++) {
        uint64_t offset = atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed); /* this thread's own */
        if (offset != 0) {
            lane->before |= UINT32_C(1) << place;
            lane->earlier[place].offset = offset;
            lane->earlier[place].generation = generation_at(lane, offset);
        }
    }
    return 0;
}

/* The places of locks that were taken before the transaction, have not been given back since, and are not to be at
 * its end. A place may have been emptied and filled again; the lock's generation tells. */
static uint32_t kept_locks(const struct covei_lane *lane)
{
    uint32_t kept = 0;
    for (uint32_t left = lane->before & ~lane->marked; left != 0; left &= left - 1) {
        uint32_t place = (uint32_t)__builtin_ctz(left);
        uint64_t offset = atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed);
        if (offset == lane->earlier[place].offset && generation_at(lane, offset) == lane->earlier[place].generation)
            kept |= UINT32_C(1) << place;
    }
    return kept;
}

int covei_save(struct covei_lane *lane, void *address, uint64_t size_bytes)
{
    uint64_t units = covei_record_units(size_bytes);
    if (COVEI_UNLIKELY(!covei_outer_has_room(lane, units))) {
        int result = covei_outer_reserve(lane, units);
        if (result < 0)
            return result;
    }
    covei_outer_write_around(lane, covei_offset(lane->segment, address), size_bytes);
    covei_outer_append(lane, units);
    return 0;
}

static void release_locks(struct covei_lane *lane)
{
    uint32_t kept = kept_locks(lane);
    for (uint32_t place = lane->places; place-- > 0;) {
        uint64_t offset = atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed);
        if (offset == 0 || kept & UINT32_C(1) << place)
            continue;
        if (is_lock(lane, offset))
            covei_lock_release(lane->shm, lane->id, offset, covei_address(lane->segment, offset));
        else
            atomic_store_explicit(&lane->shm->held[place], 0, memory_order_relaxed);
    }
    lane->places = kept ? lane->places : 1;
}

static void end_transaction(struct covei_lane *lane)
{
    lane->depth = lane->before = lane->marked = lane->effects = 0;
    if (COVEI_UNLIKELY(lane->segment->durable))
        covei_gate_leave(lane);
}

int covei_commit(struct covei_lane *lane)
{
    if (lane->depth > 1) {
        lane->depth--;
        return 0;
    }
    bool plain = lane->effects == 0 && lane->shm->journal_block == 0;
    covei_order();
    if (plain) /* nothing but bytes: forgetting them is all. relaxed: towards survivors, program order is enough */
        atomic_store_explicit(&lane->shm->tails, 0, memory_order_relaxed);
    else
        covei_tails_set_phase(lane->shm, COVEI_PHASE_COMMITTED);
    covei_order();
    release_locks(lane);
    end_transaction(lane);
    if (plain)
        return 0;
    return settle_own(lane);
}

int covei_abort(struct covei_lane *lane)
{
    covei_lane_undo(lane, kept_locks(lane), 0);
    end_transaction(lane);
    return settle_own(lane);
}

/* ---- settling */

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

/* What a record means in a phase. A block that is none any more was spoilt by somebody: it is left. */
static void perform(struct covei_lane *worker, const struct covei_entry *entry, uint32_t phase)
{
    int result = 0;
    uint64_t marks = 0;
    if (entry->kind == COVEI_RECORD_BYTES || covei_block_size(worker->segment, entry->offset, &marks) == 0)
        return;
    if (entry->kind == (phase == COVEI_PHASE_COMMITTED ? COVEI_RECORD_DOOMED : COVEI_RECORD_ALLOCATED))
        result = covei_block_give(worker, entry->offset);
    else if (entry->kind == COVEI_RECORD_DOOMED)
        result = marks & COVEI_BLOCK_ORPHAN ? covei_block_give(worker, entry->offset)
                                            : covei_block_doom(worker, entry->offset, false);
    if (result < 0)
        covei_inner_abort(worker);
}

static void settle_records(struct covei_lane *worker, struct covei_lane_shm *target)
{
    for (;;) {
        uint64_t tails = atomic_load_explicit(&target->tails, memory_order_relaxed); /* T1 */
        uint64_t end = COVEI_TAILS_OUTER(tails);
        struct covei_entry entry;
        if (end == 0)
            return;
        if (covei_outer_read(worker->segment, target, end, &entry))
            perform(worker, &entry, COVEI_TAILS_PHASE(tails));
        else
            entry.units = end; /* somebody scribbled: there is nothing to go by */
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
static int settle_lock(struct covei_lane *worker)
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
    int result = settle_lock(worker);
    if (result < 0)
        return result;
    settle_records(worker, target);
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
    int result = settle_lock(worker);
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

/* ---- public */

static int no_transaction(const struct covei_lane *lane)
{
    return covei_error(-EINVAL, "%s: this thread is in no transaction; call cove_begin first", lane->segment->name);
}

static COVEI_COLD int begin_slowly(cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    return result < 0 ? result : covei_begin(lane);
}

/* Is this thread's lane in the state in which most transactions begin: nothing held, nothing left over? */
static inline bool is_fresh(const struct covei_lane *lane)
{
    /* relaxed: this thread's own. */
    return lane->depth == 0 && covei_tails_load(lane->shm) == 0 && lane->places == 1 &&
           atomic_load_explicit(&lane->shm->held[0], memory_order_relaxed) == 0;
}

int cove_begin(cove_segment *segment)
{
    if (covei_cached(segment)) {
        struct covei_lane *lane = covei_thread.lane;
        if (COVEI_LIKELY(is_fresh(lane) && !atomic_load_explicit(&segment->closed, memory_order_relaxed))) {
            lane->depth = 1;
            lane->before = 0;
            return 0;
        }
    }
    return begin_slowly(segment);
}

static COVEI_COLD int save_slowly(cove_segment *segment, void *address, size_t size_bytes)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result < 0)
        return result;
    if (lane->depth == 0)
        return no_transaction(lane);
    if (!covei_user_address(segment, address, size_bytes, 1))
        return covei_error(-EINVAL, "%s: %p (%zu bytes) does not lie in the segment's memory", segment->name, address,
                           size_bytes);
    return covei_save(lane, address, size_bytes);
}

int cove_save(cove_segment *segment, void *address, size_t size_bytes)
{
    if (covei_cached(segment)) {
        struct covei_lane *lane = covei_thread.lane;
        uint64_t from_heap = covei_offset(segment, address) - segment->heap_at;
        /* relaxed: a stale size only sends us the slow way. */
        uint64_t room = atomic_load_explicit(&segment->known_size, memory_order_relaxed) - segment->heap_at;
        /* A lock that is saved with its struct goes the longer way. */
        uint64_t lock = atomic_load_explicit(&lane->shm->held[0], memory_order_relaxed) - segment->heap_at;
        uint64_t tails = covei_tails_load(lane->shm), at = COVEI_TAILS_OUTER(tails);
        uint64_t units = covei_record_units(size_bytes);
        if (COVEI_LIKELY(lane->depth > 0 && from_heap < room && size_bytes <= room - from_heap && lane->places == 1 &&
                         lock - from_heap >= size_bytes && at + units <= lane->outer_capacity)) {
            uint64_t *record = lane->outer + at;
            covei_copy(record, address, size_bytes);
            record[units - 2] = (from_heap + segment->heap_at) | (uint64_t)COVEI_RECORD_BYTES << COVEI_KIND_SHIFT;
            record[units - 1] = size_bytes;
            covei_tails_store(lane->shm, tails + COVEI_TAILS(units, 0, 0)); /* J1 */
            return 0;
        }
    }
    return save_slowly(segment, address, size_bytes);
}

static COVEI_COLD int commit_slowly(cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (COVEI_UNLIKELY(result < 0))
        return result;
    if (COVEI_UNLIKELY(lane->depth == 0))
        return no_transaction(lane);
    result = covei_commit(lane);
    covei_recover_debts(lane);
    return result;
}

/* Nothing but bytes was saved, and at most one lock was taken, inside. As covei_commit, in the same order. */
int cove_commit(cove_segment *segment)
{
    if (covei_cached(segment)) {
        struct covei_lane *lane = covei_thread.lane;
        struct covei_lane_shm *shm = lane->shm;
        uint64_t offset = atomic_load_explicit(&shm->held[0], memory_order_relaxed); /* this thread's own */
        if (COVEI_LIKELY(lane->depth == 1 && lane->effects == 0 && lane->before == 0 && lane->places == 1 &&
                         shm->journal_block == 0 && (offset == 0 || covei_word_inside(segment, offset)) &&
                         !atomic_load_explicit(&segment->has_debts, memory_order_relaxed))) {
            covei_tails_store(shm, 0);
            if (offset != 0)
                covei_lock_release(shm, covei_thread.id, offset, covei_address(segment, offset));
            lane->depth = lane->marked = 0;
            return 0;
        }
    }
    return commit_slowly(segment);
}

int cove_abort(cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result < 0)
        return result;
    if (lane->depth == 0)
        return no_transaction(lane);
    result = covei_abort(lane);
    covei_recover_debts(lane);
    return result;
}
