/* test_event.c - the event: results, versions, wake-ups, signals, deaths.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads valgrind timeout=90 */
#include "waiting.h"

#include <cove/event.h>
#include <signal.h>

struct board {
    uint64_t unused;
    cove_event events[8];
    _Atomic uint64_t numbers[8];
};

static struct board *open_board(cove_segment *segment)
{
    return unit_object(segment, "b", sizeof(struct board));
}

static void finish(cove_segment *segment)
{
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static uint64_t version_of(cove_segment *segment, const cove_event *event)
{
    uint64_t version = UINT64_MAX;
    EXPECT_LIGHT(0, cove_event_look(segment, event, &version, NULL));
    return version;
}

static int is_set(cove_segment *segment, const cove_event *event)
{
    int set = -1;
    EXPECT_LIGHT(0, cove_event_look(segment, event, NULL, &set));
    return set;
}

/* ---- results */

static void test_event_results(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0]; /* all zero is unset */
    uint64_t now = 77;
    assert_int_equal(is_set(segment, event), 0);
    assert_int_equal(version_of(segment, event), 0);
    EXPECT_SAYS(-EBUSY, cove_event_wait(segment, event, COVE_NOWAIT), "is not set");
    EXPECT(-EBUSY, cove_event_wait(segment, event, -7)); /* no time is no wait */
    EXPECT(-EBUSY, cove_event_wait_beyond(segment, event, 0, &now, COVE_NOWAIT));
    assert_int_equal(now, 77); /* written on success only */
    EXPECT_LIGHT(0, cove_event_set(segment, event));
    assert_int_equal(is_set(segment, event), 1);
    assert_int_equal(version_of(segment, event), 1);
    EXPECT(0, cove_event_wait(segment, event, COVE_NOWAIT));
    EXPECT(0, cove_event_wait(segment, event, COVE_FOREVER)); /* it stays set */
    EXPECT(0, cove_event_wait_beyond(segment, event, 0, &now, COVE_NOWAIT));
    assert_int_equal(now, 1);
    EXPECT(0, cove_event_wait_beyond(segment, event, 0, NULL, COVE_NOWAIT));
    EXPECT(-EBUSY, cove_event_wait_beyond(segment, event, 1, &now, COVE_NOWAIT)); /* set, but not again */
    EXPECT_LIGHT(0, cove_event_set(segment, event));
    EXPECT(0, cove_event_wait_beyond(segment, event, 1, &now, COVE_NOWAIT));
    assert_int_equal(now, 2);
    EXPECT_LIGHT(0, cove_event_reset(segment, event));
    EXPECT_LIGHT(0, cove_event_reset(segment, event));
    assert_int_equal(is_set(segment, event), 0);
    assert_int_equal(version_of(segment, event), 2); /* it stays */
    EXPECT(-EBUSY, cove_event_wait(segment, event, COVE_NOWAIT));
    EXPECT(0, cove_event_wait_beyond(segment, event, 0, &now, COVE_NOWAIT)); /* it was set, and is not any more */
    assert_int_equal(now, 2);
    EXPECT_LIGHT(0, cove_event_look(segment, event, NULL, NULL));
    EXPECT_LIGHT(0, cove_event_look(NULL, event, &now, NULL)); /* the segment is found */
    EXPECT_LIGHT(0, cove_event_set(NULL, event));
    EXPECT(0, cove_event_wait(NULL, event, COVE_NOWAIT));
    finish(segment);
}

static void test_event_wrong_places_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0], outside;
    memset(&outside, 0, sizeof outside);
    cove_event *const bad[] = {NULL,
                               &outside,
                               (cove_event *)(void *)((char *)event + 4),
                               (cove_event *)(void *)((char *)event + 1),
                               (cove_event *)((uintptr_t)event ^ (UINTPTR_MAX / 2 + 1)),
                               (cove_event *)((uintptr_t)event & ~(uintptr_t)0xfffff)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int found = 0; found < 2; found++) {
            cove_segment *named = found ? NULL : segment;
            bool inside = i == 2 || i == 3 || i == 5;
            EXPECT_LIGHT(-EINVAL, cove_event_set(named, bad[i]));
            EXPECT_LIGHT(-EINVAL, cove_event_reset(named, bad[i]));
            EXPECT_LIGHT(-EINVAL, cove_event_look(named, bad[i], NULL, NULL));
            EXPECT_SAYS(-EINVAL, cove_event_wait(named, bad[i], COVE_NOWAIT),
                        named || inside ? "aligned to 8" : "no segment");
            EXPECT(-EINVAL, cove_event_wait_beyond(named, bad[i], 0, NULL, COVE_NOWAIT));
        }
    finish(segment);
}

