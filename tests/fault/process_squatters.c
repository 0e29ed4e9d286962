/* process_squatters.c - what else may stand under a segment's name, or under its builder's: refused in a sentence,
 * and left as it is; and one segment under two names.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Nothing that is opened here may block (a FIFO), be changed, be followed (a link), or be read to its end (a sparse
 * file of a tebibyte). tests/unit/test_segment_refuse.c has the plain cases. */
#include "process.h"

#include "region/region.h"
#include "segment/segment.h"

#include <cove/region.h>
#include <fcntl.h>
#include <sys/sysmacros.h>

static void gc_reports(const char *name, const char *sentence, void *context)
{
    print_message("gc: %s: %s\n", name, sentence);
    ++*(int *)context;
}

/* Every way in refuses it by that result and sentence; gc leaves it; force removes the name, if it may. */
static void refused(const char *name, int expected, const char *part)
{
    cove_segment *segment = NULL;
    struct cove_segment_info info;
    int told = 0;
    EXPECT_SAYS(expected, cove_open(&segment, name, NULL), part);
    EXPECT_SAYS(expected, cove_open(&segment, name, &(struct cove_options){.flags = COVE_EXISTING}), part);
    EXPECT_SAYS(expected, cove_open(&segment, name, &(struct cove_options){.flags = COVE_READONLY}), part);
    if (expected != COVE_EOWNER) /* anybody may look who has the right to read */
        EXPECT_SAYS(expected, cove_stat(name, &info), part);
    EXPECT_SAYS(expected, cove_unlink(name, 0), part);
    EXPECT(-EEXIST, cove_open(&segment, name, &(struct cove_options){.flags = COVE_EXCLUSIVE}));
    EXPECT(0, cove_gc(0, gc_reports, &told));
    assert_int_equal(told, 0);
    assert_null(segment);
    assert_true(unit_exists(name));
}

/* ---- links */

static void test_squatters_links_are_never_followed(void **state)
{
    (void)state;
    static const char *const targets[] = {"/etc/passwd", "t.cove", "nowhere", ".", "/dev/zero", "/proc/self/mem"};
    for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
        struct stat before = {0}, after = {0};
        (void)stat(targets[i], &before);
        assert_int_equal(symlink(targets[i], unit_path("t")), 0);
        refused("t", COVE_ENOTCOVE, "symbolic link");
        EXPECT(0, cove_unlink("t", 1)); /* the link itself */
        assert_false(unit_exists("t"));
        (void)stat(targets[i], &after);
        assert_int_equal(before.st_size, after.st_size);
        assert_int_equal(before.st_mode, after.st_mode);
    }
    assert_false(unit_exists("nowhere"));
}

/* ---- things that block, or answer to being opened */

/* Nobody is at the other end of the FIFO: a plain open would wait for ever. */
static void test_squatters_fifos_do_not_block(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(unit_path("t"), 0600), 0);
    int64_t begun = unit_now();
    refused("t", COVE_ENOTCOVE, "not a regular file");
    assert_true(unit_now() - begun < unit_patience());
    int file = open(unit_path("t"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    char byte;
    assert_int_equal(read(file, &byte, 1), 0); /* nobody wrote into it */
    assert_int_equal(close(file), 0);
    EXPECT(0, cove_unlink("t", 1));
}

static void test_squatters_devices_are_refused(void **state)
{
    (void)state;
    static const struct {
        mode_t kind;
        unsigned major_number, minor_number;
    } devices[] = {{S_IFCHR, 1, 3}, {S_IFCHR, 1, 5}, {S_IFCHR, 5, 0}, {S_IFBLK, 7, 250}, {S_IFCHR, 250, 250}};
    if (geteuid() != 0)
        testing_skip("making a device wants root");
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        dev_t number = makedev(devices[i].major_number, devices[i].minor_number);
        if (mknod(unit_path("t"), devices[i].kind | 0600, number) != 0)
            testing_skip("this machine lets nobody make a device");
        cove_segment *segment = NULL;
        int result = cove_open(&segment, "t", NULL);
        assert_true(result < 0 && strstr(cove_last_error(), unit_path("t")));
        if (devices[i].minor_number <
            200) /* the kernel has a driver for it: else opening fails, in the kernel's words */
            refused("t", COVE_ENOTCOVE, "regular file");
        EXPECT(0, cove_gc(0, NULL, NULL));
        assert_true(unit_exists("t"));
        assert_int_equal(unlink(unit_path("t")), 0);
    }
}

