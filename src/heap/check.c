/* check.c - a read-only fsck of the heap.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Walks all blocks from begin to end, then all lists, and compares sums. Every offset is bounded before it is
 * followed, every walk is counted, nothing is written: safe on any bytes. */
#include "heap/heap.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define HEADER sizeof(struct covei_block_shm)
#define MOST_FINDINGS 100 /* enough to know that it is broken */

void covei_found(struct covei_findings *findings, const char *format, ...)
{
    char sentence[320];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    if (findings->count++ < MOST_FINDINGS && findings->report)
        findings->report(sentence, findings->context);
}

struct sums {
    uint64_t free_bytes, free_blocks, used_blocks, pending_blocks, doomed_blocks;
};

static bool bounds_good(const struct cove_segment *segment, struct covei_findings *findings)
{
    const struct covei_heap_shm *heap = covei_heap(segment);
    if (heap->begin == segment->heap_at && heap->end >= heap->begin + 2 * HEADER && heap->end % 16 == 0 &&
        covei_inside(segment, heap->begin, heap->end - heap->begin))
        return true;
    covei_found(findings, "heap: its bounds 0x%" PRIx64 " to 0x%" PRIx64 " are impossible", heap->begin, heap->end);
    return false;
}

/* One block: adds it to the sums. False where the walk cannot go on. */
static bool check_block(const struct cove_segment *segment, uint64_t at, uint64_t end, uint64_t before, bool *was_free,
                        struct sums *sums, struct covei_findings *findings)
{
    const struct covei_block_shm *block = covei_address(segment, at);
    uint64_t word = block->size_and_marks, size = word & COVEI_BLOCK_SIZE_MASK;
    bool used = (word & COVEI_BLOCK_USED) != 0, last = at == end - HEADER;
    if (size < HEADER || size > end - at || (size == HEADER) != last || (last && !used)) {
        covei_found(findings, "heap: the block at 0x%" PRIx64 " has the impossible size %" PRIu64, at, size);
        return false;
    }
    if (block->before != before)
        covei_found(findings, "heap: the block at 0x%" PRIx64 " does not know the one before it", at);
    if (!used && *was_free)
        covei_found(findings, "heap: two free blocks lie side by side at 0x%" PRIx64, at);
    bool orphan_alone = (word & COVEI_BLOCK_ORPHAN) && !(word & COVEI_BLOCK_DOOMED);
    if (word & 8 || orphan_alone || (!used && word != size) || word >> COVEI_BLOCK_OWNER_SHIFT > segment->max_members)
        covei_found(findings, "heap: the block at 0x%" PRIx64 " has impossible marks 0x%" PRIx64, at, word);
    sums->free_bytes += used ? 0 : size;
    sums->free_blocks += !used;
    sums->used_blocks += used && !last;
    sums->pending_blocks += used && word >> COVEI_BLOCK_OWNER_SHIFT != 0;
    sums->doomed_blocks += used && (word & COVEI_BLOCK_DOOMED);
    *was_free = !used;
    return true;
}

static bool walk_blocks(const struct cove_segment *segment, struct sums *sums, struct covei_findings *findings)
{
    const struct covei_heap_shm *heap = covei_heap(segment);
    uint64_t begin = heap->begin, end = heap->end, before = 0;
    bool was_free = false;
    for (uint64_t at = begin; at < end;) {
        if (end - at < HEADER || !check_block(segment, at, end, before, &was_free, sums, findings))
            return false;
        const struct covei_block_shm *block = covei_address(segment, at);
        uint64_t size = block->size_and_marks & COVEI_BLOCK_SIZE_MASK;
        if (size < HEADER) /* it changed under us */
            return false;
        before = at;
        at += size;
    }
    return true;
}

/* Does the block at `at`, in a list of free ones, have a size that belongs to list `index`, and a neighbour that
 * knows it? */
static bool free_block_fits(const struct cove_segment *segment, uint64_t at, uint64_t word, uint32_t index)
{
    uint64_t size = word & COVEI_BLOCK_SIZE_MASK, end = covei_heap(segment)->end;
    if (size < 2 * HEADER - 16 || size > end - at || end - at - size < HEADER || covei_block_list(size) != index ||
        !covei_inside(segment, at + size, HEADER))
        return false;
    return ((const struct covei_block_shm *)covei_address(segment, at + size))->before == at;
}

/* Walk one list of blocks: counts them, checks that each is as `owner` says (0: free, in list `index`) and knows the
 * one before it. */
