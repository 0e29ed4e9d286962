/* alloc.c - allocation and freeing as whole operations: the heap's lock, growth, and whose the memory is.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One store (covei_inner_commit) makes the heap's change, the field that refers to the block, and the transaction's
 * record of it happen together.
 * So at every instant a block in use belongs to exactly one of: a member (pending list of its row), a transaction
 * (record in the outer journal), or the segment's data.
 *
 * Order of locks: users' locks, directory, growth | heap. Growth is not entered while the heap is locked.
 * Crash: before the commit all is undone; after it the block is owned, and goes back with its owner. */
#include "heap/heap.h"

#include <errno.h>
#include <inttypes.h>

#define LARGEST (UINT64_C(1) << 45)
#define SHORT_PATIENCE_NS INT64_C(10000000) /* for what the dead may have, when memory is short */
#define RECORD_UNITS 2u /* of a record without bytes */

static int lock_heap(struct covei_lane *lane)
{
    int result = covei_lock_take(lane, &covei_heap(lane->segment)->lock, COVE_FOREVER);
    if (COVEI_UNLIKELY(result >= 0 && covei_heap(lane->segment)->end > lane->segment->mapped_bytes)) {
        covei_lock_drop(lane, &covei_heap(lane->segment)->lock);
        return covei_sees_too_little(lane->segment);
    }
    return result < 0 ? result : 0; /* COVE_RECOVERED: the heap was put right; its users need not know */
}

static void unlock_heap(struct covei_lane *lane)
{
    covei_lock_drop(lane, &covei_heap(lane->segment)->lock);
}

/* Undo what was begun under the heap's lock, free the lock, say why. */
static int give_up(struct covei_lane *lane)
{
    covei_inner_abort(lane);
    unlock_heap(lane);
    return covei_error(COVE_ECORRUPT,
                       "%s: its heap contradicts itself: somebody wrote beyond his memory; cove doctor %s tells more",
                       lane->segment->name, lane->segment->name);
}

/* Under the heap's lock: a block, taking in new memory where the segment has grown. 1, 0 (none fits), COVE_ECORRUPT.
 * */
static int take_or_absorb(struct covei_lane *lane, uint64_t size_bytes, uint64_t alignment, uint32_t owner,
                          uint64_t *offset)
{
    int result = covei_block_take(lane, size_bytes, alignment, owner, offset);
    if (result != 0)
        return result;
    result = covei_heap_absorb(lane);
    if (result <= 0)
        return result;
    covei_inner_commit(lane, 0, 0);
    return covei_block_take(lane, size_bytes, alignment, owner, offset);
}

/* The block is taken, not committed: write down whose it is, and commit all at once. */
static void own_block(struct covei_lane *lane, enum covei_alloc_how how, uint64_t *field, uint64_t offset)
{
    uint64_t units = 0;
    if (lane->depth > 0 && how != COVEI_ALLOC_INTERNAL) {
        if (field)
            units += covei_outer_write(lane, 0, COVEI_RECORD_BYTES, covei_offset(lane->segment, field), sizeof *field);
        units += covei_outer_write(lane, units, COVEI_RECORD_ALLOCATED, offset, 0);
        lane->effects++;
    }
    if (field)
        covei_put(lane, field, offset);
    covei_inner_commit(lane, units, 0);
}

static int alloc_or_grow(struct covei_lane *lane, enum covei_alloc_how how, uint64_t size_bytes, uint64_t alignment,
                         uint64_t *field, uint64_t *offset)
{
    struct cove_segment *segment = lane->segment;
    uint32_t owner = how == COVEI_ALLOC_PLAIN && lane->depth == 0 ? segment->row + 1 : 0;
    for (bool cleared = false;;) {
        int result = lock_heap(lane);
        if (result < 0)
            return result;
        result = take_or_absorb(lane, size_bytes, alignment, owner, offset);
        if (result < 0)
            return give_up(lane);
        if (result > 0) {
            own_block(lane, how, field, *offset);
            unlock_heap(lane);
            return 0;
        }
        unlock_heap(lane);
        result = covei_segment_grow(lane, size_bytes + covei_block_overhead(alignment));
        if (result == -ENOSPC && !cleared && !lane->settling) {
            cleared = true;
            (void)covei_recover_all(
                segment,
                SHORT_PATIENCE_NS); /* the dead may have some; if not, growing says once more what is missing */
        } else if (result < 0)
            return result;
    }
}

int covei_alloc(struct covei_lane *lane, enum covei_alloc_how how, uint64_t size_bytes, uint64_t alignment,
                uint64_t *field, uint64_t *offset)
{
    if (size_bytes == 0 || size_bytes > LARGEST || alignment > COVEI_PAGE || (alignment & (alignment - 1)) != 0)
        return covei_error(-EINVAL, "%s: %" PRIu64 " bytes cannot be allocated; ask for 1 to %" PRIu64,
                           lane->segment->name, size_bytes, LARGEST);
    int result = 0;
    if (lane->depth > 0 && how != COVEI_ALLOC_INTERNAL)
        result = covei_outer_reserve(lane, covei_record_units(8) + RECORD_UNITS);
    if (result == 0)
        result = alloc_or_grow(lane, how, size_bytes, alignment < 16 ? 16 : alignment, field, offset);
    return result;
}

/* ---- free */

static int not_a_block(const struct covei_lane *lane, uint64_t offset)
{
    return covei_error(-EINVAL, "%s: 0x%" PRIx64 " is no block in use: a stray ref, or freed before; nothing was freed",
                       lane->segment->name, offset);
}

