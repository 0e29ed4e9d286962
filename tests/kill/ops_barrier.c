/* ops_barrier.c - the kill table's scenarios of the barrier: rounds, deaths, newcomers.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Two parties. The sleeper does a round with the victim if the victim gets that far, is told COVE_EPEER once if the
 * victim dies as a party, makes the barrier whole, and must then complete a round with the second one, a newcomer.
 * Nobody goes on as if all had come when they had not: of each round that was completed exactly two know, and one
 * of them led it. */
#include "hall.h"

#include <errno.h>

enum { PARTIES = 2 };
#define SHORT_NS INT64_C(1000000)
#define ACCOMPANY_NS INT64_C(4000000)

/* Written in ledger->number. */
enum { COMPLETED, LED, TOLD, FIRST_WAS_TOLD, SLEEPER_DONE, VICTIM_LED };

static int arrive(struct stage *stage, int64_t timeout_ns)
{
    return cove_barrier_wait(stage->segment, &stage->hall->barrier, PARTIES, timeout_ns);
}

static void leave(struct stage *stage)
{
    must(stage, cove_barrier_leave(stage->segment, &stage->hall->barrier) == 0, "leave");
}

static void reset(struct stage *stage)
{
    must(stage, cove_barrier_reset(stage->segment, &stage->hall->barrier) == 0, "reset");
}

/* A party from now on, that has not come. */
static void join(struct stage *stage)
{
    must(stage, arrive(stage, SHORT_NS) == -ETIMEDOUT, "joining");
}

static void add(struct stage *stage, int which)
{
    __atomic_add_fetch(&stage->ledger->number[which], 1, __ATOMIC_SEQ_CST);
}

/* A survivor's wait: counts what came of it, and makes a broken barrier whole. */
static int arrive_and_count(struct stage *stage, int64_t timeout_ns)
{
    int got = arrive(stage, timeout_ns);
    if (got >= 0)
        add(stage, COMPLETED);
    if (got == COVE_LEADER)
        add(stage, LED);
    if (got == COVE_EPEER)
        reset(stage);
    return got;
}

/* ---- the sleeper and the second one --------------------------------------------------------------------------- */

static void sleep_rounds(struct stage *stage)
{
    uint64_t *number = stage->ledger->number;
    for (int completed = 0, round = 0; completed < 2 && round < 8; round++) {
        int got = arrive_and_count(stage, PATIENCE_NS * 2);
        if (!must(stage, got >= 0 || got == COVE_EPEER, "a round"))
            break;
        number[TOLD] += got == COVE_EPEER;
        number[FIRST_WAS_TOLD] |= round == 0 && got == COVE_EPEER;
        completed += got >= 0 || round == 0; /* the first with the victim, or in vain */
    }
    leave(stage);
    __atomic_store_n(&number[SLEEPER_DONE], 1, __ATOMIC_SEQ_CST);
}

/* Comes and gives up, comes again, until the sleeper has what it wants. */
static void second_accompanies(struct stage *stage)
{
    while (!__atomic_load_n(&stage->ledger->number[SLEEPER_DONE], __ATOMIC_SEQ_CST)) {
        int got = arrive_and_count(stage, ACCOMPANY_NS);
        if (!must(stage, got >= 0 || got == COVE_EPEER || got == -ETIMEDOUT, "a round"))
            break;
    }
    leave(stage);
}

/* ---- the victim ----------------------------------------------------------------------------------------------- */

static void operate_last(struct stage *stage)
{
    int got = arrive(stage, PATIENCE_NS);
    must(stage, got >= 0, "the last to come");
    stage->ledger->number[VICTIM_LED] = got == COVE_LEADER;
    acknowledge(stage, 1);
}

static void operate_not_last(struct stage *stage)
{
    int got = arrive(stage, SHORT_NS);
    must(stage, got == -ETIMEDOUT || (stage->ledger->stands && got >= 0), "waiting alone");
    acknowledge(stage, 1);
}

static void operate_leave(struct stage *stage)
{
    leave(stage);
    acknowledge(stage, 1);
}

static void operate_close(struct stage *stage)
{
    must(stage, cove_close(stage->segment) == 0, "closing");
    stage->segment = NULL;
    acknowledge(stage, 1);
}

static void operate_nothing(struct stage *stage)
{
    (void)stage; /* the end of the thread is the operation */
}

/* ---- afterwards ----------------------------------------------------------------------------------------------- */

static void verify_rounds(struct stage *stage, uint64_t completed, uint64_t led)
{
    if (completed != 2 * led)
        finding(stage, VERDICT_CORRUPT, "%llu know of a completed round, and %llu led one",
                (unsigned long long)completed, (unsigned long long)led);
}

/* The next to come finds it whole: all are gone. */
static void verify_whole(struct stage *stage)
{
    must(stage, arrive(stage, SHORT_NS) == -ETIMEDOUT, "a barrier that all have left");
    leave(stage);
}

static void verify_last(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    const uint64_t *number = ledger->number;
    if (ledger->acknowledged)
        verify_rounds(stage, number[COMPLETED] + 1, number[LED] + number[VICTIM_LED]);
    else if (number[COMPLETED] % 2 == 0) /* the victim did not complete it */
        verify_rounds(stage, number[COMPLETED], number[LED]);
    else if (number[LED] != number[COMPLETED] / 2 && number[LED] != number[COMPLETED] / 2 + 1)
        verify_rounds(stage, number[COMPLETED] + 1, number[LED]);
    if (ledger->acknowledged && number[FIRST_WAS_TOLD])
        finding(stage, VERDICT_CORRUPT, "the round was completed, and a party was told that it was broken");
    int died_a_party = ledger->killed && (ledger->acknowledged || stage->scenario->prepare == join);
    if (number[TOLD] > 1 || (died_a_party && number[TOLD] != 1))
        finding(stage, VERDICT_LOST, "was told %llu times of one death", (unsigned long long)number[TOLD]);
    verify_whole(stage);
}

