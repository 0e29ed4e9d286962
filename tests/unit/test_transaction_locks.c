/* test_transaction_locks.c - transactions with locks of several kinds, many threads, and threads that end inside.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=60 */
#include "unit.h"

#include "segment/journal.h"

#include <cove/barrier.h>
#include <cove/revision.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>

#define ACCOUNTS 8
#define THREADS 4

struct account {
    cove_mutex lock;
    int64_t cents;
};

struct world {
    cove_rwlock rwlock, other;
    int64_t guarded; /* by rwlock */
    cove_mutex mutex;
    int64_t value; /* guarded by mutex */
    cove_semaphore permits;
    cove_barrier barrier;
    cove_mutex many[COVEI_LANE_LOCKS];
    struct account accounts[ACCOUNTS];
};

struct bench {
    cove_segment *segment;
    struct world *world;
};

static struct bench open_bench(void)
{
    struct bench bench = {.segment = unit_open("t")};
    bench.world = unit_object(bench.segment, "world", sizeof(struct world));
    return bench;
}

static void close_bench(const struct bench *bench)
{
    unit_sound(bench->segment);
    unit_close(bench->segment);
    unit_remove("t");
}

static struct covei_lane *own_lane(const struct bench *bench)
{
    struct covei_lane *lane = NULL;
    EXPECT(0, covei_lane_get(&lane, bench->segment));
    return lane;
}

static void save(const struct bench *bench, int64_t *value, int64_t now)
{
    EXPECT(0, cove_save(bench->segment, value, sizeof *value));
    *value = now;
}

/* ---- what another thread gets */

struct probe {
    const struct bench *bench;
    cove_rwlock *rwlock;
    cove_mutex *mutex;
    bool shared;
    int result;
};

static void *probe_thread(void *argument)
{
    struct probe *probe = argument;
    cove_segment *segment = probe->bench->segment;
    if (probe->mutex)
        probe->result = cove_mutex_lock(segment, probe->mutex, COVE_NOWAIT);
    else
        probe->result = probe->shared ? cove_rwlock_lock_shared(segment, probe->rwlock, COVE_NOWAIT)
                                      : cove_rwlock_lock(segment, probe->rwlock, COVE_NOWAIT);
    if (probe->result >= 0)
        EXPECT(0, probe->mutex ? cove_mutex_unlock(segment, probe->mutex) : cove_rwlock_unlock(segment, probe->rwlock));
    return NULL;
}

static int to_write(const struct bench *bench, cove_rwlock *rwlock)
{
    struct probe probe = {.bench = bench, .rwlock = rwlock};
    unit_in_thread(probe_thread, &probe);
    return probe.result;
}

static int to_read(const struct bench *bench, cove_rwlock *rwlock)
{
    struct probe probe = {.bench = bench, .rwlock = rwlock, .shared = true};
    unit_in_thread(probe_thread, &probe);
    return probe.result;
}

static int to_lock(const struct bench *bench, cove_mutex *mutex)
{
    struct probe probe = {.bench = bench, .mutex = mutex};
    unit_in_thread(probe_thread, &probe);
    return probe.result;
}

static int end(const struct bench *bench, bool commit)
{
    return commit ? cove_commit(bench->segment) : cove_abort(bench->segment);
}

/* ---- kinds of locks */

static void test_locks_read_lock_taken_inside_goes_at_the_end(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, cove_rwlock_lock_shared(bench.segment, &world->rwlock, COVE_FOREVER));
        EXPECT(0, cove_mutex_lock(bench.segment, &world->mutex, COVE_FOREVER));
        save(&bench, &world->value, 5);
        EXPECT(0, cove_rwlock_unlock(bench.segment, &world->rwlock)); /* not before the end: others would change what
                                                                          this change was made of */
        assert_int_equal(to_write(&bench, &world->rwlock), -EBUSY);
        assert_int_equal(to_read(&bench, &world->rwlock), 0);
        EXPECT(0, end(&bench, commit));
        assert_int_equal(to_write(&bench, &world->rwlock), 0);
        assert_int_equal(to_lock(&bench, &world->mutex), 0);
        EXPECT(-EPERM, cove_rwlock_unlock(bench.segment, &world->rwlock));
    }
    close_bench(&bench);
}

