/* test_harness.c - the test harness finds what it promises to find.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A second table (harness_inner.h) holds tests that misbehave, each in one way, and some that look like it and are
 * right. The tests proper run one of them with the harness itself, in a process that they spawn, catch what it
 * prints, and compare verdict and sentence. What an inner run fails to clean comes back to the outer runner, as the
 * outer one is the next subreaper: it would fail the test here. */
/* ctest: threads timeout=60 */
#include "harness_inner.h"

#define OUTPUT_BYTES 16384u

/* ---- running them ------------------------------------------------------------------------------------------------ */

struct inner {
    const char *names[4];
    size_t name_count;
    int output_fd;
    pid_t pid;
    int status;
    char output[OUTPUT_BYTES];
};

static void inner_main(void *argument)
{
    const struct inner *inner = argument;
    assert_true(dup2(inner->output_fd, 1) == 1 && dup2(inner->output_fd, 2) == 2);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC); /* two tests need a standard input to close */
    assert_true(null >= 0 && dup2(null, 0) == 0);
    if (null != 0)
        close(null);
    int result = testing_run_names("inner", inner_tests, INNER_COUNT, inner->names, inner->name_count);
    fflush(NULL);
    _exit(result);
}

static void told_make(void)
{
    told = testing_shared(sizeof *told);
}

/* The output goes to a nameless file: unlike a pipe it never makes the writer wait. */
static void inner_begin(struct inner *inner)
{
    inner->name_count = 0;
    while (inner->name_count < 4 && inner->names[inner->name_count] != NULL)
        inner->name_count++;
    inner->output_fd = memfd_create("output", MFD_CLOEXEC);
    assert_true(inner->output_fd >= 0);
    inner->pid = testing_spawn(inner_main, inner);
}

static void inner_end(struct inner *inner)
{
    inner->status = testing_wait(inner->pid);
    ssize_t length = pread(inner->output_fd, inner->output, sizeof inner->output - 1, 0);
    assert_true(length >= 0);
    inner->output[length] = '\0';
    close(inner->output_fd);
}

static void expect_text(const struct inner *inner, const char *text)
{
    if (strstr(inner->output, text) == NULL)
        fail_msg("\"%s\" is not in:\n%.900s", text, inner->output);
}

static void expect_verdict(const char *name, int result, const char *closing, const char *sentence)
{
    static struct inner inner;
    inner.names[0] = name;
    told_make();
    inner_begin(&inner);
    inner_end(&inner);
    expect_text(&inner, sentence);
    expect_text(&inner, closing);
    assert_true(WIFEXITED(inner.status));
    assert_int_equal(WEXITSTATUS(inner.status), result);
}

static void expect_failed(const char *name, const char *sentence)
{
    expect_verdict(name, 1, "[  FAILED  ] 1 test(s)", sentence);
}

static void expect_passed(const char *name)
{
    expect_verdict(name, 0, "[  PASSED  ] 1 test(s)", name);
}

static void expect_gone(const char *path)
{
    assert_true(path[0] == '/');
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(errno, ENOENT);
}

static bool told_process_is_gone(void)
{
    return kill(atomic_load(&told->pid), 0) != 0 && errno == ESRCH;
}

/* ---- the tests proper -------------------------------------------------------------------------------------------- */

static void test_hang_is_killed_and_reported(void **state)
{
    (void)state;
    expect_failed("bad_hangs", "bad_hangs: hung: it was killed after");
}

static void test_stopped_test_is_killed_and_reported(void **state)
{
    (void)state;
    expect_failed("bad_stops_itself", "bad_stops_itself: hung: it was killed after");
}

static void test_crash_is_reported_with_its_signal(void **state)
{
    (void)state;
    expect_failed("bad_crashes", "bad_crashes: was killed by signal 11");
}

static void test_early_exit_is_reported(void **state)
{
    (void)state;
    expect_failed("bad_exits", "bad_exits: exited with status 0 before its end");
}

static void test_status_of_exit_handlers_is_reported(void **state)
{
    (void)state;
    expect_failed("bad_ends_with_status", "bad_ends_with_status: exited with status 3 after its end");
}

