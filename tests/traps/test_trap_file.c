/* test_trap_file.c - traps of mapped files: seen is not stored, a file has the size that it has, and others cut it
 * off.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "traps.h"

#include "segment/segment_shm.h"

/* ---- row: mapped files, msync */

/* A directory of a file system that has a disk behind it, or at least keeps apart what is written back. */
static const char *disk_directory(void)
{
    static char path[64];
    (void)snprintf(path, sizeof path, "%s/cove-trap-XXXXXX",
                   getenv("TMPDIR") && strlen(getenv("TMPDIR")) < 40 ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(path));
    return path;
}

/* KiB of the mapping at that address that the kernel still has to write back, as /proc/self/smaps tells. */
static long dirty_kib(const void *address)
{
    char line[600], begin[32];
    long dirty = 0, kib;
    bool ours = false;
    (void)snprintf(begin, sizeof begin, "%lx-", (unsigned long)(uintptr_t)address);
    FILE *maps = fopen("/proc/self/smaps", "re");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            ours = strncmp(line, begin, strlen(begin)) == 0;
        else if (ours &&
                 (sscanf(line, "Shared_Dirty: %ld", &kib) == 1 || sscanf(line, "Private_Dirty: %ld", &kib) == 1))
            dirty += kib;
    }
    assert_int_equal(fclose(maps), 0);
    return dirty;
}

/* Store into both pages and look at once: false where the kernel was quicker in writing back. */
static bool stays_dirty(char *data)
{
    long both = (long)(2 * TRAP_PAGE / 1024);
    for (int attempt = 0; attempt < 20; attempt++) {
        trap_write(data, (char)('a' + attempt));
        trap_write(data + TRAP_PAGE, (char)('a' + attempt));
        if (dirty_kib(data) == both)
            return true;
    }
    return false;
}

/* What the old calls do with two pages of a file. Returns whether this file system lets it be seen. */
static bool see_without_storing(int fd)
{
    char byte;
    char *data = trap_map(fd, 2 * TRAP_PAGE);
    bool observable = stays_dirty(data);
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    assert_int_equal(byte, trap_read(data)); /* seen by all, and not stored */
    assert_int_equal(msync(data, TRAP_PAGE, MS_SYNC), 0);
    observable = observable &&
                 dirty_kib(data) == (long)(TRAP_PAGE / 1024); /* one page new, one old, were the power to go now */
    assert_int_equal(msync(data, 2 * TRAP_PAGE, MS_SYNC), 0);
    observable = observable && dirty_kib(data) == 0; /* on a tmpfs it stays so for ever */
    assert_int_equal(munmap(data, 2 * TRAP_PAGE), 0);
    return observable;
}

/* Trap: another program reads what was stored at once, so it seems to be in the file. It is in memory, until
 * msync. */
static void test_file_seen_is_not_stored(void **state)
{
    (void)state;
    char path[128], name[160];
    (void)snprintf(path, sizeof path, "%s/data", disk_directory());
    int fd = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(2 * TRAP_PAGE)), 0);
    bool observable = see_without_storing(fd);
    assert_int_equal(close(fd), 0);

    (void)snprintf(name, sizeof name, "file:%s", path);
    cove_region *region = trap_open_as(name, NULL);
    char *data = cove_region_data(region);
    assert_true(!observable || stays_dirty(data));
    EXPECT(0, cove_region_sync(region, 0, 0));
    assert_true(!observable || dirty_kib(data) == 0);
    trap_close(region);
    EXPECT(0, cove_region_unlink(name, 0));
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
    if (!observable)
        testing_skip("the file system of temporary files has nothing behind it");
}

static const char *state_name(void)
{
    static char name[1100];
    (void)snprintf(name, sizeof name, "file:%s/state", testing_dir());
    return name;
}

/* A member that syncs at 1 and goes on to 2, and then the machine stops: here, by a kill and another boot's
 * number. */