static void test_event_in_a_segment_that_is_only_read(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = NULL;
    EXPECT(COVE_CREATED, cove_event_open_in(&event, segment, "e", NULL));
    EXPECT_LIGHT(0, cove_event_set(segment, event));
    uint64_t offset = covei_offset(segment, event), version = 0;
    unit_close(segment);
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    event = covei_address(segment, offset);
    EXPECT_LIGHT(-EPERM, cove_event_set(segment, event));
    EXPECT_LIGHT(-EPERM, cove_event_reset(segment, event));
    EXPECT_LIGHT(0, cove_event_look(segment, event, &version, NULL));
    assert_int_equal(version, 1);
    EXPECT_LIGHT(-EINVAL, cove_event_look(segment, (cove_event *)(void *)((char *)event + 4), &version, NULL));
    EXPECT_SAYS(-EPERM, cove_event_wait(segment, event, COVE_NOWAIT), "COVE_READONLY");
    unit_close(segment);
    unit_remove("t");
}

static void *keep_a_lane(void *argument)
{
    struct board *board = open_board(argument);
    (void)board;
    testing_reach(2);
    testing_await(3);
    return NULL;
}

static void test_event_in_a_closed_segment(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    pthread_t thread = unit_thread(keep_a_lane, segment); /* the handle lingers as long as the thread has a lane */
    testing_await(2);
    unit_close(segment);
    EXPECT_LIGHT(COVE_ECLOSED, cove_event_set(segment, event));
    EXPECT_LIGHT(COVE_ECLOSED, cove_event_reset(segment, event));
    EXPECT_LIGHT(COVE_ECLOSED, cove_event_look(segment, event, NULL, NULL));
    EXPECT(COVE_ECLOSED, cove_event_wait(segment, event, COVE_NOWAIT));
    testing_reach(3);
    unit_thread_join(thread);
    unit_remove("t");
}

static void use_inherited(void *argument)
{
    cove_segment *segment = ((void **)argument)[0];
    cove_event *event = ((void **)argument)[1];
    EXPECT_LIGHT(COVE_EFORKED, cove_event_set(segment, event));
    EXPECT_LIGHT(COVE_EFORKED, cove_event_reset(segment, event));
    EXPECT_LIGHT(COVE_EFORKED, cove_event_look(segment, event, NULL, NULL));
    EXPECT(COVE_EFORKED, cove_event_wait(segment, event, COVE_NOWAIT));
    EXPECT_LIGHT(-EINVAL, cove_event_set(NULL, event)); /* this process has no segment open */
    EXPECT(-EINVAL, cove_event_wait(NULL, event, COVE_NOWAIT));
    unit_drop_inherited(segment);
    segment = unit_open("t"); /* a member of its own */
    event = &open_board(segment)->events[0];
    EXPECT_LIGHT(0, cove_event_set(segment, event));
    unit_close(segment);
}

static void test_event_in_a_forked_child(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    void *both[] = {segment, event};
    EXPECT(-EBUSY, cove_event_wait(segment, event, COVE_NOWAIT)); /* this thread has a lane */
    testing_join(testing_spawn(use_inherited, both));
    EXPECT(0, cove_event_wait(segment, event, COVE_NOWAIT));
    assert_int_equal(version_of(segment, event), 1);
    finish(segment);
}

static void test_event_timeouts_are_kept(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    static const int64_t timeouts[] = {1, 2000, UNIT_MS, 30 * UNIT_MS};
    for (int i = 0; i < 4; i++)
        for (int beyond = 0; beyond < 2; beyond++) {
            uint64_t now = 5;
            int64_t begun = unit_now();
            EXPECT_SAYS(-ETIMEDOUT,
                        beyond ? cove_event_wait_beyond(segment, event, 0, &now, timeouts[i])
                               : cove_event_wait(segment, event, timeouts[i]),
                        "not set in time");
            int64_t took = unit_now() - begun;
            assert_true(took >= timeouts[i]);
            assert_true(took < timeouts[i] + unit_patience());
            assert_int_equal(now, 5);
        }
    assert_int_equal(waiting_for(segment, event), 0);
    assert_true(event->waits >= 2); /* a figure; the shortest waits may not have slept */
    finish(segment);
}

/* ---- wake-ups */

struct waiter {
    cove_segment *segment;
    cove_event *event;
    uint64_t beyond; /* UINT64_MAX: until it is set */
};

