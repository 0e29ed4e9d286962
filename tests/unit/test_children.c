/* test_children.c - COVE_HELD_BY_CHILDREN: what a member holds outlives it as long as those who inherited it live.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The member is a process that the test starts and kills; its child is told apart by its number, which it leaves in
 * memory that all share. */
/* ctest: timeout=60 */
#include "unit.h"

#include "segment/segment.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

enum step { MEMBER_HOLDS, CHILD_LIVES };

static struct shared {
    _Atomic pid_t child;
    bool closes; /* the child closes what it inherited */
    const char *program; /* or becomes that program */
    uint32_t flags;
} * shared;

static cove_mutex *open_mutex(cove_segment *segment)
{
    return unit_object(segment, "m", sizeof(cove_mutex));
}

static cove_segment *open_with(uint32_t flags)
{
    return unit_open_as("t", &(struct cove_options){.flags = flags});
}

static void be_the_child(cove_segment *inherited)
{
    if (shared->closes)
        unit_close(inherited);
    atomic_store(&shared->child, getpid());
    testing_reach(CHILD_LIVES);
    if (shared->program)
        (void)execlp(shared->program, shared->program, "1000", (char *)NULL);
    unit_wait_for_death();
}

/* Holds the lock, has a child, and waits to be killed. */
static void be_the_member(void *unused)
{
    (void)unused;
    cove_segment *segment = open_with(shared->flags);
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    if (fork() == 0)
        be_the_child(segment);
    testing_await(CHILD_LIVES);
    testing_reach(MEMBER_HOLDS);
    unit_wait_for_death();
}

static cove_segment *begin(uint32_t flags)
{
    shared = testing_shared(sizeof *shared);
    shared->flags = flags;
    return unit_open("t");
}

static void kill_child(void)
{
    assert_true(atomic_load(&shared->child) > 0);
    assert_int_equal(kill(atomic_load(&shared->child), SIGKILL), 0);
}

static void end(cove_segment *segment)
{
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* The member is killed; then its child. */
static void watch_them_die(cove_segment *segment)
{
    cove_mutex *mutex = open_mutex(segment);
    pid_t member = testing_spawn(be_the_member, NULL);
    testing_await(MEMBER_HOLDS);
    testing_kill(member);
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, mutex, 50 * UNIT_MS));
    EXPECT(0, cove_recover(segment)); /* there is nobody dead */
    assert_int_equal(unit_stat(segment).members_alive, 2);
    kill_child();
    int64_t from = unit_now();
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    assert_true((double)(unit_now() - from) < (double)UNIT_S * testing_scale());
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(unit_stat(segment).members_alive, 1);
}

static void test_children_of_a_dead_member_keep_its_lock(void **state)
{
    (void)state;
    cove_segment *segment = begin(COVE_HELD_BY_CHILDREN);
    watch_them_die(segment);
    end(segment);
}

static void test_children_that_became_programs_keep_its_lock(void **state)
{
    (void)state;
    cove_segment *segment = begin(COVE_HELD_BY_CHILDREN);
    shared->program = "sleep";
    watch_them_die(segment);
    end(segment);
}

/* The lock is had while the child lives. */
static void watch_the_member_die(cove_segment *segment)
{
    cove_mutex *mutex = open_mutex(segment);
    pid_t member = testing_spawn(be_the_member, NULL);
    testing_await(MEMBER_HOLDS);
    testing_kill(member);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    kill_child();
}

static void test_children_that_close_what_they_inherited_keep_nothing(void **state)
{
    (void)state;
    cove_segment *segment = begin(COVE_HELD_BY_CHILDREN);
    shared->closes = true;
    watch_the_member_die(segment);
    end(segment);
}

static void test_children_without_the_flag_keep_nothing(void **state)
{
    (void)state;
    cove_segment *segment = begin(0);
    watch_the_member_die(segment);
    end(segment);
}

/* The lock is in the open descriptor, whatever program has it. */
static void become_a_program(void *unused)
{
    (void)unused;
    cove_segment *segment = open_with(COVE_HELD_BY_CHILDREN);
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    testing_reach(MEMBER_HOLDS);
    (void)execlp("sleep", "sleep", "1000", (char *)NULL);
}

static bool runs_sleep(void *argument)
{
    char path[64], name[32] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/comm", (int)*(pid_t *)argument);
    FILE *file = fopen(path, "re");
    bool is_sleep = file && fgets(name, sizeof name, file) && strcmp(name, "sleep\n") == 0;
    if (file)
        (void)fclose(file);
    return is_sleep;
}

static void test_children_are_not_needed_where_the_member_becomes_a_program(void **state)
{
    (void)state;
    cove_segment *segment = begin(0);
    cove_mutex *mutex = open_mutex(segment);
    pid_t member = testing_spawn(become_a_program, NULL);
    testing_await(MEMBER_HOLDS);
    assert_true(testing_until(runs_sleep, &member, 5000));
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, mutex, 50 * UNIT_MS));
    testing_kill(member);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    end(segment);
}

/* A member that leaves has left, whoever has its descriptor. */
static void close_and_wait(void *unused)
{
    (void)unused;
    cove_segment *segment = open_with(shared->flags);
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    if (fork() == 0)
        be_the_child(segment);
    testing_await(CHILD_LIVES);
    EXPECT(0, cove_mutex_unlock(segment, open_mutex(segment)));
    unit_close(segment);
}

