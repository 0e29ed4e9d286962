/* test_counter.c - the counter: results, sums over lines, wake-ups, interrupts, deaths.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads valgrind timeout=90 */
#include "waiting.h"

#include <cove/counter.h>

struct board {
    cove_counter counters[8];
};

static struct board *open_board(cove_segment *segment)
{
    return unit_object(segment, "b", sizeof(struct board));
}

static cove_counter *open_named(cove_segment *segment, const char *name, uint32_t lines, int64_t value)
{
    cove_counter *counter = NULL;
    EXPECT_GOOD(
        cove_counter_open_in(&counter, segment, name, &(struct cove_sync_options){.lines = lines, .value = value}));
    return counter;
}

static void finish(cove_segment *segment)
{
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static int64_t value_of(cove_segment *segment, const cove_counter *counter)
{
    int64_t value = INT64_MIN;
    EXPECT(0, cove_counter_get(segment, counter, &value));
    return value;
}

/* ---- results */

static void test_counter_results(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = &open_board(segment)->counters[0]; /* all zero is 0 */
    int64_t now = -1;
    assert_int_equal(value_of(segment, counter), 0);
    EXPECT(0, cove_counter_add(segment, counter, 5, &now));
    assert_int_equal(now, 5);
    EXPECT(0, cove_counter_add(segment, counter, -7, NULL));
    assert_int_equal(value_of(segment, counter), -2);
    EXPECT(0, cove_counter_add(NULL, counter, 0, &now)); /* the segment is found */
    assert_int_equal(now, -2);
    EXPECT(0, cove_counter_set(segment, counter, INT64_MAX, &now));
    assert_int_equal(now, -2);
    EXPECT(0, cove_counter_set(segment, counter, INT64_MAX, NULL));
    EXPECT(0, cove_counter_add(segment, counter, 1, &now)); /* around */
    assert_true(now == INT64_MIN);
    EXPECT(0, cove_counter_add(segment, counter, -1, &now));
    assert_true(now == INT64_MAX);
    EXPECT(0, cove_counter_set(segment, counter, 10, NULL));
    EXPECT(0, cove_counter_wait(segment, counter, 10, &now, COVE_NOWAIT));
    assert_int_equal(now, 10);
    EXPECT(0, cove_counter_wait(segment, counter, -3, NULL, COVE_FOREVER));
    EXPECT_SAYS(-EBUSY, cove_counter_wait(segment, counter, 11, &now, COVE_NOWAIT), "at 10");
    EXPECT_SAYS(-EBUSY, cove_counter_wait_change(segment, counter, 10, &now, COVE_NOWAIT), "another value");
    assert_int_equal(now, 10);
    EXPECT(0, cove_counter_wait_change(segment, counter, 11, &now, -1));
    assert_int_equal(now, 10);
    EXPECT(0, cove_counter_wait_change(segment, counter, 9, NULL, COVE_FOREVER));
    EXPECT(-EINVAL, cove_counter_get(segment, counter, NULL));
    finish(segment);
}

static void test_counter_wrong_places_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = &open_board(segment)->counters[0], outside;
    memset(&outside, 0, sizeof outside);
    cove_counter *const bad[] = {NULL,
                                 &outside,
                                 (cove_counter *)(void *)((char *)counter + 4),
                                 (cove_counter *)(void *)((char *)counter + 1),
                                 (cove_counter *)((uintptr_t)counter ^ (UINTPTR_MAX / 2 + 1)),
                                 (cove_counter *)((uintptr_t)counter & ~(uintptr_t)0xfffff)};
    int64_t value = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int found = 0; found < 2; found++) {
            cove_segment *named = found ? NULL : segment;
            EXPECT(-EINVAL, cove_counter_add(named, bad[i], 1, NULL));
            EXPECT(-EINVAL, cove_counter_set(named, bad[i], 1, NULL));
            EXPECT(-EINVAL, cove_counter_get(named, bad[i], &value));
            EXPECT(-EINVAL, cove_counter_wait(named, bad[i], 1, NULL, COVE_NOWAIT));
            EXPECT(-EINVAL, cove_counter_wait_change(named, bad[i], 1, NULL, COVE_NOWAIT));
        }
    assert_int_equal(outside.value, 0);
    finish(segment);
}

