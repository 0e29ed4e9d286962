/* test_marks.c - what is held by standing in a lane: counted, watched, taken back from the dead, and never believed blindly.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "actors.h"

#include "sync/sync.h"

#include <cove/barrier.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>

struct board {
    cove_rwlock rwlock;
    cove_semaphore semaphore;
    cove_barrier barrier;
};

static cove_segment *segment;
static struct board *board;
static struct covei_lane *lane;

static void begin(void)
{
    segment = unit_open("t");
    board = unit_object(segment, "b", sizeof *board);
    EXPECT(0, covei_lane_get(&lane, segment));
}

static void end(void)
{
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static uint64_t held_of(enum covei_held kind, const void *thing)
{
    return COVEI_HELD(kind, covei_offset(segment, thing));
}

/* I3 of lane_shm.h, exactly: no lane says that it has more marks than it has. */
static void assert_counted(void)
{
    for (uint32_t i = 0; i < atomic_load(&segment->header->lanes_ready); i++) {
        uint32_t marks = 0;
        for (uint32_t place = 0; place < COVEI_LANE_LOCKS; place++)
            marks += COVEI_HELD_KIND(atomic_load(&segment->lanes[i].held[place])) != COVEI_HELD_WORD;
        assert_int_equal(atomic_load(&segment->lanes[i].marks), marks);
        if (atomic_load(&segment->owners[i]) == 0)
            assert_int_equal(marks, 0);
    }
}

/* ---- of this thread */

static void test_marks_are_set_and_cleared(void **state)
{
    (void)state;
    begin();
    static const enum covei_held kinds[] = {COVEI_HELD_SHARED, COVEI_HELD_PERMIT, COVEI_HELD_PARTY};
    uint32_t places[COVEI_LANE_LOCKS];
    for (int k = 0; k < 3; k++) {
        uint64_t held = held_of(kinds[k], &board->semaphore);
        for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++) {
            places[i] = covei_mark_set(lane, held);
            assert_true(places[i] < COVEI_LANE_LOCKS);
            assert_int_equal(atomic_load(&lane->shm->held[places[i]]), held);
            assert_counted();
        }
        unit_forget();
        assert_int_equal(covei_mark_set(lane, held), COVEI_LANE_LOCKS);
        assert_non_null(strstr(cove_last_error(), "32 locks"));
        assert_int_equal(covei_marks_count(segment, held, COVEI_NO_LANE, NULL), COVEI_LANE_LOCKS);
        assert_int_equal(covei_marks_count(segment, held, lane->id - 1, NULL), 0); /* others' */
        for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++) {
            covei_mark_clear(lane, places[i]);
            assert_counted();
        }
        assert_false(covei_lane_holds(lane->shm));
    }
    end();
}

/* Locks, read locks, permits and memberships share the 32 places of a thread. */
static void test_marks_and_locks_share_the_places(void **state)
{
    (void)state;
    begin();
    cove_mutex *locks = unit_object(segment, "locks", 32 * sizeof *locks);
    cove_barrier *barriers = unit_object(segment, "barriers", 32 * sizeof *barriers);
    EXPECT(0, cove_semaphore_post(segment, &board->semaphore, 100));
    for (int i = 0; i < 8; i++) {
        EXPECT(0, cove_mutex_lock(segment, &locks[i], COVE_NOWAIT));
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->rwlock, COVE_NOWAIT));
        EXPECT(0, cove_semaphore_acquire(segment, &board->semaphore, COVE_NOWAIT));
        EXPECT(-EBUSY, cove_barrier_wait(segment, &barriers[i], 2, COVE_NOWAIT));
        assert_counted();
    }
    EXPECT(-ENOLCK, cove_mutex_lock(segment, &locks[8], COVE_NOWAIT));
    EXPECT(-ENOLCK, cove_rwlock_lock_shared(segment, &board->rwlock, COVE_NOWAIT));
    EXPECT(-ENOLCK, cove_semaphore_acquire(segment, &board->semaphore, COVE_NOWAIT));
    EXPECT(-ENOLCK, cove_barrier_wait(segment, &barriers[8], 2, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_wait(segment, &board->semaphore, COVE_NOWAIT)); /* a plain one takes none */
    for (int i = 7; i >= 0; i--) {
        EXPECT(0, cove_barrier_leave(segment, &barriers[i]));
        EXPECT(0, cove_semaphore_release(segment, &board->semaphore));
        EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
        EXPECT(0, cove_mutex_unlock(segment, &locks[i]));
        assert_counted();
    }
    assert_false(covei_lane_holds(lane->shm));
    end();
}

