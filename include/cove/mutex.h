/* cove/mutex.h - a robust lock in shared memory: plain data inside the user's own struct; all zero is unlocked.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A holder that dies, however it dies, frees the lock; what it had saved with cove_save (see transaction.h) is put
 * back first, and the next to take the lock is told COVE_RECOVERED. A thread that ends holding a lock counts as dead.
 * A holder that is merely stopped keeps it: timeouts are for that, and cove_last_error() then names the holder. */
#ifndef COVE_MUTEX_H
#define COVE_MUTEX_H

#include <cove/segment.h>
#include <stdalign.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. Never copied or moved while anybody may hold or want it. */
typedef struct cove_mutex {
    alignas(8) uint64_t word; /* Cove's alone; aligned alike on 32 and 64 bit */
} cove_mutex;

/* Take the lock.
 *   mutex       lies in `segment`
 *   timeout_ns  COVE_NOWAIT (trylock), nanoseconds, or COVE_FOREVER
 * Returns 0; COVE_RECOVERED (held; the holder before died and was rolled back);
 * -EBUSY (COVE_NOWAIT) or -ETIMEDOUT: cove_last_error names the holder; -EDEADLK: this thread holds it already;
 * -ENOLCK: this thread holds 32 locks of the segment already; -EINVAL: not an aligned address in the segment;
 * -EUSERS: more threads than the segment has room for; COVE_EFORKED; COVE_ECORRUPT.
 * A signal does not break the wait off. Threads: any. Crash: held, and so freed, or not held.
 * Several locks are taken in one order everywhere (that of their addresses, say). */
COVE_API COVE_CHECKED
int cove_mutex_lock(cove_segment *segment, cove_mutex *mutex, int64_t timeout_ns);

/* Give it back. Inside a transaction that has saved something, the lock stays held until the commit or the abort
 * (two-phase locking), so that nobody builds on a change that may still be undone.
 * Returns 0, -EPERM (this thread does not hold it), -EINVAL, COVE_EFORKED. */
COVE_API int cove_mutex_unlock(cove_segment *segment, cove_mutex *mutex);

/* Who holds it: fills `member` (row, pid, command...) and returns 1, or returns 0 where nobody does, or an error. A
 * snapshot: it may be out of date when it is read. */
COVE_API int cove_mutex_holder(cove_segment *segment, const cove_mutex *mutex, struct cove_member_info *member);

#ifdef __cplusplus
}
#endif
#endif
