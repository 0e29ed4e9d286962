/* unit.h - what the unit tests share: results with their sentences, segments that must be sound.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef UNIT_H
#define UNIT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "testing.h"

#include "base/error.h"

#include <cove/base.h>
#include <cove/heap.h>
#include <cove/mutex.h>
#include <cove/object.h>
#include <cove/segment.h>
#include <cove/stream.h>
#include <cove/transaction.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ThreadSanitizer has threads and locks of its own, which a raw clone does not know of; all sanitizers want much address
 * space and make system calls of their own. */
#define UNIT_UNDER_TSAN 0
#define UNIT_SANITIZED 0
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#undef UNIT_UNDER_TSAN
#define UNIT_UNDER_TSAN 1
#endif
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef UNIT_SANITIZED
#define UNIT_SANITIZED 1
#endif
#endif

#define UNIT_MS INT64_C(1000000) /* in ns */
#define UNIT_S INT64_C(1000000000)

/* The call returns that, and an error comes with a sentence. */
#define EXPECT(expected, call) unit_expect(#call, (expected), (unit_forget(), (call)), __FILE__, __LINE__)
/* The same of a result that was got before. */
#define EXPECT_WAS(expected, result) unit_expect(#result, (expected), (result), __FILE__, __LINE__)
/* The same, and the sentence holds `part`. */
#define EXPECT_SAYS(expected, call, part)                    \
    do {                                                     \
        EXPECT(expected, call);                              \
        unit_expect_says(#call, (part), __FILE__, __LINE__); \
    } while (0)
/* 0 or more. */
#define EXPECT_GOOD(call) unit_expect_good(#call, (call), __FILE__, __LINE__)

/* The last error's sentence goes, so that the next one is known to be new. */
static inline void unit_forget(void)
{
    (void)covei_error(0, "%s", "");
}

static inline void unit_expect(const char *what, int64_t expected, int64_t got, const char *file, int line)
{
    if (got != expected) {
        print_error("%s: %" PRId64 " (%s: %s), not %" PRId64 " (%s)\n", what, got, cove_errname((int)got),
                    got < 0 ? cove_last_error() : "", expected, cove_errname((int)expected));
        _fail(file, line);
    }
    if (got < 0 && *cove_last_error() == '\0') {
        print_error("%s: an error without a sentence\n", what);
        _fail(file, line);
    }
}

static inline void unit_expect_says(const char *what, const char *part, const char *file, int line)
{
    if (!strstr(cove_last_error(), part)) {
        print_error("%s: \"%s\" does not say \"%s\"\n", what, cove_last_error(), part);
        _fail(file, line);
    }
}

static inline int64_t unit_expect_good(const char *what, int64_t got, const char *file, int line)
{
    if (got < 0) {
        print_error("%s: %" PRId64 " (%s: %s)\n", what, got, cove_errname((int)got), cove_last_error());
        _fail(file, line);
    }
    return got;
}

static inline cove_segment *unit_open_as(const char *name, const struct cove_options *options)
{
    cove_segment *segment = NULL;
    EXPECT_GOOD(cove_open(&segment, name, options));
    assert_non_null(segment);
    return segment;
}

static inline cove_segment *unit_open(const char *name)
{
    return unit_open_as(name, NULL);
}

/* In a spawned process: drop what it inherited. (valgrind, looking for leaks at its end, would walk through the 64 GiB of
 * address space that a segment takes, most of which has no file behind it.) */
static inline void unit_drop_inherited(cove_segment *segment)
{
    EXPECT(0, cove_close(segment));
}

static inline void unit_close(cove_segment *segment)
{
    EXPECT(0, cove_close(segment));
}

static inline void unit_tell(const char *sentence, void *context)
{
    (void)context;
    print_error("check: %s\n", sentence);
}

/* cove_segment_check finds nothing. */
static inline void unit_sound(cove_segment *segment)
{
    EXPECT(0, cove_segment_check(segment, unit_tell, NULL));
}

static inline struct cove_segment_info unit_stat(cove_segment *segment)
{
    struct cove_segment_info info;
    EXPECT(0, cove_segment_stat(segment, &info));
    return info;
}

static inline uint64_t unit_free_bytes(cove_segment *segment)
{
    return unit_stat(segment).heap_free_bytes;
}

/* Remove it, whoever is in it, and see that nothing of it is left. */
static inline void unit_remove(const char *name)
{
    EXPECT(0, cove_unlink(name, 1));
}

static inline void *unit_object(cove_segment *segment, const char *name, uint64_t size_bytes)
{
    void *object = NULL;
    EXPECT_GOOD(
        cove_object_open(&object, segment, name, &(struct cove_type){.name = "unit", .size_bytes = size_bytes}, 0));
    return object;
}

static inline int64_t unit_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * UNIT_S + now.tv_nsec;
}

/* A timeout after which something that should have happened has not. */
static inline int64_t unit_patience(void)
{
    return (int64_t)((double)(5 * UNIT_S) * testing_scale());
}

/* "DIRECTORY/NAME.cove" */
static inline const char *unit_path(const char *name)
{
    static _Thread_local char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s.cove", cove_directory(), name);
    return path;
}

static inline bool unit_exists(const char *name)
{
    struct stat info;
    return lstat(unit_path(name), &info) == 0;
}

static inline pthread_t unit_thread(void *(*function)(void *argument), void *argument)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, function, argument), 0);
    return thread;
}

static inline void unit_thread_join(pthread_t thread)
{
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Run it in a thread of its own, to its end. */
static inline void unit_in_thread(void *(*function)(void *argument), void *argument)
{
    unit_thread_join(unit_thread(function, argument));
}

/* A small generator (xorshift64*, S. Vigna): tests say their seed, so that a failure can be had again. */
static inline uint64_t unit_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* A living process that does nothing until it is killed. */
static inline void unit_wait_for_death(void)
{
    for (;;)
        (void)pause();
}

#endif