static void test_children_of_a_member_that_left_keep_nothing(void **state)
{
    (void)state;
    cove_segment *segment = begin(COVE_HELD_BY_CHILDREN);
    cove_mutex *mutex = open_mutex(segment);
    testing_join(testing_spawn(close_and_wait, NULL));
    assert_int_equal(unit_stat(segment).members_alive, 1);
    assert_int_equal(unit_stat(segment).members_dead, 0);
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    kill_child();
    end(segment);
}

/* What is passed on is the row's byte and nothing else, out of the way of a script's own descriptors. */
static void test_children_inherit_one_descriptor_of_the_row(void **state)
{
    (void)state;
    cove_segment *segment = begin(0), *held;
    assert_int_equal(segment->alive_file, segment->lock_file);
    unit_close(segment);
    held = open_with(COVE_HELD_BY_CHILDREN);
    assert_int_not_equal(held->alive_file, held->lock_file);
    assert_true(held->alive_file >= 10);
    assert_int_equal(fcntl(held->alive_file, F_GETFD), 0);
    assert_int_equal(fcntl(held->lock_file, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(held->region.file, F_GETFD), FD_CLOEXEC);
    end(held);
}

static void open_without_high_descriptors(void *unused)
{
    (void)unused;
    cove_segment *segment = NULL;
    const struct cove_options held = {.flags = COVE_HELD_BY_CHILDREN};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){10, 10}), 0);
    EXPECT_SAYS(-EMFILE, cove_open(&segment, "t", &held), "raise ulimit -n");
    assert_null(segment);
    unit_close(unit_open("t")); /* and nothing is left of the try */
}

static void test_children_want_a_descriptor_of_a_high_number(void **state)
{
    (void)state;
    cove_segment *segment = begin(0);
    unit_close(segment);
    testing_join(testing_spawn(open_without_high_descriptors, NULL));
    end(unit_open("t"));
}

/* ---- several opens in one process */

static void be_a_member_twice(void *unused)
{
    (void)unused;
    cove_segment *first = open_with(COVE_HELD_BY_CHILDREN), *second = open_with(0);
    assert_ptr_equal(first, second);
    unit_close(first); /* one of two */
    EXPECT(0, cove_mutex_lock(second, open_mutex(second), COVE_NOWAIT));
    if (fork() == 0)
        be_the_child(second);
    testing_await(CHILD_LIVES);
    testing_reach(MEMBER_HOLDS);
    unit_wait_for_death();
}

static void test_children_count_for_who_opens_the_segment_again_without(void **state)
{
    (void)state;
    cove_segment *segment = begin(0);
    cove_mutex *mutex = open_mutex(segment);
    pid_t member = testing_spawn(be_a_member_twice, NULL);
    testing_await(MEMBER_HOLDS);
    testing_kill(member);
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, mutex, 50 * UNIT_MS));
    kill_child();
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    end(segment);
}

static void test_children_are_refused_where_the_segment_is_open_without(void **state)
{
    (void)state;
    cove_segment *segment = begin(0), *other = NULL;
    struct cove_options held = {.flags = COVE_HELD_BY_CHILDREN};
    EXPECT_SAYS(-EBUSY, cove_open(&other, "t", &held), "without COVE_HELD_BY_CHILDREN");
    assert_null(other);
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT)); /* it is as it was */
    EXPECT(0, cove_mutex_unlock(segment, open_mutex(segment)));
    assert_int_equal(unit_stat(segment).members_alive, 1);
    unit_close(segment);
    EXPECT(0, cove_open(&segment, "t", &held)); /* once it is closed */
    end(segment);
}

static void test_children_of_who_only_looks_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = begin(0), *look = NULL;
    EXPECT(-EINVAL, cove_open(&look, "t", &(struct cove_options){.flags = COVE_READONLY | COVE_HELD_BY_CHILDREN}));
    end(segment);
}

/* Threads come and go as ever. */
static void *lock_and_end(void *segment)
{
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    return NULL;
}

static void test_children_leave_a_thread_that_ends_as_it_is(void **state)
{
    (void)state;
    shared = testing_shared(sizeof *shared);
    cove_segment *segment = open_with(COVE_HELD_BY_CHILDREN);
    unit_in_thread(lock_and_end, segment);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, open_mutex(segment), unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, open_mutex(segment)));
    end(segment);
}

static const struct testing_case tests[] = {
    TEST(test_children_of_a_dead_member_keep_its_lock),
    TEST(test_children_that_became_programs_keep_its_lock),
    TEST(test_children_that_close_what_they_inherited_keep_nothing),
    TEST(test_children_without_the_flag_keep_nothing),
    TEST(test_children_are_not_needed_where_the_member_becomes_a_program),
    TEST(test_children_of_a_member_that_left_keep_nothing),
    TEST(test_children_inherit_one_descriptor_of_the_row),
    TEST(test_children_want_a_descriptor_of_a_high_number),
    TEST(test_children_count_for_who_opens_the_segment_again_without),
    TEST(test_children_are_refused_where_the_segment_is_open_without),
    TEST(test_children_of_who_only_looks_are_refused),
    TEST(test_children_leave_a_thread_that_ends_as_it_is),
};

int main(void)
{
    return testing_run("children", tests);
}