static void test_counter_in_a_segment_that_is_only_read(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counters[2] = {open_named(segment, "c", 0, 12), open_named(segment, "d", 3, 13)};
    uint64_t offsets[2] = {covei_offset(segment, counters[0]), covei_offset(segment, counters[1])};
    EXPECT(0, cove_counter_add(segment, counters[1], 7, NULL));
    unit_close(segment);
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    for (int i = 0; i < 2; i++) {
        cove_counter *counter = covei_address(segment, offsets[i]);
        EXPECT_SAYS(-EPERM, cove_counter_add(segment, counter, 1, NULL), "COVE_READONLY");
        EXPECT_SAYS(-EPERM, cove_counter_set(segment, counter, 1, NULL), "COVE_READONLY");
        EXPECT_SAYS(-EPERM, cove_counter_wait(segment, counter, 1, NULL, COVE_NOWAIT), "COVE_READONLY");
        assert_int_equal(value_of(segment, counter), i ? 20 : 12);
    }
    unit_close(segment);
    unit_remove("t");
}

static void use_inherited(void *argument)
{
    cove_segment *segment = ((void **)argument)[0];
    cove_counter *counter = ((void **)argument)[1];
    int64_t value = 0;
    EXPECT(COVE_EFORKED, cove_counter_add(segment, counter, 1, NULL));
    EXPECT(COVE_EFORKED, cove_counter_set(segment, counter, 1, NULL));
    EXPECT(COVE_EFORKED, cove_counter_get(segment, counter, &value));
    EXPECT(COVE_EFORKED, cove_counter_wait(segment, counter, 1, NULL, COVE_NOWAIT));
    EXPECT(-EINVAL, cove_counter_add(NULL, counter, 1, NULL));
    unit_drop_inherited(segment);
}

static void test_counter_in_a_forked_child(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = &open_board(segment)->counters[0];
    void *both[] = {segment, counter};
    EXPECT(0, cove_counter_add(segment, counter, 1, NULL));
    testing_join(testing_spawn(use_inherited, both));
    assert_int_equal(value_of(segment, counter), 1);
    finish(segment);
}

static void test_counter_first_value_is_given_once(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = open_named(segment, "c", 0, -40), *again;
    assert_int_equal(value_of(segment, counter), -40);
    EXPECT(0, cove_counter_add(segment, counter, 1, NULL));
    again = open_named(segment, "c", 0, 1000); /* only flags count where it exists */
    assert_ptr_equal(again, counter);
    assert_int_equal(value_of(segment, counter), -39);
    finish(segment);
}

static void test_counter_timeouts_are_kept(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = &open_board(segment)->counters[0];
    static const int64_t timeouts[] = {1, 2000, UNIT_MS, 30 * UNIT_MS};
    for (int i = 0; i < 4; i++)
        for (int change = 0; change < 2; change++) {
            int64_t now = 5, begun = unit_now();
            EXPECT_SAYS(-ETIMEDOUT,
                        change ? cove_counter_wait_change(segment, counter, 0, &now, timeouts[i])
                               : cove_counter_wait(segment, counter, 1, &now, timeouts[i]),
                        "still at 0");
            int64_t took = unit_now() - begun;
            assert_true(took >= timeouts[i]);
            assert_true(took < timeouts[i] + unit_patience());
            assert_int_equal(now, 5);
        }
    assert_int_equal(waiting_for(segment, counter), 0);
    finish(segment);
}

/* ---- lines */

struct adder {
    cove_segment *segment;
    cove_counter *counter;
    int64_t amount;
};

#define ADDS 5000

static void *add_many(void *argument)
{
    struct adder *adder = argument;
    for (int i = 0; i < ADDS; i++)
        EXPECT(0, cove_counter_add(adder->segment, adder->counter, adder->amount, NULL));
    return NULL;
}

/* Likewise with a lane, whose number picks the line. */
static void *add_many_with_a_lane(void *argument)
{
    struct adder *adder = argument;
    EXPECT(-EBUSY, cove_counter_wait(adder->segment, adder->counter, INT64_MAX, NULL, COVE_NOWAIT));
    return add_many(argument);
}

