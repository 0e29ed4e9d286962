/* cove/once.h - done once by whoever comes first: plain data; all zero is not done (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Who comes while it is being done waits. Who does it and is killed leaves it undone, with what was saved put back,
 * and the next does it. */
#ifndef COVE_ONCE_H
#define COVE_ONCE_H

#include <cove/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_once {
    alignas(8) uint64_t word; /* Cove's alone */
    uint64_t done; /* 1: it is */
} cove_once;

/* Open the once of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   once  gets its address, valid until cove_once_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * once's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_once_open(cove_once **once, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_once_open_in(cove_once **once, cove_segment *segment, const char *name,
                      const struct cove_sync_options *options);

/* Undo one cove_once_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_once_close(cove_once *once);

/* Have `initialise` called, unless it was done. It runs inside a transaction (nested, where there is one already): what
 * it saves with cove_save before changing, and what it allocates, is undone if it fails or is killed. Inside a
 * transaction of the caller's it counts as done when that commits, and others wait until then. What it changes without
 * saving is found half done by the next, who is told so by COVE_RECOVERED.
 *   initialise  returns 0 or more: done; below 0: it failed, and what it returned is returned
 * Returns COVE_CREATED (this call did it), 0 (it was done), COVE_RECOVERED (this call did it, after one that died in
 * the middle), -EBUSY, -ETIMEDOUT (being done by whom cove_last_error names), -EINTR, -EDEADLK (called from
 * `initialise`). */
COVE_API COVE_CHECKED
int cove_once_call(cove_segment *segment, cove_once *once, int (*initialise)(void *context), void *context,
                   int64_t timeout_ns);

#ifdef __cplusplus
}
#endif
#endif
