/* test_durable_locks.c - rwlocks, permits and barriers of segments in files: whom cove_sync waits for, and what the copy
 * says of them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "actors.h"

#include "durable.h"

#include <cove/barrier.h>
#include <cove/rwlock.h>
#include <cove/semaphore.h>

struct board {
    cove_rwlock rwlock;
    cove_semaphore permits;
    cove_barrier barrier;
    uint64_t one, two; /* always the same under the rwlock */
};

static struct board *board_of(cove_segment *segment)
{
    return unit_object(segment, "b", sizeof(struct board));
}

enum { HOLDS = 0, MAY_GO = 1 };

/* ---- who is waited for */

enum what { READS, WRITES, OWNS, TOOK, IS_PARTY, WAITS };

static void hold(void *argument)
{
    enum what what = *(enum what *)argument;
    cove_segment *segment = unit_open(durable_name("d"));
    struct board *board = board_of(segment);
    if (what == READS)
        EXPECT(0, cove_rwlock_lock_shared(segment, &board->rwlock, COVE_FOREVER));
    if (what == WRITES)
        EXPECT(0, cove_rwlock_lock(segment, &board->rwlock, COVE_FOREVER));
    if (what == OWNS)
        EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_FOREVER));
    if (what == TOOK)
        EXPECT(0, cove_semaphore_wait(segment, &board->permits, COVE_FOREVER));
    if (what == IS_PARTY)
        EXPECT(-EBUSY, cove_barrier_wait(segment, &board->barrier, 2, COVE_NOWAIT));
    testing_reach(HOLDS);
    if (what == WAITS)
        EXPECT(COVE_LEADER, cove_barrier_wait(segment, &board->barrier, 1, COVE_FOREVER));
    testing_await(MAY_GO);
    if (what == READS || what == WRITES)
        EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
    if (what == OWNS)
        EXPECT(0, cove_semaphore_release(segment, &board->permits));
    unit_close(segment);
}

static void sync_beside(enum what what, bool is_waited_for)
{
    cove_segment *segment = unit_open(durable_name("d"));
    struct board *board = board_of(segment);
    EXPECT(0, cove_semaphore_post(segment, &board->permits, 1));
    enum what *shared = testing_shared(sizeof *shared);
    *shared = what;
    pid_t pid = testing_spawn(hold, shared);
    testing_await(HOLDS);
    if (is_waited_for) {
        char who[64];
        (void)snprintf(who, sizeof who, "(pid %d", (int)pid);
        EXPECT_SAYS(-ETIMEDOUT, cove_sync(segment, 50 * UNIT_MS), who);
    } else
        EXPECT(0, cove_sync(segment, unit_patience()));
    testing_reach(MAY_GO);
    testing_join(pid);
    EXPECT(0, cove_sync(segment, unit_patience()));
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(durable_name("d"), 1));
}

static void test_durable_locks_sync_waits_for_a_reader(void **state)
{
    (void)state;
    sync_beside(READS, true);
}

static void test_durable_locks_sync_waits_for_a_writer(void **state)
{
    (void)state;
    sync_beside(WRITES, true);
}

static void test_durable_locks_sync_waits_for_the_owner_of_a_permit(void **state)
{
    (void)state;
    sync_beside(OWNS, true);
}

static void test_durable_locks_sync_does_not_wait_for_a_plain_permit(void **state)
{
    (void)state;
    sync_beside(TOOK, false);
}

static void test_durable_locks_sync_does_not_wait_for_a_party(void **state)
{
    (void)state;
    sync_beside(IS_PARTY, false);
}

static void test_durable_locks_sync_does_not_wait_for_who_came_and_went(void **state)
{
    (void)state;
    sync_beside(WAITS, false);
}

/* ---- what the copy says: all is free in it, and nothing is half */

struct work {
    uint64_t seed;
    _Atomic bool *ends;
    _Atomic unsigned done;
};

