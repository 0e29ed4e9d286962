/* machine_forbidden.c - system calls that a sandbox forbids, and a machine without /proc.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A filter (seccomp, written by hand) answers one call with ENOSYS, as an old kernel does, or with EPERM, as a
 * sandbox does. Under it a few processes do their everyday work (machine_work.c). Where the call has a substitute
 * all of it works, recovery of a killed holder and growth among it, and nobody burns a processor while waiting;
 * where it has none the first call says so. */
/* ctest: timeout=90 */
#include "machine_setup.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* the same number on every architecture */
#endif

/* ---- under a filter */

struct trial {
    struct machine_forbidden what;
    int error;
};

static void work_or_refuse(const char *sentence)
{
    if (!sentence) {
        machine_work();
        return;
    }
    cove_segment *segment = NULL;
    unit_forget();
    int result = cove_open(&segment, "work", &(struct cove_options){.size_bytes = 4096});
    if (result >= 0)
        fail_msg("it was opened, where \"%s\" was expected", sentence);
    assert_null(segment);
    unit_expect_says("cove_open", sentence, __FILE__, __LINE__);
    assert_int_equal(machine_files(), 0);
}

static void under_filter(void *argument)
{
    const struct trial *trial = argument;
    machine_forbid(&trial->what, trial->error);
    work_or_refuse(trial->what.sentence);
}

static void try_each(const struct machine_forbidden *list, size_t count)
{
    static const int errors[] = {ENOSYS, EPERM};
    machine_skip_without_filters();
    for (size_t i = 0; i < count; i++)
        for (size_t error = 0; error < 2; error++) {
            struct trial trial = {.what = list[i], .error = errors[error]};
            int status = testing_wait(testing_spawn(under_filter, &trial));
            if (status != 0)
                fail_msg("%s answered with %s: status %#x", list[i].name, cove_errname(-errors[error]),
                         (unsigned)status);
            print_message("%s, %s: %s\n", list[i].name, cove_errname(-errors[error]),
                          list[i].sentence ? list[i].sentence : "works");
        }
}
#define TRY_EACH(list) try_each(list, sizeof(list) / sizeof *(list))

#define WHOLE MACHINE_ANY, 0, false

/* What makes things faster, or is not used at all. */
static void test_forbidden_helps_are_not_missed(void **state)
{
    (void)state;
    static const struct machine_forbidden list[] = {
        {"futex_waitv", SYS_futex_waitv, WHOLE, NULL},
        {"membarrier", SYS_membarrier, WHOLE, NULL},
        {"io_uring_setup", SYS_io_uring_setup, WHOLE, NULL},
        {"io_uring_enter", SYS_io_uring_enter, WHOLE, NULL},
        {"memfd_create", SYS_memfd_create, WHOLE, NULL},
        {"statx", SYS_statx, WHOLE, NULL},
        {"renameat2", SYS_renameat2, WHOLE, NULL},
        {"fstatfs", SYS_fstatfs, WHOLE, NULL},
        {"get_robust_list", SYS_get_robust_list, WHOLE, NULL},
        {"getcpu", SYS_getcpu, WHOLE, NULL},
        {"sched_getaffinity", SYS_sched_getaffinity, WHOLE, NULL},
        {"madvise(MADV_WIPEONFORK)", SYS_madvise, 2, 18, true, NULL},
        {"madvise", SYS_madvise, WHOLE, NULL},
        {"prlimit64", SYS_prlimit64, WHOLE, NULL},
        {"userfaultfd", SYS_userfaultfd, WHOLE, NULL},
        {"shmget", SYS_shmget, WHOLE, NULL},
    };
    TRY_EACH(list);
}

/* ---- waiting is sleeping, whatever is forbidden */

#define WAIT_NS (400 * UNIT_MS)
#define CPU_MOST_NS (WAIT_NS / 4) /* looking at a lock every few ms takes less than a hundredth */

static int64_t cpu_used_ns(void)
{
    struct timespec used;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * UNIT_S + used.tv_nsec;
}

