/* test_named.c - locks and meeting points by name: opening, options, closing, figures, checks, removal; of all types.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=90 */
#include "waiting.h"

#include "sync/types.h"

/* ---- the eight types, as a table */

#define NOUN(noun)                                                                                  \
    static int noun##_open(void **thing, const char *name, const struct cove_sync_options *options) \
    {                                                                                               \
        cove_##noun *it = (void *)1;                                                                \
        int result = cove_##noun##_open(thing ? &it : NULL, name, options);                         \
        if (thing)                                                                                  \
            *thing = it;                                                                            \
        return result;                                                                              \
    }                                                                                               \
    static int noun##_open_in(void **thing, cove_segment *segment, const char *name,                \
                              const struct cove_sync_options *options)                              \
    {                                                                                               \
        cove_##noun *it = (void *)1;                                                                \
        int result = cove_##noun##_open_in(thing ? &it : NULL, segment, name, options);             \
        if (thing)                                                                                  \
            *thing = it;                                                                            \
        return result;                                                                              \
    }                                                                                               \
    static int noun##_close(void *thing)                                                            \
    {                                                                                               \
        return cove_##noun##_close(thing);                                                          \
    }

NOUN(mutex)
NOUN(rwlock)
NOUN(semaphore)
NOUN(event)
NOUN(condition)
NOUN(barrier)
NOUN(once)
NOUN(counter)

#define ROW(noun)                                                             \
    {                                                                         \
#noun, noun##_open, noun##_open_in, noun##_close, sizeof(cove_##noun) \
    }

static const struct noun {
    const char *name;
    int (*open)(void **thing, const char *name, const struct cove_sync_options *options);
    int (*open_in)(void **thing, cove_segment *segment, const char *name, const struct cove_sync_options *options);
    int (*close)(void *thing);
    size_t size_bytes;
} nouns[] = {ROW(mutex),     ROW(rwlock),  ROW(semaphore), ROW(event),
             ROW(condition), ROW(barrier), ROW(once),      ROW(counter)};

#define NOUNS (sizeof nouns / sizeof *nouns)

static const struct cove_sync_options existing = {.flags = COVE_EXISTING}, exclusive = {.flags = COVE_EXCLUSIVE};

static const struct cove_object_info *info_of(cove_segment *segment, const char *name)
{
    static struct cove_object_info infos[32];
    int64_t count = EXPECT_GOOD(cove_objects(segment, infos, 32));
    for (int64_t i = 0; i < count; i++)
        if (strcmp(infos[i].name, name) == 0)
            return &infos[i];
    fail_msg("there is no %s", name);
    return NULL;
}

static void expect_figure(cove_segment *segment, const char *name, const char *figure)
{
    char line[256];
    (void)snprintf(line, sizeof line, " %s ", info_of(segment, name)->figures);
    char part[128];
    (void)snprintf(part, sizeof part, " %s ", figure);
    if (!strstr(line, part))
        fail_msg("%s says \"%s\", not \"%s\"", name, line, figure);
}