/* ---- large and empty files */

static void make_file(const char *path, off_t size_bytes, const void *head, size_t head_bytes)
{
    int file = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    if (head_bytes > 0)
        assert_int_equal(write(file, head, head_bytes), head_bytes);
    assert_int_equal(ftruncate(file, size_bytes), 0);
    assert_int_equal(close(file), 0);
}

static void test_squatters_sparse_files_are_not_read_to_their_end(void **state)
{
    (void)state;
    struct stat info;
    make_file(unit_path("t"), INT64_C(1) << 40, NULL, 0);
    int64_t begun = unit_now();
    refused("t", COVE_ENOTCOVE, "not a Cove segment");
    assert_true(unit_now() - begun < unit_patience());
    assert_int_equal(stat(unit_path("t"), &info), 0);
    assert_int_equal(info.st_blocks, 0); /* no hole was touched */
    assert_int_equal(info.st_size, INT64_C(1) << 40);
    EXPECT(0, cove_unlink("t", 1));
}

/* A sound segment, made a tebibyte long by somebody: what lies behind its own end is not its business. */
static void test_squatters_a_segment_made_longer_goes_on(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = bank_make(segment);
    assert_int_equal(truncate(unit_path("t"), INT64_C(1) << 40), 0);
    bank_audit(segment, bank, 0);
    cove_ref ref = cove_alloc(segment, 3 << 20); /* growth reserves what it needs in the hole */
    assert_true(ref != 0);
    memset(cove_at(segment, ref, 3 << 20), 1, 3 << 20);
    EXPECT(0, cove_free(segment, ref));
    unit_sound(segment);
    unit_close(segment);
    segment = unit_open("t");
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_squatters_headers_that_lie_are_refused(void **state)
{
    (void)state;
    static struct covei_header_shm header;
    cove_segment *segment = unit_open_as("model", &(struct cove_options){.max_members = 2});
    header = *segment->header;
    unit_close(segment);
    unit_remove("model");
    static const struct {
        size_t head_bytes;
        off_t size_bytes;
        int expected;
        const char *part;
    } cases[] = {
        {0, 0, COVE_ENOTCOVE, "not a Cove segment"}, /* empty */
        {8, 8, COVE_ELAYOUT, "remove it"}, /* the magic, and nothing else */
        {16, 16, COVE_ECORRUPT, "remove it"}, /* up to the signature */
        {60, 60, COVE_ECORRUPT, "truncated"}, /* a header that ends in the middle */
        {4096, 4096, COVE_ECORRUPT, "truncated"}, /* a whole header, and nothing behind it */
        {4096, 65536, COVE_ECORRUPT, "truncated"},
        {4096, INT64_C(1) << 40, 0, ""}, /* long enough, and nothing but zeros behind it */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_file(unit_path("t"), cases[i].size_bytes, &header, cases[i].head_bytes);
        if (cases[i].expected < 0)
            refused("t", cases[i].expected, cases[i].part);
        else {
            cove_segment *looker = NULL;
            int result = cove_open(&looker, "t", &(struct cove_options){.flags = COVE_READONLY});
            if (result == 0) {
                assert_true(cove_segment_check(looker, NULL, NULL) != 0);
                unit_close(looker);
            }
            struct cove_segment_info info;
            result = cove_stat("t", &info);
            assert_true(result == 0 || *cove_last_error() != '\0');
            EXPECT(0, cove_gc(0, NULL, NULL));
        }
        EXPECT(0, cove_unlink("t", 1));
        assert_false(unit_exists("t"));
    }
}

/* The other end of the egg: a machine of the other byte order wrote it. */
static void test_squatters_of_another_byte_order_are_refused(void **state)
{
    (void)state;
    static unsigned char swapped[8192];
    uint64_t magic = __builtin_bswap64(COVEI_MAGIC);
    uint32_t layout = __builtin_bswap32(COVEI_LAYOUT);
    memcpy(swapped, &magic, sizeof magic);
    memcpy(swapped + 8, &layout, sizeof layout);
    make_file(unit_path("t"), 1 << 20, swapped, sizeof swapped);
    refused("t", COVE_ENOTCOVE, "not a Cove segment");
    EXPECT(0, cove_unlink("t", 1));
    /* The magic is bytes, and so the same everywhere: then the layout's number tells. */
    magic = COVEI_MAGIC;
    memcpy(swapped, &magic, sizeof magic);
    make_file(unit_path("t"), 1 << 20, swapped, sizeof swapped);
    char part[32];
    (void)snprintf(part, sizeof part, "layout %u.", (unsigned)layout);
    refused("t", COVE_ELAYOUT, part);
    EXPECT(0, cove_unlink("t", 1));
}

/* ---- under the builder's prefix */

static bool debris_is_there(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

/* gc takes away files that a builder died over. What is no file, is another's, or is locked by a living builder, it
 * leaves. */
static void test_squatters_under_the_builders_prefix(void **state)
{
    (void)state;
    char path[1100];
    (void)snprintf(path, sizeof path, "%s/" COVEI_DEBRIS_PREFIX "1-2-3", cove_directory());
    int told = 0;
    assert_int_equal(symlink("/etc/passwd", path), 0);
    EXPECT(0, cove_gc(0, NULL, NULL));
    assert_true(debris_is_there(path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    EXPECT(0, cove_gc(0, NULL, NULL));
    assert_true(debris_is_there(path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    EXPECT(0, cove_gc(0, NULL, NULL));
    assert_int_equal(rmdir(path), 0);
    make_file(path, 5000, NULL, 0);
    int builder = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(covei_os->lock_try(builder, COVEI_DEBRIS_BYTE, true), 0);
    EXPECT(0, cove_gc(0, NULL, NULL)); /* its builder lives */
    assert_true(debris_is_there(path));
    assert_int_equal(close(builder), 0);
    if (geteuid() == 0) {
        assert_int_equal(chown(path, 65534, 65534), 0);
        EXPECT(0, cove_gc(0, NULL, NULL)); /* another's */
        assert_true(debris_is_there(path));
        assert_int_equal(chown(path, 0, 0), 0);
    }
    EXPECT(1, cove_gc(1, gc_reports, &told)); /* a dry run */
    assert_true(debris_is_there(path));
    EXPECT(1, cove_gc(0, gc_reports, &told));
    assert_int_equal(told, 2);
    assert_false(debris_is_there(path));
}

/* ---- another's: everything says so, and none of it is touched */

static void test_squatters_of_another_owner_are_refused(void **state)
{
    (void)state;
    if (geteuid() != 0)
        testing_skip("two users are needed: run as root");
    unit_close(unit_open("t"));
    assert_int_equal(chown(unit_path("t"), 65534, 65534), 0);
    refused("t", COVE_EOWNER, "user 65534, not to you (0)");
    EXPECT(0, cove_unlink("t", 1));
    make_file(unit_path("t"), 5000, "hello", 5);
    assert_int_equal(chown(unit_path("t"), 65534, 65534), 0);
    refused("t", COVE_EOWNER, "user 65534");
    EXPECT(0, cove_unlink("t", 1));
}

/* ---- one segment under two names */

static void test_squatters_hard_link_is_the_same_segment(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = bank_make(segment);
    char path[1100];
    (void)snprintf(path, sizeof path, "%s", unit_path("t"));
    assert_int_equal(link(path, unit_path("u")), 0);
    cove_segment *same = unit_open_as("u", &(struct cove_options){.flags = COVE_EXISTING});
    assert_ptr_equal(same, segment); /* one handle, one membership */
    assert_int_equal(unit_stat(segment).members_alive, 1);
    bank_transfer(same, bank);
    int told = 0;
    EXPECT(0, cove_gc(0, gc_reports, &told));
    unit_close(same);
    bank_audit(segment, bank, 0); /* still open once */
    EXPECT_SAYS(-EBUSY, cove_unlink("u", 0), "in use by 1 living member");
    unit_close(segment);
    EXPECT(0, cove_unlink("u", 0)); /* a name goes; what the other name leads to stays as it is */
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_EXISTING});
    bank = bank_open(segment);
    bank_audit(segment, bank, 0);
    assert_int_equal(bank->cents[0], BANK_CENTS - 7);
    unit_close(segment);
    unit_remove("t");
}

/* The file is one, whatever names lead to it: the plain one, and that of a mapped file. */
static void test_squatters_names_of_two_backends_are_one_membership(void **state)
{
    (void)state;
    char name[1100];
    cove_segment *segment = unit_open("t"), *same = NULL;
    struct bank *bank = bank_make(segment);
    (void)snprintf(name, sizeof name, "file:%s", unit_path("t"));
    int result = cove_open(&same, name, &(struct cove_options){.flags = COVE_EXISTING});
    if (result < 0) /* it may be refused, in a sentence; but never be two members that know nothing of each other */
        assert_true(*cove_last_error() != '\0');
    else {
        assert_ptr_equal(same, segment);
        bank_transfer(same, bank);
        unit_close(same);
    }
    assert_int_equal(unit_stat(segment).members_alive, 1);
    bank_audit(segment, bank, 0);
    unit_close(segment);
    unit_remove("t");
}

/* ---- regions find the same things under their names */

static void region_refused(const char *what)
{
    char file[1100];
    (void)snprintf(file, sizeof file, "file:%s", unit_path("t"));
    const char *const names[] = {"t", file};
    for (int i = 0; i < 2; i++) {
        cove_region *region = NULL;
        struct cove_region_info info;
        struct cove_region_options create = {.size_bytes = 4096}, look = {.flags = COVE_READONLY};
        int64_t begun = unit_now();
        int results[] = {cove_region_open(&region, names[i], NULL), cove_region_open(&region, names[i], &create),
                         cove_region_open(&region, names[i], &look), cove_region_look(names[i], &info),
                         cove_region_replace(names[i], "x", 1, NULL)};
        for (size_t k = 0; k < sizeof results / sizeof *results; k++)
            if (results[k] != COVE_ENOTCOVE)
                fail_msg("%s, %s: way %zu: %s: %s", what, names[i], k, cove_errname(results[k]), cove_last_error());
        assert_true(unit_now() - begun < unit_patience());
        assert_null(region);
        assert_true(unit_exists("t"));
    }
}

static void test_squatters_are_no_regions(void **state)
{
    (void)state;
    assert_int_equal(symlink("/etc/passwd", unit_path("t")), 0);
    region_refused("link");
    assert_int_equal(unlink(unit_path("t")), 0);
    assert_int_equal(symlink("t.cove", unit_path("t")), 0);
    region_refused("link to itself");
    assert_int_equal(unlink(unit_path("t")), 0);
    assert_int_equal(mkfifo(unit_path("t"), 0600), 0);
    region_refused("FIFO");
    assert_int_equal(unlink(unit_path("t")), 0);
    assert_int_equal(mkdir(unit_path("t"), 0700), 0);
    region_refused("directory");
    assert_int_equal(rmdir(unit_path("t")), 0);
}

static const struct testing_case tests[] = {
    TEST(test_squatters_links_are_never_followed),
    TEST(test_squatters_fifos_do_not_block),
    TEST(test_squatters_devices_are_refused),
    TEST(test_squatters_sparse_files_are_not_read_to_their_end),
    TEST(test_squatters_a_segment_made_longer_goes_on),
    TEST(test_squatters_headers_that_lie_are_refused),
    TEST(test_squatters_of_another_byte_order_are_refused),
    TEST(test_squatters_under_the_builders_prefix),
    TEST(test_squatters_of_another_owner_are_refused),
    TEST(test_squatters_hard_link_is_the_same_segment),
    TEST(test_squatters_names_of_two_backends_are_one_membership),
    TEST(test_squatters_are_no_regions),
};

int main(void)
{
    return testing_run("process_squatters", tests);
}
