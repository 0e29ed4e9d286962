/* test_segment_refuse.c - what is no segment, or not ours, is refused with a sentence, and stays as it was to the byte.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "unit.h"

#include "object/type.h"
#include "segment/segment.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

struct copy {
    size_t size_bytes;
    unsigned char *bytes;
    struct stat info;
};

static struct copy copy_file(const char *path)
{
    struct copy copy = {0};
    assert_int_equal(lstat(path, &copy.info), 0);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    copy.size_bytes = (size_t)copy.info.st_size;
    copy.bytes = malloc(copy.size_bytes + 1);
    assert_non_null(copy.bytes);
    assert_int_equal(read(file, copy.bytes, copy.size_bytes), copy.size_bytes);
    assert_int_equal(close(file), 0);
    return copy;
}

static void assert_same(const char *path, struct copy *before)
{
    struct copy now = copy_file(path);
    assert_int_equal(now.size_bytes, before->size_bytes);
    assert_int_equal(now.info.st_ino, before->info.st_ino);
    assert_int_equal(now.info.st_mode, before->info.st_mode);
    assert_int_equal(now.info.st_blocks, before->info.st_blocks);
    assert_memory_equal(now.bytes, before->bytes, now.size_bytes);
    free(now.bytes);
    free(before->bytes);
    before->bytes = NULL;
}

/* All ways in say the same. */
static void refused(int expected, const char *part)
{
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    EXPECT_SAYS(expected, cove_open(&segment, "t", NULL), part);
    EXPECT_SAYS(expected, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_EXISTING}), part);
    EXPECT_SAYS(expected, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_READONLY}), part);
    EXPECT_SAYS(expected, cove_stat("t", &info), part);
    EXPECT(-EEXIST, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_EXCLUSIVE}));
    EXPECT_SAYS(expected, cove_unlink("t", 0), part);
    assert_null(segment);
    EXPECT(0, cove_gc(0, NULL, NULL));
}

static void test_refuse_symbolic_links(void **state)
{
    (void)state;
    unit_close(unit_open("target"));
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", unit_path("target"));
    assert_int_equal(symlink(path, unit_path("t")), 0);
    cove_segment *segment = NULL;
    EXPECT_SAYS(COVE_ENOTCOVE, cove_open(&segment, "t", NULL), "symbolic link");
    EXPECT_SAYS(COVE_ENOTCOVE, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_READONLY}),
                "symbolic link");
    EXPECT(COVE_ENOTCOVE, cove_unlink("t", 0));
    EXPECT(0, cove_unlink("t", 1)); /* the link, not what it leads to */
    assert_false(unit_exists("t"));
    assert_true(unit_exists("target"));
    assert_int_equal(symlink("nowhere", unit_path("t")), 0);
    EXPECT_SAYS(COVE_ENOTCOVE, cove_open(&segment, "t", NULL), "symbolic link");
    assert_false(unit_exists("nowhere"));
    EXPECT(0, cove_unlink("t", 1));
    unit_remove("target");
}

static void test_refuse_fifo_directory_socket(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(unit_path("t"), 0600), 0);
    refused(COVE_ENOTCOVE, "not a regular file");
    assert_int_equal(unlink(unit_path("t")), 0);
    assert_int_equal(mkdir(unit_path("t"), 0700), 0);
    refused(COVE_ENOTCOVE, "remove it");
    assert_int_equal(rmdir(unit_path("t")), 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(unit_path("t")) >= sizeof address.sun_path)
        return; /* the directory's path is too long for a socket */
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%.100s", unit_path("t"));
    int file = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(file, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(close(file), 0);
    refused(COVE_ENOTCOVE, "not a regular file");
    assert_int_equal(unlink(unit_path("t")), 0);
}

static void write_garbage(size_t size_bytes, uint64_t seed)
{
    int file = open(unit_path("t"), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    unsigned char bytes[512];
    for (size_t at = 0; at < size_bytes; at += sizeof bytes) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (unsigned char)unit_random(&seed);
        size_t count = size_bytes - at < sizeof bytes ? size_bytes - at : sizeof bytes;
        assert_int_equal(write(file, bytes, count), count);
    }
    assert_int_equal(close(file), 0);
}

