/* ops_fair.c - the kill table's scenarios of fair mutexes, interrupted waits, and locks whose holder is dead.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Who is served is written down under the lock. Those who wait are served in the order in which they came; one that
 * passes another may do so only after that one let a free lock lie for 10 ms (cove/mutex.h: nobody passes those who
 * wait). */
#include "hall.h"
#include "stepper.h"

#include <errno.h>
#include <unistd.h>

#define PASS_NS INT64_C(9000000) /* whoever passed another sooner than this after the death has jumped the queue */

/* Those who wait, in the order in which they come; places in ledger->number. */
enum { SERVED_COUNT, SERVED_FIRST, SERVED_SECOND, SERVED_THIRD, SERVED_NS = 4 };

/* ---- one lock ------------------------------------------------------------------------------------------------- */

static void lock_fair(struct stage *stage)
{
    take(stage, &stage->hall->fair);
}

static void unlock_fair(struct stage *stage)
{
    give(stage, &stage->hall->fair);
}

static void operate_lock(struct stage *stage)
{
    lock_fair(stage);
    pair_must_be_even(stage, &stage->hall->turns, "turns");
    acknowledge(stage, 1);
}

static void operate_unlock(struct stage *stage)
{
    unlock_fair(stage);
    acknowledge(stage, 1);
}

/* Takes the lock and writes down when. Who is first is told of the victim's death; nobody else is. */
static int be_served(struct stage *stage, int who)
{
    struct ledger *ledger = stage->ledger;
    int got = take(stage, &stage->hall->fair);
    ledger->number[who] = ++ledger->number[SERVED_COUNT];
    ledger->number[SERVED_NS + who] = (uint64_t)stepper_now_ns();
    pair_must_be_even(stage, &stage->hall->turns, "turns");
    if (got == COVE_RECOVERED && ledger->number[who] != 1)
        finding(stage, VERDICT_CORRUPT, "was told of a recovery, though another had the lock since");
    stage->hall->turns.left += 100; /* nobody else may see that */
    linger(stage);
    stage->hall->turns.left -= 100;
    give(stage, &stage->hall->fair);
    return got;
}

static void sleep_first(struct stage *stage)
{
    stage->ledger->result[ROLE_SLEEPER] = be_served(stage, SERVED_FIRST);
}

static void sleep_second(struct stage *stage)
{
    (void)be_served(stage, SERVED_SECOND);
}

static void sleep_third(struct stage *stage)
{
    (void)be_served(stage, SERVED_THIRD);
}

/* Two threads, one behind the other. */
static void sleep_two(struct stage *stage)
{
    struct companion before = {.stage = stage, .run = sleep_second};
    companion_start(&before);
    sleep_third(stage);
    companion_join(&before);
}

