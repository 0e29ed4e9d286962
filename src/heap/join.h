/* join.h - how an operation becomes part of the user's transaction, or has one of its own.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Whatever changes shared bytes in several steps and may be called inside a user's transaction is written like this
 * (operations of containers; cove_once_call; an object type that comes later):
 *
 *     struct covei_join join;
 *     int result = covei_join_begin(lane, &join);
 *     if (result < 0)
 *         return result;
 *     result = change(lane, ...);    // with covei_save before each change, covei_alloc, covei_free ...
 *     return covei_join_end(lane, &join, result);
 *
 * Where the user has no transaction this is one: it is committed, or aborted where `result` is below 0, and the locks
 * taken inside are free. Where he has one, what was done is final when his is; and if `result` is below 0 exactly
 * what was done since covei_join_begin is undone, and his goes on: bytes are back, blocks allocated are freed, blocks
 * freed are in use as before, revisions are even unless he changes them too. Joins nest.
 *
 * Locks. A lock that guards what is changed is taken before the first change and given back as cove_mutex_unlock
 * does: marked while the journal is not empty (covei_lane.marked), and else dropped. Never dropped while it is not,
 * even if the operation failed: the word may lie in a stretch that the user has saved.
 * The library's own locks (the heap's, the directory's) are held only around changes that have inner records, or no
 * records at all: they are dropped before the operation ends. Who holds one of them for the sake of saved bytes is
 * refused inside a user's transaction.
 *
 * A callback of the user's may begin and commit inside (that nests), and must not end what it did not begin:
 * cove_commit and cove_abort say -EBUSY there.
 *
 * Crash: at each instruction recovery undoes all of the transaction that is not committed, a part that is being
 * undone included: it is the newest part of the journal, and is taken off from the newest record on, each in one
 * step with what it stands for (join.c). */
#ifndef COVEI_HEAP_JOIN_H
#define COVEI_HEAP_JOIN_H

#include "heap/heap.h"

/* The caller's; nothing in it is of interest to him but `own`. */
struct covei_join {
    uint64_t outer; /* units of the outer journal that were there before */
    uint64_t newest_revision; /* this and the next two: of the lane, as they were */
    uint32_t effects, revisions;
    uint32_t floor;
    uint32_t depth; /* at which the operation runs */
    bool own; /* there was no transaction */
};

/* 0, or as cove_begin: then there is nothing to end. */
int covei_join_begin(struct covei_lane *lane, struct covei_join *join);

/* Returns `result`. Below 0: undone; where the undoing itself met an error (the heap's lock cannot be had, since the
 * thread holds 32 locks already, or its word was written over), the user's transaction can only be aborted, and his
 * commit does that: -ECANCELED. So does this call where that happened in a join inside of an own one. */
int covei_join_end(struct covei_lane *lane, struct covei_join *join, int result);

#endif