static void test_refuse_garbage(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 8, 100, 4095, 4096, 4097, 100000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        write_garbage(sizes[i], i + 1);
        struct copy before = copy_file(unit_path("t"));
        refused(COVE_ENOTCOVE, "not a Cove segment");
        assert_same(unit_path("t"), &before);
        EXPECT(0, cove_unlink("t", 1));
        assert_false(unit_exists("t"));
    }
}

static void test_refuse_truncated(void **state)
{
    (void)state;
    unit_close(unit_open("t"));
    static const off_t sizes[] = {8000000, 200000, 12288, 4096, 4095, 100};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(truncate(unit_path("t"), sizes[i]), 0);
        struct copy before = copy_file(unit_path("t"));
        refused(COVE_ECORRUPT, "truncated");
        assert_same(unit_path("t"), &before);
    }
    EXPECT(0, cove_unlink("t", 1));
}

/* One field of a sound header changed. */
static void refuse_changed(size_t offset, const void *bytes, size_t size_bytes, int expected, const char *part)
{
    unit_close(unit_open_as("t", &(struct cove_options){.max_members = 2}));
    int file = open(unit_path("t"), O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(file, bytes, size_bytes, (off_t)offset), size_bytes);
    assert_int_equal(close(file), 0);
    struct copy before = copy_file(unit_path("t"));
    refused(expected, part);
    assert_same(unit_path("t"), &before);
    EXPECT(0, cove_unlink("t", 1));
}

#define REFUSE(field, type, value, expected, part) \
    refuse_changed(offsetof(struct covei_header_shm, field), &(type){value}, sizeof(type), (expected), (part))

static void test_refuse_other_layouts_and_features(void **state)
{
    (void)state;
    REFUSE(layout, uint32_t, COVEI_LAYOUT + 1, COVE_ELAYOUT, "this library reads");
    REFUSE(layout, uint32_t, 0, COVE_ELAYOUT, "this library reads");
    REFUSE(signature, uint32_t, 1, COVE_ELAYOUT, "this library reads");
    REFUSE(magic, uint64_t, 0, COVE_ENOTCOVE, "not a Cove segment");
}

/* cove_unlink does not need to know what is in it. */
static void test_refuse_unknown_feature_bits(void **state)
{
    (void)state;
    static const uint64_t bits[] = {1, UINT64_C(1) << COVEI_TYPE_COUNT, UINT64_C(1) << 40, UINT64_C(1) << 63};
    for (size_t i = 0; i < 4; i++) {
        unit_close(unit_open_as("t", &(struct cove_options){.max_members = 2}));
        int file = open(unit_path("t"), O_RDWR | O_CLOEXEC);
        assert_int_equal(pwrite(file, &bits[i], 8, offsetof(struct covei_header_shm, features)), 8);
        assert_int_equal(close(file), 0);
        struct copy before = copy_file(unit_path("t"));
        cove_segment *segment = NULL;
        EXPECT_SAYS(COVE_ELAYOUT, cove_open(&segment, "t", NULL), "newer Cove");
        EXPECT_SAYS(COVE_ELAYOUT, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_EXISTING}), "features");
        assert_same(unit_path("t"), &before);
        EXPECT(0, cove_unlink("t", 1));
    }
}

static void test_refuse_headers_that_contradict_themselves(void **state)
{
    (void)state;
    REFUSE(max_members, uint32_t, 0, COVE_ECORRUPT, "contradicts itself");
    REFUSE(max_members, uint32_t, UINT32_MAX, COVE_ECORRUPT, "contradicts itself");
    REFUSE(max_members, uint32_t, 3, COVE_ECORRUPT, "contradicts itself");
    REFUSE(max_lanes, uint32_t, 7, COVE_ECORRUPT, "contradicts itself");
    REFUSE(size_bytes, uint64_t, 0, COVE_ECORRUPT, "contradicts itself");
    REFUSE(size_bytes, uint64_t, 4097, COVE_ECORRUPT, "contradicts itself");
    REFUSE(size_bytes, uint64_t, UINT64_MAX, COVE_ECORRUPT, "contradicts itself");
    REFUSE(size_bytes, uint64_t, UINT64_C(1) << 30, COVE_ECORRUPT, "truncated");
    REFUSE(max_size_bytes, uint64_t, 4096, COVE_ECORRUPT, "contradicts itself");
    REFUSE(max_size_bytes, uint64_t, UINT64_MAX & ~UINT64_C(4095), COVE_ECORRUPT, "contradicts itself");
}