static void work_until_power_cut(void *argument)
{
    cove_segment *segment = unit_open(state_name());
    int64_t *count = unit_object(segment, "count", sizeof *count);
    *count = 1;
    if (argument)
        EXPECT(0, cove_sync(segment, unit_patience()));
    *count = 2;
    (void)raise(SIGKILL);
}

static void be_another_boot(void)
{
    static const unsigned char boot[16] = "another boot..";
    int fd = open(state_name() + strlen("file:"), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, boot, sizeof boot, offsetof(struct covei_header_shm, boot_id)), sizeof boot);
    assert_int_equal(close(fd), 0);
}

/* Cove: what was synced is there after a power cut, as it was; what was not, is not taken for whole. */
static void test_file_after_power_cut_is_as_synced_or_refused(void **state)
{
    (void)state;
    EXPECT_DEATH(SIGKILL, work_until_power_cut, state); /* anything but NULL: synced */
    be_another_boot();
    cove_segment *segment = NULL;
    EXPECT(COVE_RECOVERED, cove_open(&segment, state_name(), NULL));
    int64_t *count = unit_object(segment, "count", sizeof *count);
    assert_int_equal(*count, 1);
    unit_sound(segment);
    *count = 3;
    unit_close(segment); /* the last one out leaves it clean */
    be_another_boot();
    EXPECT(0, cove_open(&segment, state_name(), NULL));
    count = unit_object(segment, "count", sizeof *count);
    assert_int_equal(*count, 3);
    unit_close(segment);
    EXPECT(0, cove_unlink(state_name(), 0));

    EXPECT_DEATH(SIGKILL, work_until_power_cut, NULL); /* never synced */
    be_another_boot();
    EXPECT_SAYS(COVE_EUNCLEAN, cove_open(&segment, state_name(), NULL), state_name());
    EXPECT(0, cove_unlink(state_name(), 1));
}

/* Where there is nothing to sync to, that is said. */
static void test_file_sync_of_mere_memory_is_refused(void **state)
{
    (void)state;
    cove_region *region = trap_create("memory", 10);
    EXPECT_SAYS(-EOPNOTSUPP, cove_region_sync(region, 0, 0), "memory");
    assert_int_equal(cove_supports("memory", COVE_CAN_SYNC), 0);
    assert_int_equal(cove_supports("file:/tmp/x", COVE_CAN_SYNC), 1);
    trap_close(region);
    EXPECT(0, cove_region_unlink("memory", 0));
}

static void touch_it(void *argument)
{
    trap_write(argument, 'x');
}

/* Trap: a mapping does not make a file longer. Behind its end a store is lost, a page further on it kills. */
static void test_file_must_have_its_size_first(void **state)
{
    (void)state;
    char path[1024], name[1100], bytes[200];
    (void)snprintf(path, sizeof path, "%s", trap_file("short", "0123456789", 10));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    char *data = trap_map(fd, 2 * TRAP_PAGE);
    trap_write(data + 100, 'x');
    assert_int_equal(pread(fd, bytes, sizeof bytes, 0), 10); /* no error, and not in the file */
    EXPECT_DEATH(SIGBUS, touch_it, data + TRAP_PAGE);
    assert_int_equal(munmap(data, 2 * TRAP_PAGE), 0);

    (void)snprintf(name, sizeof name, "file:%s", path);
    cove_region *region = NULL;
    EXPECT_SAYS(-EMSGSIZE, cove_region_open(&region, name, &(struct cove_region_options){.size_bytes = 101}),
                "10 bytes");
    region = trap_open_as(name, NULL);
    assert_int_equal(cove_region_size(region), 10); /* so nobody stores behind it */
    trap_close(region);
    EXPECT(0, cove_region_unlink(name, 0));
    region = trap_create(name, 2 * TRAP_PAGE);
    EXPECT_LIFE(touch_it, (char *)cove_region_data(region) + 2 * TRAP_PAGE - 1);
    trap_close(region);
    assert_int_equal(trap_look(name).size_bytes, 2 * TRAP_PAGE);
    EXPECT(0, cove_region_unlink(name, 0));
    assert_int_equal(close(fd), 0);
}

