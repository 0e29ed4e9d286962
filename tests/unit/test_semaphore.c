/* test_semaphore.c - permits, owned and plain: results, limits, who is woken, what a death gives back and what not.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "actors.h"

#include <cove/semaphore.h>

struct board {
    cove_semaphore permits, others[40];
    _Atomic int32_t inside, most_inside;
};

static cove_segment *segment;
static struct board *board;

static void begin(uint32_t permits)
{
    segment = unit_open("t");
    board = unit_object(segment, "b", sizeof *board);
    if (permits > 0)
        EXPECT(0, cove_semaphore_post(segment, &board->permits, permits));
}

static void end(int64_t permits)
{
    EXPECT(permits, cove_semaphore_value(segment, &board->permits));
    EXPECT(-EPERM, cove_semaphore_release(segment, &board->permits));
    assert_int_equal(atomic_load(&covei_thread.shm->marks), 0);
    assert_int_equal(actors_waiting(segment, &board->permits), 0);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

/* ---- results */

static void test_semaphore_plain_results(void **state)
{
    (void)state;
    begin(0);
    cove_semaphore *permits = &board->permits;
    EXPECT(0, cove_semaphore_value(segment, permits)); /* all zero: none */
    EXPECT_SAYS(-EBUSY, cove_semaphore_wait(segment, permits, COVE_NOWAIT), "no permit left");
    EXPECT(-EBUSY, cove_semaphore_wait(segment, permits, -1));
    int64_t begun = unit_now();
    EXPECT_SAYS(-ETIMEDOUT, cove_semaphore_wait(segment, permits, 30 * UNIT_MS), "somebody must post one");
    assert_true(unit_now() - begun >= 30 * UNIT_MS);
    assert_int_equal(permits->waits, 1);
    assert_true(permits->longest_us >= 29000);
    EXPECT(0, cove_semaphore_post(segment, permits, 3));
    EXPECT(3, cove_semaphore_value(segment, permits));
    EXPECT(0, cove_semaphore_wait(segment, permits, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_wait(segment, permits, COVE_FOREVER));
    EXPECT(0, cove_semaphore_wait(NULL, permits, UNIT_MS));
    EXPECT(0, cove_semaphore_value(NULL, permits));
    EXPECT(-EBUSY, cove_semaphore_wait(segment, permits, COVE_NOWAIT));
    EXPECT(-EPERM, cove_semaphore_release(segment, permits)); /* it owns none of them */
    EXPECT(0, cove_semaphore_post(segment, permits, 0));
    EXPECT(0, cove_semaphore_value(segment, permits));
    assert_int_equal(permits->waits, 1);
    end(0);
}

static void test_semaphore_owned_results(void **state)
{
    (void)state;
    begin(2);
    cove_semaphore *permits = &board->permits;
    EXPECT(0, cove_semaphore_acquire(segment, permits, COVE_NOWAIT));
    EXPECT(1, cove_semaphore_value(segment, permits));
    EXPECT(0,
           cove_semaphore_acquire(segment, permits, COVE_FOREVER)); /* as a lock that several may hold, and one twice */
    EXPECT(0, cove_semaphore_value(segment, permits));
    char who[64];
    (void)snprintf(who, sizeof who, "(pid %d", (int)getpid());
    EXPECT_SAYS(-EBUSY, cove_semaphore_acquire(segment, permits, COVE_NOWAIT), who);
    EXPECT_SAYS(-EBUSY, cove_semaphore_wait(segment, permits, COVE_NOWAIT), who);
    EXPECT_SAYS(-ETIMEDOUT, cove_semaphore_acquire(segment, permits, 10 * UNIT_MS), "all 2 permits are taken");
    EXPECT(0, cove_semaphore_release(segment, permits));
    EXPECT(0, cove_semaphore_wait(segment, permits, COVE_NOWAIT)); /* one is taken for good now */
    EXPECT_SAYS(-EBUSY, cove_semaphore_acquire(segment, permits, COVE_NOWAIT), "has the permit");
    EXPECT(0, cove_semaphore_release(segment, permits));
    EXPECT(-EPERM, cove_semaphore_release(segment, permits));
    EXPECT(1, cove_semaphore_value(segment, permits));
    EXPECT(0, cove_semaphore_post(segment, permits, 1));
    end(2);
}

static void test_semaphore_bad_calls_are_refused(void **state)
{
    (void)state;
    begin(1);
    cove_semaphore outside = {0};
    cove_semaphore *bad[] = {NULL, &outside, (cove_semaphore *)(void *)((char *)&board->permits + 4),
                             (cove_semaphore *)(void *)segment->base};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(-EINVAL, cove_semaphore_acquire(segment, bad[i], COVE_NOWAIT));
        EXPECT(-EINVAL, cove_semaphore_release(segment, bad[i]));
        EXPECT(-EINVAL, cove_semaphore_wait(segment, bad[i], COVE_NOWAIT));
        EXPECT(-EINVAL, cove_semaphore_value(segment, bad[i]));
        assert_int_equal(cove_semaphore_post(segment, bad[i], 1), -EINVAL);
    }
    EXPECT(-EINVAL, cove_semaphore_value(NULL, &outside));
    assert_int_equal(cove_semaphore_post(NULL, &outside, 1), -EINVAL);
    end(1);
}

