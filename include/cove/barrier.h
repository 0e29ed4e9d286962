/* cove/barrier.h - a place where a number of threads wait for each other, round after round: plain data; all zero is
 * ready (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A thread becomes a party by its first wait and stays one until cove_barrier_leave, cove_close or its end. A party
 * that dies, or whose thread ends, between or inside rounds, breaks the barrier: each other party is told COVE_EPEER
 * once, instead of waiting for ever, and so is who comes before it is whole again. cove_barrier_reset makes it whole;
 * a newcomer can take the dead one's place.
 * Where all parties are gone the next to come finds it whole. */
#ifndef COVE_BARRIER_H
#define COVE_BARRIER_H

#include <cove/sync.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_barrier {
    alignas(8) uint64_t word; /* Cove's alone */
    uint32_t parties;
    uint32_t waits; /* as of cove_mutex */
} cove_barrier;

#define COVE_BARRIER_MAX 16383 /* parties */

/* Open the barrier of that name ("SEGMENT/OBJECT"); where segment or object is missing, make it.
 *   barrier  gets its address, valid until cove_barrier_close
 *   options  NULL for defaults
 * Returns 0, COVE_CREATED, or: COVE_ENAME, -ENOENT, -EEXIST (by flags), COVE_ETYPE (an object of that name is
 * something else), -ENOSPC, -EBUSY (making it inside a transaction), -EINVAL (an option that is none of a
 * barrier's), and as cove_open.
 * Crash inside: it is there whole, or not at all. */
COVE_API COVE_CHECKED
int cove_barrier_open(cove_barrier **barrier, const char *name, const struct cove_sync_options *options);

/* The same in a segment that is open; nothing is to be closed then but the segment. */
COVE_API COVE_CHECKED
int cove_barrier_open_in(cove_barrier **barrier, cove_segment *segment, const char *name,
                         const struct cove_sync_options *options);

/* Undo one cove_barrier_open: closes the segment behind it, once. Returns as cove_close. NULL is allowed. */
COVE_API int cove_barrier_close(cove_barrier *barrier);

/* Wait until `parties` threads have come; all give the same number, which the first to come fixes for good.
 * Returns 0, or COVE_LEADER to exactly one of the round; COVE_EPEER (a party died: nobody of this round goes on as if
 * all had come; all call cove_barrier_reset and come again); -ETIMEDOUT and -EINTR (cove_interrupt): this thread has
 * not come, and may come again; -EINVAL (another number of parties, or 0); -ENOLCK. COVE_NOWAIT: -EBUSY, unless this is
 * the last that is missing. */
COVE_API COVE_CHECKED
int cove_barrier_wait(cove_segment *segment, cove_barrier *barrier, uint32_t parties, int64_t timeout_ns);

/* Make a broken one whole: who has come is forgotten. May be called by all survivors; the first counts. Returns 0
 * (also where it is not broken). */
COVE_API int cove_barrier_reset(cove_segment *segment, cove_barrier *barrier);

/* No longer a party: what happens to this thread does not break the barrier any more. Returns 0, -EPERM (was none). */
COVE_API int cove_barrier_leave(cove_segment *segment, cove_barrier *barrier);

#ifdef __cplusplus
}
#endif
#endif
