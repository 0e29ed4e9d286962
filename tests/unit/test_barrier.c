/* test_barrier.c - rounds in which all come, or are told why not; parties that die, leave, come late.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "actors.h"

#include <cove/barrier.h>

struct board {
    cove_barrier barrier, others[40];
    _Atomic uint32_t come[8];
};

static cove_segment *segment;
static struct board *board;

static void begin(void)
{
    segment = unit_open("t");
    board = unit_object(segment, "b", sizeof *board);
}

static void end(void)
{
    (void)cove_barrier_leave(segment, &board->barrier);
    EXPECT(-EPERM, cove_barrier_leave(segment, &board->barrier));
    assert_int_equal(atomic_load(&covei_thread.shm->marks), 0);
    assert_int_equal(actors_waiting(segment, &board->barrier), 0);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

/* ---- rounds */

static void test_barrier_results(void **state)
{
    (void)state;
    begin();
    cove_barrier *barrier = &board->barrier, outside = {0};
    EXPECT(-EPERM, cove_barrier_leave(segment, barrier));
    EXPECT(0, cove_barrier_reset(segment, barrier)); /* not broken: nothing */
    EXPECT_SAYS(-EINVAL, cove_barrier_wait(segment, barrier, 0, COVE_NOWAIT), "parties");
    EXPECT_SAYS(-EINVAL, cove_barrier_wait(segment, barrier, COVE_BARRIER_MAX + 1, COVE_NOWAIT), "parties");
    EXPECT(-EPERM, cove_barrier_leave(segment, barrier)); /* none of these made a party */
    EXPECT_SAYS(-EBUSY, cove_barrier_wait(segment, barrier, 2, COVE_NOWAIT), "0 of 2");
    EXPECT_SAYS(-EINVAL, cove_barrier_wait(segment, barrier, 3, COVE_NOWAIT), "2 parties, not 3");
    EXPECT_SAYS(-EINVAL, cove_barrier_wait(segment, barrier, 1, COVE_FOREVER), "2 parties, not 1");
    int64_t begun = unit_now();
    EXPECT_SAYS(-ETIMEDOUT, cove_barrier_wait(NULL, barrier, 2, 30 * UNIT_MS), "only 1 of 2");
    assert_true(unit_now() - begun >= 30 * UNIT_MS);
    assert_int_equal(barrier->waits, 1);
    EXPECT_SAYS(-EBUSY, cove_barrier_wait(segment, barrier, 2, COVE_NOWAIT), "0 of 2"); /* it has not come */
    EXPECT(0, cove_barrier_leave(segment, barrier));
    EXPECT(-EPERM, cove_barrier_leave(segment, barrier));
    for (int i = 0; i < 5; i++) /* a party of one is its leader */
        EXPECT(COVE_LEADER, cove_barrier_wait(segment, &board->others[0], 1, i % 2 ? COVE_NOWAIT : COVE_FOREVER));
    EXPECT(0, cove_barrier_leave(segment, &board->others[0]));
    cove_barrier *bad[] = {NULL, &outside, (cove_barrier *)(void *)((char *)barrier + 4),
                           (cove_barrier *)(void *)segment->base};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(-EINVAL, cove_barrier_wait(segment, bad[i], 2, COVE_NOWAIT));
        EXPECT(-EINVAL, cove_barrier_reset(segment, bad[i]));
        EXPECT(-EINVAL, cove_barrier_leave(segment, bad[i]));
    }
    end();
}

static void test_barrier_places_of_a_thread_are_32(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 32; i++)
        EXPECT(-EBUSY, cove_barrier_wait(segment, &board->others[i], 2, COVE_NOWAIT));
    EXPECT_SAYS(-ENOLCK, cove_barrier_wait(segment, &board->others[32], 2, COVE_FOREVER), "32 locks");
    EXPECT(-EBUSY, cove_barrier_wait(segment, &board->others[5], 2, COVE_NOWAIT)); /* is one already */
    EXPECT(0, cove_barrier_leave(segment, &board->others[5]));
    EXPECT(-EBUSY, cove_barrier_wait(segment, &board->others[32], 2, COVE_NOWAIT));
    for (int i = 0; i < 33; i++)
        EXPECT(i == 5 ? -EPERM : 0, cove_barrier_leave(segment, &board->others[i]));
    end();
}

