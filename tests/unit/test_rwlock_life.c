/* test_rwlock_life.c - rwlocks over time: what dead readers and writers leave, two phases in transactions, storms.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "rwlock_board.h"

/* ---- deaths */

static void test_rwlock_dead_reader_holds_nobody(void **state)
{
    (void)state;
    static const int64_t waits[] = {-1, 0, 1500 * UNIT_MS};
    begin();
    for (unsigned i = 0; i < 3; i++) {
        struct actor reader = actor_start(true, segment, read_and_stay, NULL);
        testing_await_count(HOLDS, i + 1);
        struct outcome *writes = outcome_of(true, COVE_FOREVER);
        struct actor writer = {0};
        int64_t died = unit_now();
        if (waits[i] >= 0) {
            writer = actor_start(true, segment, lock_once, writes);
            UNTIL_WAITING(segment, &board->lock, 1);
            actors_pass(waits[i]);
            died = unit_now();
        }
        testing_kill(reader.pid);
        if (waits[i] >= 0) {
            actor_join(&writer);
            assert_int_equal(atomic_load(&writes->result), 0); /* a reader changed nothing */
            int64_t took = atomic_load(&writes->at_ns) - died;
            print_message("the writer had it after %.1f ms\n", (double)took / 1e6);
            assert_true(took < actors_soon());
        } else {
            EXPECT(0, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
            EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        }
    }
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

/* Several readers in one dead process, and more than can be watched. */
static void *read_in_thread(void *argument)
{
    cove_segment *own = argument;
    EXPECT(0, cove_rwlock_lock_shared(own, &board_of(own)->lock, COVE_FOREVER));
    testing_reach(HOLDS);
    unit_wait_for_death();
    return NULL;
}

static void read_in_threads(cove_segment *own, void *argument)
{
    (void)argument;
    for (int i = 0; i < 12; i++)
        (void)unit_thread(read_in_thread, own);
    unit_wait_for_death();
}

static void test_rwlock_many_dead_readers_hold_nobody(void **state)
{
    (void)state;
    if (UNIT_UNDER_TSAN)
        testing_skip(
            "threads in a forked process: ThreadSanitizer takes mutexes of the library that are made anew for held");
    begin();
    struct actor readers = actor_start(true, segment, read_in_threads, NULL);
    testing_await_count(HOLDS, 12);
    struct outcome *writes = outcome_of(true, COVE_FOREVER);
    struct actor writer = actor_start(false, segment, lock_once, writes);
    UNTIL_WAITING(segment, &board->lock, 1);
    actors_pass(300 * UNIT_MS);
    int64_t died = unit_now();
    testing_kill(readers.pid);
    actor_join(&writer);
    int64_t took = atomic_load(&writes->at_ns) - died;
    print_message("the writer had it after %.1f ms\n", (double)took / 1e6);
    assert_int_equal(atomic_load(&writes->result), 0);
    assert_true(took < actors_soon());
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

static void write_half_and_stay(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_begin(own));
    (void)EXPECT_GOOD(cove_rwlock_lock(own, &mine->lock, COVE_FOREVER));
    EXPECT(0, cove_save(own, &mine->one, 16));
    mine->one++;
    testing_reach(HOLDS);
    unit_wait_for_death();
}

/* The next to lock is told, whatever he locks for; nobody else. `first`: who waits when it dies, or comes after. */
static void die_writing(unsigned round, bool waiting, bool write)
{
    struct actor writer = actor_start(true, segment, write_half_and_stay, NULL), waiters[3];
    struct outcome *outcomes[3];
    testing_await_count(HOLDS, round);
    for (unsigned i = 0; waiting && i < 3; i++) {
        outcomes[i] = outcome_of(write, COVE_FOREVER);
        waiters[i] = actor_start(i % 2 == 1, segment, lock_once, outcomes[i]);
    }
    if (waiting)
        UNTIL_WAITING(segment, &board->lock, 3);
    testing_kill(writer.pid);
    if (waiting) {
        int told = 0;
        actors_join(waiters, 3);
        for (unsigned i = 0; i < 3; i++) {
            int result = atomic_load(&outcomes[i]->result);
            told += result == COVE_RECOVERED;
            assert_true(result == COVE_RECOVERED || result == 0);
        }
        assert_int_equal(told, 1);
    } else {
        EXPECT(COVE_RECOVERED, write ? cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT)
                                     : cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
        assert_int_equal(board->one, board->two);
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    }
    assert_int_equal(board->one, 5);
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
}

static void test_rwlock_dead_writer_is_undone_and_told_once(void **state)
{
    (void)state;
    begin();
    board->one = board->two = 5;
    die_writing(1, false, false);
    die_writing(2, false, true);
    die_writing(3, true, false);
    die_writing(4, true, true);
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

/* A writer dies while it waits for readers: the next writer meets those readers too. What it does not get it does not
 * take the news of. */
static void test_rwlock_news_of_a_death_outlives_a_timeout(void **state)
{
    (void)state;
    begin();
    struct actor reader = actor_start(true, segment, read_and_stay, NULL);
    testing_await(HOLDS);
    struct outcome *writes = outcome_of(true, COVE_FOREVER);
    struct actor writer = actor_start(true, segment, lock_once, writes);
    UNTIL_WAITING(segment, &board->lock, 1);
    testing_kill(writer.pid);
    EXPECT(-EBUSY, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(-ETIMEDOUT, cove_rwlock_lock(segment, &board->lock, 20 * UNIT_MS));
    EXPECT(-EBUSY, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
    testing_reach(MAY_GO);
    actor_join(&reader);
    int result = cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT);
    EXPECT_WAS(COVE_RECOVERED, result); /* it held the word when it died */
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

static void take_places(cove_segment *own, struct board *mine, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        EXPECT(0, cove_rwlock_lock_shared(own, &mine->others[i], COVE_NOWAIT));
}

static void give_places(cove_segment *own, struct board *mine, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        EXPECT(0, cove_rwlock_unlock(own, &mine->others[i]));
}

/* Nor is it lost to who finds that it has no place left. Where there is one left it does, whoever else is there. */
static void test_rwlock_news_of_a_death_outlives_a_lack_of_places(void **state)
{
    (void)state;
    begin();
    struct actor writer = actor_start(true, segment, write_half_and_stay, NULL);
    testing_await(HOLDS);
    testing_kill(writer.pid);
    take_places(segment, board, 32);
    EXPECT(-ENOLCK, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    give_places(segment, board, 32);
    take_places(segment, board, 31);
    int result = cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT);
    if (result == -ENOLCK) { /* it needs two where it has to queue, and may say so */
        give_places(segment, board, 31);
        result = cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT);
    } else
        give_places(segment, board, 31);
    EXPECT_WAS(COVE_RECOVERED, result);
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

static void read_with_31(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = board_of(own);
    take_places(own, mine, 31);
    EXPECT_SAYS(-ENOLCK, cove_rwlock_lock_shared(own, &mine->lock, COVE_FOREVER), "nearly 32");
    give_places(own, mine, 31);
}

/* Who queues needs one place more, for a moment: that is said at once, not after the wait. */
static void test_rwlock_last_place_does_not_do_behind_a_writer(void **state)
{
    (void)state;
    begin();
    take_places(segment, board, 31);
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* nobody is there: it does */
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    give_places(segment, board, 31);
    EXPECT(0, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
    struct actor reader = actor_start(true, segment, read_with_31, NULL);
    actor_join(&reader);
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    end();
}

/* ---- transactions */

static void *look_from_outside(void *argument)
{
    int *results = argument;
    results[0] = cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT);
    if (results[0] >= 0)
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    results[1] = cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT);
    if (results[1] >= 0)
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    return NULL;
}

static void expect_outside(int reading, int writing)
{
    int results[2];
    unit_in_thread(look_from_outside, results);
    assert_int_equal(results[0], reading);
    assert_int_equal(results[1], writing);
}

static void test_rwlock_write_lock_stays_to_the_transactions_end(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        begin();
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_save(segment, board, sizeof *board)); /* the lock itself, too */
        board->one = 3;
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock));
        expect_outside(-EBUSY, -EBUSY);
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* ours all the while */
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        EXPECT(0, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
        EXPECT(-EDEADLK, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
        if (how == 0)
            EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        expect_outside(-EBUSY, -EBUSY);
        EXPECT(0, how ? cove_abort(segment) : cove_commit(segment));
        expect_outside(0, 0);
        assert_int_equal(board->one, how ? 0 : 3);
        EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock));
        end();
    }
}