/* Inside a transaction: mark the block, and write down that it goes at the commit. */
static int doom(struct covei_lane *lane, uint64_t offset, uint64_t *field)
{
    uint64_t units = 0;
    if (covei_block_doom(lane, offset, true) < 0)
        return COVE_ECORRUPT;
    if (field) {
        units += covei_outer_write(lane, 0, COVEI_RECORD_BYTES, covei_offset(lane->segment, field), sizeof *field);
        covei_put(lane, field, 0);
    }
    units += covei_outer_write(lane, units, COVEI_RECORD_DOOMED, offset, 0);
    lane->effects++;
    covei_inner_commit(lane, units, 0);
    return 0;
}

static int free_now(struct covei_lane *lane, uint64_t offset, uint64_t *field)
{
    if (covei_block_give(lane, offset) < 0)
        return COVE_ECORRUPT;
    if (field)
        covei_put(lane, field, 0);
    covei_inner_commit(lane, 0, 0);
    return 0;
}

static int free_locked(struct covei_lane *lane, uint64_t offset, uint64_t *field, bool now)
{
    uint64_t marks = 0;
    int result = lock_heap(lane);
    if (result < 0)
        return result;
    if (covei_block_size(lane->segment, offset, &marks) == 0 ||
        ((marks & COVEI_BLOCK_DOOMED) && !covei_spare_undone(lane, offset))) {
        unlock_heap(lane);
        return not_a_block(lane, offset);
    }
    result = now ? free_now(lane, offset, field) : doom(lane, offset, field);
    if (result < 0)
        return give_up(lane);
    unlock_heap(lane);
    return 0;
}

int covei_free(struct covei_lane *lane, uint64_t offset, uint64_t *field)
{
    int result = 0;
    if (lane->depth > 0)
        result = covei_outer_reserve(lane, covei_record_units(8) + RECORD_UNITS);
    return result < 0 ? result : free_locked(lane, offset, field, lane->depth == 0);
}

int covei_free_internal(struct covei_lane *lane, uint64_t *field)
{
    return *field == 0 ? 0 : free_locked(lane, *field, field, true);
}

/* ---- public */

void *cove_at(const cove_segment *segment, cove_ref ref, size_t size_bytes)
{
    if (ref == 0)
        return NULL;
    if (ref >= segment->heap_at && covei_inside(segment, ref, size_bytes))
        return covei_address(segment, ref);
    (void)covei_error(-EINVAL, "%s: the ref 0x%" PRIx64 " (%zu bytes) leads out of the segment", segment->name, ref,
                      size_bytes);
    return NULL;
}

cove_ref cove_ref_of(const cove_segment *segment, const void *address)
{
    uintptr_t at = (uintptr_t)address, base = (uintptr_t)segment->base;
    return address && at >= base + segment->heap_at && covei_inside(segment, at - base, 1) ? at - base : 0;
}

cove_ref cove_alloc(cove_segment *segment, size_t size_bytes)
{
    struct covei_lane *lane = NULL;
    uint64_t offset = 0;
    int result = covei_lane_get(&lane, segment);
    if (result == 0) {
        result = covei_alloc(lane, COVEI_ALLOC_PLAIN, size_bytes, 16, NULL, &offset);
        covei_recover_debts(lane);
    }
    if (result < 0) {
        errno = result > -4096 ? -result : EIO;
        return 0;
    }
    return offset;
}

static int bad_field(const cove_segment *segment)
{
    return covei_error(-EINVAL, "%s: the field for the ref does not lie in the segment, aligned to 8 bytes",
                       segment->name);
}

int cove_alloc_into(cove_segment *segment, cove_ref *field, size_t size_bytes)
{
    struct covei_lane *lane = NULL;
    uint64_t offset = 0;
    int result = covei_lane_get(&lane, segment);
    if (result < 0)
        return result;
    if (!covei_user_address(segment, field, sizeof *field, 8))
        return bad_field(segment);
    result = covei_alloc(lane, COVEI_ALLOC_INTO, size_bytes, 16, field, &offset);
    covei_recover_debts(lane);
    return result;
}

int cove_keep(cove_segment *segment, cove_ref ref)
{
    struct covei_lane *lane = NULL;
    uint64_t marks = 0;
    int result = covei_lane_get(&lane, segment);
    if (result == 0)
        result = lock_heap(lane);
    if (result < 0)
        return result;
    if (covei_block_size(segment, ref, &marks) == 0 ||
        ((marks & COVEI_BLOCK_DOOMED) && !covei_spare_undone(lane, ref))) {
        unlock_heap(lane);
        return covei_error(-EINVAL, "%s: 0x%" PRIx64 " is no block in use", segment->name, ref);
    }
    if (covei_block_keep(lane, ref) < 0)
        return give_up(lane);
    covei_inner_commit(lane, 0, 0);
    unlock_heap(lane);
    covei_recover_debts(lane);
    return 0;
}

int cove_free(cove_segment *segment, cove_ref ref)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result < 0 || ref == 0)
        return result;
    result = covei_free(lane, ref, NULL);
    covei_recover_debts(lane);
    return result;
}

int cove_free_from(cove_segment *segment, cove_ref *field)
{
    struct covei_lane *lane = NULL;
    int result = covei_lane_get(&lane, segment);
    if (result < 0)
        return result;
    if (!covei_user_address(segment, field, sizeof *field, 8))
        return bad_field(segment);
    uint64_t offset = *field;
    result = offset == 0 ? 0 : covei_free(lane, offset, field);
    covei_recover_debts(lane);
    return result;
}

size_t cove_usable_size(cove_segment *segment, cove_ref ref)
{
    struct covei_lane *lane = NULL;
    if (covei_lane_get(&lane, segment) < 0 || lock_heap(lane) < 0)
        return 0;
    uint64_t size = covei_block_size(segment, ref, NULL);
    unlock_heap(lane);
    return (size_t)size;
}