struct party {
    unsigned number, parties, rounds;
    uint64_t seed;
    _Atomic unsigned led, told, timed_out, done;
    _Atomic int result;
    _Atomic int64_t at_ns;
    int64_t timeout_ns;
};

static struct party *party_of(unsigned number, unsigned parties, unsigned rounds)
{
    struct party *party = testing_shared(sizeof *party);
    *party = (struct party){
        .number = number, .parties = parties, .rounds = rounds, .seed = 1 + number, .timeout_ns = COVE_FOREVER};
    atomic_store(&party->result, 1000);
    return party;
}

/* Nobody is a round ahead of or behind another who waits. */
static void go_rounds(cove_segment *own, void *argument)
{
    struct party *party = argument;
    struct board *mine = board_of(own);
    for (unsigned round = 1; round <= party->rounds; round++) {
        if (unit_random(&party->seed) % 8 == 0)
            actors_pass((int64_t)(unit_random(&party->seed) % (UNIT_MS / 5)));
        atomic_store(&mine->come[party->number], round);
        int result = cove_barrier_wait(own, &mine->barrier, party->parties, COVE_FOREVER);
        if (result == COVE_LEADER)
            atomic_fetch_add(&party->led, 1);
        else
            EXPECT_WAS(0, result);
        for (unsigned i = 0; i < party->parties; i++) {
            unsigned come = atomic_load(&mine->come[i]);
            assert_true(come == round || come == round + 1);
        }
    }
    if (party->number % 2)
        EXPECT(0, cove_barrier_leave(own, &mine->barrier)); /* others just end; nobody is told */
}

static void rounds_of(bool processes, unsigned parties)
{
    actors_never_look();
    begin();
    unsigned rounds = testing_scale() > 1 ? 100 : 1000, led = 0;
    struct actor actors[8];
    struct party *all[8];
    for (unsigned i = 0; i < parties; i++) {
        all[i] = party_of(i, parties, rounds);
        actors[i] = actor_start(processes, segment, go_rounds, all[i]);
    }
    actors_join(actors, parties);
    for (unsigned i = 0; i < parties; i++)
        led += atomic_load(&all[i]->led);
    assert_int_equal(led, rounds); /* one each round */
    covei_os = &covei_os_native;
    end();
}

static void test_barrier_rounds_of_threads_have_one_leader_each(void **state)
{
    (void)state;
    rounds_of(false, 2);
    rounds_of(false, 5);
}

static void test_barrier_rounds_of_processes_have_one_leader_each(void **state)
{
    (void)state;
    rounds_of(true, 4);
}

/* ---- one party, step by step */

enum { STEP = 0, ONCE_DONE = 20, MAY_END = 40 };

static void wait_once(cove_segment *own, void *argument)
{
    struct party *party = argument;
    int result = cove_barrier_wait(own, &board_of(own)->barrier, party->parties, party->timeout_ns);
    atomic_store(&party->at_ns, unit_now());
    atomic_store(&party->result, result);
    testing_reach(ONCE_DONE);
    testing_await(MAY_END);
}

static struct actor waiting_party(bool process, struct party *party, unsigned waiting)
{
    struct actor actor = actor_start(process, segment, wait_once, party);
    UNTIL_WAITING(segment, &board->barrier, waiting);
    return actor;
}

static int64_t told_within(struct party *party, int64_t since)
{
    UNTIL(atomic_load(&party->result) != 1000, 20000);
    EXPECT_WAS(COVE_EPEER, atomic_load(&party->result));
    int64_t took = atomic_load(&party->at_ns) - since;
    print_message("told after %.1f ms\n", (double)took / 1e6);
    return took;
}

