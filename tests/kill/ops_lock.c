/* ops_lock.c - the kill table's scenarios of locks, transactions and lanes.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The sleeper wants the lock that the operation is about. It must get it, must find nothing half-made behind it, and
 * must be told COVE_RECOVERED when the victim had been told that it held it and died with it. */
#include "stage.h"

#include <errno.h>
#include <string.h>

enum { AMOUNT = 100 };

static void lock(struct stage *stage, cove_mutex *mutex)
{
    must(stage, cove_mutex_lock(stage->segment, mutex, PATIENCE_NS) >= 0, "lock");
}

static void unlock(struct stage *stage, cove_mutex *mutex)
{
    must(stage, cove_mutex_unlock(stage->segment, mutex) == 0, "unlock");
}

/* ---- one lock ------------------------------------------------------------------------------------------------- */

static void lock_alice(struct stage *stage)
{
    lock(stage, &stage->alice->lock);
}

static void unlock_alice(struct stage *stage)
{
    unlock(stage, &stage->alice->lock);
}

static void operate_lock(struct stage *stage)
{
    lock_alice(stage);
    acknowledge(stage, 1);
}

static void operate_trylock(struct stage *stage)
{
    must(stage, cove_mutex_lock(stage->segment, &stage->alice->lock, COVE_NOWAIT) == 0, "trylock");
    acknowledge(stage, 1);
}

static void operate_unlock(struct stage *stage)
{
    unlock_alice(stage);
    acknowledge(stage, 1);
}

/* The middle one holds carol's lock all the while. */
static void operate_timeout(struct stage *stage)
{
    int got = cove_mutex_lock(stage->segment, &stage->carol->lock, 1000000);
    must(stage, got == -ETIMEDOUT, "a lock that is held elsewhere");
    acknowledge(stage, 1);
}

static void operate_lock_pair(struct stage *stage)
{
    lock_alice(stage);
    acknowledge(stage, 1);
    unlock_alice(stage);
    acknowledge(stage, 2);
}

static void sleep_lock(struct stage *stage)
{
    int got = cove_mutex_lock(stage->segment, &stage->alice->lock, PATIENCE_NS * 2);
    stage->ledger->result[ROLE_SLEEPER] = got;
    if (must(stage, got >= 0, "the lock that the victim held or wanted"))
        unlock_alice(stage);
}

/* The sleeper was the first to take the lock after a victim that had it for sure, or had given it back for sure. */
static void told_of_recovery(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (ledger->killed && ledger->acknowledged == 1 && ledger->result[ROLE_SLEEPER] != COVE_RECOVERED)
        finding(stage, VERDICT_LOST, "took the lock of a dead holder and was told %lld, not COVE_RECOVERED",
                (long long)ledger->result[ROLE_SLEEPER]);
}

static void not_told_of_recovery(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (ledger->acknowledged == 1 && ledger->result[ROLE_SLEEPER] != 0)
        finding(stage, VERDICT_CORRUPT, "took a lock that was given back and was told %lld, not 0",
                (long long)ledger->result[ROLE_SLEEPER]);
}

static void verify_all_locks(struct stage *stage)
{
    cove_mutex *mutex[] = {&stage->alice->lock, &stage->bob->lock, &stage->carol->lock, &stage->root->lock,
                           &stage->wide->lock};
    for (size_t i = 0; i < sizeof mutex / sizeof *mutex; i++) {
        if (!must(stage, cove_mutex_lock(stage->segment, mutex[i], COVE_NOWAIT) >= 0, "a lock that nobody holds"))
            continue;
        unlock(stage, mutex[i]);
    }
}

/* ---- transfers ------------------------------------------------------------------------------------------------ */

static void change_both(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock(stage, &stage->alice->lock);
    lock(stage, &stage->bob->lock);
    int64_t *from = &stage->alice->cents, *to = &stage->bob->cents;
    must(stage, cove_save(stage->segment, from, sizeof *from) == 0, "save");
    *from -= AMOUNT;
    must(stage, cove_save(stage->segment, to, sizeof *to) == 0, "save");
    *to += AMOUNT;
}