static void verify_left(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    verify_rounds(stage, ledger->number[COMPLETED], ledger->number[LED]);
    if (ledger->acknowledged && ledger->number[TOLD] != 0)
        finding(stage, VERDICT_CORRUPT, "one that had left died, and a party was told that it was broken");
    verify_whole(stage);
}

static void verify_broken(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    verify_rounds(stage, ledger->number[COMPLETED], ledger->number[LED]);
    if (ledger->number[TOLD] != 1)
        finding(stage, VERDICT_LOST, "was told %llu times of one death", (unsigned long long)ledger->number[TOLD]);
    verify_whole(stage);
}

/* ---- a newcomer in a dead one's place ------------------------------------------------------------------------- */

/* The sleeper was a party with the second one, which is dead. */
static void prepare_newcomer(struct stage *stage)
{
    must(stage, arrive(stage, PATIENCE_NS) == COVE_EPEER, "coming to a broken barrier");
}

static void prepare_newcomer_reset(struct stage *stage)
{
    prepare_newcomer(stage);
    reset(stage);
}

static void operate_reset(struct stage *stage)
{
    reset(stage);
    acknowledge(stage, 1);
}

/* With the victim, if it gets that far: its death, as a party, ends the wait. */
static void sleep_with_newcomer(struct stage *stage)
{
    int got = arrive_and_count(stage, PATIENCE_NS * 2);
    if (got != COVE_EPEER)
        finding(stage, VERDICT_LOST, "a party died, and the other was told %d", got);
    got = arrive_and_count(stage, stage->ledger->whole ? SHORT_NS : PATIENCE_NS * 2);
    stage->ledger->number[FIRST_WAS_TOLD] = got == COVE_EPEER;
    leave(stage);
}

static void verify_newcomer(struct stage *stage)
{
    const uint64_t *number = stage->ledger->number;
    if (stage->ledger->acknowledged &&
        (number[COMPLETED] != 1 || number[LED] + number[VICTIM_LED] != 1 || number[FIRST_WAS_TOLD]))
        finding(stage, VERDICT_LOST, "the newcomer completed a round, and the other did not");
    verify_whole(stage);
}

/* Nobody comes to the barrier that was reset: each death is told, and nothing hangs. */
static void sleep_alone(struct stage *stage)
{
    int told = 0, got = 0;
    for (int round = 0; round < 8 && (got = arrive_and_count(stage, SHORT_NS)) == COVE_EPEER; round++)
        told++;
    must(stage, got == -ETIMEDOUT, "a barrier to which nobody else comes");
    if (told < 1)
        finding(stage, VERDICT_LOST, "was not told of a party's death");
    leave(stage);
}

#define ACCOMPANIED .sleep = sleep_rounds, .second_part = SECOND_AFTER, .second = second_accompanies
#define OF_A_DEAD_PAIR .sleep_ready = join, .second_part = SECOND_DEAD, .second_ready = join

const struct scenario ops_barrier[] = {
    {.name = "barrier wait, the last to come",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 950,
     .most = 9200,
     .operate = operate_last,
     .after = leave,
     ACCOMPANIED,
     .verify = verify_last},
    {.name = "barrier wait, a party before, the last to come",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 220,
     .most = 2200,
     .prepare = join,
     .operate = operate_last,
     .after = leave,
     ACCOMPANIED,
     .verify = verify_last},
    {.name = "barrier wait, not the last, timed out",
     .traits = IN_HALL,
     .least = 1800,
     .most = 16000,
     .operate = operate_not_last,
     .after = leave,
     ACCOMPANIED},
    {.name = "barrier left, another waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 200,
     .most = 2000,
     .prepare = join,
     .operate = operate_leave,
     ACCOMPANIED,
     .verify = verify_left},
    {.name = "barrier left by closing, another waits",
     .traits = IN_HALL | SLEEP_FIRST | EVERY_POINT,
     .least = 1600,
     .most = 15000,
     .prepare = join,
     .operate = operate_close,
     ACCOMPANIED,
     .verify = verify_left},
    {.name = "barrier, a party's thread ends",
     .traits = IN_HALL | SLEEP_FIRST | THREADED,
     .least = 450,
     .most = 4100,
     .prepare = join,
     .operate = operate_nothing,
     ACCOMPANIED,
     .verify = verify_broken},
    {.name = "barrier reset",
     .traits = IN_HALL,
     .least = 570,
     .most = 5400,
     .prepare = prepare_newcomer,
     .operate = operate_reset,
     .after = leave,
     .sleep = sleep_alone,
     OF_A_DEAD_PAIR,
     .verify = verify_whole},
    {.name = "barrier wait, in a dead one's place",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 220,
     .most = 2200,
     .prepare = prepare_newcomer_reset,
     .operate = operate_last,
     .after = leave,
     .sleep = sleep_with_newcomer,
     OF_A_DEAD_PAIR,
     .verify = verify_newcomer},
    {0},
};