/* A party dies inside a round, all others wait for the last one. */
static void test_barrier_death_inside_a_round_is_told_to_all(void **state)
{
    (void)state;
    begin();
    struct party *parties[4];
    struct actor actors[4];
    for (unsigned i = 0; i < 4; i++) {
        parties[i] = party_of(i, 5, 1);
        actors[i] = waiting_party(i != 1, parties[i], i + 1);
    }
    int64_t died = unit_now();
    testing_kill(actors[3].pid);
    for (unsigned i = 0; i < 3; i++)
        assert_true(told_within(parties[i], died) < actors_soon());
    EXPECT(-EBUSY, cove_barrier_wait(segment, &board->barrier, 5, COVE_NOWAIT)); /* all know: it begins anew */
    testing_reach(MAY_END);
    actors_join(actors, 3);
    end();
}

/* The same when they have waited for long, and look rarely. */
static void test_barrier_death_after_a_long_wait_is_told_soon(void **state)
{
    (void)state;
    begin();
    struct party *parties[3];
    struct actor actors[3];
    for (unsigned i = 0; i < 3; i++) {
        parties[i] = party_of(i, 4, 1);
        actors[i] = waiting_party(true, parties[i], i + 1);
    }
    actors_pass(ACTORS_LONG_NS);
    int64_t died = unit_now();
    testing_kill(actors[1].pid);
    int64_t first = told_within(parties[0], died), third = told_within(parties[2], died);
    assert_true(first < actors_soon() && third < actors_soon());
    testing_reach(MAY_END);
    actor_join(&actors[0]);
    actor_join(&actors[2]);
    end();
}

/* Killed when the round was complete, before it woke the others: they go on, and know by the round that all had come. */
static cove_barrier *completed;

static int die_in_wake(void *word, int32_t count)
{
    if ((atomic_load((_Atomic uint64_t *)(void *)&completed->word) >> 32 & 0xffff) != 0)
        return covei_os_native.wake(word, count); /* not yet */
    (void)raise(SIGKILL);
    return 0;
}

static void complete_and_die(cove_segment *own, void *argument)
{
    struct party *party = argument;
    cove_barrier *barrier = completed = &board_of(own)->barrier;
    if (party->number > 0) /* a party before the others sleep */
        EXPECT(-EBUSY, cove_barrier_wait(own, barrier, party->parties, COVE_NOWAIT));
    testing_reach(STEP);
    testing_await(STEP + 1);
    static struct covei_os calls;
    calls = *covei_os;
    calls.wake = die_in_wake;
    covei_os = &calls;
    int result = cove_barrier_wait(own, barrier, party->parties, COVE_FOREVER);
    fail_msg("%d, though nobody was to be woken", result);
}