/* Kind and offset count, and nothing else: not the epoch of a membership. */
static void test_marks_of_another_kind_or_thing_do_not_count(void **state)
{
    (void)state;
    begin();
    uint64_t shared = held_of(COVEI_HELD_SHARED, &board->rwlock), permit = held_of(COVEI_HELD_PERMIT, &board->rwlock);
    uint64_t party = held_of(COVEI_HELD_PARTY, &board->barrier), other = held_of(COVEI_HELD_SHARED, &board->barrier);
    uint32_t places[6] = {covei_mark_set(lane, shared),
                          covei_mark_set(lane, shared),
                          covei_mark_set(lane, permit),
                          covei_mark_set(lane, party | UINT64_C(1) << 48),
                          covei_mark_set(lane, party | UINT64_C(0xffff) << 48),
                          covei_mark_set(lane, party)};
    assert_int_equal(covei_marks_count(segment, shared, COVEI_NO_LANE, NULL), 2);
    assert_int_equal(covei_marks_count(segment, permit, COVEI_NO_LANE, NULL), 1);
    assert_int_equal(covei_marks_count(segment, party, COVEI_NO_LANE, NULL), 3);
    assert_int_equal(covei_marks_count(segment, other, COVEI_NO_LANE, NULL), 0);
    struct covei_watch watch = {.count = 0};
    assert_int_equal(covei_marks_count(segment, party, COVEI_NO_LANE, &watch), 3);
    assert_int_equal(watch.count, 1); /* a lane is watched once */
    assert_int_equal(watch.lanes[0], lane->id - 1);
    assert_false(watch.more);
    for (int i = 0; i < 6; i++)
        covei_mark_clear(lane, places[i]);
    assert_counted();
    end();
}

/* ---- of others */

enum { MARKED = 0, MAY_GO = 1 };

static void mark_and_stay(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = unit_object(own, "b", sizeof *mine);
    struct covei_lane *my_lane = NULL;
    EXPECT(0, covei_lane_get(&my_lane, own));
    EXPECT(0, cove_rwlock_lock_shared(own, &mine->rwlock, COVE_FOREVER));
    EXPECT(0, cove_rwlock_lock_shared(own, &mine->rwlock, COVE_FOREVER));
    EXPECT(0, cove_semaphore_post(own, &mine->semaphore, 1));
    EXPECT(0, cove_semaphore_acquire(own, &mine->semaphore, COVE_FOREVER));
    EXPECT(-EBUSY, cove_barrier_wait(own, &mine->barrier, 100, COVE_NOWAIT));
    testing_reach(MARKED);
    testing_await(MAY_GO);
    EXPECT(0, cove_rwlock_unlock(own, &mine->rwlock));
    EXPECT(0, cove_rwlock_unlock(own, &mine->rwlock));
    EXPECT(0, cove_semaphore_release(own, &mine->semaphore));
    EXPECT(0, cove_barrier_leave(own, &mine->barrier));
}

