/* test_once.c - the once: who does it, who waits, failures, transactions, deaths.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads valgrind timeout=90 */
#include "waiting.h"

#include <cove/condition.h>
#include <cove/once.h>

struct board {
    cove_once once, other;
    cove_mutex lock, second;
    uint64_t saved; /* changed after cove_save */
    uint64_t unsaved;
    cove_ref block;
    cove_condition condition;
};

static struct board *open_board(cove_segment *segment)
{
    return unit_object(segment, "b", sizeof(struct board));
}

static void finish(cove_segment *segment)
{
    (void)EXPECT_GOOD(cove_recover(segment));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* What `initialise` does, as its caller wants it. */
struct work {
    cove_segment *segment;
    struct board *board;
    int result;
    int calls;
    void (*also)(struct work *work);
};

static int initialise(void *context)
{
    struct work *work = context;
    work->calls++;
    EXPECT(0, cove_save(work->segment, &work->board->saved, sizeof work->board->saved));
    work->board->saved++;
    work->board->unsaved++;
    if (work->also)
        work->also(work);
    return work->result;
}

static struct work work_of(cove_segment *segment)
{
    return (struct work){.segment = segment, .board = open_board(segment)};
}

static int call(struct work *work, int64_t timeout_ns)
{
    return cove_once_call(work->segment, &work->board->once, initialise, work, timeout_ns);
}

/* ---- results */

static void test_once_is_done_once(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    work.result = 7; /* 0 or more: done */
    EXPECT(COVE_CREATED, call(&work, COVE_NOWAIT));
    assert_int_equal(work.board->saved, 1);
    for (int i = 0; i < 3; i++)
        EXPECT(0, call(&work, COVE_NOWAIT));
    EXPECT(0, cove_once_call(NULL, &work.board->once, initialise, &work, COVE_FOREVER));
    assert_int_equal(work.calls, 1);
    assert_int_equal(work.board->saved, 1);
    assert_int_equal(work.board->once.done, 1);
    assert_false(covei_lane_holds(covei_thread.shm));
    EXPECT(COVE_CREATED, cove_once_call(NULL, &work.board->other, initialise, &work, COVE_FOREVER));
    EXPECT(-EINVAL, cove_commit(segment)); /* no transaction is left */
    finish(segment);
}

static void test_once_wrong_arguments_are_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    cove_once *once = &work.board->once, outside;
    memset(&outside, 0, sizeof outside);
    cove_once *const bad[] = {NULL,
                              &outside,
                              (cove_once *)(void *)((char *)once + 4),
                              (cove_once *)(void *)((char *)once + 1),
                              (cove_once *)((uintptr_t)once ^ (UINTPTR_MAX / 2 + 1)),
                              (cove_once *)((uintptr_t)once & ~(uintptr_t)0xfffff)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(-EINVAL, cove_once_call(segment, bad[i], initialise, &work, COVE_NOWAIT));
        EXPECT(-EINVAL, cove_once_call(NULL, bad[i], initialise, &work, COVE_NOWAIT));
    }
    EXPECT_SAYS(-EINVAL, cove_once_call(segment, once, NULL, NULL, COVE_NOWAIT), "no function");
    assert_int_equal(work.calls, 0);
    EXPECT(COVE_CREATED, call(&work, COVE_NOWAIT)); /* nothing was left of all that */
    uint64_t offset = covei_offset(segment, once);
    unit_close(segment);
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    EXPECT(-EPERM, cove_once_call(segment, covei_address(segment, offset), initialise, &work, COVE_NOWAIT));
    unit_close(segment);
    unit_remove("t");
}

static void test_once_scribbled_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    work.board->once.done = 2;
    EXPECT_SAYS(COVE_ECORRUPT, call(&work, COVE_NOWAIT), "wrote over");
    work.board->once.done = 0;
    work.board->once.word = 4000; /* names a lane that there is not */
    EXPECT(COVE_ECORRUPT, call(&work, COVE_FOREVER));
    work.board->once.word = 0;
    EXPECT(COVE_CREATED, call(&work, COVE_NOWAIT));
    assert_int_equal(work.calls, 1);
    finish(segment);
}