static void complete_with_a_death(bool newcomer)
{
    begin();
    struct party *parties[3];
    struct actor last = actor_start(true, segment, complete_and_die, party_of(newcomer ? 0 : 3, 4, 1)), actors[3];
    testing_await(STEP);
    for (unsigned i = 0; i < 3; i++) {
        parties[i] = party_of(i, 4, 1);
        actors[i] = waiting_party(true, parties[i], i + 1);
    }
    actors_pass(ACTORS_LONG_NS);
    int64_t died = unit_now();
    testing_reach(STEP + 1);
    int status = testing_wait(last.pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    int64_t longest = 0;
    for (unsigned i = 0; i < 3; i++) {
        UNTIL(atomic_load(&parties[i]->result) != 1000, 20000);
        EXPECT_WAS(0, atomic_load(&parties[i]->result));
        int64_t took = atomic_load(&parties[i]->at_ns) - died;
        longest = took > longest ? took : longest;
    }
    print_message("all went on after %.1f ms\n", (double)longest / 1e6);
    EXPECT(COVE_EPEER, cove_barrier_wait(segment, &board->barrier, 4, COVE_NOWAIT)); /* but that party is dead */
    testing_reach(MAY_END);
    actors_join(actors, 3);
    assert_true(longest < actors_soon());
    end();
}

static void test_barrier_killed_before_it_wakes_the_others(void **state)
{
    (void)state;
    complete_with_a_death(false);
}

/* Nobody could watch it before it came. */
static void test_barrier_newcomer_killed_before_it_wakes_the_others(void **state)
{
    (void)state;
    complete_with_a_death(true);
}

/* ---- told once */

/* A party that does as it is told: 1 wait, 2 reset, 3 leave, 4 end. What came of it goes to `result`. */
struct puppet {
    struct actor actor;
    struct strings {
        _Atomic unsigned order, obeyed;
        _Atomic int what, result;
        unsigned parties;
        int64_t timeout_ns;
    } * strings;
};

static void obey(cove_segment *own, void *argument)
{
    struct strings *strings = argument;
    cove_barrier *barrier = &board_of(own)->barrier;
    for (unsigned order = 1;; order++) {
        UNTIL(atomic_load(&strings->order) == order, 60000);
        int result = 0, what = atomic_load(&strings->what);
        if (what == 4)
            return;
        if (what == 1)
            result = cove_barrier_wait(own, barrier, strings->parties, strings->timeout_ns);
        if (what == 2)
            result = cove_barrier_reset(own, barrier);
        if (what == 3)
            result = cove_barrier_leave(own, barrier);
        atomic_store(&strings->result, result);
        atomic_store(&strings->obeyed, order);
    }
}

static struct puppet puppet(bool process, unsigned parties)
{
    struct puppet puppet = {.strings = testing_shared(sizeof *puppet.strings)};
    puppet.strings->parties = parties;
    puppet.actor = actor_start(process, segment, obey, puppet.strings);
    return puppet;
}

static void tell(struct puppet *puppet, int what, int64_t timeout_ns)
{
    puppet->strings->timeout_ns = timeout_ns;
    atomic_store(&puppet->strings->what, what);
    atomic_fetch_add(&puppet->strings->order, 1);
}

static int answer(struct puppet *puppet)
{
    UNTIL(atomic_load(&puppet->strings->obeyed) == atomic_load(&puppet->strings->order), 20000);
    return atomic_load(&puppet->strings->result);
}

static int told(struct puppet *puppet, int what, int64_t timeout_ns)
{
    tell(puppet, what, timeout_ns);
    return answer(puppet);
}

enum { WAIT = 1, RESET = 2, LEAVE = 3, END = 4 };

static void all_come(struct puppet **puppets, unsigned count)
{
    unsigned leaders = 0;
    for (unsigned i = 0; i < count; i++)
        tell(puppets[i], WAIT, COVE_FOREVER);
    for (unsigned i = 0; i < count; i++) {
        int result = answer(puppets[i]);
        leaders += result == COVE_LEADER;
        assert_true(result == 0 || result == COVE_LEADER);
    }
    assert_int_equal(leaders, 1);
}

static void end_all(struct puppet **puppets, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        tell(puppets[i], END, 0);
        actor_join(&puppets[i]->actor);
    }
}

/* A party dies between rounds: each other is told, once; after one reset a newcomer takes its place. */
static void test_barrier_death_between_rounds_is_told_once_to_each(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 3), b = puppet(true, 3), c = puppet(true, 3);
    all_come((struct puppet *[]){&a, &b, &c}, 3);
    testing_kill(c.actor.pid);
    EXPECT_WAS(COVE_EPEER, told(&a, WAIT, COVE_FOREVER));
    EXPECT_WAS(0, told(&a, RESET, 0));
    struct puppet d = puppet(true, 3); /* in the dead one's place */
    tell(&d, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 2);
    EXPECT_WAS(COVE_EPEER, told(&b, WAIT, COVE_FOREVER)); /* it was not there: it is told now, once */
    EXPECT_WAS(0, told(&b, RESET, 0)); /* as all do; whole it stays */
    tell(&b, WAIT, COVE_FOREVER);
    assert_true(answer(&a) >= 0 && answer(&b) >= 0 && answer(&d) >= 0);
    all_come((struct puppet *[]){&a, &b, &d}, 3);
    end_all((struct puppet *[]){&a, &b, &d}, 3);
    end();
}

