/* test_sync_calls.c - what each call on a mutex, rwlock, semaphore or barrier says to a handle or an address that is none
 * of its: closed, forked, read-only, truncated, no room for the thread; and that nothing is changed then.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "actors.h"

#include <cove/barrier.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>

/* Large enough for each of them. */
union thing {
    uint64_t bytes[8];
    cove_mutex mutex;
    cove_rwlock rwlock;
    cove_semaphore semaphore;
    cove_barrier barrier;
};

/* ---- each call */

#define CALL(name, ...)                                     \
    static int64_t name(cove_segment *segment, void *thing) \
    {                                                       \
        return (__VA_ARGS__);                               \
    }
CALL(mutex_lock, cove_mutex_lock(segment, thing, COVE_NOWAIT))
CALL(mutex_wait, cove_mutex_lock(segment, thing, COVE_FOREVER))
CALL(mutex_unlock, cove_mutex_unlock(segment, thing))
CALL(rwlock_lock, cove_rwlock_lock(segment, thing, COVE_NOWAIT))
CALL(rwlock_lock_shared, cove_rwlock_lock_shared(segment, thing, COVE_NOWAIT))
CALL(rwlock_unlock, cove_rwlock_unlock(segment, thing))
CALL(semaphore_acquire, cove_semaphore_acquire(segment, thing, COVE_NOWAIT))
CALL(semaphore_release, cove_semaphore_release(segment, thing))
CALL(semaphore_wait, cove_semaphore_wait(segment, thing, COVE_FOREVER))
CALL(barrier_wait, cove_barrier_wait(segment, thing, 2, COVE_FOREVER))
CALL(barrier_reset, cove_barrier_reset(segment, thing))
CALL(barrier_leave, cove_barrier_leave(segment, thing))

static int64_t (*const calls[])(cove_segment *segment, void *thing) = {
    mutex_lock,        mutex_wait,        mutex_unlock,   rwlock_lock,  rwlock_lock_shared, rwlock_unlock,
    semaphore_acquire, semaphore_release, semaphore_wait, barrier_wait, barrier_reset,      barrier_leave};
#define CALLS (sizeof calls / sizeof *calls)

/* Each refuses with that, and its sentence holds `part`; a post refuses without one. */
static void expect_all(int64_t expected, cove_segment *segment, void *thing, const char *part)
{
    for (unsigned i = 0; i < CALLS; i++) {
        int64_t result = (unit_forget(), calls[i](segment, thing));
        if (result != expected)
            print_error("call %u of %p\n", i, thing);
        EXPECT_WAS(expected, result);
        unit_expect_says("call", part, __FILE__, __LINE__);
    }
    unit_forget();
    assert_int_equal(cove_semaphore_post(segment, thing, 1), expected);
    assert_string_equal(cove_last_error(), "");
}

static union thing *open_thing(cove_segment *segment)
{
    return unit_object(segment, "thing", sizeof(union thing));
}

static void assert_untouched(const union thing *thing)
{
    static const union thing nothing = {{0}};
    assert_memory_equal(thing, &nothing, sizeof nothing);
}

/* ---- addresses */

static void test_calls_with_addresses_elsewhere_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t"), *other = unit_open("u");
    union thing *thing = open_thing(segment), *there = open_thing(other), outside = {{0}};
    uint64_t end = atomic_load(&segment->header->size_bytes);
    void *const bad[] = {
        NULL,
        &outside,
        there,
        (void *)((char *)thing + 1),
        (void *)((char *)thing + 4),
        (void *)segment->base, /* the header */
        (void *)(segment->base + segment->heap_at - 8),
        (void *)(segment->base + end), /* mapped, and not yet used */
        (void *)(segment->base - 8),
        (void *)~(uintptr_t)7,
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_all(-EINVAL, segment, bad[i], "is no place for a");
    void *const nowhere[] = {NULL, &outside, (void *)~(uintptr_t)7};
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++)
        expect_all(-EINVAL, NULL, nowhere[i], "no segment that this process has open");
    assert_untouched(thing);
    assert_untouched(there);
    unit_sound(segment);
    unit_sound(other);
    unit_close(segment);
    unit_close(other);
    unit_remove("t");
    unit_remove("u");
}

