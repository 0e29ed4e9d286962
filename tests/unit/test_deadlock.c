/* test_deadlock.c - threads that wait for each other in a circle are told, one of them; nobody else ever is.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 */
/* ctest: threads timeout=120 */
#include "actors.h"

#include <cove/rwlock.h>
#include <cove/semaphore.h>

#define MOST 24

struct board {
    cove_mutex locks[MOST];
    cove_rwlock shelves[4];
    cove_semaphore permits[2];
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
    for (unsigned i = 0; i < MOST; i++) {
        (void)EXPECT_GOOD(cove_mutex_lock(segment, &board->locks[i], unit_patience())); /* nobody has it any more */
        EXPECT(0, cove_mutex_unlock(segment, &board->locks[i]));
    }
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

/* ---- circles of mutexes */

struct member {
    unsigned number, count;
    int64_t timeout_ns; /* of each of its waits */
    _Atomic int result; /* of the last one */
    _Atomic int64_t took_ns; /* of all of them */
    _Atomic unsigned tries;
    bool stops; /* as soon as it sleeps */
    char sentence[512];
};

enum { HOLDS = 0, WAITS_NEXT = 30 };

static int stop_once(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    covei_os = &covei_os_native;
    (void)raise(SIGSTOP);
    return covei_os_native.park_any(parks, count, timeout_ns);
}

/* Hold one's own lock and want the next one's. Who is told gives its own back. */
static void close_the_circle(cove_segment *own, void *argument)
{
    struct member *me = argument;
    struct board *mine = board_of(own);
    cove_mutex *next = &mine->locks[(me->number + 1) % me->count];
    EXPECT(0, cove_mutex_lock(own, &mine->locks[me->number], COVE_FOREVER));
    testing_reach(HOLDS);
    testing_await_count(HOLDS, me->count);
    UNTIL(testing_reached(WAITS_NEXT) >= me->number, 20000); /* one after the other, so that the last is known */
    int64_t begun = unit_now();
    int result;
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = stop_once;
    if (me->stops)
        covei_os = &calls;
    do {
        atomic_fetch_add(&me->tries, 1);
        result = cove_mutex_lock(own, next, me->timeout_ns);
    } while (result == -ETIMEDOUT && unit_now() - begun < unit_patience());
    atomic_store(&me->took_ns, unit_now() - begun);
    (void)snprintf(me->sentence, sizeof me->sentence, "%s", result < 0 ? cove_last_error() : "");
    atomic_store(&me->result, result);
    if (result >= 0)
        EXPECT(0, cove_mutex_unlock(own, next));
    EXPECT(0, cove_mutex_unlock(own, &mine->locks[me->number]));
}

struct circle {
    unsigned count;
    struct actor actors[MOST];
    struct member *members[MOST];
};

static struct circle circle_of(unsigned count, bool processes)
{
    struct circle circle = {.count = count};
    for (unsigned i = 0; i < count; i++) {
        circle.members[i] = testing_shared(sizeof *circle.members[i]);
        *circle.members[i] = (struct member){.number = i, .count = count, .timeout_ns = COVE_FOREVER};
        atomic_store(&circle.members[i]->result, 1000);
    }
    for (unsigned i = 0; i < count; i++)
        circle.actors[i] = actor_start(processes, segment, close_the_circle, circle.members[i]);
    testing_await_count(HOLDS, count);
    return circle;
}

/* One after the other they begin to wait. */
static void let_them_wait(struct circle *circle)
{
    for (unsigned i = 0; i < circle->count; i++) {
        UNTIL(actors_waiting(segment, &board->locks[(i + 1) % circle->count]) == 1, 20000);
        testing_reach(WAITS_NEXT);
    }
}

/* Who was told; all others got the lock. */
static unsigned who_was_told(struct circle *circle)
{
    unsigned told = MOST, count = 0;
    actors_join(circle->actors, circle->count);
    for (unsigned i = 0; i < circle->count; i++) {
        int result = atomic_load(&circle->members[i]->result);
        if (result == -EDEADLK) {
            told = i;
            count++;
        } else
            EXPECT_WAS(0, result);
    }
    assert_int_equal(count, 1);
    return told;
}

static void assert_names_all(const struct circle *circle, unsigned told)
{
    const char *sentence = circle->members[told]->sentence, *at = sentence;
    assert_non_null(strstr(sentence, "deadlock"));
    for (unsigned i = 1; i < circle->count; i++) { /* in the order in which they wait for each other */
        const struct actor *other = &circle->actors[(told + i) % circle->count];
        char who[64];
        (void)snprintf(who, sizeof who, "(pid %d, thread %d)", other->process ? (int)other->pid : (int)getpid(),
                       (int)atomic_load(&other->part->thread_id));
        at = strstr(at, who);
        if (!at)
            print_error("\"%s\" does not say \"%s\", or not in its place\n", sentence, who);
        assert_non_null(at);
    }
}

static void tell_one_of(unsigned count, bool processes)
{
    begin();
    struct circle circle = circle_of(count, processes);
    let_them_wait(&circle);
    unsigned told = who_was_told(&circle);
    assert_int_equal(told, count - 1); /* who closed it */
    if (count <= 4)
        assert_names_all(&circle, told);
    int64_t took = atomic_load(&circle.members[told]->took_ns);
    print_message("%u told after %.0f ms: %s\n", told, (double)took / 1e6, circle.members[told]->sentence);
    assert_true(took >= 99 * UNIT_MS);
    assert_true(took < 200 * UNIT_MS + unit_patience() / 20);
    end();
}

static void test_deadlock_of_two_threads_is_told_to_one(void **state)
{
    (void)state;
    tell_one_of(2, false);
}

static void test_deadlock_of_two_processes_is_told_to_one(void **state)
{
    (void)state;
    tell_one_of(2, true);
}

static void test_deadlock_of_three_is_told_to_one(void **state)
{
    (void)state;
    tell_one_of(3, true);
}

static void test_deadlock_of_sixteen_is_told_to_one(void **state)
{
    (void)state;
    tell_one_of(16, false);
}

static void test_deadlock_of_twenty_is_told_to_one(void **state)
{
    (void)state;
    tell_one_of(20, false);
}

/* ---- who closed it does not listen */

static void test_deadlock_last_is_stopped_another_is_told(void **state)
{
    (void)state;
    begin();
    struct circle circle = circle_of(3, true);
    circle.members[2]->stops = true;
    let_them_wait(&circle);
    int status = 0;
    assert_int_equal(waitpid(circle.actors[2].pid, &status, WUNTRACED), circle.actors[2].pid);
    assert_true(WIFSTOPPED(status));
    UNTIL(atomic_load(&circle.members[0]->result) == -EDEADLK || atomic_load(&circle.members[1]->result) == -EDEADLK,
          20000);
    int told = atomic_load(&circle.members[1]->result) == -EDEADLK ? 1 : 0;
    actor_continue(&circle.actors[2]);
    actors_join(circle.actors, 3);
    int64_t took = atomic_load(&circle.members[told]->took_ns);
    print_message("%d told after %.0f ms\n", told, (double)took / 1e6);
    assert_true(took >= 1000 * UNIT_MS);
    assert_true(took < 1300 * UNIT_MS + actors_soon());
    end();
}

/* One waits in short timeouts, over and over, and never gives its own lock back: the other is told. */
static void test_deadlock_with_one_that_tries_again_is_told(void **state)
{
    (void)state;
    begin();
    struct member *members[2];
    struct actor actors[2];
    for (unsigned i = 0; i < 2; i++) {
        members[i] = testing_shared(sizeof *members[i]);
        *members[i] = (struct member){.number = i, .count = 2, .timeout_ns = i ? 60 * UNIT_MS : COVE_FOREVER};
        atomic_store(&members[i]->result, 1000);
    }
    for (unsigned i = 0; i < 2; i++)
        actors[i] = actor_start(true, segment, close_the_circle, members[i]);
    testing_reach(WAITS_NEXT);
    UNTIL(atomic_load(&members[0]->result) != 1000, 20000);
    actors_join(actors, 2);
    EXPECT_WAS(0, atomic_load(&members[1]->result)); /* it got it when the other backed off */
    assert_int_equal(atomic_load(&members[0]->result), -EDEADLK);
    assert_true(atomic_load(&members[1]->tries) > 3);
    int64_t took = atomic_load(&members[0]->took_ns);
    print_message("told after %.0f ms\n", (double)took / 1e6);
    assert_true(took < 2000 * UNIT_MS + unit_patience() / 10);
    end();
}

/* ---- the dead, the stopped, the long chain: no circles */

static void test_deadlock_dead_member_is_recovered_not_told(void **state)
{
    (void)state;
    begin();
    struct circle circle = circle_of(3, true);
    for (unsigned i = 0; i < 3; i++)
        testing_reach(WAITS_NEXT);
    UNTIL(actors_waiting(segment, &board->locks[0]) == 1 && actors_waiting(segment, &board->locks[1]) == 1 &&
              actors_waiting(segment, &board->locks[2]) == 1,
          20000);
    testing_kill(circle.actors[2].pid); /* it held 2, which 1 wants, and wanted 0 */
    actor_join(&circle.actors[1]);
    actor_join(&circle.actors[0]);
    assert_int_equal(atomic_load(&circle.members[1]->result), COVE_RECOVERED);
    assert_int_equal(atomic_load(&circle.members[0]->result), 0);
    end();
}

/* Everybody waits for the next, and the last one for nobody. */
static void want_the_next(cove_segment *own, void *argument)
{
    struct member *me = argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_mutex_lock(own, &mine->locks[me->number], COVE_FOREVER));
    testing_reach(HOLDS);
    testing_await_count(HOLDS, me->count);
    if (me->number + 1 < me->count) {
        EXPECT(0, cove_mutex_lock(own, &mine->locks[me->number + 1], COVE_FOREVER));
        EXPECT(0, cove_mutex_unlock(own, &mine->locks[me->number + 1]));
    } else
        testing_await(50);
    EXPECT(0, cove_mutex_unlock(own, &mine->locks[me->number]));
}

