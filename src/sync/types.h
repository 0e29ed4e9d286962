/* types.h - what the files of the table of types for locks and meeting points share.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef COVEI_SYNC_TYPES_H
#define COVEI_SYNC_TYPES_H

#include "sync/sync.h"

#include <cove/barrier.h>
#include <cove/condition.h>
#include <cove/counter.h>
#include <cove/event.h>
#include <cove/mutex.h>
#include <cove/once.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>

#define COVEI_COUNTER_LINES_MAX 64u

/* The memory of a counter with so many lines: the struct, padded to a line, then the lines. */
static inline uint64_t covei_counter_bytes(uint32_t lines)
{
    return lines == 0 ? sizeof(struct cove_counter) : COVEI_CACHE_LINE * (UINT64_C(1) + lines);
}

/* Parts of a barrier's word (barrier.c). */
#define COVEI_BARRIER_BROKEN UINT64_C(1)
#define COVEI_BARRIER_ARRIVED(word) ((uint32_t)((word) >> 32) & 0xffff)
#define COVEI_BARRIER_EPOCH(word) ((uint32_t)((word) >> 48))

/* ---- figures.c */

void covei_describe_mutex(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                          size_t text_bytes);
void covei_describe_rwlock(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                           size_t text_bytes);
void covei_describe_semaphore(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                              size_t text_bytes);
void covei_describe_event(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                          size_t text_bytes);
void covei_describe_condition(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                              size_t text_bytes);
void covei_describe_barrier(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                            size_t text_bytes);
void covei_describe_once(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                         size_t text_bytes);
void covei_describe_counter(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                            size_t text_bytes);

#endif
