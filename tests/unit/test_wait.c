/* test_wait.c - sleeping: how long at a time, on what, and that all works where the system can wait for one word only, or
 * forbids even that.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "actors.h"

#include <cove/barrier.h>
#include <cove/event.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>

struct board {
    cove_mutex plain, fair;
    cove_rwlock rwlock;
    cove_semaphore semaphore;
    cove_barrier barrier;
    cove_event event;
    uint64_t value;
};

static cove_segment *segment;
static struct board *board;

static void begin(void)
{
    segment = unit_open("t");
    board = unit_object(segment, "b", sizeof *board);
    board->fair = (cove_mutex)COVE_MUTEX_FAIR;
}

static void end(void)
{
    covei_os = &covei_os_native;
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

static struct covei_os calls;

static void replace_calls(void)
{
    calls = covei_os_native;
    covei_os = &calls;
}

/* ---- a clock that goes on when somebody sleeps, and only then: long waits take no time */

#define SLEEPS 4096

static _Thread_local int64_t slept_ns;
static struct sleep {
    int64_t begun_ns, slice_ns;
    uint32_t count;
    const void *words[COVEI_PARKS_MAX];
} sleeps[SLEEPS];
static unsigned sleep_count;

static int64_t dreamt_now(void)
{
    return UNIT_S + slept_ns; /* of this thread */
}

static void note_sleep(uint32_t count, int64_t slice_ns)
{
    assert_true(sleep_count < SLEEPS);
    sleeps[sleep_count].begun_ns = slept_ns;
    sleeps[sleep_count].slice_ns = slice_ns;
    sleeps[sleep_count++].count = count;
    slept_ns += slice_ns;
}

static int dream_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    for (uint32_t i = 0; i < count && sleep_count < SLEEPS; i++)
        sleeps[sleep_count].words[i] = parks[i].word;
    note_sleep(count, timeout_ns);
    return -ETIMEDOUT;
}

static int dream(void *word, uint32_t expected, int64_t timeout_ns)
{
    (void)expected;
    if (sleep_count < SLEEPS)
        sleeps[sleep_count].words[0] = word;
    note_sleep(1, timeout_ns);
    return -ETIMEDOUT;
}

static int refuse_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    (void)parks;
    (void)count;
    (void)timeout_ns;
    return -EPERM;
}

static void begin_dreaming(bool one_word)
{
    replace_calls();
    calls.now = dreamt_now;
    calls.park = dream;
    calls.park_any = one_word ? refuse_any : dream_any;
    sleep_count = 0;
    slept_ns = 0;
}

/* Each slice is an eighth of the time waited, at least 10 ms, at most `most_ns`; together they are the timeout. */
static void expect_slices(int64_t timeout_ns, int64_t most_ns)
{
    int64_t sum = 0;
    assert_true(sleep_count >= 3);
    for (unsigned i = 0; i < sleep_count; i++) {
        int64_t slice = sleeps[i].begun_ns / 8, left = timeout_ns - sleeps[i].begun_ns;
        slice = slice < 10 * UNIT_MS ? 10 * UNIT_MS : slice > most_ns ? most_ns : slice;
        assert_int_equal(sleeps[i].slice_ns, slice < left ? slice : left);
        sum += sleeps[i].slice_ns;
    }
    assert_int_equal(sum, timeout_ns);
}

enum { STANDS = 0, MAY_GO = 1, DONE = 2 };

static void hold_all(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_mutex_lock(own, &mine->plain, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(own, &mine->fair, COVE_FOREVER));
    EXPECT(0, cove_rwlock_lock_shared(own, &mine->rwlock, COVE_FOREVER));
    EXPECT(0, cove_semaphore_post(own, &mine->semaphore, 1));
    EXPECT(0, cove_semaphore_acquire(own, &mine->semaphore, COVE_FOREVER));
    EXPECT(-EBUSY, cove_barrier_wait(own, &mine->barrier, 3, COVE_NOWAIT));
    testing_reach(STANDS);
    testing_await(MAY_GO);
    EXPECT(0, cove_mutex_unlock(own, &mine->plain));
    EXPECT(0, cove_mutex_unlock(own, &mine->fair));
    EXPECT(0, cove_rwlock_unlock(own, &mine->rwlock));
    EXPECT(0, cove_semaphore_release(own, &mine->semaphore));
    EXPECT(0, cove_barrier_leave(own, &mine->barrier));
}

static int wait_for(unsigned which, int64_t timeout_ns)
{
    switch (which) {
    case 0:
        return cove_mutex_lock(segment, &board->plain, timeout_ns);
    case 1:
        return cove_mutex_lock(segment, &board->fair, timeout_ns);
    case 2:
        return cove_rwlock_lock(segment, &board->rwlock, timeout_ns);
    case 3:
        return cove_semaphore_acquire(segment, &board->semaphore, timeout_ns);
    case 4:
        return cove_barrier_wait(segment, &board->barrier, 3, timeout_ns);
    default:
        return cove_event_wait(segment, &board->event, timeout_ns);
    }
}
#define WAITS 6u
#define OWNED 5u /* of which these are for somebody who has it */

