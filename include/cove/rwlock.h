/* cove/rwlock.h - many read, or one writes: plain data; all zero is unlocked (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Readers scale: who reads writes nothing that other readers write, so eight readers on eight cores do not slow each
 * other down. Writers do not starve: while one wants it, readers that come later wait. Readers do not starve either:
 * those who wait take turns with writers.
 * A dead reader holds nobody; a dead writer's changes (cove_save) are put back first, and the next to lock, to read or
 * to write, is told COVE_RECOVERED. */
#ifndef COVE_RWLOCK_H
#define COVE_RWLOCK_H

#include <cove/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_rwlock {
    alignas(8) uint64_t word; /* Cove's alone, as all that follows */
    uint32_t drain;
    uint32_t reserved; /* 0 */
    uint32_t waits; /* as of cove_mutex */
    uint32_t longest_us;
} cove_rwlock;

/* Open the rwlock of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   rwlock  gets its address, valid until cove_rwlock_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * rwlock's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_rwlock_open(cove_rwlock **rwlock, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_rwlock_open_in(cove_rwlock **rwlock, cove_segment *segment, const char *name,
                        const struct cove_sync_options *options);

/* Undo one cove_rwlock_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_rwlock_close(cove_rwlock *rwlock);

/* Lock to read, together with others who read. A thread that reads under it already may do so again.
 * Returns as cove_mutex_lock; -EDEADLK also: this thread holds it to write. */
COVE_API COVE_CHECKED
int cove_rwlock_lock_shared(cove_segment *segment, cove_rwlock *rwlock, int64_t timeout_ns);

/* Lock to write, alone. Returns as cove_mutex_lock; -EDEADLK also: this thread reads under it (unlock first: between
 * the two others may write). */
COVE_API COVE_CHECKED
int cove_rwlock_lock(cove_segment *segment, cove_rwlock *rwlock, int64_t timeout_ns);

/* Give back what this thread holds of it, to read or to write. Inside a transaction that has saved something it stays
 * held until the end, as a mutex does. Returns 0, -EPERM (this thread holds nothing of it). */
COVE_API int cove_rwlock_unlock(cove_segment *segment, cove_rwlock *rwlock);

#ifdef __cplusplus
}
#endif
#endif
