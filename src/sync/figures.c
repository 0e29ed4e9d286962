/* figures.c - what locks and meeting points say of themselves: `cove stat robot/arm`.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * For people: snapshots, each figure from its own moment. Nothing here waits or changes anything, and nothing that is
 * read is believed without a bound. */
#include "sync/types.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- words that others may be changing. acquire: for what is read next. */

static uint64_t load64(const void *word)
{
    return atomic_load_explicit((const _Atomic uint64_t *)word, memory_order_acquire);
}

static uint32_t load32(const void *word)
{
    return atomic_load_explicit((const _Atomic uint32_t *)word, memory_order_acquire);
}

/* ---- parts of a line */

void covei_figure(char *text, size_t text_bytes, const char *format, ...)
{
    char figure[128];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(figure, sizeof figure, format, arguments);
    va_end(arguments);
    size_t used = strlen(text);
    if (length < 0 || (size_t)length >= sizeof figure || used + 1 + (size_t)length >= text_bytes)
        return;
    (void)snprintf(text + used, text_bytes - used, "%s%s", used > 0 ? " " : "", figure);
}

uint32_t covei_waiters(const struct cove_segment *segment, uint64_t offset)
{
    uint32_t count = 0;
    uint32_t lanes = (uint32_t)covei_min(atomic_load_explicit(&segment->header->lanes_ready, memory_order_acquire),
                                         segment->max_lanes);
    for (uint32_t i = 0; i < lanes; i++)
        /* relaxed: a figure. */
        count += atomic_load_explicit(&segment->owners[i], memory_order_relaxed) != 0 &&
                 COVEI_HELD_OFFSET(atomic_load_explicit(&segment->lanes[i].waits_for, memory_order_relaxed)) == offset;
    return count;
}

/* Figures have spaces between them, and an equals sign inside. */
static void one_word(char *text)
{
    for (char *c = text; *c; c++)
        if (*c == ' ' || *c == '=')
            *c = '_';
}

static void add_holder(const struct cove_segment *segment, uint64_t word, char *text, size_t text_bytes)
{
    uint32_t index = (uint32_t)(word & COVEI_LOCK_OWNER) - 1;
    uint32_t owner = index < segment->max_lanes ? atomic_load_explicit(&segment->owners[index], memory_order_acquire)
                                                : 0;
    if (owner == 0 || owner > segment->max_members) {
        covei_figure(text, text_bytes, "holder=%s", (word & COVEI_LOCK_OWNER) == 0 ? "none" : "nobody-known");
        return;
    }
    struct cove_member_info member;
    covei_row_describe(segment, owner - 1, &member);
    one_word(member.command);
    covei_figure(text, text_bytes, "holder=%s", *member.command ? member.command : "?");
    covei_figure(text, text_bytes, "pid=%" PRId32, member.pid);
    covei_figure(text, text_bytes, "thread=%" PRId32,
                 atomic_load_explicit(&segment->lanes[index].thread_id, memory_order_relaxed)); /* a figure */
    if (covei_lane_died(&segment->lanes[index]) || !member.alive)
        covei_figure(text, text_bytes, "dead=yes");
}

static void add_waiters(const struct cove_segment *segment, const void *object, char *text, size_t text_bytes)
{
    covei_figure(text, text_bytes, "waiters=%" PRIu32, covei_waiters(segment, covei_offset(segment, object)));
}

static void add_waits(const void *waits, char *text, size_t text_bytes)
{
    covei_figure(text, text_bytes, "waits=%" PRIu32, load32(waits));
}

static void add_longest(const char *name, const void *longest_us, char *text, size_t text_bytes)
{
    uint32_t us = load32(longest_us);
    covei_figure(text, text_bytes, "%s=%" PRIu32 ".%03" PRIu32, name, us / 1000, us % 1000);
}

static uint32_t count_marks(const struct cove_segment *segment, const void *object, enum covei_held kind)
{
    return covei_marks_count(segment, COVEI_HELD(kind, covei_offset(segment, object)), COVEI_NO_LANE, NULL);
}

/* ---- each type. The memory is as large as the struct: `sound` has looked. */