static void test_counter_sums_over_lines_come_out_even(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    static const uint32_t lines[] = {0, 1, 3, 8, 64};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "c%u", lines[i]);
        struct adder adder = {segment, open_named(segment, name, lines[i], 1000), 3};
        assert_int_equal((uintptr_t)adder.counter % 64, 0);
        assert_int_equal(value_of(segment, adder.counter), 1000);
        pthread_t threads[4];
        for (int thread = 0; thread < 4; thread++)
            threads[thread] = unit_thread(thread % 2 ? add_many_with_a_lane : add_many, &adder);
        for (int thread = 0; thread < 4; thread++)
            unit_thread_join(threads[thread]);
        assert_int_equal(value_of(segment, adder.counter), 1000 + 4 * ADDS * 3);
        int64_t now = 0;
        EXPECT(0, cove_counter_add(segment, adder.counter, -1000, &now));
        assert_int_equal(now, 4 * ADDS * 3);
        EXPECT(0, cove_counter_wait(segment, adder.counter, now, &now, COVE_NOWAIT));
        assert_int_equal(adder.counter->lines, lines[i]);
        if (lines[i] > 0) /* nobody wrote the line that all look at */
            assert_int_equal(adder.counter->value, 1000);
    }
    finish(segment);
}

static void test_counter_lanes_use_different_lines(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct adder adder = {segment, open_named(segment, "c", 64, 0), 1};
    for (int i = 0; i < 2; i++) {
        add_many_with_a_lane(&adder);
        unit_in_thread(add_many_with_a_lane, &adder); /* while this thread keeps its lane */
    }
    int used = 0;
    for (int line = 1; line <= 64; line++)
        used += *(const int64_t *)(const void *)((const char *)adder.counter + 64 * line) != 0;
    assert_int_equal(used, 2);
    assert_int_equal(value_of(segment, adder.counter), 4 * ADDS);
    finish(segment);
}

static void test_counter_spread_one_cannot_be_set(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = open_named(segment, "c", 4, 9);
    int64_t before = 77;
    EXPECT_SAYS(-EOPNOTSUPP, cove_counter_set(segment, counter, 1, &before), "spread over 4");
    assert_int_equal(before, 77);
    assert_int_equal(value_of(segment, counter), 9);
    finish(segment);
}

static void test_counter_scribbled_lines_are_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    cove_counter *counter = open_named(segment, "c", 0, 0); /* aligned as a spread one */
    int64_t value = 0;
    static const uint32_t scribbles[] = {65, 1000, UINT32_MAX, 0x80000000};
    for (size_t i = 0; i < sizeof scribbles / sizeof *scribbles; i++) {
        counter->lines = scribbles[i];
        EXPECT(COVE_ECORRUPT, cove_counter_add(segment, counter, 1, NULL));
        EXPECT(COVE_ECORRUPT, cove_counter_add(segment, counter, 1, &value));
        EXPECT(COVE_ECORRUPT, cove_counter_set(segment, counter, 1, NULL));
        EXPECT(COVE_ECORRUPT, cove_counter_get(segment, counter, &value));
        EXPECT(COVE_ECORRUPT, cove_counter_wait(segment, counter, 1, NULL, COVE_FOREVER));
    }
    counter->lines = 0;
    assert_int_equal(value_of(segment, counter), 0);
    counter = &board->counters[0];
    if ((uintptr_t)counter % 64 == 0)
        counter++;
    counter->lines = 1;
    EXPECT(COVE_ECORRUPT, cove_counter_get(segment, counter, &value)); /* no spread one lies there */
    counter->lines = 0;
    for (size_t i = 0; i < 8; i++) /* nothing beside it was written */
        assert_int_equal(board->counters[i].value, 0);
    finish(segment);
}

/* ---- wake-ups */

struct waiter {
    cove_segment *segment;
    cove_counter *counter;
    int64_t value;
    bool change;
};

static void *wait_in_thread(void *argument)
{
    struct waiter *waiter = argument;
    int64_t now = 0;
    EXPECT(0, waiter->change
                  ? cove_counter_wait_change(waiter->segment, waiter->counter, waiter->value, &now, COVE_FOREVER)
                  : cove_counter_wait(waiter->segment, waiter->counter, waiter->value, &now, COVE_FOREVER));
    assert_true(waiter->change ? now != waiter->value : now >= waiter->value);
    testing_reach(0);
    return NULL;
}