static void test_assertion_is_reported_with_its_line(void **state)
{
    (void)state;
    expect_failed("bad_asserts", "0x36 != 0x2a");
    expect_failed("bad_asserts", "harness_inner.h");
    expect_failed("bad_asserts_without_environment", "with CMOCKA_TEST_ABORT taken out of its environment");
}

static void test_assertion_in_spawned_process_fails_the_test(void **state)
{
    (void)state;
    expect_failed("bad_spawned_asserts", "an assertion failed, or abort() was called");
    expect_failed("bad_spawned_asserts", "\"spawned\" != \"wrong\"");
}

static void test_assertion_in_orphaned_grandchild_fails_the_test(void **state)
{
    (void)state;
    expect_failed("bad_grandchild_asserts", "an assertion failed, or abort() was called");
}

static void test_assertion_in_thread_fails_the_test(void **state)
{
    (void)state;
    expect_failed("bad_thread_asserts", "an assertion failed, or abort() was called");
}

static void test_join_of_killed_process_fails(void **state)
{
    (void)state;
    expect_failed("bad_joins_a_killed_one", "was killed by signal 9");
}

static void test_descriptor_left_is_reported_with_its_path(void **state)
{
    (void)state;
    expect_failed("bad_leaves_descriptor", "open: /dev/null");
}

static void test_descriptor_replaced_or_closed_is_reported(void **state)
{
    (void)state;
    expect_failed("bad_replaces_descriptor", "(it replaced one that was open before the test)");
    expect_failed("bad_closes_descriptor", "closed descriptor 0, which was open before the test");
}

static void test_mapping_left_is_reported(void **state)
{
    (void)state;
    expect_failed("bad_leaves_mapping", "left a mapping of ");
    expect_failed("bad_leaves_mapping", "mapped.cove");
}

static void test_file_left_is_reported_and_removed(void **state)
{
    (void)state;
    expect_failed("bad_leaves_file", "left.cove (4096 bytes)");
    expect_gone(told->dir);
    expect_failed("bad_leaves_file_deep_down", "deep/left.cove (4096 bytes)");
    expect_gone(told->dir);
}

static void test_name_left_in_shm_is_reported_and_removed(void **state)
{
    (void)state;
    if (access("/dev/shm", W_OK) != 0)
        testing_skip("/dev/shm is not writable here");
    expect_failed("bad_leaves_name_in_shm", "left /dev/shm/cove-test-");
    expect_gone(told->dir);
}

static void test_daemon_left_is_reported_and_killed(void **state)
{
    (void)state;
    expect_failed("bad_leaves_daemon", ") running");
    assert_true(told_process_is_gone());
}

static void test_child_left_is_reported(void **state)
{
    (void)state;
    expect_failed("bad_leaves_running_child", "ended while a child of it was running");
    expect_failed("bad_leaves_ended_child", "did not wait for its child");
}

static void test_wait_in_vain_names_the_condition(void **state)
{
    (void)state;
    expect_failed("bad_waits_in_vain", "waited in vain for: testing_reached(1) == 1");
    expect_failed("bad_awaits_in_vain", "step 7 was reached 0 times, not 1");
}

static void test_reports_beyond_the_room_are_counted(void **state)
{
    (void)state;
    expect_failed("bad_reports", "bad_reports: report 0");
    expect_failed("bad_reports", "more\n");
}

static void test_skip_shows_as_skipped(void **state)
{
    (void)state;
    expect_verdict("good_skips", 0, "[  SKIPPED ] 1 test(s)", "there is no such thing here");
}

static void test_skip_out_of_place_fails(void **state)
{
    (void)state;
    expect_failed("bad_spawned_skips", "only a test's first process can skip it");
    expect_failed("bad_skips_with_descriptor", "open: /dev/null");
}

static void test_what_is_declared_or_right_passes(void **state)
{
    (void)state;
    expect_passed("good_does_nothing");
    expect_passed("good_leaves_open");
    expect_passed("good_leaves_files");
    expect_gone(told->dir);
    expect_passed("good_kills");
    expect_passed("good_spawned_aborts_on_purpose");
}

