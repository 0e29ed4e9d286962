/* test_segment_grow.c - growth while others are attached, its limits, and a file system that is full.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The small file systems are tmpfs mounts in a mount namespace of the test's own, so nothing of them can be left. That wants root. */
/* ctest: timeout=90 */
#include "unit.h"

#include "segment/segment.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#define MIB ((size_t)1 << 20)

/* ---- growth seen by others */

struct board {
    cove_mutex lock;
    cove_ref first, second;
};

static void grow_and_write(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    struct board *board = unit_object(segment, "b", sizeof *board);
    EXPECT(0, cove_alloc_into(segment, &board->second, 20 * MIB));
    memset(cove_at(segment, board->second, 20 * MIB), 0x5a, 20 * MIB);
    testing_reach(0);
    testing_await(1);
    unsigned char *first = cove_at(segment, board->first, 1000);
    assert_int_equal(first[999], 2);
    unit_close(segment);
}

static void test_grow_by_one_is_seen_by_all(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.size_bytes = 65536});
    cove_segment *look = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    struct board *board = unit_object(segment, "b", sizeof *board);
    EXPECT(0, cove_alloc_into(segment, &board->first, 1000));
    unsigned char *first = cove_at(segment, board->first, 1000);
    memset(first, 1, 1000);
    uint64_t before = unit_stat(segment).size_bytes;
    pid_t pid = testing_spawn(grow_and_write, NULL);
    testing_await(0);
    assert_true(unit_stat(segment).size_bytes >= before + 20 * MIB);
    unsigned char *second = cove_at(segment, board->second, 20 * MIB);
    assert_non_null(second);
    for (size_t i = 0; i < 20 * MIB; i += 4096)
        assert_int_equal(second[i], 0x5a);
    assert_ptr_equal(first, cove_at(segment, board->first, 1000)); /* no address moved */
    assert_int_equal(first[999], 1);
    memset(first, 2, 1000);
    testing_reach(1);
    testing_join(pid);
    assert_null(cove_at(look, board->second, 20 * MIB)); /* mapped as large as it was: told, not crashed */
    unit_close(look);
    look = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    assert_non_null(cove_at(look, board->second, 20 * MIB));
    unit_close(look);
    EXPECT(0, cove_free_from(segment, &board->second));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void allocate_and_grow(void *argument)
{
    uint64_t seed = (uint64_t)(uintptr_t)argument + 1;
    cove_segment *segment = unit_open("t");
    testing_reach(0);
    testing_await_count(0, 4);
    for (int i = 0; i < 40; i++) {
        size_t size = 1 + (size_t)(unit_random(&seed) % (300 << 10));
        cove_ref ref = cove_alloc(segment, size);
        assert_true(ref != 0);
        unsigned char *bytes = cove_at(segment, ref, size);
        assert_non_null(bytes);
        memset(bytes, (int)seed, size);
        assert_int_equal(bytes[size - 1], (unsigned char)seed);
    }
    unit_close(segment);
}

static void test_grow_by_many_at_once(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.size_bytes = 4096});
    pid_t pids[4];
    for (uintptr_t i = 0; i < 4; i++)
        pids[i] = testing_spawn(allocate_and_grow, (void *)i);
    for (int i = 0; i < 4; i++)
        testing_join(pids[i]);
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.heap_block_count, 0);
    assert_int_equal(info.heap_free_bytes + 32, info.heap_bytes); /* all came back; the end block has a header */
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_grow_stops_at_the_limit(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as(
        "t", &(struct cove_options){.size_bytes = 65536, .max_size_bytes = MIB, .max_members = 2});
    uint64_t before = unit_stat(segment).size_bytes;
    assert_int_equal(cove_alloc(segment, 2 * MIB), 0);
    assert_int_equal(errno, ENOSPC);
    assert_non_null(strstr(cove_last_error(), "max_size"));
    assert_int_equal(unit_stat(segment).size_bytes, before); /* as it was */
    int count = 0;
    while (cove_alloc(segment, 1000) != 0)
        count++;
    assert_int_equal(errno, ENOSPC);
    assert_in_range(count, 950, 1020); /* nearly all of it: 32 bytes a block are the heap's */
    assert_true(unit_stat(segment).size_bytes <= unit_stat(segment).max_size_bytes);
    unit_sound(segment);
    unit_close(segment);
    segment = unit_open("t");
    assert_int_equal(unit_stat(segment).heap_block_count, 0);
    assert_true(cove_alloc(segment, 900 << 10) != 0);
    unit_close(segment);
    unit_remove("t");
}