static void finish(cove_segment *segment)
{
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* ---- opening and closing */

static void test_named_opens_and_closes_the_segment(void **state)
{
    (void)state;
    for (size_t i = 0; i < NOUNS; i++) {
        const struct noun *noun = &nouns[i];
        void *thing = NULL, *again = NULL, *in = NULL;
        EXPECT(-ENOENT, noun->open(&thing, "t/group/x", &existing));
        assert_ptr_equal(thing, (void *)1); /* written on success only */
        assert_false(unit_exists("t")); /* nor was the segment made */
        EXPECT(COVE_CREATED, noun->open(&thing, "t/group/x", NULL));
        cove_segment *segment = cove_segment_of(thing);
        assert_non_null(segment);
        assert_int_equal((uintptr_t)thing % 64, 0);
        EXPECT(0, noun->open(&again, "t/group/x", &existing));
        assert_ptr_equal(again, thing);
        EXPECT_SAYS(-EEXIST, noun->open(&again, "t/group/x", &exclusive), "t/group/x");
        EXPECT_SAYS(-ENOENT, noun->open(&again, "t/group/y", &existing), "no such object");
        EXPECT(0, noun->open_in(&in, segment, "group/x", NULL));
        assert_ptr_equal(in, thing);
        EXPECT(COVE_CREATED, noun->open_in(&in, segment, "y", &exclusive));
        assert_ptr_not_equal(in, thing);
        const struct cove_object_info *info = info_of(segment, "group/x");
        assert_string_equal(info->type, noun->name);
        assert_int_equal(info->size_bytes, noun->size_bytes);
        unit_sound(segment);
        /* Two are open: each is closed once. */
        EXPECT(0, noun->close(thing));
        assert_ptr_equal(cove_segment_of(thing), segment);
        EXPECT(0, noun->close(thing));
        assert_null(cove_segment_of(thing));
        EXPECT_SAYS(-EINVAL, noun->close(thing), "no segment that this process has open");
        EXPECT(0, noun->close(NULL));
        unit_remove("t");
    }
}

static void test_named_wrong_names_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *thing = NULL;
    for (size_t i = 0; i < NOUNS; i++) {
        static const char *const bad[] = {"", "t", "t/", "/x", "t/x/", "t/x y", "t/..", "no segment/x", "t/x\ny"};
        for (size_t name = 0; name < sizeof bad / sizeof *bad; name++)
            if (strcmp(bad[name], "t/..") != 0)
                EXPECT(COVE_ENAME, nouns[i].open(&thing, bad[name], NULL));
        EXPECT(COVE_ENAME, nouns[i].open(&thing, NULL, NULL));
        EXPECT(COVE_ENAME, nouns[i].open_in(&thing, segment, "", NULL));
        EXPECT(COVE_ENAME, nouns[i].open_in(&thing, segment, NULL, NULL));
        EXPECT(COVE_ENAME, nouns[i].open_in(&thing, segment, "/x", NULL));
        EXPECT(-EINVAL, nouns[i].open(NULL, "t/x", NULL));
        EXPECT(-EINVAL, nouns[i].open_in(NULL, segment, "x", NULL));
    }
    assert_int_equal(unit_stat(segment).object_count, 0);
    EXPECT(-ENOENT, nouns[0].open(&thing, "u/x", &existing));
    assert_false(unit_exists("u"));
    finish(segment);
}

/* A failure closes what it opened. */
static void test_named_failing_leaves_nothing_open(void **state)
{
    (void)state;
    void *thing = NULL, *other = NULL;
    EXPECT(COVE_CREATED, mutex_open(&thing, "t/x", NULL));
    cove_segment *segment = cove_segment_of(thing);
    for (size_t i = 0; i < NOUNS; i++) {
        EXPECT(-EEXIST, nouns[i].open(&other, "t/x", &exclusive));
        if (i > 0)
            EXPECT_SAYS(COVE_ETYPE, nouns[i].open(&other, "t/x", NULL), "it is a mutex");
        if (i > 0)
            EXPECT(COVE_ETYPE, nouns[i].open_in(&other, segment, "x", &existing));
    }
    EXPECT(0, mutex_close(thing));
    assert_null(cove_segment_of(thing)); /* that was the last */
    unit_remove("t");
}

