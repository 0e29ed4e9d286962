/* test_mutex_waits.c - waiting for a mutex: what a waiter is told, what the figures say, and that no wake-up is lost.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "actors.h"

#include <sys/prctl.h>

struct board {
    cove_mutex lock, other;
    uint64_t value;
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
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

/* ---- who holds it */

enum { HELD, MAY_GO };

static void hold(cove_segment *own, void *argument)
{
    struct board *mine = board_of(own);
    EXPECT(0, cove_mutex_lock(own, &mine->lock, COVE_FOREVER));
    if (argument)
        *(int32_t *)argument = covei_os->thread_id();
    testing_reach(HELD);
    testing_await(MAY_GO);
    EXPECT(0, cove_mutex_unlock(own, &mine->lock));
}

static double seconds_in(const char *sentence)
{
    const char *at = strstr(sentence, "for at least ");
    assert_non_null(at);
    return strtod(at + strlen("for at least "), NULL);
}

static void holder_is_named(bool process)
{
    begin();
    assert_int_equal(prctl(PR_SET_NAME, "a-holder"), 0); /* of the thread, as the process that is forked has it */
    int32_t *thread = testing_shared(sizeof *thread);
    struct actor holder = actor_start(process, segment, hold, thread);
    testing_await(HELD);
    assert_int_equal(*thread, atomic_load(&holder.part->thread_id));
    char who[64];
    (void)snprintf(who, sizeof who, "(pid %d, thread %d) holds the lock", process ? (int)holder.pid : (int)getpid(),
                   (int)*thread);
    EXPECT_SAYS(-EBUSY, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT), who);
    assert_null(strstr(cove_last_error(), "for at least")); /* nobody has looked twice */
    for (int i = 0; i < 3; i++) {
        int64_t timeout = (40 + 60 * i) * UNIT_MS, begun = unit_now();
        EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, &board->lock, timeout), who);
        int64_t took = unit_now() - begun;
        assert_true(took >= timeout);
        double told = seconds_in(cove_last_error());
        assert_true(told * 1e9 <= (double)took + 1e6);
        assert_true(told * 1e9 >= 0.5 * (double)timeout); /* it is watched from the first look on */
        assert_non_null(strstr(cove_last_error(), "wait longer, or look whether it is stopped"));
    }
    if (process)
        assert_non_null(strstr(cove_last_error(), "a-holder"));
    testing_reach(MAY_GO);
    actor_join(&holder);
    end();
}

static void test_waits_timed_out_waiter_is_told_the_process(void **state)
{
    (void)state;
    holder_is_named(true);
}

static void test_waits_timed_out_waiter_is_told_the_thread(void **state)
{
    (void)state;
    holder_is_named(false);
}

/* "For at least" is about one holding: it begins anew with each. */
static void hand_over(cove_segment *own, void *argument)
{
    struct board *mine = argument;
    for (int i = 0; i < 20; i++) {
        EXPECT(0, cove_mutex_lock(own, &mine->lock, COVE_FOREVER));
        testing_reach(HELD);
        actors_pass(20 * UNIT_MS);
        EXPECT(0, cove_mutex_unlock(own, &mine->lock));
        EXPECT(0, cove_mutex_lock(own, &mine->other, COVE_FOREVER)); /* give the waiter a chance: it must not use it */
        EXPECT(0, cove_mutex_unlock(own, &mine->other));
    }
}

static void test_waits_time_is_that_of_one_holding(void **state)
{
    (void)state;
    begin();
    board->lock = (cove_mutex)COVE_MUTEX_FAIR;
    struct actor actors[2];
    for (int i = 0; i < 2; i++)
        actors[i] = actor_start(false, segment, hand_over, board);
    testing_await_count(HELD, 2);
    for (int i = 0; i < 3; i++) {
        /* Behind two who hold it for 20 ms each: it does not come to us within 30. */
        int result = cove_mutex_lock(segment, &board->lock, 30 * UNIT_MS);
        if (result == 0)
            EXPECT(0, cove_mutex_unlock(segment, &board->lock));
        else if (strstr(cove_last_error(), "for at least"))
            assert_true(seconds_in(cove_last_error()) < 0.0295);
    }
    actors_join(actors, 2);
    end();
}