static const void *life_of(const struct actor *actor)
{
    for (uint32_t i = 0; i < atomic_load(&segment->header->lanes_ready); i++)
        if (atomic_load(&segment->lanes[i].thread_id) == atomic_load(&actor->part->thread_id))
            return covei_lane_life(&segment->lanes[i]);
    return NULL;
}

static void test_wait_slices_are_an_eighth_of_the_time_waited(void **state)
{
    (void)state;
    begin();
    struct actor holder = actor_start(true, segment, hold_all, NULL);
    testing_await(STANDS);
    const void *life = life_of(&holder);
    assert_non_null(life);
    static const int64_t timeouts[] = {25 * UNIT_MS + 3, 1000 * UNIT_MS, 60 * UNIT_S};
    for (unsigned which = 0; which < WAITS; which++)
        for (unsigned i = 0; i < 3; i++) {
            begin_dreaming(false);
            int result = wait_for(which, timeouts[i]);
            covei_os = &covei_os_native;
            EXPECT_WAS(-ETIMEDOUT, result);
            expect_slices(timeouts[i], 250 * UNIT_MS);
            for (unsigned k = 0; k < sleep_count; k++) { /* on the thing, the interrupt, its holder's sign of life */
                assert_ptr_equal(sleeps[k].words[1], &covei_interrupts);
                assert_int_equal(sleeps[k].count, which < OWNED ? 3 : 2);
                if (which < OWNED)
                    assert_ptr_equal(sleeps[k].words[2], life);
            }
        }
    testing_reach(MAY_GO);
    actor_join(&holder);
    (void)cove_barrier_leave(segment, &board->barrier);
    end();
}

/* One word only: nobody's death would wake us, nor an interrupt. */
static void test_wait_slices_are_short_where_one_word_is_all(void **state)
{
    (void)state;
    begin();
    struct actor holder = actor_start(true, segment, hold_all, NULL);
    testing_await(STANDS);
    for (unsigned which = 0; which < WAITS; which++) {
        begin_dreaming(true);
        int result = wait_for(which, 5 * UNIT_S);
        covei_os = &covei_os_native;
        EXPECT_WAS(-ETIMEDOUT, result);
        expect_slices(5 * UNIT_S, which < OWNED ? 10 * UNIT_MS : 50 * UNIT_MS);
    }
    testing_reach(MAY_GO);
    actor_join(&holder);
    (void)cove_barrier_leave(segment, &board->barrier);
    end();
}

/* A guarded member has no sign of life. */
static void hold_guarded(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *own = unit_open_as("t", &(struct cove_options){.flags = COVE_GUARD});
    hold_all(own, NULL);
    unit_close(own);
}

static void test_wait_slices_are_short_for_who_has_no_sign_of_life(void **state)
{
    (void)state;
    begin();
    pid_t pid = testing_spawn(hold_guarded, segment);
    testing_await(STANDS);
    for (unsigned which = 0; which < OWNED; which++) {
        begin_dreaming(false);
        int result = wait_for(which, 2 * UNIT_S);
        covei_os = &covei_os_native;
        EXPECT_WAS(-ETIMEDOUT, result);
        expect_slices(2 * UNIT_S, 10 * UNIT_MS);
        assert_int_equal(sleeps[0].count, 2);
    }
    testing_reach(MAY_GO);
    testing_join(pid);
    (void)cove_barrier_leave(segment, &board->barrier);
    end();
}

/* More holders than words. */
static void *own_one(void *argument)
{
    (void)argument;
    EXPECT(0, cove_semaphore_acquire(segment, &board->semaphore, COVE_NOWAIT));
    testing_reach(STANDS);
    testing_await(MAY_GO);
    EXPECT(0, cove_semaphore_release(segment, &board->semaphore));
    return NULL;
}

