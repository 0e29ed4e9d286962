/* cove/revision.h - reading without a lock: a number tells whether what was read is of one moment (see sync.h).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     struct arm { cove_mutex lock; cove_revision revision; double angle, speed; };   // the lock guards the rest
 *
 *     cove_begin(robot);                                    // who writes
 *     cove_mutex_lock(robot, &arm->lock, COVE_FOREVER);
 *     cove_revision_change(robot, &arm->revision);          // before the first change; odd from here on
 *     cove_save(robot, &arm->angle, sizeof arm->angle);
 *     arm->angle = angle;
 *     cove_commit(robot);                                   // even again
 *
 *     do {                                                  // who reads: takes no lock and writes nothing
 *         seen = cove_revision_read(robot, &arm->revision);
 *         angle = arm->angle, speed = arm->speed;           // perhaps half old, half new: only copied, not used yet
 *     } while (!cove_revision_same(&arm->revision, seen));
 *
 * A revision is odd while what goes with it is being changed, and grows with each change. Whoever finds the same even
 * number before and after copying has copied bytes of one moment. It also grows where a change is undone, by
 * cove_abort or after a death: a reader never takes what was half done, or half undone, for whole.
 * Several that were read first, and are the same still after all has been copied, cover all of that together.
 * A revision is written by these functions alone. It may lie in a stretch that cove_save keeps: it is left out. */
#ifndef COVE_REVISION_H
#define COVE_REVISION_H

#include <cove/segment.h>
#include <stdalign.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Lives in a segment, aligned to 8 bytes. */
typedef struct cove_revision {
    alignas(8) uint64_t word; /* Cove's alone; aligned alike on 32 and 64 bit */
} cove_revision;

/* Say that the transaction is about to change what goes with the revision. Comes before the first such change, under
 * the lock that guards it. Once in a transaction is enough; more does no harm.
 * Returns 0, -EINVAL (not an aligned address in the segment, or no transaction), -ENOSPC (as cove_save: nothing
 * may be changed), -E2BIG (65536 revisions in one transaction), -EPERM on a read-only segment, COVE_EFORKED,
 * COVE_ECLOSED.
 * Crash: what was changed is put back, and readers notice. */
COVE_API COVE_CHECKED
int cove_revision_change(cove_segment *segment, cove_revision *revision);

/* The number, before copying. Where it is odd, waits for it to become even, for 10 ms at most, and puts right what a
 * dead writer left; then it returns the odd number, and cove_revision_same will say no. A writer that is stopped so
 * holds readers up, and nothing is taken from it.
 *   segment  NULL: does not wait, and puts nothing right
 * Threads: any; read-only segments too (they put nothing right). Signals: async-signal-safe where `segment` is
 * NULL. */
COVE_API uint64_t cove_revision_read(cove_segment *segment, const cove_revision *revision);

/* After copying: 1: all that was copied since cove_revision_read returned `seen` is of one moment; 0: try again.
 * Threads: any. Async-signal-safe. */
COVE_API int cove_revision_same(const cove_revision *revision, uint64_t seen);

#ifdef __cplusplus
}
#endif
#endif