static void test_locks_read_lock_given_back_before_the_first_save_goes_at_once(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    EXPECT(0, cove_begin(bench.segment));
    EXPECT(0, cove_rwlock_lock_shared(bench.segment, &world->rwlock, COVE_FOREVER));
    EXPECT(0, cove_rwlock_unlock(bench.segment, &world->rwlock));
    assert_int_equal(to_write(&bench, &world->rwlock), 0);
    EXPECT(0, cove_commit(bench.segment));
    close_bench(&bench);
}

static void test_locks_read_lock_taken_before_is_kept(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_rwlock_lock_shared(bench.segment, &world->rwlock, COVE_FOREVER));
        EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, cove_mutex_lock(bench.segment, &world->mutex, COVE_FOREVER));
        save(&bench, &world->value, 5);
        EXPECT(0, end(&bench, commit));
        assert_int_equal(to_write(&bench, &world->rwlock), -EBUSY);
        assert_int_equal(to_lock(&bench, &world->mutex), 0);
        EXPECT(0, cove_rwlock_unlock(bench.segment, &world->rwlock));
        assert_int_equal(to_write(&bench, &world->rwlock), 0);
    }
    close_bench(&bench);
}

/* Given back inside and taken again, it was taken inside. */
static void test_locks_read_lock_in_the_place_of_an_earlier_one_goes_at_the_end(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_rwlock_lock_shared(bench.segment, &world->rwlock, COVE_FOREVER));
        EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, cove_rwlock_unlock(bench.segment, &world->rwlock));
        EXPECT(0, cove_rwlock_lock_shared(bench.segment, &world->rwlock, COVE_FOREVER));
        EXPECT(0, end(&bench, commit));
        assert_int_equal(to_write(&bench, &world->rwlock), 0);
    }
    close_bench(&bench);
}

static void test_locks_write_lock_is_held_to_the_end(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, cove_rwlock_lock(bench.segment, &world->rwlock, COVE_FOREVER));
        save(&bench, &world->guarded, 7);
        EXPECT(0, cove_rwlock_unlock(bench.segment, &world->rwlock));
        assert_int_equal(to_read(&bench, &world->rwlock), -EBUSY);
        EXPECT(0, end(&bench, commit));
        assert_int_equal(to_read(&bench, &world->rwlock), 0);
        assert_int_equal(to_write(&bench, &world->rwlock), 0);
        assert_int_equal(world->guarded, commit ? 7 : 0);
    }
    close_bench(&bench);
}

/* The struct is saved with its rwlock inside, and put back around it: others came and went meanwhile. */
static void test_locks_rwlock_inside_what_is_saved_is_left_alone(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    for (int shared = 0; shared < 2; shared++) {
        EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, shared ? cove_rwlock_lock_shared(bench.segment, &world->rwlock, COVE_FOREVER)
                         : cove_rwlock_lock(bench.segment, &world->rwlock, COVE_FOREVER));
        EXPECT(0, cove_rwlock_lock(bench.segment, &world->other, COVE_FOREVER));
        EXPECT(0, cove_save(bench.segment, world, offsetof(struct world, mutex)));
        world->guarded = 9;
        assert_int_equal(to_read(&bench, &world->rwlock), shared ? 0 : -EBUSY);
        assert_int_equal(to_write(&bench, &world->rwlock), -EBUSY);
        uint64_t word = world->rwlock.word; /* a generation that never comes again */
        EXPECT(0, cove_abort(bench.segment));
        assert_true(world->rwlock.word >= word);
        assert_int_equal(world->guarded, 0);
        assert_int_equal(to_write(&bench, &world->rwlock), 0);
        assert_int_equal(to_read(&bench, &world->rwlock), 0);
        assert_int_equal(to_write(&bench, &world->other), 0);
    }
    close_bench(&bench);
}

static void test_locks_permits_and_memberships_stay(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    EXPECT(0, cove_semaphore_post(bench.segment, &world->permits, 3));
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_semaphore_acquire(bench.segment, &world->permits, COVE_NOWAIT));
        EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, cove_semaphore_acquire(bench.segment, &world->permits, COVE_NOWAIT));
        EXPECT(COVE_LEADER, cove_barrier_wait(bench.segment, &world->barrier, 1, COVE_FOREVER));
        EXPECT(0, cove_mutex_lock(bench.segment, &world->mutex, COVE_FOREVER));
        save(&bench, &world->value, 3);
        EXPECT(0, end(&bench, commit));
        assert_int_equal(to_lock(&bench, &world->mutex), 0);
        assert_int_equal(cove_semaphore_value(bench.segment, &world->permits), 1);
        EXPECT(0, cove_semaphore_release(bench.segment, &world->permits));
        EXPECT(0, cove_semaphore_release(bench.segment, &world->permits));
        EXPECT(-EPERM, cove_semaphore_release(bench.segment, &world->permits));
        assert_int_equal(cove_semaphore_value(bench.segment, &world->permits), 3);
        EXPECT(0, cove_barrier_leave(bench.segment, &world->barrier));
    }
    close_bench(&bench);
}