/* ---- failing */

static void allocate_much(struct work *work)
{
    for (int i = 0; i < 20; i++)
        assert_true(cove_alloc(work->segment, 1000) != 0);
}

static void test_once_failure_is_undone_and_tried_again(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    work.also = allocate_much;
    uint64_t free_bytes = unit_free_bytes(segment);
    static const int failures[] = {-ENODATA, COVE_ENAME, -1};
    for (int i = 0; i < 3; i++) {
        work.result = failures[i];
        assert_int_equal(call(&work, COVE_FOREVER), failures[i]); /* no sentence: the user's error */
        assert_int_equal(work.board->saved, 0);
        assert_int_equal(work.board->once.done, 0);
        assert_int_equal(unit_free_bytes(segment), free_bytes);
        assert_false(covei_lane_holds(covei_thread.shm));
    }
    assert_int_equal(work.board->unsaved, 3);
    work.result = 0;
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    assert_int_equal(work.calls, 4);
    assert_int_equal(work.board->saved, 1);
    assert_true(unit_free_bytes(segment) <= free_bytes - 20 * 1000);
    finish(segment);
}

static void call_itself(struct work *work)
{
    EXPECT_SAYS(-EDEADLK, cove_once_call(work->segment, &work->board->once, initialise, work, COVE_FOREVER),
                "called from what it calls");
    EXPECT(-EDEADLK, cove_once_call(work->segment, &work->board->once, initialise, work, COVE_NOWAIT));
}

static void test_once_called_from_itself_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    work.also = call_itself;
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    assert_int_equal(work.calls, 1);
    finish(segment);
}

static void end_the_transaction(struct work *work)
{
    EXPECT(-EBUSY, cove_commit(work->segment));
    EXPECT(-EBUSY, cove_abort(work->segment));
    EXPECT(0, cove_begin(work->segment));
    EXPECT(0, cove_commit(work->segment)); /* what it began itself */
    EXPECT(0, cove_begin(work->segment)); /* and never ended */
    EXPECT(0, cove_mutex_lock(work->segment, &work->board->lock, COVE_NOWAIT));
    EXPECT_SAYS(-EBUSY, cove_condition_wait(work->segment, &work->board->condition, &work->board->lock, UNIT_MS),
                "would commit");
}

static void test_once_callee_cannot_end_the_transaction(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    work.also = end_the_transaction;
    work.result = -ENODATA;
    assert_int_equal(call(&work, COVE_FOREVER), -ENODATA);
    assert_int_equal(work.board->saved, 0);
    work.result = 0;
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    assert_int_equal(work.board->saved, 1);
    EXPECT(-EPERM, cove_mutex_unlock(segment, &work.board->lock)); /* taken inside, and freed with its end */
    EXPECT(-EINVAL, cove_commit(segment));
    finish(segment);
}

/* One that another needs first. */
static int initialise_other(void *context)
{
    struct work *work = context;
    return call(work, COVE_FOREVER);
}

static void test_once_may_call_another(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    work.result = -ENODATA;
    assert_int_equal(cove_once_call(segment, &work.board->other, initialise_other, &work, COVE_FOREVER), -ENODATA);
    assert_int_equal(work.board->saved, 0);
    work.result = 0;
    EXPECT(COVE_CREATED, cove_once_call(segment, &work.board->other, initialise_other, &work, COVE_FOREVER));
    assert_int_equal(work.calls, 2);
    EXPECT(0, call(&work, COVE_NOWAIT));
    assert_int_equal(work.board->saved, 1);
    assert_false(covei_lane_holds(covei_thread.shm));
    finish(segment);
}

/* ---- others meanwhile */

