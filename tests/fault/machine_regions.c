/* machine_regions.c - raw regions, and segments of other backends, on a machine that is short of something.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The kernel's books of System V memory are those of an IPC namespace of the test's own, so its limits can be changed
 * there and nothing is left in it. */
/* ctest: timeout=60 */
#include "machine_setup.h"

#include <cove/region.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define PAGES 16
#define BYTES (PAGES * (size_t)MACHINE_PAGE)

static cove_region *region;
static const char *name = "r"; /* of the region; some tests take another backend's */

static int64_t make_region(void)
{
    const struct cove_region_options options = {.size_bytes = BYTES, .timeout_ns = UNIT_S};
    int result = cove_region_open(&region, name, &options);
    if (result >= 0)
        memset(cove_region_data(region), 5, BYTES);
    return result;
}

static void settle_region(int64_t result)
{
    struct cove_region_info info;
    if (result < 0)
        EXPECT(-ENOENT, cove_region_look(name, &info));
    else {
        EXPECT(0, cove_region_look(name, &info));
        assert_int_equal(info.size_bytes, BYTES);
    }
}

static void clear_region(void)
{
    EXPECT(0, cove_region_close(region));
    EXPECT(0, cove_region_unlink(name, 0));
    region = NULL;
}

/* ---- a full file system */

static void test_regions_full_create(void **state)
{
    (void)state;
    machine_at_each_page(&(struct machine_operation){"region, create", NULL, make_region, settle_region, clear_region,
                                                     true, PAGES, PAGES});
}

static const char *file_name(const char *file)
{
    static char full[1100];
    (void)snprintf(full, sizeof full, "file:%s/%s", testing_dir(), file);
    return full;
}

static void test_regions_full_create_a_file(void **state)
{
    (void)state;
    name = file_name("r");
    machine_at_each_page(&(struct machine_operation){"file: region, create", NULL, make_region, settle_region,
                                                     clear_region, true, PAGES, PAGES});
}

#define NEW_BYTES (24 * (size_t)MACHINE_PAGE)
static unsigned char new_bytes[NEW_BYTES];

static void prepare_replace(void)
{
    EXPECT(COVE_CREATED, make_region());
}

static int64_t run_replace(void)
{
    memset(new_bytes, 6, sizeof new_bytes);
    return cove_region_replace(name, new_bytes, sizeof new_bytes, NULL);
}

/* Who has the old contents mapped keeps them; who looks finds one or the other, whole. */
static void settle_replace(int64_t result)
{
    struct cove_region_info info;
    assert_int_equal(((unsigned char *)cove_region_data(region))[BYTES - 1], 5);
    EXPECT(0, cove_region_look(name, &info));
    assert_int_equal(info.size_bytes, result < 0 ? BYTES : NEW_BYTES);
}

static void clear_replace(void)
{
    cove_region *now = NULL;
    EXPECT(0, cove_region_open(&now, name, NULL));
    assert_int_equal(cove_region_size(now), NEW_BYTES);
    assert_int_equal(((unsigned char *)cove_region_data(now))[NEW_BYTES - 1], 6);
    EXPECT(0, cove_region_close(now));
    clear_region();
}

static void test_regions_full_replace(void **state)
{
    (void)state;
    machine_at_each_page(&(struct machine_operation){"region, replace", prepare_replace, run_replace, settle_replace,
                                                     clear_replace, true, 24, 24});
}

/* ---- a segment in a mapped file */

static cove_segment *segment;

static int64_t make_file_segment(void)
{
    return cove_open(&segment, name, &(struct cove_options){.size_bytes = 4096, .max_members = 2});
}

static void clear_file_segment(void)
{
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(name, 0));
    segment = NULL;
}

static void test_regions_full_create_a_file_segment(void **state)
{
    (void)state;
    name = file_name("s.cove");
    machine_at_each_page(&(struct machine_operation){"file: segment, create", NULL, make_file_segment, NULL,
                                                     clear_file_segment, true, 6, 14});
}

/* ---- descriptors */

