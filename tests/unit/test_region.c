/* test_region.c - public regions: parts of them, what may be done with those, and arguments that make no sense.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind */
#include "unit.h"

#include <cove/region.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define PAGE UINT64_C(4096)
#define SIZE (4 * PAGE)

typedef struct cove_region_options region_options;

static cove_region *open_as(const char *name, const region_options *options)
{
    cove_region *region = NULL;
    EXPECT_GOOD(cove_region_open(&region, name, options));
    assert_non_null(region);
    return region;
}

static cove_region *make(const char *name, uint64_t size_bytes)
{
    return open_as(name, &(region_options){.size_bytes = size_bytes});
}

static void drop(const char *name, cove_region *region)
{
    EXPECT(0, cove_region_close(region));
    EXPECT(0, cove_region_unlink(name, 0));
}

static const char *file_name(void)
{
    static char name[1100];
    (void)snprintf(name, sizeof name, "file:%s/f", testing_dir());
    return name;
}

/* ---- arguments that make no sense */

static int visit(void *data, uint64_t size_bytes, void *context)
{
    (void)data;
    (void)size_bytes;
    (void)context;
    return 0;
}

static void test_region_without_one_is_refused_by_each_call(void **state)
{
    (void)state;
    struct cove_region_info info;
    cove_region *region = NULL;
    EXPECT(-EINVAL, cove_region_open(NULL, "r", NULL));
    EXPECT(COVE_ENAME, cove_region_open(&region, NULL, NULL));
    EXPECT(COVE_ENAME, cove_region_open(&region, "", NULL));
    EXPECT(0, cove_region_close(NULL));
    assert_null(cove_region_data(NULL));
    assert_int_equal(cove_region_size(NULL), 0);
    EXPECT(-EINVAL, cove_region_stat(NULL, &info));
    EXPECT(-EINVAL, cove_region_sync(NULL, 0, 0));
    EXPECT(-EINVAL, cove_region_protect(NULL, 0, 0, COVE_ACCESS_READ));
    EXPECT(-EINVAL, cove_region_guard(NULL, visit, NULL));
    EXPECT(-EINVAL, cove_region_fd(NULL));
    EXPECT(COVE_ENAME, cove_region_look(NULL, &info));
    EXPECT(COVE_ENAME, cove_region_unlink(NULL, 0));
    EXPECT(COVE_ENAME, cove_region_replace(NULL, "", 1, NULL));
    EXPECT(COVE_ENAME, cove_region_set_rights(NULL, 0600, NULL));
    EXPECT(COVE_ENAME, cove_supports(NULL, COVE_CAN_USE));
    assert_null(region);
    region = make("r", 1);
    EXPECT(-EINVAL, cove_region_stat(region, NULL));
    EXPECT(-EINVAL, cove_region_look("r", NULL));
    EXPECT(-EINVAL, cove_region_guard(region, NULL, NULL));
    EXPECT(-EINVAL, cove_region_replace("r", NULL, 1, NULL));
    drop("r", region);
}