static void test_semaphore_limit_is_told(void **state)
{
    (void)state;
    begin(COVE_SEMAPHORE_MAX);
    cove_semaphore *permits = &board->permits;
    unit_forget();
    assert_int_equal(cove_semaphore_post(segment, permits, 1), -EOVERFLOW);
    assert_int_equal(cove_semaphore_post(segment, permits, UINT32_MAX), -EOVERFLOW);
    assert_string_equal(cove_last_error(), ""); /* left alone */
    EXPECT(COVE_SEMAPHORE_MAX, cove_semaphore_value(segment, permits));
    EXPECT(0, cove_semaphore_acquire(segment, permits, COVE_NOWAIT));
    assert_int_equal(cove_semaphore_post(segment, permits, 1), -EOVERFLOW); /* that one comes back */
    EXPECT(0, cove_semaphore_wait(segment, permits, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_post(segment, permits, 1));
    assert_int_equal(cove_semaphore_post(segment, permits, 1), -EOVERFLOW);
    EXPECT(0, cove_semaphore_release(segment, permits));
    assert_int_equal(cove_semaphore_post(segment, &board->others[0], COVE_SEMAPHORE_MAX + 1u), -EOVERFLOW);
    EXPECT(0, cove_semaphore_value(segment, &board->others[0]));
    end(COVE_SEMAPHORE_MAX);
}

static void test_semaphore_places_of_a_thread_are_32(void **state)
{
    (void)state;
    begin(100);
    for (int i = 0; i < 32; i++)
        EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT));
    EXPECT_SAYS(-ENOLCK, cove_semaphore_acquire(segment, &board->permits, COVE_FOREVER), "32 locks");
    EXPECT(68, cove_semaphore_value(segment, &board->permits)); /* nothing was taken */
    EXPECT(0, cove_semaphore_wait(segment, &board->permits, COVE_NOWAIT)); /* takes no place */
    for (int i = 0; i < 32; i++)
        EXPECT(0, cove_semaphore_release(segment, &board->permits));
    end(99);
}

/* Transactions do not matter: a permit goes back at once, and an abort neither gives nor takes any. */
static void test_semaphore_is_no_part_of_transactions(void **state)
{
    (void)state;
    for (int how = 0; how < 2; how++) {
        begin(3);
        cove_semaphore *permits = &board->permits;
        EXPECT(0, cove_semaphore_acquire(segment, permits, COVE_NOWAIT)); /* before */
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_save(segment, &board->most_inside, sizeof board->most_inside));
        EXPECT(0, cove_semaphore_acquire(segment, permits, COVE_NOWAIT)); /* inside */
        EXPECT(0, cove_semaphore_acquire(segment, permits, COVE_NOWAIT));
        EXPECT(0, cove_semaphore_release(segment, permits));
        EXPECT(1, cove_semaphore_value(segment, permits)); /* at once */
        EXPECT(0, how ? cove_abort(segment) : cove_commit(segment));
        EXPECT(1, cove_semaphore_value(segment, permits));
        EXPECT(0, cove_semaphore_release(segment, permits));
        EXPECT(0, cove_semaphore_release(segment, permits));
        end(3);
    }
}

