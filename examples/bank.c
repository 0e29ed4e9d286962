/* bank.c - eight clerks move money between accounts, and are killed at random: the bank is as rich as before, always.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 *     bank [TRANSFERS [KILLS [SECONDS]]]     a million, and 200, or what fits into 10 s; figures go to stderr
 *
 * A transfer is a transaction: dead in the middle of it, both accounts are as they were. Two more look at the sum all
 * the while: an auditor who locks all accounts, and an onlooker who locks nothing and reads under revisions. They are
 * killed too. What clerks were told that is done they write down in books outside of the bank. */
#include <cove.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLERKS = 8, AUDITOR = CLERKS, ONLOOKER, PEOPLE, ACCOUNTS = 24, START_CENTS = 10000 };

struct account { /* all zero is unlocked and unread, so a new object needs no setting up but for the money */
    cove_mutex lock; /* guards what follows */
    cove_revision revision;
    int64_t cents;
    uint64_t transfers; /* in which the account had a part */
};
struct bank {
    struct account accounts[ACCOUNTS];
};
static const struct cove_type bank_type = {.name = "bank", .version = 1, .size_bytes = sizeof(struct bank)};

static struct books { /* shared with the children by fork; no part of Cove */
    _Atomic uint64_t transfers[PEOPLE], refused[PEOPLE], audits[PEOPLE];
    _Atomic int stop, wrong;
} * books;

static struct bank *open_bank(cove_segment **segment)
{
    void *object = NULL;
    if (cove_open(segment, "example-bank", &(struct cove_options){.lifetime = COVE_LAST_OUT}) < 0 ||
        cove_object_open(&object, *segment, "bank", &bank_type, 0) < 0)
        (void)cove_complain("open");
    return object;
}

/* ---- a transfer */

static int change(cove_segment *segment, struct account *account, int64_t cents)
{
    if (cove_revision_change(segment, &account->revision) < 0 ||
        cove_save(segment, &account->cents, sizeof account->cents) < 0 ||
        cove_save(segment, &account->transfers, sizeof account->transfers) < 0)
        return -1;
    account->cents += cents;
    account->transfers++;
    return 0;
}

/* 1: done, 0: there is not enough money, below 0: an error. Locks taken inside are free at the end, in whichever way. */
static int transfer(cove_segment *segment, struct account *from, struct account *to, int64_t cents)
{
    struct account *first = from < to ? from : to, *second = from < to ? to : from; /* one order for all */
    if (cove_begin(segment) < 0 || cove_mutex_lock(segment, &first->lock, COVE_FOREVER) < 0 ||
        cove_mutex_lock(segment, &second->lock, COVE_FOREVER) < 0 || change(segment, from, -cents) < 0 ||
        change(segment, to, cents) < 0)
        return -1; /* the process ends then, and all goes back */
    if (from->cents < 0)
        return cove_abort(segment);
    int result = cove_commit(segment);
    return result < 0 ? result : 1;
}

/* ---- the sum */

static int sum_under_locks(cove_segment *segment, struct bank *bank, int64_t *sum)
{
    *sum = 0;
    for (int i = 0; i < ACCOUNTS; i++)
        if (cove_mutex_lock(segment, &bank->accounts[i].lock, COVE_FOREVER) < 0)
            return -1;
    for (int i = 0; i < ACCOUNTS; i++)
        *sum += bank->accounts[i].cents;
    for (int i = 0; i < ACCOUNTS; i++)
        (void)cove_mutex_unlock(segment, &bank->accounts[i].lock);
    return 1;
}

/* All revisions first, then all balances: if every revision is the same afterwards, the balances are of one moment. */
static int sum_without_locks(cove_segment *segment, struct bank *bank, int64_t *sum)
{
    uint64_t seen[ACCOUNTS];
    int same = 1;
    *sum = 0;
    for (int i = 0; i < ACCOUNTS; i++)
        seen[i] = cove_revision_read(segment, &bank->accounts[i].revision);
    for (int i = 0; i < ACCOUNTS; i++)
        *sum += bank->accounts[i].cents;
    for (int i = 0; i < ACCOUNTS && same; i++)
        same = cove_revision_same(&bank->accounts[i].revision, seen[i]);
    return same;
}

/* ---- people */