static void *wait_in_thread(void *argument)
{
    struct waiter *waiter = argument;
    uint64_t now = 0;
    if (waiter->beyond == UINT64_MAX) {
        EXPECT(0, cove_event_wait(waiter->segment, waiter->event, COVE_FOREVER));
    } else {
        EXPECT(0, cove_event_wait_beyond(waiter->segment, waiter->event, waiter->beyond, &now, COVE_FOREVER));
        assert_true(now > waiter->beyond);
    }
    testing_reach(0);
    return NULL;
}

static void wait_in_process(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    EXPECT(0, cove_event_wait(segment, &open_board(segment)->events[0], COVE_FOREVER));
    testing_reach(0);
    unit_close(segment);
}

static void test_event_set_wakes_all(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    struct waiter waiter = {segment, event, UINT64_MAX}, late = {segment, event, 1};
    pthread_t threads[4];
    pid_t pids[2];
    for (int i = 0; i < 2; i++)
        pids[i] = testing_spawn(wait_in_process, segment);
    for (int i = 0; i < 4; i++)
        threads[i] = unit_thread(wait_in_thread, i < 3 ? &waiter : &late);
    UNTIL(waiting_for(segment, event) == 6, 5000);
    EXPECT_LIGHT(0, cove_event_set(segment, event));
    for (int i = 0; i < 2; i++)
        testing_join(pids[i]);
    for (int i = 0; i < 3; i++)
        unit_thread_join(threads[i]);
    UNTIL(waiting_for(segment, event) == 1, 5000); /* the one that wants more than version 1 */
    assert_int_equal(testing_reached(0), 5);
    EXPECT_LIGHT(0, cove_event_set(segment, event)); /* it is set already: again */
    unit_thread_join(threads[3]);
    finish(segment);
}

/* Set and reset before who waits has a chance to look: he goes on, since the version tells. */
static void test_event_set_and_reset_at_once_ends_a_wait(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    struct waiter waiter = {segment, event, UINT64_MAX};
    for (int round = 0; round < 50; round++) {
        pthread_t thread = unit_thread(wait_in_thread, &waiter);
        UNTIL(waiting_for(segment, event) == 1, 5000);
        EXPECT_LIGHT(0, cove_event_set(segment, event));
        EXPECT_LIGHT(0, cove_event_reset(segment, event));
        unit_thread_join(thread);
        assert_int_equal(is_set(segment, event), 0);
    }
    finish(segment);
}

/* Resetting is no news. */
static void test_event_reset_wakes_nobody(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    struct waiter waiter = {segment, event, 3};
    for (int i = 0; i < 3; i++)
        EXPECT_LIGHT(0, cove_event_set(segment, event));
    pthread_t thread = unit_thread(wait_in_thread, &waiter);
    UNTIL(waiting_for(segment, event) == 1, 5000);
    for (int i = 0; i < 100; i++)
        EXPECT_LIGHT(0, cove_event_reset(segment, event));
    assert_int_equal(testing_reached(0), 0);
    assert_int_equal(waiting_for(segment, event), 1);
    EXPECT_LIGHT(0, cove_event_set(segment, event));
    unit_thread_join(thread);
    finish(segment);
}

#define ROUNDS 3000u

/* The other end of a ping-pong: each waits for the other's next version. */
static void pong(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint64_t now = 0;
        EXPECT(0, cove_event_wait_beyond(segment, &board->events[0], round, &now, COVE_FOREVER));
        assert_int_equal(now, round + 1);
        /* What was stored before the set is seen. */
        assert_int_equal(atomic_load_explicit(&board->numbers[0], memory_order_relaxed), round);
        EXPECT_LIGHT(0, cove_event_set(segment, &board->events[1]));
    }
    unit_close(segment);
}

static void test_event_no_wakeup_is_lost(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    pid_t pid = testing_spawn(pong, segment);
    for (uint64_t round = 0; round < ROUNDS; round++) {
        atomic_store_explicit(&board->numbers[0], round, memory_order_relaxed);
        EXPECT_LIGHT(0, cove_event_set(segment, &board->events[0]));
        EXPECT(0, cove_event_wait_beyond(segment, &board->events[1], round, NULL, COVE_FOREVER));
    }
    testing_join(pid);
    finish(segment);
}

static void race_wait(struct waiting_race *race, uint64_t round)
{
    if (round % 2)
        EXPECT(0, cove_event_wait(race->segment, race->thing, COVE_FOREVER));
    else
        EXPECT(0, cove_event_wait_beyond(race->segment, race->thing, round - 1, NULL, COVE_FOREVER));
    EXPECT_LIGHT(0, cove_event_reset(race->segment, race->thing));
}