/* A request that fits into what is free gets it, whichever list the free block is in. */
static void test_grow_is_not_needed_where_it_fits(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as(
        "t", &(struct cove_options){.size_bytes = MIB, .max_size_bytes = MIB, .max_members = 2});
    for (size_t less = 0; less < 200000; less += 9999) {
        cove_ref ref = cove_alloc(segment, MIB - 64 - less);
        if (ref == 0)
            fail_msg("%zu of %zu bytes: %s", MIB - 64 - less, (size_t)unit_free_bytes(segment), cove_last_error());
        EXPECT(0, cove_free(segment, ref));
    }
    unit_close(segment);
    unit_remove("t");
}

/* ---- limits of the process */

static void grow_over_the_file_limit(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    uint64_t size = unit_stat(segment).size_bytes;
    struct rlimit limit = {size + MIB, size + MIB};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(cove_alloc(segment, 4 * MIB), 0); /* no SIGXFSZ */
    assert_int_equal(errno, EFBIG);
    assert_non_null(strstr(cove_last_error(), "ulimit -f"));
    assert_int_equal(unit_stat(segment).size_bytes, size);
    assert_true(cove_alloc(segment, MIB / 2) != 0);
    unit_sound(segment);
    unit_close(segment);
    cove_segment *other = NULL;
    EXPECT(-EFBIG, cove_open(&other, "other", &(struct cove_options){.size_bytes = 64 * MIB}));
    assert_false(unit_exists("other"));
}

static void test_grow_over_the_file_size_limit_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    testing_join(testing_spawn(grow_over_the_file_limit, NULL));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void open_with_little_address_space(void *argument)
{
    (void)argument;
    struct rlimit limit = {UINT64_C(2) << 30, UINT64_C(2) << 30};
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    cove_segment *segment = unit_open("t"); /* 64 GiB do not fit: less is mapped */
    assert_true(cove_alloc(segment, 10 * MIB) != 0);
    assert_int_equal(cove_alloc(segment, (size_t)3 << 30), 0);
    assert_int_equal(errno, ENOSPC);
    unit_sound(segment);
    unit_close(segment);
}

static void test_grow_in_little_address_space(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("sanitizers want all of the address space");
    unit_close(unit_open("t"));
    testing_join(testing_spawn(open_with_little_address_space, NULL));
    unit_remove("t");
}

/* ---- a file system that is full */

static void mount_small(size_t size_bytes)
{
    char options[64];
    (void)snprintf(options, sizeof options, "size=%zu,mode=0700", size_bytes);
    assert_int_equal(mount("cove-test", cove_directory(), "tmpfs", MS_NOSUID | MS_NODEV, options), 0);
}

static uint64_t space(void)
{
    struct statvfs info;
    assert_int_equal(statvfs(cove_directory(), &info), 0);
    return (uint64_t)info.f_bavail * info.f_frsize;
}

/* In a mount namespace of this process's own: what is mounted goes with it. */
static void own_mounts(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        testing_skip("a small file system cannot be mounted here (that wants root)");
}

static void create_in_too_little(void *argument)
{
    uint64_t size = *(uint64_t *)argument;
    mount_small((size_t)size);
    cove_segment *segment = NULL;
    uint64_t before = space();
    int result = cove_open(&segment, "t", &(struct cove_options){.size_bytes = MIB});
    if (result == COVE_CREATED) { /* enough for it, and perhaps for a first lane */
        cove_ref ref = cove_alloc(segment, MIB / 2);
        if (ref != 0)
            memset(cove_at(segment, ref, MIB / 2), 1, MIB / 2);
        else {
            assert_int_equal(errno, ENOSPC);
            unit_expect_says("cove_alloc", "bytes are needed", __FILE__, __LINE__);
        }
        unit_close(segment);
        segment = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
        unit_sound(segment);
        assert_int_equal(unit_stat(segment).heap_block_count, 0);
        unit_close(segment);
        unit_remove("t");
    } else {
        EXPECT_WAS(-ENOSPC, result);
        unit_expect_says("cove_open", "bytes are needed", __FILE__, __LINE__);
        unit_expect_says("cove_open", "are free", __FILE__, __LINE__);
        assert_false(unit_exists("t"));
    }
    assert_int_equal(space(), before); /* nothing is left, with a name or without */
    assert_int_equal(umount2(cove_directory(), MNT_DETACH), 0);
}

