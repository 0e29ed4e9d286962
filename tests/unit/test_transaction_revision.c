/* test_transaction_revision.c - revisions: readers without a lock are never given half a change, whoever dies where.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "unit.h"

#include "heap/join.h"

#include <cove/revision.h>

#define THINGS 80 /* more than a change looks back at */

struct thing {
    cove_mutex lock;
    cove_revision revision;
    uint64_t value;
};

struct world {
    struct thing things[THINGS];
};

static struct world *open_world(cove_segment **segment)
{
    *segment = unit_open("t");
    return unit_object(*segment, "world", sizeof(struct world));
}

static void close_world(cove_segment *segment)
{
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct covei_lane *own_lane(cove_segment *segment)
{
    struct covei_lane *lane = NULL;
    EXPECT(0, covei_lane_get(&lane, segment));
    return lane;
}

/* Lock, say so, save, change: inside a transaction. */
static void change(cove_segment *segment, struct thing *thing, uint64_t value)
{
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &thing->lock, COVE_FOREVER));
    EXPECT(0, cove_revision_change(segment, &thing->revision));
    EXPECT(0, cove_save(segment, &thing->value, sizeof thing->value));
    thing->value = value;
}

static void relock(cove_segment *segment, struct thing *thing, int expected)
{
    EXPECT(expected, cove_mutex_lock(segment, &thing->lock, unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, &thing->lock));
}

/* ---- living */

static void test_revision_commit_moves_it_on(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *thing = open_world(&segment)->things;
    uint64_t seen = cove_revision_read(segment, &thing->revision);
    assert_int_equal(seen, 0); /* all zero is ready */
    assert_int_equal(cove_revision_same(&thing->revision, seen), 1);
    EXPECT(0, cove_begin(segment));
    change(segment, thing, 5);
    assert_int_equal(cove_revision_same(&thing->revision, seen), 0);
    uint64_t odd = cove_revision_read(NULL, &thing->revision); /* does not wait */
    assert_int_equal(odd, 1);
    assert_int_equal(cove_revision_same(&thing->revision, odd), 0);
    EXPECT(0, cove_commit(segment));
    assert_int_equal(cove_revision_read(segment, &thing->revision), 2);
    assert_int_equal(cove_revision_same(&thing->revision, seen), 0);
    assert_int_equal(thing->value, 5);
    close_world(segment);
}

static void test_revision_abort_moves_it_on(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *thing = open_world(&segment)->things;
    EXPECT(0, cove_begin(segment));
    change(segment, thing, 5);
    EXPECT(0, cove_abort(segment));
    assert_int_equal(thing->value, 0);
    assert_int_equal(thing->revision.word, 2);
    relock(segment, thing, 0);
    close_world(segment);
}

static void test_revision_said_again_is_recorded_once(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *thing = open_world(&segment)->things;
    EXPECT(0, cove_begin(segment));
    change(segment, thing, 5);
    EXPECT(0, cove_begin(segment)); /* an inner level is the same transaction */
    uint64_t tails = covei_tails_load(own_lane(segment)->shm);
    for (int i = 0; i < 1000; i++)
        EXPECT(0, cove_revision_change(segment, &thing->revision));
    assert_int_equal(covei_tails_load(own_lane(segment)->shm), tails);
    EXPECT(0, cove_commit(segment));
    assert_int_equal(thing->revision.word, 1); /* not before the outermost */
    EXPECT(0, cove_commit(segment));
    assert_int_equal(thing->revision.word, 2);
    close_world(segment);
}

static void test_revision_errors_are_told(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *thing = open_world(&segment)->things;
    cove_revision outside = {0};
    EXPECT(-EINVAL, cove_revision_change(segment, &thing->revision)); /* no transaction */
    EXPECT(-EINVAL, cove_revision_change(NULL, &thing->revision));
    EXPECT(0, cove_begin(segment));
    EXPECT(-EINVAL, cove_revision_change(segment, &outside));
    EXPECT(-EINVAL, cove_revision_change(segment, NULL));
    EXPECT(-EINVAL, cove_revision_change(segment, (cove_revision *)(void *)((char *)&thing->revision + 4)));
    EXPECT(0, cove_commit(segment));
    cove_segment *onlooker = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    EXPECT(-EPERM, cove_revision_change(onlooker, &thing->revision));
    assert_int_equal(cove_revision_read(onlooker, &thing->revision), 0);
    unit_close(onlooker);
    close_world(segment);
}