static void chain_of(unsigned count, bool stopped)
{
    begin();
    struct circle circle = {.count = count};
    for (unsigned i = 0; i < count; i++) {
        circle.members[i] = testing_shared(sizeof *circle.members[i]);
        *circle.members[i] = (struct member){.number = i, .count = count};
        circle.actors[i] = actor_start(i + 1 == count, segment, want_the_next, circle.members[i]);
    }
    for (unsigned i = 1; i < count; i++)
        UNTIL_WAITING(segment, &board->locks[i], 1);
    if (stopped)
        actor_stop(&circle.actors[count - 1]);
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, &board->locks[0], 1500 * UNIT_MS)); /* nor is who comes to the end */
    testing_reach(50);
    if (stopped)
        actor_continue(&circle.actors[count - 1]);
    actors_join(circle.actors, count);
    end();
}

static void test_deadlock_chain_without_a_circle_is_none(void **state)
{
    (void)state;
    chain_of(12, false);
}

static void test_deadlock_stopped_holder_is_none(void **state)
{
    (void)state;
    chain_of(3, true);
}

/* Who waits for a circle that he is no part of is not told, and gets his lock when it is broken. */
static void wait_beside(cove_segment *own, void *argument)
{
    struct board *mine = board_of(own);
    int64_t begun = unit_now();
    EXPECT(0, cove_mutex_lock(own, &mine->locks[0], COVE_FOREVER));
    *(_Atomic int64_t *)argument = unit_now() - begun;
    EXPECT(0, cove_mutex_unlock(own, &mine->locks[0]));
}