static void test_refuse_a_state_that_is_none(void **state)
{
    (void)state;
    static const uint32_t states[] = {COVEI_SEGMENT_BUILDING, 3, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        unit_close(unit_open("t"));
        int file = open(unit_path("t"), O_RDWR | O_CLOEXEC);
        assert_int_equal(pwrite(file, &states[i], 4, offsetof(struct covei_header_shm, state)), 4);
        assert_int_equal(close(file), 0);
        cove_segment *segment = NULL;
        EXPECT(COVE_ECORRUPT, cove_open(&segment, "t", NULL));
        EXPECT(0, cove_unlink("t", 1));
    }
}

/* ---- rights: these want root, to have two users */

static cove_segment *inherited;

static void as_nobody(void *argument)
{
    unit_drop_inherited(inherited);
    assert_int_equal(setgid(65534), 0);
    assert_int_equal(setuid(65534), 0);
    ((void (*)(void))argument)();
}

static void run_as_nobody(void (*function)(void))
{
    testing_join(testing_spawn(as_nobody, (void *)function));
}

static void nobody_may_not_open(void)
{
    cove_segment *segment = NULL;
    EXPECT_SAYS(-EACCES, cove_open(&segment, "t", NULL), "mode or group");
    EXPECT(-EACCES, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_READONLY | COVE_ANY_OWNER}));
    EXPECT(-EACCES, cove_unlink("t", 1));
}

static void nobody_must_allow_it(void)
{
    cove_segment *segment = NULL;
    EXPECT_SAYS(COVE_EOWNER, cove_open(&segment, "t", NULL), "user 0");
    EXPECT_SAYS(COVE_EOWNER, cove_unlink("t", 0), "user 0");
    EXPECT(0, cove_open(&segment, "t", &(struct cove_options){.flags = COVE_ANY_OWNER}));
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_gc(0, NULL, NULL)); /* another's: not touched */
}

static void nobody_makes_one(void)
{
    unit_close(unit_open_as("his", &(struct cove_options){.mode = 0666}));
    cove_segment *segment = NULL;
    EXPECT(-EPERM, cove_open(&segment, "daemons", &(struct cove_options){.group = "daemon"}));
    assert_false(unit_exists("daemons"));
}

static void nobody_has_no_directory(void)
{
    cove_segment *segment = NULL;
    EXPECT_SAYS(-EACCES, cove_open(&segment, "t2", NULL), "cannot be written to");
}

static void test_refuse_other_owners(void **state)
{
    (void)state;
    if (geteuid() != 0)
        testing_skip("two users are needed: run as root");
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.mode = 0600});
    inherited = segment;
    assert_int_equal(chmod(cove_directory(), 01777), 0);
    run_as_nobody(nobody_may_not_open);
    assert_int_equal(chmod(unit_path("t"), 0666), 0);
    run_as_nobody(nobody_must_allow_it);
    run_as_nobody(nobody_makes_one);
    cove_segment *his = NULL;
    EXPECT_SAYS(COVE_EOWNER, cove_open(&his, "his", NULL), "user 65534");
    EXPECT(0, cove_open(&his, "his", &(struct cove_options){.flags = COVE_ANY_OWNER}));
    unit_sound(his);
    unit_close(his);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("his", &info));
    assert_int_equal(info.owner_uid, 65534);
    EXPECT(COVE_EOWNER, cove_unlink("his", 0));
    EXPECT(0, cove_unlink("his", 1));
    assert_int_equal(chmod(cove_directory(), 0755), 0);
    run_as_nobody(nobody_has_no_directory);
    assert_int_equal(chmod(cove_directory(), 0700), 0);
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_refuse_symbolic_links),
    TEST(test_refuse_fifo_directory_socket),
    TEST(test_refuse_garbage),
    TEST(test_refuse_truncated),
    TEST(test_refuse_other_layouts_and_features),
    TEST(test_refuse_unknown_feature_bits),
    TEST(test_refuse_headers_that_contradict_themselves),
    TEST(test_refuse_a_state_that_is_none),
    TEST(test_refuse_other_owners),
};

int main(void)
{
    return testing_run("segment_refuse", tests);
}
