/* test_condition.c - the condition: what is told and held afterwards, wake-ups, transactions, deaths.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads valgrind timeout=90 */
#include "waiting.h"

#include <cove/condition.h>
#include <signal.h>

struct board {
    cove_mutex lock, other, fair;
    cove_condition changed, also;
    uint64_t items, taken, done;
    uint64_t number;
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

/* This thread holds it: then it can give it back. */
static void give_back(cove_segment *segment, cove_mutex *mutex)
{
    EXPECT(-EDEADLK, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
}

/* ---- results */

static void test_condition_wrong_use_is_refused(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    cove_condition *condition = &board->changed, outside;
    cove_mutex mutex_outside;
    memset(&outside, 0, sizeof outside);
    memset(&mutex_outside, 0, sizeof mutex_outside);
    EXPECT_SAYS(-EPERM, cove_condition_wait(segment, condition, &board->lock, UNIT_MS), "does not hold");
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(-EPERM, cove_condition_wait(segment, condition, &board->other, UNIT_MS));
    EXPECT_SAYS(-EINVAL, cove_condition_wait(segment, condition, &board->lock, COVE_NOWAIT), "takes time");
    EXPECT(-EINVAL, cove_condition_wait(segment, condition, &board->lock, -1));
    EXPECT(-EINVAL, cove_condition_wait(segment, condition, NULL, UNIT_MS));
    EXPECT(-EINVAL, cove_condition_wait(segment, condition, &mutex_outside, UNIT_MS));
    EXPECT(-EINVAL, cove_condition_wait(segment, condition, (cove_mutex *)(void *)((char *)&board->lock + 4), UNIT_MS));
    cove_condition *const bad[] = {NULL,
                                   &outside,
                                   (cove_condition *)(void *)((char *)condition + 4),
                                   (cove_condition *)(void *)((char *)condition + 1),
                                   (cove_condition *)((uintptr_t)condition ^ (UINTPTR_MAX / 2 + 1)),
                                   (cove_condition *)((uintptr_t)condition & ~(uintptr_t)0xfffff)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int found = 0; found < 2; found++) {
            cove_segment *named = found ? NULL : segment;
            EXPECT(-EINVAL, cove_condition_wait(named, bad[i], &board->lock, UNIT_MS));
            EXPECT(-EINVAL, cove_condition_signal(named, bad[i]));
            EXPECT(-EINVAL, cove_condition_broadcast(named, bad[i]));
        }
    give_back(segment, &board->lock); /* through all of it */
    EXPECT(0, cove_condition_signal(segment, condition));
    EXPECT(0, cove_condition_broadcast(segment, condition));
    EXPECT(0, cove_condition_signal(NULL, condition));
    EXPECT(0, cove_condition_broadcast(NULL, condition));
    finish(segment);
}

static void test_condition_in_a_segment_that_is_only_read(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    uint64_t condition = covei_offset(segment, &board->changed), mutex = covei_offset(segment, &board->lock);
    unit_close(segment);
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    EXPECT(-EPERM,
           cove_condition_wait(segment, covei_address(segment, condition), covei_address(segment, mutex), UNIT_MS));
    EXPECT(-EPERM, cove_condition_signal(segment, covei_address(segment, condition)));
    EXPECT(-EPERM, cove_condition_broadcast(segment, covei_address(segment, condition)));
    unit_close(segment);
    unit_remove("t");
}

static void use_inherited(void *argument)
{
    cove_segment *segment = ((void **)argument)[0];
    struct board *board = ((void **)argument)[1];
    EXPECT(COVE_EFORKED, cove_condition_wait(segment, &board->changed, &board->lock, UNIT_MS));
    EXPECT(COVE_EFORKED, cove_condition_signal(segment, &board->changed));
    EXPECT(COVE_EFORKED, cove_condition_broadcast(segment, &board->changed));
    unit_drop_inherited(segment);
}

static void test_condition_in_a_forked_child(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    void *both[] = {segment, board};
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    testing_join(testing_spawn(use_inherited, both));
    give_back(segment, &board->lock);
    finish(segment);
}

static void test_condition_timeouts_are_kept(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    static const int64_t timeouts[] = {1, 2000, UNIT_MS, 30 * UNIT_MS};
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    for (int i = 0; i < 4; i++) {
        int64_t begun = unit_now();
        EXPECT_SAYS(-ETIMEDOUT, cove_condition_wait(segment, &board->changed, &board->lock, timeouts[i]),
                    "not signalled in time");
        int64_t took = unit_now() - begun;
        assert_true(took >= timeouts[i]);
        assert_true(took < timeouts[i] + unit_patience());
        assert_int_equal(waiting_for(segment, &board->changed), 0);
    }
    give_back(segment, &board->lock);
    assert_true(board->changed.waits > 0);
    assert_int_equal(board->lock.waits, 0); /* nobody waited for the mutex */
    finish(segment);
}

/* ---- wake-ups */

struct actor {
    cove_segment *segment;
    struct board *board;
    cove_mutex *mutex;
    int result;
};

static void *wait_for_item(void *argument)
{
    struct actor *actor = argument;
    struct board *board = actor->board;
    EXPECT(0, cove_mutex_lock(actor->segment, actor->mutex, COVE_FOREVER));
    while (board->items == 0) {
        actor->result = cove_condition_wait(actor->segment, &board->changed, actor->mutex, COVE_FOREVER);
        (void)EXPECT_GOOD(actor->result);
    }
    board->items--;
    board->taken++;
    EXPECT(0, cove_mutex_unlock(actor->segment, actor->mutex));
    testing_reach(0);
    return NULL;
}

static void add_item(struct actor *actor, bool all)
{
    EXPECT(0, cove_mutex_lock(actor->segment, actor->mutex, COVE_FOREVER));
    actor->board->items++;
    EXPECT(0, (all ? cove_condition_broadcast : cove_condition_signal)(actor->segment, &actor->board->changed));
    EXPECT(0, cove_mutex_unlock(actor->segment, actor->mutex));
}

static void signal_wakes_one(cove_segment *segment, cove_mutex *mutex)
{
    struct actor actors[4], me = {segment, open_board(segment), mutex, 0};
    pthread_t threads[4];
    unsigned before = testing_reached(0);
    for (int i = 0; i < 4; i++) {
        actors[i] = me;
        threads[i] = unit_thread(wait_for_item, &actors[i]);
    }
    UNTIL(waiting_for(segment, &me.board->changed) == 4, 5000);
    for (uint32_t i = 1; i <= 2; i++) {
        add_item(&me, false);
        UNTIL(testing_reached(0) == before + i, 5000);
        assert_int_equal(waiting_for(segment, &me.board->changed), 4 - i);
    }
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_FOREVER));
    me.board->items += 2;
    EXPECT(0, cove_condition_broadcast(segment, &me.board->changed));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    for (int i = 0; i < 4; i++)
        unit_thread_join(threads[i]);
}

