/* harness_inner.h - tests that misbehave, each in one way (`bad_`), and some that look so and are right (`good_`).
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * test_harness.c runs them with the harness itself and looks at what it says. */
#ifndef HARNESS_INNER_H
#define HARNESS_INNER_H

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

#endif
