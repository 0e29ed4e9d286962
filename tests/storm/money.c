/* money.c - transfers between accounts. No kill makes or destroys a cent, and nobody sees half a transfer: not who holds
 * the locks, and not who reads under revisions.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "storm.h"

#include <sched.h>

/* Up to three different accounts, in the order in which they are locked. */
static uint32_t pick(struct worker *worker, struct account *picked[3])
{
    uint32_t count = 0, first = (uint32_t)below(&worker->random, ACCOUNTS - 2);
    for (uint32_t i = first; i < ACCOUNTS && count < 3; i++)
        if (count == 0 || one_in(&worker->random, 3) || i + 1 == ACCOUNTS)
            picked[count++] = &worker->world->accounts[i];
    return count;
}

/* Keep what will change: the sum alone, the account with its lock and its revision, or the sum so often that the journal
 * must grow. */
static void save(struct worker *worker, struct account *account)
{
    uint64_t times = one_in(&worker->random, 64) ? 60 : 1;
    bool early = one_in(&worker->random, 2);
    if (early)
        must(cove_revision_change(worker->segment, &account->revision), "change a revision");
    if (one_in(&worker->random, 4))
        must(cove_save(worker->segment, account, sizeof *account), "save an account");
    if (!early || one_in(&worker->random, 8))
        must(cove_revision_change(worker->segment, &account->revision), "change a revision");
    for (uint64_t i = 0; i < times; i++)
        must(cove_save(worker->segment, &account->cents, sizeof account->cents), "save cents");
}

/* Begin, lock, save, and move an amount along the accounts, a step at a time. */
static uint32_t move_money(struct worker *worker, struct account *picked[3])
{
    uint32_t count = pick(worker, picked);
    must(cove_begin(worker->segment), "begin");
    for (uint32_t i = 0; i < count; i++)
        lock(worker, &picked[i]->lock);
    for (uint32_t i = 0; i < count; i++)
        save(worker, picked[i]);
    int64_t amount = (int64_t)below(&worker->random, 200) - 100;
    for (uint32_t i = 0; i + 1 < count; i++) {
        picked[i]->cents -= amount;
        if (one_in(&worker->random, 8))
            sched_yield(); /* let others run, and the killer, while it is half done */
        picked[i + 1]->cents += amount;
    }
    return count;
}

void leave_transfer_open(struct worker *worker)
{
    struct account *picked[3];
    (void)move_money(worker, picked);
    picked[0]->cents -= 1;
}

void do_transfer(struct worker *worker)
{
    begin_doing(worker, DOING_TRANSFER);
    struct account *picked[3];
    uint32_t count = move_money(worker, picked);
    if (one_in(&worker->random, 8)) { /* inside an inner level, and undone as a whole */
        must(cove_begin(worker->segment), "begin again");
        picked[0]->cents += 7;
        must(cove_abort(worker->segment), "abort");
    } else {
        if (one_in(&worker->random, 2)) /* two-phase: stays locked until the commit */
            unlock(worker, &picked[count - 1]->lock);
        must(cove_commit(worker->segment), "commit");
    }
    end_doing(worker, DOING_TRANSFER);
}

int64_t count_money(const struct world *world)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < ACCOUNTS; i++)
        sum += world->accounts[i].cents;
    return sum;
}

/* Without locks: all revisions, all balances, all revisions again. */
static void glance(struct worker *worker)
{
    struct account *accounts = worker->world->accounts;
    uint64_t seen[ACCOUNTS];
    bool same = false;
    for (uint32_t tries = 0; !same && tries < 1000; tries++) {
        for (uint32_t i = 0; i < ACCOUNTS; i++)
            seen[i] = cove_revision_read(worker->segment, &accounts[i].revision);
        int64_t sum = count_money(worker->world);
        same = true;
        for (uint32_t i = 0; same && i < ACCOUNTS; i++)
            same = cove_revision_same(&accounts[i].revision, seen[i]);
        if (same && sum != ACCOUNTS * START_CENTS)
            fault("a reader under revisions counts %lld cents, not %d", (long long)sum, ACCOUNTS * START_CENTS);
    }
}

void do_audit(struct worker *worker)
{
    begin_doing(worker, DOING_AUDIT);
    if (one_in(&worker->random, 2))
        glance(worker);
    for (uint32_t i = 0; i < ACCOUNTS; i++)
        lock(worker, &worker->world->accounts[i].lock);
    int64_t sum = count_money(worker->world);
    if (sum != ACCOUNTS * START_CENTS)
        fault("an auditor who holds all locks counts %lld cents, not %d", (long long)sum, ACCOUNTS * START_CENTS);
    for (uint32_t i = 0; i < ACCOUNTS; i++) /* not the reverse order: the list of held locks must cope */
        unlock(worker, &worker->world->accounts[(i * 5) % ACCOUNTS].lock);
    end_doing(worker, DOING_AUDIT);
}