/* Also where the permit stands among the locks. */
static void test_locks_permit_among_locks_stays(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    EXPECT(0, cove_semaphore_post(bench.segment, &world->permits, 1));
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_begin(bench.segment));
        for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++)
            EXPECT(0, cove_mutex_lock(bench.segment, &world->many[i], COVE_NOWAIT));
        EXPECT(0, cove_mutex_unlock(bench.segment, &world->many[3]));
        EXPECT(0, cove_semaphore_acquire(bench.segment, &world->permits, COVE_NOWAIT)); /* the only place */
        save(&bench, &world->value, 3);
        EXPECT(0, end(&bench, commit));
        assert_int_equal(to_lock(&bench, &world->many[31]), 0);
        assert_int_equal(cove_semaphore_value(bench.segment, &world->permits), 0);
        EXPECT(0, cove_semaphore_release(bench.segment, &world->permits));
        EXPECT(0, cove_begin(bench.segment));
        EXPECT(0, cove_commit(bench.segment));
        assert_int_equal(own_lane(&bench)->places, 1);
    }
    close_bench(&bench);
}

/* ---- the shortest ways: one lock, in the first place */

enum { KEPT, GIVEN_BACK, AGAIN, MARKED, WAYS };

static void one_lock(const struct bench *bench, int way, bool commit)
{
    cove_mutex *mutex = &bench->world->mutex;
    EXPECT(0, cove_mutex_lock(bench->segment, mutex, COVE_NOWAIT));
    EXPECT(0, cove_begin(bench->segment));
    if (way == GIVEN_BACK || way == AGAIN)
        EXPECT(0, cove_mutex_unlock(bench->segment, mutex)); /* nothing was saved: at once */
    if (way == AGAIN)
        EXPECT(0, cove_mutex_lock(bench->segment, mutex, COVE_NOWAIT)); /* taken inside, then */
    save(bench, &bench->world->value, 1);
    if (way == MARKED)
        EXPECT(0, cove_mutex_unlock(bench->segment, mutex));
    assert_int_equal(to_lock(bench, mutex), way == GIVEN_BACK ? 0 : -EBUSY);
    EXPECT(0, end(bench, commit));
    assert_int_equal(to_lock(bench, mutex), way == KEPT ? -EBUSY : 0);
    EXPECT(way == KEPT ? 0 : -EPERM, cove_mutex_unlock(bench->segment, mutex));
    assert_int_equal(to_lock(bench, mutex), 0);
}

static void test_locks_one_taken_before_is_kept_unless_given_back(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    for (int way = 0; way < WAYS; way++)
        for (int round = 0; round < 4; round++)
            one_lock(&bench, way, round % 2 == 0);
    close_bench(&bench);
}

/* ---- many locks */

static void test_locks_many_are_all_free_at_the_end(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_begin(bench.segment));
        for (uint32_t i = 0; i < COVEI_LANE_LOCKS - 1; i++)
            EXPECT(0, cove_mutex_lock(bench.segment, &world->many[i], COVE_NOWAIT));
        EXPECT(0,
               cove_save(bench.segment, world->many, sizeof world->many)); /* with all of them inside; and it grows */
        EXPECT(0, cove_save(bench.segment, world->many, sizeof world->many));
        EXPECT(0, end(&bench, commit));
        for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++)
            EXPECT(-EPERM, cove_mutex_unlock(bench.segment, &world->many[i]));
        assert_int_equal(to_lock(&bench, &world->many[0]), 0);
        assert_int_equal(to_lock(&bench, &world->many[COVEI_LANE_LOCKS - 2]), 0);
        assert_int_equal(own_lane(&bench)->places, 1); /* the shortest ways are open again */
    }
    close_bench(&bench);
}