static void race_set(struct waiting_race *race, uint64_t round)
{
    (void)round;
    EXPECT_LIGHT(0, cove_event_set(race->segment, race->thing));
}

static void test_event_set_while_somebody_begins_to_wait(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct waiting_race race = {race_wait, race_set, segment, &open_board(segment)->events[0], 0, 0};
    waiting_race(&race);
    finish(segment);
}

static void *set_many(void *argument)
{
    struct waiter *waiter = argument;
    for (int i = 0; i < 2000; i++)
        EXPECT_LIGHT(0, cove_event_set(waiter->segment, waiter->event));
    return NULL;
}

static void test_event_versions_count_all_sets(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    struct waiter waiter = {segment, event, 7999};
    pthread_t waits = unit_thread(wait_in_thread, &waiter), threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = unit_thread(set_many, &waiter);
    for (int i = 0; i < 4; i++)
        unit_thread_join(threads[i]);
    unit_thread_join(waits);
    assert_int_equal(version_of(segment, event), 8000);
    finish(segment);
}

/* ---- signals and interrupts */

static cove_segment *handled_segment;
static cove_event *handled_event;
static _Atomic int handled, bad_results;

static void set_in_handler(int number)
{
    (void)number;
    int before = errno;
    uint64_t version = 0;
    errno = 4711;
    if (cove_event_set(handled_segment, handled_event) != 0 ||
        cove_event_look(handled_segment, handled_event, &version, NULL) != 0 || version == 0 || errno != 4711)
        atomic_fetch_add(&bad_results, 1);
    errno = before;
    atomic_fetch_add(&handled, 1);
}

static _Atomic bool stop;

/* In the middle of everything else, the wait for that event too. */
static void *work_under_signals(void *argument)
{
    struct waiter *waiter = argument;
    cove_mutex *mutex = (cove_mutex *)(void *)&open_board(waiter->segment)->events[4];
    testing_reach(1);
    for (uint64_t seen = 0; !atomic_load(&stop);) {
        EXPECT(0, cove_mutex_lock(waiter->segment, mutex, COVE_FOREVER));
        cove_ref block = cove_alloc(waiter->segment, 100);
        EXPECT(0, cove_free(waiter->segment, block));
        EXPECT(0, cove_mutex_unlock(waiter->segment, mutex));
        int result = cove_event_wait_beyond(waiter->segment, waiter->event, seen, &seen, UNIT_MS / 10);
        assert_true(result == 0 || result == -ETIMEDOUT);
    }
    return NULL;
}

static void test_event_is_set_in_signal_handlers(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct waiter waiter = {segment, &open_board(segment)->events[0], 0};
    handled_segment = segment;
    handled_event = waiter.event;
    struct sigaction action = {.sa_handler = set_in_handler};
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    pthread_t thread = unit_thread(work_under_signals, &waiter);
    testing_await(1);
    for (int i = 1; i <= 300; i++) {
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        UNTIL(atomic_load(&handled) >= i, 5000);
    }
    atomic_store(&stop, true);
    unit_thread_join(thread);
    assert_int_equal(atomic_load(&bad_results), 0);
    assert_int_equal(version_of(segment, waiter.event), 300);
    finish(segment);
}

static void note_signal(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void *wait_to_be_interrupted(void *argument)
{
    struct waiter *waiter = argument;
    EXPECT_SAYS(-EINTR, cove_event_wait(waiter->segment, waiter->event, COVE_FOREVER), "cove_interrupt");
    /* Waits that begin later are not concerned. */
    EXPECT(-ETIMEDOUT, cove_event_wait(waiter->segment, waiter->event, 5 * UNIT_MS));
    EXPECT(-EINTR, cove_event_wait_beyond(waiter->segment, waiter->event, 0, NULL, 1000 * UNIT_S));
    return NULL;
}

static bool waits_long(cove_segment *segment, const cove_event *event)
{
    for (uint32_t i = 0; i < segment->max_lanes; i++) {
        if (segment->owners[i] == 0)
            continue;
        const struct covei_lane_shm *shm = &segment->lanes[i];
        if (COVEI_HELD_OFFSET(atomic_load(&shm->waits_for)) == covei_offset(segment, event) &&
            unit_now() - atomic_load(&shm->waits_since) > 20 * UNIT_MS) /* longer than the short wait */
            return true;
    }
    return false;
}

static void test_event_waits_end_by_interrupt_alone(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = note_signal}; /* without SA_RESTART */
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    cove_segment *segment = unit_open("t");
    struct waiter waiter = {segment, &open_board(segment)->events[0], 0};
    pthread_t thread = unit_thread(wait_to_be_interrupted, &waiter);
    UNTIL(waiting_for(segment, waiter.event) == 1, 5000);
    for (int i = 1; i <= 50; i++) {
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        UNTIL(atomic_load(&handled) >= i, 5000);
    }
    UNTIL(waits_long(segment, waiter.event), 5000);
    EXPECT(0, cove_interrupt());
    UNTIL(!waits_long(segment, waiter.event), 5000);
    UNTIL(waits_long(segment, waiter.event), 5000); /* its third wait */
    EXPECT(0, cove_interrupt());
    unit_thread_join(thread);
    assert_int_equal(waiting_for(segment, waiter.event), 0);
    finish(segment);
}