static void test_named_options_are_checked(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    for (size_t i = 0; i < NOUNS; i++) {
        bool is_mutex = i == 0, is_semaphore = i == 2, is_counter = i == 7;
        const struct {
            struct cove_sync_options options;
            bool good;
            const char *says;
        } tries[] = {
            {{.flags = 0x100}, false, "flags"},
            {{.flags = COVE_READONLY}, false, "flags"},
            {{.reserved = {1}}, false, "reserved"},
            {{.reserved = {0, 0, 0, 0, 9}}, false, "reserved"},
            {{.fair = 1}, is_mutex, "`fair`"},
            {{.fair = 2}, false, "`fair`"},
            {{.permits = 3}, is_semaphore, "permits"},
            {{.permits = COVE_SEMAPHORE_MAX}, is_semaphore, "permits"},
            {{.permits = COVE_SEMAPHORE_MAX + 1u}, false, "permits"},
            {{.lines = 64}, is_counter, "lines"},
            {{.lines = 65}, false, "lines"},
            {{.value = -1}, is_counter, "`value`"},
        };
        for (size_t j = 0; j < sizeof tries / sizeof *tries; j++) {
            char name[40], full[48];
            void *thing = NULL;
            (void)snprintf(name, sizeof name, "%s%zu", nouns[i].name, j);
            (void)snprintf(full, sizeof full, "t/%s", name);
            if (tries[j].good) {
                EXPECT(COVE_CREATED, nouns[i].open_in(&thing, segment, name, &tries[j].options));
                EXPECT(0, nouns[i].open(&thing, full, &tries[j].options));
                EXPECT(0, nouns[i].close(thing));
                EXPECT(0, cove_object_remove(segment, name));
            } else {
                EXPECT_SAYS(-EINVAL, nouns[i].open_in(&thing, segment, name, &tries[j].options), tries[j].says);
                EXPECT_SAYS(-EINVAL, nouns[i].open(&thing, full, &tries[j].options), tries[j].says);
            }
        }
    }
    assert_int_equal(unit_stat(segment).object_count, 0);
    finish(segment);
}

static void test_named_options_take_effect_once(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *thing = NULL;
    EXPECT(COVE_CREATED, mutex_open_in(&thing, segment, "fair", &(struct cove_sync_options){.fair = 1}));
    EXPECT(0, mutex_open_in(&thing, segment, "fair", NULL));
    expect_figure(segment, "fair", "fair=1");
    EXPECT(0, cove_mutex_lock(segment, thing, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, thing));
    EXPECT(COVE_CREATED, semaphore_open_in(&thing, segment, "permits", &(struct cove_sync_options){.permits = 2}));
    EXPECT(0, cove_semaphore_wait(segment, thing, COVE_NOWAIT));
    EXPECT(0, semaphore_open_in(&thing, segment, "permits", &(struct cove_sync_options){.permits = 50}));
    assert_int_equal(cove_semaphore_value(segment, thing), 1);
    EXPECT(COVE_CREATED,
           counter_open_in(&thing, segment, "spread", &(struct cove_sync_options){.lines = 4, .value = 6}));
    EXPECT(0, cove_counter_add(segment, thing, 1, NULL));
    EXPECT(0, counter_open_in(&thing, segment, "spread", &(struct cove_sync_options){.value = 100}));
    expect_figure(segment, "spread", "value=7");
    expect_figure(segment, "spread", "lines=4");
    assert_int_equal(info_of(segment, "spread")->size_bytes, 64 * 5);
    finish(segment);
}

static void test_named_inside_a_transaction_only_what_exists(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    for (size_t i = 0; i < NOUNS; i++) {
        void *thing = NULL;
        EXPECT(COVE_CREATED, nouns[i].open_in(&thing, segment, nouns[i].name, NULL));
        EXPECT(0, cove_begin(segment));
        EXPECT(-EBUSY, nouns[i].open_in(&thing, segment, "new", NULL));
        EXPECT(-EBUSY, nouns[i].open(&thing, "t/new", NULL));
        EXPECT(0, nouns[i].open_in(&thing, segment, nouns[i].name, NULL));
        EXPECT(0, cove_commit(segment));
    }
    finish(segment);
}

static cove_segment *inherited;

static void open_in_child(void *argument)
{
    void **things = argument;
    for (size_t i = 0; i < NOUNS; i++)
        EXPECT(-EINVAL, nouns[i].close(things[i])); /* the parent's */
    for (size_t i = 0; i < NOUNS; i++)
        unit_drop_inherited(inherited);
    char name[40];
    for (size_t i = 0; i < NOUNS; i++) {
        void *thing = NULL;
        (void)snprintf(name, sizeof name, "t/%s", nouns[i].name);
        EXPECT(0, nouns[i].open(&thing, name, &existing));
        if (i == 7) {
            EXPECT(0, cove_counter_add(NULL, thing, 5, NULL));
        }
        EXPECT(0, nouns[i].close(thing));
    }
}