/* ---- row: reading a file by mapping */

/* Trap: there is no mapping of an empty file. */
static void test_file_empty_is_no_error(void **state)
{
    (void)state;
    char path[1024], name[1100];
    (void)snprintf(path, sizeof path, "%s", trap_file("empty", "", 0));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(mmap(NULL, (size_t)trap_size(fd), PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED);
    assert_int_equal(errno, EINVAL);
    assert_int_equal(close(fd), 0);

    (void)snprintf(name, sizeof name, "file:%s", path);
    cove_region *region = trap_open_as(name, &(struct cove_region_options){.flags = COVE_READONLY});
    assert_int_equal(cove_region_size(region), 0);
    trap_close(region);
    EXPECT(0, cove_region_unlink(name, 0));
}

struct reading {
    const char *path;
    uint64_t size_bytes;
    char last;
};

static int read_while_cut(void *data, uint64_t size_bytes, void *context)
{
    struct reading *reading = context;
    reading->size_bytes = size_bytes;
    if (reading->path)
        assert_int_equal(truncate(reading->path, 0), 0); /* "> log", by somebody else */
    reading->last = trap_read((char *)data + size_bytes - 1);
    return 3;
}

static void old_reader(void *argument)
{
    int fd = open(argument, O_RDONLY | O_CLOEXEC);
    size_t size = (size_t)trap_size(fd);
    char *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(data != MAP_FAILED);
    struct reading reading = {.path = argument};
    (void)read_while_cut(data, size, &reading);
}

static void read_guarded(void *argument)
{
    char name[1100];
    (void)snprintf(name, sizeof name, "file:%s", (char *)argument);
    cove_region *region = trap_open_as(name, &(struct cove_region_options){.flags = COVE_READONLY});
    struct reading reading = {.path = NULL};
    EXPECT(3, cove_region_guard(region, read_while_cut, &reading));
    assert_int_equal(reading.last, 'z');
    reading.path = argument;
    EXPECT_SAYS(COVE_ETRUNCATED, cove_region_guard(region, read_while_cut, &reading), name);
    assert_int_equal(reading.last, 0);
    trap_close(region);
}

static void fill(const char *path)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "z", 1, (off_t)(3 * TRAP_PAGE) - 1), 1);
    assert_int_equal(close(fd), 0);
}

/* Trap: and a file that is cut off while it is read kills its reader. */
static void test_file_cut_off_while_read_is_survived(void **state)
{
    (void)state;
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", trap_file("log", "", 0));
    fill(path);
    EXPECT_DEATH(SIGBUS, old_reader, path);
    fill(path);
    EXPECT_LIFE(read_guarded, path);
    assert_int_equal(unlink(path), 0);
}

static volatile sig_atomic_t own_signals;

static void own_handler(int signal_number)
{
    own_signals += signal_number == SIGBUS;
}

static void guard_and_own_handler(void *argument)
{
    assert_int_equal(sigaction(SIGBUS, &(struct sigaction){.sa_handler = own_handler}, NULL), 0);
    read_guarded(argument);
    assert_int_equal(own_signals, 0);
    (void)raise(SIGBUS);
    assert_int_equal(own_signals, 1);
}

/* The guard takes the signal for its own region's bytes alone: a program's own handler goes on. */
static void test_file_guard_leaves_own_handler(void **state)
{
    (void)state;
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", trap_file("log", "", 0));
    fill(path);
    EXPECT_LIFE(guard_and_own_handler, path);
    assert_int_equal(unlink(path), 0);
}

static const struct testing_case tests[] = {
    TEST(test_file_seen_is_not_stored),
    TEST(test_file_after_power_cut_is_as_synced_or_refused),
    TEST(test_file_sync_of_mere_memory_is_refused),
    TEST(test_file_must_have_its_size_first),
    TEST(test_file_empty_is_no_error),
    TEST(test_file_cut_off_while_read_is_survived),
    TEST(test_file_guard_leaves_own_handler),
};

int main(void)
{
    return testing_run("trap_file", tests);
}