/* Nothing is taken from the living. */
static void test_waits_stopped_holder_keeps_it(void **state)
{
    (void)state;
    begin();
    struct actor holder = actor_start(true, segment, hold, NULL);
    testing_await(HELD);
    actor_stop(&holder);
    for (int i = 0; i < 3; i++)
        EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, &board->lock, 50 * UNIT_MS), "stopped");
    (void)EXPECT_GOOD(cove_recover(segment));
    EXPECT(-EBUSY, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    struct cove_member_info member;
    EXPECT(1, cove_mutex_holder(segment, &board->lock, &member));
    assert_int_equal(member.pid, holder.pid);
    testing_reach(MAY_GO);
    actor_continue(&holder);
    actor_join(&holder);
    end();
}

/* ---- figures */

static void test_waits_figures_say_how_often_and_how_long(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < 10; i++) {
        EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
        EXPECT(-EDEADLK, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
        EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    }
    assert_int_equal(board->lock.waits, 0);
    assert_int_equal(board->lock.longest_us, 0);
    struct actor holder = actor_start(true, segment, hold, NULL);
    testing_await(HELD);
    EXPECT(-EBUSY, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    assert_int_equal(board->lock.waits, 0); /* it did not wait */
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, &board->lock, 80 * UNIT_MS));
    assert_int_equal(board->lock.waits, 1);
    uint32_t longest = board->lock.longest_us;
    assert_true(longest >= 40000);
    assert_true(longest < 80000 + unit_patience() / 1000);
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, &board->lock, 5 * UNIT_MS));
    assert_int_equal(board->lock.waits, 2);
    assert_int_equal(board->lock.longest_us, longest); /* the longest stays */
    testing_reach(MAY_GO);
    actor_join(&holder);
    assert_int_equal(board->other.waits, 0);
    end();
}

/* ---- the segment by the address */

