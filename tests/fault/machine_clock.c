/* machine_clock.c - clocks that jump, and processes whose clocks differ.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Timeouts are on the monotonic clock, and no process compares its clock with another's: a time namespace gives one
 * a clock that is months ahead, a table of system calls gives one a wall clock that jumps by years with every look.
 * The clock of the machine itself is left alone. */
/* ctest: timeout=60 */
#include "machine_setup.h"

#include "os/os.h"

#include <sched.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

#define WAIT_NS (200 * UNIT_MS)
#define MONTHS_S "10000000"

/* ---- a wall clock that jumps */

static _Atomic uint64_t looks;

/* Years back and forth: 1970, 2106, 1970 and a bit ... */
static uint64_t jumping_wall(void)
{
    uint64_t look = atomic_fetch_add(&looks, 1);
    return look % 2 ? UINT64_C(4294967295000000000) - look : look;
}

static struct covei_os table;

static void let_the_wall_clock_jump(void)
{
    table = covei_os_native;
    table.wall = jumping_wall;
    covei_os = &table;
}

/* A wait for a lock that a living process holds ends after the time that was given; measured by this process's own
 * clock. */
static void expect_timely_end(void)
{
    cove_segment *segment = unit_open("t");
    cove_mutex *lock = unit_object(segment, "lock", sizeof *lock);
    int64_t begin = unit_now();
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, lock, WAIT_NS));
    int64_t took = unit_now() - begin;
    if (took < WAIT_NS || took > unit_patience())
        fail_msg("a wait of %d ms took %d ms", (int)(WAIT_NS / UNIT_MS), (int)(took / UNIT_MS));
    cove_stream *reader = NULL;
    char byte;
    begin = unit_now();
    (void)EXPECT_GOOD(cove_stream_open_in(&reader, segment, "s", COVE_READER, NULL));
    EXPECT(-ETIMEDOUT, cove_stream_read(reader, &byte, 1, WAIT_NS));
    took = unit_now() - begin;
    assert_in_range(took, WAIT_NS, unit_patience());
    EXPECT(0, cove_stream_close(reader));
    unit_close(segment);
}

static void with_a_held_lock(void (*function)(void *argument))
{
    cove_segment *segment = unit_open("t");
    cove_mutex *lock = unit_object(segment, "lock", sizeof *lock);
    EXPECT(0, cove_mutex_lock(segment, lock, COVE_NOWAIT));
    testing_join(testing_spawn(function, NULL));
    EXPECT(0, cove_mutex_unlock(segment, lock));
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.members_alive, 1);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* The work wants a directory of its own. */
static void wait_and_work(void *argument)
{
    static char path[1024];
    (void)argument;
    (void)snprintf(path, sizeof path, "%s/work", testing_dir());
    let_the_wall_clock_jump();
    expect_timely_end();
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(setenv("COVE_DIR", path, 1), 0);
    machine_work();
    assert_int_equal(rmdir(path), 0);
    assert_true(atomic_load(&looks) > 0);
}

static void test_clock_of_the_wall_jumps(void **state)
{
    (void)state;
    with_a_held_lock(wait_and_work);
}

/* ---- a monotonic clock that is another one */

static void enter_the_future(void)
{
    FILE *offsets = fopen("/proc/self/timens_offsets", "we");
    if (!offsets || fputs("monotonic " MONTHS_S " 0\nboottime " MONTHS_S " 0\n", offsets) < 0 || fclose(offsets) != 0)
        fail_msg("/proc/self/timens_offsets: %s", strerror(errno));
}

static void wait_in_the_future(void *argument)
{
    const int64_t *present = argument;
    assert_true(unit_now() - *present > UNIT_S * INT64_C(9000000)); /* it is another clock */
    expect_timely_end();
    cove_segment *segment = unit_open("t");
    cove_mutex *lock = unit_object(segment, "mine", sizeof *lock);
    EXPECT(0, cove_mutex_lock(segment, lock, unit_patience()));
    testing_reach(0);
    unit_wait_for_death();
}

static void test_clock_of_another_time_namespace(void **state)
{
    (void)state;
    if (unshare(CLONE_NEWTIME) != 0)
        testing_skip("no time namespaces here (that wants root, and Linux 5.6)");
    enter_the_future(); /* for children only: this process stays in the present */
    cove_segment *segment = unit_open("t");
    cove_mutex *lock = unit_object(segment, "lock", sizeof *lock);
    cove_mutex *theirs = unit_object(segment, "mine", sizeof *theirs);
    EXPECT(0, cove_mutex_lock(segment, lock, COVE_NOWAIT));
    int64_t present = unit_now();
    pid_t pid = testing_spawn(wait_in_the_future, &present);
    testing_await(0);
    int64_t begin = unit_now();
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, theirs, WAIT_NS)); /* its holder lives, in the future */
    assert_in_range(unit_now() - begin, WAIT_NS, unit_patience());
    testing_kill(pid);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, theirs, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, theirs));
    EXPECT(0, cove_mutex_unlock(segment, lock));
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_clock_of_the_wall_jumps, 20),
    TEST_TIMEOUT(test_clock_of_another_time_namespace, 20),
};

int main(void)
{
    return testing_run("machine_clock", tests);
}
