/* test_mutex_fair.c - fair mutexes: the order of service, who is passed and who is not, and that nobody is forgotten.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "actors.h"

#define WAITERS 8
#define PASS_NS (10 * UNIT_MS) /* F2 of lock.c: how long the word lies free before others pass */

static const cove_mutex fair = COVE_MUTEX_FAIR;

struct board {
    cove_mutex lock;
    uint64_t value;
};

/* What the actors share. */
struct scene {
    struct board *board; /* of threads */
    _Atomic uint32_t served; /* how many so far */
    _Atomic uint32_t order[64]; /* who was served when; 1 more than the number */
    _Atomic int64_t got_ns[64];
    _Atomic int result[64];
    _Atomic bool go;
};
struct role {
    struct scene *scene;
    unsigned number;
    int64_t timeout_ns;
};

static cove_segment *segment;
static struct board *board;

static struct scene *begin(void)
{
    segment = unit_open("t");
    board = unit_object(segment, "b", sizeof *board);
    board->lock = fair;
    return testing_shared(sizeof(struct scene));
}

static void end(void)
{
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT)); /* nobody has it, nobody waits */
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    assert_int_equal((uint32_t)board->lock.word, COVEI_LOCK_FAIR);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct role *role_of(struct scene *scene, unsigned number, int64_t timeout_ns)
{
    struct role *role = testing_shared(sizeof *role);
    *role = (struct role){scene, number, timeout_ns};
    return role;
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

/* Wait for the lock, note when and as how many-eth it came, and give it back. */
static void take_a_turn(cove_segment *own, void *argument)
{
    struct role *role = argument;
    struct scene *scene = role->scene;
    struct board *mine = board_of(own);
    int result = cove_mutex_lock(own, &mine->lock, role->timeout_ns);
    atomic_store(&scene->got_ns[role->number], unit_now());
    atomic_store(&scene->result[role->number], result);
    if (result < 0)
        return;
    atomic_store(&scene->order[atomic_fetch_add(&scene->served, 1)], role->number + 1);
    mine->value++;
    EXPECT(0, cove_mutex_unlock(own, &mine->lock));
}

/* The same, and keep it until told otherwise. */
static void take_and_keep(cove_segment *own, void *argument)
{
    struct role *role = argument;
    struct scene *scene = role->scene;
    struct board *mine = board_of(own);
    (void)EXPECT_GOOD(cove_mutex_lock(own, &mine->lock, COVE_FOREVER));
    atomic_store(&scene->got_ns[role->number], unit_now());
    atomic_store(&scene->order[atomic_fetch_add(&scene->served, 1)], role->number + 1);
    testing_reach(role->number);
    UNTIL(atomic_load(&scene->go), 30000);
    EXPECT(0, cove_mutex_unlock(own, &mine->lock));
}

static struct actor waiter(struct scene *scene, bool process, unsigned number, unsigned waiting)
{
    struct actor actor = actor_start(process, segment, take_a_turn, role_of(scene, number, COVE_FOREVER));
    UNTIL_WAITING(segment, &board->lock, waiting);
    return actor;
}

/* ---- one alone */

static void test_fair_alone_is_a_mutex(void **state)
{
    (void)state;
    (void)begin();
    assert_int_equal(board->lock.word, 0x20000000); /* as mutex.h says */
    for (int i = 0; i < 3; i++) {
        EXPECT(0, cove_mutex_lock(segment, &board->lock, i % 2 ? COVE_NOWAIT : COVE_FOREVER));
        struct cove_member_info member;
        EXPECT(1, cove_mutex_holder(segment, &board->lock, &member));
        assert_int_equal(member.pid, getpid());
        EXPECT(-EDEADLK, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
        EXPECT(-EDEADLK, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
        EXPECT(0, cove_mutex_unlock(segment, &board->lock));
        EXPECT(-EPERM, cove_mutex_unlock(segment, &board->lock));
        EXPECT(0, cove_mutex_holder(segment, &board->lock, &member));
        assert_int_equal((uint32_t)board->lock.word, 0x20000000);
    }
    assert_int_equal(board->lock.waits, 0);
    end();
}

static void test_fair_is_two_phase_in_a_transaction(void **state)
{
    (void)state;
    struct scene *scene = begin();
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_save(segment, board, sizeof *board)); /* the lock with it: J3 */
    board->value = 100;
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    struct actor actors[2];
    for (unsigned i = 0; i < 2; i++)
        actors[i] = waiter(scene, false, i, i + 1);
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT)); /* it was held all the while */
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    assert_int_equal(atomic_load(&scene->served), 0);
    EXPECT(0, cove_abort(segment));
    actors_join(actors, 2);
    assert_int_equal(board->value, 2);
    assert_int_equal(atomic_load(&scene->order[0]), 1);
    end();
}