static void test_condition_signal_wakes_one_broadcast_all(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    board->fair = (cove_mutex)COVE_MUTEX_FAIR;
    signal_wakes_one(segment, &board->lock);
    signal_wakes_one(segment, &board->fair);
    finish(segment);
}

/* Without the mutex held, where who waits is known to wait. */
static void test_condition_signal_without_the_mutex(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
    pthread_t thread = unit_thread(wait_for_item, &actor);
    UNTIL(waiting_for(segment, &actor.board->changed) == 1, 5000);
    EXPECT(0, cove_mutex_lock(segment, actor.mutex, COVE_FOREVER)); /* given back while he waits */
    actor.board->items = 1;
    EXPECT(0, cove_mutex_unlock(segment, actor.mutex));
    EXPECT(0, cove_condition_signal(segment, &actor.board->changed));
    unit_thread_join(thread);
    finish(segment);
}

#define ITEMS 1500u

static void consume(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    for (;;) {
        EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
        while (board->items == 0 && !board->done)
            (void)EXPECT_GOOD(cove_condition_wait(segment, &board->changed, &board->lock, COVE_FOREVER));
        bool end = board->items == 0;
        if (!end) {
            board->items--;
            board->taken++;
            EXPECT(0, cove_condition_signal(segment, &board->also));
        }
        EXPECT(0, cove_mutex_unlock(segment, &board->lock));
        if (end)
            break;
    }
    unit_close(segment);
}