static void prepare_unlinked(void)
{
    EXPECT(COVE_CREATED, make_region());
    EXPECT(0, cove_region_close(region));
    region = NULL;
}

static void clear_by_name(void)
{
    if (region)
        EXPECT(0, cove_region_close(region));
    EXPECT(0, cove_region_unlink(name, 0));
    region = NULL;
}

static int64_t run_open(void)
{
    return cove_region_open(&region, name, NULL);
}

static int64_t run_look(void)
{
    struct cove_region_info info;
    return cove_region_look(name, &info);
}

static int64_t run_rights(void)
{
    return cove_region_set_rights(name, 0640, NULL);
}

static int64_t run_fd(void)
{
    int file = cove_region_fd(region);
    return file < 0 ? file : close(file);
}

static int pair[2];

static void prepare_pair(void)
{
    EXPECT(COVE_CREATED, make_region());
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    int file = cove_region_fd(region);
    EXPECT(0, cove_fd_send(pair[0], file));
    EXPECT(0, cove_fd_send(pair[0], file)); /* one for a second try */
    (void)close(file);
}

static int64_t run_receive(void)
{
    int file = cove_fd_receive(pair[1]);
    return file < 0 ? file : close(file);
}

static void clear_pair(void)
{
    (void)close(pair[0]);
    (void)close(pair[1]);
    clear_by_name();
}