static void test_counter_waiters_wake_at_their_values(void **state)
{
    (void)state;
    waiting_without_slices();
    for (uint32_t lines = 0; lines < 5; lines += 4) {
        cove_segment *segment = unit_open("t");
        cove_counter *counter = open_named(segment, "c", lines, 0);
        struct waiter waiters[] = {
            {segment, counter, 10, false}, {segment, counter, 20, false}, {segment, counter, 0, true}};
        pthread_t threads[3];
        for (int i = 0; i < 3; i++)
            threads[i] = unit_thread(wait_in_thread, &waiters[i]);
        UNTIL(waiting_for(segment, counter) == 3, 5000);
        EXPECT(0, cove_counter_add(segment, counter, -3, NULL));
        unit_thread_join(threads[2]);
        EXPECT(0, cove_counter_add(segment, counter, 13, NULL));
        unit_thread_join(threads[0]);
        EXPECT(0, cove_counter_add(segment, counter, 0, NULL)); /* wakes, but there is no more */
        UNTIL(waiting_for(segment, counter) == 1, 5000);
        if (lines == 0)
            EXPECT(0, cove_counter_set(segment, counter, 25, NULL));
        else
            EXPECT(0, cove_counter_add(segment, counter, 11, NULL));
        unit_thread_join(threads[1]);
        finish(segment);
    }
}

#define ROUNDS 3000

static void pong(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    cove_counter *ping = open_named(segment, "ping", 0, 0), *pong_ = open_named(segment, "pong", 2, 0);
    for (int64_t round = 1; round <= ROUNDS; round++) {
        int64_t now = 0;
        EXPECT(0, cove_counter_wait(segment, ping, round, &now, COVE_FOREVER));
        assert_int_equal(now, round);
        EXPECT(0, cove_counter_add(segment, pong_, 1, NULL));
    }
    unit_close(segment);
}

static void test_counter_no_wakeup_is_lost(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    cove_counter *ping = open_named(segment, "ping", 0, 0), *pong_ = open_named(segment, "pong", 2, 0);
    pid_t pid = testing_spawn(pong, segment);
    for (int64_t round = 1; round <= ROUNDS; round++) {
        EXPECT(0, cove_counter_add(segment, ping, 1, NULL));
        EXPECT(0, cove_counter_wait_change(segment, pong_, round - 1, NULL, COVE_FOREVER));
    }
    testing_join(pid);
    finish(segment);
}

static void race_wait(struct waiting_race *race, uint64_t round)
{
    if (round % 2)
        EXPECT(0, cove_counter_wait(race->segment, race->thing, (int64_t)round, NULL, COVE_FOREVER));
    else
        EXPECT(0, cove_counter_wait_change(race->segment, race->thing, (int64_t)round - 1, NULL, COVE_FOREVER));
}

static void race_add(struct waiting_race *race, uint64_t round)
{
    if (round % 3 || ((cove_counter *)race->thing)->lines > 0)
        EXPECT(0, cove_counter_add(race->segment, race->thing, 1, NULL));
    else
        EXPECT(0, cove_counter_set(race->segment, race->thing, (int64_t)round, NULL));
}

static void test_counter_added_to_while_somebody_begins_to_wait(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    for (uint32_t lines = 0; lines < 5; lines += 4) {
        struct waiting_race race = {race_wait, race_add, segment, open_named(segment, lines ? "d" : "c", lines, 0),
                                    0,         0};
        waiting_race(&race);
    }
    finish(segment);
}

/* Many add at once; who waits sees the end. */
static void test_counter_wait_among_many_adders(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    for (uint32_t lines = 0; lines < 4; lines += 3) {
        struct adder adder = {segment, open_named(segment, lines ? "d" : "c", lines, 0), 1};
        struct waiter waiter = {segment, adder.counter, 3 * ADDS, false};
        pthread_t waits = unit_thread(wait_in_thread, &waiter), threads[3];
        for (int i = 0; i < 3; i++)
            threads[i] = unit_thread(add_many, &adder);
        for (int i = 0; i < 3; i++)
            unit_thread_join(threads[i]);
        unit_thread_join(waits);
    }
    finish(segment);
}

static void *wait_to_be_interrupted(void *argument)
{
    struct waiter *waiter = argument;
    EXPECT_SAYS(-EINTR, cove_counter_wait(waiter->segment, waiter->counter, 1, NULL, COVE_FOREVER), "cove_interrupt");
    return NULL;
}

static void test_counter_waits_end_by_interrupt(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct waiter waiter = {segment, open_named(segment, "c", 2, 0), 0, false};
    pthread_t thread = unit_thread(wait_to_be_interrupted, &waiter);
    UNTIL(waiting_for(segment, waiter.counter) == 1, 5000);
    EXPECT(0, cove_interrupt());
    unit_thread_join(thread);
    EXPECT(-ETIMEDOUT, cove_counter_wait(segment, waiter.counter, 1, NULL, UNIT_MS)); /* begun later */
    assert_int_equal(waiting_for(segment, waiter.counter), 0);
    finish(segment);
}

/* ---- deaths */

