/* ops_rwlock.c - the kill table's scenarios of the rwlock: many read, or one writes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What it guards is a pair of equal numbers, which writers change in a transaction: no reader may ever see them
 * differ. A dead reader holds nobody, a dead writer's change is put back before anybody reads, and one of those who
 * come next is told COVE_RECOVERED. A reader that is stopped keeps writers out, and nobody else. */
#include "hall.h"

#include <errno.h>

static void lock_shared(struct stage *stage)
{
    must(stage, cove_rwlock_lock_shared(stage->segment, &stage->hall->rwlock, PATIENCE_NS * 2) >= 0, "read lock");
}

static void lock_exclusive(struct stage *stage)
{
    must(stage, cove_rwlock_lock(stage->segment, &stage->hall->rwlock, PATIENCE_NS * 2) >= 0, "write lock");
}

static void unlock(struct stage *stage)
{
    must(stage, cove_rwlock_unlock(stage->segment, &stage->hall->rwlock) == 0, "unlock");
}

static void look(struct stage *stage)
{
    pair_must_be_even(stage, &stage->hall->shared, "under the rwlock");
}

/* ---- those who wait ------------------------------------------------------------------------------------------- */

static void sleep_reading(struct stage *stage)
{
    int got = cove_rwlock_lock_shared(stage->segment, &stage->hall->rwlock, PATIENCE_NS * 2);
    stage->ledger->result[stage->role] = got;
    if (!must(stage, got >= 0, "read lock"))
        return;
    look(stage);
    linger(stage);
    look(stage);
    unlock(stage);
}

static void sleep_writing(struct stage *stage)
{
    int got = cove_rwlock_lock(stage->segment, &stage->hall->rwlock, PATIENCE_NS * 2);
    stage->ledger->result[stage->role] = got;
    if (!must(stage, got >= 0, "write lock"))
        return;
    look(stage);
    stage->hall->shared.left += 100; /* nobody else may see that */
    linger(stage);
    stage->hall->shared.left -= 100;
    unlock(stage);
}

/* The word may have been the dead reader's for a moment, in which it held up others: so one who comes may be told.
 * But not where it was a reader for sure. */
static void not_told_of_reader(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (ledger->acknowledged && ledger->result[ROLE_SLEEPER] != 0)
        finding(stage, VERDICT_CORRUPT, "a reader died, or had given it back, and the next was told %lld, not 0",
                (long long)ledger->result[ROLE_SLEEPER]);
}

static void one_told_of_writer(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (ledger->killed && ledger->acknowledged == 1 && ledger->result[ROLE_SLEEPER] != COVE_RECOVERED &&
        ledger->result[ROLE_SECOND] != COVE_RECOVERED)
        finding(stage, VERDICT_LOST, "the writer died, and of those who came next nobody was told");
}

static void nobody_told(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (ledger->acknowledged && (ledger->result[ROLE_SLEEPER] != 0 || ledger->result[ROLE_SECOND] != 0))
        finding(stage, VERDICT_CORRUPT, "took a lock that was given back and was told %lld and %lld, not 0",
                (long long)ledger->result[ROLE_SLEEPER], (long long)ledger->result[ROLE_SECOND]);
}

/* ---- reading -------------------------------------------------------------------------------------------------- */

static void operate_lock_shared(struct stage *stage)
{
    must(stage, cove_rwlock_lock_shared(stage->segment, &stage->hall->rwlock, PATIENCE_NS) == 0, "read lock");
    look(stage);
    acknowledge(stage, 1);
}

static void operate_unlock(struct stage *stage)
{
    unlock(stage);
    acknowledge(stage, 1);
}

/* Twice, as a function that calls another does. */
static void operate_read_twice(struct stage *stage)
{
    lock_shared(stage);
    lock_shared(stage);
    look(stage);
    unlock(stage);
    unlock(stage);
    acknowledge(stage, 1);
}

/* A dead writer has left word: who reads next has to take the lock itself, in order to be told. */
static void prepare_in_turn(struct stage *stage)
{
    must(stage, cove_recover(stage->segment) >= 0, "recovering the dead writer");
}

static void operate_read_in_turn(struct stage *stage)
{
    int got = cove_rwlock_lock_shared(stage->segment, &stage->hall->rwlock, PATIENCE_NS);
    must(stage, got == COVE_RECOVERED || (stage->ledger->stands && got == 0), "read lock, after a writer's death");
    if (stage->hall->shared.left != 0)
        finding(stage, VERDICT_CORRUPT, "what the dead writer had saved is not put back");
    look(stage);
    acknowledge(stage, 1);
}