/* ---- the order of service */

static void serve_in_order(bool processes)
{
    struct scene *scene = begin();
    unsigned rounds = processes ? 5 : testing_scale() > 1 ? 20 : 100;
    for (unsigned round = 0; round < rounds; round++) {
        struct actor actors[WAITERS];
        atomic_store(&scene->served, 0);
        EXPECT(0, cove_mutex_lock(segment, &board->lock, unit_patience()));
        for (unsigned i = 0; i < WAITERS; i++)
            actors[i] = waiter(scene, processes || (i % 4 == 1 && round % 10 == 1), i, i + 1);
        EXPECT(0, cove_mutex_unlock(segment, &board->lock));
        actors_join(actors, WAITERS);
        for (unsigned i = 0; i < WAITERS; i++)
            assert_int_equal(atomic_load(&scene->order[i]), i + 1);
        assert_int_equal((uint32_t)board->lock.word, COVEI_LOCK_FAIR); /* nobody waits: the bit is gone */
    }
    assert_int_equal(board->value, rounds * WAITERS);
    end();
}

static void test_fair_serves_threads_in_order(void **state)
{
    (void)state;
    actors_never_look();
    serve_in_order(false);
}

static void test_fair_serves_processes_in_order(void **state)
{
    (void)state;
    actors_never_look();
    serve_in_order(true);
}

/* Who had it and wants it again stands behind those who wait. */
static void take_two_turns(cove_segment *own, void *argument)
{
    struct role *role = argument;
    take_a_turn(own, argument);
    role->number += WAITERS;
    take_a_turn(own, argument);
}

static void test_fair_who_comes_again_is_last(void **state)
{
    (void)state;
    struct scene *scene = begin();
    struct actor actors[WAITERS];
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    for (unsigned i = 0; i < WAITERS; i++) {
        actors[i] = actor_start(false, segment, take_two_turns, role_of(scene, i, COVE_FOREVER));
        UNTIL_WAITING(segment, &board->lock, i + 1);
    }
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    actors_join(actors, WAITERS);
    for (unsigned i = 0; i < WAITERS; i++)
        assert_int_equal(atomic_load(&scene->order[i]), i + 1); /* all first turns before any second one */
    end();
}

/* ---- barging */

/* The first waiter is stopped, so that the lock lies free until somebody passes. */
static void test_fair_newcomers_do_not_barge(void **state)
{
    (void)state;
    struct scene *scene = begin();
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    struct actor first = waiter(scene, true, 0, 1);
    actor_stop(&first);
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    assert_int_equal((uint32_t)board->lock.word, COVEI_LOCK_FAIR | COVEI_LOCK_WAITERS);
    EXPECT_SAYS(-EBUSY, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT), "others wait");
    int64_t begun = unit_now();
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, &board->lock, PASS_NS / 5), "others wait");
    assert_true(unit_now() - begun >= PASS_NS / 5);
    begun = unit_now();
    EXPECT(0, cove_mutex_lock(segment, &board->lock, unit_patience())); /* the first is stopped: it is passed */
    assert_true(unit_now() - begun >= PASS_NS);
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    actor_continue(&first);
    actor_join(&first);
    assert_int_equal(atomic_load(&scene->result[0]), 0);
    end();
}

/* ---- the stopped, the killed */

/* The first of two waiters does not take its turn: how long the second waits for the lock from its release on. */
static int64_t pass_a_stopped_one(int64_t both_wait_ns)
{
    struct scene *scene = begin();
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    struct actor first = waiter(scene, true, 0, 1);
    struct actor second = actor_start(true, segment, take_and_keep, role_of(scene, 1, COVE_FOREVER));
    UNTIL_WAITING(segment, &board->lock, 2);
    actor_stop(&first);
    actors_pass(both_wait_ns);
    int64_t released = unit_now();
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    testing_await(1);
    int64_t took = atomic_load(&scene->got_ns[1]) - released;
    assert_int_equal(atomic_load(&scene->served), 1);
    /* It waits still, and so comes before who arrives now. */
    struct actor third = waiter(scene, true, 2, 2);
    actor_continue(&first);
    UNTIL(actor_sleeps(&first), 5000);
    atomic_store(&scene->go, true);
    actor_join(&second);
    actor_join(&first);
    actor_join(&third);
    assert_int_equal(atomic_load(&scene->order[0]), 2);
    assert_int_equal(atomic_load(&scene->order[1]), 1);
    assert_int_equal(atomic_load(&scene->order[2]), 3);
    end();
    return took;
}