static void wait_under_filter(void *argument)
{
    const struct trial *trial = argument;
    machine_forbid(&trial->what, trial->error);
    cove_segment *segment = unit_open("t");
    cove_mutex *lock = unit_object(segment, "lock", sizeof *lock);
    int64_t before = cpu_used_ns();
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, lock, WAIT_NS));
    if (cpu_used_ns() - before > CPU_MOST_NS)
        fail_msg("waiting %d ms took %d ms of a processor", (int)(WAIT_NS / UNIT_MS),
                 (int)((cpu_used_ns() - before) / UNIT_MS));
    unit_close(segment);
}

static void test_forbidden_waits_sleep(void **state)
{
    (void)state;
    static const struct trial trials[] = {
        {{"futex_waitv", SYS_futex_waitv, WHOLE, NULL}, ENOSYS},
        {{"futex_waitv", SYS_futex_waitv, WHOLE, NULL}, EPERM},
        {{"futex_waitv", SYS_futex_waitv, WHOLE, NULL}, EACCES},
        {{"membarrier", SYS_membarrier, WHOLE, NULL}, EPERM},
    };
    machine_skip_without_filters();
    cove_segment *segment = unit_open("t");
    cove_mutex *lock = unit_object(segment, "lock", sizeof *lock);
    EXPECT(0, cove_mutex_lock(segment, lock, COVE_NOWAIT));
    pid_t pids[sizeof trials / sizeof *trials];
    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++)
        pids[i] = testing_spawn(wait_under_filter, (void *)(uintptr_t)&trials[i]);
    for (size_t i = 0; i < sizeof trials / sizeof *trials; i++)
        testing_join(pids[i]);
    EXPECT(0, cove_mutex_unlock(segment, lock));
    unit_close(segment);
    unit_remove("t");
}

/* Making a file without a name, and naming it: both have a substitute. */
static void test_forbidden_nameless_files_are_replaced(void **state)
{
    (void)state;
    static const struct machine_forbidden list[] = {
        {"openat(O_TMPFILE)", SYS_openat, 2, O_TMPFILE, false, NULL},
        {"linkat", SYS_linkat, WHOLE, NULL},
    };
    TRY_EACH(list);
}

/* Without these there is no segment, and that is told. */
static void test_forbidden_necessities_are_told(void **state)
{
    (void)state;
    static const struct machine_forbidden list[] = {
        {"fallocate", SYS_fallocate, WHOLE, "fallocate"},
        {"fcntl(F_OFD_SETLK)", MACHINE_FCNTL, 1, F_OFD_SETLK, true, "F_OFD_SETLK"},
        {"fchmod", SYS_fchmod, WHOLE, "fchmod"},
    };
    TRY_EACH(list);
}

/* ---- no /proc */

static void without_proc(void *argument)
{
    const bool covered = *(const bool *)argument;
    assert_int_equal(unshare(CLONE_NEWNS), 0); /* the test itself keeps its /proc */
    if (covered)
        assert_int_equal(mount("cove-test", "/proc", "tmpfs", MS_NOSUID | MS_NODEV, "size=4096"), 0);
    else
        assert_int_equal(umount2("/proc", MNT_DETACH), 0);
    assert_true(access("/proc/self/fd", F_OK) != 0);
    work_or_refuse(NULL);
}

static void test_forbidden_proc_is_not_missed(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("sanitizers look into /proc at the end");
    machine_own_mounts();
    for (int i = geteuid() == 0 ? 0 : 1; i < 2; i++) { /* in a user namespace it can only be covered */
        bool covered = i == 1;
        testing_join(testing_spawn(without_proc, &covered));
    }
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_forbidden_helps_are_not_missed, 60),        TEST_TIMEOUT(test_forbidden_waits_sleep, 30),
    TEST_TIMEOUT(test_forbidden_nameless_files_are_replaced, 30), TEST_TIMEOUT(test_forbidden_necessities_are_told, 30),
    TEST_TIMEOUT(test_forbidden_proc_is_not_missed, 30),
};

int main(void)
{
    return testing_run("machine_forbidden", tests);
}