/* ---- waking */

struct taker {
    bool owned;
    int64_t timeout_ns;
    _Atomic int result;
    _Atomic int64_t at_ns;
};

enum { TOOK = 0, MAY_GO = 1, READY = 2, GAVE_UP_MAY_GO = 3 };

static void take_one(cove_segment *own, void *argument)
{
    struct taker *taker = argument;
    struct board *mine = board_of(own);
    int result = taker->owned ? cove_semaphore_acquire(own, &mine->permits, taker->timeout_ns)
                              : cove_semaphore_wait(own, &mine->permits, taker->timeout_ns);
    atomic_store(&taker->at_ns, unit_now());
    atomic_store(&taker->result, result);
    testing_reach(TOOK);
    if (result == 0 && taker->owned) {
        testing_await(MAY_GO);
        EXPECT(0, cove_semaphore_release(own, &mine->permits));
    }
}

static struct taker *taker_of(bool owned, int64_t timeout_ns)
{
    struct taker *taker = testing_shared(sizeof *taker);
    *taker = (struct taker){.owned = owned, .timeout_ns = timeout_ns};
    atomic_store(&taker->result, 1000);
    return taker;
}

/* `count` wait; a post of n wakes n of them, and not one more. */
static void test_semaphore_post_of_n_wakes_n(void **state)
{
    (void)state;
    for (int owned = 0; owned < 2; owned++) {
        actors_never_look();
        begin(0);
        struct actor actors[8];
        struct taker *takers[8];
        for (unsigned i = 0; i < 8; i++) {
            takers[i] = taker_of(owned, COVE_FOREVER);
            actors[i] = actor_start(i % 2 == 1, segment, take_one, takers[i]);
        }
        UNTIL_WAITING(segment, &board->permits, 8);
        unsigned took = testing_reached(TOOK);
        for (unsigned n = 1; n <= 3; n++) {
            for (unsigned i = 0; i < 8; i++)
                UNTIL(atomic_load(&takers[i]->result) != 1000 || actor_sleeps(&actors[i]), 5000);
            EXPECT(0, cove_semaphore_post(segment, &board->permits, n));
            testing_await_count(TOOK, took += n);
            assert_int_equal(testing_reached(TOOK), took);
            EXPECT(0, cove_semaphore_value(segment, &board->permits));
            assert_int_equal(actors_waiting(segment, &board->permits), 8 - n * (n + 1) / 2);
        }
        EXPECT(0, cove_semaphore_post(segment, &board->permits, 5)); /* more than wait */
        testing_await_count(TOOK, took + 2);
        if (owned)
            testing_reach(MAY_GO);
        actors_join(actors, 8);
        end(owned ? 11 : 3);
        covei_os = &covei_os_native;
    }
}

/* Permits that come back one by one go through all who wait. */
static void test_semaphore_owned_goes_from_one_to_the_next(void **state)
{
    (void)state;
    actors_never_look();
    begin(1);
    testing_reach(MAY_GO);
    EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT));
    struct actor actors[8];
    for (unsigned i = 0; i < 8; i++)
        actors[i] = actor_start(i % 3 == 1, segment, take_one, taker_of(true, COVE_FOREVER));
    UNTIL_WAITING(segment, &board->permits, 8);
    EXPECT(0, cove_semaphore_release(segment, &board->permits));
    actors_join(actors, 8);
    end(1);
}

/* Owned and plain takers wait for the same. */
static void test_semaphore_takers_of_both_kinds_are_woken(void **state)
{
    (void)state;
    actors_never_look();
    begin(0);
    struct actor actors[6];
    for (unsigned i = 0; i < 6; i++)
        actors[i] = actor_start(i % 3 == 1, segment, take_one, taker_of(i % 2 == 0, COVE_FOREVER));
    UNTIL_WAITING(segment, &board->permits, 6);
    testing_reach(MAY_GO);
    EXPECT(0, cove_semaphore_post(segment, &board->permits, 3));
    testing_await_count(TOOK, 3);
    EXPECT(0, cove_semaphore_post(segment, &board->permits, 3)); /* those that own give theirs back besides */
    actors_join(actors, 6);
    end(3);
}