static void test_deadlock_who_waits_beside_it_is_not_told(void **state)
{
    (void)state;
    begin();
    struct circle circle = circle_of(2, false);
    _Atomic int64_t *took = testing_shared(sizeof *took);
    struct actor beside = actor_start(false, segment, wait_beside, took);
    UNTIL_WAITING(segment, &board->locks[0], 1);
    actors_pass(120 * UNIT_MS);
    testing_reach(WAITS_NEXT);
    testing_reach(WAITS_NEXT);
    unsigned told = who_was_told(&circle);
    assert_true(told < 2);
    actor_join(&beside);
    assert_true(atomic_load(took) >= 120 * UNIT_MS);
    end();
}

/* ---- with rwlocks */

struct errand {
    _Atomic int result[3];
};

/* A reader who wants a mutex, and the mutex's holder who wants to write. */
static void read_then_mutex(cove_segment *own, void *argument)
{
    struct errand *errand = argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_rwlock_lock_shared(own, &mine->shelves[0], COVE_FOREVER));
    testing_reach(HOLDS);
    testing_await_count(HOLDS, 2);
    int result = cove_mutex_lock(own, &mine->locks[0], COVE_FOREVER);
    atomic_store(&errand->result[0], result);
    if (result >= 0)
        EXPECT(0, cove_mutex_unlock(own, &mine->locks[0]));
    EXPECT(0, cove_rwlock_unlock(own, &mine->shelves[0]));
}

