/* blocks.c - taking and giving blocks: two-level segregated fit, every change journaled.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Layout: heap_shm.h. Source of the algorithm: M. Masmano, I. Ripoll, A. Crespo, J. Real, "TLSF: a new dynamic memory
 * allocator for real-time systems", ECRTS 2004; here with four links in a header of 32 bytes, so that lists and
 * neighbours need no second look.
 *
 * I1  Blocks lie back to back from `begin` to `end`; each knows its size and the block before it; the last is the end
 *     block.
 * I2  No two free blocks are neighbours.
 * I3  A free block is in the list of its size, and in no other; a bit is set where, and only where, a list is not
 *     empty.
 * I4  free_bytes and block_count are the sums over the blocks.
 *
 * All functions run under the heap's lock and put what they change into the lane's inner journal first, except for
 * the inside of free memory, which nobody reads. The caller commits them, together with the field or record that
 * makes the block somebody's. Crash: undone.
 * Offsets that come out of the segment are checked before they are followed; a heap that contradicts itself gives
 * COVE_ECORRUPT, and the caller undoes. */
#include "heap/heap.h"

#include <string.h>

#define HEADER sizeof(struct covei_block_shm)
#define UNIT UINT64_C(16)
#define SMALLEST (HEADER + UNIT)
#define EXACT_LOOKS 32 /* at blocks of one list */

/* ---- where blocks are */

static struct covei_block_shm *block_at(const struct cove_segment *segment, uint64_t at)
{
    const struct covei_heap_shm *heap = covei_heap(segment);
    uint64_t begin = heap->begin, end = heap->end;
    if (at % UNIT != 0 || at < begin || at < segment->heap_at || end < HEADER || at > end - HEADER ||
        !covei_inside(segment, at, HEADER))
        return NULL;
    return covei_address(segment, at);
}

static uint64_t size_of(const struct covei_block_shm *block)
{
    return block->size_and_marks & COVEI_BLOCK_SIZE_MASK;
}

static bool is_used(const struct covei_block_shm *block)
{
    return (block->size_and_marks & COVEI_BLOCK_USED) != 0;
}

static uint64_t offset_of(const struct covei_lane *lane, const struct covei_block_shm *block)
{
    return covei_offset(lane->segment, block);
}

/* The block behind this one, if the two agree about their border. */
static struct covei_block_shm *block_behind(const struct cove_segment *segment, const struct covei_block_shm *block)
{
    uint64_t at = covei_offset(segment, block), size = size_of(block);
    struct covei_block_shm *behind = size >= HEADER && size <= segment->mapped_bytes ? block_at(segment, at + size)
                                                                                     : NULL;
    return behind && behind->before == at ? behind : NULL;
}

/* ---- lists by size */

struct list {
    uint32_t class, step;
};

static uint32_t log2_of(uint64_t value)
{
    return 63 - (uint32_t)__builtin_clzll(value);
}

static struct list list_of(uint64_t size)
{
    uint64_t units = size / UNIT;
    if (units < COVEI_HEAP_STEPS)
        return (struct list){0, (uint32_t)units};
    uint32_t log = log2_of(units);
    return (struct list){log - 2, (uint32_t)(units >> (log - 3)) - COVEI_HEAP_STEPS};
}

/* The first list all of whose blocks are large enough. */
static struct list list_for(uint64_t size)
{
    uint64_t units = size / UNIT;
    if (units >= COVEI_HEAP_STEPS)
        size += ((UINT64_C(1) << (log2_of(units) - 3)) - 1) * UNIT;
    return list_of(size);
}

static uint64_t *head_of(struct covei_heap_shm *heap, struct list list)
{
    return &heap->heads[list.class * COVEI_HEAP_STEPS + list.step];
}

/* A list that is not empty, at `list` or above. */
static bool find_list(const struct covei_heap_shm *heap, struct list *list)
{
    uint64_t steps = heap->steps[list->class] & (~UINT64_C(0) << list->step);
    if (steps == 0) {
        uint64_t classes = heap->classes & (~UINT64_C(0) << (list->class + 1));
        if (classes == 0)
            return false;
        list->class = (uint32_t)__builtin_ctzll(classes);
        if (list->class >= COVEI_HEAP_CLASSES)
            return false;
        steps = heap->steps[list->class];
    }
    list->step = steps ? (uint32_t)__builtin_ctzll(steps) : COVEI_HEAP_STEPS;
    return list->step < COVEI_HEAP_STEPS;
}

