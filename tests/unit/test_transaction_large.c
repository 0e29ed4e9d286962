/* test_transaction_large.c - journals that grow into the heap: large saves, many saves, no room, and all of it back.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "unit.h"

#include "heap/heap.h"

static unsigned char pattern(size_t i)
{
    return (unsigned char)(i * 7 + (i >> 8) + 3);
}

struct stretch {
    cove_segment *segment;
    cove_ref ref;
    unsigned char *bytes;
    size_t size_bytes;
    uint64_t used; /* heap bytes that are not free: exact, while the segment may grow */
};

static uint64_t used_bytes(cove_segment *segment)
{
    struct cove_segment_info info = unit_stat(segment);
    return info.heap_bytes - info.heap_free_bytes;
}

static struct stretch open_stretch(const struct cove_options *options, size_t size_bytes)
{
    struct stretch stretch = {.segment = unit_open_as("t", options), .size_bytes = size_bytes};
    stretch.ref = cove_alloc(stretch.segment, size_bytes);
    assert_true(stretch.ref != 0);
    stretch.bytes = cove_at(stretch.segment, stretch.ref, size_bytes);
    for (size_t i = 0; i < size_bytes; i++)
        stretch.bytes[i] = pattern(i);
    stretch.used = used_bytes(stretch.segment);
    return stretch;
}

/* Nothing is left of the journal. */
static void expect_clean(const struct stretch *stretch)
{
    struct covei_lane *lane = NULL;
    EXPECT(0, covei_lane_get(&lane, stretch->segment));
    assert_int_equal(covei_tails_load(lane->shm), 0);
    assert_int_equal(lane->shm->journal_block | lane->shm->journal_next | lane->shm->journal_old, 0);
    assert_int_equal(lane->outer_capacity, COVEI_OUTER_UNITS);
    assert_int_equal(used_bytes(stretch->segment), stretch->used);
    unit_sound(stretch->segment);
}

static void expect_bytes(const struct stretch *stretch, size_t from, size_t to, int changed)
{
    for (size_t i = from; i < to; i++)
        if (stretch->bytes[i] != (changed >= 0 ? (unsigned char)changed : pattern(i)))
            fail_msg("byte %zu is %u", i, stretch->bytes[i]);
}

static void close_stretch(struct stretch *stretch)
{
    expect_clean(stretch);
    EXPECT(0, cove_free(stretch->segment, stretch->ref));
    unit_close(stretch->segment);
    unit_remove("t");
}

static void test_large_save_of_64_mib_commits_and_aborts(void **state)
{
    (void)state;
    struct stretch stretch = open_stretch(NULL, (size_t)64 << 20);
    cove_segment *segment = stretch.segment;
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, stretch.bytes, stretch.size_bytes));
    memset(stretch.bytes, 1, stretch.size_bytes);
    EXPECT(0, cove_save(segment, stretch.bytes, 8)); /* a small one behind it does not double the journal */
    assert_true(used_bytes(segment) - stretch.used < stretch.size_bytes + (stretch.size_bytes >> 2));
    EXPECT(0, cove_abort(segment));
    expect_bytes(&stretch, 0, stretch.size_bytes, -1);
    expect_clean(&stretch);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, stretch.bytes, stretch.size_bytes));
    memset(stretch.bytes, 1, stretch.size_bytes);
    EXPECT(0, cove_commit(segment));
    expect_bytes(&stretch, 0, stretch.size_bytes, 1);
    close_stretch(&stretch);
}

/* Each byte of a stretch in a save of its own, with blocks taken and given in between. */
static void save_many(struct stretch *stretch, bool commit)
{
    cove_segment *segment = stretch->segment;
    uint64_t seed = 42;
    EXPECT(0, cove_begin(segment));
    for (size_t at = 0; at < stretch->size_bytes;) {
        size_t count = 1 + (size_t)(unit_random(&seed) % 24);
        if (count > stretch->size_bytes - at)
            count = stretch->size_bytes - at;
        EXPECT(0, cove_save(segment, stretch->bytes + at, count));
        memset(stretch->bytes + at, 2, count);
        at += count;
        if (at % 16 == 0) {
            cove_ref ref = cove_alloc(segment, 16);
            assert_true(ref != 0);
            if (commit)
                EXPECT(0, cove_free(segment, ref));
        }
    }
    EXPECT(0, commit ? cove_commit(segment) : cove_abort(segment));
}

static void test_large_thousands_of_small_saves(void **state)
{
    (void)state;
    struct stretch stretch = open_stretch(NULL, testing_scale() > 1 ? 40000 : 400000);
    save_many(&stretch, false);
    expect_bytes(&stretch, 0, stretch.size_bytes, -1);
    expect_clean(&stretch);
    save_many(&stretch, true);
    expect_bytes(&stretch, 0, stretch.size_bytes, 2);
    close_stretch(&stretch);
}

