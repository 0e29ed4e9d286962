/* transaction.c - begin, save, commit, abort.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The outer journal holds, in the order in which they happened, old bytes, blocks allocated, blocks doomed, and
 * revisions made odd. The phase, in the same word as the journal's length, decides what becomes of them:
 *
 *     ACTIVE      bytes go back, then RESTORED; without revisions UNDONE at once
 *     RESTORED    revisions become even, then UNDONE
 *     UNDONE      allocated blocks are freed, doomed ones spared (settle.c)
 *     COMMITTING  revisions become even, then COMMITTED; without revisions it is left out
 *     COMMITTED   doomed blocks are freed, allocated ones stay (settle.c)
 *
 * The one store that commits is that of COMMITTING; without revisions that of COMMITTED; without either revisions or
 * blocks that of an empty journal. Locks are freed in UNDONE and COMMITTED, or with the journal empty, and before
 * blocks are freed: freeing needs the heap's lock and may take long.
 * Killed before that store: undone. Behind it: what is left to do recovery does (covei_outer_end, then settle.c).
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

/* Twice as large, so that many small saves copy each record twice at most; for a large one an eighth more than it
 * needs. Where there is not as much memory, just what is needed. */
int covei_outer_reserve(struct covei_lane *lane, uint64_t units)
{
    if (covei_outer_has_room(lane, units))
        return 0;
    uint64_t least = COVEI_TAILS_OUTER(covei_tails_load(lane->shm)) + units;
    uint64_t capacity = covei_max(2 * lane->outer_capacity, least + least / 8);
    uint64_t offset = 0;
    int result = covei_alloc(lane, COVEI_ALLOC_INTERNAL, 8 + capacity * 8, 16, &lane->shm->journal_next, &offset);
    if (result == -ENOSPC) {
        capacity = least;
        result = covei_alloc(lane, COVEI_ALLOC_INTERNAL, 8 + capacity * 8, 16, &lane->shm->journal_next, &offset);
    }
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
static inline bool is_lock(const struct covei_lane *lane, uint64_t offset)
{
    return COVEI_LIKELY(offset % 8 == 0 && covei_inside(lane->segment, offset, 8));
}

static inline uint64_t generation_at(const struct covei_lane *lane, uint64_t offset)
{
    if (!is_lock(lane, offset))
        return 0;
    const _Atomic uint64_t *word = covei_address(lane->segment, offset);
    return COVEI_LOCK_GENERATION(atomic_load_explicit(word, memory_order_relaxed)); /* we hold it */
}

static inline void note_earlier(struct covei_lane *lane, uint32_t place, uint64_t offset)
{
    lane->before |= UINT32_C(1) << place;
    lane->earlier[place].offset = offset;
    lane->earlier[place].generation = generation_at(lane, offset);
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
        if (offset != 0)
            note_earlier(lane, place, offset);
    }
    return 0;
}

/* Permits and memberships of barriers: a transaction has nothing to do with them. */
static COVEI_COLD uint32_t kept_marks(const struct covei_lane *lane)
{
    uint32_t kept = 0;
    for (uint32_t place = 0; place < lane->places; place++) {
        uint64_t held = atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed);
        if (COVEI_HELD_KIND(held) > COVEI_HELD_SHARED)
            kept |= UINT32_C(1) << place;
    }
    return kept;
}

/* The places of locks that were taken before the transaction, have not been given back since, and are not to be at
 * its end. A place may have been emptied and filled again; the lock's generation tells. */
static uint32_t kept_locks(const struct covei_lane *lane)
{
    /* relaxed: this thread's own. */
    uint32_t marks = atomic_load_explicit(&lane->shm->marks, memory_order_relaxed);
    uint32_t kept = COVEI_UNLIKELY(marks != 0) ? kept_marks(lane) : 0;
    for (uint32_t left = lane->before & ~lane->marked; left != 0; left &= left - 1) {
        uint32_t place = (uint32_t)__builtin_ctz(left);
        uint64_t offset = atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed);
        if (offset == lane->earlier[place].offset && generation_at(lane, offset) == lane->earlier[place].generation)
            kept |= UINT32_C(1) << place;
    }
    return kept;
}

/* Does a lock that this thread holds lie in that stretch? */
static bool holds_within(const struct covei_lane *lane, uint64_t offset, uint64_t size_bytes)
{
    for (uint32_t place = 0; place < lane->places; place++) {
        uint64_t held = atomic_load_explicit(&lane->shm->held[place], memory_order_relaxed);
        uint64_t word = COVEI_HELD_OFFSET(held), bytes = COVEI_HELD_KIND(held) == COVEI_HELD_SHARED ? 16 : 8;
        if (word + bytes > offset && word < offset + size_bytes)
            return true;
    }
    return false;
}

