/* test_transaction_join.c - operations that become part of a transaction, and are undone by themselves if they fail.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "unit.h"

#include "heap/join.h"

#include <cove/revision.h>

struct world {
    cove_mutex lock, other;
    cove_revision revision, other_revision;
    uint64_t values[16];
    cove_ref ref, old;
    cove_mutex locks[COVEI_LANE_LOCKS];
};

struct bench {
    cove_segment *segment;
    struct world *world;
    struct covei_lane *lane;
    uint64_t free_bytes;
};

static struct bench open_bench(void)
{
    struct bench bench = {.segment = unit_open("t")};
    bench.world = unit_object(bench.segment, "world", sizeof(struct world));
    EXPECT(0, covei_lane_get(&bench.lane, bench.segment));
    if (bench.world->old == 0)
        EXPECT(0, cove_alloc_into(bench.segment, &bench.world->old, 500));
    bench.free_bytes = unit_free_bytes(bench.segment);
    return bench;
}

static void close_bench(struct bench *bench)
{
    (void)EXPECT_GOOD(cove_recover(bench->segment));
    assert_int_equal(bench->lane->depth, 0);
    assert_int_equal(bench->lane->floor, 0);
    assert_int_equal(covei_tails_load(bench->lane->shm), 0);
    unit_sound(bench->segment);
    unit_close(bench->segment);
    unit_remove("t");
}

static void set(struct bench *bench, int index, uint64_t value)
{
    EXPECT(0, cove_save(bench->segment, &bench->world->values[index], sizeof(uint64_t)));
    bench->world->values[index] = value;
}

/* An operation that does everything that there is: changes, takes, gives, grows the journal. Undone it has done
 * nothing. */
static int operate(struct bench *bench, int result)
{
    struct world *world = bench->world;
    struct covei_join join;
    EXPECT(0, covei_join_begin(bench->lane, &join));
    for (int i = 4; i < 12; i++)
        set(bench, i, 1000);
    EXPECT(0, cove_revision_change(bench->segment, &world->revision));
    EXPECT(0, cove_alloc_into(bench->segment, &world->ref, 3000));
    void *bytes = cove_at(bench->segment, world->ref, 3000);
    EXPECT(0, cove_save(bench->segment, bytes, 3000)); /* the journal moves into the heap */
    memset(bytes, 0xee, 3000);
    EXPECT(0, cove_free_from(bench->segment, &world->old));
    cove_ref both = cove_alloc(bench->segment, 100);
    EXPECT(0, cove_free(bench->segment, both));
    set(bench, 4, 1001);
    if (result < 0)
        (void)covei_error(result, "why");
    return covei_join_end(bench->lane, &join, result);
}

static void expect_operated(const struct bench *bench, bool done)
{
    const struct world *world = bench->world;
    for (int i = 5; i < 12; i++)
        assert_int_equal(world->values[i], done ? 1000 : 0);
    assert_int_equal(world->values[4], done ? 1001 : 0);
    assert_true((world->ref != 0) == done);
    assert_true((world->old != 0) == !done);
}

static void test_join_without_a_transaction_is_one(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    assert_int_equal(operate(&bench, -ENOENT), -ENOENT);
    assert_string_equal(cove_last_error(), "why"); /* not how the abort went */
    expect_operated(&bench, false);
    assert_int_equal(bench.world->revision.word, 2);
    assert_int_equal(unit_free_bytes(bench.segment), bench.free_bytes);
    assert_int_equal(operate(&bench, 3), 3);
    expect_operated(&bench, true);
    assert_int_equal(bench.world->revision.word, 4);
    EXPECT(-EINVAL, cove_commit(bench.segment));
    close_bench(&bench);
}

static void test_join_of_its_own_frees_the_locks(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    for (int result = -1; result <= 0; result++) {
        struct covei_join join;
        (void)EXPECT_GOOD(cove_mutex_lock(bench.segment, &bench.world->other, COVE_NOWAIT));
        EXPECT(0, covei_join_begin(bench.lane, &join));
        (void)EXPECT_GOOD(cove_mutex_lock(bench.segment, &bench.world->lock, COVE_NOWAIT));
        set(&bench, 0, 7);
        assert_int_equal(covei_join_end(bench.lane, &join, result), result);
        EXPECT(-EPERM, cove_mutex_unlock(bench.segment, &bench.world->lock));
        EXPECT(0, cove_mutex_unlock(bench.segment, &bench.world->other)); /* taken before: kept */
    }
    close_bench(&bench);
}

