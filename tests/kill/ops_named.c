/* ops_named.c - the kill table's scenarios of locks and meeting points that are opened by name.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * One of each type is made in an open segment, while the sleeper opens the same one: it is there, ready for use
 * with all its options, or not there. One is opened by its full name, which opens the segment behind it, and closed
 * again. */
#include "hall.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OBJECT_NAME "group/named"
enum { FULL_NAME_BYTES = 400, PERMITS = 3, LINES = 2, VALUE = 40 };

/* ---- the types ------------------------------------------------------------------------------------------------ */

/* Opens it in the stage's segment, or making the segment known by itself where `full` is given; uses it once. */
struct kind {
    struct cove_sync_options options;
    int (*open)(struct stage *stage, const char *full, const struct cove_sync_options *options);
    void (*use)(struct stage *stage);
    int (*close)(struct stage *stage);
};

#define OPENING(noun)                                                                                      \
    static int open_##noun(struct stage *stage, const char *full, const struct cove_sync_options *options) \
    {                                                                                                      \
        cove_##noun *thing = NULL;                                                                         \
        int got = full != NULL ? cove_##noun##_open(&thing, full, options)                                 \
                               : cove_##noun##_open_in(&thing, stage->segment, OBJECT_NAME, options);      \
        stage->extra = thing;                                                                              \
        return got;                                                                                        \
    }                                                                                                      \
    static int close_##noun(struct stage *stage)                                                           \
    {                                                                                                      \
        return cove_##noun##_close(stage->extra);                                                          \
    }

OPENING(mutex)
OPENING(rwlock)
OPENING(semaphore)
OPENING(event)
OPENING(condition)
OPENING(barrier)
OPENING(once)
OPENING(counter)

/* NULL for the segment: it is found by the address. */
static void use_mutex(struct stage *stage)
{
    must(stage, cove_mutex_lock(NULL, stage->extra, PATIENCE_NS) >= 0, "the named mutex");
    must(stage, cove_mutex_unlock(NULL, stage->extra) == 0, "its unlock");
}

static void use_rwlock(struct stage *stage)
{
    must(stage, cove_rwlock_lock_shared(NULL, stage->extra, PATIENCE_NS) >= 0, "the named rwlock");
    must(stage, cove_rwlock_unlock(NULL, stage->extra) == 0, "its unlock");
}

static void use_semaphore(struct stage *stage)
{
    for (int i = 0; i < PERMITS; i++)
        must(stage, cove_semaphore_acquire(NULL, stage->extra, PATIENCE_NS) == 0, "a permit of the named semaphore");
    must(stage, cove_semaphore_acquire(NULL, stage->extra, COVE_NOWAIT) == -EBUSY, "a permit too many");
    for (int i = 0; i < PERMITS; i++)
        must(stage, cove_semaphore_release(NULL, stage->extra) == 0, "its release");
}

static void use_event(struct stage *stage)
{
    must(stage, cove_event_set(NULL, stage->extra) == 0, "setting the named event");
    must(stage, cove_event_wait(NULL, stage->extra, COVE_NOWAIT) == 0, "waiting for it");
}

static void use_condition(struct stage *stage)
{
    must(stage, cove_condition_broadcast(NULL, stage->extra) == 0, "the named condition");
}

static void use_barrier(struct stage *stage)
{
    must(stage, cove_barrier_wait(NULL, stage->extra, 2, COVE_NOWAIT) != -EINVAL, "the named barrier");
    must(stage, cove_barrier_leave(NULL, stage->extra) == 0, "leaving it");
}

static int do_nothing(void *context)
{
    (void)context;
    return 0;
}

static void use_once(struct stage *stage)
{
    must(stage, cove_once_call(NULL, stage->extra, do_nothing, NULL, PATIENCE_NS) >= 0, "the named once");
}

static void use_counter(struct stage *stage)
{
    int64_t value = 0;
    must(stage, cove_counter_get(NULL, stage->extra, &value) == 0, "the named counter");
    if (value != VALUE)
        finding(stage, VERDICT_CORRUPT, "a counter that begins at %d is at %lld", VALUE, (long long)value);
    must(stage,
         cove_counter_add(NULL, stage->extra, 1, NULL) == 0 && cove_counter_add(NULL, stage->extra, -1, NULL) == 0,
         "counting");
}

static const struct kind mutex_kind = {{.fair = 1}, open_mutex, use_mutex, close_mutex};
static const struct kind rwlock_kind = {{0}, open_rwlock, use_rwlock, close_rwlock};
static const struct kind semaphore_kind = {{.permits = PERMITS}, open_semaphore, use_semaphore, close_semaphore};
static const struct kind event_kind = {{0}, open_event, use_event, close_event};
static const struct kind condition_kind = {{0}, open_condition, use_condition, close_condition};
static const struct kind barrier_kind = {{0}, open_barrier, use_barrier, close_barrier};
static const struct kind once_kind = {{0}, open_once, use_once, close_once};
static const struct kind counter_kind = {{.lines = LINES, .value = VALUE}, open_counter, use_counter, close_counter};

