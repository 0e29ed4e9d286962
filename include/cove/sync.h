/* cove/sync.h - what all locks and meeting points share: opening them by name, options, timeouts, interrupting.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Mutex, rwlock, semaphore, event, condition, barrier, once and counter are plain data. They lie in a segment: inside
 * a struct of the user's, where all bytes 0 is ready for use, or as a named object of their own.
 *
 *     struct arm { cove_mutex lock; double angle; };          // in a user's struct
 *     cove_mutex_lock(segment, &arm->lock, COVE_FOREVER);
 *
 *     cove_mutex *lock;                                       // by name, made where it is missing
 *     cove_mutex_open(&lock, "robot/arm", NULL);
 *     cove_mutex_lock(NULL, lock, COVE_FOREVER);
 *
 * Segment. Every call names the segment in which the thing lies. NULL has it found by the address, among those that
 * this process has open; that costs some nanoseconds more.
 * Timeouts. COVE_NOWAIT (do not wait: -EBUSY), nanoseconds on the monotonic clock (-ETIMEDOUT), or COVE_FOREVER.
 * Signals. A handler that runs does not end a wait. cove_interrupt does: -EINTR.
 * Places. A thread has 32 in each segment, for its locks, read locks, owned permits and memberships of barriers
 * together (-ENOLCK).
 * Transactions. What cove_save keeps may hold few of these: transaction.h says which.
 * Every call may return, besides what stands with it: -EINVAL (not an aligned address in the segment's memory),
 * -EPERM (read-only), -EUSERS (more threads than the segment has room for), COVE_EFORKED, COVE_ECLOSED,
 * COVE_ETRUNCATED, COVE_ECORRUPT (somebody wrote over it). cove_last_error says what and what to do.
 * Never copied or moved while anybody may use it. */
#ifndef COVE_SYNC_H
#define COVE_SYNC_H

#include <cove/segment.h>
#include <stdalign.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a named one is made. All zero means all defaults; what does not concern a type stays 0. Where the object exists
 * only `flags` counts. */
struct cove_sync_options {
    uint32_t flags; /* COVE_EXISTING, COVE_EXCLUSIVE */
    uint32_t fair; /* mutex: 1: served in the order of arrival */
    uint32_t permits; /* semaphore: at first */
    uint32_t lines; /* counter: cache lines over which it is spread, at most 64; 0: none */
    int64_t value; /* counter: at first */
    uint64_t reserved[5]; /* 0 */
};

/* The segment, open in this process, in whose memory `address` lies; NULL where there is none.
 * Threads: any. Signals: not async-signal-safe. */
COVE_API cove_segment *cove_segment_of(const void *address);

/* End all waits of this process that are under way in any of its threads, in streams too: they return -EINTR. Waits
 * that begin later are not concerned. For a handler of SIGINT, say. What a call waits for inside, as the directory, is
 * waited for still.
 * Returns 0. Async-signal-safe. */
COVE_API int cove_interrupt(void);

#ifdef __cplusplus
}
#endif
#endif