/* With many of them, changed in turn; and they lie among the bytes that are saved. The journal moves meanwhile. */
static void change_many(cove_segment *segment, struct world *world, bool commit)
{
    uint64_t before = unit_free_bytes(segment);
    EXPECT(0, cove_begin(segment));
    for (int i = 0; i < THINGS; i += 3)
        EXPECT(0, cove_save(segment, &world->things[i], sizeof world->things[i]));
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < THINGS; i++) {
            EXPECT(0, cove_revision_change(segment, &world->things[i].revision));
            EXPECT(0, cove_save(segment, (char *)&world->things[i].revision + 4, 12)); /* half of it, too */
            world->things[i].value += 1;
        }
    for (int i = 0; i < THINGS; i++)
        assert_int_equal(world->things[i].revision.word % 2, 1);
    EXPECT(0, commit ? cove_commit(segment) : cove_abort(segment));
    assert_int_equal(unit_free_bytes(segment), before);
}

static void test_revision_many_in_one_transaction(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct world *world = open_world(&segment);
    change_many(segment, world, false);
    change_many(segment, world, true);
    change_many(segment, world, false);
    for (int i = 0; i < THINGS; i++) {
        assert_int_equal(world->things[i].value, 3);
        assert_int_equal(world->things[i].revision.word, 6);
    }
    close_world(segment);
}

static void test_revision_too_many_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    (void)open_world(&segment);
    size_t count = COVEI_REVISIONS_MAX + 1;
    cove_ref ref = cove_alloc(segment, count * sizeof(cove_revision));
    cove_revision *revisions = cove_at(segment, ref, count * sizeof(cove_revision));
    memset(revisions, 0, count * sizeof(cove_revision));
    EXPECT(0, cove_begin(segment));
    for (size_t i = 0; i + 1 < count; i++)
        if (cove_revision_change(segment, &revisions[i]) != 0)
            fail_msg("revision %zu: %s", i, cove_last_error());
    EXPECT(-E2BIG, cove_revision_change(segment, &revisions[count - 1]));
    EXPECT(0, cove_revision_change(segment, &revisions[count - 2]));
    EXPECT(0, cove_commit(segment));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(revisions[i].word, i + 1 < count ? 2 : 0);
    EXPECT(0, cove_free(segment, ref));
    close_world(segment);
}

/* One that was left odd, by a scribbler, is mended by the next transaction. */
static void test_revision_left_odd_is_mended(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *thing = open_world(&segment)->things;
    thing->revision.word = 7;
    EXPECT(0, cove_begin(segment));
    change(segment, thing, 1);
    EXPECT(0, cove_commit(segment));
    assert_int_equal(thing->revision.word, 8);
    close_world(segment);
}

static void test_revision_in_a_block_that_goes_with_the_transaction(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    (void)open_world(&segment);
    uint64_t before = unit_free_bytes(segment);
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_begin(segment));
        cove_ref ref = cove_alloc(segment, 64);
        cove_revision *revision = cove_at(segment, ref, 64);
        memset(revision, 0, 64);
        EXPECT(0, cove_revision_change(segment, revision));
        if (commit)
            EXPECT(0, cove_free(segment, ref));
        EXPECT(0, commit ? cove_commit(segment) : cove_abort(segment));
        assert_int_equal(unit_free_bytes(segment), before);
    }
    close_world(segment);
}

/* ---- killed */

/* How far a transaction that changes the first three things has come when its process is killed. */
enum { STAGES = 9, CHANGED = 3 };