/* Until somebody resets it, nobody waits in vain. */
static void test_barrier_broken_is_refused_until_reset(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 2), b = puppet(true, 2);
    all_come((struct puppet *[]){&a, &b}, 2);
    testing_kill(b.actor.pid);
    for (int i = 0; i < 3; i++)
        EXPECT_WAS(COVE_EPEER, told(&a, WAIT, i ? COVE_FOREVER : COVE_NOWAIT));
    EXPECT(0, cove_barrier_reset(segment, &board->barrier)); /* by another than was told */
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    EXPECT(COVE_LEADER, cove_barrier_wait(segment, &board->barrier, 2, COVE_NOWAIT));
    EXPECT_WAS(0, answer(&a));
    end_all((struct puppet *[]){&a}, 1);
    end();
}

/* All survivors reset it, at any time: what has begun anew is not undone by the second. */
static void test_barrier_second_reset_changes_nothing(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 3), b = puppet(true, 3), c = puppet(true, 3);
    all_come((struct puppet *[]){&a, &b, &c}, 3);
    tell(&a, WAIT, COVE_FOREVER);
    tell(&b, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 2);
    testing_kill(c.actor.pid);
    EXPECT_WAS(COVE_EPEER, answer(&a));
    EXPECT_WAS(COVE_EPEER, answer(&b));
    EXPECT_WAS(0, told(&a, RESET, 0));
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    EXPECT_WAS(0, told(&b, RESET, 0)); /* `a` has come already: that stays */
    tell(&b, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 2);
    EXPECT(COVE_LEADER, cove_barrier_wait(segment, &board->barrier, 3, COVE_NOWAIT));
    assert_true(answer(&a) == 0 && answer(&b) == 0);
    end_all((struct puppet *[]){&a, &b}, 2);
    end();
}

/* A second death, before the reset and after it. */
static void test_barrier_second_death_is_told_too(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 5), b = puppet(true, 5), c = puppet(true, 5), d = puppet(true, 5);
    struct puppet e = puppet(true, 5);
    all_come((struct puppet *[]){&a, &b, &c, &d, &e}, 5);
    testing_kill(d.actor.pid);
    EXPECT_WAS(COVE_EPEER, told(&a, WAIT, COVE_FOREVER));
    EXPECT_WAS(COVE_EPEER, told(&c, WAIT, COVE_FOREVER));
    EXPECT_WAS(COVE_EPEER, told(&e, WAIT, COVE_FOREVER));
    testing_kill(c.actor.pid); /* was told, and dies before anybody reset it */
    EXPECT_WAS(0, told(&a, RESET, 0));
    EXPECT_WAS(COVE_EPEER, told(&e, WAIT, COVE_FOREVER)); /* of the second, as it knows the first */
    struct puppet f = puppet(true, 5), g = puppet(false, 5);
    tell(&e, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    tell(&f, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 2);
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 3);
    testing_kill(f.actor.pid); /* after it, inside the new round */
    EXPECT_WAS(COVE_EPEER, answer(&a));
    EXPECT_WAS(COVE_EPEER, answer(&e));
    EXPECT_WAS(COVE_EPEER, told(&b, WAIT, COVE_FOREVER)); /* of both, once */
    EXPECT_WAS(0, told(&b, RESET, 0));
    struct puppet h = puppet(true, 5);
    all_come((struct puppet *[]){&a, &b, &e, &g, &h}, 5);
    end_all((struct puppet *[]){&a, &b, &e, &g, &h}, 5);
    end();
}

