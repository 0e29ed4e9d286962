/* heap_shm.h - the bytes of the heap: its root and its blocks. Layout only.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The heap is one row of blocks, back to back, each with a header of 32 bytes in front of its memory; a block of no
 * memory ends it.
 *
 *     begin                                                              end
 *     | header | memory ... | header | memory ... | ... | header (end block) |
 *
 * Free blocks hang in lists by size: a first level by powers of two, a second by eighths of it (two-level segregated
 * fit:
 * M. Masmano et al., "TLSF: a new dynamic memory allocator for real-time systems", ECRTS 2004). */
#ifndef COVEI_HEAP_HEAP_SHM_H
#define COVEI_HEAP_HEAP_SHM_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define COVEI_HEAP_CLASSES 44u /* first level: from 2^4, in 16-byte units up to 2^46 */
#define COVEI_HEAP_STEPS 8u /* second level */

struct covei_heap_shm {
    _Atomic uint64_t lock; /* a lock word; guards everything here and every block's header */
    uint64_t reserved[7];
    uint64_t begin; /* offset of the first block; fixed */
    uint64_t end; /* offset behind the end block */
    uint64_t free_bytes; /* in free blocks, their headers included */
    uint64_t block_count; /* blocks in use */
    uint64_t classes; /* bit n: class n has a free block */
    uint64_t reserved2[3];
    uint64_t steps[COVEI_HEAP_CLASSES]; /* bit n: list n of the class is not empty */
    uint64_t heads[COVEI_HEAP_CLASSES * COVEI_HEAP_STEPS];
};
_Static_assert(offsetof(struct covei_heap_shm, lock) == 0, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, reserved) == 8, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, begin) == 64, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, end) == 72, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, free_bytes) == 80, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, block_count) == 88, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, classes) == 96, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, reserved2) == 104, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, steps) == 128, "heap layout");
_Static_assert(offsetof(struct covei_heap_shm, heads) == 480, "heap layout");
_Static_assert(sizeof(struct covei_heap_shm) == 3296, "heap layout");

/* `size_and_marks`: bits 0..3 marks, 4..47 the block's size with its header in bytes (a multiple of 16), 48..63 row +
 * 1 of the member that it goes back with, 0: none. */
#define COVEI_BLOCK_USED UINT64_C(1)
#define COVEI_BLOCK_DOOMED UINT64_C(2) /* freed inside a transaction that has not committed */
/* doomed, and its member has gone: freed whatever becomes of that transaction */
#define COVEI_BLOCK_ORPHAN UINT64_C(4)
#define COVEI_BLOCK_SIZE_MASK UINT64_C(0x0000fffffffffff0)
#define COVEI_BLOCK_OWNER_SHIFT 48

struct covei_block_shm {
    alignas(8) uint64_t size_and_marks;
    uint64_t before; /* offset of the block that lies before it; 0: it is the first */
    uint64_t next; /* in the free list, or in its owner's list of pending blocks; 0: none */
    uint64_t previous;
};
_Static_assert(offsetof(struct covei_block_shm, size_and_marks) == 0, "block layout");
_Static_assert(offsetof(struct covei_block_shm, before) == 8, "block layout");
_Static_assert(offsetof(struct covei_block_shm, next) == 16, "block layout");
_Static_assert(offsetof(struct covei_block_shm, previous) == 24, "block layout");
_Static_assert(sizeof(struct covei_block_shm) == 32, "block layout");

#endif