static const struct cove_options small = {.size_bytes = 221184, .max_size_bytes = 221184, .max_members = 2};

/* Fill the journal until there is no room: what was saved and changed can be committed, or undone; what was
 * refused was not saved. */
static void run_full(bool commit, size_t piece_bytes)
{
    struct stretch stretch = open_stretch(&small, 100000);
    cove_segment *segment = stretch.segment;
    size_t saved = 0;
    int result = 0;
    EXPECT(0, cove_begin(segment));
    for (; saved + piece_bytes <= stretch.size_bytes; saved += piece_bytes) {
        uint64_t used = used_bytes(segment);
        result = cove_save(segment, stretch.bytes + saved, piece_bytes);
        if (result < 0) {
            assert_int_equal(used_bytes(segment), used); /* nothing was taken for it */
            break;
        }
        memset(stretch.bytes + saved, 9, piece_bytes);
    }
    assert_int_equal(result, -ENOSPC);
    for (int i = 0; i < 3; i++)
        EXPECT(-ENOSPC, cove_save(segment, stretch.bytes, 90000));
    EXPECT(0, commit ? cove_commit(segment) : cove_abort(segment));
    assert_true(saved > 0);
    expect_bytes(&stretch, 0, saved, commit ? 9 : -1);
    expect_bytes(&stretch, saved, stretch.size_bytes, -1);
    close_stretch(&stretch);
}

static void test_large_without_room_is_refused_and_goes_on(void **state)
{
    (void)state;
    for (int commit = 0; commit < 2; commit++) {
        run_full(commit, 4);
        run_full(commit, 1000);
        run_full(commit, 50000);
    }
}

/* Twice as much does not fit, just enough does. */
static void test_large_takes_what_fits(void **state)
{
    (void)state;
    struct stretch stretch = open_stretch(&small, 20000);
    cove_segment *segment = stretch.segment;
    size_t room = (size_t)unit_free_bytes(segment) - 400;
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, stretch.bytes, 20000));
    memset(stretch.bytes, 1, 20000);
    size_t left = (size_t)unit_free_bytes(segment);
    cove_ref filler = cove_alloc(segment, left - 24000 - 20000); /* room for both, not for twice as much */
    assert_true(filler != 0);
    EXPECT(0, cove_save(segment, stretch.bytes, 20000));
    memset(stretch.bytes, 2, 20000);
    EXPECT(0, cove_abort(segment));
    assert_true(unit_free_bytes(segment) > room);
    expect_bytes(&stretch, 0, 20000, -1);
    close_stretch(&stretch);
}

/* ---- killed */

static void save_much_and_die(void *argument)
{
    const struct stretch *parent = argument;
    struct stretch stretch = *parent;
    stretch.segment = unit_open("t");
    stretch.bytes = cove_at(stretch.segment, stretch.ref, stretch.size_bytes);
    EXPECT(0, cove_begin(stretch.segment));
    for (size_t at = 0; at < stretch.size_bytes; at += 100000) {
        EXPECT(0, cove_save(stretch.segment, stretch.bytes + at, 100000));
        memset(stretch.bytes + at, 5, 100000);
    }
    testing_reach(0);
    unit_wait_for_death();
}

static void test_large_journal_of_the_dead_is_undone_and_freed(void **state)
{
    (void)state;
    struct stretch stretch = open_stretch(NULL, 3000000);
    pid_t pid = testing_spawn(save_much_and_die, &stretch);
    testing_await(0);
    expect_bytes(&stretch, 0, stretch.size_bytes, 5);
    testing_kill(pid);
    EXPECT(1, cove_recover(stretch.segment));
    expect_bytes(&stretch, 0, stretch.size_bytes, -1);
    close_stretch(&stretch);
}

static void *save_much_and_end(void *argument)
{
    struct stretch *stretch = argument;
    EXPECT(0, cove_begin(stretch->segment));
    EXPECT(0, cove_save(stretch->segment, stretch->bytes, stretch->size_bytes));
    memset(stretch->bytes, 5, stretch->size_bytes);
    return NULL;
}

static void test_large_journal_of_a_thread_that_ends_is_undone_and_freed(void **state)
{
    (void)state;
    struct stretch stretch = open_stretch(NULL, 300000);
    unit_in_thread(save_much_and_end, &stretch);
    expect_bytes(&stretch, 0, stretch.size_bytes, -1);
    close_stretch(&stretch);
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_large_save_of_64_mib_commits_and_aborts, 30),
    TEST(test_large_thousands_of_small_saves),
    TEST(test_large_without_room_is_refused_and_goes_on),
    TEST(test_large_takes_what_fits),
    TEST(test_large_journal_of_the_dead_is_undone_and_freed),
    TEST(test_large_journal_of_a_thread_that_ends_is_undone_and_freed),
};

int main(void)
{
    return testing_run("transaction large", tests);
}