static void test_rwlock_read_lock_stays_to_the_transactions_end(void **state)
{
    (void)state;
    for (int how = 0; how < 4; how++) {
        begin();
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        expect_outside(0, 0); /* nothing was saved yet */
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_save(segment, &board->others[0], 16));
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock));
        expect_outside(0, -EBUSY);
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* again, in the same place */
        if (how % 2)
            EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        expect_outside(0, -EBUSY);
        EXPECT(0, how / 2 ? cove_abort(segment) : cove_commit(segment));
        expect_outside(0, 0); /* commit and abort free what was taken inside, unlocked or not */
        EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock));
        assert_int_equal(atomic_load(&covei_thread.shm->marks), 0);
        end();
    }
}

/* A reader that gave its lock up, as far as it may, can write after it: nobody else has written since. */
static void test_rwlock_read_then_write_in_a_transaction(void **state)
{
    (void)state;
    begin();
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_save(segment, &board->one, 16));
    EXPECT(-EDEADLK, cove_rwlock_lock(segment, &board->lock, COVE_FOREVER));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    EXPECT(0, cove_rwlock_lock(segment, &board->lock, COVE_FOREVER));
    expect_outside(-EBUSY, -EBUSY);
    EXPECT(-EDEADLK, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* it holds it to write */
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    expect_outside(-EBUSY, -EBUSY);
    EXPECT(0, cove_commit(segment));
    expect_outside(0, 0);
    end();
}

