/* test_mutex.c - the mutex, call by call: results, limits, timeouts, holders, and what the death of its holder leaves.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: threads valgrind timeout=60 */
#include "unit.h"

#include "segment/segment.h"

#include <signal.h>

struct board {
    cove_mutex locks[40];
};

static struct board *open_board(cove_segment *segment)
{
    return unit_object(segment, "b", sizeof(struct board));
}

static void test_mutex_results(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    cove_mutex *mutex = &board->locks[0], outside = {0};
    struct cove_member_info member;
    EXPECT(0, cove_mutex_holder(segment, mutex, &member));
    EXPECT(-EPERM, cove_mutex_unlock(segment, mutex));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_FOREVER));
    EXPECT_SAYS(-EDEADLK, cove_mutex_lock(segment, mutex, COVE_FOREVER), "holds the lock already");
    EXPECT(-EDEADLK, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT(-EDEADLK, cove_mutex_lock(segment, mutex, UNIT_MS));
    EXPECT(1, cove_mutex_holder(segment, mutex, &member));
    assert_int_equal(member.pid, getpid());
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    EXPECT(-EPERM, cove_mutex_unlock(segment, mutex));
    EXPECT(0, cove_mutex_lock(segment, mutex, -5)); /* no time is no wait */
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    cove_mutex *const bad[] = {NULL,
                               &outside,
                               (cove_mutex *)(void *)segment->base,
                               (cove_mutex *)(void *)((char *)mutex + 4),
                               (cove_mutex *)(void *)((char *)mutex + 1),
                               (cove_mutex *)((uintptr_t)mutex ^ (UINTPTR_MAX / 2 + 1)),
                               (cove_mutex *)((uintptr_t)mutex & ~(uintptr_t)0xfffff)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT(-EINVAL, cove_mutex_lock(segment, bad[i], COVE_NOWAIT));
        EXPECT(-EINVAL, cove_mutex_unlock(segment, bad[i]));
        EXPECT(-EINVAL, cove_mutex_holder(segment, bad[i], &member));
    }
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_mutex_limit_of_32_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    for (int i = 0; i < 32; i++)
        EXPECT(0, cove_mutex_lock(segment, &board->locks[i], COVE_NOWAIT));
    EXPECT_SAYS(-ENOLCK, cove_mutex_lock(segment, &board->locks[32], COVE_NOWAIT), "32 locks");
    assert_int_equal(cove_alloc(segment, 100), 0); /* the library's own locks count too, and it says so */
    assert_int_equal(errno, ENOLCK);
    EXPECT(0, cove_mutex_unlock(segment, &board->locks[7])); /* in any order */
    EXPECT(0, cove_mutex_lock(segment, &board->locks[33], COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &board->locks[0]));
    EXPECT(0, cove_mutex_unlock(segment, &board->locks[33]));
    for (int i = 1; i < 32; i++)
        if (i != 7)
            EXPECT(0, cove_mutex_unlock(segment, &board->locks[i]));
    for (int i = 0; i < 40; i++)
        EXPECT(-EPERM, cove_mutex_unlock(segment, &board->locks[i]));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* Marks of two-phase release follow their locks when others are given back. */
static void test_mutex_marks_follow_their_locks(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    uint64_t seed = 99;
    for (int round = 0; round < 300; round++) {
        bool held[32] = {false}, marked[32] = {false}, saved = false;
        EXPECT(0, cove_begin(segment));
        for (int step = 0; step < 60; step++) {
            unsigned i = (unsigned)(unit_random(&seed) % 31);
            int result = unit_random(&seed) % 2 ? cove_mutex_lock(segment, &board->locks[i], COVE_NOWAIT)
                                                : 1000 + cove_mutex_unlock(segment, &board->locks[i]);
            if (result < 900) {
                EXPECT_WAS(held[i] && !marked[i] ? -EDEADLK : 0, result);
                held[i] = true;
                marked[i] = false;
            } else {
                EXPECT_WAS(held[i] && !marked[i] ? 1000 : 1000 - EPERM, result);
                if (held[i] && saved)
                    marked[i] = true;
                else
                    held[i] = false;
            }
            if (step == 30 && round % 3 != 0) {
                EXPECT(0, cove_save(segment, &board->locks[39], 8));
                saved = true;
            }
        }
        EXPECT(0, round % 2 ? cove_commit(segment) : cove_abort(segment));
        for (int i = 0; i < 31; i++) {
            struct cove_member_info member;
            EXPECT(0, cove_mutex_holder(segment, &board->locks[i], &member));
        }
    }
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* ---- two threads, two processes */

struct other {
    cove_segment *segment;
    cove_mutex *mutex;
};

static void *other_thread(void *argument)
{
    struct other *other = argument;
    EXPECT(-EPERM, cove_mutex_unlock(other->segment, other->mutex));
    char part[64];
    (void)snprintf(part, sizeof part, "(pid %d", (int)getpid());
    EXPECT_SAYS(-EBUSY, cove_mutex_lock(other->segment, other->mutex, COVE_NOWAIT), part);
    static const int64_t timeouts[] = {1, 2000, UNIT_MS, 20 * UNIT_MS};
    for (int i = 0; i < 4; i++) {
        int64_t begun = unit_now();
        EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(other->segment, other->mutex, timeouts[i]), part);
        int64_t took = unit_now() - begun;
        assert_true(took >= timeouts[i]);
        assert_true(took < timeouts[i] + unit_patience());
    }
    return NULL;
}

static void *wait_for_lock(void *argument)
{
    struct other *other = argument;
    testing_reach(0);
    EXPECT(0, cove_mutex_lock(other->segment, other->mutex, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(other->segment, other->mutex));
    return NULL;
}

static void test_mutex_belongs_to_its_thread(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct other other = {segment, &open_board(segment)->locks[3]};
    EXPECT(0, cove_mutex_lock(segment, other.mutex, COVE_NOWAIT));
    unit_in_thread(other_thread, &other);
    pthread_t thread = unit_thread(wait_for_lock, &other);
    testing_await(0);
    EXPECT(0, cove_mutex_unlock(segment, other.mutex));
    unit_thread_join(thread);
    unit_close(segment);
    unit_remove("t");
}

static void other_process(void *argument)
{
    unit_drop_inherited(argument);
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = &open_board(segment)->locks[3];
    EXPECT(-EPERM, cove_mutex_unlock(segment, mutex));
    char part[64];
    (void)snprintf(part, sizeof part, "(pid %d", (int)getppid());
    EXPECT_SAYS(-EBUSY, cove_mutex_lock(segment, mutex, COVE_NOWAIT), part);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(segment, mutex, 5 * UNIT_MS), part);
    testing_reach(0);
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_close(segment);
}

static void test_mutex_belongs_to_its_process(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_mutex *mutex = &open_board(segment)->locks[3];
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    pid_t pid = testing_spawn(other_process, segment);
    testing_await(0);
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    testing_join(pid);
    unit_close(segment);
    unit_remove("t");
}

/* ---- signals */

static _Atomic int signals;

static void note_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static void *wait_through_signals(void *argument)
{
    struct other *other = argument;
    testing_reach(0);
    EXPECT(0, cove_mutex_lock(other->segment, other->mutex, COVE_FOREVER)); /* no EINTR */
    EXPECT(0, cove_mutex_unlock(other->segment, other->mutex));
    return NULL;
}

static void test_mutex_wait_is_not_broken_by_signals(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = note_signal}; /* without SA_RESTART */
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    cove_segment *segment = unit_open("t");
    struct other other = {segment, &open_board(segment)->locks[0]};
    EXPECT(0, cove_mutex_lock(segment, other.mutex, COVE_NOWAIT));
    pthread_t thread = unit_thread(wait_through_signals, &other);
    testing_await(0);
    for (int i = 1; i <= 50; i++) {
        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        UNTIL(atomic_load(&signals) >= i, 5000);
    }
    EXPECT(0, cove_mutex_unlock(segment, other.mutex));
    unit_thread_join(thread);
    unit_close(segment);
    unit_remove("t");
}