static void test_region_with_impossible_options_is_refused(void **state)
{
    (void)state;
    static const struct {
        region_options options;
        int result;
    } rows[] = {
        {{.size_bytes = SIZE, .flags = 0x40}, -EINVAL},
        {{.size_bytes = SIZE, .flags = 0x80000000u}, -EINVAL},
        {{.size_bytes = SIZE, .flags = COVE_EXCLUSIVE | COVE_EXISTING}, -EINVAL},
        {{.size_bytes = SIZE, .flags = COVE_EXCLUSIVE | COVE_READONLY}, -EINVAL},
        {{.size_bytes = SIZE, .access = 4}, -EINVAL},
        {{.size_bytes = SIZE, .access = UINT32_MAX}, -EINVAL},
        {{.size_bytes = SIZE, .flags = COVE_READONLY, .access = COVE_ACCESS_WRITE}, -EACCES},
        {{.size_bytes = SIZE, .mode = 01000}, -EINVAL},
        {{.size_bytes = SIZE, .mode = 04600}, -EINVAL},
        {{.size_bytes = SIZE, .group = "no such group"}, -EINVAL},
        {{.size_bytes = SIZE, .group = ""}, -EINVAL},
        {{.size_bytes = (UINT64_C(1) << 46) + 1}, -EINVAL},
        {{.size_bytes = UINT64_MAX}, -EINVAL},
        {{.size_bytes = SIZE, .offset = UINT64_MAX}, -EINVAL},
        {{.size_bytes = SIZE, .length_bytes = UINT64_MAX}, -EINVAL},
        {{.size_bytes = SIZE, .offset = 1, .length_bytes = UINT64_MAX}, -EINVAL},
        {{.size_bytes = SIZE, .offset = UINT64_MAX, .length_bytes = 1}, -EINVAL},
        {{.size_bytes = SIZE, .offset = SIZE, .length_bytes = 1}, -EINVAL},
        {{.size_bytes = SIZE, .offset = SIZE + 1}, -EINVAL},
        {{.size_bytes = SIZE, .offset = 1, .length_bytes = SIZE}, -EINVAL},
        {{.flags = COVE_EXCLUSIVE}, -EINVAL},
        {{.offset = 1}, -ENOENT},
        {{.size_bytes = SIZE, .flags = COVE_EXISTING}, -ENOENT},
        {{.size_bytes = SIZE, .flags = COVE_READONLY}, -ENOENT},
        {{.size_bytes = 0}, -ENOENT},
    };
    cove_region *region = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unit_forget();
        int result = cove_region_open(&region, "r", &rows[i].options);
        if (result != rows[i].result || !*cove_last_error() || region || unit_exists("r"))
            fail_msg("row %zu: %d (%s: %s)", i, result, cove_errname(result), cove_last_error());
    }
}

static void test_region_of_size_0_cannot_be_made_but_be_opened(void **state)
{
    (void)state;
    struct cove_region_info info;
    int file = open(unit_path("r"), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(close(file), 0);
    cove_region *region = open_as("r", NULL);
    assert_null(cove_region_data(region));
    assert_int_equal(cove_region_size(region), 0);
    EXPECT(0, cove_region_stat(region, &info));
    assert_int_equal(info.size_bytes, 0);
    EXPECT(0, cove_region_guard(region, visit, NULL));
    EXPECT(0, cove_region_protect(region, 0, 0, COVE_ACCESS_READ));
    EXPECT(-EINVAL, cove_region_protect(region, 0, 1, COVE_ACCESS_READ));
    EXPECT(-EINVAL, cove_region_protect(region, 1, 0, COVE_ACCESS_READ));
    drop("r", region);
}

/* ---- parts */

static void test_region_parts_begin_and_end_at_any_byte(void **state)
{
    (void)state;
    static const uint64_t offsets[] = {0, 1, 7, PAGE - 1, PAGE, PAGE + 1, SIZE - 1, SIZE};
    static const uint64_t lengths[] = {0, 1, 2, PAGE - 1, PAGE, PAGE + 1, SIZE - 1, SIZE};
    uint64_t sizes[] = {SIZE, SIZE - 1, SIZE - PAGE + 1};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        cove_region *whole = make("r", sizes[s]);
        unsigned char *bytes = cove_region_data(whole);
        for (uint64_t i = 0; i < sizes[s]; i++)
            bytes[i] = (unsigned char)(i % 251);
        for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++)
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                uint64_t offset = offsets[o], end = offset + lengths[l];
                region_options options = {.offset = offset, .length_bytes = lengths[l]};
                cove_region *part = NULL;
                if (end > sizes[s]) {
                    EXPECT(-EMSGSIZE, cove_region_open(&part, "r", &options));
                    continue;
                }
                part = open_as("r", &options);
                uint64_t length = lengths[l] ? lengths[l] : sizes[s] - offset;
                assert_int_equal(cove_region_size(part), length);
                if (length > 0) {
                    const unsigned char *data = cove_region_data(part);
                    assert_int_equal(data[0], offset % 251);
                    assert_int_equal(data[length - 1], (offset + length - 1) % 251);
                } else
                    assert_null(cove_region_data(part));
                EXPECT(0, cove_region_close(part));
            }
        drop("r", whole);
    }
}

