/* test_rwlock.c - many read, or one writes: who is let in, who waits for whom, and that nobody starves.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "rwlock_board.h"

/* ---- results */

static void lock_in_each_way(void)
{
    cove_rwlock *lock = &board->lock;
    EXPECT(-EPERM, cove_rwlock_unlock(segment, lock));
    for (int i = 0; i < 3; i++) {
        int64_t timeout = (int64_t[]){COVE_NOWAIT, UNIT_MS, COVE_FOREVER}[i];
        EXPECT(0, cove_rwlock_lock_shared(segment, lock, timeout));
        EXPECT(0, cove_rwlock_unlock(segment, lock));
        EXPECT(-EPERM, cove_rwlock_unlock(segment, lock));
        EXPECT(0, cove_rwlock_lock(segment, lock, timeout));
        EXPECT_SAYS(-EDEADLK, cove_rwlock_lock(segment, lock, timeout), "holds the lock");
        EXPECT_SAYS(-EDEADLK, cove_rwlock_lock_shared(segment, lock, timeout), "holds the lock");
        EXPECT(0, cove_rwlock_unlock(segment, lock));
        EXPECT(-EPERM, cove_rwlock_unlock(segment, lock));
        EXPECT(0, cove_rwlock_lock_shared(segment, lock, timeout));
        EXPECT_SAYS(-EDEADLK, cove_rwlock_lock(segment, lock, timeout), "reads under the lock");
        EXPECT(0, cove_rwlock_lock_shared(segment, lock, timeout)); /* it may do so again */
        EXPECT(0, cove_rwlock_unlock(segment, lock));
        EXPECT_SAYS(-EDEADLK, cove_rwlock_lock(segment, lock, timeout), "reads under the lock");
        EXPECT(0, cove_rwlock_unlock(segment, lock));
        EXPECT(-EPERM, cove_rwlock_unlock(segment, lock));
    }
    assert_int_equal(lock->waits, 0);
    assert_int_equal(lock->word & UINT32_MAX, 0);
}

static void test_rwlock_results(void **state)
{
    (void)state;
    begin();
    lock_in_each_way();
    EXPECT(0, cove_mutex_lock(segment, &board->mutex, COVE_NOWAIT)); /* in the first place: the short paths do not go */
    lock_in_each_way();
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &board->mutex));
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* now in the first */
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    EXPECT(0, cove_begin(segment));
    lock_in_each_way(); /* nothing saved: as outside */
    EXPECT(0, cove_commit(segment));
    cove_rwlock outside = {0};
    cove_rwlock *bad[] = {NULL, &outside, (cove_rwlock *)(void *)((char *)&board->lock + 4),
                          (cove_rwlock *)(void *)segment->base};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(-EINVAL, cove_rwlock_lock(segment, bad[i], COVE_NOWAIT));
        EXPECT(-EINVAL, cove_rwlock_lock_shared(segment, bad[i], COVE_NOWAIT));
        EXPECT(-EINVAL, cove_rwlock_unlock(segment, bad[i]));
    }
    EXPECT(0, cove_rwlock_lock_shared(NULL, &board->lock, COVE_NOWAIT)); /* by the address */
    EXPECT(0, cove_rwlock_unlock(NULL, &board->lock));
    end();
}

/* ---- places */

static void test_rwlock_limit_of_32_is_told(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 32; i++)
        EXPECT(0, cove_rwlock_lock_shared(segment, i % 2 ? &board->lock : &board->others[i], COVE_NOWAIT));
    EXPECT_SAYS(-ENOLCK, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT), "32 locks");
    EXPECT_SAYS(-ENOLCK, cove_rwlock_lock_shared(segment, &board->others[39], COVE_FOREVER), "32 locks");
    EXPECT_SAYS(-ENOLCK, cove_rwlock_lock(segment, &board->others[39], COVE_FOREVER), "32 locks");
    EXPECT(-ENOLCK, cove_mutex_lock(segment, &board->mutex, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    EXPECT(0, cove_rwlock_lock(segment, &board->others[39], COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->others[39]));
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* the 16th time */
    for (int i = 31; i >= 0; i--)
        EXPECT(0, cove_rwlock_unlock(segment, i % 2 ? &board->lock : &board->others[i]));
    EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock));
    end();
}

/* ---- two at once */

static void write_and_stay(cove_segment *own, void *argument)
{
    struct board *mine = argument ? argument : board_of(own);
    (void)EXPECT_GOOD(cove_rwlock_lock(own, &mine->lock, COVE_FOREVER));
    mine->one++;
    testing_reach(HOLDS);
    testing_await(MAY_GO);
    mine->two++;
    EXPECT(0, cove_rwlock_unlock(own, &mine->lock));
}