/* What was taken before the transaction outlives it. */
static void test_rwlock_taken_before_the_transaction_stays(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        begin();
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_rwlock_lock(segment, &board->others[0], COVE_NOWAIT));
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_save(segment, &board->one, 16));
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT)); /* once more, inside */
        EXPECT(0, how ? cove_abort(segment) : cove_commit(segment));
        expect_outside(0, -EBUSY);
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->lock));
        EXPECT(0, cove_rwlock_unlock(segment, &board->others[0]));
        EXPECT(-EPERM, cove_rwlock_unlock(segment, &board->others[0]));
        /* Given back inside with nothing saved, and taken again: that one is the transaction's. */
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_save(segment, &board->one, 16));
        EXPECT(0, how ? cove_abort(segment) : cove_commit(segment));
        expect_outside(0, 0);
        end();
    }
}

/* A thread that ends holding read and write locks gives them back; the written one with the news. */
static void *end_holding(void *argument)
{
    (void)argument;
    EXPECT(0, cove_rwlock_lock_shared(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_lock(segment, &board->others[1], COVE_NOWAIT));
    return NULL;
}

static void test_rwlock_thread_that_ends_counts_as_dead(void **state)
{
    (void)state;
    begin();
    unit_in_thread(end_holding, NULL);
    EXPECT(0, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    EXPECT(COVE_RECOVERED, cove_rwlock_lock_shared(segment, &board->others[1], COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->others[1]));
    end();
}

/* ---- storms */

struct storm {
    uint64_t seed;
    unsigned rounds;
    bool times_out, dies;
    _Atomic unsigned done;
};

static _Thread_local bool in_slices;

static int park_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    return covei_os_native.park_any(parks, count, in_slices ? timeout_ns : ACTORS_SLICE_NS);
}

static void write_once(cove_segment *own, struct board *mine, bool pause)
{
    EXPECT(0, cove_begin(own));
    EXPECT(0, cove_save(own, &mine->one, 16));
    mine->one++;
    if (pause)
        sched_yield();
    mine->two++;
    EXPECT(0, cove_commit(own)); /* and unlocked */
}

static void read_and_write(cove_segment *own, void *argument)
{
    struct storm *storm = argument;
    struct board *mine = board_of(own);
    in_slices = storm->times_out;
    for (unsigned i = 0; storm->dies || i < storm->rounds; i++) {
        uint64_t random = unit_random(&storm->seed);
        bool write = random % 4 == 0, long_way = random >> 20 & 1;
        int64_t timeout = storm->times_out ? (int64_t)(random >> 32) % (UNIT_MS / 5) : COVE_FOREVER;
        if (long_way)
            EXPECT(0, cove_rwlock_lock_shared(own, &mine->others[random >> 40 & 7], COVE_FOREVER));
        int result = write ? cove_rwlock_lock(own, &mine->lock, timeout)
                           : cove_rwlock_lock_shared(own, &mine->lock, timeout);
        if (result >= 0) {
            assert_int_equal(mine->one, mine->two);
            if (random >> 24 & 1)
                sched_yield();
            if (write)
                write_once(own, mine, random >> 25 & 1);
            else
                assert_int_equal(mine->one, mine->two);
            EXPECT(0, cove_rwlock_unlock(own, &mine->lock));
        } else
            EXPECT_WAS(timeout ? -ETIMEDOUT : -EBUSY, result);
        if (long_way)
            EXPECT(0, cove_rwlock_unlock(own, &mine->others[random >> 40 & 7]));
        atomic_fetch_add(&storm->done, 1);
    }
}

static void test_rwlock_storm_loses_no_wake(void **state)
{
    (void)state;
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = park_any;
    covei_os = &calls;
    begin();
    unsigned phases = testing_scale() > 1 ? 20 : 100;
    uint64_t seed = 31;
    int64_t longest = 0;
    for (unsigned phase = 0; phase < phases; phase++) {
        struct actor actors[6];
        struct storm storms[6];
        int64_t begun = unit_now();
        for (unsigned i = 0; i < 6; i++) {
            storms[i] = (struct storm){.seed = unit_random(&seed), .rounds = 1 + phase, .times_out = i == 5};
            actors[i] = actor_start(false, segment, read_and_write, &storms[i]);
        }
        actors_join(actors, 6);
        longest = unit_now() - begun > longest ? unit_now() - begun : longest;
    }
    print_message("%u writes; the longest phase took %.1f ms\n", (unsigned)board->one, (double)longest / 1e6);
    assert_true(longest < ACTORS_SLICE_NS / 2);
    assert_int_equal(board->one, board->two);
    covei_os = &covei_os_native;
    end();
}

/* One who reads and one who writes, each as often as it can: they are never inside together. */
static _Atomic bool writes_now;
static _Atomic unsigned met;

static void read_in_a_row(cove_segment *own, void *argument)
{
    struct board *mine = argument;
    actors_pin(0);
    for (int64_t until = unit_now() + UNIT_S; unit_now() < until;)
        if (cove_rwlock_lock_shared(own, &mine->lock, COVE_NOWAIT) == 0) {
            bool together = false;
            for (int i = 0; i < 8; i++) { /* as long as the writer needs to look around, and come in */
                together |= atomic_load_explicit(&writes_now, memory_order_relaxed);
                covei_relax();
            }
            if (together)
                atomic_fetch_add(&met, 1);
            EXPECT(0, cove_rwlock_unlock(own, &mine->lock));
        }
}

static void write_in_a_row(cove_segment *own, void *argument)
{
    struct board *mine = argument;
    actors_pin(1);
    for (int64_t until = unit_now() + UNIT_S; unit_now() < until;)
        if (cove_rwlock_lock(own, &mine->lock, COVE_NOWAIT) == 0) {
            atomic_store_explicit(&writes_now, true, memory_order_relaxed);
            for (int i = 0; i < 8; i++)
                covei_relax();
            atomic_store_explicit(&writes_now, false, memory_order_relaxed);
            EXPECT(0, cove_rwlock_unlock(own, &mine->lock));
        }
}

static void test_rwlock_reader_and_writer_are_never_inside_together(void **state)
{
    (void)state;
    begin();
    struct actor actors[2] = {actor_start(false, segment, read_in_a_row, board),
                              actor_start(false, segment, write_in_a_row, board)};
    actors_join(actors, 2);
    assert_int_equal(atomic_load(&met), 0);
    end();
}

static void test_rwlock_storm_with_deaths_shows_no_half_change(void **state)
{
    (void)state;
    begin();
    unsigned kills = testing_scale() > 1 ? 20 : 100;
    struct actor actors[5];
    struct storm *storms[5];
    uint64_t seed = 5;
    for (unsigned i = 0; i < 5; i++) {
        storms[i] = testing_shared(sizeof *storms[i]);
        *storms[i] = (struct storm){.seed = unit_random(&seed), .dies = true};
        actors[i] = actor_start(true, segment, read_and_write, storms[i]);
    }
    for (unsigned i = 0; i < kills; i++) {
        unsigned victim = i % 5, other = (i + 1) % 5;
        unsigned seen = atomic_load(&storms[victim]->done);
        UNTIL(atomic_load(&storms[victim]->done) > seen + unit_random(&seed) % 50, 20000);
        testing_kill(actors[victim].pid);
        unsigned others = atomic_load(&storms[other]->done);
        UNTIL(atomic_load(&storms[other]->done) > others + 5, 20000); /* the others go on */
        actors[victim] = actor_start(true, segment, read_and_write, storms[victim]);
    }
    for (unsigned i = 0; i < 5; i++)
        testing_kill(actors[i].pid);
    (void)EXPECT_GOOD(cove_recover(segment));
    (void)EXPECT_GOOD(cove_rwlock_lock(segment, &board->lock, unit_patience()));
    assert_int_equal(board->one, board->two);
    print_message("%u writes, %u kills\n", (unsigned)board->one, kills);
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    assert_int_equal(unit_stat(segment).members_dead, 0);
    end();
}

static const struct testing_case tests[] = {
    TEST(test_rwlock_dead_reader_holds_nobody),
    TEST(test_rwlock_many_dead_readers_hold_nobody),
    TEST(test_rwlock_dead_writer_is_undone_and_told_once),
    TEST(test_rwlock_news_of_a_death_outlives_a_timeout),
    TEST(test_rwlock_news_of_a_death_outlives_a_lack_of_places),
    TEST(test_rwlock_last_place_does_not_do_behind_a_writer),
    TEST(test_rwlock_write_lock_stays_to_the_transactions_end),
    TEST(test_rwlock_read_lock_stays_to_the_transactions_end),
    TEST(test_rwlock_read_then_write_in_a_transaction),
    TEST(test_rwlock_taken_before_the_transaction_stays),
    TEST(test_rwlock_thread_that_ends_counts_as_dead),
    TEST_TIMEOUT(test_rwlock_storm_loses_no_wake, 60),
    TEST_TIMEOUT(test_rwlock_reader_and_writer_are_never_inside_together, 60),
    TEST_TIMEOUT(test_rwlock_storm_with_deaths_shows_no_half_change, 60),
};

int main(void)
{
    return testing_run("rwlock_life", tests);
}
