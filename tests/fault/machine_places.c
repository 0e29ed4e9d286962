/* machine_places.c - directories that refuse: read-only, missing, a file, of somebody else; and the 64 MB that
 * containers have.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "machine_setup.h"

#include <grp.h>
#include <sched.h>
#include <sys/mount.h>

#define NOBODY 65534u

static cove_segment *segment;
static cove_ref value_ref; /* of the object in it */

static struct cove_options with(uint32_t flags)
{
    return (struct cove_options){.flags = flags, .timeout_ns = UNIT_S};
}

static int open_with(uint32_t flags)
{
    struct cove_options options = with(flags);
    segment = NULL;
    return cove_open(&segment, "t", &options);
}

/* ---- read-only */

static void look_at_good(unsigned alive)
{
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_alive, alive);
    EXPECT(0, open_with(COVE_READONLY));
    unit_sound(segment);
    uint64_t *value = cove_at(segment, value_ref, 8);
    assert_non_null(value);
    assert_int_equal(*value, 7);
    struct cove_object_info object;
    EXPECT(1, cove_objects(segment, &object, 1));
    assert_string_equal(object.name, "value");
    unit_close(segment);
}

static void expect_read_only(unsigned alive)
{
    look_at_good(alive);
    EXPECT_SAYS(-EROFS, open_with(0), "COVE_READONLY");
    EXPECT_SAYS(-EROFS, open_with(COVE_EXISTING), "COVE_READONLY");
    EXPECT_SAYS(-EROFS, cove_open(&segment, "new", NULL), "COVE_DIR");
    EXPECT_SAYS(-EROFS, cove_unlink("t", 1), "read-only");
    assert_true(unit_exists("t"));
    assert_false(unit_exists("new"));
    int64_t cleared = cove_gc(0, NULL, NULL); /* it has nothing to do here, or says that it cannot */
    assert_true(cleared == 0 || cleared == -EROFS);
}

static void make_good(void)
{
    assert_int_equal(open_with(0), COVE_CREATED);
    uint64_t *value = unit_object(segment, "value", 8);
    *value = 7;
    value_ref = cove_ref_of(segment, value);
}

static void test_places_read_only(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(16 * MACHINE_MIB, "");
    make_good();
    unit_close(segment);
    assert_int_equal(mount(NULL, cove_directory(), NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV | MS_RDONLY, NULL), 0);
    expect_read_only(0);
    assert_int_equal(mount(NULL, cove_directory(), NULL, MS_REMOUNT | MS_NOSUID | MS_NODEV, NULL), 0);
    EXPECT(0, open_with(0));
    unit_close(segment);
    unit_remove("t");
    machine_unmount();
}

/* A container that sees the directory read-only, while others write. */
static void look_from_a_container(void *unused)
{
    (void)unused;
    const char *place = cove_directory();
    assert_int_equal(unshare(CLONE_NEWNS), 0);
    assert_int_equal(mount(place, place, NULL, MS_BIND, NULL), 0);
    assert_int_equal(mount(NULL, place, NULL, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_RDONLY, NULL), 0);
    expect_read_only(1);
}

static void test_places_read_only_for_some(void **state)
{
    (void)state;
    machine_own_mounts();
    make_good();
    cove_segment *mine = segment;
    testing_join(testing_spawn(look_from_a_container, NULL));
    assert_true(cove_alloc(mine, 2 * MACHINE_MIB) != 0);
    unit_sound(mine);
    unit_close(mine);
    unit_remove("t");
}

/* ---- no such place */

/* Nothing can be found there, which `finding` is part of the sentence of, nor made, which `making` is. */
static void expect_no_place(int error, const char *finding, const char *making)
{
    const int missing = error == -ENOTDIR ? -ENOENT : error;
    struct cove_segment_info info;
    EXPECT_SAYS(error, open_with(0), finding);
    EXPECT_SAYS(error, open_with(COVE_EXCLUSIVE), making);
    EXPECT(missing, open_with(COVE_EXISTING));
    EXPECT(missing, open_with(COVE_READONLY));
    EXPECT(missing, cove_stat("t", &info));
    EXPECT(missing, cove_unlink("t", 0));
    EXPECT(error, cove_gc(0, NULL, NULL));
    unit_expect_says("cove_gc", cove_directory(), __FILE__, __LINE__);
    static char output[4096];
    output[0] = '\0';
    if (!machine_has_command())
        return;
    assert_int_not_equal(machine_command("create --type stream t/s", output, sizeof output), 0);
    assert_non_null(strstr(output, finding));
}

static const char *below(const char *name)
{
    static char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", testing_dir(), name);
    return path;
}

static void test_places_missing(void **state)
{
    (void)state;
    assert_int_equal(setenv("COVE_DIR", below("missing"), 1), 0);
    expect_no_place(-ENOENT, "make it, or set COVE_DIR", "make it, or set COVE_DIR");
    assert_int_equal(mkdir(cove_directory(), 0700), 0);
    EXPECT(COVE_CREATED, open_with(0)); /* as soon as it is there */
    unit_close(segment);
    unit_remove("t");
    assert_int_equal(rmdir(cove_directory()), 0);
}

static void test_places_a_file(void **state)
{
    (void)state;
    assert_int_equal(setenv("COVE_DIR", below("file"), 1), 0);
    FILE *file = fopen(cove_directory(), "we");
    assert_non_null(file);
    (void)fclose(file);
    expect_no_place(-ENOTDIR, "COVE_DIR", "COVE_DIR");
    assert_int_equal(unlink(cove_directory()), 0);
}