static void wait_for_go(struct work *work)
{
    (void)work;
    testing_reach(0);
    testing_await(1);
}

static void *call_in_thread(void *argument)
{
    struct work work = work_of(argument);
    EXPECT(0, call(&work, COVE_FOREVER));
    assert_int_equal(work.calls, 0);
    assert_int_equal(work.board->saved, 1); /* what was done is seen */
    return NULL;
}

static void *do_it_slowly(void *argument)
{
    struct work work = work_of(argument);
    work.also = wait_for_go;
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    return NULL;
}

static void *interrupted_caller(void *argument)
{
    struct work work = work_of(argument);
    EXPECT_SAYS(-EINTR, call(&work, COVE_FOREVER), "cove_interrupt");
    return NULL;
}

static void test_once_others_wait_and_are_told_for_whom(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    pthread_t does = unit_thread(do_it_slowly, segment);
    testing_await(0);
    char part[64];
    (void)snprintf(part, sizeof part, "(pid %d", (int)getpid());
    EXPECT_SAYS(-EBUSY, call(&work, COVE_NOWAIT), part);
    EXPECT_SAYS(-ETIMEDOUT, call(&work, 5 * UNIT_MS), part);
    pthread_t waits = unit_thread(interrupted_caller, segment);
    UNTIL(waiting_for(segment, &work.board->once) == 1, 5000);
    EXPECT(0, cove_interrupt());
    unit_thread_join(waits);
    waits = unit_thread(call_in_thread, segment);
    UNTIL(waiting_for(segment, &work.board->once) == 1, 5000);
    testing_reach(1);
    unit_thread_join(waits);
    unit_thread_join(does);
    EXPECT(0, call(&work, COVE_NOWAIT));
    assert_int_equal(work.calls, 0);
    finish(segment);
}

static void race(void *argument)
{
    _Atomic uint32_t *created = argument;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    testing_reach(2);
    testing_await_count(2, 4);
    int result = cove_once_call(segment, &work.board->once, initialise, &work, COVE_FOREVER);
    assert_true(result == 0 || result == COVE_CREATED);
    assert_int_equal(work.calls, result == COVE_CREATED);
    assert_int_equal(work.board->saved, 1);
    atomic_fetch_add(created, result == COVE_CREATED);
    unit_close(segment);
}

static void test_once_of_many_one_does_it(void **state)
{
    (void)state;
    _Atomic uint32_t *created = testing_shared(sizeof *created);
    unit_close(unit_open("t"));
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = testing_spawn(race, created);
    for (int i = 0; i < 4; i++)
        testing_join(pids[i]);
    assert_int_equal(atomic_load(created), 1);
    finish(unit_open("t"));
}

/* ---- inside transactions of the caller's */

static void *expect_busy(void *argument)
{
    struct work work = work_of(argument);
    EXPECT(-EBUSY, call(&work, COVE_NOWAIT));
    return NULL;
}

static void *expect_done(void *argument)
{
    struct work work = work_of(argument);
    EXPECT(0, call(&work, COVE_NOWAIT));
    return NULL;
}

static void test_once_inside_a_transaction_is_done_with_its_commit(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_begin(segment));
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    unit_in_thread(expect_busy, segment);
    EXPECT(0, call(&work, COVE_NOWAIT)); /* as far as this transaction goes it is done */
    EXPECT(0, cove_commit(segment)); /* one level up */
    unit_in_thread(expect_busy, segment);
    EXPECT(0, cove_commit(segment));
    unit_in_thread(expect_done, segment);
    assert_int_equal(work.calls, 1);
    finish(segment);
}

static void test_once_inside_a_transaction_is_undone_with_it(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    for (int i = 0; i < 3; i++) {
        EXPECT(0, cove_begin(segment));
        EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
        EXPECT(0, cove_abort(segment));
        assert_int_equal(work.board->saved, 0);
        assert_int_equal(work.board->once.done, 0);
        assert_false(covei_lane_holds(covei_thread.shm));
    }
    EXPECT(COVE_CREATED, call(&work, COVE_NOWAIT));
    finish(segment);
}