static void test_named_in_a_forked_child(void **state)
{
    (void)state;
    void *things[NOUNS];
    char name[40];
    int64_t value = 0;
    for (size_t i = 0; i < NOUNS; i++) {
        (void)snprintf(name, sizeof name, "t/%s", nouns[i].name);
        EXPECT(COVE_CREATED, nouns[i].open(&things[i], name, NULL));
    }
    inherited = cove_segment_of(things[0]);
    testing_join(testing_spawn(open_in_child, things));
    EXPECT(0, cove_counter_get(NULL, things[7], &value));
    assert_int_equal(value, 5);
    for (size_t i = 0; i < NOUNS; i++)
        EXPECT(0, nouns[i].close(things[i]));
    finish(unit_open("t"));
}

static void test_named_in_a_segment_that_is_only_read(void **state)
{
    (void)state;
    void *thing = NULL;
    unit_close(unit_open("t"));
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    for (size_t i = 0; i < NOUNS; i++)
        EXPECT(-EPERM, nouns[i].open_in(&thing, segment, "x", NULL));
    unit_close(segment);
    unit_remove("t");
}

/* ---- figures */

static void *hold_and_wait(void *argument)
{
    cove_segment *segment = argument;
    void *thing = NULL;
    EXPECT(0, mutex_open_in(&thing, segment, "mutex", &existing));
    EXPECT(0, cove_mutex_lock(segment, thing, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(segment, thing));
    return NULL;
}

static void expect_me_as_holder(cove_segment *segment, const char *name)
{
    char part[64];
    (void)snprintf(part, sizeof part, "pid=%d", (int)getpid());
    expect_figure(segment, name, part);
    (void)snprintf(part, sizeof part, "thread=%d", (int)covei_os->thread_id());
    expect_figure(segment, name, part);
    assert_null(strstr(info_of(segment, name)->figures, "holder=none"));
    assert_null(strstr(info_of(segment, name)->figures, "dead"));
}

static void test_named_figures_of_locks(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *mutex = NULL, *rwlock = NULL, *semaphore = NULL;
    EXPECT(COVE_CREATED, mutex_open_in(&mutex, segment, "mutex", NULL));
    EXPECT(COVE_CREATED, rwlock_open_in(&rwlock, segment, "rwlock", NULL));
    EXPECT(COVE_CREATED,
           semaphore_open_in(&semaphore, segment, "semaphore", &(struct cove_sync_options){.permits = 3}));
    assert_string_equal(info_of(segment, "mutex")->figures, "holder=none waiters=0 waits=0 longest_hold_ms=0.000");
    assert_string_equal(info_of(segment, "rwlock")->figures,
                        "holder=none readers=0 waiters=0 waits=0 longest_hold_ms=0.000");
    assert_string_equal(info_of(segment, "semaphore")->figures,
                        "permits=3 free=3 owners=0 waiters=0 waits=0 longest_wait_ms=0.000");
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    expect_me_as_holder(segment, "mutex");
    pthread_t thread = unit_thread(hold_and_wait, segment);
    UNTIL(waiting_for(segment, mutex) == 1, 5000);
    expect_figure(segment, "mutex", "waiters=1");
    int64_t seen = unit_now();
    UNTIL(unit_now() - seen > 20 * UNIT_MS, 5000);
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_thread_join(thread);
    expect_figure(segment, "mutex", "waits=1");
    expect_figure(segment, "mutex", "waiters=0");
    assert_null(strstr(info_of(segment, "mutex")->figures, "longest_hold_ms=0.000"));
    EXPECT(0, cove_rwlock_lock_shared(segment, rwlock, COVE_NOWAIT));
    expect_figure(segment, "rwlock", "readers=1");
    expect_figure(segment, "rwlock", "holder=none");
    EXPECT(0, cove_rwlock_unlock(segment, rwlock));
    EXPECT(0, cove_rwlock_lock(segment, rwlock, COVE_NOWAIT));
    expect_figure(segment, "rwlock", "readers=0");
    expect_me_as_holder(segment, "rwlock");
    EXPECT(0, cove_rwlock_unlock(segment, rwlock));
    EXPECT(0, cove_semaphore_acquire(segment, semaphore, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_wait(segment, semaphore, COVE_NOWAIT));
    expect_figure(segment, "semaphore", "permits=2");
    expect_figure(segment, "semaphore", "free=1");
    expect_figure(segment, "semaphore", "owners=1");
    EXPECT(0, cove_semaphore_release(segment, semaphore));
    unit_sound(segment);
    finish(segment);
}

static int do_nothing(void *context)
{
    if (context)
        expect_me_as_holder(context, "once");
    return 0;
}

static void test_named_figures_of_meeting_points(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *event = NULL, *condition = NULL, *barrier = NULL, *once = NULL, *counter = NULL;
    EXPECT(COVE_CREATED, event_open_in(&event, segment, "event", NULL));
    EXPECT(COVE_CREATED, condition_open_in(&condition, segment, "condition", NULL));
    EXPECT(COVE_CREATED, barrier_open_in(&barrier, segment, "barrier", NULL));
    EXPECT(COVE_CREATED, once_open_in(&once, segment, "once", NULL));
    EXPECT(COVE_CREATED, counter_open_in(&counter, segment, "counter", &(struct cove_sync_options){.value = -5}));
    assert_string_equal(info_of(segment, "event")->figures, "set=0 version=0 waiters=0 waits=0");
    assert_string_equal(info_of(segment, "condition")->figures, "waiters=0 waits=0");
    assert_string_equal(info_of(segment, "barrier")->figures, "parties=0 arrived=0 broken=0 waiters=0 waits=0");
    assert_string_equal(info_of(segment, "once")->figures, "done=0 holder=none waiters=0");
    assert_string_equal(info_of(segment, "counter")->figures, "value=-5 lines=0 waiters=0");
    EXPECT(0, cove_event_set(segment, event));
    EXPECT(0, cove_event_set(segment, event));
    expect_figure(segment, "event", "set=1");
    expect_figure(segment, "event", "version=2");
    EXPECT(-ETIMEDOUT, cove_event_wait_beyond(segment, event, 2, NULL, 3 * UNIT_MS));
    expect_figure(segment, "event", "waits=1");
    EXPECT(COVE_CREATED, cove_once_call(segment, once, do_nothing, segment, COVE_NOWAIT));
    expect_figure(segment, "once", "done=1");
    expect_figure(segment, "once", "holder=none");
    EXPECT(-ETIMEDOUT, cove_barrier_wait(segment, barrier, 3, UNIT_MS));
    expect_figure(segment, "barrier", "parties=3");
    unit_sound(segment);
    EXPECT(0, cove_barrier_leave(segment, barrier));
    finish(segment);
}

static void hold_until_killed(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    void *mutex = NULL, *semaphore = NULL, *barrier = NULL;
    EXPECT(COVE_CREATED, mutex_open_in(&mutex, segment, "mutex", NULL));
    EXPECT(COVE_CREATED,
           semaphore_open_in(&semaphore, segment, "semaphore", &(struct cove_sync_options){.permits = 1}));
    EXPECT(COVE_CREATED, barrier_open_in(&barrier, segment, "barrier", NULL));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_acquire(segment, semaphore, COVE_NOWAIT));
    EXPECT(-EBUSY, cove_barrier_wait(segment, barrier, 2, COVE_NOWAIT)); /* a party from now on */
    testing_reach(0);
    unit_wait_for_death();
}

/* What a living member holds is not removed; what a dead one held is, by who was there before. */
static void test_named_in_use_is_not_removed(void **state)
{
    (void)state;
    static const char *const names[] = {"mutex", "semaphore", "barrier"};
    cove_segment *segment = unit_open("t");
    pid_t pid = testing_spawn(hold_until_killed, NULL);
    testing_await(0);
    for (int i = 0; i < 3; i++)
        EXPECT_SAYS(-EBUSY, cove_object_remove(segment, names[i]), "uses it; have it let go there first");
    char part[64];
    (void)snprintf(part, sizeof part, "pid=%d", (int)pid);
    expect_figure(segment, "mutex", part);
    expect_figure(segment, "semaphore", "owners=1");
    unit_sound(segment);
    testing_kill(pid);
    expect_figure(segment, "mutex", part);
    expect_figure(segment, "mutex", "dead=yes");
    unit_sound(segment); /* a death is no damage */
    for (int i = 0; i < 3; i++)
        EXPECT(0, cove_object_remove(segment, names[i]));
    assert_int_equal(unit_stat(segment).object_count, 0);
    finish(segment);
}

static void *wait_for_event(void *argument)
{
    cove_segment *segment = argument;
    void *event = NULL;
    EXPECT(0, event_open_in(&event, segment, "event", NULL));
    EXPECT(0, cove_event_wait(segment, event, COVE_FOREVER));
    return NULL;
}

static void test_named_waited_for_is_not_removed(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *event = NULL, *rwlock = NULL;
    EXPECT(COVE_CREATED, event_open_in(&event, segment, "event", NULL));
    pthread_t thread = unit_thread(wait_for_event, segment);
    UNTIL(waiting_for(segment, event) == 1, 5000);
    EXPECT(-EBUSY, cove_object_remove(segment, "event"));
    EXPECT(0, cove_event_set(segment, event));
    unit_thread_join(thread);
    EXPECT(0, cove_object_remove(segment, "event"));
    EXPECT(COVE_CREATED, rwlock_open_in(&rwlock, segment, "rwlock", NULL));
    EXPECT(0, cove_rwlock_lock_shared(segment, rwlock, COVE_NOWAIT));
    EXPECT(-EBUSY, cove_object_remove(segment, "rwlock")); /* this very thread's */
    EXPECT(0, cove_rwlock_unlock(segment, rwlock));
    EXPECT(0, cove_object_remove(segment, "rwlock"));
    finish(segment);
}

/* ---- checks: each field that matters is damaged once */

static char found[256];

static void keep_finding(const char *sentence, void *context)
{
    (void)context;
    (void)snprintf(found, sizeof found, "%s", sentence);
}

static void expect_finding(cove_segment *segment, const char *part)
{
    *found = '\0';
    int64_t count = EXPECT_GOOD(cove_segment_check(segment, keep_finding, NULL));
    if (count == 0 || !strstr(found, part))
        fail_msg("%" PRId64 " findings, the last \"%s\", not \"%s\"", count, found, part);
}

#define DAMAGED(segment, field, value, part) \
    do {                                     \
        __typeof__(field) before_ = (field); \
        (field) = (value);                   \
        expect_finding((segment), (part));   \
        (field) = before_;                   \
        unit_sound(segment);                 \
    } while (0)

static void test_named_damage_is_found(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *things[NOUNS];
    for (size_t i = 0; i < NOUNS; i++)
        EXPECT(COVE_CREATED, nouns[i].open_in(&things[i], segment, nouns[i].name,
                                              i == 7 ? &(struct cove_sync_options){.lines = 2} : NULL));
    unit_sound(segment);
    cove_mutex *mutex = things[0];
    cove_rwlock *rwlock = things[1];
    cove_semaphore *semaphore = things[2];
    cove_event *event = things[3];
    cove_barrier *barrier = things[5];
    cove_once *once = things[6];
    cove_counter *counter = things[7];
    uint64_t me = covei_thread.id;
    uint64_t *const words[] = {&mutex->word, &rwlock->word, &once->word};
    for (int i = 0; i < 3; i++) {
        DAMAGED(segment, *words[i], 4000, "nobody has");
        DAMAGED(segment, *words[i], me, "does not know of it");
        DAMAGED(segment, *words[i], COVEI_LOCK_RECOVERED | me, "nobody was told");
        if (i > 0)
            DAMAGED(segment, *words[i], COVEI_LOCK_FAIR, "fair");
    }
    DAMAGED(segment, rwlock->reserved, 1, "reserved");
    DAMAGED(segment, event->reserved, 1, "reserved");
    DAMAGED(segment, once->done, 2, "neither done nor not");
    DAMAGED(segment, barrier->parties, COVE_BARRIER_MAX + 1, "parties");
    DAMAGED(segment, barrier->word, UINT64_C(3) << 32 | 1, "wait for each other"); /* broken, too */
    DAMAGED(segment, counter->lines, 3, "fixed fields");
    DAMAGED(segment, counter->lines, 0, "fixed fields");
    EXPECT(0, cove_semaphore_post(segment, semaphore, 2));
    EXPECT(0, cove_semaphore_acquire(segment, semaphore, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_acquire(segment, semaphore, COVE_NOWAIT));
    DAMAGED(segment, semaphore->word, semaphore->word - 1, "2 of its permits");
    EXPECT(0, cove_semaphore_release(segment, semaphore));
    EXPECT(0, cove_semaphore_release(segment, semaphore));
    EXPECT(-EBUSY, cove_barrier_wait(segment, barrier, 5, COVE_NOWAIT)); /* one party */
    DAMAGED(segment, barrier->word, UINT64_C(2) << 32, "only 1 threads");
    EXPECT(0, cove_barrier_leave(segment, barrier));
    finish(segment);
}

/* Opening what is not as large as it should be, or says that it is spread as it cannot be. */
static void test_named_damaged_is_not_opened(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    void *thing = NULL;
    EXPECT(COVE_CREATED, counter_open_in(&thing, segment, "c", &(struct cove_sync_options){.lines = 2}));
    static const uint32_t lines[] = {0, 1, 3, 65, UINT32_MAX};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        ((cove_counter *)thing)->lines = lines[i];
        void *again = NULL;
        EXPECT(COVE_ECORRUPT, counter_open_in(&again, segment, "c", NULL));
        (void)EXPECT_GOOD(cove_objects(segment, NULL, 0));
        assert_string_equal(info_of(segment, "c")->figures, "");
    }
    ((cove_counter *)thing)->lines = 2;
    finish(segment);
}

static void test_named_figures_leave_out_what_does_not_fit(void **state)
{
    (void)state;
    char text[16] = "";
    covei_figure(text, sizeof text, "a=%d", 1);
    covei_figure(text, sizeof text, "much=%s", "too long for it");
    covei_figure(text, sizeof text, "b=%s", "1234567");
    covei_figure(text, sizeof text, "c=%d", 2);
    assert_string_equal(text, "a=1 b=1234567");
}

static const struct testing_case tests[] = {
    TEST(test_named_opens_and_closes_the_segment),
    TEST(test_named_wrong_names_are_refused),
    TEST(test_named_failing_leaves_nothing_open),
    TEST(test_named_options_are_checked),
    TEST(test_named_options_take_effect_once),
    TEST(test_named_inside_a_transaction_only_what_exists),
    TEST(test_named_in_a_forked_child),
    TEST(test_named_in_a_segment_that_is_only_read),
    TEST(test_named_figures_of_locks),
    TEST(test_named_figures_of_meeting_points),
    TEST(test_named_in_use_is_not_removed),
    TEST(test_named_waited_for_is_not_removed),
    TEST(test_named_damage_is_found),
    TEST(test_named_damaged_is_not_opened),
    TEST(test_named_figures_leave_out_what_does_not_fit),
};

int main(void)
{
    return testing_run("named", tests);
}