/* A party that nobody had told of the first death dies after the reset. */
static void test_barrier_death_of_one_who_was_not_told_is_told(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 3), b = puppet(true, 3), c = puppet(true, 3);
    all_come((struct puppet *[]){&a, &b, &c}, 3);
    testing_kill(c.actor.pid);
    EXPECT_WAS(COVE_EPEER, told(&a, WAIT, COVE_FOREVER));
    EXPECT_WAS(0, told(&a, RESET, 0));
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    testing_kill(b.actor.pid);
    EXPECT_WAS(COVE_EPEER, answer(&a));
    EXPECT_WAS(0, told(&a, RESET, 0));
    EXPECT_WAS(-ETIMEDOUT, told(&a, WAIT, 20 * UNIT_MS)); /* told once of it */
    end_all((struct puppet *[]){&a}, 1);
    end();
}

/* ---- gone without a word, or with one */

static void test_barrier_who_left_may_die(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 2), b = puppet(true, 2);
    all_come((struct puppet *[]){&a, &b}, 2);
    EXPECT_WAS(0, told(&b, LEAVE, 0));
    EXPECT_WAS(-EPERM, told(&b, LEAVE, 0));
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    testing_kill(b.actor.pid);
    (void)EXPECT_GOOD(cove_recover(segment));
    EXPECT(COVE_LEADER, cove_barrier_wait(segment, &board->barrier, 2, COVE_NOWAIT));
    EXPECT_WAS(0, answer(&a));
    end_all((struct puppet *[]){&a}, 1);
    end();
}

/* Closing the segment is leaving, for all threads of the process; ending a thread is not. */
static void test_barrier_close_leaves_and_a_threads_end_breaks(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 2), b = puppet(true, 2);
    all_come((struct puppet *[]){&a, &b}, 2);
    end_all((struct puppet *[]){&b}, 1); /* closes in order */
    EXPECT_WAS(-EBUSY, told(&a, WAIT, COVE_NOWAIT)); /* not broken */
    struct puppet thread = puppet(false, 2);
    all_come((struct puppet *[]){&a, &thread}, 2);
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    end_all((struct puppet *[]){&thread}, 1);
    EXPECT_WAS(COVE_EPEER, answer(&a));
    EXPECT_WAS(0, told(&a, RESET, 0));
    end_all((struct puppet *[]){&a}, 1);
    end();
}

static void test_barrier_all_gone_leave_it_whole(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 4; i++) {
        struct puppet a = puppet(true, 2), b = puppet(true, 2);
        all_come((struct puppet *[]){&a, &b}, 2);
        if (i % 2)
            tell(&a, WAIT, COVE_FOREVER);
        if (i % 2)
            UNTIL_WAITING(segment, &board->barrier, 1);
        testing_kill(a.actor.pid);
        if (i == 3)
            assert_true(told(&b, WAIT, COVE_FOREVER) != 0); /* `a` had come, and died: complete, or broken */
        if (i == 2)
            EXPECT_WAS(COVE_EPEER, told(&b, WAIT, COVE_FOREVER));
        testing_kill(b.actor.pid);
    }
    struct puppet c = puppet(true, 2), d = puppet(true, 2); /* several newcomers at once */
    all_come((struct puppet *[]){&c, &d}, 2);
    all_come((struct puppet *[]){&c, &d}, 2);
    end_all((struct puppet *[]){&c, &d}, 2);
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

static void test_barrier_stopped_party_is_waited_for(void **state)
{
    (void)state;
    begin();
    struct puppet a = puppet(true, 2), b = puppet(true, 2);
    all_come((struct puppet *[]){&a, &b}, 2);
    actor_stop(&b.actor);
    EXPECT_WAS(-ETIMEDOUT, told(&a, WAIT, 60 * UNIT_MS));
    (void)EXPECT_GOOD(cove_recover(segment));
    tell(&a, WAIT, COVE_FOREVER);
    UNTIL_WAITING(segment, &board->barrier, 1);
    tell(&b, WAIT, COVE_FOREVER);
    actor_continue(&b.actor);
    assert_int_equal(answer(&a) + answer(&b), COVE_LEADER);
    end_all((struct puppet *[]){&a, &b}, 2);
    end();
}

