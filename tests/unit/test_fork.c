/* test_fork.c - forked children, exec, exit, and other ways to be or not to be a member.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "unit.h"

#include "segment/segment.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

static cove_mutex *open_mutex(cove_segment *segment)
{
    return unit_object(segment, "m", sizeof(cove_mutex));
}

static void refuse_inherited(cove_segment *segment, cove_mutex *mutex)
{
    struct cove_segment_info info;
    struct cove_object_info objects;
    struct cove_member_info member;
    void *object = NULL;
    cove_stream *stream = NULL;
    EXPECT(COVE_EFORKED, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT(COVE_EFORKED, cove_mutex_unlock(segment, mutex));
    EXPECT(COVE_EFORKED, cove_mutex_holder(segment, mutex, &member));
    EXPECT(COVE_EFORKED, cove_begin(segment));
    EXPECT(COVE_EFORKED, cove_commit(segment));
    EXPECT(COVE_EFORKED, cove_abort(segment));
    EXPECT(COVE_EFORKED, cove_save(segment, mutex, 8));
    EXPECT(COVE_EFORKED, cove_free(segment, 4096));
    EXPECT(COVE_EFORKED, cove_keep(segment, 4096));
    EXPECT(COVE_EFORKED, cove_segment_stat(segment, &info));
    EXPECT(COVE_EFORKED, cove_segment_members(segment, &member, 1));
    EXPECT(COVE_EFORKED, cove_segment_check(segment, NULL, NULL));
    EXPECT(COVE_EFORKED, cove_recover(segment));
    EXPECT(COVE_EFORKED, cove_objects(segment, &objects, 1));
    EXPECT(COVE_EFORKED, cove_object_open(&object, segment, "m", &(struct cove_type){.name = "x", .size_bytes = 1}, 0));
    EXPECT(COVE_EFORKED, cove_object_remove(segment, "m"));
    EXPECT(COVE_EFORKED, cove_stream_open_in(&stream, segment, "s", COVE_READER, NULL));
    assert_int_equal(cove_alloc(segment, 8), 0);
    assert_int_equal(cove_usable_size(segment, 4096), 0);
}

/* In a child: the handle refuses, and the name leads to a membership of its own. */
static void child_opens_for_itself(cove_segment *inherited, cove_mutex *mutex)
{
    refuse_inherited(inherited, mutex);
    cove_segment *own = unit_open("t");
    assert_ptr_not_equal(own, inherited);
    assert_int_equal(unit_stat(own).members_alive, 2);
    EXPECT(-EBUSY, cove_mutex_lock(own, open_mutex(own), COVE_NOWAIT)); /* the parent's still */
    refuse_inherited(inherited, mutex);
    unit_sound(own);
    unit_close(own);
    int result = cove_close(inherited); /* gives back the copy, and nothing of the parent's */
    assert_true(result == 0 || result == COVE_EFORKED);
}

struct inherited {
    cove_segment *segment;
    cove_mutex *mutex;
};

static void fork_child(void *argument)
{
    struct inherited *inherited = argument;
    child_opens_for_itself(inherited->segment, inherited->mutex);
}