static void operate_transfer(struct stage *stage)
{
    change_both(stage);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_transfer_early(struct stage *stage)
{
    change_both(stage);
    unlock(stage, &stage->alice->lock); /* stays held: the journal is not empty */
    unlock(stage, &stage->bob->lock);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_transfer_nested(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    change_both(stage);
    must(stage, cove_commit(stage->segment) == 0, "inner commit");
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_abort(struct stage *stage)
{
    change_both(stage);
    must(stage, cove_abort(stage->segment) == 0, "abort");
    acknowledge(stage, 1);
}

/* The sum is looked at under both locks: nobody may see it in the middle. */
static void sleep_sum(struct stage *stage)
{
    lock(stage, &stage->alice->lock);
    lock(stage, &stage->bob->lock);
    int64_t sum = stage->alice->cents + stage->bob->cents;
    if (sum != 2 * START_CENTS)
        finding(stage, VERDICT_CORRUPT, "under both locks the sum is %lld", (long long)sum);
    unlock(stage, &stage->bob->lock);
    unlock(stage, &stage->alice->lock);
}

static void restore_balances(struct stage *stage)
{
    stage->alice->cents = stage->bob->cents = START_CENTS;
}

static void verify_transfer(struct stage *stage)
{
    verify_all_locks(stage);
    if (stage->ledger->acknowledged && stage->alice->cents != START_CENTS - AMOUNT)
        finding(stage, VERDICT_LOST, "an acknowledged transfer is undone");
    if (stage->alice->cents != START_CENTS - AMOUNT && stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "alice has %lld cents", (long long)stage->alice->cents);
    restore_balances(stage);
}

static void verify_untouched(struct stage *stage)
{
    verify_all_locks(stage);
    if (stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "what was not committed stands: alice has %lld",
                (long long)stage->alice->cents);
    restore_balances(stage);
}

/* ---- many bytes: the journal grows ---------------------------------------------------------------------------- */

static void change_wide(struct stage *stage)
{
    enum { PIECES = 4 }; /* the journal grows twice */
    struct wide *wide = stage->wide;
    size_t cells = WIDE_BYTES / 8;
    uint64_t next = wide->cell[0] + 1;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock(stage, &wide->lock);
    for (size_t piece = 0; piece < PIECES; piece++) {
        uint64_t *part = &wide->cell[cells * piece / PIECES];
        must(stage, cove_save(stage->segment, part, WIDE_BYTES / PIECES) == 0, "a large save");
        for (size_t i = 0; i < cells / PIECES; i++)
            part[i] = next;
    }
}

static void operate_wide(struct stage *stage)
{
    change_wide(stage);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_wide_abort(struct stage *stage)
{
    change_wide(stage);
    must(stage, cove_abort(stage->segment) == 0, "abort");
    acknowledge(stage, 1);
}

static int wide_is_even(const struct wide *wide)
{
    for (size_t i = 1; i < WIDE_BYTES / 8; i++)
        if (wide->cell[i] != wide->cell[0])
            return 0;
    return 1;
}

static void sleep_wide(struct stage *stage)
{
    lock(stage, &stage->wide->lock);
    if (!wide_is_even(stage->wide))
        finding(stage, VERDICT_CORRUPT, "under the lock the cells differ");
    unlock(stage, &stage->wide->lock);
}

static void verify_wide(struct stage *stage, int done)
{
    verify_all_locks(stage);
    if (!wide_is_even(stage->wide))
        finding(stage, VERDICT_CORRUPT, "the cells differ");
    if (done >= 0 && stage->wide->cell[0] != (uint64_t)done)
        finding(stage, done ? VERDICT_LOST : VERDICT_CORRUPT, "the cells are %llu, not %d",
                (unsigned long long)stage->wide->cell[0], done);
}

static void verify_wide_done(struct stage *stage)
{
    verify_wide(stage, stage->ledger->acknowledged ? 1 : -1);
}

static void verify_wide_undone(struct stage *stage)
{
    verify_wide(stage, 0);
}

/* ---- a thread's end ------------------------------------------------------------------------------------------- */

static void operate_nothing(struct stage *stage)
{
    (void)stage; /* the end of the thread is the operation */
}

static void sleep_thread_end(struct stage *stage)
{
    sleep_lock(stage);
    if (stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "sees what a thread that ended had not committed");
}

const struct scenario ops_lock[] = {
    {.name = "mutex lock",
     .least = 27,
     .most = 210,
     .operate = operate_lock,
     .after = unlock_alice,
     .sleep = sleep_lock,
     .sleep_after = told_of_recovery,
     .verify = verify_all_locks},
    {.name = "mutex trylock",
     .least = 27,
     .most = 210,
     .operate = operate_trylock,
     .after = unlock_alice,
     .sleep = sleep_lock,
     .sleep_after = told_of_recovery,
     .verify = verify_all_locks},
    {.name = "mutex unlock",
     .least = 25,
     .most = 200,
     .prepare = lock_alice,
     .operate = operate_unlock,
     .sleep = sleep_lock,
     .sleep_after = not_told_of_recovery,
     .verify = verify_all_locks},
    {.name = "mutex unlock, one waits",
     .traits = SLEEP_FIRST,
     .least = 48,
     .most = 410,
     .prepare = lock_alice,
     .operate = operate_unlock,
     .sleep = sleep_lock,
     .sleep_after = not_told_of_recovery,
     .verify = verify_all_locks},
    {.name = "mutex lock, timed out", .least = 1300, .most = 11000, .operate = operate_timeout, .verify = NULL},
    {.name = "transfer",
     .least = 380,
     .most = 3100,
     .operate = operate_transfer,
     .sleep = sleep_sum,
     .verify = verify_transfer},
    {.name = "transfer, unlocked early",
     .least = 470,
     .most = 3900,
     .operate = operate_transfer_early,
     .sleep = sleep_sum,
     .verify = verify_transfer},
    {.name = "transfer, nested",
     .least = 430,
     .most = 3400,
     .operate = operate_transfer_nested,
     .sleep = sleep_sum,
     .verify = verify_transfer},
    {.name = "transfer, aborted",
     .least = 930,
     .most = 7400,
     .operate = operate_abort,
     .sleep = sleep_sum,
     .verify = verify_untouched},
    {.name = "large save",
     .least = 3100,
     .most = 27000,
     .operate = operate_wide,
     .sleep = sleep_wide,
     .verify = verify_wide_done},
    {.name = "large save, aborted",
     .least = 4000,
     .most = 32000,
     .operate = operate_wide_abort,
     .sleep = sleep_wide,
     .verify = verify_wide_undone},
    {.name = "thread's first use and its end",
     .traits = THREADED,
     .least = 1100,
     .most = 9200,
     .operate = operate_lock_pair,
     .sleep = sleep_lock,
     .verify = verify_all_locks},
    {.name = "thread ends holding a lock",
     .traits = THREADED | SLEEP_FIRST,
     .least = 320,
     .most = 2700,
     .prepare = lock_alice,
     .operate = operate_nothing,
     .sleep = sleep_lock,
     .verify = verify_all_locks},
    {.name = "thread ends in a transaction",
     .traits = THREADED | SLEEP_FIRST,
     .least = 780,
     .most = 6500,
     .prepare = change_both,
     .operate = operate_nothing,
     .sleep = sleep_thread_end,
     .verify = verify_untouched},
    {0},
};