/* ---- deaths */

static void hold_many(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    for (int i = 0; i < 32; i++)
        (void)EXPECT_GOOD(cove_mutex_lock(segment, &board->locks[i], COVE_FOREVER));
    testing_reach(0);
    unit_wait_for_death();
}

static void wait_for_one(void *argument)
{
    uintptr_t which = (uintptr_t)argument;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    testing_reach(1);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &board->locks[which], COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(segment, &board->locks[which]));
    unit_close(segment);
}

static void test_mutex_all_locks_of_the_dead_are_freed(void **state)
{
    (void)state;
    unit_close(unit_open("t"));
    for (unsigned round = 0; round < 5; round++) {
        pid_t holder = testing_spawn(hold_many, NULL);
        testing_await_count(0, round + 1);
        pid_t waiters[4];
        for (uintptr_t i = 0; i < 4; i++)
            waiters[i] = testing_spawn(wait_for_one, (void *)(i * 10));
        testing_await_count(1, 4 * (round + 1));
        testing_kill(holder);
        for (int i = 0; i < 4; i++)
            testing_join(waiters[i]);
        cove_segment *segment = unit_open("t");
        struct board *board = open_board(segment);
        for (int i = 0; i < 32; i++) {
            EXPECT(i % 10 ? COVE_RECOVERED : 0, cove_mutex_lock(segment, &board->locks[i], COVE_NOWAIT));
            EXPECT(0, cove_mutex_unlock(segment, &board->locks[i]));
        }
        (void)EXPECT_GOOD(cove_recover(segment));
        unit_sound(segment);
        unit_close(segment);
    }
    unit_remove("t");
}

/* A word that names nobody is an error, not a hang. */
static void test_mutex_scribbled_word_is_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct board *board = open_board(segment);
    static const uint64_t words[] = {0x3fffffff, 4000, 4096 + 5, UINT64_MAX, 0x80000123};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        board->locks[i].word = words[i];
        EXPECT(COVE_ECORRUPT, cove_mutex_lock(segment, &board->locks[i], COVE_FOREVER));
        assert_true(cove_mutex_lock(segment, &board->locks[i], COVE_NOWAIT) < 0);
        EXPECT(-EPERM, cove_mutex_unlock(segment, &board->locks[i]));
    }
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_mutex_results),
    TEST(test_mutex_limit_of_32_is_told),
    TEST(test_mutex_marks_follow_their_locks),
    TEST(test_mutex_belongs_to_its_thread),
    TEST(test_mutex_belongs_to_its_process),
    TEST(test_mutex_wait_is_not_broken_by_signals),
    TEST(test_mutex_all_locks_of_the_dead_are_freed),
    TEST(test_mutex_scribbled_word_is_told),
};

int main(void)
{
    return testing_run("mutex", tests);
}