/* ---- those who give up */

/* Timeouts at random: each round that is completed was completed by all, and who gave up was in none. */
static void come_in_time_or_not(cove_segment *own, void *argument)
{
    struct party *party = argument;
    struct board *mine = board_of(own);
    for (unsigned round = 1; round <= party->rounds;) {
        int64_t timeout = (int64_t)(unit_random(&party->seed) % (UNIT_MS / 2));
        atomic_store(&mine->come[party->number], round);
        int result = cove_barrier_wait(own, &mine->barrier, party->parties, timeout);
        if (result == -ETIMEDOUT || result == -EBUSY) {
            atomic_fetch_add(&party->timed_out, 1);
            for (unsigned i = 0; i < party->parties; i++)
                assert_true(atomic_load(&mine->come[i]) <= round); /* nobody went on without us */
            continue;
        }
        if (result == COVE_LEADER)
            atomic_fetch_add(&party->led, 1);
        else
            EXPECT_WAS(0, result);
        for (unsigned i = 0; i < party->parties; i++)
            assert_true(atomic_load(&mine->come[i]) >= round);
        round++;
    }
    EXPECT(0, cove_barrier_leave(own, &mine->barrier));
}

static void test_barrier_timed_out_parties_have_not_come(void **state)
{
    (void)state;
    for (int processes = 0; processes < 2; processes++) {
        begin();
        unsigned rounds = testing_scale() > 1 ? 20 : 100, led = 0, timed_out = 0;
        struct actor actors[3];
        struct party *parties[3];
        for (unsigned i = 0; i < 3; i++) {
            parties[i] = party_of(i, 3, rounds);
            actors[i] = actor_start(processes, segment, come_in_time_or_not, parties[i]);
        }
        actors_join(actors, 3);
        for (unsigned i = 0; i < 3; i++) {
            led += atomic_load(&parties[i]->led);
            timed_out += atomic_load(&parties[i]->timed_out);
        }
        print_message("%u rounds, %u timed out\n", led, timed_out);
        assert_int_equal(led, rounds);
        end();
    }
}

/* ---- more parties than can be watched */

static void test_barrier_of_forty_is_told_of_a_death(void **state)
{
    (void)state;
    begin();
    struct party *parties[24];
    struct actor actors[24];
    for (unsigned i = 0; i < 24; i++) {
        parties[i] = party_of(i, 40, 1);
        actors[i] = actor_start(i == 7, segment, wait_once, parties[i]);
    }
    UNTIL_WAITING(segment, &board->barrier, 24);
    actors_pass(300 * UNIT_MS);
    int64_t died = unit_now();
    testing_kill(actors[7].pid);
    int64_t longest = 0;
    for (unsigned i = 0; i < 24; i++) {
        if (i == 7)
            continue;
        UNTIL(atomic_load(&parties[i]->result) != 1000, 20000);
        EXPECT_WAS(COVE_EPEER, atomic_load(&parties[i]->result));
        int64_t took = atomic_load(&parties[i]->at_ns) - died;
        longest = took > longest ? took : longest;
    }
    print_message("all told after %.1f ms\n", (double)longest / 1e6);
    assert_true(longest < actors_soon());
    testing_reach(MAY_END);
    for (unsigned i = 0; i < 24; i++)
        if (i != 7)
            actor_join(&actors[i]);
    end();
}

/* ---- rounds with deaths */

static void come_as_long_as_one_lives(cove_segment *own, void *argument)
{
    struct party *party = argument;
    struct board *mine = board_of(own);
    while (atomic_load(&party->done) == 0) {
        int result = cove_barrier_wait(own, &mine->barrier, party->parties, 20 * UNIT_MS);
        if (result == COVE_EPEER) {
            EXPECT(0, cove_barrier_reset(own, &mine->barrier));
            atomic_fetch_add(&party->told, 1);
        } else if (result == -ETIMEDOUT)
            atomic_fetch_add(&party->timed_out, 1);
        else if (result == COVE_LEADER)
            atomic_fetch_add(&party->led, 1);
        else
            EXPECT_WAS(0, result);
    }
    (void)cove_barrier_leave(own, &mine->barrier); /* some were never there */
}

