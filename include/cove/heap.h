/* cove/heap.h - memory inside a segment, and references that mean the same in every process.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A segment lies at another address in each process, so what is stored in it are refs: offsets from its base; 0 is
 * null.
 *
 *     struct node { COVE_REF(struct node) next; int value; };
 *     struct node *next = COVE_AT(segment, node->next);
 *
 * Ownership. Memory taken by cove_alloc outside a transaction belongs to the member and goes back when it closes or
 * dies, until cove_keep. cove_alloc_into allocates and stores the ref into a field of the segment in one step, so
 * that no kill can come between. Inside a transaction, what is allocated goes back if it aborts or its process dies,
 * and what is freed is freed at its commit.
 * Threads: any. Signals: none is async-signal-safe. Crash: each call happened whole or not at all; nothing leaks. */
#ifndef COVE_HEAP_H
#define COVE_HEAP_H

#include <cove/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An offset in bytes from the segment's base; 0 is null. */
typedef uint64_t cove_ref;

/* A typed ref: 8 bytes, the same for 32- and 64-bit programs. `.type` gives the compiler its type and is never read.
 * */
#define COVE_REF(T)   \
    union {           \
        cove_ref ref; \
        T *type;      \
    }

/* The typed address behind a typed ref, bounded: NULL where it is null or does not lie in the segment. */
#define COVE_AT(segment, typed) ((__typeof__((typed).type))cove_at((segment), (typed).ref, sizeof *(typed).type))

/* The address of `size_bytes` bytes at `ref`; NULL for a null ref, and NULL with an error text for one that does not
 * lie in the segment. */
COVE_API void *cove_at(const cove_segment *segment, cove_ref ref, size_t size_bytes);

/* The ref of an address; 0 for NULL and for an address outside the segment. */
COVE_API cove_ref cove_ref_of(const cove_segment *segment, const void *address);

/* Take `size_bytes` bytes (1 or more), aligned to 16, holding anything. Returns a ref, or 0 with errno (ENOSPC: the
 * segment may not grow further or the machine has no memory left; EINVAL; EUSERS) and a sentence in cove_last_error.
 * */
COVE_API cove_ref cove_alloc(cove_segment *segment, size_t size_bytes);

/* As cove_alloc, and store the ref into `*field`, which lies in the segment and is written only under a lock that the
 * caller holds (or is seen by nobody else); what it held before is not freed. Returns 0 or an error; on error
 * `*field` is unchanged. */
COVE_API COVE_CHECKED
int cove_alloc_into(cove_segment *segment, cove_ref *field, size_t size_bytes);

/* The memory no longer belongs to this member: it stays until it is freed. Returns 0, -EINVAL (not a block in use).
 * */
COVE_API int cove_keep(cove_segment *segment, cove_ref ref);

/* Give memory back. Returns 0, or -EINVAL for what is not a block in use (a stray ref, a second free: nothing
 * happens). 0 is allowed. */
COVE_API int cove_free(cove_segment *segment, cove_ref ref);

/* Free what `*field` (in the segment) refers to and store 0 there, in one step. Returns 0 or as cove_free. */
COVE_API int cove_free_from(cove_segment *segment, cove_ref *field);

/* Bytes that the block at `ref` can hold (at least what was asked for), or 0 for what is not a block in use. */
COVE_API size_t cove_usable_size(cove_segment *segment, cove_ref ref);

#ifdef __cplusplus
}
#endif
#endif