static void add_until_killed(void *argument)
{
    _Atomic int64_t *acknowledged = argument;
    cove_segment *segment = unit_open("t");
    cove_counter *counters[2] = {open_named(segment, "c", 0, 0), open_named(segment, "d", 3, 0)};
    for (int64_t i = 1;; i++) {
        EXPECT(0, cove_counter_add(segment, counters[0], 1, NULL));
        atomic_store(&acknowledged[0], i);
        EXPECT(0, cove_counter_add(segment, counters[1], 1, NULL));
        atomic_store(&acknowledged[1], i);
    }
}

static void test_counter_killed_adders_have_added_or_not(void **state)
{
    (void)state;
    _Atomic int64_t *acknowledged = testing_shared(2 * sizeof *acknowledged);
    int64_t sums[2] = {0, 0};
    unit_close(unit_open("t"));
    for (int round = 0; round < 6; round++) {
        atomic_store(&acknowledged[0], 0);
        atomic_store(&acknowledged[1], 0);
        pid_t pid = testing_spawn(add_until_killed, acknowledged);
        UNTIL(atomic_load(&acknowledged[1]) > 1000 * round, 10000);
        testing_kill(pid);
        cove_segment *segment = unit_open("t");
        for (int i = 0; i < 2; i++) {
            int64_t added = value_of(segment, open_named(segment, i ? "d" : "c", i ? 3 : 0, 0)) - sums[i];
            assert_in_range(added - atomic_load(&acknowledged[i]), 0, 1);
            sums[i] += added;
        }
        (void)EXPECT_GOOD(cove_recover(segment));
        unit_sound(segment);
        unit_close(segment);
    }
    unit_remove("t");
}

static void wait_until_killed(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    (void)!cove_counter_wait(segment, open_named(segment, "c", 0, 0), 100, NULL, COVE_FOREVER);
    unit_wait_for_death();
}

static void test_counter_killed_waiters_harm_nobody(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = open_named(segment, "c", 0, 0);
    struct waiter waiter = {segment, counter, 100, false};
    pid_t victim = testing_spawn(wait_until_killed, NULL);
    pthread_t thread = unit_thread(wait_in_thread, &waiter);
    UNTIL(waiting_for(segment, counter) == 2, 5000);
    testing_kill(victim);
    EXPECT(0, cove_counter_add(segment, counter, 100, NULL));
    unit_thread_join(thread);
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(waiting_for(segment, counter), 0);
    finish(segment);
}

static void add_and_wake_nobody(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    cove_counter *counter = open_named(segment, "c", 0, 0);
    waiting_without_wakes();
    EXPECT(0, cove_counter_add(segment, counter, 100, NULL));
    testing_reach(1);
    unit_wait_for_death();
}

static void test_counter_adder_killed_before_the_wake_is_noticed(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_counter *counter = open_named(segment, "c", 0, 0);
    struct waiter waiter = {segment, counter, 100, false};
    pthread_t thread = unit_thread(wait_in_thread, &waiter);
    UNTIL(waiting_for(segment, counter) == 1, 5000);
    pid_t pid = testing_spawn(add_and_wake_nobody, segment);
    testing_await(1);
    testing_kill(pid);
    unit_thread_join(thread);
    finish(segment);
}

static const struct testing_case tests[] = {
    TEST(test_counter_results),
    TEST(test_counter_wrong_places_are_refused),
    TEST(test_counter_in_a_segment_that_is_only_read),
    TEST(test_counter_in_a_forked_child),
    TEST(test_counter_first_value_is_given_once),
    TEST(test_counter_timeouts_are_kept),
    TEST(test_counter_sums_over_lines_come_out_even),
    TEST(test_counter_lanes_use_different_lines),
    TEST(test_counter_spread_one_cannot_be_set),
    TEST(test_counter_scribbled_lines_are_told),
    TEST(test_counter_waiters_wake_at_their_values),
    TEST_TIMEOUT(test_counter_no_wakeup_is_lost, 20),
    TEST_TIMEOUT(test_counter_added_to_while_somebody_begins_to_wait, 20),
    TEST(test_counter_wait_among_many_adders),
    TEST(test_counter_waits_end_by_interrupt),
    TEST_TIMEOUT(test_counter_killed_adders_have_added_or_not, 30),
    TEST(test_counter_killed_waiters_harm_nobody),
    TEST(test_counter_adder_killed_before_the_wake_is_noticed),
};

int main(void)
{
    return testing_run("counter", tests);
}
