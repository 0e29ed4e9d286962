/* sync.h - what the locks and meeting points share inside the library.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_SYNC_SYNC_H
#define COVEI_SYNC_SYNC_H

#include "object/directory.h"

#include <cove/sync.h>

/* ---- enter.c: the beginning and the end of public calls */

/* One public call: whose, where. */
struct covei_call {
    struct cove_segment *segment;
    struct covei_lane *lane;
    int64_t timeout_ns;
    uint32_t *waits; /* figures of the thing, or NULL */
    uint32_t *longest_us;
};
/* Find the segment where it is NULL, this thread's lane, and see whether the thing (`bytes` bytes of it) lies in the
 * segment's memory, aligned to 8. 0, or an error with a sentence. From here on cove_interrupt ends the call's waits. */
int covei_call_begin(struct covei_call *call, cove_segment *segment, const void *thing, size_t bytes, const char *what);
/* Add to the thing's figures what was waited, pay debts. Returns `result`. */
int covei_call_end(struct covei_call *call, int result);
/* For calls that need no lane and may run in a signal handler: 0, or an error without a sentence. */
int covei_call_light(cove_segment **segment, const void *thing, size_t bytes);

/* ---- figures.c: what types say of themselves */

/* Append " name=value"; what does not fit is left out. */
void covei_figure(char *text, size_t text_bytes, const char *format, ...) COVEI_PRINTF(3, 4);
/* Lanes that wait for the thing at `offset` (enum covei_waits of any kind). */
uint32_t covei_waiters(const struct cove_segment *segment, uint64_t offset);

/* ---- named.c: opening by name */

int covei_named_open(void **thing, const struct covei_type *type, size_t bytes, const char *name,
                     const struct cove_sync_options *options);
int covei_named_open_in(void **thing, const struct covei_type *type, size_t bytes, cove_segment *segment,
                        const char *name, const struct cove_sync_options *options);
int covei_named_close(void *thing);

/* ---- marks.c: what stands in held[] beside lock words */

void covei_rwlock_mark_gone(struct cove_segment *segment, uint64_t offset);
void covei_semaphore_mark_gone(struct cove_segment *segment, uint64_t offset, bool died);
void covei_barrier_mark_gone(struct cove_segment *segment, uint64_t offset, uint32_t epoch, bool died);

/* A mark in an empty place of held[]; the place, or COVEI_LANE_LOCKS with a sentence (-ENOLCK). Ordering is the
 * caller's. */
uint32_t covei_mark_set(struct covei_lane *lane, uint64_t held);
void covei_mark_clear(struct covei_lane *lane, uint32_t place);
/* The place of a permit's or a party's mark, as it is there; COVEI_LANE_LOCKS where there is none. */
uint32_t covei_mark_place(const struct covei_lane_shm *shm, uint64_t held);
/* Lanes that have that mark (COVEI_HELD_EPOCH apart), but `except`: how many places, and their lanes to watch. */
uint32_t covei_marks_count(const struct cove_segment *segment, uint64_t held, uint32_t except,
                           struct covei_watch *watch);
/* Recover those of them that are dead. True: somebody was. */
bool covei_marks_bury(struct covei_lane *lane, uint64_t held);

#endif