static _Atomic int handled;
static struct board *board_of_handler;
static cove_segment *segment_of_handler;

static void post_from_handler(int number)
{
    (void)number;
    int before = errno;
    if (cove_semaphore_post(segment_of_handler, &board_of_handler->permits, 1) == 0)
        atomic_fetch_add(&handled, 1);
    errno = before;
}

/* In the middle of anything, waiting for the very same semaphore included. */
static void test_semaphore_post_from_a_signal_handler(void **state)
{
    (void)state;
    begin(0);
    board_of_handler = board;
    segment_of_handler = segment;
    struct sigaction action = {.sa_handler = post_from_handler};
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    timer_t timer;
    assert_int_equal(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &(struct itimerspec){{0, 300000}, {0, 300000}}, NULL), 0);
    unsigned rounds = testing_scale() > 1 ? 100 : 500;
    unit_forget();
    for (unsigned i = 0; i < rounds; i++) {
        EXPECT(0, cove_semaphore_wait(segment, &board->permits, COVE_FOREVER)); /* posted by ourselves, meanwhile */
        cove_ref block = cove_alloc(segment, 100); /* the handler comes anywhere */
        assert_true(block != 0);
        EXPECT(0, cove_free(segment, block));
    }
    assert_int_equal(timer_delete(timer), 0);
    int64_t left = cove_semaphore_value(segment, &board->permits);
    assert_int_equal(left + rounds, atomic_load(&handled));
    end(left);
}

/* ---- no permit is lost */

/* Whoever gives up has taken nothing, and whoever took has not given up. */
static void test_semaphore_timed_out_waiters_lose_no_permit(void **state)
{
    (void)state;
    begin(0);
    testing_reach(MAY_GO);
    unsigned rounds = testing_scale() > 1 ? 10 : 40;
    uint64_t seed = 7, posted = 0, taken = 0, late = 0;
    for (unsigned round = 0; round < rounds; round++) {
        struct actor actors[6];
        struct taker *takers[6];
        for (unsigned i = 0; i < 6; i++) {
            takers[i] = taker_of(false, (int64_t)(unit_random(&seed) % 3000) * 1000 + 1);
            actors[i] = actor_start(i == 1 && round % 10 == 0, segment, take_one, takers[i]);
        }
        for (unsigned i = 0; i < 4; i++) { /* just when they give up */
            actors_pass((int64_t)(unit_random(&seed) % 700) * 1000);
            EXPECT(0, cove_semaphore_post(segment, &board->permits, 1));
            posted++;
        }
        actors_join(actors, 6);
        for (unsigned i = 0; i < 6; i++) {
            int result = atomic_load(&takers[i]->result);
            taken += result == 0;
            late += result == -ETIMEDOUT;
            assert_true(result == 0 || result == -ETIMEDOUT);
        }
        assert_int_equal(cove_semaphore_value(segment, &board->permits), posted - taken);
        while (posted > taken) {
            EXPECT(0, cove_semaphore_wait(segment, &board->permits, COVE_NOWAIT));
            taken++;
        }
    }
    print_message("%u posted, %u timed out\n", (unsigned)posted, (unsigned)late);
    assert_true(late > rounds / 4 && posted > late / 4);
    end(0);
}

/* At its worst moment: woken by the only post, finds that a newcomer has it, and gives up. Another sleeps behind. */
static _Atomic int step;
static _Thread_local bool first_in_line;

static int park_any_and_dally(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    if (!first_in_line || atomic_load(&step) > 0)
        return covei_os_native.park_any(parks, count, first_in_line ? timeout_ns : ACTORS_SLICE_NS);
    int result = covei_os_native.park_any(parks, count, ACTORS_SLICE_NS);
    atomic_store(&step, 1);
    UNTIL(atomic_load(&step) == 2, 20000);
    return result;
}

static int64_t now_or_later(void)
{
    return covei_os_native.now() + (first_in_line && atomic_load(&step) > 1 ? 3600 * UNIT_S : 0);
}