/* Only its own part is undone, and it may be tried again in the same transaction. */
static void test_once_failure_inside_a_transaction_leaves_the_rest(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    for (int saves_first = 0; saves_first < 2; saves_first++) {
        EXPECT(0, cove_begin(segment));
        if (saves_first) {
            EXPECT(0, cove_save(segment, &work.board->block, sizeof work.board->block));
            work.board->block = 42;
        }
        work.result = -ENODATA;
        for (int i = 0; i < 2; i++)
            assert_int_equal(call(&work, COVE_FOREVER), -ENODATA);
        assert_int_equal(work.board->saved, 0);
        if (saves_first) {
            assert_int_equal(work.board->block, 42);
            unit_in_thread(expect_busy, segment); /* two-phase: the journal is not empty */
            work.result = 0;
            EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
        }
        EXPECT(0, cove_commit(segment));
        assert_false(covei_lane_holds(covei_thread.shm));
    }
    assert_int_equal(work.board->block, 42);
    assert_int_equal(work.board->saved, 1);
    unit_in_thread(expect_done, segment);
    finish(segment);
}

/* One that was done for the sake of another, which failed: undone with that, and free to be tried. */
static int initialise_and_fail(void *context)
{
    EXPECT(COVE_CREATED, call(context, COVE_FOREVER));
    return -EDOM;
}

static void test_once_undone_with_another_is_tried_again(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    EXPECT(0, cove_begin(segment));
    assert_int_equal(cove_once_call(segment, &work.board->other, initialise_and_fail, &work, COVE_FOREVER), -EDOM);
    assert_int_equal(work.board->once.done, 0);
    assert_int_equal(work.board->saved, 0);
    work.result = -ENODATA;
    assert_int_equal(call(&work, COVE_FOREVER), -ENODATA);
    /* The places of the onces in the lane are free for others. */
    EXPECT(0, cove_mutex_lock(segment, &work.board->lock, COVE_NOWAIT));
    EXPECT(0, cove_mutex_lock(segment, &work.board->second, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &work.board->second));
    EXPECT(0, cove_mutex_unlock(segment, &work.board->lock));
    work.result = 0;
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    EXPECT(0, cove_commit(segment));
    unit_in_thread(expect_done, segment);
    assert_int_equal(work.board->saved, 1);
    finish(segment);
}

/* What a user saved may hold the once itself. */
static void test_once_inside_saved_bytes(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, work.board, sizeof *work.board));
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    EXPECT(0, cove_abort(segment));
    assert_int_equal(work.board->once.done, 0);
    assert_int_equal(work.board->saved, 0);
    EXPECT(COVE_CREATED, call(&work, COVE_NOWAIT));
    finish(segment);
}

/* ---- deaths */

static void die_when_told(struct work *work)
{
    (void)work;
    testing_reach(0);
    unit_wait_for_death();
}

static void be_killed_in_the_middle(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    work.also = die_when_told;
    (void)!call(&work, COVE_FOREVER);
}

static void test_once_killed_in_the_middle_is_done_again(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    for (int i = 0; i < 3; i++) {
        pid_t victim = testing_spawn(be_killed_in_the_middle, NULL);
        testing_await_count(0, (unsigned)i + 1);
        testing_kill(victim);
        if (i == 1)
            (void)EXPECT_GOOD(cove_recover(segment));
    }
    work.result = -ENODATA; /* who fails leaves the news of the deaths to the next */
    assert_int_equal(call(&work, COVE_NOWAIT), -ENODATA);
    work.result = 0;
    EXPECT(COVE_RECOVERED, call(&work, COVE_NOWAIT));
    assert_int_equal(work.board->saved, 1); /* put back each time */
    assert_int_equal(work.board->unsaved, 5); /* and what was not saved is as the dead left it */
    EXPECT(0, call(&work, COVE_NOWAIT));
    finish(segment);
}