static void operate_read_timeout(struct stage *stage)
{
    int got = cove_rwlock_lock_shared(stage->segment, &stage->hall->rwlock, 1000000);
    must(stage, got == -ETIMEDOUT, "reading what somebody writes");
    acknowledge(stage, 1);
}

/* ---- writing -------------------------------------------------------------------------------------------------- */

static void operate_lock(struct stage *stage)
{
    must(stage, cove_rwlock_lock(stage->segment, &stage->hall->rwlock, PATIENCE_NS) == 0, "write lock");
    look(stage);
    acknowledge(stage, 1);
}

static void operate_write_timeout(struct stage *stage)
{
    int got = cove_rwlock_lock(stage->segment, &stage->hall->rwlock, 1000000);
    must(stage, got == -ETIMEDOUT, "writing what somebody reads");
    acknowledge(stage, 1);
}

/* The dead reader's mark has to be taken away. */
static void operate_write_after_reader(struct stage *stage)
{
    int got = cove_rwlock_lock(stage->segment, &stage->hall->rwlock, PATIENCE_NS);
    must(stage, got >= 0, "write lock, after a reader's death");
    look(stage);
    acknowledge(stage, 1);
}

static void half_a_change(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock_exclusive(stage);
    must(stage, cove_save(stage->segment, &stage->hall->shared, sizeof stage->hall->shared) == 0, "save");
    stage->hall->shared.left++;
}

