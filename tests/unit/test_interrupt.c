/* test_interrupt.c - cove_interrupt: it ends each kind of wait, of all threads, and leaves nothing of them behind.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads timeout=120 */
#include "actors.h"

#include "heap/heap.h"

#include <cove/barrier.h>
#include <cove/condition.h>
#include <cove/counter.h>
#include <cove/event.h>
#include <cove/once.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>
#include <sys/resource.h>

struct board {
    cove_mutex mutex, fair, own[4];
    cove_rwlock written, read;
    cove_semaphore semaphore;
    cove_barrier barrier;
    cove_event event;
    cove_condition condition;
    cove_counter counter;
    cove_once once;
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
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

/* ---- each kind of wait */

/* What is cleared up after a wait leaves its sentence. */
#define KEEPING_THE_SENTENCE(call)                                            \
    do {                                                                      \
        char sentence_[256];                                                  \
        (void)snprintf(sentence_, sizeof sentence_, "%s", cove_last_error()); \
        EXPECT(0, call);                                                      \
        (void)covei_error(0, "%s", sentence_);                                \
    } while (0)

static int64_t wait_mutex(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_mutex_lock(own, &mine->mutex, timeout_ns);
}

static int64_t wait_fair(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_mutex_lock(own, &mine->fair, timeout_ns);
}

static int64_t wait_to_read(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_rwlock_lock_shared(own, &mine->written, timeout_ns);
}

static int64_t wait_to_write(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_rwlock_lock(own, &mine->written, timeout_ns);
}

static int64_t wait_for_readers(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_rwlock_lock(own, &mine->read, timeout_ns);
}

static int64_t wait_permit(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_semaphore_wait(own, &mine->semaphore, timeout_ns);
}

static int64_t wait_to_own(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_semaphore_acquire(own, &mine->semaphore, timeout_ns);
}

static int64_t wait_barrier(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_barrier_wait(own, &mine->barrier, 3, timeout_ns);
}

static int64_t wait_event(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_event_wait(own, &mine->event, timeout_ns);
}

static int64_t wait_version(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_event_wait_beyond(own, &mine->event, 1000, NULL, timeout_ns);
}

static int64_t wait_counter(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_counter_wait(own, &mine->counter, 1000, NULL, timeout_ns);
}

static int64_t wait_change(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_counter_wait_change(own, &mine->counter, 0, NULL, timeout_ns);
}

static int64_t wait_condition(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    EXPECT(0, cove_mutex_lock(own, &mine->own[0], COVE_FOREVER));
    int result = cove_condition_wait(own, &mine->condition, &mine->own[0], timeout_ns);
    KEEPING_THE_SENTENCE(cove_mutex_unlock(own, &mine->own[0])); /* it is held again */
    return result;
}

static int initialise(void *context)
{
    (void)context;
    return 0;
}

static int64_t wait_once(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    return cove_once_call(own, &mine->once, initialise, NULL, timeout_ns);
}

static int64_t wait_to_be_written(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    (void)mine;
    cove_stream *stream = NULL;
    char bytes[8];
    (void)EXPECT_GOOD(cove_stream_open_in(&stream, own, "empty", COVE_READER, NULL));
    int64_t result = cove_stream_read(stream, bytes, sizeof bytes, timeout_ns);
    KEEPING_THE_SENTENCE(cove_stream_close(stream));
    return result;
}

static int64_t wait_for_room(cove_segment *own, struct board *mine, int64_t timeout_ns)
{
    (void)mine;
    cove_stream *stream = NULL;
    char bytes[512] = {0};
    (void)EXPECT_GOOD(
        cove_stream_open_in(&stream, own, "full", COVE_WRITER, &(struct cove_stream_options){.capacity_bytes = 4096}));
    int64_t result = 0;
    while (result >= 0)
        result = cove_stream_write(stream, bytes, sizeof bytes, timeout_ns);
    KEEPING_THE_SENTENCE(cove_stream_close(stream));
    return result;
}

static int64_t (*const waits[])(cove_segment *own, struct board *mine, int64_t timeout_ns) = {
    wait_mutex,     wait_fair,    wait_to_read, wait_to_write,      wait_for_readers, wait_permit,
    wait_to_own,    wait_barrier, wait_event,   wait_version,       wait_counter,     wait_change,
    wait_condition, wait_once,    wait_barrier, wait_to_be_written, wait_for_room};
#define WAITS (sizeof waits / sizeof *waits)

/* Somebody who stands in the way of all of them. */
enum { STANDS = 0, MAY_GO = 1, STARTED = 2 };

static int stay(void *context)
{
    (void)context;
    testing_reach(STANDS);
    testing_await(MAY_GO);
    return 0;
}

static void stand_in_the_way(cove_segment *own, void *argument)
{
    (void)argument;
    struct board *mine = board_of(own);
    EXPECT(0, cove_mutex_lock(own, &mine->mutex, COVE_NOWAIT));
    EXPECT(0, cove_mutex_lock(own, &mine->fair, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_lock(own, &mine->written, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_lock_shared(own, &mine->read, COVE_NOWAIT));
    EXPECT(COVE_CREATED, cove_once_call(own, &mine->once, stay, NULL, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(own, &mine->mutex));
    EXPECT(0, cove_mutex_unlock(own, &mine->fair));
    EXPECT(0, cove_rwlock_unlock(own, &mine->written));
    EXPECT(0, cove_rwlock_unlock(own, &mine->read));
}

struct waiter {
    unsigned which;
    int64_t timeout_ns;
    int64_t result, at_ns;
    char sentence[256];
    bool left_something;
};

static void wait_in_some_way(cove_segment *own, void *argument)
{
    struct waiter *waiter = argument;
    struct board *mine = board_of(own);
    testing_reach(STARTED);
    waiter->result = waits[waiter->which](own, mine, waiter->timeout_ns);
    waiter->at_ns = unit_now();
    (void)snprintf(waiter->sentence, sizeof waiter->sentence, "%s", cove_last_error());
    const struct covei_lane_shm *shm = covei_thread.shm;
    (void)cove_barrier_leave(own, &mine->barrier); /* who did not come is a party still */
    waiter->left_something = covei_lane_holds(shm) || atomic_load(&shm->waits_for) != 0 ||
                             atomic_load(&shm->marks) != 0 || atomic_load(&shm->tails) != 0;
}

static void start_all(struct actor *actors, struct waiter *waiters, int64_t timeout_ns)
{
    for (unsigned i = 0; i < WAITS; i++) {
        waiters[i] = (struct waiter){.which = i, .timeout_ns = timeout_ns};
        actors[i] = actor_start(false, segment, wait_in_some_way, &waiters[i]);
    }
}

static void expect_all(struct waiter *waiters, int64_t expected, const char *part)
{
    for (unsigned i = 0; i < WAITS; i++) {
        if (waiters[i].result != expected || !strstr(waiters[i].sentence, part) || waiters[i].left_something)
            print_error("wait %u: %d (%s)%s\n", i, (int)waiters[i].result, waiters[i].sentence,
                        waiters[i].left_something ? ", and left something" : "");
        assert_int_equal(waiters[i].result, expected);
        assert_non_null(strstr(waiters[i].sentence, part));
        assert_false(waiters[i].left_something);
    }
}

/* Long enough for their slices to be long. */
static void test_interrupt_ends_each_kind_of_wait(void **state)
{
    (void)state;
    begin();
    struct actor actors[WAITS], other = actor_start(true, segment, stand_in_the_way, NULL);
    struct waiter waiters[WAITS];
    int64_t longest = 0;
    testing_await(STANDS);
    for (unsigned round = 0; round < 3; round++) {
        start_all(actors, waiters, COVE_FOREVER);
        for (unsigned i = 0; i < WAITS; i++)
            UNTIL(atomic_load(&actors[i].part->thread_id) != 0 && actor_sleeps(&actors[i]), 20000);
        UNTIL(testing_reached(STARTED) == WAITS * (round + 1), 20000);
        actors_pass(round ? 1500 * UNIT_MS : 100 * UNIT_MS);
        int64_t begun = unit_now();
        assert_int_equal(cove_interrupt(), 0);
        for (unsigned i = 0; i < WAITS; i++)
            actor_join(&actors[i]);
        for (unsigned i = 0; i < WAITS; i++)
            longest = waiters[i].at_ns - begun > longest ? waiters[i].at_ns - begun : longest;
        expect_all(waiters, -EINTR, "cove_interrupt");
    }
    print_message("all had ended after %.1f ms\n", (double)longest / 1e6);
    assert_true(longest < actors_soon());
    EXPECT(0, cove_semaphore_value(segment, &board->semaphore));
    testing_reach(MAY_GO);
    actor_join(&other);
    EXPECT(0, cove_mutex_lock(segment, &board->mutex, COVE_NOWAIT)); /* nothing is in the way of anybody */
    EXPECT(0, cove_mutex_unlock(segment, &board->mutex));
    EXPECT(0, cove_mutex_lock(segment, &board->fair, COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &board->fair));
    EXPECT(0, cove_rwlock_lock(segment, &board->written, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->written));
    EXPECT(0, cove_rwlock_lock(segment, &board->read, COVE_NOWAIT));
    EXPECT(0, cove_rwlock_unlock(segment, &board->read));
    EXPECT(-EBUSY, cove_barrier_wait(segment, &board->barrier, 3, COVE_NOWAIT));
    assert_non_null(strstr(cove_last_error(), "0 of 3"));
    end();
}

static void test_interrupt_is_nothing_to_later_waits(void **state)
{
    (void)state;
    begin();
    struct actor actors[WAITS], other = actor_start(true, segment, stand_in_the_way, NULL);
    struct waiter waiters[WAITS];
    testing_await(STANDS);
    for (int i = 0; i < 5; i++)
        assert_int_equal(cove_interrupt(), 0);
    start_all(actors, waiters, 60 * UNIT_MS);
    for (unsigned i = 0; i < WAITS; i++)
        actor_join(&actors[i]);
    expect_all(waiters, -ETIMEDOUT, "");
    testing_reach(MAY_GO);
    actor_join(&other);
    end();
}

/* ---- whose waits */

static void wait_elsewhere(cove_segment *own, void *argument)
{
    struct waiter *waiter = argument;
    waiter->result = cove_mutex_lock(own, &board_of(own)->mutex, COVE_FOREVER);
    if (waiter->result >= 0)
        EXPECT(0, cove_mutex_unlock(own, &board_of(own)->mutex));
}

static void test_interrupt_is_nothing_to_other_processes(void **state)
{
    (void)state;
    begin();
    EXPECT(0, cove_mutex_lock(segment, &board->mutex, COVE_NOWAIT));
    struct waiter *there = testing_shared(sizeof *there), here = {0};
    there->result = 1000;
    struct actor other = actor_start(true, segment, wait_elsewhere, there);
    struct actor thread = actor_start(false, segment, wait_elsewhere, &here);
    UNTIL_WAITING(segment, &board->mutex, 2);
    UNTIL(actor_sleeps(&other) && actor_sleeps(&thread), 5000);
    assert_int_equal(cove_interrupt(), 0);
    actor_join(&thread);
    assert_int_equal(here.result, -EINTR);
    UNTIL_WAITING(segment, &board->mutex, 1);
    UNTIL(actor_sleeps(&other), 5000);
    assert_int_equal(there->result, 1000);
    EXPECT(0, cove_mutex_unlock(segment, &board->mutex));
    actor_join(&other);
    assert_int_equal(there->result, 0);
    end();
}

/* ---- from a handler */

static _Atomic int handled;

static void interrupt_from_handler(int number)
{
    (void)number;
    int before = errno;
    errno = 4321;
    if (cove_interrupt() == 0 && errno == 4321)
        atomic_fetch_add(&handled, 1);
    errno = before;
}

static void test_interrupt_from_the_waiting_threads_own_handler(void **state)
{
    (void)state;
    begin();
    struct actor other = actor_start(true, segment, stand_in_the_way, NULL);
    testing_await(STANDS);
    struct sigaction action = {.sa_handler = interrupt_from_handler, .sa_flags = SA_RESTART};
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    for (unsigned i = 0; i < WAITS; i++) {
        struct waiter waiter = {.which = i, .timeout_ns = COVE_FOREVER};
        struct actor actor = actor_start(false, segment, wait_in_some_way, &waiter);
        UNTIL(testing_reached(STARTED) == i + 1 && actor_sleeps(&actor), 20000);
        UNTIL(atomic_load(&handled) == (int)i, 5000);
        while (atomic_load(&handled) == (int)i) { /* it may sleep before its wait */
            assert_int_equal(pthread_kill(actor.thread, SIGALRM), 0);
            UNTIL(atomic_load(&handled) > (int)i, 5000);
        }
        for (int64_t until = unit_now() + unit_patience(); unit_now() < until && waiter.at_ns == 0;) {
            (void)cove_interrupt(); /* where it came too early */
            sched_yield();
        }
        actor_join(&actor);
        if (waiter.result != -EINTR)
            print_error("wait %u: %d\n", i, (int)waiter.result);
        assert_int_equal(waiter.result, -EINTR);
    }
    testing_reach(MAY_GO);
    actor_join(&other);
    end();
}

/* A handler that does nothing to it ends no wait, of any kind. */
static void note_signal(int number)
{
    (void)number;
    atomic_fetch_add(&handled, 1);
}

static void test_interrupt_is_not_what_other_signals_are(void **state)
{
    (void)state;
    begin();
    struct sigaction action = {.sa_handler = note_signal}; /* without SA_RESTART */
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    struct actor actors[WAITS], other = actor_start(true, segment, stand_in_the_way, NULL);
    struct waiter waiters[WAITS];
    testing_await(STANDS);
    start_all(actors, waiters, COVE_FOREVER);
    testing_await_count(STARTED, WAITS);
    for (int round = 1; round <= 10; round++) {
        for (unsigned i = 0; i < WAITS; i++) {
            UNTIL(actor_sleeps(&actors[i]), 20000);
            assert_int_equal(pthread_kill(actors[i].thread, SIGUSR1), 0);
        }
        UNTIL(atomic_load(&handled) == round * (int)WAITS, 20000);
    }
    for (unsigned i = 0; i < WAITS; i++) {
        UNTIL(actor_sleeps(&actors[i]), 20000);
        assert_int_equal(waiters[i].at_ns, 0);
    }
    assert_int_equal(cove_interrupt(), 0);
    for (unsigned i = 0; i < WAITS; i++)
        actor_join(&actors[i]);
    expect_all(waiters, -EINTR, "cove_interrupt");
    testing_reach(MAY_GO);
    actor_join(&other);
    end();
}

/* The usual way: Ctrl-C while the only thread waits. */
static void test_interrupt_by_a_timers_signal(void **state)
{
    (void)state;
    begin();
    struct actor other = actor_start(true, segment, stand_in_the_way, NULL);
    testing_await(STANDS);
    struct sigaction action = {.sa_handler = interrupt_from_handler};
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    for (unsigned i = 0; i < 20; i++) {
        timer_t timer;
        assert_int_equal(timer_create(CLOCK_MONOTONIC, NULL, &timer), 0);
        assert_int_equal(timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 2000000 * (long)(i + 1)}}, NULL), 0);
        int64_t begun = unit_now();
        EXPECT(-EINTR, cove_mutex_lock(segment, &board->mutex, COVE_FOREVER));
        assert_true(unit_now() - begun < actors_soon() + 42 * UNIT_MS);
        assert_int_equal(timer_delete(timer), 0);
    }
    testing_reach(MAY_GO);
    actor_join(&other);
    end();
}

/* ---- what it does not end */

static void hold_the_heap(cove_segment *own, void *argument)
{
    (void)argument;
    struct covei_lane *lane = NULL;
    EXPECT(0, covei_lane_get(&lane, own));
    EXPECT(0, covei_lock_take(lane, &covei_heap(own)->lock, COVE_FOREVER));
    testing_reach(STANDS);
    testing_await(MAY_GO);
    covei_lock_drop(lane, &covei_heap(own)->lock);
}

struct allocation {
    cove_ref block;
    int64_t cpu_ns;
};

static void allocate(cove_segment *own, void *argument)
{
    struct allocation *allocation = argument;
    EXPECT(0, cove_begin(own));
    EXPECT(0, cove_commit(own));
    int64_t before = actors_cpu_ns();
    testing_reach(STARTED);
    allocation->block = cove_alloc(own, 100);
    allocation->cpu_ns = actors_cpu_ns() - before;
}

/* What a call waits for inside is waited for still, asleep. */
static void test_interrupt_leaves_waits_of_the_librarys_own_asleep(void **state)
{
    (void)state;
    begin();
    struct actor other = actor_start(true, segment, hold_the_heap, NULL);
    testing_await(STANDS);
    struct allocation allocation = {0};
    struct actor actor = actor_start(false, segment, allocate, &allocation);
    testing_await(STARTED);
    UNTIL(actors_waiting(segment, covei_heap(segment)) + actors_waiting(segment, &covei_heap(segment)->lock) > 0,
          20000);
    UNTIL(actor_sleeps(&actor), 5000);
    for (int i = 0; i < 3; i++)
        assert_int_equal(cove_interrupt(), 0);
    actors_pass(700 * UNIT_MS);
    testing_reach(MAY_GO);
    actor_join(&actor);
    actor_join(&other);
    print_message("%.2f ms on a processor in 700\n", (double)allocation.cpu_ns / 1e6);
    assert_true(allocation.block != 0);
    assert_true(allocation.cpu_ns < 100 * UNIT_MS);
    EXPECT(0, cove_free(segment, allocation.block));
    end();
}

/* ---- one call, several waits */

static _Thread_local int interrupt_in;

static int park_any_then_interrupt(const struct covei_park *parks, uint32_t count, int64_t timeout_ns)
{
    int result = covei_os_native.park_any(parks, count, timeout_ns);
    if (interrupt_in > 0 && --interrupt_in == 0)
        (void)cove_interrupt(); /* it has been woken, and does not look at once */
    return result;
}

static void read_slowly(cove_segment *own, void *argument)
{
    (void)argument;
    cove_stream *stream = NULL;
    static char bytes[4096];
    (void)EXPECT_GOOD(cove_stream_open_in(&stream, own, "long", COVE_READER, NULL));
    int64_t got = 1;
    while (got > 0) {
        got = cove_stream_read(stream, bytes, sizeof bytes, COVE_FOREVER);
        actors_pass(UNIT_MS / 2);
    }
    EXPECT(0, cove_stream_close(stream));
}

static void test_interrupt_ends_a_long_write_between_its_waits(void **state)
{
    (void)state;
    begin();
    cove_stream *stream = NULL;
    (void)EXPECT_GOOD(cove_stream_open_in(&stream, segment, "long", COVE_WRITER,
                                          &(struct cove_stream_options){.capacity_bytes = 4096}));
    struct actor reader = actor_start(true, segment, read_slowly, NULL);
    static struct covei_os calls;
    calls = covei_os_native;
    calls.park_any = park_any_then_interrupt;
    covei_os = &calls;
    static char bytes[512 * 1024];
    interrupt_in = 5;
    int64_t wrote = cove_stream_write(stream, bytes, sizeof bytes, COVE_FOREVER);
    covei_os = &covei_os_native;
    print_message("wrote %" PRId64 " bytes\n", wrote);
    assert_int_equal(interrupt_in, 0);
    assert_true(wrote > 0 && wrote < (int64_t)sizeof bytes / 2); /* how many went in, as where time runs out */
    EXPECT(0, cove_stream_close(stream));
    actor_join(&reader);
    end();
}

/* ---- at any moment */

struct crowd {
    uint64_t seed;
    _Atomic bool *ends;
    unsigned turns, interrupted;
};

static void lock_until_told(cove_segment *own, void *argument)
{
    struct crowd *crowd = argument;
    struct board *mine = board_of(own);
    while (!atomic_load(crowd->ends)) {
        uint64_t random = unit_random(&crowd->seed);
        int result = 0;
        switch (random % 5) {
        case 0:
            result = cove_mutex_lock(own, &mine->mutex, COVE_FOREVER);
            break;
        case 1:
            result = cove_mutex_lock(own, &mine->fair, COVE_FOREVER);
            break;
        case 2:
            result = cove_rwlock_lock(own, &mine->written, COVE_FOREVER);
            break;
        case 3:
            result = cove_rwlock_lock_shared(own, &mine->written, COVE_FOREVER);
            break;
        default:
            result = cove_semaphore_acquire(own, &mine->semaphore, COVE_FOREVER);
            break;
        }
        if (result == -EINTR) {
            crowd->interrupted++;
            assert_false(covei_lane_holds(covei_thread.shm));
            continue;
        }
        EXPECT_WAS(0, result);
        crowd->turns++;
        if (random >> 63)
            actors_pass((int64_t)(random >> 20) % (UNIT_MS / 4));
        switch (random % 5) {
        case 0:
            result = cove_mutex_unlock(own, &mine->mutex);
            break;
        case 1:
            result = cove_mutex_unlock(own, &mine->fair);
            break;
        case 4:
            result = cove_semaphore_release(own, &mine->semaphore);
            break;
        default:
            result = cove_rwlock_unlock(own, &mine->written);
            break;
        }
        EXPECT_WAS(0, result);
    }
}

/* Without slices: who was interrupted when it was just woken has passed that on. */
static void test_interrupt_at_any_moment_loses_no_wake(void **state)
{
    (void)state;
    actors_never_look();
    begin();
    EXPECT(0, cove_semaphore_post(segment, &board->semaphore, 2));
    unsigned phases = testing_scale() > 1 ? 10 : 30;
    uint64_t seed = 12;
    unsigned turns = 0, interrupted = 0;
    int64_t longest = 0;
    for (unsigned phase = 0; phase < phases; phase++) {
        _Atomic bool ends = false;
        struct actor actors[6];
        struct crowd crowds[6];
        for (unsigned i = 0; i < 6; i++) {
            crowds[i] = (struct crowd){.seed = unit_random(&seed), .ends = &ends};
            actors[i] = actor_start(false, segment, lock_until_told, &crowds[i]);
        }
        for (unsigned i = 0; i < 20; i++) {
            actors_pass((int64_t)(unit_random(&seed) % UNIT_MS));
            assert_int_equal(cove_interrupt(), 0);
        }
        atomic_store(&ends, true);
        int64_t begun = unit_now(); /* from here on no interrupt helps */
        for (unsigned i = 0; i < 6; i++) {
            actor_join(&actors[i]);
            turns += crowds[i].turns;
            interrupted += crowds[i].interrupted;
        }
        longest = unit_now() - begun > longest ? unit_now() - begun : longest;
    }
    print_message("%u turns, %u interrupted; the longest end took %.1f ms\n", turns, interrupted,
                  (double)longest / 1e6);
    assert_true(longest < ACTORS_SLICE_NS / 2);
    assert_true(interrupted > phases);
    covei_os = &covei_os_native;
    EXPECT(2, cove_semaphore_value(segment, &board->semaphore));
    end();
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_interrupt_ends_each_kind_of_wait, 30),
    TEST(test_interrupt_is_nothing_to_later_waits),
    TEST(test_interrupt_is_nothing_to_other_processes),
    TEST_TIMEOUT(test_interrupt_from_the_waiting_threads_own_handler, 30),
    TEST(test_interrupt_is_not_what_other_signals_are),
    TEST(test_interrupt_by_a_timers_signal),
    TEST(test_interrupt_leaves_waits_of_the_librarys_own_asleep),
    TEST(test_interrupt_ends_a_long_write_between_its_waits),
    TEST_TIMEOUT(test_interrupt_at_any_moment_loses_no_wake, 60),
};

int main(void)
{
    return testing_run("interrupt", tests);
}
