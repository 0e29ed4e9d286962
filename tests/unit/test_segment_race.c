/* test_segment_race.c - many that create, open, close and remove one name at once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=90 */
#include "unit.h"

#include "segment/segment.h"

#include <fcntl.h>

#define CREATORS 40u

struct race {
    _Atomic uint32_t created;
    _Atomic uint32_t sum;
};

struct counter {
    cove_mutex lock;
    uint64_t count;
};

static void create_and_count(void *argument)
{
    struct race *race = argument;
    testing_reach(0);
    testing_await_count(0, CREATORS);
    cove_segment *segment = NULL;
    int result = cove_open(&segment, "t", NULL);
    (void)EXPECT_GOOD(result);
    if (result == COVE_CREATED)
        atomic_fetch_add(&race->created, 1);
    struct counter *counter = unit_object(segment, "c", sizeof *counter);
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &counter->lock, COVE_FOREVER));
    atomic_store(&race->sum, (uint32_t)++counter->count);
    EXPECT(0, cove_mutex_unlock(segment, &counter->lock));
    unit_close(segment);
}

static void test_race_of_creators_has_one_winner(void **state)
{
    (void)state;
    struct race *race = testing_shared(sizeof *race);
    pid_t pids[CREATORS];
    for (unsigned i = 0; i < CREATORS; i++)
        pids[i] = testing_spawn(create_and_count, race);
    for (unsigned i = 0; i < CREATORS; i++)
        testing_join(pids[i]);
    assert_int_equal(atomic_load(&race->created), 1);
    cove_segment *segment = unit_open("t");
    struct counter *counter = unit_object(segment, "c", sizeof *counter);
    assert_int_equal(counter->count, CREATORS); /* all were in the same one */
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* Exclusive creators: one gets it, the others are told. */
static void create_exclusively(void *argument)
{
    struct race *race = argument;
    testing_reach(0);
    testing_await_count(0, 8);
    cove_segment *segment = NULL;
    int result = cove_open(&segment, "t", &(struct cove_options){.flags = COVE_EXCLUSIVE});
    if (result == COVE_CREATED) {
        atomic_fetch_add(&race->created, 1);
        unit_close(segment);
    } else
        EXPECT_WAS(-EEXIST, result);
}

static void test_race_of_exclusive_creators_has_one_winner(void **state)
{
    (void)state;
    struct race *race = testing_shared(sizeof *race);
    pid_t pids[8];
    for (unsigned i = 0; i < 8; i++)
        pids[i] = testing_spawn(create_exclusively, race);
    for (unsigned i = 0; i < 8; i++)
        testing_join(pids[i]);
    assert_int_equal(atomic_load(&race->created), 1);
    unit_remove("t");
}

/* One that makes and uses, one that removes: whoever opens gets a whole segment. */
static void open_again_and_again(void *argument)
{
    struct race *race = argument;
    testing_reach(0);
    testing_await_count(0, 3);
    for (int i = 0; i < 300; i++) {
        cove_segment *segment = NULL;
        int result = cove_open(&segment, "t", NULL);
        (void)EXPECT_GOOD(result);
        atomic_fetch_add(&race->created, result == COVE_CREATED);
        uint64_t *value = unit_object(segment, "v", 8);
        *value = 1;
        unit_close(segment);
    }
}

static void remove_again_and_again(void *argument)
{
    struct race *race = argument;
    testing_reach(0);
    testing_await_count(0, 3);
    while (atomic_load(&race->sum) == 0) {
        int result = cove_unlink("t", 1);
        if (result != 0)
            EXPECT_WAS(-ENOENT, result);
    }
}

static void test_race_of_removing_and_creating_leaves_whole_segments(void **state)
{
    (void)state;
    struct race *race = testing_shared(sizeof *race);
    pid_t openers[2] = {testing_spawn(open_again_and_again, race), testing_spawn(open_again_and_again, race)};
    pid_t remover = testing_spawn(remove_again_and_again, race);
    testing_join(openers[0]);
    testing_join(openers[1]);
    atomic_store(&race->sum, 1);
    testing_join(remover);
    assert_true(atomic_load(&race->created) > 1);
    if (unit_exists("t"))
        unit_remove("t");
}

/* ---- LAST_OUT: all leave at the same moment, and nothing stays */

static void leave_at_once(void *argument)
{
    unsigned round = *(unsigned *)argument;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    testing_reach(0);
    testing_await_count(0, 4 * (round + 1));
    unit_close(segment);
}

static void test_race_of_the_last_out_leaves_nothing(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        pid_t pids[4];
        for (unsigned i = 0; i < 4; i++)
            pids[i] = testing_spawn(leave_at_once, &round);
        for (unsigned i = 0; i < 4; i++)
            testing_join(pids[i]);
        if (unit_exists("t"))
            fail_msg("round %u: all have left, and the segment is still there", round);
    }
}

/* The same, made to happen: the first one is held up just after it has looked whether it is the last. */
static struct covei_os slow_os;
static bool held_up;

static int drop_slowly(int file, uint64_t byte)
{
    int result = covei_os_native.lock_drop(file, byte);
    if (byte == COVEI_LIFE_CYCLE_BYTE && held_up) {
        held_up = false;
        testing_reach(1);
        testing_await(2);
    }
    return result;
}

static void leave_slowly(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    slow_os = covei_os_native;
    slow_os.lock_drop = drop_slowly;
    covei_os = &slow_os;
    held_up = true;
    unit_close(segment);
}