static void test_barrier_rounds_go_on_through_deaths(void **state)
{
    (void)state;
    begin();
    unsigned kills = testing_scale() > 1 ? 10 : 60;
    struct actor actors[4];
    struct party *parties[4];
    uint64_t seed = 3;
    for (unsigned i = 0; i < 4; i++) {
        parties[i] = party_of(i, 4, 0);
        actors[i] = actor_start(true, segment, come_as_long_as_one_lives, parties[i]);
    }
    unsigned rounds = 0;
    for (unsigned i = 0; i < kills; i++) {
        unsigned led = 0, before = 0;
        for (unsigned k = 0; k < 4; k++)
            before += atomic_load(&parties[k]->led);
        for (int64_t until = unit_now() + 20 * UNIT_S; led < before + 1 + i % 5 && unit_now() < until; sched_yield())
            for (unsigned k = led = 0; k < 4; k++)
                led += atomic_load(&parties[k]->led);
        assert_true(led > before); /* it goes on after each death */
        rounds = led;
        unsigned victim = (unsigned)(unit_random(&seed) % 4);
        testing_kill(actors[victim].pid);
        actors[victim] = actor_start(true, segment, come_as_long_as_one_lives, parties[victim]);
    }
    for (unsigned i = 0; i < 4; i++)
        atomic_store(&parties[i]->done, 1);
    actors_join(actors, 4);
    print_message("%u rounds, %u kills\n", rounds, kills);
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

/* ---- written over */

static void test_barrier_scribbled_word_ends_waits(void **state)
{
    (void)state;
    begin();
    struct party *party = party_of(0, 3, 1);
    party->timeout_ns = 200 * UNIT_MS;
    struct actor actor = waiting_party(false, party, 1);
    atomic_fetch_sub((_Atomic uint64_t *)(void *)&board->barrier.word, UINT64_C(1) << 32); /* nobody has come */
    UNTIL(atomic_load(&party->result) != 1000, 5000);
    assert_true(atomic_load(&party->result) < 0);
    testing_reach(MAY_END);
    actor_join(&actor);
    end();
}

static const struct testing_case tests[] = {
    TEST(test_barrier_results),
    TEST(test_barrier_places_of_a_thread_are_32),
    TEST_TIMEOUT(test_barrier_rounds_of_threads_have_one_leader_each, 60),
    TEST_TIMEOUT(test_barrier_rounds_of_processes_have_one_leader_each, 60),
    TEST(test_barrier_death_inside_a_round_is_told_to_all),
    TEST(test_barrier_death_after_a_long_wait_is_told_soon),
    TEST(test_barrier_killed_before_it_wakes_the_others),
    TEST(test_barrier_newcomer_killed_before_it_wakes_the_others),
    TEST(test_barrier_death_between_rounds_is_told_once_to_each),
    TEST(test_barrier_broken_is_refused_until_reset),
    TEST(test_barrier_second_reset_changes_nothing),
    TEST(test_barrier_second_death_is_told_too),
    TEST(test_barrier_death_of_one_who_was_not_told_is_told),
    TEST(test_barrier_who_left_may_die),
    TEST(test_barrier_close_leaves_and_a_threads_end_breaks),
    TEST(test_barrier_all_gone_leave_it_whole),
    TEST(test_barrier_stopped_party_is_waited_for),
    TEST_TIMEOUT(test_barrier_timed_out_parties_have_not_come, 60),
    TEST(test_barrier_of_forty_is_told_of_a_death),
    TEST_TIMEOUT(test_barrier_rounds_go_on_through_deaths, 60),
    TEST_TIMEOUT(test_barrier_scribbled_word_ends_waits, 20),
};

int main(void)
{
    return testing_run("barrier", tests);
}