static void test_waits_segment_is_found_by_the_address(void **state)
{
    (void)state;
    begin();
    cove_segment *second = unit_open("u");
    struct board *there = unit_object(second, "b", sizeof *there);
    assert_ptr_equal(cove_segment_of(&board->lock), segment);
    assert_ptr_equal(cove_segment_of(&there->lock), second);
    assert_null(cove_segment_of(NULL));
    assert_null(cove_segment_of(&second));
    assert_null(cove_segment_of((void *)~(uintptr_t)0));
    for (int i = 0; i < 3; i++) {
        EXPECT(0, cove_mutex_lock(NULL, &board->lock, COVE_NOWAIT));
        EXPECT(0, cove_mutex_lock(NULL, &there->lock, COVE_NOWAIT));
        EXPECT(-EDEADLK, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
        EXPECT(-EINVAL, cove_mutex_lock(second, &board->lock, COVE_NOWAIT)); /* it lies in the other one */
        struct cove_member_info member;
        EXPECT(1, cove_mutex_holder(NULL, &board->lock, &member));
        EXPECT(0, cove_mutex_unlock(NULL, &board->lock));
        EXPECT(-EPERM, cove_mutex_unlock(NULL, &board->lock));
        EXPECT(0, cove_mutex_unlock(NULL, &there->lock));
    }
    cove_mutex local = {0};
    EXPECT_SAYS(-EINVAL, cove_mutex_lock(NULL, &local, COVE_NOWAIT), "no segment");
    EXPECT(-EINVAL, cove_mutex_unlock(NULL, &local));
    struct cove_member_info member;
    EXPECT(-EINVAL, cove_mutex_holder(NULL, &local, &member));
    EXPECT(-EINVAL, cove_mutex_lock(NULL, NULL, COVE_NOWAIT));
    unit_close(second);
    assert_null(cove_segment_of(&there->lock));
    unit_remove("u");
    end();
}

/* ---- no wake-up is lost: without slices to fall back on, each is needed */

struct crowd {
    uint64_t seed;
    unsigned turns;
    bool times_out;
    cove_mutex *mutex;
    uint64_t *value;
};

static _Thread_local bool in_slices;

static int park_any(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    return covei_os_native.park_any(parks, count, in_slices ? timeout_ns : ACTORS_SLICE_NS);
}

static void contend(cove_segment *own, void *argument)
{
    struct crowd *crowd = argument;
    in_slices = crowd->times_out;
    for (unsigned i = 0; i < crowd->turns; i++) {
        uint64_t random = unit_random(&crowd->seed);
        int64_t timeout = crowd->times_out ? (int64_t)(random >> 8) % (UNIT_MS / 10) + 1 : COVE_FOREVER;
        int result = cove_mutex_lock(own, crowd->mutex, timeout);
        if (result < 0) {
            EXPECT_WAS(-ETIMEDOUT, result);
            continue;
        }
        (*crowd->value)++;
        if (random % 16 == 0)
            actors_pass((int64_t)(random >> 32) % (UNIT_MS / 10));
        (*crowd->value)--;
        EXPECT(0, cove_mutex_unlock(own, crowd->mutex));
    }
}

/* Phase by phase, so that a wake-up that nobody makes up for stops one of them. */
static void contend_in_phases(cove_mutex as)
{
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = park_any;
    covei_os = &calls;
    begin();
    board->lock = as;
    unsigned phases = testing_scale() > 1 ? 30 : 150;
    uint64_t seed = 4711;
    int64_t longest = 0;
    for (unsigned phase = 0; phase < phases; phase++) {
        struct actor actors[6];
        struct crowd crowds[6];
        int64_t begun = unit_now();
        for (unsigned i = 0; i < 6; i++) {
            crowds[i] = (struct crowd){unit_random(&seed), 1 + phase % 30, i % 2 == 1, &board->lock, &board->value};
            actors[i] = actor_start(false, segment, contend, &crowds[i]);
        }
        actors_join(actors, 6);
        int64_t took = unit_now() - begun;
        longest = took > longest ? took : longest;
        assert_int_equal(board->value, 0);
    }
    print_message("the longest phase took %.1f ms\n", (double)longest / 1e6);
    assert_true(longest < ACTORS_SLICE_NS / 2);
    covei_os = &covei_os_native;
    end();
}

static void test_waits_plain_lock_loses_no_wake(void **state)
{
    (void)state;
    contend_in_phases((cove_mutex){0});
}

static void test_waits_fair_lock_loses_no_wake(void **state)
{
    (void)state;
    contend_in_phases((cove_mutex)COVE_MUTEX_FAIR);
}

/* Two who hand it to each other without a pause, on two processors: if one is forgotten, both stand still. */
static void spin_for(uint64_t random)
{
    for (uint64_t i = 0; i < random % 64; i++)
        covei_relax();
    if (random >> 58 == 0)
        sched_yield();
}

struct hand {
    struct board *board;
    unsigned number;
    uint64_t turns;
};

static void hand_it_over(cove_segment *own, void *argument)
{
    struct hand *hand = argument;
    uint64_t seed = hand->number + 1;
    actors_pin(hand->number);
    in_slices = hand->number == 2; /* one that gives up, besides: it leaves marks of waiting behind */
    for (int64_t until = unit_now() + UNIT_S; unit_now() < until;) {
        int result = cove_mutex_lock(own, &hand->board->lock, in_slices ? 20000 : COVE_FOREVER);
        if (result < 0)
            continue;
        hand->board->value++;
        spin_for(unit_random(&seed));
        EXPECT(0, cove_mutex_unlock(own, &hand->board->lock));
        spin_for(unit_random(&seed));
        hand->turns++;
    }
}

static void two_hand_it_over(cove_mutex as, unsigned count)
{
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = park_any;
    covei_os = &calls;
    begin();
    board->lock = as;
    int64_t begun = unit_now();
    struct actor actors[3];
    struct hand hands[3];
    uint64_t turns = 0;
    for (unsigned i = 0; i < count; i++) {
        hands[i] = (struct hand){board, i, 0};
        actors[i] = actor_start(false, segment, hand_it_over, &hands[i]);
    }
    actors_join(actors, count);
    for (unsigned i = 0; i < count; i++)
        turns += hands[i].turns;
    print_message("%" PRIu64 " turns, of which %u waits\n", turns, board->lock.waits);
    assert_int_equal(turns, board->value);
    assert_true(unit_now() - begun < ACTORS_SLICE_NS / 2);
    covei_os = &covei_os_native;
    end();
}

static void test_waits_two_forget_no_plain_wake(void **state)
{
    (void)state;
    two_hand_it_over((cove_mutex){0}, 3);
}

static void test_waits_two_forget_no_fair_turn(void **state)
{
    (void)state;
    two_hand_it_over((cove_mutex)COVE_MUTEX_FAIR, 2);
    two_hand_it_over((cove_mutex)COVE_MUTEX_FAIR, 3);
}

/* The same at its worst moment: the one that is woken finds the lock taken by a newcomer and its own time over, and
 * goes. Another sleeps behind it; the newcomer's release must wake that one. */
static _Atomic int step;
static _Thread_local bool first_in_line;

static int park_any_and_dally(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    if (!first_in_line || atomic_load(&step) > 0)
        return covei_os_native.park_any(parks, count, first_in_line ? timeout_ns : ACTORS_SLICE_NS);
    int result = covei_os_native.park_any(parks, count, ACTORS_SLICE_NS);
    atomic_store(&step, 1); /* woken; the newcomer takes it now */
    UNTIL(atomic_load(&step) == 2, 20000);
    return result;
}

static int64_t now_or_later(void)
{
    return covei_os_native.now() + (first_in_line && atomic_load(&step) > 1 ? 3600 * UNIT_S : 0);
}

static void wait_and_give_up(cove_segment *own, void *argument)
{
    first_in_line = true;
    EXPECT(-ETIMEDOUT, cove_mutex_lock(own, &board_of(own)->lock, 1000 * UNIT_S));
    atomic_store((_Atomic bool *)argument, true);
    testing_await(MAY_GO); /* the end of this thread would wake those who watch it */
}

static void wait_for_it(cove_segment *own, void *argument)
{
    (void)argument;
    EXPECT(0, cove_mutex_lock(own, &board_of(own)->lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(own, &board_of(own)->lock));
}

static void test_waits_woken_and_too_late_passes_the_wake_on(void **state)
{
    (void)state;
    begin();
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = park_any_and_dally;
    calls.now = now_or_later;
    covei_os = &calls;
    atomic_store(&step, 0);
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    _Atomic bool gave_up = false;
    struct actor first = actor_start(false, segment, wait_and_give_up, &gave_up);
    UNTIL_WAITING(segment, &board->lock, 1);
    UNTIL(actor_sleeps(&first), 5000);
    struct actor second = actor_start(false, segment, wait_for_it, NULL);
    UNTIL_WAITING(segment, &board->lock, 2);
    UNTIL(actor_sleeps(&second), 5000);
    EXPECT(0, cove_mutex_unlock(segment, &board->lock)); /* wakes the first */
    UNTIL(atomic_load(&step) == 1, 20000);
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT)); /* we are the newcomer */
    atomic_store(&step, 2);
    UNTIL(atomic_load(&gave_up), 5000);
    int64_t released = unit_now();
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    actor_join(&second);
    testing_reach(MAY_GO);
    actor_join(&first);
    covei_os = &covei_os_native;
    assert_true(actors_ms(released) < 5000);
    end();
}

