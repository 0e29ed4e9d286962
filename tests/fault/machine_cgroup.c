/* machine_cgroup.c - a memory cgroup whose limit kills: creators and growers, and those who go on.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * In a memory cgroup fallocate is where the kernel kills (SIGKILL, in the middle of the call), not a later touch:
 * what a segment has is there. A killed creator leaves nothing. A killed grower leaves the growth lock, and a file
 * that may be longer than its size says: the next to grow goes on within a moment. Version 1 and version 2 of
 * cgroups, whichever has the memory controller and lets us make one. One that a killed test left is removed by the
 * next test. */
/* ctest: timeout=60 */
#include "machine_setup.h"

#include <dirent.h>
#include <signal.h>

#define LIMIT_BYTES (6 * MACHINE_MIB)
#define MUCH_BYTES (64 * MACHINE_MIB)

static char cgroup[512];

static bool put(const char *file, const char *text)
{
    char path[640];
    (void)snprintf(path, sizeof path, "%s/%s", cgroup, file);
    FILE *out = fopen(path, "we");
    if (!out)
        return false;
    bool good = fputs(text, out) >= 0;
    return fclose(out) == 0 && good;
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Those of tests that are no more. */
static void remove_left(const char *parent)
{
    DIR *directory = opendir(parent);
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;) {
        char path[640];
        int pid = 0;
        if (sscanf(entry->d_name, "cove-test-%d", &pid) == 1 && kill(pid, 0) != 0) {
            (void)snprintf(path, sizeof path, "%s/%s", parent, entry->d_name);
            (void)rmdir(path);
        }
    }
    if (directory)
        (void)closedir(directory);
}

static bool make_below(const char *parent, const char *limit_file)
{
    char limit[32];
    remove_left(parent);
    (void)snprintf(cgroup, sizeof cgroup, "%s/cove-test-%d", parent, (int)getpid());
    (void)snprintf(limit, sizeof limit, "%zu", (size_t)LIMIT_BYTES);
    if (mkdir(cgroup, 0755) != 0)
        return false;
    if (put(limit_file, limit))
        return true;
    (void)rmdir(cgroup);
    return false;
}

static void make_cgroup(void)
{
    if (!(exists("/sys/fs/cgroup/memory/memory.limit_in_bytes") &&
          make_below("/sys/fs/cgroup/memory", "memory.limit_in_bytes")) &&
        !(exists("/sys/fs/cgroup/cgroup.controllers") && make_below("/sys/fs/cgroup", "memory.max")))
        testing_skip("no memory cgroup can be made here: that wants root and the memory controller in /sys/fs/cgroup");
    (void)put("memory.swap.max", "0"); /* or it would swap first */
    (void)put("memory.swappiness", "0");
}

static void remove_cgroup(void)
{
    UNTIL(rmdir(cgroup) == 0, 5000); /* EBUSY while the last process in it is going */
}

static void enter_cgroup(void)
{
    char number[24];
    (void)snprintf(number, sizeof number, "%d", (int)getpid());
    if (!put("cgroup.procs", number))
        fail_msg("entering %s: %s", cgroup, strerror(errno));
}

/* Skip the test before it has made anything. */
static void need_cgroup(void)
{
    make_cgroup();
    remove_cgroup();
}

/* Run it in a cgroup, to its end there; the cgroup goes whatever comes of it. */
static int status_in_cgroup(void (*function)(void *argument))
{
    make_cgroup();
    int status = testing_wait(testing_spawn(function, NULL));
    remove_cgroup();
    return status;
}

static void expect_killed(int status)
{
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("status %#x: it should have been killed", (unsigned)status);
}

static void create_too_much(void *unused)
{
    (void)unused;
    enter_cgroup();
    cove_segment *segment = NULL;
    (void)!cove_open(&segment, "t", &(struct cove_options){.size_bytes = MUCH_BYTES});
    fail_msg("it was not killed: %s", cove_last_error());
}