void covei_describe_mutex(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                          size_t text_bytes)
{
    (void)size_bytes;
    const cove_mutex *mutex = object;
    uint64_t word = load64(&mutex->word);
    *text = '\0';
    add_holder(segment, word, text, text_bytes);
    add_waiters(segment, object, text, text_bytes);
    add_waits(&mutex->waits, text, text_bytes);
    add_longest("longest_hold_ms", &mutex->longest_us, text, text_bytes);
    if (word & COVEI_LOCK_FAIR)
        covei_figure(text, text_bytes, "fair=1");
}

void covei_describe_rwlock(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                           size_t text_bytes)
{
    (void)size_bytes;
    const cove_rwlock *rwlock = object;
    *text = '\0';
    add_holder(segment, load64(&rwlock->word), text, text_bytes);
    covei_figure(text, text_bytes, "readers=%" PRIu32, count_marks(segment, object, COVEI_HELD_SHARED));
    add_waiters(segment, object, text, text_bytes);
    add_waits(&rwlock->waits, text, text_bytes);
    add_longest("longest_hold_ms", &rwlock->longest_us, text, text_bytes);
}

void covei_describe_semaphore(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                              size_t text_bytes)
{
    (void)size_bytes;
    const cove_semaphore *semaphore = object;
    uint32_t permits = (uint32_t)(load64(&semaphore->word) & COVE_SEMAPHORE_MAX);
    uint32_t owned = count_marks(segment, object, COVEI_HELD_PERMIT);
    *text = '\0';
    covei_figure(text, text_bytes, "permits=%" PRIu32, permits);
    covei_figure(text, text_bytes, "free=%" PRIu32, permits > owned ? permits - owned : 0);
    covei_figure(text, text_bytes, "owners=%" PRIu32, owned);
    add_waiters(segment, object, text, text_bytes);
    add_waits(&semaphore->waits, text, text_bytes);
    add_longest("longest_wait_ms", &semaphore->longest_us, text, text_bytes);
}

void covei_describe_event(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                          size_t text_bytes)
{
    (void)size_bytes;
    const cove_event *event = object;
    uint64_t word = load64(&event->word);
    *text = '\0';
    covei_figure(text, text_bytes, "set=%d", (int)(word & 1));
    covei_figure(text, text_bytes, "version=%" PRIu64, word >> 2);
    add_waiters(segment, object, text, text_bytes);
    add_waits(&event->waits, text, text_bytes);
}

void covei_describe_condition(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                              size_t text_bytes)
{
    (void)size_bytes;
    const cove_condition *condition = object;
    *text = '\0';
    add_waiters(segment, object, text, text_bytes);
    add_waits(&condition->waits, text, text_bytes);
}

void covei_describe_barrier(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                            size_t text_bytes)
{
    (void)size_bytes;
    const cove_barrier *barrier = object;
    uint64_t word = load64(&barrier->word);
    *text = '\0';
    covei_figure(text, text_bytes, "parties=%" PRIu32, load32(&barrier->parties));
    covei_figure(text, text_bytes, "arrived=%" PRIu32, COVEI_BARRIER_ARRIVED(word));
    covei_figure(text, text_bytes, "broken=%d", (int)(word & COVEI_BARRIER_BROKEN));
    add_waiters(segment, object, text, text_bytes);
    add_waits(&barrier->waits, text, text_bytes);
}

void covei_describe_once(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                         size_t text_bytes)
{
    (void)size_bytes;
    const cove_once *once = object;
    *text = '\0';
    covei_figure(text, text_bytes, "done=%" PRIu64, load64(&once->done));
    add_holder(segment, load64(&once->word), text, text_bytes);
    add_waiters(segment, object, text, text_bytes);
}

void covei_describe_counter(const struct cove_segment *segment, const void *object, uint64_t size_bytes, char *text,
                            size_t text_bytes)
{
    const cove_counter *counter = object;
    uint64_t sum = load64(&counter->value);
    uint64_t lines = size_bytes < 2 * COVEI_CACHE_LINE ? 0 : size_bytes / COVEI_CACHE_LINE - 1;
    for (uint64_t line = 0; line < lines; line++)
        sum += load64((const unsigned char *)object + COVEI_CACHE_LINE * (1 + line));
    *text = '\0';
    covei_figure(text, text_bytes, "value=%" PRId64, (int64_t)sum);
    covei_figure(text, text_bytes, "lines=%" PRIu64, lines);
    add_waiters(segment, object, text, text_bytes);
}