/* ---- who dies is not who had it when they fell asleep */

struct heirs {
    _Atomic int holder; /* its number + 1 */
    _Atomic bool go;
    _Atomic int64_t got_ns[4];
    _Atomic int told;
};
struct heir {
    struct heirs *all;
    int number;
};

static void inherit(cove_segment *own, void *argument)
{
    struct heir *me = argument;
    struct board *mine = board_of(own);
    int result = cove_mutex_lock(own, &mine->lock, COVE_FOREVER);
    atomic_store(&me->all->got_ns[me->number], unit_now());
    atomic_fetch_add(&me->all->told, EXPECT_GOOD(result) == COVE_RECOVERED);
    atomic_store(&me->all->holder, me->number + 1);
    UNTIL(atomic_load(&me->all->go), 30000);
    EXPECT(0, cove_mutex_unlock(own, &mine->lock));
}

/* Four sleep; one of them is woken, has it, and is killed while the others sleep on. */
static void second_holder_dies(cove_mutex as)
{
    begin();
    board->lock = as;
    struct heirs *heirs = testing_shared(sizeof *heirs);
    struct actor actors[4];
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    for (int i = 0; i < 4; i++) {
        struct heir *heir = testing_shared(sizeof *heir);
        *heir = (struct heir){heirs, i};
        actors[i] = actor_start(true, segment, inherit, heir);
    }
    UNTIL_WAITING(segment, &board->lock, 4);
    actors_pass(ACTORS_LONG_NS); /* slices are long by now */
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    UNTIL(atomic_load(&heirs->holder) != 0, 5000);
    int dead = atomic_load(&heirs->holder) - 1;
    int64_t died = unit_now(), longest = 0;
    testing_kill(actors[dead].pid);
    atomic_store(&heirs->go, true);
    for (int i = 0; i < 4; i++) {
        if (i == dead)
            continue;
        actor_join(&actors[i]);
        int64_t took = atomic_load(&heirs->got_ns[i]) - died;
        longest = took > longest ? took : longest;
    }
    print_message("all had it after %.1f ms\n", (double)longest / 1e6);
    assert_int_equal(atomic_load(&heirs->told), 1);
    assert_true(longest < actors_soon());
    (void)EXPECT_GOOD(cove_recover(segment));
    end();
}