static void test_marks_of_the_dead_are_buried_those_of_the_living_stay(void **state)
{
    (void)state;
    begin();
    uint64_t shared = held_of(COVEI_HELD_SHARED, &board->rwlock);
    uint64_t permit = held_of(COVEI_HELD_PERMIT, &board->semaphore);
    uint64_t party = held_of(COVEI_HELD_PARTY, &board->barrier);
    struct actor living = actor_start(true, segment, mark_and_stay, NULL), actors[11];
    struct actor stopped = actor_start(true, segment, mark_and_stay, NULL);
    for (int i = 0; i < 11; i++)
        actors[i] = actor_start(true, segment, mark_and_stay, NULL);
    testing_await_count(MARKED, 13);
    actor_stop(&stopped);
    assert_int_equal(covei_marks_count(segment, shared, COVEI_NO_LANE, NULL), 26);
    struct covei_watch watch = {.count = 0};
    assert_int_equal(covei_marks_count(segment, permit, COVEI_NO_LANE, &watch), 13);
    assert_int_equal(watch.count, COVEI_PARKS_MAX - 2);
    assert_true(watch.more);
    assert_int_equal(covei_marks_count(segment, party, lane->id - 1, NULL), 13);
    assert_false(covei_marks_bury(lane, shared)); /* all live */
    for (int i = 0; i < 11; i++)
        testing_kill(actors[i].pid);
    assert_int_equal(covei_marks_count(segment, shared, COVEI_NO_LANE, NULL), 26); /* until somebody looks */
    assert_true(covei_marks_bury(lane, shared)); /* all that they had, whatever it was asked for */
    assert_false(covei_marks_bury(lane, shared));
    assert_int_equal(covei_marks_count(segment, shared, COVEI_NO_LANE, NULL), 4);
    assert_int_equal(covei_marks_count(segment, permit, COVEI_NO_LANE, NULL), 2);
    assert_int_equal(covei_marks_count(segment, party, COVEI_NO_LANE, NULL), 2);
    assert_counted();
    EXPECT(11, cove_semaphore_value(segment, &board->semaphore));
    EXPECT(COVE_EPEER, cove_barrier_wait(segment, &board->barrier, 100, COVE_NOWAIT));
    EXPECT(0, cove_barrier_leave(segment, &board->barrier));
    testing_reach(MAY_GO);
    actor_continue(&stopped);
    actor_join(&living);
    actor_join(&stopped);
    assert_counted();
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

/* Aborts, commits and ends of threads count exactly, too. */
static void *mark_in_a_transaction(void *argument)
{
    uintptr_t how = (uintptr_t)argument;
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->rwlock, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_acquire(segment, &board->semaphore, COVE_NOWAIT));
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->rwlock, COVE_NOWAIT));
    cove_ref block = cove_alloc(segment, 64);
    EXPECT(0, cove_save(segment, cove_at(segment, block, 64), 64));
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->rwlock, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
    if (how == 0)
        EXPECT(0, cove_commit(segment));
    if (how == 1)
        EXPECT(0, cove_abort(segment));
    assert_int_equal(atomic_load(&covei_thread.shm->marks), how == 2 ? 4 : 2);
    if (how < 2) {
        EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
        EXPECT(0, cove_semaphore_release(segment, &board->semaphore));
        assert_int_equal(atomic_load(&covei_thread.shm->marks), 0);
        if (how == 0)
            EXPECT(0, cove_free(segment, block));
    }
    return NULL; /* 2: in the middle of it */
}

static void test_marks_are_counted_exactly_through_transactions(void **state)
{
    (void)state;
    begin();
    EXPECT(0, cove_semaphore_post(segment, &board->semaphore, 1));
    for (int round = 0; round < 5; round++)
        for (uintptr_t how = 0; how < 3; how++) {
            unit_in_thread(mark_in_a_transaction, (void *)how);
            assert_counted();
            EXPECT(1, cove_semaphore_value(segment, &board->semaphore));
            EXPECT(0, cove_rwlock_lock(segment, &board->rwlock, COVE_NOWAIT));
            EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
        }
    end();
}

/* ---- at the very end of the segment's memory */

