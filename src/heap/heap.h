/* heap.h - blocks of a segment's memory, for the library's own layers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_HEAP_HEAP_H
#define COVEI_HEAP_HEAP_H

#include "heap/heap_shm.h"
#include "segment/journal.h"

#include <cove/heap.h>
#include <cove/revision.h>

static inline struct covei_heap_shm *covei_heap(const struct cove_segment *segment)
{
    return covei_address(segment, COVEI_HEAP_ROOT_AT);
}

void covei_heap_format(struct cove_segment *segment);

/* ---- blocks.c: under the heap's lock, journaled in the lane's inner journal, not yet committed.
 * Offsets are those of a block's memory, behind its header. */

/* Take a block of at least `size_bytes`, its memory aligned to `alignment` (a power of two, 16 or more). 1, with its
 * offset; 0: none fits;
 * COVE_ECORRUPT. `owner`: row + 1 of the member it goes back with, or 0. */
int covei_block_take(struct covei_lane *lane, uint64_t size_bytes, uint64_t alignment, uint32_t owner,
                     uint64_t *offset);
int covei_block_give(struct covei_lane *lane, uint64_t offset);
int covei_block_keep(struct covei_lane *lane, uint64_t offset);
int covei_block_doom(struct covei_lane *lane, uint64_t offset, bool doomed);
/* Its member goes, but it is doomed: it no longer belongs to the member, and is freed also if the dooming is undone.
 * */
int covei_block_orphan(struct covei_lane *lane, uint64_t offset);
/* The list that a free block of that size belongs to, as an index into `heads`. */
uint32_t covei_block_list(uint64_t size_bytes);
/* Take in what the segment has grown by. 1: something, 0: nothing, COVE_ECORRUPT. */
int covei_heap_absorb(struct covei_lane *lane);
/* The bytes of memory in the block in use at `offset`; 0 where there is no such block. */
uint64_t covei_block_size(const struct cove_segment *segment, uint64_t offset, uint64_t *marks);
/* How much more a request needs than its bytes, at most. */
uint64_t covei_block_overhead(uint64_t alignment);

/* ---- alloc.c: whole operations, which take the heap's lock and grow the segment. */

enum covei_alloc_how {
    COVEI_ALLOC_PLAIN, /* the transaction's, or else the member's */
    COVEI_ALLOC_INTO, /* stored into a field in the same step; the transaction's, if there is one */
    COVEI_ALLOC_INTERNAL /* stored into a field of the library's; no part of the transaction */
};
int covei_alloc(struct covei_lane *lane, enum covei_alloc_how how, uint64_t size_bytes, uint64_t alignment,
                uint64_t *field, uint64_t *offset);
/* Free; with `field` store 0 there in the same step. Inside a transaction: when it commits. */
int covei_free(struct covei_lane *lane, uint64_t offset, uint64_t *field);
/* Free what a field of the library's refers to, now, whatever transaction there is. */
int covei_free_internal(struct covei_lane *lane, uint64_t *field);

/* ---- transaction.c. What may run inside a user's transaction uses join.h instead of begin, commit and abort. */

int covei_begin(struct covei_lane *lane);
int covei_save(struct covei_lane *lane, void *address, uint64_t size_bytes);
int covei_commit(struct covei_lane *lane);
int covei_abort(struct covei_lane *lane);
int covei_no_transaction(const struct covei_lane *lane); /* -EINVAL, with a sentence */
/* Make sure that `units` more fit into the outer journal. */
int covei_outer_reserve(struct covei_lane *lane, uint64_t units);

/* ---- settle.c */

/* The block is doomed by a transaction that was undone and is not settled yet: take that record away, with the mark.
 * Under the heap's lock; part of the caller's inner change. False: whoever doomed it has not been undone. */
bool covei_spare_undone(struct covei_lane *lane, uint64_t offset);
int covei_settle_lane(struct covei_lane *worker, struct covei_lane_shm *target);
int covei_settle_row(struct covei_lane *worker, uint32_t row);
/* The heap's lock, for as long as the worker has patience; refused where the heap reaches beyond what is mapped
 * here. */
int covei_settle_lock(struct covei_lane *worker);
/* Under it: take the records behind unit `from` off `target`'s outer journal, from the newest on, each with its
 * effect in one step. The bytes are what they will be. */
void covei_settle_records(struct covei_lane *worker, struct covei_lane_shm *target, uint64_t from);

/* ---- revision.c */

/* As the public one; the address has been looked at. */
int covei_revision_change(struct covei_lane *lane, cove_revision *revision);
/* The record of a revision, the newest of this lane's outer journal, is about to be taken off: make the revision
 * even, unless an older record is about it too. `begins`: where the record begins, in units. Stretches saved
 * before it, with the revision inside, get its new value, as undoing them would take it back otherwise. */
void covei_revision_leave(struct covei_lane *lane, const struct covei_entry *entry, uint64_t begins);

/* ---- check.c */

struct covei_findings {
    void (*report)(const char *sentence, void *context);
    void *context;
    int64_t count;
};
void covei_found(struct covei_findings *findings, const char *format, ...) COVEI_PRINTF(2, 3);
void covei_heap_check(const struct cove_segment *segment, struct covei_findings *findings);

#endif
