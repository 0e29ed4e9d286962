/* test_trap_size.c - traps of sizing: ftruncate that nobody checks, that shrinks what others use, that promises what
 * is not there.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * All of these are of one row: ftruncate. */
#include "traps.h"

#include <dirent.h>

#define MIB ((size_t)1 << 20)

/* ---- each writer sets the size */

static void old_write(const char *name, const char *text)
{
    int fd = shm_open(name, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)strlen(text)), 0); /* "as long as my text" */
    char *data = trap_map(fd, strlen(text));
    memcpy(data, text, strlen(text));
    assert_int_equal(munmap(data, strlen(text)), 0);
    assert_int_equal(close(fd), 0);
}

static void cove_write(const char *name, const char *text)
{
    cove_region *region = trap_open_as(name, &(struct cove_region_options){.size_bytes = strlen(text)});
    memcpy(cove_region_data(region), text, strlen(text));
    trap_close(region);
}

/* Trap: a writer of "hello" makes it 5 bytes long, the next one, of "ok", makes it 2, and the reader's other 3 are
 * gone. */
static void test_size_next_writer_shrinks(void **state)
{
    (void)state;
    const char *name = trap_shm_name("writers");
    old_write(name, "hello");
    int fd = shm_open(name, O_RDWR, 0);
    char *reader = trap_map(fd, 5);
    assert_memory_equal(reader, "hello", 5);
    old_write(name, "ok");
    assert_int_equal(trap_size(fd), 2);
    assert_memory_equal(reader, "ok\0\0\0", 5);
    assert_int_equal(munmap(reader, 5), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);

    cove_write("writers", "hello");
    cove_region *region = trap_open_as("writers", NULL);
    cove_write("writers", "ok");
    assert_int_equal(cove_region_size(region), 5);
    assert_memory_equal(cove_region_data(region), "okllo", 5); /* nobody took away what was another's */
    cove_region *larger = NULL;
    EXPECT_SAYS(-EMSGSIZE, cove_region_open(&larger, "writers", &(struct cove_region_options){.size_bytes = 6}),
                "5 bytes");
    assert_int_equal(trap_look("writers").size_bytes, 5);
    trap_close(region);
    EXPECT(0, cove_region_unlink("writers", 0));
}

static void touch_last_byte(void *argument)
{
    (void)trap_read((char *)argument + 2 * TRAP_PAGE - 1);
}

/* Trap: where it goes by pages the reader does not read zeros, it dies. So it does of O_TRUNC. */
static void test_size_shrunk_under_reader_kills_it(void **state)
{
    (void)state;
    const char *name = trap_shm_name("pages");
    int fd = trap_shm_make(name, 2 * TRAP_PAGE);
    char *reader = trap_map(fd, 2 * TRAP_PAGE);
    EXPECT_LIFE(touch_last_byte, reader);
    old_write(name, "ok");
    EXPECT_DEATH(SIGBUS, touch_last_byte, reader);
    assert_int_equal(ftruncate(fd, (off_t)(2 * TRAP_PAGE)), 0);
    EXPECT_LIFE(touch_last_byte, reader);
    int truncating = shm_open(name, O_RDWR | O_TRUNC, 0); /* "I want it empty" */
    EXPECT_DEATH(SIGBUS, touch_last_byte, reader);
    assert_int_equal(munmap(reader, 2 * TRAP_PAGE), 0);
    assert_int_equal(close(truncating) + close(fd) + shm_unlink(name), 0);

    cove_region *region = trap_create("pages", 2 * TRAP_PAGE);
    cove_write("pages", "ok");
    EXPECT_LIFE(touch_last_byte, cove_region_data(region));
    EXPECT(0, cove_region_replace("pages", "", 1, NULL)); /* the way to want other contents: nobody loses the old */
    EXPECT_LIFE(touch_last_byte, cove_region_data(region));
    trap_close(region);
    EXPECT(0, cove_region_unlink("pages", 0));
}