static void give_up_first(cove_segment *own, void *argument)
{
    first_in_line = true;
    take_one(own, argument);
    testing_await(GAVE_UP_MAY_GO); /* the end of this thread would wake those who watch it */
}

static void test_semaphore_woken_and_too_late_passes_the_wake_on(void **state)
{
    (void)state;
    for (int owned = 0; owned < 2; owned++) {
        begin(0);
        static struct covei_os calls;
        calls = covei_os_native;
        calls.park_any = park_any_and_dally;
        calls.now = now_or_later;
        covei_os = &calls;
        atomic_store(&step, 0);
        struct taker *gives_up = taker_of(owned, 1000 * UNIT_S), *waits = taker_of(owned, COVE_FOREVER);
        struct actor first = actor_start(false, segment, give_up_first, gives_up);
        UNTIL_WAITING(segment, &board->permits, 1);
        UNTIL(actor_sleeps(&first), 5000);
        struct actor second = actor_start(false, segment, take_one, waits);
        UNTIL_WAITING(segment, &board->permits, 2);
        UNTIL(actor_sleeps(&second), 5000);
        EXPECT(0, cove_semaphore_post(segment, &board->permits, 1)); /* wakes the first */
        UNTIL(atomic_load(&step) == 1, 20000);
        EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT)); /* we are quicker */
        atomic_store(&step, 2);
        UNTIL(atomic_load(&gives_up->result) == -ETIMEDOUT, 5000);
        int64_t released = unit_now();
        EXPECT(0, cove_semaphore_release(segment, &board->permits));
        if (owned)
            testing_reach(MAY_GO);
        actor_join(&second);
        assert_true(actors_ms(released) < 5000);
        testing_reach(GAVE_UP_MAY_GO);
        actor_join(&first);
        covei_os = &covei_os_native;
        end(owned);
    }
}

/* ---- deaths */

static void own_some(cove_segment *own, void *argument)
{
    unsigned count = *(unsigned *)argument;
    struct board *mine = board_of(own);
    for (unsigned i = 0; i < count; i++)
        EXPECT(0, cove_semaphore_acquire(own, &mine->permits, COVE_FOREVER));
    EXPECT(0, cove_semaphore_wait(own, &mine->permits, COVE_FOREVER)); /* and one for good */
    testing_reach(READY);
    unit_wait_for_death();
}

static void test_semaphore_owned_come_back_plain_do_not(void **state)
{
    (void)state;
    static const int64_t waits[] = {0, 0, 1000 * UNIT_MS};
    begin(15);
    unsigned *count = testing_shared(sizeof *count);
    *count = 4;
    for (unsigned i = 0; i < 3; i++) { /* one more is gone each time */
        struct actor owner = actor_start(true, segment, own_some, count), waiter[2];
        struct taker *takers[2];
        testing_await_count(READY, i + 1);
        EXPECT(15 - i - 5, cove_semaphore_value(segment, &board->permits));
        unsigned mine = 15 - i - 5;
        for (unsigned k = 0; k < mine; k++)
            EXPECT(0, cove_semaphore_wait(segment, &board->permits, COVE_NOWAIT));
        if (i > 0) {
            for (unsigned k = 0; k < 2; k++) {
                takers[k] = taker_of(false, COVE_FOREVER);
                waiter[k] = actor_start(k == 1, segment, take_one, takers[k]);
            }
            UNTIL_WAITING(segment, &board->permits, 2);
        }
        actors_pass(waits[i]);
        int64_t died = unit_now();
        testing_kill(owner.pid);
        if (i == 0)
            EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT)); /* without waiting, too */
        else {
            actors_join(waiter, 2);
            for (unsigned k = 0; k < 2; k++) {
                EXPECT_WAS(0, atomic_load(&takers[k]->result));
                int64_t took = atomic_load(&takers[k]->at_ns) - died;
                print_message("a permit of the dead after %.1f ms\n", (double)took / 1e6);
                assert_true(took < actors_soon());
            }
            EXPECT(0, cove_semaphore_post(segment, &board->permits, 2));
        }
        (void)EXPECT_GOOD(cove_recover(segment));
        if (i == 0)
            EXPECT(0, cove_semaphore_release(segment, &board->permits));
        EXPECT(0, cove_semaphore_post(segment, &board->permits, mine));
        EXPECT(15 - i - 1, cove_semaphore_value(segment, &board->permits));
    }
    end(12);
}