static void test_fair_stopped_first_is_passed_and_gets_it_later(void **state)
{
    (void)state;
    int64_t took = pass_a_stopped_one(0);
    print_message("passed after %.1f ms\n", (double)took / 1e6);
    assert_true(took >= PASS_NS * 9 / 10);
    assert_true(took < actors_soon());
}

/* Where all have waited for long they look rarely: one slice more. */
static void test_fair_stopped_first_is_passed_after_a_long_wait(void **state)
{
    (void)state;
    int64_t took = pass_a_stopped_one(ACTORS_LONG_NS);
    print_message("passed after %.1f ms\n", (double)took / 1e6);
    assert_true(took >= PASS_NS * 9 / 10);
    assert_true(took < 250 * UNIT_MS + actors_soon());
}

static void test_fair_killed_first_holds_nobody_up(void **state)
{
    (void)state;
    static const int64_t waits[] = {0, 0, 1000 * UNIT_MS};
    for (int when = 0; when < 3; when++) {
        struct scene *scene = begin();
        EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
        struct actor first = waiter(scene, true, 0, 1), second = waiter(scene, true, 1, 2);
        struct actor third = waiter(scene, false, 2, 3);
        actors_pass(waits[when]);
        if (when > 0)
            testing_kill(first.pid);
        int64_t released = unit_now();
        EXPECT(0, cove_mutex_unlock(segment, &board->lock));
        if (when == 0)
            testing_kill(first.pid); /* perhaps with the lock in hand */
        actor_join(&second);
        actor_join(&third);
        unsigned dead = atomic_load(&scene->order[0]) == 1;
        assert_int_equal(atomic_load(&scene->order[dead]), 2);
        assert_int_equal(atomic_load(&scene->order[dead + 1]), 3);
        int64_t took = atomic_load(&scene->got_ns[1]) - released;
        print_message("the second got it after %.1f ms\n", (double)took / 1e6);
        assert_true(took < actors_soon());
        end();
    }
}

/* Recovery gives a fair lock to who waits longest, too, and it stays fair. */
static void die_with_it(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_begin(own));
    EXPECT(0, cove_mutex_lock(own, &mine->lock, COVE_FOREVER));
    EXPECT(0, cove_save(own, &mine->value, sizeof mine->value));
    mine->value = 1000;
    testing_reach(40);
    unit_wait_for_death();
}

static void test_fair_dead_holders_lock_goes_to_the_first(void **state)
{
    (void)state;
    struct scene *scene = begin();
    for (unsigned round = 0; round < 5; round++) {
        atomic_store(&scene->served, 0);
        struct actor holder = actor_start(true, segment, die_with_it, NULL), actors[5];
        testing_await_count(40, round + 1);
        for (unsigned i = 0; i < 5; i++)
            actors[i] = waiter(scene, i % 2 == 0, i, i + 1);
        testing_kill(holder.pid);
        actors_join(actors, 5);
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(atomic_load(&scene->order[i]), i + 1);
            assert_int_equal(atomic_load(&scene->result[i]), i == 0 ? COVE_RECOVERED : 0);
        }
        assert_int_equal(board->value, 5 * (round + 1));
    }
    end();
}

/* Killed after it gave the lock back, before it woke the next. */
static int die_in_wake(void *word, int32_t count)
{
    (void)word;
    (void)count;
    (void)raise(SIGKILL);
    return 0;
}

static void give_back_and_die(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_mutex_lock(own, &mine->lock, COVE_FOREVER));
    testing_reach(40);
    testing_await(41);
    static struct covei_os calls;
    calls = *covei_os;
    calls.wake = die_in_wake;
    covei_os = &calls;
    (void)cove_mutex_unlock(own, &mine->lock);
    fail_msg("nobody was to be woken");
}