static void work_on(cove_segment *segment, struct work *work)
{
    struct board *board = board_of(segment);
    while (!atomic_load(work->ends)) {
        uint64_t random = unit_random(&work->seed);
        EXPECT(0, cove_semaphore_acquire(segment, &board->permits, COVE_FOREVER));
        if (random % 3 == 0) {
            EXPECT(0, cove_rwlock_lock(segment, &board->rwlock, COVE_FOREVER));
            board->one++;
            if (random >> 62 == 0)
                sched_yield();
            board->two++;
        } else {
            EXPECT(0, cove_rwlock_lock_shared(segment, &board->rwlock, COVE_FOREVER));
            assert_int_equal(board->one, board->two);
        }
        EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
        EXPECT(0, cove_semaphore_release(segment, &board->permits));
        atomic_fetch_add(&work->done, 1);
    }
}

static void work_elsewhere(void *argument)
{
    cove_segment *segment = unit_open(durable_name("d"));
    work_on(segment, argument);
    unit_close(segment);
}

static void copy_to(const char *from, const char *to)
{
    static char bytes[1 << 16];
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(in >= 0 && out >= 0);
    for (ssize_t got; (got = read(in, bytes, sizeof bytes)) > 0;)
        assert_int_equal(write(out, bytes, (size_t)got), got);
    assert_int_equal(close(in), 0);
    assert_int_equal(close(out), 0);
}

/* As after a power cut: the copy, put back where the segment was. */
static void look_at_the_copy(void)
{
    copy_to(durable_path("d", ".synced"), durable_path("e", ".synced"));
    copy_to(durable_path("d", ".synced"), durable_path("e", ""));
    durable_other_boot(durable_path("e", ""));
    cove_segment *segment = unit_open_as(durable_name("e"), &(struct cove_options){.flags = COVE_EXISTING});
    struct board *board = board_of(segment);
    int result = cove_rwlock_lock(segment, &board->rwlock, COVE_NOWAIT);
    (void)EXPECT_GOOD(result);
    assert_int_equal(board->one, board->two);
    EXPECT(0, cove_rwlock_unlock(segment, &board->rwlock));
    EXPECT(2, cove_semaphore_value(segment, &board->permits));
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(durable_name("e"), 1));
}

static void test_durable_locks_copies_are_whole_and_free(void **state)
{
    (void)state;
    cove_segment *segment = unit_open(durable_name("d"));
    EXPECT(0, cove_semaphore_post(segment, &board_of(segment)->permits, 2));
    struct work *works[3];
    _Atomic bool *ends = testing_shared(sizeof *ends);
    pid_t pids[3];
    for (unsigned i = 0; i < 3; i++) {
        works[i] = testing_shared(sizeof *works[i]);
        *works[i] = (struct work){.seed = 5 + i, .ends = ends};
        pids[i] = testing_spawn(work_elsewhere, works[i]);
    }
    for (int round = 0; round < 10; round++) {
        unsigned done = atomic_load(&works[round % 3]->done);
        UNTIL(atomic_load(&works[round % 3]->done) > done + 20, 20000);
        EXPECT(0, cove_sync(segment, unit_patience()));
        look_at_the_copy();
    }
    atomic_store(ends, true);
    for (unsigned i = 0; i < 3; i++)
        testing_join(pids[i]);
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(durable_name("d"), 1));
}

static const struct testing_case tests[] = {
    TEST(test_durable_locks_sync_waits_for_a_reader),
    TEST(test_durable_locks_sync_waits_for_a_writer),
    TEST(test_durable_locks_sync_waits_for_the_owner_of_a_permit),
    TEST(test_durable_locks_sync_does_not_wait_for_a_plain_permit),
    TEST(test_durable_locks_sync_does_not_wait_for_a_party),
    TEST(test_durable_locks_sync_does_not_wait_for_who_came_and_went),
    TEST_TIMEOUT(test_durable_locks_copies_are_whole_and_free, 30),
};

int main(void)
{
    return testing_run("durable_locks", tests);
}