/* What the user does around it, and how his transaction ends. */
static void around(bool fail, bool commit)
{
    struct bench bench = open_bench();
    struct world *world = bench.world;
    EXPECT(0, cove_begin(bench.segment));
    (void)EXPECT_GOOD(cove_mutex_lock(bench.segment, &world->lock, COVE_NOWAIT));
    EXPECT(0, cove_revision_change(bench.segment, &world->other_revision));
    set(&bench, 0, 1);
    set(&bench, 1, 1);
    cove_ref mine = cove_alloc(bench.segment, 200);
    uint64_t within = unit_free_bytes(bench.segment);
    assert_int_equal(operate(&bench, fail ? -EIO : 0), fail ? -EIO : 0);
    expect_operated(&bench, !fail);
    assert_int_equal(bench.lane->depth, 1);
    if (fail) { /* at once: the block is free again; the journal is as large as it got to be */
        assert_int_equal(world->revision.word, 2);
        assert_true(cove_usable_size(bench.segment, world->old) >= 500);
        uint64_t journal = bench.lane->shm->journal_block;
        assert_true(journal != 0);
        assert_int_equal(unit_free_bytes(bench.segment), within - cove_usable_size(bench.segment, journal) - 32);
    }
    assert_int_equal(world->other_revision.word, 1);
    assert_int_equal(world->values[0], 1);
    set(&bench, 1, 2); /* and it goes on */
    set(&bench, 5, fail ? 0 : 1000);
    EXPECT(-EBUSY, cove_close(bench.segment));
    EXPECT(0, commit ? cove_commit(bench.segment) : cove_abort(bench.segment));
    expect_operated(&bench, !fail && commit);
    assert_int_equal(world->values[0], commit ? 1 : 0);
    assert_int_equal(world->values[1], commit ? 2 : 0);
    assert_int_equal(world->revision.word, 2);
    assert_int_equal(world->other_revision.word, 2);
    if (commit)
        EXPECT(0, cove_free(bench.segment, mine));
    if (fail || !commit)
        assert_int_equal(unit_free_bytes(bench.segment), bench.free_bytes);
    close_bench(&bench);
}

static void test_join_is_part_of_the_users_transaction(void **state)
{
    (void)state;
    around(false, true);
    around(false, false);
}

static void test_join_that_fails_is_undone_by_itself(void **state)
{
    (void)state;
    around(true, true);
    around(true, false);
}

static void test_join_that_fails_first_leaves_the_transaction_as_it_began(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    EXPECT(0, cove_begin(bench.segment));
    assert_int_equal(operate(&bench, -EIO), -EIO);
    assert_int_equal(COVEI_TAILS_OUTER(covei_tails_load(bench.lane->shm)), 0);
    assert_int_equal(bench.lane->effects, 0);
    /* Nothing is saved, so unlocking frees. */
    (void)EXPECT_GOOD(cove_mutex_lock(bench.segment, &bench.world->lock, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(bench.segment, &bench.world->lock));
    EXPECT(-EPERM, cove_mutex_unlock(bench.segment, &bench.world->lock));
    EXPECT(0, cove_commit(bench.segment));
    assert_int_equal(unit_free_bytes(bench.segment), bench.free_bytes);
    close_bench(&bench);
}

static void test_join_nests(void **state)
{
    (void)state;
    for (int outer = -1; outer <= 0; outer++)
        for (int user = 0; user < 2; user++) {
            struct bench bench = open_bench();
            struct covei_join join;
            if (user)
                EXPECT(0, cove_begin(bench.segment));
            EXPECT(0, covei_join_begin(bench.lane, &join));
            set(&bench, 0, 5);
            assert_int_equal(operate(&bench, -EIO), -EIO);
            expect_operated(&bench, false);
            set(&bench, 1, 5);
            assert_int_equal(operate(&bench, 0), 0);
            assert_int_equal(covei_join_end(bench.lane, &join, outer), outer);
            expect_operated(&bench, outer == 0);
            assert_int_equal(bench.world->values[0], outer == 0 ? 5 : 0);
            assert_int_equal(bench.world->values[1], outer == 0 ? 5 : 0);
            if (user)
                EXPECT(0, cove_commit(bench.segment));
            assert_int_equal(bench.world->revision.word, outer == 0 || !user ? 4 : 4);
            if (outer < 0)
                assert_int_equal(unit_free_bytes(bench.segment), bench.free_bytes);
            close_bench(&bench);
        }
}

/* The user's own levels inside of an operation (a callback) nest; what is not his to end he cannot end. */
static void test_join_callback_ends_what_it_began_only(void **state)
{
    (void)state;
    for (int user = 0; user < 2; user++) {
        struct bench bench = open_bench();
        struct covei_join join;
        if (user)
            EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, covei_join_begin(bench.lane, &join));
        EXPECT_SAYS(-EBUSY, cove_commit(bench.segment), "return");
        EXPECT_SAYS(-EBUSY, cove_abort(bench.segment), "return");
        EXPECT(0, cove_begin(bench.segment));
        set(&bench, 0, 1);
        EXPECT_SAYS(-EBUSY, cove_abort(bench.segment), "return");
        EXPECT(0, cove_commit(bench.segment));
        EXPECT(-EBUSY, cove_commit(bench.segment));
        EXPECT(0, cove_begin(bench.segment)); /* and does not end it */
        EXPECT(0, covei_join_end(bench.lane, &join, 0));
        assert_int_equal(bench.lane->depth, user);
        if (user)
            EXPECT(0, cove_commit(bench.segment));
        assert_int_equal(bench.world->values[0], 1);
        EXPECT(-EINVAL, cove_commit(bench.segment));
        close_bench(&bench);
    }
}