static uint64_t walk_list(const struct cove_segment *segment, uint64_t head, uint32_t owner, uint32_t index,
                          uint64_t most, struct covei_findings *findings)
{
    const struct covei_heap_shm *heap = covei_heap(segment);
    uint64_t count = 0, previous = 0;
    for (uint64_t at = head; at != 0; count++) {
        if (count >= most || at % 16 != 0 || at < heap->begin || !covei_inside(segment, at, HEADER) ||
            at > heap->end - HEADER) {
            covei_found(findings, "heap: a list leads to 0x%" PRIx64 ", or runs in a circle", at);
            return count;
        }
        const struct covei_block_shm *block = covei_address(segment, at);
        uint64_t word = block->size_and_marks;
        if (((word & COVEI_BLOCK_USED) != 0) != (owner != 0) || word >> COVEI_BLOCK_OWNER_SHIFT != owner ||
            block->previous != previous || (owner == 0 && !free_block_fits(segment, at, word, index)))
            covei_found(findings, "heap: the block at 0x%" PRIx64 " is in a list that it does not belong to", at);
        previous = at;
        at = block->next;
    }
    return count;
}

static uint64_t walk_lists(const struct cove_segment *segment, uint64_t most, struct covei_findings *findings)
{
    const struct covei_heap_shm *heap = covei_heap(segment);
    uint64_t count = 0;
    for (uint32_t class = 0; class < COVEI_HEAP_CLASSES; class ++) {
        uint64_t steps = heap->steps[class];
        if (((heap->classes >> class) & 1) != (steps != 0) || steps >> COVEI_HEAP_STEPS)
            covei_found(findings, "heap: the bit of class %" PRIu32 " is wrong", class);
        for (uint32_t step = 0; step < COVEI_HEAP_STEPS; step++) {
            uint64_t head = heap->heads[class * COVEI_HEAP_STEPS + step];
            if (((steps >> step) & 1) != (head != 0))
                covei_found(findings, "heap: the bit of list %" PRIu32 ".%" PRIu32 " is wrong", class, step);
            count += walk_list(segment, head, 0, class * COVEI_HEAP_STEPS + step, most, findings);
        }
    }
    if (heap->classes >> COVEI_HEAP_CLASSES)
        covei_found(findings, "heap: bits of classes that do not exist are set");
    return count;
}

static uint64_t walk_pending(const struct cove_segment *segment, uint64_t most, struct covei_findings *findings)
{
    uint64_t count = 0;
    uint32_t rows = atomic_load_explicit(&segment->header->rows_ready, memory_order_acquire);
    for (uint32_t row = 0; row < rows && row < segment->max_members; row++) {
        uint64_t head = segment->rows[row].pending;
        if (head != 0 && !covei_row_used(atomic_load_explicit(&segment->states[row], memory_order_acquire)))
            covei_found(findings, "heap: row %" PRIu32 " has nobody, but blocks", row);
        count += walk_list(segment, head, row + 1, 0, most, findings);
    }
    return count;
}

/* Records of doomed blocks in all journals: a block with the mark and without a record could never be freed. */
static uint64_t count_doomed(const struct cove_segment *segment)
{
    uint64_t count = 0;
    uint32_t lanes = atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire);
    for (uint32_t i = 0; i < lanes && i < segment->max_lanes; i++) {
        const struct covei_lane_shm *shm = &segment->lanes[i];
        struct covei_entry entry;
        uint64_t end = COVEI_TAILS_OUTER(
            atomic_load_explicit(&shm->tails, memory_order_relaxed)); /* under the heap's lock */
        for (; end > 0 && covei_outer_read(segment, shm, end, &entry); end -= entry.units)
            count += entry.kind == COVEI_RECORD_DOOMED;
    }
    return count;
}

void covei_heap_check(const struct cove_segment *segment, struct covei_findings *findings)
{
    const struct covei_heap_shm *heap = covei_heap(segment);
    struct sums sums = {0};
    if (!bounds_good(segment, findings) || !walk_blocks(segment, &sums, findings))
        return;
    uint64_t listed = walk_lists(segment, sums.free_blocks + 1, findings);
    if (listed != sums.free_blocks)
        covei_found(findings, "heap: %" PRIu64 " blocks are free, %" PRIu64 " are in lists", sums.free_blocks, listed);
    uint64_t pending = walk_pending(segment, sums.pending_blocks + 1, findings);
    if (pending != sums.pending_blocks)
        covei_found(findings, "heap: %" PRIu64 " blocks belong to members, %" PRIu64 " are in their lists",
                    sums.pending_blocks, pending);
    uint64_t doomed = count_doomed(segment);
    if (doomed != sums.doomed_blocks)
        covei_found(findings, "heap: %" PRIu64 " blocks are marked as freed in transactions, journals know of %" PRIu64,
                    sums.doomed_blocks, doomed);
    if (heap->free_bytes != sums.free_bytes)
        covei_found(findings, "heap: it says that %" PRIu64 " bytes are free, its blocks say %" PRIu64,
                    heap->free_bytes, sums.free_bytes);
    if (heap->block_count != sums.used_blocks)
        covei_found(findings, "heap: it says that %" PRIu64 " blocks are in use, there are %" PRIu64, heap->block_count,
                    sums.used_blocks);
}