static void die_at(void *argument)
{
    int stage = *(int *)argument;
    cove_segment *segment = NULL;
    struct thing *things = open_world(&segment)->things;
    struct covei_lane *lane = own_lane(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, &things[0], sizeof things[0])); /* with its revision inside */
    for (int i = 0; i < CHANGED; i++)
        change(segment, &things[i], 77);
    uint64_t newest = lane->newest_revision;
    if (stage == 1) { /* recorded, and not odd yet */
        (void)EXPECT_GOOD(cove_mutex_lock(segment, &things[CHANGED].lock, COVE_FOREVER));
        EXPECT(0, cove_revision_change(segment, &things[CHANGED].revision));
        things[CHANGED].revision.word = 0;
    }
    if (stage >= 2 && stage <= 4) { /* committed, with so many revisions even already */
        covei_tails_set_phase(lane->shm, COVEI_PHASE_COMMITTING);
        for (int i = 0; i < stage - 2; i++)
            covei_revision_step(segment, covei_offset(segment, &things[CHANGED - 1 - i].revision), false);
    }
    if (stage == 5) { /* committed, all even */
        covei_tails_set_phase(lane->shm, COVEI_PHASE_COMMITTING);
        covei_revisions_settle(segment, lane->shm, newest);
    }
    if (stage >= 6) /* being undone, as by a recoverer that is killed in the middle */
        (void)covei_outer_undo(segment, lane->shm, 0);
    if (stage >= 7)
        covei_tails_set_phase(lane->shm, COVEI_PHASE_RESTORED);
    if (stage == 8)
        covei_revision_step(segment, covei_offset(segment, &things[1].revision), false);
    assert_null(covei_journal_check(segment, lane->shm));
    testing_reach((unsigned)stage);
    unit_wait_for_death();
}

static void check_after(cove_segment *segment, struct thing *things, int stage, uint64_t base)
{
    bool committed = stage >= 2 && stage <= 5;
    for (int i = 0; i < CHANGED; i++) {
        relock(segment, &things[i], COVE_RECOVERED); /* its holder died, whatever became of the transaction */
        assert_int_equal(things[i].value, committed ? 77 : 0);
        assert_int_equal(things[i].revision.word, base + 2);
        things[i].value = 0;
    }
    assert_int_equal(things[CHANGED].revision.word, stage == 0 ? 0 : 2); /* not 1, nor back to 0 */
    relock(segment, &things[CHANGED], stage == 1 ? COVE_RECOVERED : 0);
}

static void test_revision_killed_at_each_stage_ends_even(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *things = open_world(&segment)->things;
    uint64_t before = 0;
    for (int stage = 0; stage < STAGES; stage++) {
        pid_t pid = testing_spawn(die_at, &stage);
        testing_await((unsigned)stage);
        uint64_t base = (uint64_t)stage * 2;
        testing_kill(pid);
        check_after(segment, things, stage, base);
        (void)EXPECT_GOOD(cove_recover(segment));
        unit_sound(segment);
        if (stage > 0)
            assert_int_equal(unit_free_bytes(segment), before);
        before = unit_free_bytes(segment);
    }
    close_world(segment);
}

/* Nobody comes for the lock: the reader itself has the dead one recovered. */
static void test_revision_reader_recovers_a_dead_writer(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *things = open_world(&segment)->things;
    int stage = 0;
    pid_t pid = testing_spawn(die_at, &stage);
    testing_await(0);
    uint64_t seen = cove_revision_read(segment, &things[0].revision); /* alive: comes back, odd */
    assert_int_equal(seen, 1);
    assert_int_equal(things[0].value, 77);
    testing_kill(pid);
    int64_t begun = unit_now();
    seen = cove_revision_read(segment, &things[0].revision);
    assert_true(unit_now() - begun < unit_patience());
    assert_int_equal(seen, 2);
    assert_int_equal(things[0].value, 0);
    assert_int_equal(cove_revision_same(&things[0].revision, seen), 1);
    for (int i = 0; i < CHANGED; i++)
        relock(segment, &things[i], COVE_RECOVERED);
    close_world(segment);
}