static void test_grow_no_room_to_create(void **state)
{
    (void)state;
    own_mounts();
    for (uint64_t size = 4096; size < MIB + 200000; size += size < MIB ? 90112 : 4096)
        testing_join(testing_spawn(create_in_too_little, &size));
}

static void assert_patterns(cove_segment *segment, const cove_ref *refs, int count, size_t size)
{
    for (int i = 0; i < count; i++) {
        const unsigned char *bytes = cove_at(segment, refs[i], size);
        assert_int_equal(bytes[0], (unsigned char)i);
        assert_int_equal(bytes[size - 1], (unsigned char)i);
    }
}

static void test_grow_full_file_system_is_told_and_survived(void **state)
{
    (void)state;
    own_mounts();
    mount_small(16 * MIB);
    cove_segment *segment = unit_open("t");
    static cove_ref refs[1000];
    int count = 0;
    for (; count < 50; count++) {
        refs[count] = cove_alloc(segment, 60000);
        memset(cove_at(segment, refs[count], 60000), count, 60000);
    }
    uint64_t size = unit_stat(segment).size_bytes, free_before = space(), heap = unit_free_bytes(segment);
    assert_int_equal(cove_alloc(segment, 64 * MIB), 0);
    assert_int_equal(errno, ENOSPC);
    char number[32];
    (void)snprintf(number, sizeof number, "%" PRIu64, free_before);
    unit_expect_says("cove_alloc", number, __FILE__, __LINE__); /* what is free */
    unsigned long long needed = 0;
    const char *at = strstr(cove_last_error(), "full: ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "full: %llu", &needed), 1);
    assert_true(needed >= 64 * MIB); /* what is needed, not a step of it */
    unit_expect_says("cove_alloc", "cove gc", __FILE__, __LINE__); /* what to do */
    assert_int_equal(unit_stat(segment).size_bytes, size); /* as it was: the failed wish took nothing from anybody */
    assert_int_equal(space(), free_before);
    assert_int_equal(unit_free_bytes(segment), heap);
    unit_sound(segment);
    for (; count < 1000 && (refs[count] = cove_alloc(segment, 60000)) != 0; count++)
        memset(cove_at(segment, refs[count], 60000), count, 60000);
    assert_int_equal(errno, ENOSPC);
    assert_true(space() < 128 << 10); /* small wishes are met as long as there is anything */
    assert_patterns(segment, refs, count, 60000);
    unit_sound(segment);
    for (int i = 0; i < count; i++)
        EXPECT(0, cove_free(segment, refs[i]));
    assert_true(cove_alloc(segment, 8 * MIB) != 0);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
    assert_true(space() >= 15 * MIB);
    assert_int_equal(umount2(cove_directory(), MNT_DETACH), 0);
}

/* A member that joins, and a thread's lane, want a page each. */
static void test_grow_no_room_for_another_member_is_told(void **state)
{
    (void)state;
    own_mounts();
    mount_small(2 * MIB);
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.size_bytes = 65536});
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/filler", cove_directory());
    FILE *filler = fopen(path, "wbe");
    static char zeros[4096];
    while (fwrite(zeros, sizeof zeros, 1, filler) == 1 && fflush(filler) == 0)
        ;
    (void)fclose(filler);
    assert_int_equal(space(), 0);
    assert_int_equal(cove_alloc(segment, 100), 0); /* the first lane has no memory yet */
    assert_int_equal(errno, ENOSPC);
    unit_expect_says("cove_alloc", "bytes are needed", __FILE__, __LINE__);
    assert_int_equal(unlink(path), 0);
    assert_true(cove_alloc(segment, 100) != 0);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
    assert_int_equal(umount2(cove_directory(), MNT_DETACH), 0);
}

static const struct testing_case tests[] = {
    TEST(test_grow_by_one_is_seen_by_all),
    TEST_TIMEOUT(test_grow_by_many_at_once, 30),
    TEST(test_grow_stops_at_the_limit),
    TEST(test_grow_is_not_needed_where_it_fits),
    TEST(test_grow_over_the_file_size_limit_is_told),
    TEST(test_grow_in_little_address_space),
    TEST_TIMEOUT(test_grow_no_room_to_create, 30),
    TEST(test_grow_full_file_system_is_told_and_survived),
    TEST(test_grow_no_room_for_another_member_is_told),
};

int main(void)
{
    return testing_run("segment_grow", tests);
}