/* There is room, and the bytes are the segment's. (noinline: the short way has no use for more registers.) */
static __attribute__((noinline)) int save_here(struct covei_lane *lane, uint64_t offset, uint64_t size_bytes)
{
    if (COVEI_UNLIKELY(holds_within(lane, offset, size_bytes)))
        covei_outer_write_around(lane, offset, size_bytes);
    else
        (void)covei_outer_write(lane, 0, COVEI_RECORD_BYTES, offset, size_bytes);
    covei_outer_append(lane, covei_record_units(size_bytes));
    return 0;
}

int covei_save(struct covei_lane *lane, void *address, uint64_t size_bytes)
{
    int result = covei_outer_reserve(lane, covei_record_units(size_bytes));
    return result < 0 ? result : save_here(lane, covei_offset(lane->segment, address), size_bytes);
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
            covei_held_release(lane, place);
    }
    lane->places = kept ? lane->places : 1;
}

static void end_transaction(struct covei_lane *lane)
{
    lane->depth = lane->before = lane->marked = lane->effects = 0;
    lane->revisions = lane->floor = 0;
    lane->newest_revision = 0;
    lane->spoilt = false;
    if (COVEI_UNLIKELY(lane->segment->durable))
        covei_gate_leave(lane);
}

/* The bytes are final from the first store on; what remains is to say so. */
static COVEI_COLD void commit_revisions(struct covei_lane *lane)
{
    covei_tails_set_phase(lane->shm, COVEI_PHASE_COMMITTING);
    covei_revisions_settle(lane->segment, lane->shm, lane->newest_revision);
}

static COVEI_COLD int abort_spoilt(struct covei_lane *lane)
{
    (void)covei_abort(lane);
    return covei_error(
        -ECANCELED,
        "%s: the transaction was undone instead, since something in it failed and could not be undone by "
        "itself; begin it anew",
        lane->segment->name);
}

int covei_commit(struct covei_lane *lane)
{
    if (lane->depth > 1) {
        lane->depth--;
        return 0;
    }
    if (COVEI_UNLIKELY(lane->spoilt))
        return abort_spoilt(lane);
    bool blocks = lane->effects != lane->revisions, large = lane->shm->journal_block != 0;
    if (COVEI_UNLIKELY(lane->revisions != 0))
        commit_revisions(lane);
    if (blocks)
        covei_tails_set_phase(lane->shm, COVEI_PHASE_COMMITTED);
    else /* nothing but bytes: forgetting them is all. The phase is for who settles a large journal. */
        covei_tails_store(lane->shm, large ? COVEI_TAILS(0, COVEI_PHASE_COMMITTED, 0) : 0);
    release_locks(lane);
    end_transaction(lane);
    if (blocks || large)
        (void)settle_own(lane); /* done, whether or not all could be settled: the next to begin does the rest */
    return 0;
}

int covei_abort(struct covei_lane *lane)
{
    bool blocks = lane->effects != lane->revisions, large = lane->shm->journal_block != 0;
    uint32_t kept = kept_locks(lane);
    covei_lane_undo(lane, kept, 0);
    if (!blocks) /* the records mean nothing any more */
        covei_tails_store(lane->shm, large ? COVEI_TAILS(0, COVEI_PHASE_UNDONE, 0) : 0);
    lane->places = kept ? lane->places : 1;
    end_transaction(lane);
    if (blocks || large)
        (void)settle_own(lane); /* as above */
    return 0;
}

/* ---- public */

int covei_no_transaction(const struct covei_lane *lane)
{
    return covei_error(-EINVAL, "%s: this thread is in no transaction; call cove_begin first", lane->segment->name);
}

static COVEI_COLD int begin_slowly(cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    return result < 0 ? result : covei_begin(lane);
}

/* Most transactions begin where nothing is left over and at most one lock is held, in the first place. As
 * covei_begin, which takes all others. */