/* ---- deaths */

static void wait_until_killed(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    (void)!cove_event_wait(segment, &open_board(segment)->events[0], COVE_FOREVER);
    unit_wait_for_death();
}

static void test_event_killed_waiters_harm_nobody(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_event *event = &open_board(segment)->events[0];
    struct waiter waiter = {segment, event, UINT64_MAX};
    for (uint32_t round = 0; round < 5; round++) {
        pid_t victims[2] = {testing_spawn(wait_until_killed, NULL), testing_spawn(wait_until_killed, NULL)};
        pthread_t thread = unit_thread(wait_in_thread, &waiter);
        UNTIL(waiting_for(segment, event) == 3, 5000);
        testing_kill(victims[0]);
        if (round % 2)
            (void)EXPECT_GOOD(cove_recover(segment));
        EXPECT_LIGHT(0, cove_event_set(segment, event));
        testing_kill(victims[1]); /* woken, or about to be */
        unit_thread_join(thread);
        EXPECT_LIGHT(0, cove_event_reset(segment, event));
        (void)EXPECT_GOOD(cove_recover(segment));
        assert_int_equal(waiting_for(segment, event), 0);
        unit_sound(segment);
    }
    finish(segment);
}

static void set_and_wake_nobody(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    waiting_without_wakes();
    EXPECT_LIGHT(0, cove_event_set(segment, &open_board(segment)->events[0]));
    testing_reach(4);
    unit_wait_for_death();
}

static void test_event_setter_killed_before_the_wake_is_noticed(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct waiter waiter = {segment, &open_board(segment)->events[0], UINT64_MAX};
    pthread_t thread = unit_thread(wait_in_thread, &waiter);
    UNTIL(waits_long(segment, waiter.event), 5000);
    pid_t pid = testing_spawn(set_and_wake_nobody, segment);
    testing_await(4);
    int64_t begun = unit_now();
    testing_kill(pid);
    unit_thread_join(thread);
    assert_true(unit_now() - begun < UNIT_S / 4 + unit_patience());
    finish(segment);
}

/* What the public header promises of a wake-up that a death took along. */
static void test_event_sleeps_a_quarter_of_a_second_at_most(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    waiting_measure_slices();
    EXPECT(-ETIMEDOUT, cove_event_wait(segment, &open_board(segment)->events[0], 4 * UNIT_S));
    assert_in_range(waiting_longest_slice_ns, 10 * UNIT_MS, 250 * UNIT_MS);
    assert_in_range(waiting_slices, 4 * UNIT_S / (250 * UNIT_MS),
                    150); /* and it sleeps, rather than look all the time */
    finish(segment);
}

static const struct testing_case tests[] = {
    TEST(test_event_results),
    TEST(test_event_wrong_places_are_refused),
    TEST(test_event_in_a_segment_that_is_only_read),
    TEST(test_event_in_a_closed_segment),
    TEST(test_event_in_a_forked_child),
    TEST(test_event_timeouts_are_kept),
    TEST(test_event_set_wakes_all),
    TEST(test_event_set_and_reset_at_once_ends_a_wait),
    TEST(test_event_reset_wakes_nobody),
    TEST_TIMEOUT(test_event_no_wakeup_is_lost, 20),
    TEST_TIMEOUT(test_event_set_while_somebody_begins_to_wait, 20),
    TEST(test_event_versions_count_all_sets),
    TEST(test_event_is_set_in_signal_handlers),
    TEST(test_event_waits_end_by_interrupt_alone),
    TEST_TIMEOUT(test_event_killed_waiters_harm_nobody, 20),
    TEST(test_event_setter_killed_before_the_wake_is_noticed),
    TEST(test_event_sleeps_a_quarter_of_a_second_at_most),
};

int main(void)
{
    return testing_run("event", tests);
}