/* Four sleep; a permit is posted, one of them has it, and is killed while the others sleep on. */
static void test_semaphore_death_of_a_later_owner_is_noticed(void **state)
{
    (void)state;
    begin(0);
    struct taker *takers[4];
    struct actor actors[4];
    for (int i = 0; i < 4; i++) {
        takers[i] = taker_of(true, COVE_FOREVER);
        actors[i] = actor_start(true, segment, take_one, takers[i]);
    }
    UNTIL_WAITING(segment, &board->permits, 4);
    actors_pass(ACTORS_LONG_NS); /* slices are long by now */
    EXPECT(0, cove_semaphore_post(segment, &board->permits, 1));
    testing_await(TOOK);
    int dead = 0;
    while (atomic_load(&takers[dead]->result) == 1000)
        dead++;
    int64_t died = unit_now(), longest = 0;
    testing_kill(actors[dead].pid);
    testing_reach(MAY_GO);
    for (int i = 0; i < 4; i++) {
        if (i == dead)
            continue;
        actor_join(&actors[i]);
        int64_t took = atomic_load(&takers[i]->at_ns) - died;
        longest = took > longest ? took : longest;
    }
    print_message("all had it after %.1f ms\n", (double)longest / 1e6);
    assert_true(longest < actors_soon());
    (void)EXPECT_GOOD(cove_recover(segment));
    end(1);
}

static void *end_owning(void *argument)
{
    (void)argument;
    EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_wait(segment, &board->permits, COVE_NOWAIT));
    return NULL;
}

static void test_semaphore_thread_that_ends_gives_back_what_it_owned(void **state)
{
    (void)state;
    begin(3);
    unit_in_thread(end_owning, NULL);
    EXPECT(2, cove_semaphore_value(segment, &board->permits));
    end(2);
}

/* Stopped is alive. */
static void test_semaphore_stopped_owner_keeps_it(void **state)
{
    (void)state;
    begin(2);
    unsigned *count = testing_shared(sizeof *count);
    *count = 1;
    struct actor owner = actor_start(true, segment, own_some, count);
    testing_await(READY);
    actor_stop(&owner);
    char who[64];
    (void)snprintf(who, sizeof who, "(pid %d", (int)owner.pid);
    EXPECT_SAYS(-ETIMEDOUT, cove_semaphore_acquire(segment, &board->permits, 50 * UNIT_MS), who);
    (void)EXPECT_GOOD(cove_recover(segment));
    EXPECT_SAYS(-EBUSY, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT), who);
    testing_kill(owner.pid);
    EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_NOWAIT));
    EXPECT(0, cove_semaphore_release(segment, &board->permits));
    (void)EXPECT_GOOD(cove_recover(segment));
    end(1);
}

/* A waiter that is killed takes nothing with it, and the next gets its wake-up. */
static void test_semaphore_killed_waiter_takes_nothing(void **state)
{
    (void)state;
    begin(0);
    for (unsigned round = 0; round < 10; round++) {
        struct taker *dies = taker_of(round % 2, COVE_FOREVER), *lives = taker_of(false, COVE_FOREVER);
        struct actor first = actor_start(true, segment, take_one, dies);
        UNTIL_WAITING(segment, &board->permits, 1);
        struct actor second = actor_start(true, segment, take_one, lives);
        UNTIL_WAITING(segment, &board->permits, 2);
        if (round % 3 == 0)
            testing_kill(first.pid);
        EXPECT(0, cove_semaphore_post(segment, &board->permits, 1));
        if (round % 3 != 0)
            testing_kill(first.pid); /* perhaps just taking it */
        UNTIL(atomic_load(&lives->result) == 0 || atomic_load(&dies->result) == 0, 20000);
        if (atomic_load(&lives->result) != 0 && round % 2 == 0)
            EXPECT(0, cove_semaphore_post(segment, &board->permits, 1)); /* taken for good by the dead */
        actor_join(&second);
        (void)EXPECT_GOOD(cove_recover(segment));
        EXPECT(0, cove_semaphore_value(segment, &board->permits));
    }
    end(0);
}