/* A place for three items, two who take them, and no slices: one wake-up lost, and it stands still. */
static void test_condition_no_wakeup_is_lost(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    pid_t pids[2] = {testing_spawn(consume, segment), testing_spawn(consume, segment)};
    for (unsigned i = 0; i < ITEMS; i++) {
        EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
        while (board->items == 3)
            (void)EXPECT_GOOD(cove_condition_wait(segment, &board->also, &board->lock, COVE_FOREVER));
        board->items++;
        EXPECT(0, cove_mutex_unlock(segment, &board->lock));
        EXPECT(0, cove_condition_signal(segment, &board->changed));
    }
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
    board->done = 1;
    EXPECT(0, cove_condition_broadcast(segment, &board->changed));
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    testing_join(pids[0]);
    testing_join(pids[1]);
    assert_int_equal(board->taken, ITEMS);
    finish(segment);
}

static void race_wait(struct waiting_race *race, uint64_t round)
{
    struct board *board = open_board(race->segment);
    (void)round;
    EXPECT(0, cove_mutex_lock(race->segment, &board->lock, COVE_FOREVER));
    while (board->items == 0)
        EXPECT(0, cove_condition_wait(race->segment, &board->changed, &board->lock, COVE_FOREVER));
    board->items--;
    EXPECT(0, cove_mutex_unlock(race->segment, &board->lock));
}

static void race_signal(struct waiting_race *race, uint64_t round)
{
    struct board *board = open_board(race->segment);
    for (uint64_t i = 0; i < round % 3; i++) /* for nothing */
        EXPECT(0, cove_condition_signal(race->segment, &board->changed));
    EXPECT(0, cove_mutex_lock(race->segment, &board->lock, COVE_FOREVER));
    board->items++;
    EXPECT(0, cove_mutex_unlock(race->segment, &board->lock));
    EXPECT(0, (round % 5 ? cove_condition_signal : cove_condition_broadcast)(race->segment, &board->changed));
}

static void test_condition_signalled_while_somebody_begins_to_wait(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct waiting_race race = {race_wait, race_signal, segment, &open_board(segment)->changed, 0, 0};
    waiting_race(&race);
    finish(segment);
}

/* ---- a signal that wakes nobody, held up between its steps */

static struct actor *held_up_by;
static _Atomic int waker_steps;
static pthread_t sleeper;

static bool thread_sleeps(int32_t thread)
{
    char path[64], line[256] = "";
    (void)snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    bool got = fgets(line, sizeof line, file) != NULL;
    (void)fclose(file);
    const char *state = strrchr(line, ')'); /* behind the command's name */
    return got && state && state[2] == 'S';
}

static _Atomic int32_t sleeper_thread;

static void *wait_as_sleeper(void *argument)
{
    atomic_store(&sleeper_thread, covei_os->thread_id());
    return wait_for_item(argument);
}

/* Nobody was there to be woken; and now there is. */
static int wake_and_let_somebody_sleep(void *word, int32_t count)
{
    int woken = covei_os_native.wake(word, count);
    if (count == 1 && atomic_fetch_add(&waker_steps, 1) == 0) {
        assert_int_equal(woken, 0);
        sleeper = unit_thread(wait_as_sleeper, held_up_by);
        UNTIL(waiting_for(held_up_by->segment, &held_up_by->board->changed) == 1 &&
                  thread_sleeps(atomic_load(&sleeper_thread)),
              5000);
    }
    return woken;
}

static void test_condition_who_sleeps_within_a_signal_is_woken_by_the_next(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
    struct covei_os os = *covei_os;
    /* WAITERS stays after who waited was woken. */
    pthread_t first = unit_thread(wait_for_item, &actor);
    UNTIL(waiting_for(segment, &actor.board->changed) == 1, 5000);
    add_item(&actor, false);
    unit_thread_join(first);
    held_up_by = &actor;
    os.wake = wake_and_let_somebody_sleep;
    covei_os = &os;
    EXPECT(0, cove_condition_signal(segment, &actor.board->changed)); /* for nothing */
    assert_int_equal(atomic_load(&waker_steps), 1);
    add_item(&actor, false);
    unit_thread_join(sleeper);
    assert_int_equal(actor.board->taken, 2);
    covei_os = &covei_os_native;
    finish(segment);
}