/* One that is made may be mapped in part only, and has all of its memory all the same. */
static void test_region_made_and_mapped_in_part_is_whole(void **state)
{
    (void)state;
    struct cove_region_info info;
    cove_region *part = open_as("r", &(region_options){.size_bytes = SIZE, .offset = PAGE + 5, .length_bytes = 10});
    memset(cove_region_data(part), 7, 10);
    EXPECT(0, cove_region_stat(part, &info));
    assert_int_equal(info.offset, PAGE + 5);
    assert_int_equal(info.length_bytes, 10);
    assert_int_equal(info.size_bytes, SIZE);
    assert_int_equal(info.resident_bytes, SIZE);
    assert_ptr_equal(info.data, cove_region_data(part));
    cove_region *whole = open_as("r", NULL);
    const unsigned char *bytes = cove_region_data(whole);
    for (uint64_t i = 0; i < SIZE; i++)
        assert_int_equal(bytes[i], i >= PAGE + 5 && i < PAGE + 15 ? 7 : 0);
    EXPECT(0, cove_region_close(whole));
    drop("r", part);
}

/* ---- access */

struct touch {
    volatile unsigned char *at;
    bool store;
};

static void touches(void *argument)
{
    const struct touch *touch = argument;
    if (touch->store)
        *touch->at = 1;
    else
        (void)*touch->at;
}

/* What a touch of that byte does: 0 or a signal, in a process of its own. */
static int touched(cove_region *region, uint64_t offset, bool store)
{
    struct touch touch = {(unsigned char *)cove_region_data(region) + offset, store};
    struct sigaction action = {.sa_handler = SIG_DFL}, before;
    (void)sigaction(SIGSEGV, &action, &before); /* sanitizers have one */
    int status = testing_wait(testing_spawn(touches, &touch));
    (void)sigaction(SIGSEGV, &before, NULL);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void expect_touches(cove_region *region, uint64_t offset, int read_signal, int store_signal)
{
    assert_int_equal(touched(region, offset, false), read_signal);
    assert_int_equal(touched(region, offset, true), store_signal);
}

static void test_region_opened_for_an_access_has_that_one(void **state)
{
    (void)state;
    static const struct {
        uint32_t flags, access;
        int read_signal, store_signal;
    } rows[] = {
        {0, COVE_ACCESS_DEFAULT, 0, 0},
        {0, COVE_ACCESS_WRITE, 0, 0},
        {0, COVE_ACCESS_READ, 0, SIGSEGV},
        {0, COVE_ACCESS_NONE, SIGSEGV, SIGSEGV},
        {COVE_READONLY, COVE_ACCESS_DEFAULT, 0, SIGSEGV},
        {COVE_READONLY, COVE_ACCESS_READ, 0, SIGSEGV},
        {COVE_READONLY, COVE_ACCESS_NONE, SIGSEGV, SIGSEGV},
    };
    cove_region *maker = make("r", SIZE);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cove_region *region = open_as("r", &(region_options){.flags = rows[i].flags, .access = rows[i].access});
        expect_touches(region, 0, rows[i].read_signal, rows[i].store_signal);
        /* What may come later depends on the opening alone. */
        bool writable = !(rows[i].flags & COVE_READONLY);
        EXPECT(writable ? 0 : -EACCES, cove_region_protect(region, 0, 0, COVE_ACCESS_WRITE));
        EXPECT(0, cove_region_protect(region, 0, 0, COVE_ACCESS_READ));
        expect_touches(region, SIZE - 1, 0, SIGSEGV);
        EXPECT(0, cove_region_close(region));
    }
    drop("r", maker);
}

