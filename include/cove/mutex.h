/* cove/mutex.h - a robust lock in shared memory: plain data; all zero is unlocked (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A holder that dies, however it dies, frees the lock; what it had saved with cove_save (see transaction.h) is put
 * back first, and the next to take the lock is told COVE_RECOVERED. A thread that ends holding a lock counts as dead.
 * A holder that is merely stopped keeps it: timeouts are for that, and cove_last_error() then names the holder and for
 * how long at least it has held it.
 * Deadlock: where a wait has lasted a tenth of a second the chain of owners and waits is followed, and a cycle that
 * stands is told to the last who entered it: -EDEADLK, with the members of the cycle in cove_last_error(). Mutexes,
 * rwlocks and onces of one segment are followed; a cycle through a permit, or through two segments, is not seen. */
#ifndef COVE_MUTEX_H
#define COVE_MUTEX_H

#include <cove/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_mutex {
    alignas(8) uint64_t word; /* Cove's alone; aligned alike on 32 and 64 bit */
    uint32_t waits; /* how often somebody had to wait for it; a figure, for people */
    uint32_t longest_us; /* the longest that a waiter has seen it held by one, in microseconds */
} cove_mutex;

/* A fair one, as an initialiser: whoever waits longest is next, and nobody passes those who wait. It is a little
 * slower when nobody else wants it, much slower when all do. Stored before anybody else can use the mutex:
 * `thing->lock = (cove_mutex)COVE_MUTEX_FAIR` where the thing is made (inside cove_once_call, say); a named one has
 * the option `fair`. */
#define COVE_MUTEX_FAIR            \
    {                              \
        UINT64_C(0x20000000), 0, 0 \
    }

/* Open the mutex of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   mutex  gets its address, valid until cove_mutex_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * mutex's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_mutex_open(cove_mutex **mutex, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_mutex_open_in(cove_mutex **mutex, cove_segment *segment, const char *name,
                       const struct cove_sync_options *options);

/* Undo one cove_mutex_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_mutex_close(cove_mutex *mutex);

/* Take the lock.
 *   mutex       lies in `segment`
 *   timeout_ns  COVE_NOWAIT (trylock), nanoseconds, or COVE_FOREVER
 * Returns 0; COVE_RECOVERED (held; the holder before died and was rolled back);
 * -EBUSY (COVE_NOWAIT) or -ETIMEDOUT: cove_last_error names the holder; -EINTR (cove_interrupt);
 * -EDEADLK: this thread holds it already, or waits in a cycle; -ENOLCK: this thread holds 32 locks of the segment
 * already. Threads: any. Crash: held, and so freed, or not held.
 * Several locks are taken in one order everywhere (that of their addresses, say). */
COVE_API COVE_CHECKED
int cove_mutex_lock(cove_segment *segment, cove_mutex *mutex, int64_t timeout_ns);

/* Give it back. Inside a transaction that has saved something, the lock stays held until the commit or the abort
 * (two-phase locking), so that nobody builds on a change that may still be undone.
 * Returns 0, -EPERM (this thread does not hold it). */
COVE_API int cove_mutex_unlock(cove_segment *segment, cove_mutex *mutex);

/* Who holds it: fills `member` (row, pid, command...) and returns 1, or returns 0 where nobody does, or an error. A
 * snapshot: it may be out of date when it is read. */
COVE_API int cove_mutex_holder(cove_segment *segment, const cove_mutex *mutex, struct cove_member_info *member);

#ifdef __cplusplus
}
#endif
#endif