static void *wait_to_be_interrupted(void *argument)
{
    struct actor *actor = argument;
    EXPECT(0, cove_mutex_lock(actor->segment, actor->mutex, COVE_FOREVER));
    EXPECT_SAYS(-EINTR, cove_condition_wait(actor->segment, &actor->board->changed, actor->mutex, COVE_FOREVER),
                "cove_interrupt");
    give_back(actor->segment, actor->mutex);
    return NULL;
}

static _Atomic int signals;

static void note_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

/* The mutex is taken again however long that takes, also by who was interrupted. */
static void test_condition_interrupted_holds_the_mutex(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = note_signal}; /* without SA_RESTART */
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    cove_segment *segment = unit_open("t");
    struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
    pthread_t thread = unit_thread(wait_to_be_interrupted, &actor);
    UNTIL(waiting_for(segment, &actor.board->changed) == 1, 5000);
    for (int i = 1; i <= 20; i++) { /* a handler that runs ends no wait */
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        UNTIL(atomic_load(&signals) >= i, 5000);
    }
    EXPECT(0, cove_mutex_lock(segment, actor.mutex, COVE_FOREVER));
    EXPECT(0, cove_interrupt());
    UNTIL(waiting_for(segment, actor.mutex) == 1, 5000);
    EXPECT(0, cove_interrupt()); /* that wait is not to be ended */
    EXPECT(0, cove_mutex_unlock(segment, actor.mutex));
    unit_thread_join(thread);
    assert_true(actor.mutex->waits > 0);
    finish(segment);
}

/* ---- transactions */

static void *change_number(void *argument)
{
    struct actor *actor = argument;
    struct board *board = actor->board;
    UNTIL(waiting_for(actor->segment, &board->changed) == 1, 5000);
    EXPECT(0, cove_mutex_lock(actor->segment, &board->lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(actor->segment, &board->other, COVE_FOREVER)); /* the waiter's other lock is free */
    assert_int_equal(board->number, 7); /* what it did is final */
    board->items = 1;
    EXPECT(0, cove_condition_signal(actor->segment, &board->changed));
    EXPECT(0, cove_mutex_unlock(actor->segment, &board->other));
    EXPECT(0, cove_mutex_unlock(actor->segment, &board->lock));
    return NULL;
}

static void wait_inside(cove_segment *segment, bool before, int depth)
{
    struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
    struct board *board = actor.board;
    pthread_t thread = unit_thread(change_number, &actor);
    board->items = board->number = 0;
    if (before)
        EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
    for (int i = 0; i < depth; i++)
        EXPECT(0, cove_begin(segment));
    if (!before)
        EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(segment, &board->other, COVE_FOREVER));
    EXPECT(0, cove_save(segment, &board->number, sizeof board->number));
    board->number = 7;
    int result = 0;
    while (board->items == 0)
        result = cove_condition_wait(segment, &board->changed, &board->lock, COVE_FOREVER);
    EXPECT_WAS(depth > 0 ? COVE_COMMITTED : 0, result);
    EXPECT(-EPERM, cove_mutex_unlock(segment, &board->other));
    EXPECT(0, cove_save(segment, &board->number, sizeof board->number));
    board->number = 8;
    for (int i = 1; i < depth; i++)
        EXPECT(0, cove_commit(segment)); /* as deep as before */
    EXPECT(0, cove_abort(segment));
    EXPECT(-EINVAL, cove_commit(segment));
    assert_int_equal(board->number, 7); /* undone as far as the wait */
    if (before)
        give_back(segment, &board->lock); /* the end of the transaction leaves it as it would have */
    else
        EXPECT(-EPERM, cove_mutex_unlock(segment, &board->lock));
    unit_thread_join(thread);
}

static void test_condition_inside_a_transaction_commits_first(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    for (int before = 0; before < 2; before++)
        for (int depth = 1; depth < 4; depth++)
            wait_inside(segment, before != 0, depth);
    finish(segment);
}