/* ---- somebody else's program shrinks */

struct shrink {
    const char *name;
    int fd;
    cove_region *region;
    bool touched;
};

static int shrink_and_touch(void *data, uint64_t size_bytes, void *context)
{
    struct shrink *shrink = context;
    assert_int_equal(ftruncate(shrink->fd, 10), 0);
    assert_int_equal(trap_read((char *)data + size_bytes - 1), 0);
    trap_write((char *)data + size_bytes - 1, 'x'); /* into memory of this process's own */
    shrink->touched = true;
    return 7;
}

static void look_with_guard(void *argument)
{
    struct shrink *shrink = argument;
    EXPECT_SAYS(COVE_ETRUNCATED, cove_region_guard(shrink->region, shrink_and_touch, shrink), shrink->name);
    assert_true(shrink->touched);
    EXPECT(0, cove_region_close(shrink->region));
}

static void look_after_opening_guarded(void *argument)
{
    struct shrink *shrink = argument;
    const struct cove_region_options options = {.flags = COVE_GUARD};
    cove_region *region = trap_open_as(trap_posix_name(shrink->name), &options);
    struct cove_region_info info;
    EXPECT(0, cove_region_stat(region, &info));
    (void)shrink_and_touch(cove_region_data(region), cove_region_size(region), shrink);
    EXPECT(COVE_ETRUNCATED, cove_region_stat(region, &info));
    trap_close(region);
}

/* Trap: what others may shrink can kill at any touch. Cove: guarded, it is an error, and the process goes on. */
static void test_size_shrunk_by_foreign_program_is_survived(void **state)
{
    (void)state;
    trap_meet_shm_open();
    const char *name = trap_shm_name("foreign");
    int fd = trap_shm_make(name, 2 * TRAP_PAGE);
    char *reader = trap_map(fd, 2 * TRAP_PAGE);
    struct shrink shrink = {.name = name, .fd = fd, .region = trap_open_as(trap_posix_name(name), NULL)};
    EXPECT_LIFE(look_with_guard, &shrink);
    assert_int_equal(ftruncate(fd, (off_t)(2 * TRAP_PAGE)), 0);
    EXPECT_LIFE(look_after_opening_guarded, &shrink); /* or all accesses, not those of one function */
    EXPECT_DEATH(SIGBUS, touch_last_byte, reader); /* it really was shrunk */
    struct cove_region_info info;
    EXPECT_SAYS(COVE_ETRUNCATED, cove_region_stat(shrink.region, &info), name); /* without a touch, without a guard */
    assert_int_equal(info.size_bytes, 10);
    trap_close(shrink.region);
    assert_int_equal(munmap(reader, 2 * TRAP_PAGE), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);
}

/* ---- a size that was not given */

/* Trap: ftruncate fails, nobody looks, and mmap maps what is not there. */
static void test_size_unchecked_ftruncate_kills_later(void **state)
{
    (void)state;
    const char *name = trap_shm_name("unchecked");
    int fd = trap_shm_make(name, 0);
    int32_t count = 300000000, each = 8; /* the product does not fit */
    assert_int_equal(ftruncate(fd, (int32_t)((uint32_t)count * (uint32_t)each)), -1);
    assert_int_equal(errno, EINVAL);
    char *data = trap_map(fd, 2 * TRAP_PAGE); /* no error here either */
    EXPECT_DEATH(SIGBUS, touch_last_byte, data);
    assert_int_equal(munmap(data, 2 * TRAP_PAGE), 0);
    assert_int_equal(close(fd) + shm_unlink(name), 0);

    cove_region *region = NULL;
    struct cove_region_options options = {.size_bytes = (uint64_t)(int32_t)((uint32_t)count * (uint32_t)each)};
    EXPECT_GOOD(cove_region_look("unchecked", &(struct cove_region_info){0}) == -ENOENT);
    int result = cove_region_open(&region, "unchecked", &options);
    assert_true(result == -EINVAL || result == -ENOSPC);
    unit_expect_says("cove_region_open", "unchecked", __FILE__, __LINE__);
    assert_null(region);
    EXPECT(-ENOENT, cove_region_look("unchecked", &(struct cove_region_info){0}));
}