static void test_fork_child_is_no_member(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct inherited inherited = {segment, open_mutex(segment)};
    EXPECT(0, cove_mutex_lock(segment, inherited.mutex, COVE_NOWAIT));
    cove_ref ref = cove_alloc(segment, 100);
    testing_join(testing_spawn(fork_child, &inherited));
    EXPECT(0, cove_mutex_unlock(segment, inherited.mutex)); /* nothing was taken from the parent */
    assert_true(cove_usable_size(segment, ref) >= 100);
    assert_int_equal(unit_stat(segment).members_alive, 1);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* Around the handlers of fork: the kernel's wiped word tells. */
static pid_t raw_fork(void)
{
#ifdef SYS_fork
    return (pid_t)syscall(SYS_fork);
#else
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}

static void wait_good(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_fork_around_the_handlers_is_found(void **state)
{
    (void)state;
    if (UNIT_UNDER_TSAN)
        testing_skip("a raw clone leaves the tool's threads behind");
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = open_mutex(segment);
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    pid_t pid = raw_fork();
    if (pid == 0) {
        child_opens_for_itself(segment, mutex);
        _exit(0);
    }
    wait_good(pid);
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* Closing the copy first, and opening then. */
static void test_fork_around_the_handlers_may_close_first(void **state)
{
    (void)state;
    if (UNIT_UNDER_TSAN)
        testing_skip("a raw clone leaves the tool's threads behind");
    cove_segment *segment = unit_open("t"), *other = unit_open("other");
    (void)open_mutex(segment);
    pid_t pid = raw_fork();
    if (pid == 0) {
        int result = cove_close(segment);
        assert_true(result == 0 || result == COVE_EFORKED);
        memset(malloc(sizeof *segment), 0xee, sizeof *segment); /* whoever still looks at the freed handle finds this */
        cove_segment *own = unit_open("t");
        unit_sound(own);
        unit_close(own);
        (void)cove_close(other);
        _exit(0);
    }
    wait_good(pid);
    assert_int_equal(unit_stat(segment).members_alive, 1);
    unit_close(segment);
    unit_close(other);
    unit_remove("t");
    unit_remove("other");
}

/* ---- the parent dies, the child lives on */

static void fork_and_die(void *argument)
{
    cove_segment *segment = unit_open("t");
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    bool raw = argument != NULL;
    pid_t pid = raw ? raw_fork() : fork();
    if (pid == 0) {
        if (raw) { /* there is no handler: the first use of anything closes the parent's descriptors */
            cove_segment *look = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
            EXPECT(0, cove_close(look));
        }
        testing_reach(0);
        testing_await(2);
        _exit(0);
    }
    testing_await(0);
    testing_reach(1);
    unit_wait_for_death();
}

static void see_death(bool raw)
{
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = open_mutex(segment);
    pid_t pid = testing_spawn(fork_and_die, raw ? (void *)1 : NULL);
    testing_await(1);
    EXPECT(-EBUSY, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    testing_kill(pid);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(unit_stat(segment).members_alive, 1);
    assert_int_equal(unit_stat(segment).members_dead, 0);
    testing_reach(2);
    UNTIL(waitpid(-1, NULL, WNOHANG) != 0, 5000); /* the grandchild, which comes to this subreaper */
    unit_close(segment);
    unit_remove("t");
}

static void test_fork_parents_death_is_seen_though_the_child_lives(void **state)
{
    (void)state;
    see_death(false);
}

static void test_fork_parents_death_is_seen_though_the_raw_child_lives(void **state)
{
    (void)state;
    if (UNIT_UNDER_TSAN)
        testing_skip("a raw clone leaves the tool's threads behind");
    see_death(true);
}

/* ---- exec and exit are deaths */

static void hold_and_exec(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    testing_reach(0);
    (void)execl("/bin/sleep", "sleep", "1000", (char *)NULL);
    fail();
}

static void hold_and_exit(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = open_mutex(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    assert_true(cove_alloc(segment, 1000) != 0);
    testing_reach(0);
    exit(0);
}

static void hold_and_crash(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    testing_reach(0);
    (void)signal(SIGSEGV, SIG_DFL);
    (void)raise(SIGSEGV);
}

static void test_death_by_exec_exit_and_crash_frees(void **state)
{
    (void)state;
    static void (*const ways[])(void *) = {hold_and_exec, hold_and_exit, hold_and_crash};
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = open_mutex(segment);
    uint64_t before = unit_free_bytes(segment);
    for (unsigned i = 0; i < 3; i++) {
        pid_t pid = testing_spawn(ways[i], NULL);
        testing_await_count(0, i + 1);
        EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
        EXPECT(0, cove_mutex_unlock(segment, mutex));
        if (i == 0)
            testing_kill(pid); /* it lives on, as another program */
        else
            (void)testing_wait(pid);
        (void)EXPECT_GOOD(cove_recover(segment));
        assert_int_equal(unit_free_bytes(segment), before);
        assert_int_equal(unit_stat(segment).members_alive + unit_stat(segment).members_dead, 1);
        unit_sound(segment);
    }
    unit_close(segment);
    unit_remove("t");
}

/* ---- numbers that are used again, and processes that stand still */

static void hold_forever(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    EXPECT(0, cove_mutex_lock(segment, open_mutex(segment), COVE_NOWAIT));
    testing_reach(0);
    unit_wait_for_death();
}

/* Another process has the dead one's pid by now (and even its start time): it is dead all the same. */
static void test_death_is_seen_though_the_pid_is_used_again(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = open_mutex(segment);
    pid_t pid = testing_spawn(hold_forever, NULL);
    testing_await(0);
    testing_kill(pid);
    struct covei_process self;
    covei_os->process_self(&self);
    for (uint32_t row = 0; row < segment->max_members; row++)
        if (row != segment->row && covei_row_used(atomic_load(&segment->states[row]))) {
            segment->rows[row].pid = self.pid;
            segment->rows[row].start_ticks = self.start_ticks;
        }
    assert_int_equal(unit_stat(segment).members_dead, 1);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_close(segment);
    unit_remove("t");
}

/* A living one whose row says nonsense is alive all the same. */
static void test_life_is_the_kernels_word_not_the_rows(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = open_mutex(segment);
    pid_t pid = testing_spawn(hold_forever, NULL);
    testing_await(0);
    for (uint32_t row = 0; row < segment->max_members; row++)
        if (row != segment->row && covei_row_used(atomic_load(&segment->states[row]))) {
            segment->rows[row].pid = 4000000; /* nobody */
            segment->rows[row].start_ticks = 1;
        }
    assert_int_equal(unit_stat(segment).members_alive, 2);
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, mutex, 100 * UNIT_MS));
    EXPECT(0, cove_recover(segment));
    testing_kill(pid);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_close(segment);
    unit_remove("t");
}

static void test_stopped_holder_is_not_robbed(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = open_mutex(segment);
    pid_t pid = testing_spawn(hold_forever, NULL);
    testing_await(0);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    char part[64];
    (void)snprintf(part, sizeof part, "test_fork (pid %d", (int)pid);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, mutex, 100 * UNIT_MS), part);
    EXPECT_SAYS(-EBUSY, cove_mutex_lock(segment, mutex, COVE_NOWAIT), part);
    EXPECT(0, cove_recover(segment));
    struct cove_member_info member;
    EXPECT(1, cove_mutex_holder(segment, mutex, &member));
    assert_int_equal(member.pid, pid);
    assert_int_equal(member.alive, 1);
    assert_int_equal(member.lanes, 1);
    assert_string_equal(member.command, "test_fork");
    testing_kill(pid);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, mutex, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_fork_child_is_no_member),
    TEST(test_fork_around_the_handlers_is_found),
    TEST(test_fork_around_the_handlers_may_close_first),
    TEST(test_fork_parents_death_is_seen_though_the_child_lives),
    TEST(test_fork_parents_death_is_seen_though_the_raw_child_lives),
    TEST(test_death_by_exec_exit_and_crash_frees),
    TEST(test_death_is_seen_though_the_pid_is_used_again),
    TEST(test_life_is_the_kernels_word_not_the_rows),
    TEST(test_stopped_holder_is_not_robbed),
};

int main(void)
{
    return testing_run("fork", tests);
}
