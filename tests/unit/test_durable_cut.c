/* test_durable_cut.c - power cuts: what is on the disk is some pages of one moment and some of another.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A file is copied at two moments while a member works, and put together anew: each page from the one moment or the
 * other, as a seeded generator says; as long as at the one or the other. With another boot id in its header it must
 * be refused, or give exactly what cove_sync has promised. */
/* ctest: timeout=90 */
#include "durable.h"

#include "os/os.h"

#define SYNCED ".synced"
#define PAGE 4096u
#define ROUNDS 30u
#define THINGS 48u
#define LITTLE UINT64_C(20000) /* bytes of a thing */
#define MUCH UINT64_C(200000)

/* ---- work: figures that must agree, over many pages, and what is allocated */

struct books {
    cove_mutex lock;
    uint64_t version;
    uint64_t figures[4096]; /* each as `version` */
    cove_ref things[THINGS]; /* of sizes that change */
    uint64_t sizes[THINGS];
};

static struct books *books_of(cove_segment *segment)
{
    return unit_object(segment, "books", sizeof(struct books));
}

/* One change, all or nothing. */
static void change(cove_segment *segment, struct books *books, uint64_t *seed, uint64_t most_bytes)
{
    uint64_t which = unit_random(seed) % THINGS, size = 1 + unit_random(seed) % most_bytes;
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &books->lock, COVE_FOREVER));
    EXPECT(0, cove_save(segment, &books->version, sizeof books->version));
    EXPECT(0, cove_save(segment, books->figures, sizeof books->figures));
    EXPECT(0, cove_save(segment, &books->sizes[which], sizeof books->sizes[which]));
    books->version++;
    for (size_t i = 0; i < sizeof books->figures / sizeof *books->figures; i++)
        books->figures[i] = books->version;
    if (books->things[which])
        EXPECT(0, cove_free_from(segment, &books->things[which]));
    EXPECT(0, cove_alloc_into(segment, &books->things[which], size));
    books->sizes[which] = size;
    memset(cove_at(segment, books->things[which], size), (int)which, size);
    EXPECT(0, cove_commit(segment));
}

/* Does all of it agree, and is it of that version? */
static void expect_books(cove_segment *segment, uint64_t version, uint64_t blocks)
{
    struct books *books = books_of(segment);
    assert_int_equal(books->version, version);
    for (size_t i = 0; i < sizeof books->figures / sizeof *books->figures; i++)
        assert_int_equal(books->figures[i], version);
    for (unsigned which = 0; which < THINGS; which++) {
        if (!books->things[which])
            continue;
        const unsigned char *bytes = cove_at(segment, books->things[which], books->sizes[which]);
        assert_non_null(bytes);
        for (uint64_t i = 0; i < books->sizes[which]; i++)
            assert_int_equal(bytes[i], which);
    }
    EXPECT(0, cove_mutex_lock(segment, &books->lock, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &books->lock));
    unit_sound(segment);
    assert_int_equal(unit_stat(segment).heap_block_count, blocks);
}

/* ---- moments */

struct moment {
    unsigned char *bytes;
    size_t size;
};

static size_t size_of(const char *path)
{
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    return (size_t)about.st_size;
}

static struct moment take_moment(const char *path)
{
    struct moment moment = {.size = size_of(path)};
    moment.bytes = malloc(moment.size);
    assert_non_null(moment.bytes);
    durable_read(path, moment.bytes, moment.size, 0);
    return moment;
}

/* Each page of the one or the other; as long as `length` says. What neither has is zero. */
static void put_together(const char *path, const struct moment *one, const struct moment *other, size_t length,
                         uint64_t *seed)
{
    unsigned char *bytes = calloc(1, length);
    assert_non_null(bytes);
    for (size_t at = 0; at < length; at += PAGE) {
        const struct moment *from = unit_random(seed) & 1 ? one : other;
        if (at + PAGE <= from->size)
            memcpy(bytes + at, from->bytes + at, PAGE);
    }
    (void)unlink(path);
    int file = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    assert_int_equal(pwrite(file, bytes, length, 0), length);
    assert_int_equal(close(file), 0);
    free(bytes);
}

static void drop_moment(struct moment *moment)
{
    free(moment->bytes);
    moment->bytes = NULL;
}

/* ---- in use when the power went */

static struct {
    _Atomic uint64_t version, blocks; /* when it was synced */
} * synced;