static void mutex_then_write(cove_segment *own, void *argument)
{
    struct errand *errand = argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_mutex_lock(own, &mine->locks[0], COVE_FOREVER));
    testing_reach(HOLDS);
    testing_await_count(HOLDS, 2);
    int result = cove_rwlock_lock(own, &mine->shelves[0], COVE_FOREVER);
    atomic_store(&errand->result[1], result);
    if (result >= 0)
        EXPECT(0, cove_rwlock_unlock(own, &mine->shelves[0]));
    EXPECT(0, cove_mutex_unlock(own, &mine->locks[0]));
}

static unsigned count_told(const struct errand *errand, unsigned count)
{
    unsigned told = 0;
    for (unsigned i = 0; i < count; i++) {
        int result = atomic_load(&errand->result[i]);
        if (result == -EDEADLK)
            told++;
        else
            EXPECT_WAS(0, result);
    }
    return told;
}

static void test_deadlock_of_reader_and_writer_is_told(void **state)
{
    (void)state;
    begin();
    struct errand *errand = testing_shared(sizeof *errand);
    int64_t begun = unit_now();
    struct actor actors[2] = {actor_start(true, segment, read_then_mutex, errand),
                              actor_start(false, segment, mutex_then_write, errand)};
    actors_join(actors, 2);
    assert_int_equal(count_told(errand, 2), 1);
    assert_true(unit_now() - begun < 400 * UNIT_MS + unit_patience());
    end();
}

/* The writer waits for one of two readers; the other reader is about to come, and holds what the first one wants. */
static void hold_then_read(cove_segment *own, void *argument)
{
    struct errand *errand = argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_mutex_lock(own, &mine->locks[0], COVE_FOREVER));
    testing_reach(HOLDS);
    testing_await(1); /* the writer has the word */
    int result = cove_rwlock_lock_shared(own, &mine->shelves[0], COVE_FOREVER);
    atomic_store(&errand->result[2], result);
    if (result >= 0)
        EXPECT(0, cove_rwlock_unlock(own, &mine->shelves[0]));
    EXPECT(0, cove_mutex_unlock(own, &mine->locks[0]));
}

static void write_only(cove_segment *own, void *argument)
{
    struct errand *errand = argument;
    struct board *mine = board_of(own);
    testing_await_count(HOLDS, 2);
    int result = cove_rwlock_lock(own, &mine->shelves[0], COVE_FOREVER);
    atomic_store(&errand->result[1], result);
    if (result >= 0)
        EXPECT(0, cove_rwlock_unlock(own, &mine->shelves[0]));
}

static void test_deadlock_through_a_draining_writer_is_told(void **state)
{
    (void)state;
    begin();
    struct errand *errand = testing_shared(sizeof *errand);
    struct actor actors[3] = {actor_start(true, segment, read_then_mutex, errand),
                              actor_start(true, segment, write_only, errand),
                              actor_start(true, segment, hold_then_read, errand)};
    UNTIL_WAITING(segment, &board->shelves[0], 1);
    testing_reach(1);
    actors_join(actors, 3);
    assert_int_equal(count_told(errand, 3), 1);
    end();
}

/* Two who read one and want to write the other's. */
static void read_one_write_other(cove_segment *own, void *argument)
{
    struct member *me = argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_rwlock_lock_shared(own, &mine->shelves[me->number], COVE_FOREVER));
    testing_reach(HOLDS);
    testing_await_count(HOLDS, 2);
    int result = cove_rwlock_lock(own, &mine->shelves[1 - me->number], COVE_FOREVER);
    atomic_store(&me->result, result);
    if (result >= 0)
        EXPECT(0, cove_rwlock_unlock(own, &mine->shelves[1 - me->number]));
    EXPECT(0, cove_rwlock_unlock(own, &mine->shelves[me->number]));
}