/* The user has saved a struct with the revision inside; a failed operation has moved it on since: no undo takes it
 * back. */
static void test_join_that_fails_does_not_let_a_revision_go_back(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    world->revision.word = 10;
    EXPECT(0, cove_begin(bench.segment));
    EXPECT(0, cove_save(bench.segment, world, sizeof *world));
    EXPECT(0, cove_save(bench.segment, (char *)&world->revision + 3, 2)); /* some of its bytes */
    EXPECT(0, cove_save(bench.segment, (char *)&world->revision - 3, 8));
    struct covei_join join;
    EXPECT(0, covei_join_begin(bench.lane, &join));
    EXPECT(0, cove_save(bench.segment, world, sizeof *world));
    EXPECT(0, cove_revision_change(bench.segment, &world->revision));
    EXPECT(0, cove_save(bench.segment, world, sizeof *world));
    world->values[3] = 3;
    assert_int_equal(covei_join_end(bench.lane, &join, -1), -1);
    assert_int_equal(world->revision.word, 12);
    EXPECT(0, cove_abort(bench.segment));
    assert_int_equal(world->revision.word, 12);
    assert_int_equal(world->values[3], 0);
    close_bench(&bench);
}

static void test_join_that_fails_leaves_the_users_revision_odd(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    EXPECT(0, cove_begin(bench.segment));
    EXPECT(0, cove_revision_change(bench.segment, &world->revision));
    assert_int_equal(operate(&bench, -1), -1);
    assert_int_equal(world->revision.word, 1);
    struct covei_join join; /* recorded a second time, by force */
    EXPECT(0, covei_join_begin(bench.lane, &join));
    uint64_t newest = bench.lane->newest_revision;
    bench.lane->newest_revision = 0;
    EXPECT(0, cove_revision_change(bench.segment, &world->revision));
    assert_int_equal(bench.lane->revisions, 2);
    uint64_t *link = bench.lane->outer + bench.lane->newest_revision - 1;
    *link = newest;
    assert_int_equal(covei_join_end(bench.lane, &join, -1), -1);
    assert_int_equal(world->revision.word, 1);
    EXPECT(0, cove_commit(bench.segment));
    assert_int_equal(world->revision.word, 2);
    close_bench(&bench);
}

/* The heap's lock cannot be had: nothing is left half undone, the transaction can only be given up. */
static void test_join_that_cannot_be_undone_spoils_the_transaction(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    struct covei_join join;
    EXPECT(0, cove_begin(bench.segment));
    set(&bench, 0, 1);
    EXPECT(0, covei_join_begin(bench.lane, &join));
    set(&bench, 1, 1);
    EXPECT(0, cove_alloc_into(bench.segment, &world->ref, 100));
    for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++)
        (void)EXPECT_GOOD(cove_mutex_lock(bench.segment, &world->locks[i], COVE_NOWAIT));
    assert_int_equal(covei_join_end(bench.lane, &join, -1), -1);
    assert_int_equal(world->values[1], 0);
    EXPECT(0, cove_begin(bench.segment));
    EXPECT(0, cove_commit(bench.segment));
    EXPECT_SAYS(-ECANCELED, cove_commit(bench.segment), "anew");
    assert_int_equal(world->values[0], 0);
    assert_int_equal(world->ref, 0);
    assert_int_equal(unit_free_bytes(bench.segment), bench.free_bytes);
    for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++)
        EXPECT(-EPERM, cove_mutex_unlock(bench.segment, &world->locks[i]));
    EXPECT(0, cove_begin(bench.segment));
    set(&bench, 0, 2);
    EXPECT(0, cove_commit(bench.segment));
    assert_int_equal(world->values[0], 2);
    close_bench(&bench);
}