static void test_failure_does_not_reach_the_next_test(void **state)
{
    (void)state;
    static struct inner inner = {.names = {"bad_leaves_file", "good_does_nothing", "bad_crashes", "good_kills"}};
    told_make();
    inner_begin(&inner);
    inner_end(&inner);
    expect_text(&inner, "[  PASSED  ] 2 test(s)");
    expect_text(&inner, "[  FAILED  ] 2 test(s)");
    expect_text(&inner, "[       OK ] good_kills");
}

static void test_unknown_name_is_refused(void **state)
{
    (void)state;
    static struct inner inner = {.names = {"good_does_nothing", "no_such_test"}};
    inner_begin(&inner);
    inner_end(&inner);
    expect_text(&inner, "there is no test no_such_test");
    assert_int_equal(WEXITSTATUS(inner.status), 2);
}

static void test_interrupted_runner_cleans_up(void **state)
{
    (void)state;
    static struct inner inner = {.names = {"bad_tells_and_hangs"}};
    told_make();
    inner_begin(&inner);
    UNTIL(atomic_load(&told->ready), 5000);
    assert_int_equal(kill(inner.pid, SIGTERM), 0);
    inner_end(&inner);
    assert_true(WIFSIGNALED(inner.status));
    assert_int_equal(WTERMSIG(inner.status), SIGTERM);
    assert_true(told_process_is_gone());
    expect_gone(told->dir);
}

static void test_killed_runner_takes_its_test_along(void **state)
{
    (void)state;
    static struct inner inner = {.names = {"bad_tells_and_hangs"}};
    told_make();
    inner_begin(&inner);
    UNTIL(atomic_load(&told->ready), 5000);
    assert_int_equal(kill(inner.pid, SIGKILL), 0);
    inner_end(&inner);
    UNTIL(told_process_is_gone(), 5000); /* the runner of this test reaps it */
    assert_int_equal(rmdir(told->dir), 0);
}

static const struct testing_case tests[] = {
    TEST(test_hang_is_killed_and_reported),
    TEST(test_stopped_test_is_killed_and_reported),
    TEST(test_crash_is_reported_with_its_signal),
    TEST(test_early_exit_is_reported),
    TEST(test_status_of_exit_handlers_is_reported),
    TEST(test_assertion_is_reported_with_its_line),
    TEST(test_assertion_in_spawned_process_fails_the_test),
    TEST(test_assertion_in_orphaned_grandchild_fails_the_test),
    TEST(test_assertion_in_thread_fails_the_test),
    TEST(test_join_of_killed_process_fails),
    TEST(test_descriptor_left_is_reported_with_its_path),
    TEST(test_descriptor_replaced_or_closed_is_reported),
    TEST(test_mapping_left_is_reported),
    TEST(test_file_left_is_reported_and_removed),
    TEST(test_name_left_in_shm_is_reported_and_removed),
    TEST(test_daemon_left_is_reported_and_killed),
    TEST(test_child_left_is_reported),
    TEST(test_wait_in_vain_names_the_condition),
    TEST(test_reports_beyond_the_room_are_counted),
    TEST(test_skip_shows_as_skipped),
    TEST(test_skip_out_of_place_fails),
    TEST(test_what_is_declared_or_right_passes),
    TEST(test_failure_does_not_reach_the_next_test),
    TEST(test_unknown_name_is_refused),
    TEST(test_interrupted_runner_cleans_up),
    TEST(test_killed_runner_takes_its_test_along),
};

/* A harness that never fails would also pass all tests above. So, without it: a bad test must give status 1. */
static bool harness_can_fail(void)
{
    struct inner inner = {
        .names = {"bad_asserts"}, .name_count = 1, .output_fd = open("/dev/null", O_WRONLY | O_CLOEXEC)};
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        inner_main(&inner);
    close(inner.output_fd);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

int main(void)
{
    if (!harness_can_fail()) {
        fputs("a failed assertion does not fail its test: no result of the harness means anything\n", stderr);
        return 1;
    }
    return testing_run("harness", tests);
}