static void test_condition_inside_a_transaction_in_vain(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_save(segment, &board->number, sizeof board->number));
    board->number = 1;
    EXPECT(-EINVAL, cove_condition_wait(segment, &board->changed, &board->lock, COVE_NOWAIT)); /* nothing is done */
    EXPECT(-EPERM, cove_condition_wait(segment, &board->changed, &board->other, UNIT_MS));
    EXPECT(0, cove_mutex_unlock(segment, &board->lock)); /* marked: held until the end, but not the user's any more */
    EXPECT(-EPERM, cove_condition_wait(segment, &board->changed, &board->lock, UNIT_MS));
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_abort(segment));
    assert_int_equal(board->number, 0); /* still undone: no wait has committed it */
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_NOWAIT));
    EXPECT(0, cove_save(segment, &board->number, sizeof board->number));
    board->number = 2;
    EXPECT(-ETIMEDOUT, cove_condition_wait(segment, &board->changed, &board->lock, 5 * UNIT_MS));
    EXPECT(0, cove_abort(segment)); /* begun anew */
    assert_int_equal(board->number, 2); /* and committed before */
    finish(segment);
}

/* Others see what a transaction changed after its commit, and look then. */
static void test_condition_signalled_inside_a_transaction(void **state)
{
    (void)state;
    waiting_without_slices();
    cove_segment *segment = unit_open("t");
    struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
    struct board *board = actor.board;
    pthread_t thread = unit_thread(wait_for_item, &actor);
    UNTIL(waiting_for(segment, &board->changed) == 1, 5000);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
    EXPECT(0, cove_save(segment, &board->items, sizeof board->items));
    board->items = 1;
    EXPECT(0, cove_condition_signal(segment, &board->changed));
    EXPECT(0, cove_mutex_unlock(segment, &board->lock)); /* marked */
    UNTIL(waiting_for(segment, &board->lock) == 1, 5000);
    assert_int_equal(board->taken, 0);
    EXPECT(0, cove_commit(segment));
    unit_thread_join(thread);
    assert_int_equal(board->taken, 1);
    finish(segment);
}

/* ---- deaths */

static void wait_until_killed(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
    for (;;)
        (void)cove_condition_wait(segment, &board->changed, &board->lock, COVE_FOREVER);
}

static void test_condition_killed_waiters_harm_nobody(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct actor me = {segment, open_board(segment), &open_board(segment)->lock, 0};
    for (int round = 0; round < 6; round++) {
        struct actor actor = me;
        pid_t victim = testing_spawn(wait_until_killed, NULL); /* first in the queue of sleepers */
        UNTIL(waiting_for(segment, &me.board->changed) == 1, 5000);
        pthread_t thread = unit_thread(wait_for_item, &actor);
        UNTIL(waiting_for(segment, &me.board->changed) == 2, 5000);
        if (round % 2)
            testing_kill(victim);
        (void)EXPECT_GOOD(cove_mutex_lock(segment, me.mutex, COVE_FOREVER));
        me.board->items++;
        EXPECT(0, cove_condition_signal(segment, &me.board->changed)); /* round 0, 2, 4: the victim is woken */
        EXPECT(0, cove_mutex_unlock(segment, me.mutex));
        if (round % 2 == 0)
            testing_kill(victim);
        unit_thread_join(thread);
        (void)EXPECT_GOOD(cove_recover(segment));
        assert_int_equal(waiting_for(segment, &me.board->changed), 0);
        unit_sound(segment);
    }
    finish(segment);
}

static void hold_until_killed(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
    EXPECT(0, cove_save(segment, &board->number, sizeof board->number));
    board->number = 99;
    EXPECT(0, cove_condition_signal(segment, &board->changed));
    testing_reach(2);
    unit_wait_for_death();
}

static void *wait_once(void *argument)
{
    struct actor *actor = argument;
    EXPECT(0, cove_mutex_lock(actor->segment, actor->mutex, COVE_FOREVER));
    actor->result = cove_condition_wait(actor->segment, &actor->board->changed, actor->mutex, COVE_FOREVER);
    assert_int_equal(actor->board->number, 0);
    give_back(actor->segment, actor->mutex);
    return NULL;
}

static void *wait_once_in_a_transaction(void *argument)
{
    struct actor *actor = argument;
    EXPECT(0, cove_begin(actor->segment));
    (void)wait_once(actor);
    EXPECT(0, cove_commit(actor->segment));
    return NULL;
}

static void test_condition_holder_that_died_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    for (int inside = 0; inside < 2; inside++) {
        struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
        pthread_t thread = unit_thread(inside ? wait_once_in_a_transaction : wait_once, &actor);
        UNTIL(waiting_for(segment, &actor.board->changed) == 1, 5000);
        pid_t victim = testing_spawn(hold_until_killed, segment);
        testing_await_count(2, (unsigned)inside + 1);
        UNTIL(waiting_for(segment, actor.mutex) == 1, 5000);
        testing_kill(victim);
        unit_thread_join(thread);
        assert_int_equal(actor.result, COVE_RECOVERED);
    }
    finish(segment);
}

