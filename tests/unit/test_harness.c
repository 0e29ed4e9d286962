/* test_harness.c - the test harness finds what it promises to find.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A second table holds tests that misbehave, each in one way (`bad_`), and some that look like it and are right
 * (`good_`). The tests proper run one of them with the harness itself, in a process that they spawn, catch what it
 * prints, and compare verdict and sentence. What an inner run fails to clean comes back to the outer runner, as the
 * outer one is the next subreaper: it would fail the test here. */
/* ctest: threads timeout=60 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_BYTES 16384u
#define PATH_BYTES 1024u

/* What an inner test tells the outer one, which has made the memory. */
struct told {
    _Atomic int ready;
    _Atomic int pid;
    char dir[PATH_BYTES];
};
static struct told *told;

/* ---- tests that misbehave ---------------------------------------------------------------------------------------- */

static void file_make(const char *path)
{
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(close(fd), 0);
}

static const char *path_in(const char *dir, const char *name)
{
    static char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void wait_forever(void *argument)
{
    (void)argument;
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGALRM); /* the harness's last resort */
    sigprocmask(SIG_BLOCK, &all, NULL);
    for (;;)
        pause();
}

static void bad_hangs(void **state)
{
    (void)state;
    testing_spawn(wait_forever, NULL);
    wait_forever(NULL);
}

static void bad_stops_itself(void **state)
{
    (void)state;
    raise(SIGSTOP);
}

static void bad_crashes(void **state)
{
    (void)state;
    signal(SIGSEGV, SIG_DFL); /* a sanitizer's handler would exit */
    raise(SIGSEGV);
}

static void bad_exits(void **state)
{
    (void)state;
    exit(0);
}

static void exit_with_3(void)
{
    _exit(3);
}

static void bad_ends_with_status(void **state)
{
    (void)state;
    atexit(exit_with_3);
}

static void bad_asserts(void **state)
{
    (void)state;
    assert_int_equal(6 * 9, 42);
}

static void bad_asserts_without_environment(void **state)
{
    (void)state;
    unsetenv("CMOCKA_TEST_ABORT");
    assert_int_equal(6 * 9, 42);
}

static void assert_wrong(void *argument)
{
    (void)argument;
    assert_string_equal("spawned", "wrong");
}

static void bad_spawned_asserts(void **state)
{
    (void)state;
    testing_wait(testing_spawn(assert_wrong, NULL)); /* the status is not looked at */
}

static void assert_wrong_in_child(void *argument)
{
    if (fork() == 0) {
        assert_wrong(argument);
        _exit(0);
    }
}

static void bad_grandchild_asserts(void **state)
{
    (void)state;
    testing_join(testing_spawn(assert_wrong_in_child, NULL)); /* which has ended well itself */
}

static void *assert_wrong_in_thread(void *argument)
{
    assert_wrong(argument);
    return NULL;
}