/* ---- never more inside than permits */

struct crowd {
    uint64_t seed;
    unsigned turns;
    bool plain, times_out;
    _Atomic unsigned done;
};

static _Thread_local bool in_slices;

static int park_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    return covei_os_native.park_any(parks, count, in_slices ? timeout_ns : ACTORS_SLICE_NS);
}

static void note_inside(struct board *mine, int32_t change)
{
    int32_t inside = atomic_fetch_add(&mine->inside, change) + change, most = atomic_load(&mine->most_inside);
    while (inside > most && !atomic_compare_exchange_weak(&mine->most_inside, &most, inside)) {}
}

static void go_in_and_out(cove_segment *own, void *argument)
{
    struct crowd *crowd = argument;
    struct board *mine = board_of(own);
    in_slices = crowd->times_out;
    for (unsigned i = 0; i < crowd->turns; i++) {
        uint64_t random = unit_random(&crowd->seed);
        bool plain = crowd->plain && random % 2;
        int64_t timeout = crowd->times_out ? (int64_t)(random >> 32) % (UNIT_MS / 10) : COVE_FOREVER;
        int result = plain ? cove_semaphore_wait(own, &mine->permits, timeout)
                           : cove_semaphore_acquire(own, &mine->permits, timeout);
        atomic_fetch_add(&crowd->done, 1);
        if (result < 0) {
            EXPECT_WAS(timeout ? -ETIMEDOUT : -EBUSY, result);
            continue;
        }
        note_inside(mine, 1);
        if (random >> 62 == 0)
            sched_yield();
        note_inside(mine, -1);
        EXPECT(0, plain ? cove_semaphore_post(own, &mine->permits, 1) : cove_semaphore_release(own, &mine->permits));
    }
}

static void test_semaphore_crowd_is_never_more_than_permits(void **state)
{
    (void)state;
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = park_any;
    covei_os = &calls;
    unsigned phases = testing_scale() > 1 ? 20 : 120;
    uint64_t seed = 99;
    int64_t longest = 0;
    for (unsigned permits = 1; permits <= 3; permits++) {
        begin(permits);
        for (unsigned phase = 0; phase < phases; phase++) {
            struct actor actors[6];
            struct crowd crowds[6];
            int64_t begun = unit_now();
            for (unsigned i = 0; i < 6; i++) {
                crowds[i] = (struct crowd){
                    .seed = unit_random(&seed), .turns = 1 + phase, .plain = phase % 3 == 0, .times_out = i % 3 == 1};
                actors[i] = actor_start(false, segment, go_in_and_out, &crowds[i]);
            }
            actors_join(actors, 6);
            longest = unit_now() - begun > longest ? unit_now() - begun : longest;
            EXPECT(permits, cove_semaphore_value(segment, &board->permits));
        }
        print_message("%u permits: at most %d inside\n", permits, (int)atomic_load(&board->most_inside));
        assert_true(atomic_load(&board->most_inside) <= (int)permits);
        end(permits);
    }
    print_message("the longest phase took %.1f ms\n", (double)longest / 1e6);
    assert_true(longest < ACTORS_SLICE_NS / 2);
    covei_os = &covei_os_native;
}

/* Those who look do so at the same moment, again and again. */
static void try_again_and_again(cove_segment *own, void *argument)
{
    struct board *mine = argument;
    actors_pin((unsigned)atomic_fetch_add(&handled, 1));
    for (int64_t until = unit_now() + UNIT_S; unit_now() < until;)
        if (cove_semaphore_acquire(own, &mine->permits, COVE_NOWAIT) == 0) {
            note_inside(mine, 1);
            note_inside(mine, -1);
            EXPECT(0, cove_semaphore_release(own, &mine->permits));
        }
}

static void test_semaphore_one_permit_is_never_two(void **state)
{
    (void)state;
    begin(1);
    struct actor actors[3];
    for (unsigned i = 0; i < 3; i++)
        actors[i] = actor_start(false, segment, try_again_and_again, board);
    actors_join(actors, 3);
    assert_int_equal(atomic_load(&board->most_inside), 1);
    end(1);
}