static void test_rwlock_readers_are_inside_together(void **state)
{
    (void)state;
    begin();
    struct actor actors[10];
    for (unsigned i = 0; i < 10; i++)
        actors[i] = actor_start(i % 2 == 1, segment, read_and_stay, NULL);
    testing_await_count(HOLDS, 10); /* none waits for another */
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    EXPECT_SAYS(-EBUSY, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT), "and 9 more");
    EXPECT_SAYS(-ETIMEDOUT, cove_rwlock_lock(segment, &board->lock, 20 * UNIT_MS), "reads under the lock");
    EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock)); /* others' marks are not ours */
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* who gave up holds nobody up */
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    testing_reach(MAY_GO);
    actors_join(actors, 10);
    assert_int_equal(board->lock.word & UINT32_MAX, 0);
    end();
}

static void test_rwlock_writer_is_alone(void **state)
{
    (void)state;
    begin();
    struct actor writer = actor_start(true, segment, write_and_stay, NULL);
    testing_await(HOLDS);
    char who[64];
    (void)snprintf(who, sizeof who, "(pid %d, thread %d) holds the lock", (int)writer.pid, (int)writer.pid);
    EXPECT_SAYS(-EBUSY, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT), who);
    EXPECT_SAYS(-EBUSY, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT), who);
    for (int i = 0; i < 2; i++) {
        int64_t begun = unit_now();
        EXPECT_SAYS(-ETIMEDOUT,
                    i ? cove_rwlock_lock(segment, &board->lock, 30 * UNIT_MS)
                      : cove_rwlock_lock_shared(segment, &board->lock, 30 * UNIT_MS),
                    who);
        assert_true(unit_now() - begun >= 30 * UNIT_MS);
    }
    assert_int_equal(board->lock.waits, 2);
    assert_true(board->lock.longest_us >= 15000);
    EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock));
    testing_reach(MAY_GO);
    actor_join(&writer);
    assert_int_equal(board->two, 1);
    end();
}

static void test_rwlock_stopped_reader_keeps_it(void **state)
{
    (void)state;
    begin();
    struct actor reader = actor_start(true, segment, read_and_stay, NULL);
    testing_await(HOLDS);
    actor_stop(&reader);
    char who[64];
    (void)snprintf(who, sizeof who, "(pid %d", (int)reader.pid);
    EXPECT_SAYS(-ETIMEDOUT, cove_rwlock_lock(segment, &board->lock, 60 * UNIT_MS), who);
    (void)EXPECT_GOOD(cove_recover(segment));
    EXPECT_SAYS(-EBUSY, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT), who);
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    testing_reach(MAY_GO);
    actor_continue(&reader);
    actor_join(&reader);
    end();
}

/* ---- who comes while a writer waits */

static void test_rwlock_readers_wait_behind_a_waiting_writer(void **state)
{
    (void)state;
    begin();
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    struct outcome *writes = outcome_of(true, COVE_FOREVER), *reads = outcome_of(false, COVE_FOREVER);
    struct outcome *tries = outcome_of(false, COVE_NOWAIT);
    struct actor writer = actor_start(true, segment, lock_once, writes);
    UNTIL_WAITING(segment, &board->lock, 1);
    struct actor tried = actor_start(true, segment, lock_once, tries);
    actor_join(&tried);
    assert_int_equal(atomic_load(&tries->result), -EBUSY);
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* but who reads may do so again */
    struct actor reader = actor_start(true, segment, lock_once, reads);
    UNTIL_WAITING(segment, &board->lock, 2);
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    assert_int_equal(atomic_load(&writes->result), 1000);
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    actor_join(&writer);
    actor_join(&reader);
    assert_int_equal(atomic_load(&writes->result), 0);
    assert_int_equal(atomic_load(&reads->result), 0);
    assert_true(atomic_load(&writes->at_ns) <= atomic_load(&reads->at_ns));
    end();
}