static void test_places_too_long(void **state)
{
    (void)state;
    static char path[6000];
    memset(path, 'x', sizeof path - 1);
    assert_int_equal(setenv("COVE_DIR", path, 1), 0);
    struct cove_segment_info info;
    EXPECT_SAYS(-ENAMETOOLONG, open_with(0), "COVE_DIR");
    EXPECT_SAYS(-ENAMETOOLONG, open_with(COVE_READONLY), "COVE_DIR");
    EXPECT_SAYS(-ENAMETOOLONG, cove_stat("t", &info), "COVE_DIR");
    EXPECT_SAYS(-ENAMETOOLONG, cove_unlink("t", 0), "COVE_DIR");
}

/* ---- without rights */

static void become_nobody(void)
{
    assert_int_equal(setgroups(0, NULL), 0);
    assert_int_equal(setgid(NOBODY), 0);
    assert_int_equal(setuid(NOBODY), 0);
}

static void try_as_nobody(void *unused)
{
    (void)unused;
    become_nobody();
    expect_no_place(-EACCES, "no right", "COVE_DIR");
}

static void skip_unless_root(void)
{
    if (geteuid() != 0)
        testing_skip("only root can become somebody else");
}

static void test_places_without_rights(void **state)
{
    (void)state;
    skip_unless_root();
    assert_int_equal(chmod(testing_dir(), 0700), 0);
    unit_close(unit_open("t"));
    testing_join(testing_spawn(try_as_nobody, NULL));
    unit_remove("t");
}

/* The directory may be entered and read, but not written. */
static void try_without_writing(void *unused)
{
    (void)unused;
    become_nobody();
    EXPECT_SAYS(-EACCES, cove_open(&segment, "new", NULL), "COVE_DIR");
    assert_int_equal(open_with(0), COVE_EOWNER); /* of another user, and 0666 */
    EXPECT(0, open_with(COVE_ANY_OWNER));
    unit_sound(segment);
    unit_close(segment);
    (void)cove_unlink("t", 1);
    assert_true(unit_exists("t"));
    assert_int_equal(machine_files(), 1);
}

static void test_places_without_writing(void **state)
{
    (void)state;
    skip_unless_root();
    assert_int_equal(chmod(testing_dir(), 0755), 0);
    segment = unit_open_as("t", &(struct cove_options){.mode = 0666});
    testing_join(testing_spawn(try_without_writing, NULL));
    unit_close(segment);
    unit_remove("t");
}

/* ---- 64 MB, as containers have it */

#define CONTAINER_BYTES (64 * MACHINE_MIB)
#define BLOCK_BYTES MACHINE_MIB

static unsigned fill(cove_ref *refs, unsigned most)
{
    unsigned count = 0;
    for (; count < most && (refs[count] = cove_alloc(segment, BLOCK_BYTES)) != 0; count++)
        memset(cove_at(segment, refs[count], BLOCK_BYTES), (int)count, BLOCK_BYTES);
    assert_int_equal(errno, ENOSPC);
    machine_expect_full("cove_alloc");
    return count;
}

static void send_and_end(void *unused)
{
    (void)unused;
    cove_stream *writer = NULL;
    char bytes[1000] = "x";
    (void)EXPECT_GOOD(cove_stream_open(&writer, "t/s", COVE_WRITER, NULL));
    for (int i = 0; i < 5000; i++)
        EXPECT(1000, cove_stream_write(writer, bytes, sizeof bytes, unit_patience()));
    EXPECT(0, cove_stream_close(writer));
}

/* What has its memory goes on in a full file system: a stream of 5 MB through a ring that is there. */
static void stream_goes_on(void)
{
    cove_stream *reader = NULL;
    static char bytes[65536];
    int64_t sum = 0;
    (void)EXPECT_GOOD(cove_stream_open(&reader, "t/s", COVE_READER, NULL));
    pid_t pid = testing_spawn(send_and_end, NULL);
    for (int64_t count; (count = EXPECT_GOOD(cove_stream_read(reader, bytes, sizeof bytes, unit_patience()))) > 0;)
        sum += count;
    assert_int_equal(sum, 5000 * 1000);
    testing_join(pid);
    EXPECT(0, cove_stream_close(reader));
}

static void test_places_small_as_in_containers(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(CONTAINER_BYTES, "");
    static cove_ref refs[100];
    EXPECT(COVE_CREATED, open_with(0));
    cove_stream *made = NULL;
    EXPECT(COVE_CREATED, cove_stream_open(&made, "t/s", COVE_READER, NULL));
    EXPECT(0, cove_stream_close(made));
    unsigned count = fill(refs, 100);
    assert_in_range(count, 58, 64);
    assert_true(machine_free_pages() * MACHINE_PAGE < 2 * BLOCK_BYTES);
    stream_goes_on();
    cove_segment *other = NULL;
    EXPECT(-ENOSPC, cove_open(&other, "other", &(struct cove_options){.size_bytes = 4 * MACHINE_MIB}));
    machine_expect_full("cove_open");
    for (unsigned i = 0; i < count; i += 2)
        EXPECT(0, cove_free(segment, refs[i]));
    for (unsigned i = 0; i < count; i += 2)
        assert_true((refs[i] = cove_alloc(segment, BLOCK_BYTES)) != 0); /* what was freed is there again */
    for (unsigned i = 1; i < count; i += 2)
        assert_int_equal(*(unsigned char *)cove_at(segment, refs[i], 1), i);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
    machine_expect_pages(CONTAINER_BYTES / MACHINE_PAGE);
    machine_unmount();
}

static const struct testing_case tests[] = {
    TEST(test_places_read_only),       TEST(test_places_read_only_for_some),
    TEST(test_places_missing),         TEST(test_places_a_file),
    TEST(test_places_too_long),        TEST(test_places_without_rights),
    TEST(test_places_without_writing), TEST_TIMEOUT(test_places_small_as_in_containers, 30),
};

int main(void)
{
    return testing_run("machine_places", tests);
}