static void set_bits(struct covei_lane *lane, struct covei_heap_shm *heap, struct list list, bool on)
{
    uint64_t steps = heap->steps[list.class], bit = UINT64_C(1) << list.step;
    steps = on ? steps | bit : steps & ~bit;
    if (steps == heap->steps[list.class])
        return;
    covei_put(lane, &heap->steps[list.class], steps);
    uint64_t class_bit = UINT64_C(1) << list.class;
    uint64_t classes = steps ? heap->classes | class_bit : heap->classes & ~class_bit;
    if (classes != heap->classes)
        covei_put(lane, &heap->classes, classes);
}

/* Hang a block into its list. Its own header is fresh memory, or was saved by the caller. */
static int insert_free(struct covei_lane *lane, struct covei_block_shm *block, uint64_t size)
{
    struct covei_heap_shm *heap = covei_heap(lane->segment);
    struct list list = list_of(size);
    uint64_t *head = head_of(heap, list);
    block->size_and_marks = size;
    block->next = *head;
    block->previous = 0;
    if (*head != 0) {
        struct covei_block_shm *next = block_at(lane->segment, *head);
        if (!next)
            return COVE_ECORRUPT;
        covei_put(lane, &next->previous, offset_of(lane, block));
    }
    covei_put(lane, head, offset_of(lane, block));
    set_bits(lane, heap, list, true);
    return 0;
}

static int remove_free(struct covei_lane *lane, struct covei_block_shm *block)
{
    struct covei_heap_shm *heap = covei_heap(lane->segment);
    struct list list = list_of(size_of(block));
    uint64_t next_at = block->next, previous_at = block->previous;
    struct covei_block_shm *next = next_at ? block_at(lane->segment, next_at) : NULL;
    struct covei_block_shm *previous = previous_at ? block_at(lane->segment, previous_at) : NULL;
    if ((next_at && !next) || (previous_at && !previous) ||
        (!previous && *head_of(heap, list) != offset_of(lane, block)))
        return COVE_ECORRUPT;
    if (next)
        covei_put(lane, &next->previous, previous_at);
    if (previous)
        covei_put(lane, &previous->next, next_at);
    else {
        covei_put(lane, head_of(heap, list), next_at);
        if (next_at == 0)
            set_bits(lane, heap, list, false);
    }
    return 0;
}

static void add_to(struct covei_lane *lane, uint64_t *field, uint64_t change)
{
    covei_put(lane, field, *field + change); /* modulo 2^64: a negative change wraps */
}

/* ---- blocks that go back with their member */

static uint32_t owner_of(const struct covei_block_shm *block)
{
    return (uint32_t)(block->size_and_marks >> COVEI_BLOCK_OWNER_SHIFT);
}

static void add_pending(struct covei_lane *lane, struct covei_block_shm *block, uint32_t owner)
{
    uint64_t *head = &lane->segment->rows[owner - 1].pending;
    struct covei_block_shm *next = *head ? block_at(lane->segment, *head) : NULL;
    block->next = next ? *head : 0;
    block->previous = 0;
    if (next)
        covei_put(lane, &next->previous, offset_of(lane, block));
    covei_put(lane, head, offset_of(lane, block));
}

static int remove_pending(struct covei_lane *lane, struct covei_block_shm *block)
{
    uint32_t owner = owner_of(block);
    if (owner == 0)
        return 0;
    struct covei_block_shm *next = block->next ? block_at(lane->segment, block->next) : NULL;
    struct covei_block_shm *previous = block->previous ? block_at(lane->segment, block->previous) : NULL;
    if (owner > lane->segment->max_members || (block->next && !next) || (block->previous && !previous))
        return COVE_ECORRUPT;
    if (next)
        covei_put(lane, &next->previous, block->previous);
    covei_put(lane, previous ? &previous->next : &lane->segment->rows[owner - 1].pending, block->next);
    return 0;
}

/* ---- take */

/* Where the block's memory begins so that it is aligned and the gap before it is nothing or a block of its own. */
static uint64_t place_in(uint64_t at, uint64_t alignment)
{
    uint64_t memory = covei_round_up(at + HEADER, alignment);
    while (memory - HEADER - at != 0 && memory - HEADER - at < SMALLEST)
        memory += alignment;
    return memory - HEADER;
}

uint64_t covei_block_overhead(uint64_t alignment)
{
    return HEADER + (alignment > UNIT ? alignment + SMALLEST : 0) + UNIT;
}