static void test_race_of_the_last_out_held_up_leaves_nothing(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
    pid_t pid = testing_spawn(leave_slowly, NULL);
    testing_await(1);
    unit_close(segment);
    testing_reach(2);
    testing_join(pid);
    assert_false(unit_exists("t"));
}

/* ---- the life-cycle byte */

static int lock_life_cycle(const char *name)
{
    int file = open(unit_path(name), O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(covei_os_native.lock_try(file, COVEI_LIFE_CYCLE_BYTE, true), 0);
    return file;
}

static void test_race_with_one_that_does_not_get_on_times_out(void **state)
{
    (void)state;
    unit_close(unit_open("t"));
    int file = lock_life_cycle("t");
    cove_segment *segment = NULL;
    int64_t begun = unit_now();
    EXPECT_SAYS(-ETIMEDOUT, cove_open(&segment, "t", &(struct cove_options){.timeout_ns = 50 * UNIT_MS}), "stopped");
    assert_true(unit_now() - begun >= 50 * UNIT_MS);
    assert_true(unit_now() - begun < unit_patience());
    assert_null(segment);
    unit_close(unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY})); /* onlookers wait for nobody */
    assert_int_equal(close(file), 0);
    unit_close(unit_open("t"));
    unit_remove("t");
}

static struct covei_os telling_os;

/* Tells when somebody waits for the byte. */
static int lock_and_tell(int file, uint64_t byte, bool exclusive)
{
    int result = covei_os_native.lock_try(file, byte, exclusive);
    if (result == -EAGAIN && byte == COVEI_LIFE_CYCLE_BYTE)
        testing_reach(0);
    return result;
}

static void *open_the_stuck_one(void *argument)
{
    (void)argument;
    cove_segment *segment = NULL;
    EXPECT(-ETIMEDOUT, cove_open(&segment, "stuck", &(struct cove_options){.timeout_ns = 3 * UNIT_S}));
    testing_reach(1);
    return NULL;
}

static void *use_first_time(void *argument)
{
    cove_segment *segment = argument;
    cove_ref ref = cove_alloc(segment, 100);
    assert_true(ref != 0);
    EXPECT(0, cove_free(segment, ref));
    return NULL;
}

/* A thread that waits for one segment holds up nobody who wants another. */
static void test_race_lost_by_one_thread_does_not_stop_the_others(void **state)
{
    (void)state;
    unit_close(unit_open("stuck"));
    int file = lock_life_cycle("stuck");
    telling_os = covei_os_native;
    telling_os.lock_try = lock_and_tell;
    covei_os = &telling_os;
    pthread_t thread = unit_thread(open_the_stuck_one, NULL);
    testing_await(0);
    cove_segment *other = unit_open("t");
    unit_in_thread(use_first_time, other);
    unit_close(other);
    assert_int_equal(testing_reached(1), 0);
    unit_thread_join(thread);
    covei_os = &covei_os_native;
    assert_int_equal(close(file), 0);
    unit_remove("t");
    unit_remove("stuck");
}

/* ---- a fork in the middle of a removal by another thread */

static struct covei_os forking_os;
static pid_t forked;

static int open_and_fork(const char *path, enum covei_open how)
{
    if (how == COVEI_OPEN_READ && forked == 0) {
        forked = fork();
        if (forked == 0)
            unit_wait_for_death();
    }
    return covei_os_native.file_open(path, how);
}

static void test_race_of_removing_and_forking_keeps_no_lock(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    forking_os = covei_os_native;
    forking_os.file_open = open_and_fork;
    covei_os = &forking_os;
    EXPECT(-EBUSY, cove_unlink("t", 0)); /* looks into the segment while it holds the byte */
    covei_os = &covei_os_native;
    assert_true(forked > 0);
    unit_close(segment);
    int result = cove_open(&segment, "t", &(struct cove_options){.timeout_ns = UNIT_S}); /* the child lives on */
    testing_kill(forked);
    EXPECT_WAS(0, result);
    unit_close(segment);
    unit_remove("t");
}

/* ---- threads of one process that open and close the same name */

static void *open_and_close(void *argument)
{
    (void)argument;
    testing_reach(0);
    testing_await_count(0, 4);
    for (int i = 0; i < 500; i++) {
        cove_segment *segment = unit_open("t");
        cove_ref ref = cove_alloc(segment, 64);
        if (ref == 0)
            fail_msg("round %d: %s", i, cove_last_error());
        EXPECT(0, cove_free(segment, ref));
        unit_close(segment);
    }
    return NULL;
}

static void test_race_of_threads_that_open_and_close(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        threads[i] = unit_thread(open_and_close, NULL);
    for (int i = 0; i < 4; i++)
        unit_thread_join(threads[i]);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_alive, 0);
    assert_int_equal(info.members_dead, 0);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_race_of_creators_has_one_winner, 30),
    TEST(test_race_of_exclusive_creators_has_one_winner),
    TEST_TIMEOUT(test_race_of_removing_and_creating_leaves_whole_segments, 30),
    TEST_TIMEOUT(test_race_of_the_last_out_leaves_nothing, 30),
    TEST(test_race_of_the_last_out_held_up_leaves_nothing),
    TEST(test_race_with_one_that_does_not_get_on_times_out),
    TEST(test_race_lost_by_one_thread_does_not_stop_the_others),
    TEST(test_race_of_removing_and_forking_keeps_no_lock),
    TEST_TIMEOUT(test_race_of_threads_that_open_and_close, 30),
};

int main(void)
{
    return testing_run("segment_race", tests);
}