static void test_calls_find_the_segment_by_the_address(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t"), *other = unit_open("u");
    union thing *things[] = {open_thing(segment), open_thing(other)};
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 2; i++) {
            union thing *thing = things[i];
            EXPECT(0, cove_rwlock_lock(NULL, &thing->rwlock, COVE_NOWAIT));
            EXPECT(0, cove_rwlock_unlock(NULL, &thing->rwlock));
            memset(thing, 0, sizeof *thing);
            EXPECT(0, cove_semaphore_post(NULL, &thing->semaphore, 2));
            EXPECT(0, cove_semaphore_acquire(NULL, &thing->semaphore, COVE_NOWAIT));
            EXPECT(0, cove_semaphore_wait(NULL, &thing->semaphore, COVE_NOWAIT));
            EXPECT(0, cove_semaphore_release(NULL, &thing->semaphore));
            EXPECT(1, cove_semaphore_value(NULL, &thing->semaphore));
            memset(thing, 0, sizeof *thing);
            EXPECT(COVE_LEADER, cove_barrier_wait(NULL, &thing->barrier, 1, COVE_NOWAIT));
            EXPECT(0, cove_barrier_reset(NULL, &thing->barrier));
            EXPECT(0, cove_barrier_leave(NULL, &thing->barrier));
            memset(thing, 0, sizeof *thing);
            struct cove_member_info member;
            EXPECT(0, cove_mutex_lock(NULL, &thing->mutex, COVE_NOWAIT));
            EXPECT(1, cove_mutex_holder(NULL, &thing->mutex, &member));
            EXPECT(0, cove_mutex_unlock(NULL, &thing->mutex));
            memset(thing, 0, sizeof *thing);
        }
    unit_close(segment);
    unit_close(other);
    unit_remove("t");
    unit_remove("u");
}

/* ---- handles */

static void test_calls_on_a_read_only_segment_are_refused(void **state)
{
    (void)state;
    cove_segment *writable = unit_open("t");
    union thing *made = open_thing(writable);
    uint64_t offset = covei_offset(writable, made);
    EXPECT(0, cove_mutex_lock(writable, &made->mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(writable, &made->mutex));
    memset(made, 0, sizeof *made);
    unit_close(writable);
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY | COVE_EXISTING});
    union thing *thing = covei_address(segment, offset);
    expect_all(-EPERM, segment, thing, "COVE_READONLY");
    expect_all(-EPERM, NULL, thing, "COVE_READONLY");
    EXPECT(0, cove_semaphore_value(segment, &thing->semaphore)); /* one may look */
    struct cove_member_info member;
    EXPECT(0, cove_mutex_holder(segment, &thing->mutex, &member));
    unit_close(segment);
    unit_remove("t");
}

static cove_segment *parents;
static union thing *parents_thing;

static void call_in_the_child(void *argument)
{
    (void)argument;
    expect_all(COVE_EFORKED, parents, parents_thing, "forked");
    EXPECT(COVE_EFORKED, cove_semaphore_value(parents, &parents_thing->semaphore));
    struct cove_member_info member;
    EXPECT(COVE_EFORKED, cove_mutex_holder(parents, &parents_thing->mutex, &member));
    assert_null(cove_segment_of(parents_thing)); /* open in the parent, not here */
    expect_all(-EINVAL, NULL, parents_thing, "no segment that this process has open");
    assert_int_equal(cove_interrupt(), 0); /* of the child's waits */
    unit_drop_inherited(parents);
}

static void test_calls_in_a_forked_child_are_refused(void **state)
{
    (void)state;
    parents = unit_open("t");
    parents_thing = open_thing(parents);
    EXPECT(0, cove_mutex_lock(parents, &parents_thing->mutex, COVE_NOWAIT)); /* the parent's short paths are open */
    union thing before = *parents_thing;
    testing_join(testing_spawn(call_in_the_child, NULL));
    assert_memory_equal(&before, parents_thing, sizeof before);
    EXPECT(0, cove_mutex_unlock(parents, &parents_thing->mutex));
    unit_sound(parents);
    unit_close(parents);
    unit_remove("t");
}