/* Cut [from, from + size) out of the free block at `at`, which is off its list and has its header saved. */
static int carve(struct covei_lane *lane, struct covei_block_shm *block, uint64_t from, uint64_t size, uint32_t owner)
{
    struct cove_segment *segment = lane->segment;
    uint64_t at = offset_of(lane, block), whole = size_of(block), gap = from - at;
    struct covei_block_shm *behind = block_behind(segment, block);
    if (!behind || gap + size > whole)
        return COVE_ECORRUPT;
    uint64_t rest = whole - gap - size;
    if (rest < SMALLEST) {
        size += rest;
        rest = 0;
    }
    struct covei_block_shm *taken = covei_address(segment, from);
    if (gap > 0) {
        taken->before = at;
        if (insert_free(lane, block, gap) < 0)
            return COVE_ECORRUPT;
    }
    taken->size_and_marks = size | COVEI_BLOCK_USED | (uint64_t)owner << COVEI_BLOCK_OWNER_SHIFT;
    if (rest > 0) {
        struct covei_block_shm *remainder = covei_address(segment, from + size);
        remainder->before = from;
        if (insert_free(lane, remainder, rest) < 0)
            return COVE_ECORRUPT;
    }
    covei_put(lane, &behind->before, rest > 0 ? from + size : from);
    if (owner != 0)
        add_pending(lane, taken, owner);
#ifdef COVE_PLANT_MISSING_ENTRY
    covei_heap(segment)->free_bytes -= size; /* changed without a record */
#else
    add_to(lane, &covei_heap(segment)->free_bytes, 0 - size);
#endif
    add_to(lane, &covei_heap(segment)->block_count, 1);
    return 0;
}

/* The first of a few blocks in the list of exactly that size that is large enough, or NULL. So that the last large
 * block can be had whole, where rounding up to the next list would pass it over. */
static struct covei_block_shm *find_exact(const struct cove_segment *segment, uint64_t size)
{
    uint64_t at = *head_of(covei_heap(segment), list_of(size));
    for (int looked = 0; at != 0 && looked < EXACT_LOOKS; looked++) {
        struct covei_block_shm *block = block_at(segment, at);
        if (!block || is_used(block) || size_of(block) >= size)
            return block && !is_used(block) ? block : NULL;
        at = block->next;
    }
    return NULL;
}

static struct covei_block_shm *find_block(const struct cove_segment *segment, uint64_t size)
{
    struct covei_heap_shm *heap = covei_heap(segment);
    struct list list = list_for(size);
    if (list.class < COVEI_HEAP_CLASSES && find_list(heap, &list))
        return block_at(segment, *head_of(heap, list));
    return list_of(size).class < COVEI_HEAP_CLASSES ? find_exact(segment, size) : NULL;
}

int covei_block_take(struct covei_lane *lane, uint64_t size_bytes, uint64_t alignment, uint32_t owner, uint64_t *offset)
{
    uint64_t size = HEADER + covei_round_up(size_bytes, UNIT);
    struct covei_block_shm *block = find_block(lane->segment, size + (alignment > UNIT ? alignment + SMALLEST : 0));
    if (!block)
        return 0;
    if (is_used(block))
        return COVE_ECORRUPT;
    uint64_t from = place_in(offset_of(lane, block), alignment);
    covei_inner_save(lane, block, HEADER);
    if (remove_free(lane, block) < 0 || carve(lane, block, from, size, owner) < 0)
        return COVE_ECORRUPT;
    *offset = from + HEADER;
    return 1;
}

/* ---- give */

uint64_t covei_block_size(const struct cove_segment *segment, uint64_t offset, uint64_t *marks)
{
    const struct covei_block_shm *block = offset >= HEADER ? block_at(segment, offset - HEADER) : NULL;
    if (!block || !is_used(block) || size_of(block) < SMALLEST || !block_behind(segment, block))
        return 0;
    const struct covei_block_shm *before = block->before ? block_at(segment, block->before) : NULL;
    if (block->before ? !before || block_behind(segment, before) != block
                      : offset - HEADER != covei_heap(segment)->begin)
        return 0;
    if (marks)
        *marks = block->size_and_marks;
    return size_of(block) - HEADER;
}

int covei_block_give(struct covei_lane *lane, uint64_t offset)
{
    struct cove_segment *segment = lane->segment;
    if (covei_block_size(segment, offset, NULL) == 0)
        return COVE_ECORRUPT;
    struct covei_block_shm *block = covei_address(segment, offset - HEADER);
    struct covei_block_shm *behind = block_behind(segment, block);
    struct covei_block_shm *before = block->before ? block_at(segment, block->before) : NULL;
    uint64_t size = size_of(block), whole = size;
    if (!behind)
        return COVE_ECORRUPT; /* it was good a moment before */
    covei_inner_save(lane, block, HEADER);
    if (remove_pending(lane, block) < 0)
        return COVE_ECORRUPT;
    if (!is_used(behind)) {
        whole += size_of(behind);
        if (remove_free(lane, behind) < 0 || (behind = block_behind(segment, behind)) == NULL)
            return COVE_ECORRUPT;
    }
    if (before && !is_used(before)) {
        whole += size_of(before);
        covei_inner_save(lane, before, HEADER);
        if (remove_free(lane, before) < 0)
            return COVE_ECORRUPT;
        block = before;
    }
    covei_put(lane, &behind->before, offset_of(lane, block));
    add_to(lane, &covei_heap(segment)->free_bytes, size);
    add_to(lane, &covei_heap(segment)->block_count, 0 - UINT64_C(1));
    return insert_free(lane, block, whole);
}

