/* cove/semaphore.h - a number of permits: plain data; all zero is a semaphore without any (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A permit can be taken in two ways, on one semaphore too.
 *   owned   cove_semaphore_acquire, cove_semaphore_release: as a lock that several may hold. A permit whose owner dies
 *           comes back by itself.
 *   plain   cove_semaphore_wait, cove_semaphore_post: as sem_t. What was taken is gone until somebody posts; a death
 *           gives nothing back, as nobody could know whether it should. For counting things that are there: jobs, free
 *           places. */
#ifndef COVE_SEMAPHORE_H
#define COVE_SEMAPHORE_H

#include <cove/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_semaphore {
    alignas(8) uint64_t word; /* Cove's alone */
    uint32_t waits; /* as of cove_mutex */
    uint32_t longest_us; /* the longest wait */
} cove_semaphore;

#define COVE_SEMAPHORE_MAX 0x3fffffff /* permits */

/* Open the semaphore of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   semaphore  gets its address, valid until cove_semaphore_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * semaphore's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_semaphore_open(cove_semaphore **semaphore, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_semaphore_open_in(cove_semaphore **semaphore, cove_segment *segment, const char *name,
                           const struct cove_sync_options *options);

/* Undo one cove_semaphore_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_semaphore_close(cove_semaphore *semaphore);

/* Take a permit that belongs to this thread until it gives it back, ends or dies.
 * Returns 0; -EBUSY (COVE_NOWAIT) or -ETIMEDOUT: cove_last_error names an owner; -EINTR (cove_interrupt); -ENOLCK.
 * Crash: owned, and so given back, or not taken. */
COVE_API COVE_CHECKED
int cove_semaphore_acquire(cove_segment *segment, cove_semaphore *semaphore, int64_t timeout_ns);

/* Give an owned one back. (Transactions do not matter: nothing is guarded by a permit.) Returns 0, -EPERM (this thread
 * owns none of it). */
COVE_API int cove_semaphore_release(cove_segment *segment, cove_semaphore *semaphore);

/* Take a permit for good. Returns 0, -EBUSY (COVE_NOWAIT), -ETIMEDOUT, -EINTR (cove_interrupt).
 * Crash: taken or not; a permit that was taken does not come back. */
COVE_API COVE_CHECKED
int cove_semaphore_wait(cove_segment *segment, cove_semaphore *semaphore, int64_t timeout_ns);

/* Add `permits` permits, and wake as many. Returns 0, -EINVAL, -EOVERFLOW (more than COVE_SEMAPHORE_MAX; nothing was
 * added), COVE_EFORKED, COVE_ECLOSED. Async-signal-safe where `segment` is given; it leaves cove_last_error alone.
 * Crash: added or not. */
COVE_API int cove_semaphore_post(cove_segment *segment, cove_semaphore *semaphore, uint32_t permits);

/* Permits that could be taken now, or an error. A snapshot. */
COVE_API int64_t cove_semaphore_value(cove_segment *segment, const cove_semaphore *semaphore);

#ifdef __cplusplus
}
#endif
#endif