static void signal_and_wake_nobody(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    EXPECT(0, cove_mutex_lock(segment, &board->lock, COVE_FOREVER));
    board->items = 1;
    EXPECT(0, cove_mutex_unlock(segment, &board->lock));
    waiting_without_wakes();
    EXPECT(0, cove_condition_broadcast(segment, &board->changed));
    testing_reach(1);
    unit_wait_for_death();
}

static void test_condition_signaller_killed_before_the_wake_is_noticed(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
    pthread_t thread = unit_thread(wait_for_item, &actor);
    UNTIL(waiting_for(segment, &actor.board->changed) == 1, 5000);
    pid_t pid = testing_spawn(signal_and_wake_nobody, segment);
    testing_await(1);
    testing_kill(pid);
    unit_thread_join(thread);
    finish(segment);
}

static void *wait_with_another_lock(void *argument)
{
    struct actor *actor = argument;
    EXPECT(0, cove_mutex_lock(actor->segment, &actor->board->other, COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(actor->segment, actor->mutex, COVE_FOREVER));
    actor->result = cove_condition_wait(actor->segment, &actor->board->changed, actor->mutex, COVE_FOREVER);
    if (actor->result == -EDEADLK) {
        EXPECT_WAS(-EDEADLK, actor->result); /* with a sentence */
        assert_non_null(strstr(cove_last_error(), "mutex is not held any more"));
        EXPECT(-EPERM, cove_mutex_unlock(actor->segment, actor->mutex));
    } else
        EXPECT(0, cove_mutex_unlock(actor->segment, actor->mutex));
    EXPECT(0, cove_mutex_unlock(actor->segment, &actor->board->other));
    return NULL;
}

/* Who waits holds another lock, which who signals waits for, with the mutex held. */
static void test_condition_deadlock_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct actor actor = {segment, open_board(segment), &open_board(segment)->lock, 0};
    pthread_t thread = unit_thread(wait_with_another_lock, &actor);
    UNTIL(waiting_for(segment, &actor.board->changed) == 1, 5000);
    EXPECT(0, cove_mutex_lock(segment, actor.mutex, COVE_FOREVER));
    EXPECT(0, cove_condition_signal(segment, &actor.board->changed));
    int mine = cove_mutex_lock(segment, &actor.board->other, COVE_FOREVER);
    if (mine == 0)
        EXPECT(0, cove_mutex_unlock(segment, &actor.board->other));
    else
        EXPECT_WAS(-EDEADLK, mine);
    EXPECT(0, cove_mutex_unlock(segment, actor.mutex));
    unit_thread_join(thread);
    assert_int_not_equal(mine == -EDEADLK, actor.result == -EDEADLK); /* one of the two */
    finish(segment);
}

static const struct testing_case tests[] = {
    TEST(test_condition_wrong_use_is_refused),
    TEST(test_condition_in_a_segment_that_is_only_read),
    TEST(test_condition_in_a_forked_child),
    TEST(test_condition_timeouts_are_kept),
    TEST(test_condition_signal_wakes_one_broadcast_all),
    TEST(test_condition_signal_without_the_mutex),
    TEST_TIMEOUT(test_condition_no_wakeup_is_lost, 20),
    TEST_TIMEOUT(test_condition_signalled_while_somebody_begins_to_wait, 20),
    TEST(test_condition_who_sleeps_within_a_signal_is_woken_by_the_next),
    TEST(test_condition_interrupted_holds_the_mutex),
    TEST(test_condition_inside_a_transaction_commits_first),
    TEST(test_condition_inside_a_transaction_in_vain),
    TEST(test_condition_signalled_inside_a_transaction),
    TEST_TIMEOUT(test_condition_killed_waiters_harm_nobody, 20),
    TEST(test_condition_holder_that_died_is_told),
    TEST(test_condition_signaller_killed_before_the_wake_is_noticed),
    TEST(test_condition_deadlock_is_told),
};

int main(void)
{
    return testing_run("condition", tests);
}