static void *change_and_end(void *argument)
{
    cove_segment *segment = argument;
    struct thing *things = unit_object(segment, "world", sizeof(struct world));
    EXPECT(0, cove_begin(segment));
    change(segment, &things[0], 9);
    return NULL;
}

static void test_revision_of_a_thread_that_ends_is_rolled_back(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct thing *things = open_world(&segment)->things;
    unit_in_thread(change_and_end, segment);
    assert_int_equal(cove_revision_read(segment, &things[0].revision), 2);
    assert_int_equal(things[0].value, 0);
    relock(segment, &things[0], COVE_RECOVERED);
    close_world(segment);
}

/* ---- under fire */

/* Two values that are always the same, seen from outside; writers commit, abort, and are killed. */
struct pair {
    cove_mutex lock;
    uint64_t one;
    cove_revision revision;
    uint64_t two;
};

static struct pair *open_pair(cove_segment **segment)
{
    *segment = unit_open("t");
    return unit_object(*segment, "pair", sizeof(struct pair));
}

static uint64_t load(uint64_t *value)
{
    return atomic_load_explicit((_Atomic uint64_t *)(void *)value, memory_order_relaxed);
}

static void store(uint64_t *value, uint64_t now)
{
    atomic_store_explicit((_Atomic uint64_t *)(void *)value, now, memory_order_relaxed);
}

static void write_for_ever(void *argument)
{
    (void)argument;
    cove_segment *segment = NULL;
    struct pair *pair = open_pair(&segment);
    for (uint64_t i = 1;; i++) {
        EXPECT(0, cove_begin(segment));
        (void)EXPECT_GOOD(cove_mutex_lock(segment, &pair->lock, COVE_FOREVER));
        if (i % 3 == 0)
            EXPECT(0, cove_save(segment, pair, sizeof *pair));
        EXPECT(0, cove_revision_change(segment, &pair->revision));
        EXPECT(0, cove_save(segment, &pair->one, sizeof pair->one));
        EXPECT(0, cove_save(segment, &pair->two, sizeof pair->two));
        store(&pair->one, pair->one + i);
        store(&pair->two, pair->two + i);
        EXPECT(0, i % 4 == 1 ? cove_abort(segment) : cove_commit(segment));
    }
}

static void test_revision_readers_see_whole_changes_only(void **state)
{
    (void)state;
    cove_segment *segment = NULL;
    struct pair *pair = open_pair(&segment);
    unsigned kills = 0, wanted = testing_scale() > 1 ? 2 : 20;
    uint64_t last = 0, distinct = 0;
    pid_t pid = testing_spawn(write_for_ever, NULL);
    while (kills < wanted) {
        uint64_t seen = cove_revision_read(segment, &pair->revision);
        uint64_t one = load(&pair->one), two = load(&pair->two);
        if (!cove_revision_same(&pair->revision, seen))
            continue;
        if (one != two)
            fail_msg("revision %" PRIu64 ": %" PRIu64 " is not %" PRIu64, seen, one, two);
        assert_true(seen >= last);
        distinct += seen != last;
        last = seen;
        if (distinct > 100) {
            distinct = 0;
            testing_kill(pid);
            kills++;
            pid = kills < wanted ? testing_spawn(write_for_ever, NULL) : 0;
        }
    }
    close_world(segment);
}

static const struct testing_case tests[] = {
    TEST(test_revision_commit_moves_it_on),
    TEST(test_revision_abort_moves_it_on),
    TEST(test_revision_said_again_is_recorded_once),
    TEST(test_revision_errors_are_told),
    TEST(test_revision_many_in_one_transaction),
    TEST(test_revision_too_many_are_refused),
    TEST(test_revision_left_odd_is_mended),
    TEST(test_revision_in_a_block_that_goes_with_the_transaction),
    TEST(test_revision_killed_at_each_stage_ends_even),
    TEST(test_revision_reader_recovers_a_dead_writer),
    TEST(test_revision_of_a_thread_that_ends_is_rolled_back),
    TEST_TIMEOUT(test_revision_readers_see_whole_changes_only, 30),
};

int main(void)
{
    return testing_run("transaction revision", tests);
}