static void test_cgroup_kills_a_creator(void **state)
{
    (void)state;
    need_cgroup();
    machine_own_mounts();
    machine_mount(4 * MUCH_BYTES, "");
    uint64_t before = machine_free_pages();
    expect_killed(status_in_cgroup(create_too_much));
    machine_expect_pages(before); /* all of the nameless file's memory comes back */
    assert_int_equal(machine_files(), 0);
    int64_t begin = unit_now();
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.size_bytes = MUCH_BYTES});
    assert_true(unit_now() - begin < unit_patience());
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
    machine_unmount();
}

static void grow_too_much(void *unused)
{
    (void)unused;
    enter_cgroup();
    cove_segment *segment = unit_open("t");
    (void)cove_alloc(segment, MUCH_BYTES);
    fail_msg("it was not killed: %s", cove_last_error());
}

static void grow_little_by_little(void *stop)
{
    cove_segment *segment = unit_open("t");
    testing_reach(0);
    unsigned count = 0;
    for (; atomic_load((atomic_uint *)stop) == 0 || count < 20; count++) {
        int64_t begin = unit_now();
        cove_ref ref = cove_alloc(segment, 300 * MACHINE_KIB);
        if (ref == 0)
            fail_msg("growing: %s", cove_last_error());
        memset(cove_at(segment, ref, 300 * MACHINE_KIB), 1, 300 * MACHINE_KIB);
        assert_true(unit_now() - begin < unit_patience());
        if (count % 20 != 0)
            EXPECT(0, cove_free(segment, ref));
    }
    unit_close(segment);
}

static void test_cgroup_kills_a_grower(void **state)
{
    (void)state;
    need_cgroup();
    machine_own_mounts();
    machine_mount(8 * MUCH_BYTES, "");
    cove_segment *segment = unit_open("t");
    atomic_uint *stop = testing_shared(sizeof *stop);
    pid_t other = testing_spawn(grow_little_by_little, stop); /* it wants the same growth lock */
    testing_await(0);
    expect_killed(status_in_cgroup(grow_too_much));
    int64_t begin = unit_now();
    cove_ref ref = cove_alloc(segment, MUCH_BYTES);
    if (ref == 0)
        fail_msg("growing: %s", cove_last_error());
    assert_true(unit_now() - begin < unit_patience());
    memset(cove_at(segment, ref, MUCH_BYTES), 1, MUCH_BYTES);
    atomic_store(stop, 1);
    testing_join(other);
    (void)EXPECT_GOOD(cove_recover(segment));
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.members_dead, 0);
    assert_int_equal(info.members_alive, 1);
    assert_int_equal(info.heap_block_count, 1); /* the killed one's went back, and those of who left */
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
    machine_unmount();
}

/* What was reserved by others is there, and is theirs: touching it costs the one in the cgroup nothing. */
static void touch_much(void *unused)
{
    (void)unused;
    enter_cgroup();
    cove_segment *segment = unit_open("t");
    cove_ref *board = unit_object(segment, "board", sizeof *board);
    memset(cove_at(segment, *board, MUCH_BYTES), 3, MUCH_BYTES);
    unit_close(segment);
}

static void test_cgroup_does_not_kill_who_touches(void **state)
{
    (void)state;
    need_cgroup();
    machine_own_mounts();
    machine_mount(4 * MUCH_BYTES, "");
    cove_segment *segment = unit_open("t");
    cove_ref *board = unit_object(segment, "board", sizeof *board);
    EXPECT(0, cove_alloc_into(segment, board, MUCH_BYTES));
    assert_int_equal(status_in_cgroup(touch_much), 0);
    const unsigned char *bytes = cove_at(segment, *board, MUCH_BYTES);
    assert_int_equal(bytes[MUCH_BYTES - 1], 3);
    unit_close(segment);
    unit_remove("t");
    machine_unmount();
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_cgroup_kills_a_creator, 20),
    TEST_TIMEOUT(test_cgroup_kills_a_grower, 20),
    TEST_TIMEOUT(test_cgroup_does_not_kill_who_touches, 20),
};

int main(void)
{
    return testing_run("machine_cgroup", tests);
}