/* Growing the journal needs a lock, too. */
static void test_locks_no_place_for_growth_is_told(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    for (int commit = 0; commit < 2; commit++) {
        EXPECT(0, cove_begin(bench.segment));
        for (uint32_t i = 0; i < COVEI_LANE_LOCKS; i++)
            EXPECT(0, cove_mutex_lock(bench.segment, &world->many[i], COVE_NOWAIT));
        save(&bench, &world->value, 4);
        EXPECT(-ENOLCK, cove_save(bench.segment, world->many, 2000));
        save(&bench, &world->guarded, 4);
        EXPECT(-ENOLCK, cove_mutex_lock(bench.segment, &world->mutex, COVE_NOWAIT));
        EXPECT(0, end(&bench, commit));
        assert_int_equal(world->value, commit ? 4 : 0);
        assert_int_equal(world->guarded, commit ? 4 : 0);
    }
    close_bench(&bench);
}

/* Nobody builds on what may be undone: who waits for a lock that was given back inside gets it after the undo. */
struct chain {
    struct bench *bench;
    int64_t seen;
};

static void *build_on_it(void *argument)
{
    struct chain *chain = argument;
    const struct bench *bench = chain->bench;
    struct world *world = bench->world;
    EXPECT(0, cove_begin(bench->segment));
    testing_reach(0);
    EXPECT(0, cove_mutex_lock(bench->segment, &world->accounts[0].lock, unit_patience()));
    chain->seen = world->accounts[0].cents;
    save(bench, &world->accounts[0].cents, chain->seen + 1);
    EXPECT(0, cove_commit(bench->segment));
    return NULL;
}

static void test_locks_given_back_inside_reach_others_after_the_end(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    struct chain chain = {&bench, -1};
    EXPECT(0, cove_begin(bench.segment));
    EXPECT(0, cove_mutex_lock(bench.segment, &world->accounts[0].lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(bench.segment, &world->accounts[1].lock, COVE_FOREVER));
    save(&bench, &world->accounts[0].cents, 100);
    EXPECT(0, cove_mutex_unlock(bench.segment, &world->accounts[0].lock));
    pthread_t thread = unit_thread(build_on_it, &chain);
    testing_await(0);
    const _Atomic uint64_t *word = (const _Atomic uint64_t *)(const void *)&world->accounts[0].lock.word;
    UNTIL(atomic_load(word) & COVEI_LOCK_WAITERS, 5000);
    EXPECT(0, cove_abort(bench.segment));
    unit_thread_join(thread);
    assert_int_equal(chain.seen, 0);
    assert_int_equal(world->accounts[0].cents, 1); /* an acknowledged change on top, and it stands */
    close_bench(&bench);
}

/* ---- many threads */

struct crowd {
    struct bench *bench;
    uint64_t seed;
    uint64_t transfers;
};

/* Lock up to three accounts in order, move money, end in one of many ways. */
static void transfer(const struct bench *bench, uint64_t *seed)
{
    struct account *accounts = bench->world->accounts;
    uint32_t first = (uint32_t)(unit_random(seed) % (ACCOUNTS - 2));
    struct account *picked[3] = {&accounts[first], &accounts[first + 1 + unit_random(seed) % (ACCOUNTS - first - 2)],
                                 &accounts[ACCOUNTS - 1]};
    bool nested = unit_random(seed) % 2 == 0;
    EXPECT(0, cove_begin(bench->segment));
    for (int i = 0; i < 3; i++)
        EXPECT(0, cove_mutex_lock(bench->segment, &picked[i]->lock, COVE_FOREVER));
    if (nested)
        EXPECT(0, cove_begin(bench->segment));
    for (int i = 0; i < 3; i++) {
        if (unit_random(seed) % 4 == 0) /* with its lock, on which others set bits meanwhile */
            EXPECT(0, cove_save(bench->segment, picked[i], sizeof *picked[i]));
        EXPECT(0, cove_save(bench->segment, &picked[i]->cents, sizeof picked[i]->cents));
    }
    picked[0]->cents -= 3;
    picked[1]->cents += 1;
    if (unit_random(seed) % 4 == 0)
        EXPECT(0, cove_mutex_unlock(bench->segment, &picked[1]->lock));
    if (unit_random(seed) % 8 == 0) { /* half of it */
        EXPECT(0, cove_abort(bench->segment));
        return;
    }
    picked[2]->cents += 2;
    for (int i = 0; i <= nested; i++)
        EXPECT(0, cove_commit(bench->segment));
}

static void audit(const struct bench *bench)
{
    int64_t sum = 0;
    for (int i = 0; i < ACCOUNTS; i++)
        EXPECT(0, cove_mutex_lock(bench->segment, &bench->world->accounts[i].lock, COVE_FOREVER));
    for (int i = 0; i < ACCOUNTS; i++)
        sum += bench->world->accounts[i].cents;
    for (int i = 0; i < ACCOUNTS; i++)
        EXPECT(0, cove_mutex_unlock(bench->segment, &bench->world->accounts[i].lock));
    assert_int_equal(sum, 0);
}

static void *transfer_much(void *argument)
{
    struct crowd *crowd = argument;
    for (uint64_t i = 0; i < crowd->transfers; i++) {
        transfer(crowd->bench, &crowd->seed);
        if (i % 50 == 0)
            audit(crowd->bench);
    }
    return NULL;
}

static void test_locks_many_threads_keep_the_sum(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct crowd crowds[THREADS];
    pthread_t threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        crowds[i] = (struct crowd){&bench, i + 1, testing_scale() > 1 ? 2000 : 50000};
        threads[i] = unit_thread(transfer_much, &crowds[i]);
    }
    for (int i = 0; i < THREADS; i++)
        unit_thread_join(threads[i]);
    audit(&bench);
    close_bench(&bench);
}