static void test_wait_slices_are_short_for_more_than_can_be_watched(void **state)
{
    (void)state;
    begin();
    unsigned most = COVEI_PARKS_MAX - 2;
    pthread_t threads[COVEI_PARKS_MAX];
    EXPECT(0, cove_semaphore_post(segment, &board->semaphore, most));
    for (unsigned i = 0; i < most; i++)
        threads[i] = unit_thread(own_one, NULL);
    testing_await_count(STANDS, most);
    begin_dreaming(false);
    EXPECT(-ETIMEDOUT, wait_for(3, 2 * UNIT_S));
    covei_os = &covei_os_native;
    expect_slices(2 * UNIT_S, 250 * UNIT_MS);
    assert_int_equal(sleeps[0].count, COVEI_PARKS_MAX);
    EXPECT(0, cove_semaphore_post(segment, &board->semaphore, 1));
    threads[most] = unit_thread(own_one, NULL);
    testing_await_count(STANDS, most + 1);
    begin_dreaming(false);
    EXPECT(-ETIMEDOUT, wait_for(3, 2 * UNIT_S));
    covei_os = &covei_os_native;
    expect_slices(2 * UNIT_S, 10 * UNIT_MS);
    assert_int_equal(sleeps[0].count, COVEI_PARKS_MAX);
    testing_reach(MAY_GO);
    for (unsigned i = 0; i <= most; i++)
        unit_thread_join(threads[i]);
    end();
}

/* ---- timeouts */

static void get_and_give(cove_segment *own, void *argument)
{
    int64_t timeout_ns = *(int64_t *)argument;
    EXPECT(0, cove_mutex_lock(own, &board_of(own)->plain, timeout_ns));
    EXPECT(0, cove_mutex_unlock(own, &board_of(own)->plain));
}

static void test_wait_huge_timeouts_do_not_overflow(void **state)
{
    (void)state;
    begin();
    static int64_t timeouts[] = {INT64_MAX - 1, INT64_MAX - 1000 * UNIT_S, INT64_MAX / 2, INT64_C(1) << 62};
    for (unsigned i = 0; i < 4; i++) {
        EXPECT(0, cove_mutex_lock(segment, &board->plain, timeouts[i]));
        struct actor actor = actor_start(false, segment, get_and_give, &timeouts[i]);
        UNTIL_WAITING(segment, &board->plain, 1);
        UNTIL(actor_sleeps(&actor), 5000);
        EXPECT(0, cove_mutex_unlock(segment, &board->plain));
        actor_join(&actor);
    }
    end();
}

static void test_wait_no_time_is_no_wait(void **state)
{
    (void)state;
    begin();
    struct actor holder = actor_start(true, segment, hold_all, NULL);
    testing_await(STANDS);
    begin_dreaming(false);
    static const int64_t none[] = {0, -1, INT64_MIN};
    for (unsigned which = 0; which < WAITS; which++)
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(wait_for(which, none[i]), -EBUSY);
    covei_os = &covei_os_native;
    assert_int_equal(sleep_count, 0);
    testing_reach(MAY_GO);
    actor_join(&holder);
    (void)cove_barrier_leave(segment, &board->barrier);
    end();
}

/* ---- systems that cannot, or may not */

static _Atomic unsigned asked;

static int park_any_unknown(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    (void)parks;
    (void)count;
    (void)timeout_ns;
    atomic_fetch_add(&asked, 1);
    return -ENOSYS;
}

static int park_any_forbidden(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    (void)parks;
    (void)count;
    (void)timeout_ns;
    atomic_fetch_add(&asked, 1);
    return -EPERM;
}

static int park_forbidden(void *word, uint32_t expected, int64_t timeout_ns)
{
    (void)word;
    (void)expected;
    (void)timeout_ns;
    return -EPERM;
}

static _Thread_local uint64_t whims;

static int park_any_early(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    whims = whims * 6364136223846793005u + 1442695040888963407u;
    switch (whims >> 60) {
    case 0:
        return -EINTR;
    case 1:
        return -ETIMEDOUT;
    case 2:
        return 0;
    case 3:
        return -EAGAIN;
    default:
        return covei_os_native.park_any(parks, count, timeout_ns);
    }
}

struct part {
    uint64_t seed;
    unsigned turns, parties;
};

static void meet(cove_segment *own, struct board *mine, unsigned parties)
{
    int result = cove_barrier_wait(own, &mine->barrier, parties, COVE_FOREVER);
    assert_true(result == 0 || result == COVE_LEADER);
}

static void do_everything(cove_segment *own, void *argument)
{
    struct part *part = argument;
    struct board *mine = board_of(own);
    for (unsigned i = 0; i < part->turns; i++) {
        uint64_t random = unit_random(&part->seed);
        cove_mutex *mutex = random % 2 ? &mine->plain : &mine->fair;
        EXPECT(0, cove_semaphore_acquire(own, &mine->semaphore, COVE_FOREVER));
        EXPECT(0, cove_mutex_lock(own, mutex, COVE_FOREVER));
        if (random / 2 % 4 == 0) {
            EXPECT(0, cove_rwlock_lock(own, &mine->rwlock, COVE_FOREVER));
            mine->value++;
        } else
            EXPECT(0, cove_rwlock_lock_shared(own, &mine->rwlock, COVE_FOREVER));
        if (random >> 60 == 0)
            actors_pass(UNIT_MS / 10);
        EXPECT(0, cove_rwlock_unlock(own, &mine->rwlock));
        EXPECT(0, cove_mutex_unlock(own, mutex));
        EXPECT(0, cove_semaphore_release(own, &mine->semaphore));
        if (i % 10 == 0)
            meet(own, mine, part->parties);
    }
    EXPECT(0, cove_barrier_leave(own, &mine->barrier));
}