static void bad_thread_asserts(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, assert_wrong_in_thread, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void exit_by_signal(void *argument)
{
    (void)argument;
    raise(SIGKILL);
}

static void bad_joins_a_killed_one(void **state)
{
    (void)state;
    testing_join(testing_spawn(exit_by_signal, NULL));
}

static void bad_leaves_descriptor(void **state)
{
    (void)state;
    assert_true(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
}

static void bad_replaces_descriptor(void **state)
{
    (void)state;
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    assert_int_equal(dup2(pipe_fds[0], 0), 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void bad_closes_descriptor(void **state)
{
    (void)state;
    assert_int_equal(close(0), 0);
}

/* A mapping of a file that has no name any more, without a descriptor. */
static void map_and_forget(void)
{
    const char *path = path_in(testing_dir(), "mapped.cove");
    file_make(path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
    close(fd);
    unlink(path);
}

static void bad_leaves_mapping(void **state)
{
    (void)state;
    map_and_forget();
}

static void bad_leaves_file(void **state)
{
    (void)state;
    file_make(path_in(testing_dir(), "left.cove"));
    snprintf(told->dir, sizeof told->dir, "%s", testing_dir());
}

static void bad_leaves_file_deep_down(void **state)
{
    (void)state;
    assert_int_equal(mkdir(path_in(testing_dir(), "deep"), 0700), 0);
    file_make(path_in(testing_dir(), "deep/left.cove"));
    snprintf(told->dir, sizeof told->dir, "%s", testing_dir());
}

static void bad_leaves_name_in_shm(void **state)
{
    (void)state;
    if (access("/dev/shm", W_OK) != 0)
        skip();
    snprintf(told->dir, sizeof told->dir, "/dev/shm/%s.cove", testing_name("left"));
    file_make(told->dir);
}

static void start_daemon(void *argument)
{
    (void)argument;
    if (fork() == 0) {
        setsid();
        atomic_store(&told->pid, getpid());
        wait_forever(NULL);
    }
    UNTIL(atomic_load(&told->pid) != 0, 5000);
}

static void bad_leaves_daemon(void **state)
{
    (void)state;
    testing_join(testing_spawn(start_daemon, NULL));
}

static void bad_leaves_running_child(void **state)
{
    (void)state;
    testing_spawn(wait_forever, NULL);
}

static void exit_well(void *argument)
{
    (void)argument;
}

static void bad_leaves_ended_child(void **state)
{
    (void)state;
    pid_t pid = testing_spawn(exit_well, NULL);
    siginfo_t ended;
    assert_int_equal(waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT), 0);
}

static void bad_waits_in_vain(void **state)
{
    (void)state;
    UNTIL(testing_reached(1) == 1, 20);
}

static void bad_awaits_in_vain(void **state)
{
    (void)state;
    testing_await(7);
}

static void bad_reports(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        testing_report("report %d", i);
}

static void skip_it(void *argument)
{
    (void)argument;
    testing_skip("not mine to skip");
}

static void bad_spawned_skips(void **state)
{
    (void)state;
    testing_wait(testing_spawn(skip_it, NULL));
}

static void bad_skips_with_descriptor(void **state)
{
    bad_leaves_descriptor(state);
    testing_skip("after a leak");
}

/* Tells who it is, then waits until somebody ends it. */
static void bad_tells_and_hangs(void **state)
{
    (void)state;
    snprintf(told->dir, sizeof told->dir, "%s", testing_dir());
    atomic_store(&told->pid, getpid());
    atomic_store(&told->ready, 1);
    wait_forever(NULL);
}

/* ---- tests that look like it and are right ----------------------------------------------------------------------- */

static void good_does_nothing(void **state)
{
    (void)state;
}

static void good_leaves_open(void **state)
{
    testing_leaves_open();
    bad_leaves_descriptor(state);
    map_and_forget();
}

static void good_leaves_files(void **state)
{
    testing_leaves_files();
    bad_leaves_file(state);
}

static void good_skips(void **state)
{
    (void)state;
    testing_skip("there is no such thing here");
}

static void good_kills(void **state)
{
    (void)state;
    pid_t pid = testing_spawn(wait_forever, NULL);
    testing_kill(pid);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
}

static void abort_by_default(void *argument)
{
    (void)argument;
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void good_spawned_aborts_on_purpose(void **state)
{
    (void)state;
    int status = testing_wait(testing_spawn(abort_by_default, NULL));
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static const struct testing_case inner_tests[] = {
    TEST_TIMEOUT(bad_hangs, 1),
    TEST_TIMEOUT(bad_stops_itself, 1),
    TEST(bad_crashes),
    TEST(bad_exits),
    TEST(bad_ends_with_status),
    TEST(bad_asserts),
    TEST(bad_asserts_without_environment),
    TEST(bad_spawned_asserts),
    TEST(bad_grandchild_asserts),
    TEST(bad_thread_asserts),
    TEST(bad_joins_a_killed_one),
    TEST(bad_leaves_descriptor),
    TEST(bad_replaces_descriptor),
    TEST(bad_closes_descriptor),
    TEST(bad_leaves_mapping),
    TEST(bad_leaves_file),
    TEST(bad_leaves_file_deep_down),
    TEST(bad_leaves_name_in_shm),
    TEST(bad_leaves_daemon),
    TEST(bad_leaves_running_child),
    TEST(bad_leaves_ended_child),
    TEST(bad_waits_in_vain),
    TEST_TIMEOUT(bad_awaits_in_vain, 1),
    TEST(bad_reports),
    TEST(bad_spawned_skips),
    TEST(bad_skips_with_descriptor),
    TEST(bad_tells_and_hangs),
    TEST(good_does_nothing),
    TEST(good_leaves_open),
    TEST(good_leaves_files),
    TEST(good_skips),
    TEST(good_kills),
    TEST(good_spawned_aborts_on_purpose),
};
#define INNER_COUNT (sizeof inner_tests / sizeof inner_tests[0])

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
    expect_failed("bad_asserts", "test_harness.c");
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
    TEST(test_directory_is_empty_private_and_in_the_environment),
    TEST(test_name_is_the_same_in_all_processes_of_a_test),
    TEST(test_steps_order_two_processes),
    TEST(test_until_tells_whether_it_came_to_hold),
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
