/* cove/transaction.h - changes to the user's own structs that happen whole or not at all, whatever kills the process.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     cove_begin(bank);
 *     cove_mutex_lock(bank, &a->lock, COVE_FOREVER);
 *     cove_save(bank, &a->cents, sizeof a->cents);   // before the change: keep what was there
 *     a->cents -= 100;
 *     cove_commit(bank);                             // the change is made, the locks are free
 *
 * A transaction belongs to one thread and one segment. cove_save keeps the old bytes in the thread's journal in the
 * segment; cove_commit forgets them by one store; cove_abort, or recovery after a death, puts them back, newest
 * first, and then frees the locks. Only bytes that are written solely under locks held by the transaction are saved.
 * Transactions nest by counting: the outermost commit is the one that counts. */
#ifndef COVE_TRANSACTION_H
#define COVE_TRANSACTION_H

#include <cove/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Begin, or nest one deeper. Returns 0, -EUSERS (more threads than the segment has room for), COVE_EFORKED,
 * COVE_ECLOSED. */
COVE_API int cove_begin(cove_segment *segment);

/* Keep `size_bytes` bytes at `address` in the segment, before they are changed. Any size; a long journal grows from
 * the segment's heap.
 * Returns 0, -EINVAL (not inside the segment, or no transaction), -ENOSPC (no room for the journal: nothing was
 * saved, and nothing may be changed), -EPERM on a read-only segment. Costs about the copy. */
COVE_API COVE_CHECKED
int cove_save(cove_segment *segment, void *address, size_t size_bytes);

/* Make the changes final and free every lock taken since cove_begin that is still held. Memory freed inside the
 * transaction goes back now. Inside a nested transaction: one level up, nothing else. Returns 0, -EINVAL (no
 * transaction). */
COVE_API int cove_commit(cove_segment *segment);

/* Put everything back as it was at the outermost cove_begin, give back what was allocated since, and free the locks.
 * Ends all levels. Returns 0, -EINVAL (no transaction). */
COVE_API int cove_abort(cove_segment *segment);

#ifdef __cplusplus
}
#endif
#endif