COVEI_HOT int cove_begin(cove_segment *segment)
{
    if (covei_cached(segment)) {
        struct covei_lane *lane = covei_thread.lane;
        uint64_t offset = atomic_load_explicit(&lane->shm->held[0], memory_order_relaxed); /* this thread's own */
        if (COVEI_LIKELY(lane->depth == 0 && covei_tails_load(lane->shm) == 0 && lane->places == 1 &&
                         (offset == 0 || covei_word_inside(segment, offset)) &&
                         !atomic_load_explicit(&segment->closed, memory_order_relaxed))) {
            lane->depth = 1;
            lane->before = 0;
            if (offset != 0) { /* as note_earlier */
                const _Atomic uint64_t *word = covei_address(segment, offset);
                lane->before = 1;
                lane->earlier[0].offset = offset;
                lane->earlier[0].generation = COVEI_LOCK_GENERATION(
                    atomic_load_explicit(word, memory_order_relaxed)); /* we hold it */
            }
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
        return covei_no_transaction(lane);
    if (!covei_user_address(segment, address, size_bytes, 1))
        return covei_error(-EINVAL, "%s: %p (%zu bytes) does not lie in the segment's memory", segment->name, address,
                           size_bytes);
    return covei_save(lane, address, size_bytes);
}

#define SHORT_BYTES 256u /* what is copied in line: a call would want registers saved */

/* As covei_copy, with fewer branches for what is a multiple of 16. */
static inline void copy_short(void *to, const void *from, size_t size_bytes)
{
    unsigned char *out = to;
    const unsigned char *in = from;
    for (; size_bytes >= 32; size_bytes -= 32, out += 32, in += 32)
        memcpy(out, in, 32);
    if (size_bytes != 0)
        covei_copy(out, in, size_bytes & 31);
}

COVEI_HOT int cove_save(cove_segment *segment, void *address, size_t size_bytes)
{
    if (covei_cached(segment)) {
        struct covei_lane *lane = covei_thread.lane;
        uint64_t offset = covei_offset(segment, address);
        /* relaxed: a stale size only sends us the slow way. */
        uint64_t last = atomic_load_explicit(&segment->known_size, memory_order_relaxed) - segment->heap_at -
                        size_bytes;
        uint64_t lock = atomic_load_explicit(&lane->shm->held[0], memory_order_relaxed);
        uint64_t tails = covei_tails_load(lane->shm), units = covei_record_units(size_bytes);
        uint64_t end = COVEI_TAILS_OUTER(tails) + units;
        if (COVEI_LIKELY(size_bytes <= SHORT_BYTES && offset - segment->heap_at <= last && lane->depth > 0 &&
                         end <= lane->outer_capacity)) {
            if (COVEI_UNLIKELY(lane->places != 1 || lock - offset < size_bytes)) /* saved with the struct it lies in */
                return save_here(lane, offset, size_bytes);
            uint64_t *footer = lane->outer + end - COVEI_FOOTER_UNITS;
            copy_short(lane->outer + end - units, address, size_bytes);
            footer[0] = offset | (uint64_t)COVEI_RECORD_BYTES << COVEI_KIND_SHIFT;
            footer[1] = size_bytes;
            covei_tails_store(lane->shm, tails + COVEI_TAILS(units, 0, 0)); /* J1 */
            return 0;
        }
    }
    return save_slowly(segment, address, size_bytes);
}

static int not_yours(const struct covei_lane *lane)
{
    return covei_error(-EBUSY,
                       "%s: the transaction is that of the call which this function was called from; return, and it "
                       "ends with that",
                       lane->segment->name);
}

static COVEI_COLD int commit_slowly(cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (COVEI_UNLIKELY(result < 0))
        return result;
    if (COVEI_UNLIKELY(lane->depth == 0))
        return covei_no_transaction(lane);
    if (COVEI_UNLIKELY(lane->depth <= lane->floor))
        return not_yours(lane);
    result = covei_commit(lane);
    if (COVEI_UNLIKELY(atomic_load_explicit(&segment->has_debts, memory_order_relaxed)))
        covei_recover_debts(lane);
    return result;
}

/* Was the lock in the first place taken before the transaction? As kept_locks. */
static inline bool is_kept(const struct covei_lane *lane, uint64_t offset, const _Atomic uint64_t *word)
{
    return lane->before != 0 && lane->marked == 0 && lane->earlier[0].offset == offset &&
           lane->earlier[0].generation == COVEI_LOCK_GENERATION(atomic_load_explicit(word, memory_order_relaxed));
}

/* Nothing but bytes was saved, and at most one lock is held, in the first place. As covei_commit, in the same order.
 * (What is joined runs at depth 2 or more.) */
COVEI_HOT int cove_commit(cove_segment *segment)
{
    if (covei_cached(segment)) {
        struct covei_lane *lane = covei_thread.lane;
        struct covei_lane_shm *shm = lane->shm;
        uint64_t offset = atomic_load_explicit(&shm->held[0], memory_order_relaxed); /* this thread's own */
        if (COVEI_LIKELY(lane->depth == 1 && lane->effects == 0 && lane->places == 1 && shm->journal_block == 0 &&
                         (offset == 0 || covei_word_inside(segment, offset)) &&
                         !atomic_load_explicit(&segment->has_debts, memory_order_relaxed))) {
            _Atomic uint64_t *word = covei_address(segment, offset);
            bool held = offset != 0 && !is_kept(lane, offset, word);
            covei_tails_store(shm, 0);
            lane->depth = lane->marked = 0;
            if (held)
                covei_lock_release(shm, covei_thread.id, offset, word);
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
        return covei_no_transaction(lane);
    if (lane->floor != 0)
        return not_yours(lane);
    result = covei_abort(lane);
    covei_recover_debts(lane);
    return result;
}
