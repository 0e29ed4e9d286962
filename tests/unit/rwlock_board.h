/* rwlock_board.h - what the tests of rwlocks share: the things they lock, and others who lock them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef RWLOCK_BOARD_H
#define RWLOCK_BOARD_H

#include "actors.h"

#include <cove/rwlock.h>

struct board {
    cove_rwlock lock, others[40];
    cove_mutex mutex;
    uint64_t one, two; /* always the same, to who reads under the lock */
};

static cove_segment *segment;
static struct board *board;

static inline void begin(void)
{
    segment = unit_open("t");
    board = unit_object(segment, "b", sizeof *board);
}

static inline void end(void)
{
    EXPECT(0, cove_rwlock_lock(segment, &board->lock, COVE_NOWAIT)); /* nobody has it, nobody is owed a word */
    EXPECT(0, cove_rwlock_unlock(segment, &board->lock));
    assert_int_equal(atomic_load(&covei_thread.shm->marks), 0); /* not just no less: what is passed over stays so */
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static inline struct board *board_of(cove_segment *own)
{
    return unit_object(own, "b", sizeof(struct board));
}

enum { HOLDS = 0, MAY_GO = 1 };

static inline void read_and_stay(cove_segment *own, void *argument)
{
    struct board *mine = argument ? argument : board_of(own);
    (void)EXPECT_GOOD(cove_rwlock_lock_shared(own, &mine->lock, COVE_FOREVER));
    assert_int_equal(mine->one, mine->two);
    testing_reach(HOLDS);
    testing_await(MAY_GO);
    assert_int_equal(mine->one, mine->two);
    EXPECT(0, cove_rwlock_unlock(own, &mine->lock));
}

struct outcome {
    _Atomic int result;
    _Atomic int64_t at_ns;
    int64_t timeout_ns;
    bool write;
};

static inline void lock_once(cove_segment *own, void *argument)
{
    struct outcome *outcome = argument;
    struct board *mine = board_of(own);
    int result = outcome->write ? cove_rwlock_lock(own, &mine->lock, outcome->timeout_ns)
                                : cove_rwlock_lock_shared(own, &mine->lock, outcome->timeout_ns);
    atomic_store(&outcome->at_ns, unit_now());
    atomic_store(&outcome->result, result);
    if (result >= 0)
        EXPECT(0, cove_rwlock_unlock(own, &mine->lock));
}

static inline struct outcome *outcome_of(bool write, int64_t timeout_ns)
{
    struct outcome *outcome = testing_shared(sizeof *outcome);
    *outcome = (struct outcome){.timeout_ns = timeout_ns, .write = write};
    atomic_store(&outcome->result, 1000);
    return outcome;
}

#endif