/* ---- a thread that ends inside */

static void *end_inside(void *argument)
{
    const struct bench *bench = argument;
    struct world *world = bench->world;
    EXPECT(0, cove_rwlock_lock_shared(bench->segment, &world->rwlock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(bench->segment, &world->accounts[2].lock, COVE_FOREVER));
    EXPECT(0, cove_begin(bench->segment));
    EXPECT(0, cove_begin(bench->segment));
    EXPECT(0, cove_mutex_lock(bench->segment, &world->accounts[0].lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(bench->segment, &world->accounts[1].lock, COVE_FOREVER));
    EXPECT(0, cove_rwlock_lock(bench->segment, &world->other, COVE_FOREVER));
    EXPECT(0, cove_save(bench->segment, world->accounts, sizeof world->accounts));
    for (int i = 0; i < ACCOUNTS; i++)
        world->accounts[i].cents = 99;
    assert_true(cove_alloc(bench->segment, 1000) != 0);
    EXPECT(0, cove_mutex_unlock(bench->segment, &world->accounts[1].lock));
    return NULL;
}

static void test_locks_of_a_thread_that_ends_inside_are_free(void **state)
{
    (void)state;
    struct bench bench = open_bench();
    struct world *world = bench.world;
    uint64_t before = unit_free_bytes(bench.segment);
    unit_in_thread(end_inside, &bench);
    for (int i = 0; i < 3; i++)
        assert_int_equal(to_lock(&bench, &world->accounts[i].lock), COVE_RECOVERED);
    assert_int_equal(to_write(&bench, &world->other), COVE_RECOVERED);
    assert_int_equal(to_write(&bench, &world->rwlock), 0); /* a dead reader leaves nothing */
    for (int i = 0; i < ACCOUNTS; i++)
        assert_int_equal(world->accounts[i].cents, 0);
    assert_int_equal(unit_free_bytes(bench.segment), before);
    close_bench(&bench);
}

static const struct testing_case tests[] = {
    TEST(test_locks_read_lock_taken_inside_goes_at_the_end),
    TEST(test_locks_read_lock_given_back_before_the_first_save_goes_at_once),
    TEST(test_locks_read_lock_taken_before_is_kept),
    TEST(test_locks_read_lock_in_the_place_of_an_earlier_one_goes_at_the_end),
    TEST(test_locks_write_lock_is_held_to_the_end),
    TEST(test_locks_rwlock_inside_what_is_saved_is_left_alone),
    TEST(test_locks_permits_and_memberships_stay),
    TEST(test_locks_permit_among_locks_stays),
    TEST(test_locks_one_taken_before_is_kept_unless_given_back),
    TEST(test_locks_many_are_all_free_at_the_end),
    TEST(test_locks_no_place_for_growth_is_told),
    TEST(test_locks_given_back_inside_reach_others_after_the_end),
    TEST_TIMEOUT(test_locks_many_threads_keep_the_sum, 30),
    TEST(test_locks_of_a_thread_that_ends_inside_are_free),
};

int main(void)
{
    return testing_run("transaction locks", tests);
}