/* A failed operation in a loop: the journal does not get longer, nor the heap fuller. */
static void test_join_that_fails_often_takes_no_more_room(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    EXPECT(0, cove_begin(bench.segment));
    set(&bench, 0, 1);
    uint64_t tails = covei_tails_load(bench.lane->shm), once = 0;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(operate(&bench, -EIO), -EIO);
        assert_int_equal(covei_tails_load(bench.lane->shm), tails);
        once = once ? once : unit_free_bytes(bench.segment);
        assert_int_equal(unit_free_bytes(bench.segment), once);
    }
    EXPECT(0, cove_abort(bench.segment));
    assert_int_equal(unit_free_bytes(bench.segment), bench.free_bytes);
    assert_int_equal(bench.world->revision.word, 200);
    close_bench(&bench);
}

/* ---- killed while the part is undone */

/* Kill after walk 1 and so many records of walk 2. 0: before both. */
static void die_undoing(void *argument)
{
    int records = *(int *)argument;
    struct bench bench = open_bench();
    EXPECT(0, cove_begin(bench.segment));
    (void)EXPECT_GOOD(cove_mutex_lock(bench.segment, &bench.world->lock, COVE_FOREVER));
    EXPECT(0, cove_save(bench.segment, bench.world, sizeof *bench.world));
    set(&bench, 0, 1);
    set(&bench, 4, 1);
    uint64_t from = COVEI_TAILS_OUTER(covei_tails_load(bench.lane->shm));
    struct covei_lane_shm *shm = bench.lane->shm;
    struct covei_join join;
    EXPECT(0, covei_join_begin(bench.lane, &join));
    assert_int_equal(operate(&bench, 0), 0);
    if (records > 0) {
        (void)covei_outer_undo(bench.segment, shm, from);
        EXPECT(0, covei_settle_lock(bench.lane));
        for (int i = 1; i < records && COVEI_TAILS_OUTER(covei_tails_load(shm)) > from; i++) {
            struct covei_entry entry;
            uint64_t end = COVEI_TAILS_OUTER(covei_tails_load(shm));
            assert_true(covei_outer_read(bench.segment, shm, end, &entry));
            covei_settle_records(bench.lane, shm, end - entry.units);
        }
    }
    testing_reach((unsigned)records);
    unit_wait_for_death();
}

static void test_join_killed_while_it_is_undone_is_undone_with_all(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    for (int records = 0; records < 24; records++) {
        pid_t pid = testing_spawn(die_undoing, &records);
        testing_await((unsigned)records);
        testing_kill(pid);
        EXPECT(COVE_RECOVERED, cove_mutex_lock(bench.segment, &bench.world->lock, unit_patience()));
        expect_operated(&bench, false);
        assert_int_equal(bench.world->values[0], 0);
        assert_int_equal(bench.world->revision.word % 2, 0);
        assert_true(bench.world->revision.word >= 2 * (uint64_t)(records + 1));
        EXPECT(0, cove_mutex_unlock(bench.segment, &bench.world->lock));
        (void)EXPECT_GOOD(cove_recover(bench.segment));
        assert_int_equal(unit_free_bytes(bench.segment), bench.free_bytes);
        unit_sound(bench.segment);
    }
    close_bench(&bench);
}

static const struct testing_case tests[] = {
    TEST(test_join_without_a_transaction_is_one),
    TEST(test_join_of_its_own_frees_the_locks),
    TEST(test_join_is_part_of_the_users_transaction),
    TEST(test_join_that_fails_is_undone_by_itself),
    TEST(test_join_that_fails_first_leaves_the_transaction_as_it_began),
    TEST(test_join_nests),
    TEST(test_join_callback_ends_what_it_began_only),
    TEST(test_join_that_fails_does_not_let_a_revision_go_back),
    TEST(test_join_that_fails_leaves_the_users_revision_odd),
    TEST(test_join_that_cannot_be_undone_spoils_the_transaction),
    TEST(test_join_that_fails_often_takes_no_more_room),
    TEST(test_join_killed_while_it_is_undone_is_undone_with_all),
};

int main(void)
{
    return testing_run("transaction join", tests);
}
