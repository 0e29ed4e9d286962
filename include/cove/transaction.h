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
 * first, and then frees the locks. A thread that ends inside a transaction counts as dead.
 * Nesting: transactions nest by counting: the outermost commit is the one that counts.
 * Locks: mutexes and rwlocks that are given back inside, after something was saved, stay held until the end
 * (two-phase locking), so that nobody builds on a change that may still be undone. Those that were taken before
 * cove_begin, and not given back, stay held after the end. Permits of semaphores and memberships of barriers have
 * nothing to do with it.
 * What is saved: bytes that are written solely under locks held by the transaction. Mutexes and rwlocks that this
 * thread holds may lie among them, and revisions that it changes (revision.h): they are left out. Other locks,
 * semaphores, events, conditions, barriers, onces and counters may not: others write to them meanwhile.
 * Inside a transaction memory that is allocated goes back if it does not commit, and memory that is freed goes
 * when it does (heap.h). */
#ifndef COVE_TRANSACTION_H
#define COVE_TRANSACTION_H

#include <cove/segment.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Begin, or nest one deeper. Returns 0, -EUSERS (more threads than the segment has room for), -EPERM on a read-only
 * segment, COVE_EFORKED, COVE_ECLOSED. */
COVE_API int cove_begin(cove_segment *segment);

/* Keep `size_bytes` bytes at `address` in the segment, before they are changed. Any size, any number of times: a long
 * journal grows from the segment's heap, and goes back there at the end. Costs about the copy; the same bytes saved
 * again cost the same again, and change nothing.
 * Returns 0, -EINVAL (not inside the segment, or no transaction), -ENOSPC (no room for the journal), -ENOLCK (it must
 * grow, for which there is a lock, and the thread holds 32 already). On any error nothing was saved and nothing
 * may be changed; the transaction goes on as it was, and can be committed or aborted. */
COVE_API COVE_CHECKED
int cove_save(cove_segment *segment, void *address, size_t size_bytes);

/* Make the changes final and free every lock taken since cove_begin that is still held. Memory freed inside the
 * transaction goes back now. Inside a nested transaction: one level up, nothing else. Returns 0, -EINVAL (no
 * transaction), -EBUSY (in a function that a call of Cove calls, as cove_once_call: what that began is not to be
 * ended here), -ECANCELED (a call inside failed and could not be undone by itself: all was undone instead).
 * Crash: all of it happened, or nothing. */
COVE_API int cove_commit(cove_segment *segment);

/* Put everything back as it was at the outermost cove_begin, give back what was allocated since, and free the locks.
 * Ends all levels. Returns 0, -EINVAL (no transaction), -EBUSY (as cove_commit: return an error from there instead).
 * Crash: nothing happened. */
COVE_API int cove_abort(cove_segment *segment);

#ifdef __cplusplus
}
#endif
#endif