/* Works, syncs in the middle where asked to, and works on until it is killed. */
static void works(void *with_copy)
{
    uint64_t seed = 42;
    cove_segment *segment = unit_open_as(durable_name("d"), &(struct cove_options){.max_members = 8});
    struct books *books = books_of(segment);
    for (int i = 0; i < 20; i++)
        change(segment, books, &seed, LITTLE);
    if (with_copy) {
        EXPECT(0, cove_sync(segment, COVE_NOWAIT));
        atomic_store(&synced->version, books->version);
        atomic_store(&synced->blocks, unit_stat(segment).heap_block_count);
    }
    testing_reach(0);
    for (;;) {
        change(segment, books, &seed, MUCH);
        testing_reach(1);
    }
}

/* Two moments of a file that somebody works in, the second one of much more work, and longer. */
static void work_and_die(bool with_copy, struct moment *one, struct moment *other)
{
    synced = testing_shared(sizeof *synced);
    pid_t pid = testing_spawn(works, with_copy ? synced : NULL);
    testing_await(0);
    *one = take_moment(durable_path("d", ""));
    testing_await_count(1, 60);
    UNTIL(size_of(durable_path("d", "")) > one->size, 5000);
    *other = take_moment(durable_path("d", ""));
    testing_kill(pid);
    assert_true(other->size > one->size);
}

static void test_cut_with_a_copy_gives_exactly_what_was_synced(void **state)
{
    (void)state;
    struct moment one, other;
    uint64_t seed = 1;
    work_and_die(true, &one, &other);
    struct moment copy = take_moment(durable_path("d", SYNCED));
    for (unsigned round = 0; round < ROUNDS; round++) {
        cove_segment *segment = NULL;
        put_together(durable_path("d", ""), &one, &other, round % 2 ? one.size : other.size, &seed);
        durable_other_boot(durable_path("d", ""));
        EXPECT(COVE_RECOVERED, cove_open(&segment, durable_name("d"), NULL));
        expect_books(segment, atomic_load(&synced->version), atomic_load(&synced->blocks));
        change(segment, books_of(segment), &seed, LITTLE); /* and it works */
        expect_books(segment, atomic_load(&synced->version) + 1, unit_stat(segment).heap_block_count);
        unit_close(segment);
        struct moment still = take_moment(durable_path("d", SYNCED));
        assert_int_equal(still.size, copy.size);
        assert_memory_equal(still.bytes, copy.bytes, copy.size);
        drop_moment(&still);
    }
    EXPECT(0, cove_unlink(durable_name("d"), 0));
    drop_moment(&one);
    drop_moment(&other);
    drop_moment(&copy);
}

/* The file's length is news that reaches the disk on its own: it may be shorter than its header says. */
static void test_cut_shorter_than_its_header_says_goes_back_to_the_copy(void **state)
{
    (void)state;
    struct moment one, other;
    work_and_die(true, &one, &other);
    size_t lengths[] = {one.size, other.size - PAGE, other.size - 1, 10 * PAGE, PAGE};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cove_segment *segment = NULL;
        uint64_t seed = 2;
        put_together(durable_path("d", ""), &other, &other, other.size, &seed);
        assert_int_equal(truncate(durable_path("d", ""), (off_t)lengths[i]), 0);
        durable_other_boot(durable_path("d", ""));
        EXPECT(COVE_RECOVERED, cove_open(&segment, durable_name("d"), NULL));
        expect_books(segment, atomic_load(&synced->version), atomic_load(&synced->blocks));
        unit_close(segment);
    }
    EXPECT(0, cove_unlink(durable_name("d"), 0));
    drop_moment(&one);
    drop_moment(&other);
}

static void test_cut_without_a_copy_is_refused(void **state)
{
    (void)state;
    struct moment one, other;
    uint64_t seed = 3;
    work_and_die(false, &one, &other);
    for (unsigned round = 0; round < ROUNDS; round++) {
        cove_segment *segment = NULL;
        put_together(durable_path("d", ""), &one, &other, other.size, &seed);
        durable_other_boot(durable_path("d", ""));
        EXPECT(COVE_EUNCLEAN, cove_open(&segment, durable_name("d"), NULL));
        /* Looking at such bytes is safe, whatever they say. */
        EXPECT(0, cove_open(&segment, durable_name("d"), &(struct cove_options){.flags = COVE_READONLY}));
        EXPECT_GOOD(cove_segment_check(segment, NULL, NULL));
        struct cove_object_info objects[4];
        (void)cove_objects(segment, objects, 4);
        unit_close(segment);
    }
    EXPECT(0, cove_unlink(durable_name("d"), 0));
    drop_moment(&one);
    drop_moment(&other);
}