static void hold_plain(cove_segment *own, void *argument)
{
    (void)argument;
    EXPECT(0, cove_mutex_lock(own, &board_of(own)->plain, COVE_FOREVER));
    testing_reach(STANDS);
    unit_wait_for_death();
}

static void wait_to_be_interrupted(cove_segment *own, void *argument)
{
    *(int *)argument = cove_event_wait(own, &board_of(own)->event, COVE_FOREVER);
}

/* Crowds, deaths, timeouts, interrupts; without taking a processor while asleep (`sleeps`). */
static void do_everything_with(unsigned turns, bool can_sleep)
{
    struct actor actors[4];
    struct part *parts[4];
    EXPECT(0, cove_semaphore_post(segment, &board->semaphore, 3));
    for (unsigned i = 0; i < 4; i++) {
        parts[i] = testing_shared(sizeof *parts[i]);
        *parts[i] = (struct part){.seed = 50 + i, .turns = turns, .parties = 4};
        actors[i] = actor_start(i % 2 == 1, segment, do_everything, parts[i]);
    }
    actors_join(actors, 4);
    struct actor holder = actor_start(true, segment, hold_plain, NULL);
    testing_await(STANDS);
    int64_t cpu = actors_cpu_ns(), begun = unit_now();
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, &board->plain, 400 * UNIT_MS));
    EXPECT(-ETIMEDOUT, cove_event_wait(segment, &board->event, 200 * UNIT_MS));
    assert_true(unit_now() - begun >= 600 * UNIT_MS);
    cpu = actors_cpu_ns() - cpu;
    print_message("%.2f ms on a processor in 600\n", (double)cpu / 1e6);
    if (can_sleep)
        assert_true(cpu < 100 * UNIT_MS);
    testing_kill(holder.pid);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &board->plain, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(segment, &board->plain));
    int result = 0;
    struct actor waiter = actor_start(false, segment, wait_to_be_interrupted, &result);
    UNTIL_WAITING(segment, &board->event, 1);
    begun = unit_now();
    assert_int_equal(cove_interrupt(), 0);
    actor_join(&waiter);
    assert_int_equal(result, -EINTR);
    print_message("interrupted after %.1f ms\n", (double)(unit_now() - begun) / 1e6);
    assert_true(unit_now() - begun < actors_soon());
    EXPECT(3, cove_semaphore_value(segment, &board->semaphore));
    (void)EXPECT_GOOD(cove_recover(segment));
}

static void test_wait_works_where_one_word_is_all(void **state)
{
    (void)state;
    replace_calls();
    calls.park_any = park_any_unknown;
    begin();
    do_everything_with(200, true);
    assert_true(atomic_load(&asked) > 0 && atomic_load(&asked) < 20); /* found out once, by each who tries at once */
    end();
}

static void test_wait_works_where_a_sandbox_forbids_it(void **state)
{
    (void)state;
    replace_calls();
    calls.park_any = park_any_forbidden;
    begin();
    do_everything_with(200, true);
    end();
}

/* Then it looks all the time, which is slow, and right. */
static void test_wait_works_where_all_sleep_is_forbidden(void **state)
{
    (void)state;
    replace_calls();
    calls.park_any = park_any_forbidden;
    calls.park = park_forbidden;
    begin();
    do_everything_with(40, false);
    end();
}

static void test_wait_works_where_sleep_ends_early(void **state)
{
    (void)state;
    replace_calls();
    calls.park_any = park_any_early;
    begin();
    do_everything_with(200, false);
    end();
}

static const struct testing_case tests[] = {
    TEST(test_wait_slices_are_an_eighth_of_the_time_waited),
    TEST(test_wait_slices_are_short_where_one_word_is_all),
    TEST(test_wait_slices_are_short_for_who_has_no_sign_of_life),
    TEST(test_wait_slices_are_short_for_more_than_can_be_watched),
    TEST(test_wait_huge_timeouts_do_not_overflow),
    TEST(test_wait_no_time_is_no_wait),
    TEST_TIMEOUT(test_wait_works_where_one_word_is_all, 30),
    TEST_TIMEOUT(test_wait_works_where_a_sandbox_forbids_it, 30),
    TEST_TIMEOUT(test_wait_works_where_all_sleep_is_forbidden, 60),
    TEST_TIMEOUT(test_wait_works_where_sleep_ends_early, 30),
};

int main(void)
{
    return testing_run("wait", tests);
}