static void test_region_protected_in_part_leaves_the_rest(void **state)
{
    (void)state;
    cove_region *region = make("r", SIZE);
    EXPECT(0, cove_region_protect(region, PAGE, PAGE, COVE_ACCESS_NONE));
    EXPECT(0, cove_region_protect(region, 2 * PAGE, 0, COVE_ACCESS_READ)); /* up to the end */
    expect_touches(region, PAGE - 1, 0, 0);
    expect_touches(region, PAGE, SIGSEGV, SIGSEGV);
    expect_touches(region, 2 * PAGE - 1, SIGSEGV, SIGSEGV);
    expect_touches(region, 2 * PAGE, 0, SIGSEGV);
    expect_touches(region, SIZE - 1, 0, SIGSEGV);
    drop("r", region);
}

/* By whole pages; at the part's own ends the page that holds them is meant. */
static void test_region_protected_at_odd_bytes_is_refused(void **state)
{
    (void)state;
    cove_region *region = make("r", SIZE - 5);
    static const struct {
        uint64_t offset, length;
        int result;
    } rows[] = {
        {1, PAGE, -EINVAL},
        {PAGE - 1, PAGE + 1, -EINVAL},
        {0, 1, -EINVAL},
        {0, PAGE - 1, -EINVAL},
        {0, PAGE + 1, -EINVAL},
        {PAGE, 2 * PAGE + 1, -EINVAL},
        {SIZE - 6, 1, -EINVAL},
        {0, PAGE, 0},
        {PAGE, 2 * PAGE, 0},
        {3 * PAGE, PAGE - 5, 0},
        {0, SIZE - 5, 0},
        {0, SIZE, -EINVAL},
        {SIZE - 5, 0, -EINVAL},
        {SIZE - 4, 0, -EINVAL},
        {0, UINT64_MAX, -EINVAL},
        {PAGE, UINT64_MAX, -EINVAL},
        {UINT64_MAX, PAGE, -EINVAL},
        {UINT64_MAX, 0, -EINVAL},
        {UINT64_MAX - PAGE + 1, PAGE, -EINVAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        unit_forget();
        int result = cove_region_protect(region, rows[i].offset, rows[i].length, COVE_ACCESS_READ);
        if (result != rows[i].result || (result < 0 && !*cove_last_error()))
            fail_msg("row %zu: %d (%s)", i, result, cove_last_error());
    }
    EXPECT_SAYS(-EINVAL, cove_region_protect(region, 1, PAGE, COVE_ACCESS_READ), "4096");
    for (int access = -1; access < 6; access++)
        if (access < COVE_ACCESS_READ || access > COVE_ACCESS_NONE)
            EXPECT(-EINVAL, cove_region_protect(region, 0, 0, (enum cove_access)access));
    drop("r", region);
    /* A part that begins and ends inside pages. */
    cove_region *whole = make("r", SIZE),
                *part = open_as("r", &(region_options){.offset = 100, .length_bytes = PAGE + 50});
    EXPECT(-EINVAL, cove_region_protect(part, PAGE, 0, COVE_ACCESS_READ)); /* of the whole it would be 100 bytes on */
    EXPECT(0, cove_region_protect(part, PAGE - 100, 0, COVE_ACCESS_READ));
    expect_touches(part, PAGE - 101, 0, 0);
    expect_touches(part, PAGE - 100, 0, SIGSEGV);
    EXPECT(0, cove_region_protect(part, 0, PAGE - 100, COVE_ACCESS_NONE));
    expect_touches(part, 0, SIGSEGV, SIGSEGV);
    EXPECT(0, cove_region_protect(part, 0, 0, COVE_ACCESS_WRITE));
    expect_touches(part, PAGE + 49, 0, 0);
    EXPECT(0, cove_region_close(part));
    drop("r", whole);
}

/* ---- syncing */

static void test_region_synced_at_any_bytes_stays_inside(void **state)
{
    (void)state;
    cove_region *whole = make(file_name(), SIZE);
    cove_region *part = open_as(file_name(), &(region_options){.offset = 100, .length_bytes = PAGE + 50});
    EXPECT(0, cove_region_sync(whole, 0, 0));
    EXPECT(0, cove_region_sync(whole, 1, 1));
    EXPECT(0, cove_region_sync(whole, PAGE - 1, 2));
    EXPECT(0, cove_region_sync(whole, SIZE - 1, 1));
    EXPECT(0, cove_region_sync(whole, SIZE, 0));
    EXPECT(-EINVAL, cove_region_sync(whole, SIZE, 1));
    EXPECT(-EINVAL, cove_region_sync(whole, SIZE + 1, 0));
    EXPECT(-EINVAL, cove_region_sync(whole, 1, UINT64_MAX));
    EXPECT(-EINVAL, cove_region_sync(whole, UINT64_MAX, 1));
    EXPECT(0, cove_region_sync(part, 0, 0));
    EXPECT(0, cove_region_sync(part, PAGE + 49, 1));
    EXPECT(-EINVAL, cove_region_sync(part, PAGE + 49, 2));
    EXPECT(0, cove_region_protect(whole, 0, 0, COVE_ACCESS_NONE));
    EXPECT(0, cove_region_sync(whole, 0, 0)); /* not by this process's eyes */
    EXPECT(0, cove_region_close(part));
    drop(file_name(), whole);
    cove_region *memory = make("r", SIZE);
    EXPECT_SAYS(-EOPNOTSUPP, cove_region_sync(memory, 0, 0), "file:");
    EXPECT(-EINVAL, cove_region_sync(memory, SIZE + 1, 0));
    drop("r", memory);
}

/* ---- descriptors, rights */

static void test_region_descriptor_is_one_of_its_own(void **state)
{
    (void)state;
    cove_region *region = make("r", SIZE);
    int one = (int)EXPECT_GOOD(cove_region_fd(region)), other = (int)EXPECT_GOOD(cove_region_fd(region));
    assert_int_not_equal(one, other);
    assert_int_equal(fcntl(one, F_GETFD), FD_CLOEXEC);
    assert_int_equal(close(one), 0);
    drop("r", region);
    char name[16];
    (void)snprintf(name, sizeof name, "fd:%d", other);
    region = open_as(name, NULL); /* outlives name and handle */
    assert_int_equal(cove_region_size(region), SIZE);
    assert_int_equal(close(other), 0);
    ((unsigned char *)cove_region_data(region))[SIZE - 1] = 1;
    EXPECT(0, cove_region_close(region));
}

static void test_region_rights_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    struct stat about;
    cove_region *region = make("r", SIZE);
    EXPECT(-EINVAL, cove_region_set_rights("r", 01777, NULL));
    EXPECT(-EINVAL, cove_region_set_rights("r", 0640, "no such group"));
    EXPECT(-EINVAL, cove_region_set_rights("r", 0640, ""));
    EXPECT(-ENOENT, cove_region_set_rights("none", 0640, NULL));
    assert_int_equal(stat(unit_path("r"), &about), 0);
    assert_int_equal(about.st_mode & 07777, 0600); /* none of them did half of it */
    drop("r", region);
}