static void mark_at_the_end(cove_segment *own, void *argument)
{
    uint64_t offset = *(uint64_t *)argument;
    EXPECT(-EBUSY, cove_barrier_wait(own, covei_address(own, offset), 2, COVE_NOWAIT));
    testing_reach(MARKED);
    unit_wait_for_death();
}

static void test_marks_of_things_at_the_segments_end_are_told_of(void **state)
{
    (void)state;
    begin();
    uint64_t *offset = testing_shared(sizeof *offset), kept[2];
    *offset = atomic_load(&segment->header->size_bytes) - sizeof(cove_barrier);
    cove_barrier *barrier = covei_address(segment, *offset); /* in free memory: put back below */
    memcpy(kept, barrier, sizeof kept);
    memset(barrier, 0, sizeof *barrier);
    EXPECT(-EBUSY, cove_barrier_wait(segment, barrier, 2, COVE_NOWAIT));
    struct actor actor = actor_start(true, segment, mark_at_the_end, offset);
    testing_await(MARKED);
    testing_kill(actor.pid);
    EXPECT(COVE_EPEER, cove_barrier_wait(segment, barrier, 2, unit_patience()));
    EXPECT(0, cove_barrier_leave(segment, barrier));
    memcpy(barrier, kept, sizeof kept);
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

/* ---- written over */

static void test_marks_that_make_no_sense_are_passed_over(void **state)
{
    (void)state;
    begin();
    struct board before = *board;
    uint64_t size = atomic_load(&segment->header->size_bytes);
    const uint64_t offsets[] = {0,    8,        segment->heap_at - 8,  size - 8,
                                size, size + 8, segment->mapped_bytes, COVEI_HELD_OFFSET(UINT64_MAX)};
    for (uint64_t kind = 0; kind < 8; kind++)
        for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
            covei_marks_gone(segment, offsets[i] | kind, false);
            covei_marks_gone(segment, offsets[i] | kind | UINT64_C(7) << 48, true);
        }
    for (uint64_t kind = 4; kind < 8; kind++)
        covei_marks_gone(segment, covei_offset(segment, board) | kind, true);
    assert_memory_equal(&before, board, sizeof before);
    end();
}

/* A dead lane whose places were written over is recovered all the same. */
static void die_with_nonsense(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = unit_object(own, "b", sizeof *mine);
    EXPECT(0, cove_rwlock_lock_shared(own, &mine->rwlock, COVE_NOWAIT));
    static const uint64_t nonsense[] = {1, 2, 3, 5, 7, UINT64_MAX, UINT64_C(0xffff000000000003), 0x1001, 0x1003};
    for (unsigned i = 0; i < sizeof nonsense / sizeof *nonsense; i++)
        atomic_store(&covei_thread.shm->held[10 + i], nonsense[i]);
    atomic_store(&covei_thread.shm->marks, UINT32_MAX);
    testing_reach(MARKED);
    unit_wait_for_death();
}

static void test_marks_of_a_scribbled_dead_lane_go(void **state)
{
    (void)state;
    begin();
    struct actor actor = actor_start(true, segment, die_with_nonsense, NULL);
    testing_await(MARKED);
    testing_kill(actor.pid);
    EXPECT(0, cove_rwlock_lock(segment, &board->rwlock, unit_patience()));
    EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(unit_stat(segment).members_dead, 0);
    assert_counted();
    end();
}

static const struct testing_case tests[] = {
    TEST(test_marks_are_set_and_cleared),
    TEST(test_marks_and_locks_share_the_places),
    TEST(test_marks_of_another_kind_or_thing_do_not_count),
    TEST(test_marks_of_the_dead_are_buried_those_of_the_living_stay),
    TEST(test_marks_are_counted_exactly_through_transactions),
    TEST(test_marks_of_things_at_the_segments_end_are_told_of),
    TEST(test_marks_that_make_no_sense_are_passed_over),
    TEST(test_marks_of_a_scribbled_dead_lane_go),
};

int main(void)
{
    return testing_run("marks", tests);
}