/* ---- while it was closed */

static struct covei_os noting_table;
static struct moment at_sync[16];
static unsigned syncs;

/* What is surely on the disk, after each sync of the segment's file. */
static int noting_sync(int file)
{
    int result = covei_os_native.file_sync(file);
    if (syncs < sizeof at_sync / sizeof *at_sync)
        at_sync[syncs++] = take_moment(durable_path("d", ""));
    return result;
}

/* Between any two moments that a close puts on the disk, and with what came after the last, it is refused or whole:
 * as after the close. Nothing of the members that were in it is left then. */
static void test_cut_in_and_after_the_last_close_is_whole_or_refused(void **state)
{
    (void)state;
    uint64_t seed = 7;
    unsigned refused = 0, whole = 0;
    cove_segment *segment = unit_open_as(durable_name("d"), &(struct cove_options){.max_members = 8});
    struct books *books = books_of(segment);
    for (int i = 0; i < 20; i++)
        change(segment, books, &seed, LITTLE);
    uint64_t blocks = unit_stat(segment).heap_block_count;
    assert_true(cove_alloc(segment, 100) != 0); /* not kept: it goes when its member does */
    noting_table = covei_os_native;
    noting_table.file_sync = noting_sync;
    covei_os = &noting_table;
    unit_close(segment);
    covei_os = &covei_os_native;
    assert_in_range(syncs, 2, sizeof at_sync / sizeof *at_sync - 1);
    at_sync[syncs++] = take_moment(durable_path("d", "")); /* what is written back later */
    for (unsigned at = 0; at + 1 < syncs; at++)
        for (unsigned round = 0; round < ROUNDS; round++) {
            put_together(durable_path("d", ""), &at_sync[at], &at_sync[at + 1], at_sync[at + 1].size, &seed);
            durable_other_boot(durable_path("d", ""));
            bool clean = durable_clean("d") == 1;
            EXPECT(clean ? 0 : COVE_EUNCLEAN, cove_open(&segment, durable_name("d"), NULL));
            refused += !clean;
            whole += clean;
            if (!clean)
                continue;
            expect_books(segment, 20, blocks);
            struct cove_member_info members[8];
            assert_int_equal(cove_segment_members(segment, members, 8), 1);
            assert_int_equal(members[0].lanes, 1);
            unit_close(segment);
        }
    assert_true(refused > 0 && whole >= ROUNDS); /* both sides were looked at */
    for (unsigned at = 0; at < syncs; at++)
        drop_moment(&at_sync[at]);
    EXPECT(0, cove_unlink(durable_name("d"), 0));
}

/* ---- while it was made, or begun anew */

/* Before its first member changes anything, the mark is on the disk: what is there then is refused in another run. */
static void test_cut_right_after_the_opening_is_refused(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    noting_table = covei_os_native;
    noting_table.file_sync = noting_sync;
    unit_close(unit_open_as(durable_name("d"), &(struct cove_options){.max_members = 8}));
    covei_os = &noting_table;
    segment = unit_open(durable_name("d"));
    covei_os = &covei_os_native;
    assert_true(syncs >= 1);
    uint64_t seed = 1;
    unit_close(segment);
    for (unsigned i = 0; i < syncs; i++) {
        put_together(durable_path("d", ""), &at_sync[i], &at_sync[i], at_sync[i].size, &seed);
        assert_int_equal(durable_clean("d"), 0);
        durable_other_boot(durable_path("d", ""));
        EXPECT(COVE_EUNCLEAN, cove_open(&segment, durable_name("d"), NULL));
        drop_moment(&at_sync[i]);
    }
    EXPECT(0, cove_unlink(durable_name("d"), 0));
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_cut_with_a_copy_gives_exactly_what_was_synced, 30),
    TEST_TIMEOUT(test_cut_shorter_than_its_header_says_goes_back_to_the_copy, 20),
    TEST_TIMEOUT(test_cut_without_a_copy_is_refused, 30),
    TEST_TIMEOUT(test_cut_in_and_after_the_last_close_is_whole_or_refused, 30),
    TEST(test_cut_right_after_the_opening_is_refused),
};

int main(void)
{
    return testing_run("durable_cut", tests);
}