static void *expect_recovered(void *argument)
{
    struct work work = work_of(argument);
    EXPECT(COVE_RECOVERED, call(&work, COVE_FOREVER));
    assert_int_equal(work.calls, 1);
    return NULL;
}

static void test_once_who_waits_for_the_dead_does_it(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    pid_t victim = testing_spawn(be_killed_in_the_middle, NULL);
    testing_await(0);
    pthread_t thread = unit_thread(expect_recovered, segment);
    UNTIL(waiting_for(segment, &board->once) == 1, 5000);
    testing_kill(victim);
    unit_thread_join(thread);
    assert_int_equal(board->saved, 1);
    unit_in_thread(expect_done, segment);
    finish(segment);
}

static void do_it_in_a_transaction(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    testing_reach(0);
    unit_wait_for_death();
}

static void test_once_killed_before_the_callers_commit_is_undone(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    pid_t victim = testing_spawn(do_it_in_a_transaction, NULL);
    testing_await(0);
    assert_int_equal(work.board->once.done, 1); /* to be seen, and not to be believed */
    EXPECT(-EBUSY, call(&work, COVE_NOWAIT));
    testing_kill(victim);
    EXPECT(COVE_RECOVERED, call(&work, COVE_FOREVER));
    assert_int_equal(work.board->saved, 1);
    finish(segment);
}

static void *end_in_the_middle(void *argument)
{
    struct work work = work_of(argument);
    EXPECT(0, cove_begin(argument));
    EXPECT(COVE_CREATED, call(&work, COVE_FOREVER));
    return NULL;
}

static void test_once_of_a_thread_that_ended_is_undone(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    unit_in_thread(end_in_the_middle, segment);
    EXPECT(COVE_RECOVERED, call(&work, COVE_FOREVER));
    assert_int_equal(work.board->saved, 1);
    finish(segment);
}

static void use_inherited(void *argument)
{
    struct work *work = argument;
    EXPECT(COVE_EFORKED, call(work, COVE_NOWAIT));
    EXPECT(-EINVAL, cove_once_call(NULL, &work->board->once, initialise, work, COVE_NOWAIT));
    assert_int_equal(work->calls, 0);
    unit_drop_inherited(work->segment);
}

static void test_once_in_a_forked_child(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct work work = work_of(segment);
    testing_join(testing_spawn(use_inherited, &work));
    EXPECT(COVE_CREATED, call(&work, COVE_NOWAIT));
    work.calls = 0;
    testing_join(testing_spawn(use_inherited, &work)); /* done or not */
    finish(segment);
}

static const struct testing_case tests[] = {
    TEST(test_once_is_done_once),
    TEST(test_once_wrong_arguments_are_refused),
    TEST(test_once_scribbled_is_told),
    TEST(test_once_failure_is_undone_and_tried_again),
    TEST(test_once_called_from_itself_is_told),
    TEST(test_once_callee_cannot_end_the_transaction),
    TEST(test_once_may_call_another),
    TEST(test_once_others_wait_and_are_told_for_whom),
    TEST(test_once_of_many_one_does_it),
    TEST(test_once_inside_a_transaction_is_done_with_its_commit),
    TEST(test_once_inside_a_transaction_is_undone_with_it),
    TEST(test_once_failure_inside_a_transaction_leaves_the_rest),
    TEST(test_once_undone_with_another_is_tried_again),
    TEST(test_once_inside_saved_bytes),
    TEST(test_once_killed_in_the_middle_is_done_again),
    TEST(test_once_who_waits_for_the_dead_does_it),
    TEST(test_once_killed_before_the_callers_commit_is_undone),
    TEST(test_once_of_a_thread_that_ended_is_undone),
    TEST(test_once_in_a_forked_child),
};

int main(void)
{
    return testing_run("once", tests);
}
