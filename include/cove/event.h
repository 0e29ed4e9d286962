/* cove/event.h - something that has happened, or has happened again: plain data; all zero is unset (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * An event is set or not, and has a version, one more with each cove_event_set. No wake-up is lost: who begins to wait
 * when it is set, or remembers a version, is not too late. */
#ifndef COVE_EVENT_H
#define COVE_EVENT_H

#include <cove/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_event {
    alignas(8) uint64_t word; /* Cove's alone */
    uint32_t waits; /* as of cove_mutex */
    uint32_t reserved;
} cove_event;

/* Open the event of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   event  gets its address, valid until cove_event_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * event's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_event_open(cove_event **event, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_event_open_in(cove_event **event, cove_segment *segment, const char *name,
                       const struct cove_sync_options *options);

/* Undo one cove_event_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_event_close(cove_event *event);

/* Set it: the version is one more, and all who wait go on. Returns 0, -EINVAL, COVE_EFORKED, COVE_ECLOSED.
 * Async-signal-safe where `segment` is given; it leaves cove_last_error alone. Crash: set or not; where the death came
 * before the waking, waiters notice within a quarter of a second. */
COVE_API int cove_event_set(cove_segment *segment, cove_event *event);

/* Unset it; the version stays. Returns and safety as cove_event_set. */
COVE_API int cove_event_reset(cove_segment *segment, cove_event *event);

/* Wait until it is set. One that is set and reset again while this waits counts too. Returns 0, -EBUSY (COVE_NOWAIT),
 * -ETIMEDOUT, -EINTR (cove_interrupt). Crash: nothing is left behind. */
COVE_API COVE_CHECKED
int cove_event_wait(cove_segment *segment, cove_event *event, int64_t timeout_ns);

/* Wait until the version is greater than `version`. `now`, unless NULL, gets what it is then. Returns as
 * cove_event_wait. */
COVE_API COVE_CHECKED
int cove_event_wait_beyond(cove_segment *segment, cove_event *event, uint64_t version, uint64_t *now,
                           int64_t timeout_ns);

/* The version, and whether it is set (NULL: not asked). Returns 0, or an error. Async-signal-safe as cove_event_set. */
COVE_API int cove_event_look(cove_segment *segment, const cove_event *event, uint64_t *version, int *is_set);

#ifdef __cplusplus
}
#endif
#endif