/* ---- made in an open segment ---------------------------------------------------------------------------------- */

static void make(struct stage *stage, const struct kind *kind)
{
    must_have_made(stage, kind->open(stage, NULL, &kind->options), "making it by name");
    acknowledge(stage, 1);
}

static void come(struct stage *stage, const struct kind *kind)
{
    int got = kind->open(stage, NULL, &kind->options);
    stage->ledger->result[stage->role] = got;
    if (must(stage, got == 0 || got == COVE_CREATED, "opening or making it by name"))
        kind->use(stage);
}

static void look(struct stage *stage, const struct kind *kind)
{
    struct cove_sync_options existing = {.flags = COVE_EXISTING};
    int got = kind->open(stage, NULL, &existing);
    if (got == -ENOENT) /* the sleeper had it */
        finding(stage, VERDICT_LOST, "what was opened by name is gone");
    const struct ledger *ledger = stage->ledger;
    if (ledger->acknowledged && ledger->result[ROLE_VICTIM] == COVE_CREATED &&
        ledger->result[ROLE_SLEEPER] == COVE_CREATED)
        finding(stage, VERDICT_LOST, "it was made, and had to be made again");
    if (!must(stage, got == 0, "opening it by name"))
        return;
    kind->use(stage);
    must(stage, cove_object_remove(stage->segment, OBJECT_NAME) == 0, "removing it");
}

#define BY_NAME(noun)                            \
    static void make_##noun(struct stage *stage) \
    {                                            \
        make(stage, &noun##_kind);               \
    }                                            \
    static void come_##noun(struct stage *stage) \
    {                                            \
        come(stage, &noun##_kind);               \
    }                                            \
    static void look_##noun(struct stage *stage) \
    {                                            \
        look(stage, &noun##_kind);               \
    }

BY_NAME(mutex)
BY_NAME(rwlock)
BY_NAME(semaphore)
BY_NAME(event)
BY_NAME(condition)
BY_NAME(barrier)
BY_NAME(once)
BY_NAME(counter)

/* ---- by its full name ----------------------------------------------------------------------------------------- */

static const char *full_name(const struct stage *stage)
{
    static char name[FULL_NAME_BYTES];
    snprintf(name, sizeof name, "%s/%s", stage_name(stage), OBJECT_NAME);
    return name;
}

static void operate_open_full(struct stage *stage)
{
    must_have_made(stage, semaphore_kind.open(stage, full_name(stage), &semaphore_kind.options), "its full name");
    acknowledge(stage, 1);
}

static void close_full(struct stage *stage)
{
    must(stage, semaphore_kind.close(stage) == 0, "closing it");
}

static void prepare_open_full(struct stage *stage)
{
    must(stage, semaphore_kind.open(stage, full_name(stage), &semaphore_kind.options) == COVE_CREATED, "its full name");
    semaphore_kind.use(stage);
}

static void operate_close_full(struct stage *stage)
{
    close_full(stage);
    acknowledge(stage, 1);
}

#define MADE(noun) .operate = make_##noun, .sleep = come_##noun, .verify = look_##noun

const struct scenario ops_named[] = {
    {.name = "mutex made by name", .least = 1700, .most = 15000, MADE(mutex)},
    {.name = "rwlock made by name", .least = 1700, .most = 15000, MADE(rwlock)},
    {.name = "semaphore made by name", .least = 1700, .most = 15000, MADE(semaphore)},
    {.name = "event made by name", .least = 1700, .most = 15000, MADE(event)},
    {.name = "condition made by name", .least = 1700, .most = 15000, MADE(condition)},
    {.name = "barrier made by name", .least = 1700, .most = 15000, MADE(barrier)},
    {.name = "once made by name", .least = 1700, .most = 15000, MADE(once)},
    {.name = "counter made by name", .least = 1700, .most = 15000, MADE(counter)},
    {.name = "semaphore opened by its full name",
     .traits = EVERY_POINT | VICTIM_OPENS | BY_CALLS,
     .least = 15000,
     .most = 180000,
     .operate = operate_open_full,
     .after = close_full,
     .sleep = come_semaphore,
     .verify = look_semaphore},
    {.name = "semaphore opened by its full name and closed",
     .traits = EVERY_POINT | VICTIM_OPENS,
     .least = 1600,
     .most = 15000,
     .prepare = prepare_open_full,
     .operate = operate_close_full,
     .sleep = come_semaphore,
     .verify = look_semaphore},
    {0},
};