static void operate_second_half(struct stage *stage)
{
    must(stage, cove_save(stage->segment, &stage->hall->goods, sizeof stage->hall->goods) == 0, "another save");
    stage->hall->shared.right++;
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_transaction(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock_exclusive(stage);
    pair_change(stage, &stage->hall->shared, 1);
    unlock(stage); /* stays held: the journal is not empty */
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_aborted(struct stage *stage)
{
    stage->hall->shared.right += 5;
    must(stage, cove_abort(stage->segment) == 0, "abort");
    acknowledge(stage, 1);
}

/* Two-phase: what was read under it may have gone into what is written. */
static void operate_read_in_transaction(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock_shared(stage);
    take(stage, &hall->lock);
    pair_change(stage, &hall->goods, 1);
    unlock(stage); /* stays held */
    must(stage, cove_rwlock_lock(stage->segment, &hall->middle.rwlock, COVE_NOWAIT) == -EBUSY,
         "writing what the middle one reads");
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void verify_written(struct stage *stage)
{
    int64_t left = stage->hall->shared.left;
    if (stage->ledger->acknowledged && left != 1)
        finding(stage, VERDICT_LOST, "an acknowledged change is undone");
    if (left != 0 && left != 1)
        finding(stage, VERDICT_CORRUPT, "what the rwlock guards is %lld", (long long)left);
}

static void verify_second_half(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    verify_written(stage);
    if (stage->hall->shared.left == 0 && ledger->result[ROLE_SLEEPER] != COVE_RECOVERED &&
        ledger->result[ROLE_SECOND] != COVE_RECOVERED)
        finding(stage, VERDICT_LOST, "a dead writer's change was put back, and of those who came next nobody was told");
}

static void verify_unwritten(struct stage *stage)
{
    if (stage->hall->shared.left != 0)
        finding(stage, VERDICT_CORRUPT, "what was aborted stands");
}

static void verify_goods(struct stage *stage)
{
    if (stage->ledger->acknowledged && stage->hall->goods.left != 1)
        finding(stage, VERDICT_LOST, "an acknowledged change is undone");
}

const struct scenario ops_rwlock[] = {
    {.name = "read lock",
     .traits = IN_HALL,
     .least = 38,
     .most = 360,
     .operate = operate_lock_shared,
     .after = unlock,
     .sleep = sleep_writing,
     .sleep_after = not_told_of_reader,
     .second_part = SECOND_BEHIND,
     .second = sleep_reading},
    {.name = "read unlock",
     .traits = IN_HALL,
     .least = 31,
     .most = 270,
     .prepare = lock_shared,
     .operate = operate_unlock,
     .sleep = sleep_writing,
     .sleep_after = not_told_of_reader},
    {.name = "read unlock, a writer drains",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 48,
     .most = 440,
     .prepare = lock_shared,
     .operate = operate_unlock,
     .sleep = sleep_writing,
     .sleep_after = not_told_of_reader,
     .second_part = SECOND_BEHIND,
     .second = sleep_reading},
    {.name = "read lock twice, and unlock",
     .traits = IN_HALL,
     .least = 460,
     .most = 4800,
     .operate = operate_read_twice,
     .sleep = sleep_writing,
     .sleep_after = not_told_of_reader},
    {.name = "read lock in turn",
     .traits = IN_HALL,
     .least = 530,
     .most = 5900,
     .prepare = prepare_in_turn,
     .operate = operate_read_in_turn,
     .after = unlock,
     .sleep = sleep_writing,
     .second_part = SECOND_DEAD,
     .second_ready = half_a_change},
    {.name = "read lock, the writer dead",
     .traits = IN_HALL,
     .least = 4800,
     .most = 49000,
     .operate = operate_read_in_turn,
     .after = unlock,
     .sleep = sleep_reading,
     .second_part = SECOND_DIES,
     .second_ready = half_a_change},
    {.name = "read lock, timed out",
     .traits = IN_HALL,
     .least = 3500,
     .most = 37000,
     .operate = operate_read_timeout,
     .sleep = sleep_reading,
     .second_part = SECOND_AFTER,
     .second_ready = lock_exclusive,
     .second = unlock},
    {.name = "read lock in a transaction",
     .traits = IN_HALL,
     .least = 2400,
     .most = 23000,
     .operate = operate_read_in_transaction,
     .sleep = sleep_writing,
     .sleep_after = not_told_of_reader,
     .verify = verify_goods},
    {.name = "write lock",
     .traits = IN_HALL,
     .least = 220,
     .most = 2200,
     .operate = operate_lock,
     .after = unlock,
     .sleep = sleep_reading,
     .second_part = SECOND_BEHIND,
     .second = sleep_writing,
     .verify = one_told_of_writer},
    {.name = "write lock, a stopped reader is in it",
     .traits = IN_HALL,
     .least = 2500,
     .most = 24000,
     .operate = operate_write_timeout,
     .sleep = sleep_reading,
     .second_part = SECOND_STOPPED,
     .second_ready = lock_shared,
     .second_after = unlock},
    {.name = "write lock, a dead reader is in it",
     .least = 5200,
     .most = 51000,
     .traits = IN_HALL | BY_CALLS, /* it looks at all lanes a hundred times before it sleeps */
     .operate = operate_write_after_reader,
     .after = unlock,
     .sleep = sleep_writing,
     .second_part = SECOND_DIES,
     .second_ready = lock_shared},
    {.name = "write unlock, two readers wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 58,
     .most = 570,
     .prepare = lock_exclusive,
     .operate = operate_unlock,
     .sleep = sleep_reading,
     .second_part = SECOND_BEHIND,
     .second = sleep_reading,
     .verify = nobody_told},
    {.name = "write unlock, a reader and a writer wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 58,
     .most = 570,
     .prepare = lock_exclusive,
     .operate = operate_unlock,
     .sleep = sleep_writing,
     .second_part = SECOND_BEHIND,
     .second = sleep_reading,
     .verify = nobody_told},
    {.name = "write transaction",
     .traits = IN_HALL,
     .least = 420,
     .most = 3900,
     .operate = operate_transaction,
     .sleep = sleep_reading,
     .verify = verify_written},
    {.name = "write transaction, two readers wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 110,
     .most = 1100,
     .prepare = half_a_change,
     .operate = operate_second_half,
     .sleep = sleep_reading,
     .second_part = SECOND_BEHIND,
     .second = sleep_reading,
     .verify = verify_second_half},
    {.name = "write transaction, aborted, readers wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 410,
     .most = 3900,
     .prepare = half_a_change,
     .operate = operate_aborted,
     .sleep = sleep_reading,
     .second_part = SECOND_BEHIND,
     .second = sleep_writing,
     .verify = verify_unwritten},
    /* Where the segment may be copied at any time readers go through the gate: by the word. */
    {.name = "file: read lock",
     .traits = IN_HALL,
     .least = 590,
     .most = 6100,
     .backend = ON_FILE,
     .operate = operate_lock_shared,
     .after = unlock,
     .sleep = sleep_writing,
     .second_part = SECOND_BEHIND,
     .second = sleep_reading},
    {.name = "file: write transaction, two readers wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 270,
     .most = 2600,
     .backend = ON_FILE,
     .prepare = half_a_change,
     .operate = operate_second_half,
     .sleep = sleep_reading,
     .second_part = SECOND_BEHIND,
     .second = sleep_reading,
     .verify = verify_second_half},
    {0},
};
