/* cove/counter.h - a number that all may change and wait for: plain data; all zero is 0 (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * It gets its first value when it is made, once, not by each process that starts. A named one may be spread over
 * cache lines (option `lines`), so that many who add do not wait for each other; reading it then adds the lines up. */
#ifndef COVE_COUNTER_H
#define COVE_COUNTER_H

#include <cove/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_counter {
    alignas(8) int64_t value; /* Cove's alone, as all that follows */
    uint32_t waiters;
    uint32_t lines;
} cove_counter;

/* Open the counter of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   counter  gets its address, valid until cove_counter_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * counter's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_counter_open(cove_counter **counter, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_counter_open_in(cove_counter **counter, cove_segment *segment, const char *name,
                         const struct cove_sync_options *options);

/* Undo one cove_counter_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_counter_close(cove_counter *counter);

/* Add `amount`, which may be negative; wraps around. `now`, unless NULL, gets the value after it: exact where the
 * counter is not spread, else the sum of the lines at about that time. Returns 0. Crash: added or not. */
COVE_API int cove_counter_add(cove_segment *segment, cove_counter *counter, int64_t amount, int64_t *now);

/* Its value. Returns 0. */
COVE_API int cove_counter_get(cove_segment *segment, const cove_counter *counter, int64_t *value);

/* Give it a value. `before`, unless NULL, gets the one that it had. Not of one that is spread: -EOPNOTSUPP. */
COVE_API int cove_counter_set(cove_segment *segment, cove_counter *counter, int64_t value, int64_t *before);

/* Wait until it is at least `value`, or until it is another one than `value`. `now`, unless NULL, gets what it is then.
 * Returns 0, -EBUSY (COVE_NOWAIT), -ETIMEDOUT, -EINTR (cove_interrupt). */
COVE_API COVE_CHECKED
int cove_counter_wait(cove_segment *segment, cove_counter *counter, int64_t value, int64_t *now, int64_t timeout_ns);
COVE_API COVE_CHECKED
int cove_counter_wait_change(cove_segment *segment, cove_counter *counter, int64_t value, int64_t *now,
                             int64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