static void test_fair_killed_before_it_wakes_the_next(void **state)
{
    (void)state;
    struct scene *scene = begin();
    struct actor holder = actor_start(true, segment, give_back_and_die, NULL), actors[4];
    testing_await(40);
    for (unsigned i = 0; i < 4; i++)
        actors[i] = waiter(scene, true, i, i + 1);
    actors_pass(ACTORS_LONG_NS); /* slices are long by now */
    for (unsigned i = 0; i < 4; i++)
        UNTIL(actor_sleeps(&actors[i]), 5000);
    int64_t released = unit_now();
    testing_reach(41);
    int status = testing_wait(holder.pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    actors_join(actors, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(atomic_load(&scene->order[i]), i + 1);
    int64_t took = atomic_load(&scene->got_ns[3]) - released;
    print_message("all four had it after %.1f ms\n", (double)took / 1e6);
    assert_true(took < actors_soon());
    end();
}

/* ---- those who give up */

/* The clock of one thread: its time is over at the very moment when the lock is given back and the turn is its. */
static _Thread_local bool late;
static _Thread_local void (*meanwhile)(void);

static int64_t late_now(void)
{
    if (meanwhile) {
        void (*now_do)(void) = meanwhile;
        meanwhile = NULL;
        now_do();
    }
    return covei_os_native.now() + (late ? 3600 * UNIT_S : 0);
}

static _Atomic int steps;

static void let_it_be_given_back(void)
{
    late = true;
    atomic_store(&steps, 2);
    UNTIL(atomic_load(&steps) == 3, 20000);
}

static int park_once(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    if (atomic_load(&steps) == 1 && !late)
        meanwhile = let_it_be_given_back; /* the next look at the clock is the one for the timeout */
    else
        return actors_park_any(parks, count, timeout_ns);
    return -ETIMEDOUT;
}

static struct covei_os late_calls;

static void time_out_with_the_turn(cove_segment *own, void *argument)
{
    struct role *role = argument;
    struct board *mine = board_of(own);
    atomic_store(&role->scene->result[role->number], cove_mutex_lock(own, &mine->lock, 1000 * UNIT_S));
    testing_await(50); /* the end of this thread would wake those who watch it */
}

static void test_fair_who_times_out_hands_its_turn_on(void **state)
{
    (void)state;
    struct scene *scene = begin();
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    late_calls = covei_os_native;
    late_calls.now = late_now;
    late_calls.park_any = park_once;
    covei_os = &late_calls;
    atomic_store(&steps, 0);
    struct actor first = actor_start(false, segment, time_out_with_the_turn, role_of(scene, 0, 0));
    UNTIL_WAITING(segment, &board->lock, 1);
    UNTIL(actor_sleeps(&first), 5000);
    struct actor second = waiter(scene, false, 1, 2);
    UNTIL(actor_sleeps(&second), 5000);
    /* Wake the first for nothing; its second sleep is cut short, its time is over, and just then it gets the turn. */
    atomic_store(&steps, 1);
    uint32_t lane = 0;
    while (atomic_load(&segment->lanes[lane].thread_id) != atomic_load(&first.part->thread_id))
        lane++;
    atomic_fetch_add(&segment->lanes[lane].turn, 2);
    (void)covei_os_native.wake((void *)&segment->lanes[lane].turn, 1);
    UNTIL(atomic_load(&steps) == 2, 20000);
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    int64_t released = unit_now();
    atomic_store(&steps, 3);
    actor_join(&second);
    testing_reach(50);
    actor_join(&first);
    covei_os = &covei_os_native;
    int result = atomic_load(&scene->result[0]);
    assert_true(result == -ETIMEDOUT || result == 0);
    assert_int_equal(result, -ETIMEDOUT); /* else the test did not meet its moment */
    assert_true(actors_ms(released) < 5000);
    end();
}

/* All waiters give up: the bit is gone with the next release, and nobody is owed a turn. */
static void test_fair_after_timeouts_nothing_is_left(void **state)
{
    (void)state;
    struct scene *scene = begin();
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    struct actor actors[4];
    for (unsigned i = 0; i < 4; i++)
        actors[i] = actor_start(i % 2 == 1, segment, take_a_turn, role_of(scene, i, (int64_t)(5 + 10 * i) * UNIT_MS));
    actors_join(actors, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(atomic_load(&scene->result[i]), -ETIMEDOUT);
    assert_int_equal(actors_waiting(segment, &board->lock), 0);
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    assert_int_equal((uint32_t)board->lock.word, COVEI_LOCK_FAIR);
    end();
}

/* ---- many, at random */

struct crowd {
    uint64_t seed;
    unsigned turns, timed_out, passed_others;
};

/* Is anybody registered before the thread whose lane this is? */
static bool others_came_before(cove_segment *own, const cove_mutex *mutex)
{
    int64_t mine = atomic_load(&covei_thread.shm->waits_since);
    for (uint32_t i = 0; i < atomic_load(&own->header->lanes_ready); i++)
        if (&own->lanes[i] != covei_thread.shm && atomic_load(&own->owners[i]) != 0 &&
            atomic_load(&own->lanes[i].waits_for) == covei_offset(own, mutex) &&
            atomic_load(&own->lanes[i].waits_since) < mine)
            return true;
    return false;
}

static void arrive_at_random(cove_segment *own, void *argument)
{
    struct crowd *crowd = argument;
    struct board *mine = board_of(own);
    while (crowd->turns < 200) {
        uint64_t random = unit_random(&crowd->seed);
        int64_t timeout = random % 5 == 0 ? (int64_t)(random >> 8) % (2 * UNIT_MS) : COVE_FOREVER;
        uint64_t before = atomic_load(&covei_thread.shm->waits_since) == 0;
        int64_t since = (int64_t)before + atomic_load(&covei_thread.shm->waits_since);
        int result = cove_mutex_lock(own, &mine->lock, timeout);
        if (result == -ETIMEDOUT || result == -EBUSY) {
            crowd->timed_out++;
            continue;
        }
        EXPECT_WAS(0, result);
        if (atomic_load(&covei_thread.shm->waits_since) != since) /* it waited */
            crowd->passed_others += others_came_before(own, &mine->lock);
        mine->value++;
        crowd->turns++;
        if (random >> 62 == 0)
            actors_pass((int64_t)(random >> 20) % (UNIT_MS / 2)); /* others come */
        EXPECT(0, cove_mutex_unlock(own, &mine->lock));
        if (random >> 62 == 1)
            actors_pass((int64_t)(random >> 30) % (UNIT_MS / 2));
    }
}

static void crowd_of(bool processes)
{
    (void)begin();
    struct actor actors[5];
    struct crowd *crowds[5];
    for (unsigned i = 0; i < 5; i++) {
        crowds[i] = testing_shared(sizeof *crowds[i]);
        crowds[i]->seed = 77 + i;
        actors[i] = actor_start(processes, segment, arrive_at_random, crowds[i]);
    }
    unsigned passed = 0, timed_out = 0;
    for (unsigned i = 0; i < 5; i++) {
        actor_join(&actors[i]);
        passed += crowds[i]->passed_others;
        timed_out += crowds[i]->timed_out;
    }
    print_message("1000 turns, %u timed out; %u passed others\n", timed_out, passed);
    assert_int_equal(board->value, 1000);
    assert_true(passed < 100); /* who is not run for 10 ms by a busy machine is passed */
    end();
}

static void test_fair_a_thousand_random_arrivals_of_threads(void **state)
{
    (void)state;
    actors_never_look();
    crowd_of(false);
}

static void test_fair_a_thousand_random_arrivals_of_processes(void **state)
{
    (void)state;
    crowd_of(true);
}

static const struct testing_case tests[] = {
    TEST(test_fair_alone_is_a_mutex),
    TEST(test_fair_is_two_phase_in_a_transaction),
    TEST_TIMEOUT(test_fair_serves_threads_in_order, 30),
    TEST_TIMEOUT(test_fair_serves_processes_in_order, 30),
    TEST(test_fair_who_comes_again_is_last),
    TEST(test_fair_newcomers_do_not_barge),
    TEST(test_fair_stopped_first_is_passed_and_gets_it_later),
    TEST_TIMEOUT(test_fair_stopped_first_is_passed_after_a_long_wait, 20),
    TEST_TIMEOUT(test_fair_killed_first_holds_nobody_up, 20),
    TEST_TIMEOUT(test_fair_dead_holders_lock_goes_to_the_first, 20),
    TEST_TIMEOUT(test_fair_killed_before_it_wakes_the_next, 20),
    TEST_TIMEOUT(test_fair_who_times_out_hands_its_turn_on, 30),
    TEST(test_fair_after_timeouts_nothing_is_left),
    TEST_TIMEOUT(test_fair_a_thousand_random_arrivals_of_threads, 60),
    TEST_TIMEOUT(test_fair_a_thousand_random_arrivals_of_processes, 60),
};

int main(void)
{
    return testing_run("mutex_fair", tests);
}