static void told_of_recovery(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (ledger->killed && ledger->acknowledged == 1 && ledger->number[SERVED_FIRST] == 1 &&
        ledger->result[ROLE_SLEEPER] != COVE_RECOVERED)
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

static void verify_order(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    const uint64_t *number = ledger->number;
    for (int behind = SERVED_SECOND; behind <= SERVED_THIRD; behind++)
        for (int before = SERVED_FIRST; before < behind; before++)
            if (number[behind] != 0 && number[behind] < number[before] &&
                (int64_t)number[SERVED_NS + behind] - ledger->struck_ns < PASS_NS)
                finding(stage, VERDICT_CORRUPT, "who came as number %d was served before number %d, after %lld us",
                        behind, before, (long long)((int64_t)number[SERVED_NS + behind] - ledger->struck_ns) / 1000);
}

/* ---- one that gives up waiting -------------------------------------------------------------------------------- */

/* The middle one holds carol's lock all the while, which is a fair one here. */
static void build_fair_carol(struct stage *stage)
{
    stage->carol->lock = (cove_mutex)COVE_MUTEX_FAIR;
}

static void operate_timeout(struct stage *stage)
{
    int got = cove_mutex_lock(stage->segment, &stage->carol->lock, 1000000);
    must(stage, got == -ETIMEDOUT, "a fair lock that is held elsewhere");
    acknowledge(stage, 1);
}

static void wait_for_carol(struct stage *stage, int who)
{
    int got = take(stage, &stage->carol->lock);
    stage->ledger->number[who] = ++stage->ledger->number[SERVED_COUNT];
    stage->ledger->number[SERVED_NS + who] = (uint64_t)stepper_now_ns();
    if (got != 0)
        finding(stage, VERDICT_CORRUPT, "was told %d by a lock whose holder lives", got);
    give(stage, &stage->carol->lock);
}

static void sleep_carol(struct stage *stage)
{
    wait_for_carol(stage, SERVED_FIRST);
}

static void second_carol(struct stage *stage)
{
    wait_for_carol(stage, SERVED_SECOND);
}

/* The second one waits, and dies: it is the first in the queue, and nobody's turn must end with it. */
static void wait_in_vain(struct stage *stage)
{
    must(stage, cove_mutex_lock(stage->segment, &stage->carol->lock, COVE_FOREVER) < 0, "waiting for what is held");
}

static void queue_up(struct stage *stage)
{
    static struct companion first;
    first = (struct companion){.stage = stage, .run = wait_in_vain};
    companion_start(&first);
}

static void verify_carol(struct stage *stage)
{
    verify_order(stage);
    if (must(stage, cove_mutex_lock(stage->segment, &stage->carol->lock, COVE_NOWAIT) == 0,
             "a fair lock that nobody holds and nobody waits for"))
        give(stage, &stage->carol->lock);
}

/* ---- interrupted ---------------------------------------------------------------------------------------------- */

struct interrupter {
    pthread_t thread;
    int tid;
    _Atomic int done;
};

static struct interrupter interrupter; /* the victim's */

static void *interrupt(void *argument)
{
    (void)argument;
    await_stepped_asleep(interrupter.tid, &interrupter.done);
    cove_interrupt();
    return NULL;
}

/* A thread that runs freely interrupts the one that is stepped as soon as that sleeps. */
static void prepare_interrupt(struct stage *stage)
{
    interrupter.tid = (int)getpid();
    must(stage, pthread_create(&interrupter.thread, NULL, interrupt, NULL) == 0, "a thread");
}

static void operate_interrupted(struct stage *stage)
{
    int got = cove_mutex_lock(stage->segment, &stage->carol->lock, PATIENCE_NS);
    must(stage, got == -EINTR, "a wait that is interrupted");
    acknowledge(stage, 1);
}

static void after_interrupt(struct stage *stage)
{
    (void)stage;
    atomic_store(&interrupter.done, 1);
    pthread_join(interrupter.thread, NULL);
}

/* ---- a dead holder -------------------------------------------------------------------------------------------- */

static void hold_fair(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock_fair(stage);
    pair_change(stage, &stage->hall->turns, 1);
    must(stage, cove_save(stage->segment, &stage->hall->turns, sizeof stage->hall->turns) == 0, "save");
    stage->hall->turns.left = 77;
}

static void hold_alice(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    take(stage, &stage->alice->lock);
    must(stage, cove_save(stage->segment, &stage->alice->cents, sizeof stage->alice->cents) == 0, "save");
    stage->alice->cents -= 77;
}

/* The victim waits for a lock that a dead one holds, recovers that one, and goes on. */
static void operate_lock_of_dead(struct stage *stage)
{
    int got = take(stage, &stage->hall->fair);
    must(stage, got == COVE_RECOVERED || (stage->ledger->stands && got == 0), "being told of the holder's death");
    if (stage->hall->turns.left != 0 || stage->hall->turns.right != 0)
        finding(stage, VERDICT_CORRUPT, "what the dead one had saved is not put back");
    acknowledge(stage, 1);
}

static void operate_lock_alice_of_dead(struct stage *stage)
{
    int got = take(stage, &stage->alice->lock);
    must(stage, got == COVE_RECOVERED || (stage->ledger->stands && got == 0), "being told of the holder's death");
    if (stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "what the dead one had saved is not put back");
    acknowledge(stage, 1);
}

static void unlock_alice(struct stage *stage)
{
    give(stage, &stage->alice->lock);
}

/* Whether the victim had the lock or not, one of the two died with it. */
static void must_be_told(struct stage *stage, int got)
{
    stage->ledger->result[ROLE_SLEEPER] = got;
    if (stage->ledger->killed && got != COVE_RECOVERED)
        finding(stage, VERDICT_LOST, "two holders died one after the other, and who came then was told %d", got);
}

static void sleep_alice(struct stage *stage)
{
    int got = take(stage, &stage->alice->lock);
    if (stage->alice->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "under the lock, alice has %lld cents", (long long)stage->alice->cents);
    must_be_told(stage, got);
    give(stage, &stage->alice->lock);
}

static void sleep_after_two(struct stage *stage)
{
    must_be_told(stage, be_served(stage, SERVED_FIRST));
}

/* ---- a transaction -------------------------------------------------------------------------------------------- */

static void prepare_transaction(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock_fair(stage);
}

static void operate_transaction(struct stage *stage)
{
    pair_change(stage, &stage->hall->turns, 1);
    unlock_fair(stage); /* stays held: the journal is not empty */
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void verify_transaction(struct stage *stage)
{
    verify_order(stage);
    if (stage->ledger->acknowledged && stage->hall->turns.left != 1)
        finding(stage, VERDICT_LOST, "an acknowledged change is undone");
}

#define THREE_WAIT \
    .traits = IN_HALL | SLEEP_FIRST, .sleep = sleep_first, .second_part = SECOND_BEHIND, .second = sleep_two

const struct scenario ops_fair[] = {
    {.name = "fair lock",
     .traits = IN_HALL,
     .least = 160,
     .most = 1500,
     .operate = operate_lock,
     .after = unlock_fair,
     .sleep = sleep_first,
     .sleep_after = told_of_recovery,
     .second_part = SECOND_BEHIND,
     .second = sleep_two,
     .verify = verify_order},
    {.name = "fair unlock",
     .traits = IN_HALL,
     .least = 29,
     .most = 270,
     .prepare = lock_fair,
     .operate = operate_unlock,
     .sleep = sleep_first,
     .sleep_after = not_told_of_recovery,
     .verify = verify_order},
    {.name = "fair unlock, one waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 130,
     .most = 1200,
     .prepare = lock_fair,
     .operate = operate_unlock,
     .sleep = sleep_first,
     .sleep_after = not_told_of_recovery,
     .verify = verify_order},
    {.name = "fair unlock, three wait",
     .least = 170,
     .most = 1500,
     THREE_WAIT,
     .prepare = lock_fair,
     .operate = operate_unlock,
     .sleep_after = not_told_of_recovery,
     .verify = verify_order},
    {.name = "fair unlock, the first of two is stopped",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 150,
     .most = 1400,
     .prepare = lock_fair,
     .operate = operate_unlock,
     .sleep = sleep_first,
     .sleep_after = not_told_of_recovery,
     .second_part = SECOND_STOPPED,
     .second = sleep_second},
    {.name = "fair transaction, three wait",
     .least = 320,
     .most = 2900,
     THREE_WAIT,
     .prepare = prepare_transaction,
     .operate = operate_transaction,
     .verify = verify_transaction},
    {.name = "fair lock, timed out, others wait",
     .traits = IN_HALL | SLEEP_FIRST | MIDDLE_HOLDS,
     .least = 2200,
     .most = 20000,
     .build = build_fair_carol,
     .operate = operate_timeout,
     .sleep = sleep_carol,
     .second_part = SECOND_AT_POINT,
     .second = second_carol,
     .verify = verify_carol},
    {.name = "fair lock, the first in the queue is dead",
     .traits = IN_HALL | MIDDLE_HOLDS,
     .least = 2200,
     .most = 20000,
     .build = build_fair_carol,
     .operate = operate_timeout,
     .sleep = sleep_carol,
     .second_part = SECOND_DIES,
     .second_ready = queue_up,
     .verify = verify_carol},
    {.name = "fair lock, timed out, nobody else",
     .traits = IN_HALL,
     .least = 2200,
     .most = 20000,
     .build = build_fair_carol,
     .operate = operate_timeout,
     .verify = verify_carol},
    {.name = "fair lock, interrupted",
     .traits = IN_HALL | SLEEP_FIRST | MIDDLE_HOLDS,
     .least = 1900,
     .most = 18000,
     .build = build_fair_carol,
     .prepare = prepare_interrupt,
     .operate = operate_interrupted,
     .after = after_interrupt,
     .sleep = sleep_carol,
     .second_part = SECOND_AT_POINT,
     .second = second_carol,
     .verify = verify_carol},
    {.name = "mutex lock, interrupted",
     .traits = IN_HALL | MIDDLE_HOLDS,
     .least = 2200,
     .most = 25000,
     .prepare = prepare_interrupt,
     .operate = operate_interrupted,
     .after = after_interrupt,
     .sleep = sleep_carol},
    {.name = "fair lock, its holder dead",
     .traits = IN_HALL,
     .least = 3700,
     .most = 35000,
     .operate = operate_lock_of_dead,
     .after = unlock_fair,
     .sleep = sleep_after_two,
     .second_part = SECOND_DIES,
     .second_ready = hold_fair},
    {.name = "fair lock, its holder dead, nobody else",
     .traits = IN_HALL,
     .least = 3800,
     .most = 35000,
     .operate = operate_lock_of_dead,
     .after = unlock_fair,
     .second_part = SECOND_DIES,
     .second_ready = hold_fair},
    {.name = "mutex lock, its holder dead",
     .traits = IN_HALL,
     .least = 4400,
     .most = 46000,
     .operate = operate_lock_alice_of_dead,
     .after = unlock_alice,
     .sleep = sleep_alice,
     .second_part = SECOND_DIES,
     .second_ready = hold_alice},
    {0},
};