/* ---- what has no name, or another kind of thing's */

static void test_region_without_a_name_cannot_be_found_or_removed_by_one(void **state)
{
    (void)state;
    struct cove_region_info info;
    cove_region *nameless = make("memfd:", SIZE), *region = NULL;
    EXPECT_SAYS(-ENOENT, cove_region_look("memfd:", &info), "fd:N");
    EXPECT(-ENOENT, cove_region_unlink("memfd:", 0));
    EXPECT(-ENOENT, cove_region_open(&region, "memfd:", NULL)); /* nothing says its size */
    char name[16];
    int fd = (int)EXPECT_GOOD(cove_region_fd(nameless)), ends[2];
    (void)snprintf(name, sizeof name, "fd:%d", fd);
    EXPECT(0, cove_region_look(name, &info));
    assert_int_equal(info.size_bytes, SIZE);
    assert_int_equal(info.sealed, 1);
    assert_string_equal(info.backend, "fd");
    EXPECT_SAYS(-EOPNOTSUPP, cove_region_unlink(name, 0), "nameless");
    EXPECT(-EOPNOTSUPP, cove_region_open(&region, name, &(region_options){.size_bytes = 1, .flags = COVE_EXCLUSIVE}));
    assert_int_equal(close(fd), 0);
    EXPECT_SAYS(-EBADF, cove_region_open(&region, name, NULL), "no descriptor of that number");
    assert_int_equal(pipe(ends), 0);
    (void)snprintf(name, sizeof name, "fd:%d", ends[0]);
    EXPECT(COVE_ENOTCOVE, cove_region_open(&region, name, &(region_options){.flags = COVE_READONLY}));
    assert_int_equal(close(ends[0]) | close(ends[1]), 0);
    assert_null(region);
    EXPECT(0, cove_region_close(nameless));
}

