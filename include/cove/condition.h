/* cove/condition.h - wait, with a mutex given back meanwhile, until something may have changed: plain data; all zero is
 * ready (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     while (!ready(things))
 *         cove_condition_wait(segment, &things->changed, &things->lock, COVE_FOREVER);
 *
 * A killed waiter takes no wake-up with it for good, and leaves nothing broken. */
#ifndef COVE_CONDITION_H
#define COVE_CONDITION_H

#include <cove/mutex.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_condition {
    alignas(8) uint32_t word; /* Cove's alone */
    uint32_t waits; /* as of cove_mutex */
} cove_condition;

/* Open the condition of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   condition  gets its address, valid until cove_condition_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * condition's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_condition_open(cove_condition **condition, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_condition_open_in(cove_condition **condition, cove_segment *segment, const char *name,
                           const struct cove_sync_options *options);

/* Undo one cove_condition_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_condition_close(cove_condition *condition);

/* Give the mutex back and wait, in one step as seen by who signals; then take it again. May return without a signal:
 * look at what you wait for in a loop.
 *   mutex       held by this thread
 *   timeout_ns  of the wait for the signal, not COVE_NOWAIT; the mutex is taken again however long that takes
 * Inside a transaction: commits first, at all levels, which frees all locks taken inside it; afterwards begins anew,
 * as deep as before, with the mutex held. Returns COVE_COMMITTED then, where it would return 0.
 * Returns 0; COVE_RECOVERED (a holder died meanwhile and was rolled back); COVE_COMMITTED; -ETIMEDOUT and -EINTR
 * (cove_interrupt): with the mutex held. With any other error the mutex is as it was, unless the sentence says
 * otherwise: -EPERM (this thread does not hold it), -EINVAL. */
COVE_API int cove_condition_wait(cove_segment *segment, cove_condition *condition, cove_mutex *mutex,
                                 int64_t timeout_ns);

/* Wake one who waits, or all. Best with the mutex held. Inside a transaction: others see what changed only after the
 * commit, and look then. Returns 0. Crash: done or not; where the death came before the waking, waiters notice within a
 * quarter of a second. */
COVE_API int cove_condition_signal(cove_segment *segment, cove_condition *condition);
COVE_API int cove_condition_broadcast(cove_segment *segment, cove_condition *condition);

#ifdef __cplusplus
}
#endif
#endif