static int work(int who, unsigned seed)
{
    cove_segment *segment; /* a child is a member of its own: it opens the segment anew */
    struct bank *bank = open_bank(&segment);
    int result = bank ? 0 : -1;
    while (result >= 0 && !books->stop) {
        if (who < CLERKS) {
            int from = rand_r(&seed) % ACCOUNTS, to = (from + 1 + rand_r(&seed) % (ACCOUNTS - 1)) % ACCOUNTS;
            result = transfer(segment, &bank->accounts[from], &bank->accounts[to], rand_r(&seed) % 5000);
            books->transfers[who] += result > 0;
            books->refused[who] += result == 0;
            continue;
        }
        int64_t sum = 0;
        result = who == AUDITOR ? sum_under_locks(segment, bank, &sum) : sum_without_locks(segment, bank, &sum);
        books->audits[who] += result > 0;
        if (result > 0 && sum != ACCOUNTS * START_CENTS)
            books->wrong = 1;
    }
    return result < 0 ? cove_complain("work") : cove_close(segment) < 0;
}

static pid_t hire(int who)
{
    pid_t parent = getpid(), pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(getppid() != parent || work(who, (unsigned)getpid()));
}

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t transfers_done(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < CLERKS; i++)
        sum += books->transfers[i];
    return sum;
}

/* Everybody works; now and then one is killed and replaced. Returns how many were. */
static uint64_t run(uint64_t transfers, uint64_t kills_wanted, double seconds)
{
    pid_t pids[PEOPLE];
    uint64_t kills = 0;
    unsigned seed = (unsigned)getpid();
    double until = now_s() + seconds;
    for (int i = 0; i < PEOPLE; i++)
        pids[i] = hire(i);
    while (!books->wrong && (transfers_done() < transfers || kills < kills_wanted) && now_s() < until) {
        (void)nanosleep(&(struct timespec){.tv_nsec = rand_r(&seed) % 6000000}, NULL);
        int who = rand_r(&seed) % PEOPLE, status = 0;
        (void)kill(pids[who], SIGKILL);
        (void)waitpid(pids[who], &status, 0);
        kills += WIFSIGNALED(status);
        books->wrong |= WIFEXITED(status); /* it ended by itself, and said why */
        pids[who] = hire(who);
    }
    books->stop = 1;
    for (int i = 0; i < PEOPLE; i++) {
        int status = 0;
        (void)waitpid(pids[i], &status, 0);
        books->wrong |= status != 0;
    }
    return kills;
}

int main(int argc, char **argv)
{
    cove_segment *segment;
    struct bank *bank = open_bank(&segment);
    books = mmap(NULL, sizeof *books, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!bank || books == MAP_FAILED)
        return 1;
    for (int i = 0; i < ACCOUNTS; i++)
        bank->accounts[i].cents = START_CENTS;
    double begun = now_s();
    uint64_t kills = run(argc > 1 ? strtoull(argv[1], NULL, 0) : 1000000, argc > 2 ? strtoull(argv[2], NULL, 0) : 200,
                         argc > 3 ? strtod(argv[3], NULL) : 10);
    double seconds = now_s() - begun;
    (void)cove_recover(segment);
    int64_t sum = 0;
    uint64_t parts = 0, told = transfers_done(), refused = 0;
    (void)sum_under_locks(segment, bank, &sum);
    for (int i = 0; i < ACCOUNTS; i++)
        parts += bank->accounts[i].transfers;
    for (int i = 0; i < CLERKS; i++)
        refused += books->refused[i];
    /* A clerk who is killed between the commit and his books has done one more than he wrote down. */
    int lost = parts % 2 != 0 || parts / 2 < told || parts / 2 > told + kills;
    (void)fprintf(stderr,
                  "%.1f s: %llu transfers (%.0f a second), %llu refused, %llu kills, %llu audits, %llu glances\n",
                  seconds, (unsigned long long)told, (double)told / seconds, (unsigned long long)refused,
                  (unsigned long long)kills, (unsigned long long)books->audits[AUDITOR],
                  (unsigned long long)books->audits[ONLOOKER]);
    printf("the sum was %s whenever somebody looked, and is %s in the end\n",
           books->wrong ? "not the same" : "the same", sum == ACCOUNTS * START_CENTS ? "the same" : "another");
    printf("of the transfers that were done %s\n", lost ? "some are lost, or doubled" : "none is lost");
    int good = !books->wrong && !lost && kills > 0 && sum == ACCOUNTS * START_CENTS;
    return cove_close(segment) < 0 || !good;
}