/* Another thread has a lane yet, so that the handle lingers. */
static void *use_and_stay(void *argument)
{
    EXPECT(0, cove_begin(argument));
    EXPECT(0, cove_commit(argument));
    testing_reach(0);
    testing_await(1);
    expect_all(COVE_ECLOSED, parents, parents_thing, "closed");
    EXPECT(COVE_ECLOSED, cove_semaphore_value(parents, &parents_thing->semaphore));
    return NULL;
}

static void test_calls_on_a_closed_segment_are_refused(void **state)
{
    (void)state;
    parents = unit_open("t");
    parents_thing = open_thing(parents);
    EXPECT(0, cove_mutex_lock(parents, &parents_thing->mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(parents, &parents_thing->mutex));
    pthread_t thread = unit_thread(use_and_stay, parents);
    testing_await(0);
    unit_close(parents);
    expect_all(COVE_ECLOSED, parents, parents_thing, "closed");
    testing_reach(1);
    unit_thread_join(thread);
    unit_remove("t");
}

/* More threads than lanes. */
struct crowd {
    cove_segment *segment;
    union thing *thing;
};

static void *take_a_lane(void *argument)
{
    struct crowd *crowd = argument;
    EXPECT(0, cove_begin(crowd->segment));
    EXPECT(0, cove_commit(crowd->segment));
    testing_reach(0);
    testing_await(1);
    return NULL;
}

static void *come_too_late(void *argument)
{
    struct crowd *crowd = argument;
    for (unsigned i = 0; i < CALLS; i++) {
        unit_forget();
        EXPECT_WAS(-EUSERS, calls[i](crowd->segment, crowd->thing));
        unit_expect_says("call", "lanes are in use", __FILE__, __LINE__);
    }
    EXPECT(0, cove_semaphore_post(crowd->segment, &crowd->thing->semaphore, 3)); /* needs none */
    EXPECT(3, cove_semaphore_value(crowd->segment, &crowd->thing->semaphore));
    return NULL;
}

static void test_calls_without_a_lane_are_refused(void **state)
{
    (void)state;
    struct crowd crowd = {.segment = unit_open_as("t", &(struct cove_options){.max_members = 2})};
    crowd.thing = open_thing(crowd.segment);
    pthread_t threads[16];
    unsigned lanes = crowd.segment->max_lanes, started = 0;
    assert_true(lanes <= 16);
    for (; started + 1 < lanes; started++) /* this thread has one */
        threads[started] = unit_thread(take_a_lane, &crowd);
    testing_await_count(0, started);
    unit_in_thread(come_too_late, &crowd);
    testing_reach(1);
    for (unsigned i = 0; i < started; i++)
        unit_thread_join(threads[i]);
    EXPECT(0,
           cove_semaphore_acquire(crowd.segment, &crowd.thing->semaphore, COVE_NOWAIT)); /* nothing else was changed */
    EXPECT(0, cove_semaphore_release(crowd.segment, &crowd.thing->semaphore));
    unit_sound(crowd.segment);
    unit_close(crowd.segment);
    unit_remove("t");
}

/* ---- truncated under us */

static void test_calls_on_a_truncated_segment_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.flags = COVE_GUARD});
    union thing *thing = open_thing(segment);
    EXPECT(0, cove_mutex_lock(segment, &thing->mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &thing->mutex));
    memset(thing, 0, sizeof *thing);
    assert_int_equal(truncate(unit_path("t"), 4096), 0);
    (void)*(volatile uint64_t *)thing->bytes; /* that is when it is noticed */
    expect_all(COVE_ETRUNCATED, segment, thing, "truncated");
    EXPECT(COVE_ETRUNCATED, cove_semaphore_value(segment, &thing->semaphore));
    (void)cove_close(segment);
    testing_leaves_open(); /* libc's lists lead through the mapping */
    (void)unlink(unit_path("t"));
}

static const struct testing_case tests[] = {
    TEST(test_calls_with_addresses_elsewhere_are_refused), TEST(test_calls_find_the_segment_by_the_address),
    TEST(test_calls_on_a_read_only_segment_are_refused),   TEST(test_calls_in_a_forked_child_are_refused),
    TEST(test_calls_on_a_closed_segment_are_refused),      TEST(test_calls_without_a_lane_are_refused),
    TEST(test_calls_on_a_truncated_segment_are_refused),
};

int main(void)
{
    return testing_run("sync_calls", tests);
}