static void test_deadlock_of_two_rwlocks_is_told(void **state)
{
    (void)state;
    begin();
    struct circle circle = {.count = 2};
    for (unsigned i = 0; i < 2; i++) {
        circle.members[i] = testing_shared(sizeof *circle.members[i]);
        circle.members[i]->number = i;
        circle.actors[i] = actor_start(i == 1, segment, read_one_write_other, circle.members[i]);
    }
    (void)who_was_told(&circle);
    end();
}

/* In a transaction an unlocked lock is held on, and so is part of a circle. */
static void change_then_want(cove_segment *own, void *argument)
{
    struct member *me = argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_begin(own));
    EXPECT(0, cove_mutex_lock(own, &mine->locks[me->number], COVE_FOREVER));
    EXPECT(0, cove_save(own, &mine->value, 8));
    EXPECT(0, cove_mutex_unlock(own, &mine->locks[me->number]));
    testing_reach(HOLDS);
    testing_await_count(HOLDS, 2);
    int result = cove_mutex_lock(own, &mine->locks[1 - me->number], COVE_FOREVER);
    atomic_store(&me->result, result);
    EXPECT(0, result < 0 ? cove_abort(own) : cove_commit(own));
}

static void test_deadlock_of_transactions_ends_by_an_abort(void **state)
{
    (void)state;
    begin();
    struct circle circle = {.count = 2};
    for (unsigned i = 0; i < 2; i++) {
        circle.members[i] = testing_shared(sizeof *circle.members[i]);
        circle.members[i]->number = i;
        circle.actors[i] = actor_start(true, segment, change_then_want, circle.members[i]);
    }
    (void)who_was_told(&circle);
    end();
}

/* A permit is nobody's in particular: others may post one. */
static void own_one_want_other(cove_segment *own, void *argument)
{
    struct member *me = argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_semaphore_acquire(own, &mine->permits[me->number], COVE_FOREVER));
    testing_reach(HOLDS);
    testing_await_count(HOLDS, 2);
    atomic_store(&me->result, cove_semaphore_acquire(own, &mine->permits[1 - me->number], 1300 * UNIT_MS));
    testing_reach(WAITS_NEXT);
    testing_await_count(WAITS_NEXT, 2);
    EXPECT(0, cove_semaphore_release(own, &mine->permits[me->number]));
}

static void test_deadlock_of_permits_is_not_guessed(void **state)
{
    (void)state;
    begin();
    struct circle circle = {.count = 2};
    for (unsigned i = 0; i < 2; i++) {
        EXPECT(0, cove_semaphore_post(segment, &board->permits[i], 1));
        circle.members[i] = testing_shared(sizeof *circle.members[i]);
        circle.members[i]->number = i;
        circle.actors[i] = actor_start(i == 1, segment, own_one_want_other, circle.members[i]);
    }
    actors_join(circle.actors, 2);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(atomic_load(&circle.members[i]->result), -ETIMEDOUT);
    end();
}

static const struct testing_case tests[] = {
    TEST(test_deadlock_of_two_threads_is_told_to_one),
    TEST(test_deadlock_of_two_processes_is_told_to_one),
    TEST(test_deadlock_of_three_is_told_to_one),
    TEST(test_deadlock_of_sixteen_is_told_to_one),
    TEST(test_deadlock_of_twenty_is_told_to_one),
    TEST_TIMEOUT(test_deadlock_last_is_stopped_another_is_told, 20),
    TEST_TIMEOUT(test_deadlock_with_one_that_tries_again_is_told, 20),
    TEST(test_deadlock_dead_member_is_recovered_not_told),
    TEST_TIMEOUT(test_deadlock_chain_without_a_circle_is_none, 20),
    TEST_TIMEOUT(test_deadlock_stopped_holder_is_none, 20),
    TEST(test_deadlock_who_waits_beside_it_is_not_told),
    TEST(test_deadlock_of_reader_and_writer_is_told),
    TEST(test_deadlock_through_a_draining_writer_is_told),
    TEST(test_deadlock_of_two_rwlocks_is_told),
    TEST(test_deadlock_of_transactions_ends_by_an_abort),
    TEST(test_deadlock_of_permits_is_not_guessed),
};

int main(void)
{
    return testing_run("deadlock", tests);
}