static void test_waits_death_of_a_later_holder_is_noticed(void **state)
{
    (void)state;
    second_holder_dies((cove_mutex){0});
}

static void test_waits_death_of_a_later_fair_holder_is_noticed(void **state)
{
    (void)state;
    second_holder_dies((cove_mutex)COVE_MUTEX_FAIR);
}

/* ---- holders that go, in any way */

enum departure { KILLED, THREAD_ENDS, EXITS };

static void hold_and_go(cove_segment *own, void *argument)
{
    enum departure how = *(enum departure *)argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_begin(own));
    (void)EXPECT_GOOD(cove_mutex_lock(own, &mine->lock, COVE_FOREVER));
    EXPECT(0, cove_save(own, &mine->value, 8));
    mine->value = 99;
    testing_reach(HELD);
    UNTIL(actors_waiting(own, &mine->lock) == 3, 20000);
    if (how == KILLED)
        unit_wait_for_death();
    if (how == EXITS)
        exit(0);
}

static void wait_behind(cove_segment *own, void *argument)
{
    _Atomic int *told = argument;
    struct board *mine = board_of(own);
    int result = cove_mutex_lock(own, &mine->lock, COVE_FOREVER);
    (void)EXPECT_GOOD(result);
    if (result == COVE_RECOVERED)
        atomic_fetch_add(told, 1);
    assert_int_equal(mine->value, 7);
    EXPECT(0, cove_mutex_unlock(own, &mine->lock));
}

static void go_as(enum departure how)
{
    begin();
    board->value = 7;
    _Atomic int *told = testing_shared(sizeof *told);
    enum departure *shared_how = testing_shared(sizeof *shared_how);
    *shared_how = how;
    struct actor holder = actor_start(how != THREAD_ENDS, segment, hold_and_go, shared_how), waiters[3];
    testing_await(HELD);
    for (unsigned i = 0; i < 3; i++)
        waiters[i] = actor_start(i != 1, segment, wait_behind, told);
    if (how == KILLED) {
        UNTIL_WAITING(segment, &board->lock, 3);
        for (unsigned i = 0; i < 3; i++)
            UNTIL(actor_sleeps(&waiters[i]), 5000);
        testing_kill(holder.pid);
    }
    int64_t gone = unit_now();
    actors_join(waiters, 3);
    print_message("all had it after %.1f ms\n", (double)(unit_now() - gone) / 1e6);
    if (how != KILLED)
        actor_join(&holder);
    assert_int_equal(atomic_load(told), 1); /* the first, and nobody else */
    assert_int_equal(board->value, 7);
    end();
}

static void test_waits_killed_holder_is_told_once(void **state)
{
    (void)state;
    go_as(KILLED);
}

static void test_waits_holder_whose_thread_ends_is_told_once(void **state)
{
    (void)state;
    go_as(THREAD_ENDS);
}

static void test_waits_holder_that_exits_is_told_once(void **state)
{
    (void)state;
    go_as(EXITS);
}

static const struct testing_case tests[] = {
    TEST(test_waits_timed_out_waiter_is_told_the_process),
    TEST(test_waits_timed_out_waiter_is_told_the_thread),
    TEST(test_waits_time_is_that_of_one_holding),
    TEST(test_waits_stopped_holder_keeps_it),
    TEST(test_waits_figures_say_how_often_and_how_long),
    TEST(test_waits_segment_is_found_by_the_address),
    TEST_TIMEOUT(test_waits_plain_lock_loses_no_wake, 60),
    TEST_TIMEOUT(test_waits_fair_lock_loses_no_wake, 60),
    TEST_TIMEOUT(test_waits_two_forget_no_plain_wake, 60),
    TEST_TIMEOUT(test_waits_two_forget_no_fair_turn, 60),
    TEST_TIMEOUT(test_waits_woken_and_too_late_passes_the_wake_on, 40),
    TEST(test_waits_death_of_a_later_holder_is_noticed),
    TEST(test_waits_death_of_a_later_fair_holder_is_noticed),
    TEST(test_waits_killed_holder_is_told_once),
    TEST(test_waits_holder_whose_thread_ends_is_told_once),
    TEST(test_waits_holder_that_exits_is_told_once),
};

int main(void)
{
    return testing_run("mutex_waits", tests);
}