int covei_block_keep(struct covei_lane *lane, uint64_t offset)
{
    struct covei_block_shm *block = covei_address(lane->segment, offset - HEADER);
    covei_inner_save(lane, block, HEADER);
    if (remove_pending(lane, block) < 0)
        return COVE_ECORRUPT;
    block->size_and_marks &= (UINT64_C(1) << COVEI_BLOCK_OWNER_SHIFT) - 1;
    block->next = block->previous = 0;
    return 0;
}

int covei_block_doom(struct covei_lane *lane, uint64_t offset, bool doomed)
{
    if (covei_block_size(lane->segment, offset, NULL) == 0)
        return COVE_ECORRUPT;
    struct covei_block_shm *block = covei_address(lane->segment, offset - HEADER);
    uint64_t marks = block->size_and_marks & ~(COVEI_BLOCK_DOOMED | COVEI_BLOCK_ORPHAN);
    covei_put(lane, &block->size_and_marks, doomed ? marks | COVEI_BLOCK_DOOMED : marks);
    return 0;
}

int covei_block_orphan(struct covei_lane *lane, uint64_t offset)
{
    struct covei_block_shm *block = covei_address(lane->segment, offset - HEADER);
    int result = covei_block_keep(lane, offset); /* which saves the header */
    block->size_and_marks |= COVEI_BLOCK_ORPHAN;
    return result;
}

uint32_t covei_block_list(uint64_t size_bytes)
{
    struct list list = list_of(size_bytes);
    return list.class * COVEI_HEAP_STEPS + list.step;
}

/* ---- the whole heap */

int covei_heap_absorb(struct covei_lane *lane)
{
    struct cove_segment *segment = lane->segment;
    struct covei_heap_shm *heap = covei_heap(segment);
    /* acquire, edge G. */
    uint64_t size = atomic_load_explicit(&segment->header->size_bytes, memory_order_acquire);
    uint64_t old_end = heap->end;
    if (size < old_end)
        return COVE_ECORRUPT; /* or every request would grow the segment, and never meet the new memory */
    if (size - old_end < SMALLEST)
        return 0;
    if (!covei_inside(segment, old_end, size - old_end))
        return 0; /* not mapped here, or the file could not be asked: nothing that we can use */
    struct covei_block_shm *last = block_at(segment, old_end - HEADER);
    if (!last)
        return COVE_ECORRUPT;
    struct covei_block_shm *end_block = covei_address(segment, size - HEADER);
    *end_block = (struct covei_block_shm){.size_and_marks = HEADER | COVEI_BLOCK_USED, .before = old_end - HEADER};
    covei_inner_save(lane, last, HEADER);
    last->size_and_marks = (size - old_end) | COVEI_BLOCK_USED;
    covei_put(lane, &heap->end, size);
    add_to(lane, &heap->block_count, 1); /* a block in use, which is now freed */
    return covei_block_give(lane, old_end) < 0 ? COVE_ECORRUPT : 1;
}

void covei_heap_format(struct cove_segment *segment)
{
    struct covei_heap_shm *heap = covei_heap(segment);
    uint64_t begin = segment->heap_at;
    uint64_t end = atomic_load_explicit(&segment->header->size_bytes,
                                        memory_order_relaxed); /* nobody else is here yet */
    struct covei_block_shm *first = covei_address(segment, begin);
    struct covei_block_shm *last = covei_address(segment, end - HEADER);
    uint64_t size = end - begin - HEADER;
    struct list list = list_of(size);
    heap->begin = begin;
    heap->end = end;
    heap->free_bytes = size;
    heap->classes = UINT64_C(1) << list.class;
    heap->steps[list.class] = UINT64_C(1) << list.step;
    *head_of(heap, list) = begin;
    *first = (struct covei_block_shm){.size_and_marks = size};
    *last = (struct covei_block_shm){.size_and_marks = HEADER | COVEI_BLOCK_USED, .before = begin};
}
