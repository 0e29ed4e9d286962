/* test_trap_counter.c - traps of the shared counter: every process sets it to 0, and ++ is three steps.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "traps_sync.h"

/* row: shared counter, count.cpp */

#define PROGRAMS 4
#define ROUNDS 5000

/* count.cpp: open, size, set to 0, count. */
static void count_as_the_notes_do(void *argument)
{
    int fd = shm_open(argument, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(int)), 0);
    int *count = (int *)(void *)trap_map(fd, sizeof(int));
    *count = 0; /* "at first it is 0" */
    ++*count;
}

static void count_once(void *argument)
{
    cove_counter *counter = NULL;
    int64_t result = EXPECT_GOOD(
        cove_counter_open(&counter, "robot/starts", &(struct cove_sync_options){.value = 100}));
    atomic_fetch_add_explicit((_Atomic int *)argument, result == COVE_CREATED, memory_order_relaxed);
    EXPECT(0, cove_counter_add(NULL, counter, 1, NULL));
    EXPECT(0, cove_counter_close(counter));
}

static void all_at_once(void (*program)(void *argument), void *argument)
{
    pid_t pids[PROGRAMS];
    for (int i = 0; i < PROGRAMS; i++)
        pids[i] = testing_spawn(program, argument);
    for (int i = 0; i < PROGRAMS; i++)
        testing_join(pids[i]);
}

static int64_t counter_get(const char *name)
{
    cove_counter *counter = NULL;
    int64_t value = 0;
    EXPECT(0, cove_counter_open(&counter, name, &(struct cove_sync_options){.flags = COVE_EXISTING}));
    EXPECT(0, cove_counter_get(NULL, counter, &value));
    EXPECT(0, cove_counter_close(counter));
    return value;
}

/* Trap: each process that starts begins at 0, so however many came, the count is that of the last. */
static void test_counter_set_by_everybody_forgets(void **state)
{
    (void)state;
    const char *name = trap_shm_name("count");
    for (int i = 0; i < PROGRAMS; i++)
        testing_join(testing_spawn(count_as_the_notes_do, (void *)(uintptr_t)name));
    int fd = shm_open(name, O_RDONLY, 0), count = 0;
    assert_int_equal(pread(fd, &count, sizeof count, 0), sizeof count);
    assert_int_equal(count, 1);
    assert_int_equal(close(fd) + shm_unlink(name), 0);

    _Atomic int *made = testing_shared(sizeof *made);
    all_at_once(count_once, (void *)(uintptr_t)made);
    assert_int_equal(*made, 1); /* the first value was given once */
    assert_int_equal(counter_get("robot/starts"), 100 + PROGRAMS);
    unit_remove("robot");
}

/* ++, as the processor does it: load, add, store. The steps are taken by turns, as two cores may at any time. */
static void increment_in_three_steps(void *argument)
{
    volatile int *count = argument;
    int loaded = *count;
    testing_reach(0);
    testing_await_count(0, 2); /* the other has loaded too */
    *count = loaded + 1;
}

static void add_many(void *argument)
{
    (void)argument;
    cove_counter *counter = NULL;
    EXPECT_GOOD(cove_counter_open(&counter, "robot/parts", NULL));
    int64_t before = INT64_MIN;
    for (int i = 0; i < ROUNDS; i++) {
        int64_t now = 0;
        EXPECT(0, cove_counter_add(NULL, counter, 1, &now));
        assert_true(now > before);
        before = now;
    }
    EXPECT(0, cove_counter_close(counter));
}

static void wait_for_all(void *argument)
{
    (void)argument;
    cove_counter *counter = NULL;
    int64_t now = 0;
    EXPECT_GOOD(cove_counter_open(&counter, "robot/parts", NULL));
    testing_reach(1);
    EXPECT(0, cove_counter_wait(NULL, counter, PROGRAMS * ROUNDS, &now, COVE_FOREVER));
    assert_int_equal(now, PROGRAMS * ROUNDS);
    EXPECT(0, cove_counter_close(counter));
}

/* Trap: two count, and one is lost. */
static void test_counter_plus_plus_loses(void **state)
{
    (void)state;
    int *count = testing_shared(sizeof *count);
    pid_t one = testing_spawn(increment_in_three_steps, count), other = testing_spawn(increment_in_three_steps, count);
    testing_join(one);
    testing_join(other);
    assert_int_equal(*count, 1);

    pid_t waiter = testing_spawn(wait_for_all, NULL); /* and nobody looks again and again whether it is there yet */
    testing_await(1);
    TRAP_AWAIT_SLEEP(waiter);
    all_at_once(add_many, NULL);
    testing_join(waiter);
    assert_int_equal(counter_get("robot/parts"), PROGRAMS * ROUNDS);
    unit_remove("robot");
}

static void add_and_be_killed(void *argument)
{
    (void)argument;
    cove_counter *counter = NULL;
    EXPECT_GOOD(cove_counter_open(&counter, "robot/parts", &(struct cove_sync_options){.lines = 8}));
    for (;;) {
        EXPECT(0, cove_counter_add(NULL, counter, 1, NULL));
        testing_reach(0); /* told after it was counted */
    }
}

/* Cove: what was counted is counted, whoever is killed; one that is spread over cache lines too. */
static void test_counter_of_killed_processes_is_exact(void **state)
{
    (void)state;
    for (unsigned round = 1; round <= 5; round++) {
        unsigned before = testing_reached(0);
        pid_t victim = testing_spawn(add_and_be_killed, NULL);
        testing_await_count(0, before + 100);
        testing_kill(victim);
        int64_t lost = counter_get("robot/parts") - testing_reached(0);
        assert_in_range(lost, 0, round); /* killed between counting and telling, at most once each */
    }
    unit_remove("robot");
}

static const struct testing_case tests[] = {
    TEST(test_counter_set_by_everybody_forgets),
    TEST_TIMEOUT(test_counter_plus_plus_loses, 20),
    TEST(test_counter_of_killed_processes_is_exact),
};

int main(void)
{
    return testing_run("trap_counter", tests);
}
