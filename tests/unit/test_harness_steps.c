/* test_harness_steps.c - what the test harness gives to tests: a directory, names, steps, waiting for conditions.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 1024u

static void test_directory_is_empty_private_and_in_the_environment(void **state)
{
    (void)state;
    struct stat about;
    assert_string_equal(getenv("COVE_DIR"), testing_dir());
    assert_int_equal(stat(testing_dir(), &about), 0);
    assert_int_equal(about.st_mode & 0777, 0700);
    assert_int_equal(about.st_uid, geteuid());
    assert_int_equal(rmdir(testing_dir()), 0); /* only an empty one can be */
    assert_int_equal(mkdir(testing_dir(), 0700), 0);
}

static void say_name(void *argument)
{
    snprintf(argument, PATH_BYTES, "%s", testing_name("twin"));
}

static void test_name_is_the_same_in_all_processes_of_a_test(void **state)
{
    (void)state;
    char *theirs = testing_shared(PATH_BYTES);
    const char *twin = testing_name("twin");
    testing_join(testing_spawn(say_name, theirs));
    assert_string_equal(twin, theirs);
    assert_string_not_equal(twin, testing_name("other"));
}

#define ROUNDS 200
struct tennis {
    int value; /* not atomic: the steps alone order its use */
};

static void play_second(void *argument)
{
    struct tennis *tennis = argument;
    for (unsigned i = 1; i <= ROUNDS; i++) {
        testing_await_count(0, i);
        tennis->value++;
        testing_reach(1);
    }
}

static void test_steps_order_two_processes(void **state)
{
    (void)state;
    struct tennis *tennis = testing_shared(sizeof *tennis);
    pid_t second = testing_spawn(play_second, tennis);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        tennis->value++;
        testing_reach(0);
        testing_await_count(1, i);
        assert_int_equal(tennis->value, 2 * i);
    }
    testing_join(second);
}

static bool is_reached(void *argument)
{
    return testing_reached(*(const unsigned *)argument) > 0;
}

static void test_until_tells_whether_it_came_to_hold(void **state)
{
    (void)state;
    unsigned step = 3;
    assert_false(testing_until(is_reached, &step, 5));
    testing_reach(step);
    assert_true(testing_until(is_reached, &step, 5));
}

static const struct testing_case tests[] = {
    TEST(test_directory_is_empty_private_and_in_the_environment),
    TEST(test_name_is_the_same_in_all_processes_of_a_test),
    TEST(test_steps_order_two_processes),
    TEST(test_until_tells_whether_it_came_to_hold),
};

int main(void)
{
    return testing_run("harness_steps", tests);
}