/* Owners that are killed at any moment: all that counts is how many are inside who live, so each says so by a lock of
 * its own that a death frees as well. */
static void own_and_work(cove_segment *own, void *argument)
{
    struct crowd *crowd = argument;
    struct board *mine = board_of(own);
    cove_mutex *seats = unit_object(own, "seats", 3 * sizeof *seats);
    for (;;) {
        uint64_t random = unit_random(&crowd->seed);
        EXPECT(0, cove_semaphore_acquire(own, &mine->permits, COVE_FOREVER));
        int seat = 0, result = -EBUSY; /* three permits, three seats: one is free */
        for (int64_t until = unit_now() + unit_patience(); result < 0 && unit_now() < until; seat++)
            result = cove_mutex_lock(own, &seats[seat % 3], COVE_NOWAIT);
        (void)EXPECT_GOOD(result);
        if (random % 4 == 0)
            sched_yield();
        EXPECT(0, cove_mutex_unlock(own, &seats[(seat - 1) % 3]));
        EXPECT(0, cove_semaphore_release(own, &mine->permits));
        atomic_fetch_add(&crowd->done, 1);
    }
}

static void test_semaphore_crowd_with_deaths_keeps_the_number(void **state)
{
    (void)state;
    begin(3);
    unsigned kills = testing_scale() > 1 ? 20 : 100;
    struct actor actors[5];
    struct crowd *crowds[5];
    uint64_t seed = 17;
    for (unsigned i = 0; i < 5; i++) {
        crowds[i] = testing_shared(sizeof *crowds[i]);
        crowds[i]->seed = unit_random(&seed);
        actors[i] = actor_start(true, segment, own_and_work, crowds[i]);
    }
    for (unsigned i = 0; i < kills; i++) {
        unsigned victim = i % 5, other = (i + 1) % 5;
        unsigned seen = atomic_load(&crowds[victim]->done);
        UNTIL(atomic_load(&crowds[victim]->done) > seen + unit_random(&seed) % 20, 20000);
        testing_kill(actors[victim].pid);
        seen = atomic_load(&crowds[other]->done);
        UNTIL(atomic_load(&crowds[other]->done) > seen + 3, 20000);
        actors[victim] = actor_start(true, segment, own_and_work, crowds[victim]);
    }
    for (unsigned i = 0; i < 5; i++)
        testing_kill(actors[i].pid);
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(unit_stat(segment).members_dead, 0);
    end(3);
}

static const struct testing_case tests[] = {
    TEST(test_semaphore_plain_results),
    TEST(test_semaphore_owned_results),
    TEST(test_semaphore_bad_calls_are_refused),
    TEST(test_semaphore_limit_is_told),
    TEST(test_semaphore_places_of_a_thread_are_32),
    TEST(test_semaphore_is_no_part_of_transactions),
    TEST_TIMEOUT(test_semaphore_post_of_n_wakes_n, 30),
    TEST_TIMEOUT(test_semaphore_owned_goes_from_one_to_the_next, 30),
    TEST_TIMEOUT(test_semaphore_takers_of_both_kinds_are_woken, 30),
    TEST(test_semaphore_post_from_a_signal_handler),
    TEST(test_semaphore_timed_out_waiters_lose_no_permit),
    TEST_TIMEOUT(test_semaphore_woken_and_too_late_passes_the_wake_on, 60),
    TEST(test_semaphore_owned_come_back_plain_do_not),
    TEST(test_semaphore_death_of_a_later_owner_is_noticed),
    TEST(test_semaphore_thread_that_ends_gives_back_what_it_owned),
    TEST(test_semaphore_stopped_owner_keeps_it),
    TEST(test_semaphore_killed_waiter_takes_nothing),
    TEST_TIMEOUT(test_semaphore_crowd_is_never_more_than_permits, 60),
    TEST_TIMEOUT(test_semaphore_one_permit_is_never_two, 60),
    TEST_TIMEOUT(test_semaphore_crowd_with_deaths_keeps_the_number, 60),
};

int main(void)
{
    return testing_run("semaphore", tests);
}