static void test_region_call_upon_a_segment_is_refused(void **state)
{
    (void)state;
    cove_region *region = NULL;
    cove_segment *segment = unit_open("s");
    EXPECT_SAYS(COVE_ETYPE, cove_region_unlink("s", 1), "cove_unlink");
    EXPECT_SAYS(COVE_ETYPE, cove_region_open(&region, "s", NULL), "cove_open");
    region = open_as("s", &(region_options){.flags = COVE_READONLY});
    assert_memory_equal(cove_region_data(region), "Covegt1", 7);
    EXPECT(0, cove_region_close(region));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("s");
}

/* In huge pages or not, the name finds it again. */
static void test_region_of_either_page_is_found_by_its_one_name(void **state)
{
    (void)state;
    struct cove_region_info info;
    cove_region *region = make("hugetry:h", SIZE), *again = open_as("hugetry:h", NULL);
    ((unsigned char *)cove_region_data(region))[SIZE - 1] = 3;
    assert_int_equal(((unsigned char *)cove_region_data(again))[SIZE - 1], 3);
    EXPECT(0, cove_region_look("hugetry:h", &info));
    assert_true(info.size_bytes >= SIZE);
    EXPECT(0, cove_region_set_rights("hugetry:h", 0640, NULL));
    EXPECT(0, cove_region_look("hugetry:h", &info));
    assert_int_equal(info.mode, 0640);
    EXPECT(0, cove_region_close(again));
    drop("hugetry:h", region);
    EXPECT(-ENOENT, cove_region_look("hugetry:h", &info));
}

static const struct testing_case tests[] = {
    TEST(test_region_without_one_is_refused_by_each_call),
    TEST(test_region_with_impossible_options_is_refused),
    TEST(test_region_of_size_0_cannot_be_made_but_be_opened),
    TEST(test_region_parts_begin_and_end_at_any_byte),
    TEST(test_region_made_and_mapped_in_part_is_whole),
    TEST(test_region_opened_for_an_access_has_that_one),
    TEST(test_region_protected_in_part_leaves_the_rest),
    TEST(test_region_protected_at_odd_bytes_is_refused),
    TEST(test_region_synced_at_any_bytes_stays_inside),
    TEST(test_region_descriptor_is_one_of_its_own),
    TEST(test_region_rights_that_make_no_sense_are_refused),
    TEST(test_region_without_a_name_cannot_be_found_or_removed_by_one),
    TEST(test_region_call_upon_a_segment_is_refused),
    TEST(test_region_of_either_page_is_found_by_its_one_name),
};

int main(void)
{
    return testing_run("region", tests);
}