static void test_regions_descriptors(void **state)
{
    (void)state;
    static const struct machine_call calls[] = {
        {"region, create", NULL, make_region, clear_by_name, 1, 2},
        {"region, open", prepare_unlinked, run_open, clear_by_name, 1, 1},
        {"region, look", prepare_unlinked, run_look, clear_by_name, 1, 1},
        {"region, replace", prepare_unlinked, run_replace, clear_by_name, 1, 2},
        {"region, rights", prepare_unlinked, run_rights, clear_by_name, 1, 1},
        {"region, descriptor", prepare_replace, run_fd, clear_by_name, 1, 1},
        {"receive", prepare_pair, run_receive, clear_pair, 1, 1},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        machine_with_each_number(&calls[i]);
}

/* ---- sizes of files */

static void create_and_replace_within(void *argument)
{
    uint64_t limit = *(const uint64_t *)argument;
    machine_limit(RLIMIT_FSIZE, limit);
    int64_t result = make_region();
    if (limit < BYTES)
        EXPECT_WAS(-EFBIG, result);
    else
        EXPECT_WAS(COVE_CREATED, result);
    if (result < 0) {
        unit_expect_says("cove_region_open", "ulimit -f", __FILE__, __LINE__);
        machine_limit(RLIMIT_FSIZE, UINT64_MAX);
        EXPECT(COVE_CREATED, make_region());
        machine_limit(RLIMIT_FSIZE, limit);
    }
    result = run_replace();
    EXPECT_WAS(limit < NEW_BYTES ? -EFBIG : 0, result);
    if (result < 0)
        unit_expect_says("cove_region_replace", "ulimit -f", __FILE__, __LINE__);
    settle_replace(result);
    clear_region();
    assert_int_equal(machine_files(), 0);
}

static void test_regions_file_size(void **state)
{
    (void)state;
    static const uint64_t limits[] = {0, 1, 4096, BYTES - 1, BYTES, NEW_BYTES - 1, NEW_BYTES};
    static const char *const names[] = {"r", NULL};
    for (size_t i = 0; i < 2 * sizeof limits / sizeof *limits; i++) {
        uint64_t limit = limits[i / 2];
        name = names[i % 2] ? names[i % 2] : file_name("r");
        int status = testing_wait(testing_spawn(create_and_replace_within, &limit));
        if (status != 0)
            fail_msg("%s, limit %u: status %#x", name, (unsigned)limit, (unsigned)status);
    }
}

/* A limit does not hold for memory that has no file's name, or it is told; a signal it is never. */
static void make_memory_within(void *argument)
{
    (void)argument;
    machine_limit(RLIMIT_FSIZE, 0);
    name = "memfd:";
    int64_t result = make_region();
    if (result < 0) {
        EXPECT_WAS(-EFBIG, result);
        unit_expect_says("cove_region_open", "ulimit -f", __FILE__, __LINE__);
        return;
    }
    EXPECT(0, cove_region_close(region));
}

static void test_regions_file_size_of_nameless_memory(void **state)
{
    (void)state;
    testing_join(testing_spawn(make_memory_within, NULL));
}

/* ---- forbidden: each backend says which of its calls it misses */

struct forbidden_backend {
    const char *name;
    struct machine_forbidden what;
};

static void open_forbidden(void *argument)
{
    const struct forbidden_backend *one = argument;
    for (int i = 0; i < 2; i++) {
        pid_t pid = fork();
        if (pid > 0) {
            testing_join(pid);
            continue;
        }
        machine_forbid(&one->what, i == 0 ? ENOSYS : EPERM);
        name = one->name;
        int64_t result = make_region();
        if (result >= 0)
            fail_msg("%s was opened without %s", name, one->what.name);
        unit_expect_says(name, one->what.sentence, __FILE__, __LINE__);
        assert_true(cove_supports(name, COVE_CAN_USE) == 0);
        _exit(0);
    }
}

static void test_regions_forbidden_calls_are_told(void **state)
{
    (void)state;
    static const struct forbidden_backend list[] = {
        {"memfd:", {"memfd_create", SYS_memfd_create, MACHINE_ANY, 0, false, "nameless memory"}},
        {"sysv:0x0c07e001", {"shmget", SYS_shmget, MACHINE_ANY, 0, false, "System V"}},
    };
    machine_skip_without_filters();
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        testing_join(testing_spawn(open_forbidden, (void *)(uintptr_t)&list[i]));
}

/* ---- System V's own limits */

static void set_kernel(const char *what, const char *value)
{
    char path[128];
    (void)snprintf(path, sizeof path, "/proc/sys/kernel/%s", what);
    FILE *file = fopen(path, "we");
    if (!file || fputs(value, file) < 0 || fclose(file) != 0)
        fail_msg("%s: %s", path, strerror(errno));
}

static void test_regions_limits_of_system_v(void **state)
{
    (void)state;
    if (geteuid() != 0 || unshare(CLONE_NEWIPC) != 0)
        testing_skip("no IPC namespace of one's own here: that wants root");
    name = "sysv:0x0c07e002";
    set_kernel("shmmax", "8192");
    assert_true(make_region() < 0);
    unit_expect_says("cove_region_open", "kernel.shmmax", __FILE__, __LINE__);
    set_kernel("shmmax", "1073741824");
    set_kernel("shmall", "4");
    assert_int_equal(make_region(), -ENOSPC);
    unit_expect_says("cove_region_open", "kernel.shmall", __FILE__, __LINE__);
    set_kernel("shmall", "1000000");
    set_kernel("shmmni", "1");
    EXPECT(COVE_CREATED, make_region());
    cove_region *other = NULL;
    EXPECT_SAYS(-ENOSPC, cove_region_open(&other, "sysv:0x0c07e003", &(struct cove_region_options){.size_bytes = 1}),
                "kernel.shmmni");
    assert_int_equal(cove_open(&segment, "sysv:0x0c07e004", NULL), -ENOSPC);
    assert_int_equal(machine_files(), 0); /* no side file of the segment that was not made */
    clear_region();
    EXPECT(COVE_CREATED, cove_open(&segment, "sysv:0x0c07e004", NULL));
    unit_close(segment);
    EXPECT(0, cove_unlink("sysv:0x0c07e004", 0));
    assert_int_equal(machine_files(), 0);
}

static const struct testing_case tests[] = {
    TEST(test_regions_full_create),
    TEST(test_regions_full_create_a_file),
    TEST(test_regions_full_replace),
    TEST(test_regions_full_create_a_file_segment),
    TEST(test_regions_descriptors),
    TEST(test_regions_file_size),
    TEST(test_regions_file_size_of_nameless_memory),
    TEST(test_regions_forbidden_calls_are_told),
    TEST(test_regions_limits_of_system_v),
};

int main(void)
{
    return testing_run("machine_regions", tests);
}