/* A writer that gives up lets those in who came after it, at once. */
static void test_rwlock_writer_that_gives_up_lets_readers_in(void **state)
{
    (void)state;
    actors_never_look();
    begin();
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    covei_os = &covei_os_native;
    struct outcome *writes = outcome_of(true, 300 * UNIT_MS), *reads = outcome_of(false, COVE_FOREVER);
    struct actor writer = actor_start(true, segment, lock_once, writes);
    UNTIL_WAITING(segment, &board->lock, 1);
    actors_never_look();
    struct actor reader = actor_start(true, segment, lock_once, reads);
    UNTIL_WAITING(segment, &board->lock, 2);
    actor_join(&writer);
    actor_join(&reader); /* while we read still */
    assert_int_equal(atomic_load(&writes->result), -ETIMEDOUT);
    assert_int_equal(atomic_load(&reads->result), 0);
    assert_true(atomic_load(&reads->at_ns) - atomic_load(&writes->at_ns) < unit_patience());
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    end();
}

/* ---- nobody starves */

struct stream {
    _Atomic bool ends;
    _Atomic unsigned rounds;
    bool write;
};

static void come_again_and_again(cove_segment *own, void *argument)
{
    struct stream *stream = argument;
    struct board *mine = board_of(own);
    while (!atomic_load(&stream->ends)) {
        int result = stream->write ? cove_rwlock_lock(own, &mine->lock, COVE_FOREVER)
                                   : cove_rwlock_lock_shared(own, &mine->lock, COVE_FOREVER);
        EXPECT_WAS(0, result);
        for (int i = 0; i < 200; i++) /* inside for most of the time */
            covei_relax();
        EXPECT(0, cove_rwlock_unlock(own, &mine->lock));
        atomic_fetch_add(&stream->rounds, 1);
    }
}

static int64_t longest_wait_beside(bool writers, unsigned count, int rounds)
{
    begin();
    struct stream *stream = testing_shared(sizeof *stream);
    stream->write = writers;
    struct actor actors[4];
    for (unsigned i = 0; i < count; i++)
        actors[i] = actor_start(i % 2 == 0, segment, come_again_and_again, stream);
    UNTIL(atomic_load(&stream->rounds) > 100, 20000);
    int64_t longest = 0;
    for (int i = 0; i < rounds; i++) {
        int64_t begun = unit_now();
        int result = writers ? cove_rwlock_lock_shared(segment, &board->lock, unit_patience())
                             : cove_rwlock_lock(segment, &board->lock, unit_patience());
        EXPECT_WAS(0, result);
        int64_t took = unit_now() - begun;
        longest = took > longest ? took : longest;
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        unsigned seen = atomic_load(&stream->rounds);
        UNTIL(atomic_load(&stream->rounds) > seen, 20000); /* they go on, too */
    }
    atomic_store(&stream->ends, true);
    actors_join(actors, count);
    print_message("the longest of %d waits: %.1f ms, beside %u turns of others\n", rounds, (double)longest / 1e6,
                  atomic_load(&stream->rounds));
    end();
    return longest;
}

static void test_rwlock_writer_is_not_starved_by_readers(void **state)
{
    (void)state;
    assert_true(longest_wait_beside(false, 4, 100) < unit_patience() / 5);
}

static void test_rwlock_reader_is_not_starved_by_writers(void **state)
{
    (void)state;
    assert_true(longest_wait_beside(true, 4, 100) < unit_patience() / 5);
}

/* ---- written over */

static void test_rwlock_scribbled_word_is_told(void **state)
{
    (void)state;
    begin();
    static const uint64_t words[] = {0x1fffffff, 4000, UINT64_MAX, 0x80000123};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        board->others[i].word = words[i];
        EXPECT(COVE_ECORRUPT, cove_rwlock_lock(segment, &board->others[i], COVE_FOREVER));
        EXPECT(COVE_ECORRUPT, cove_rwlock_lock_shared(segment, &board->others[i], COVE_FOREVER));
        assert_true(cove_rwlock_lock(segment, &board->others[i], COVE_NOWAIT) < 0);
        EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->others[i]));
    }
    board->lock.drain = UINT32_MAX; /* costs wakes, no more */
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    end();
}

static const struct testing_case tests[] = {
    TEST(test_rwlock_results),
    TEST(test_rwlock_limit_of_32_is_told),
    TEST(test_rwlock_readers_are_inside_together),
    TEST(test_rwlock_writer_is_alone),
    TEST(test_rwlock_stopped_reader_keeps_it),
    TEST(test_rwlock_readers_wait_behind_a_waiting_writer),
    TEST_TIMEOUT(test_rwlock_writer_that_gives_up_lets_readers_in, 30),
    TEST_TIMEOUT(test_rwlock_writer_is_not_starved_by_readers, 60),
    TEST_TIMEOUT(test_rwlock_reader_is_not_starved_by_writers, 60),
    TEST(test_rwlock_scribbled_word_is_told),
};

int main(void)
{
    return testing_run("rwlock", tests);
}
