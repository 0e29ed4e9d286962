/* named.c - opening locks and meeting points by name.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A named one is an object of the directory, whose memory is the public struct; a handle is its address. So there is
 * nothing to free when it is closed but the segment, which opening by the full name has opened (counted) behind it.
 * Crash: as of any object: there whole, or not at all; what was opened is closed by the death. */
#include "sync/sync.h"

#include "region/name.h"
#include "sync/types.h"

#include <cove/barrier.h>
#include <cove/condition.h>
#include <cove/counter.h>
#include <cove/event.h>
#include <cove/mutex.h>
#include <cove/once.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>
#include <errno.h>
#include <inttypes.h>

static const struct cove_sync_options default_options;

static bool has_reserved(const struct cove_sync_options *options)
{
    uint64_t any = 0;
    for (size_t i = 0; i < sizeof options->reserved / sizeof *options->reserved; i++)
        any |= options->reserved[i];
    return any != 0;
}

/* Before anything is made. `where`: for the sentence. */
static int check_options(const struct covei_type *type, const char *where, const struct cove_sync_options *options)
{
    if ((options->flags & ~(COVE_EXISTING | COVE_EXCLUSIVE)) != 0)
        return covei_error(-EINVAL, "%s: flags of a %s are COVE_EXISTING or COVE_EXCLUSIVE, not %#" PRIx32, where,
                           type->name, options->flags);
    if (has_reserved(options))
        return covei_error(-EINVAL,
                           "%s: what is reserved in struct cove_sync_options has to be 0; zero all of it first", where);
    const char *stray = options->fair != 0 && type->id != COVEI_TYPE_MUTEX          ? "fair"
                        : options->permits != 0 && type->id != COVEI_TYPE_SEMAPHORE ? "permits"
                        : options->lines != 0 && type->id != COVEI_TYPE_COUNTER     ? "lines"
                        : options->value != 0 && type->id != COVEI_TYPE_COUNTER     ? "value"
                                                                                    : NULL;
    if (stray)
        return covei_error(-EINVAL, "%s: `%s` is no option of a %s; leave it 0", where, stray, type->name);
    if (options->fair > 1)
        return covei_error(-EINVAL, "%s: `fair` is 0 or 1, not %" PRIu32, where, options->fair);
    if (options->permits > COVE_SEMAPHORE_MAX)
        return covei_error(-EINVAL, "%s: a semaphore has at most %d permits, not %" PRIu32, where, COVE_SEMAPHORE_MAX,
                           options->permits);
    if (options->lines > COVEI_COUNTER_LINES_MAX)
        return covei_error(-EINVAL, "%s: a counter is spread over at most %u lines, not %" PRIu32, where,
                           COVEI_COUNTER_LINES_MAX, options->lines);
    return 0;
}

static int no_place(const char *where, const struct covei_type *type)
{
    return covei_error(-EINVAL, "%s: there is no place for the %s's address", where, type->name);
}

int covei_named_open_in(void **thing, const struct covei_type *type, size_t bytes, cove_segment *segment,
                        const char *name, const struct cove_sync_options *options)
{
    if (!options)
        options = &default_options;
    struct covei_lane *lane = NULL;
    struct covei_object object;
    int result = covei_lane_get(&lane, segment);
    if (result == 0)
        result = thing ? check_options(type, segment->name, options) : no_place(segment->name, type);
    if (result < 0)
        return result;
    struct covei_object_wish wish = {.name = name,
                                     .type = type,
                                     .type_name = "",
                                     .size_bytes = options->lines ? covei_counter_bytes(options->lines) : bytes,
                                     .parameters = options,
                                     .flags = options->flags};
    result = covei_object_open(lane, &wish, &object);
    if (result >= 0)
        *thing = object.memory;
    covei_recover_debts(lane);
    return result;
}

int covei_named_open(void **thing, const struct covei_type *type, size_t bytes, const char *name,
                     const struct cove_sync_options *options)
{
    char segment_name[COVEI_FULL_NAME_MAX + 1];
    const char *object = covei_name_split(segment_name, name);
    if (!object)
        return COVE_ENAME;
    int result = covei_name_check_object(object);
    if (result == 0)
        result = thing ? check_options(type, name, options ? options : &default_options) : no_place(name, type);
    if (result < 0)
        return result;
    cove_segment *segment = NULL;
    result = cove_open(&segment, segment_name,
                       &(struct cove_options){.flags = options ? options->flags & COVE_EXISTING : 0});
    if (result < 0)
        return result;
    result = covei_named_open_in(thing, type, bytes, segment, object, options);
    if (result < 0) {
        char sentence[COVEI_ERROR_BYTES]; /* why it failed, not how the closing went */
        covei_error_save(sentence);
        (void)cove_close(segment);
        covei_error_restore(sentence);
    }
    return result;
}

int covei_named_close(void *thing)
{
    if (!thing)
        return 0;
    cove_segment *segment = cove_segment_of(thing);
    if (!segment)
        return covei_error(-EINVAL,
                           "%p lies in no segment that this process has open: closed already, or opened by "
                           "the parent of this process",
                           thing);
    return cove_close(segment);
}

/* ---- the public functions of each type */

#define OPENING(noun)                                                                                            \
    int cove_##noun##_open(cove_##noun **noun, const char *name, const struct cove_sync_options *options)        \
    {                                                                                                            \
        void *thing = NULL;                                                                                      \
        int result = covei_named_open(noun ? &thing : NULL, &covei_type_##noun, sizeof **noun, name, options);   \
        if (result >= 0)                                                                                         \
            *noun = thing;                                                                                       \
        return result;                                                                                           \
    }                                                                                                            \
                                                                                                                 \
    int cove_##noun##_open_in(cove_##noun **noun, cove_segment *segment, const char *name,                       \
                              const struct cove_sync_options *options)                                           \
    {                                                                                                            \
        void *thing = NULL;                                                                                      \
        int result = covei_named_open_in(noun ? &thing : NULL, &covei_type_##noun, sizeof **noun, segment, name, \
                                         options);                                                               \
        if (result >= 0)                                                                                         \
            *noun = thing;                                                                                       \
        return result;                                                                                           \
    }                                                                                                            \
                                                                                                                 \
    int cove_##noun##_close(cove_##noun *noun)                                                                   \
    {                                                                                                            \
        return covei_named_close(noun);                                                                          \
    }

OPENING(mutex)
OPENING(rwlock)
OPENING(semaphore)
OPENING(event)
OPENING(condition)
OPENING(barrier)
OPENING(once)
OPENING(counter)