/* ---- memory that was promised */

static void write_each_page(void *argument)
{
    for (size_t at = 0; at < 4 * MIB; at += TRAP_PAGE)
        trap_write((char *)argument + at, 'x');
}

static void read_each_page(void *argument)
{
    for (size_t at = 0; at < 4 * MIB; at += TRAP_PAGE)
        (void)trap_read((char *)argument + at);
}

static void assert_empty(const char *path)
{
    DIR *directory = opendir(path);
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.' || strlen(entry->d_name) > 2)
            fail_msg("%s was left", entry->d_name);
    assert_int_equal(closedir(directory), 0);
}

/* Trap: 4 MiB in a file system that has 1: ftruncate and mmap say yes, and a store, or a mere look, is death. */
static void test_size_full_tmpfs_is_told_not_died_of(void **state)
{
    (void)state;
    const char *path = trap_small_tmpfs("size=1m");
    char file[1100];
    (void)snprintf(file, sizeof file, "%s/old", path); /* what shm_open does in /dev/shm */
    int fd = open(file, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(fd, (off_t)(4 * MIB)), 0);
    char *data = trap_map(fd, 4 * MIB);
    EXPECT_DEATH(SIGBUS, write_each_page, data);
    EXPECT_DEATH(SIGBUS, read_each_page, data);
    assert_int_equal(munmap(data, 4 * MIB), 0);
    assert_int_equal(close(fd) + unlink(file), 0);

    cove_region *region = NULL;
    EXPECT_SAYS(-ENOSPC, cove_region_open(&region, "new", &(struct cove_region_options){.size_bytes = 4 * MIB}),
                "free");
    assert_null(region);
    assert_empty(path); /* and nothing was taken from anybody */
    trap_small_tmpfs_end(path);
}

static void take_all_of(cove_segment *segment, int *taken)
{
    for (;; ++*taken) {
        cove_ref ref = cove_alloc(segment, 20000);
        if (ref == 0)
            break;
        memset(cove_at(segment, ref, 20000), 'x', 20000);
        EXPECT(0, cove_keep(segment, ref));
    }
    assert_int_equal(errno, ENOSPC);
    unit_expect_says("cove_alloc", "free", __FILE__, __LINE__);
}

static void fill_segment(void *argument)
{
    cove_segment *segment = unit_open("fills");
    take_all_of(segment, argument);
    unit_sound(segment);
    unit_close(segment);
}

/* Cove: what was granted is there, whoever fills the rest meanwhile; growth ends in an error. */
static void test_size_granted_memory_stays_when_others_fill(void **state)
{
    (void)state;
    const char *path = trap_small_tmpfs("size=9m");
    cove_region *region = trap_create("granted", 4 * MIB);
    int *taken = testing_shared(sizeof *taken);
    EXPECT_LIFE(fill_segment, taken);
    assert_true(*taken > 10);
    EXPECT_LIFE(read_each_page, cove_region_data(region));
    EXPECT_LIFE(write_each_page, cove_region_data(region));
    trap_close(region);
    EXPECT(0, cove_region_unlink("granted", 0));
    unit_remove("fills");
    assert_empty(path);
    trap_small_tmpfs_end(path);
}

static const struct testing_case tests[] = {
    TEST(test_size_next_writer_shrinks),
    TEST(test_size_shrunk_under_reader_kills_it),
    TEST(test_size_shrunk_by_foreign_program_is_survived),
    TEST(test_size_unchecked_ftruncate_kills_later),
    TEST(test_size_full_tmpfs_is_told_not_died_of),
    TEST_TIMEOUT(test_size_granted_memory_stays_when_others_fill, 20),
};

int main(void)
{
    return testing_run("trap_size", tests);
}
