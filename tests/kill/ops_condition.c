/* ops_condition.c - the kill table's scenarios of the condition, in and outside of transactions.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Goods are produced and consumed under a mutex: `ready` says how many there are. What is produced is consumed,
 * once, by somebody who may sleep when it is produced. Where the producer dies before the goods are there the
 * second one produces them; where it dies with the mutex the second one, told of that, signals as a user would.
 * Otherwise those who sleep must come by themselves. */
#include "hall.h"

#include <errno.h>

/* Written in ledger->number. */
enum { CONSUMED, INSTEAD, TOLD };

static void enter(struct stage *stage)
{
    take(stage, &stage->hall->lock);
}

static void leave(struct stage *stage)
{
    give(stage, &stage->hall->lock);
}

static int wait_a_while(struct stage *stage, int64_t timeout_ns)
{
    struct hall *hall = stage->hall;
    return cove_condition_wait(stage->segment, &hall->condition, &hall->lock, timeout_ns);
}

static void broadcast(struct stage *stage)
{
    must(stage, cove_condition_broadcast(stage->segment, &stage->hall->condition) == 0, "broadcast");
}

/* ---- consumers ------------------------------------------------------------------------------------------------ */

static void consume(struct stage *stage)
{
    struct hall *hall = stage->hall;
    enter(stage);
    while (hall->ready == 0)
        if (!must(stage, wait_a_while(stage, PATIENCE_NS * 2) >= 0, "wait"))
            break;
    pair_must_be_even(stage, &hall->goods, "goods");
    hall->ready--;
    stage->ledger->number[CONSUMED]++; /* under the lock */
    leave(stage);
}

static void consume_two(struct stage *stage)
{
    struct companion other = {.stage = stage, .run = consume};
    companion_start(&other);
    consume(stage);
    companion_join(&other);
}

/* In a transaction: the wait commits what was done before it. */
static void consume_in_transaction(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    enter(stage);
    while (hall->ready == 0)
        if (!must(stage, wait_a_while(stage, PATIENCE_NS * 2) > 0, "wait in a transaction"))
            break;
    pair_must_be_even(stage, &hall->goods, "goods");
    must(stage, cove_save(stage->segment, &hall->ready, sizeof hall->ready) == 0, "save");
    hall->ready--;
    stage->ledger->number[CONSUMED]++;
    must(stage, cove_commit(stage->segment) == 0, "commit");
}

/* ---- producers ------------------------------------------------------------------------------------------------ */

static void operate_signal(struct stage *stage)
{
    enter(stage);
    stage->hall->ready = 1;
    must(stage, cove_condition_signal(stage->segment, &stage->hall->condition) == 0, "signal");
    leave(stage);
    acknowledge(stage, 1);
}

/* The mutex is given back before: worse, and allowed. */
static void operate_signal_late(struct stage *stage)
{
    enter(stage);
    stage->hall->ready = 1;
    leave(stage);
    must(stage, cove_condition_signal(stage->segment, &stage->hall->condition) == 0, "signal");
    acknowledge(stage, 1);
}

/* For nothing: what others wait for comes later, with a signal of its own, which must not be lost by this one. */
static void operate_signal_nothing(struct stage *stage)
{
    must(stage, cove_condition_signal(stage->segment, &stage->hall->condition) == 0, "signal");
    acknowledge(stage, 1);
}

/* One has waited, and given up: the condition may still say that somebody waits. */
static void build_waited(struct stage *stage)
{
    enter(stage);
    must(stage, wait_a_while(stage, 1000000) == -ETIMEDOUT, "building: a wait");
    leave(stage);
}

static void operate_broadcast(struct stage *stage)
{
    enter(stage);
    stage->hall->ready = 2;
    broadcast(stage);
    leave(stage);
    acknowledge(stage, 1);
}

static void operate_in_transaction(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    enter(stage);
    must(stage, cove_save(stage->segment, &hall->ready, sizeof hall->ready) == 0, "save");
    hall->ready = 2;
    pair_change(stage, &hall->goods, 1);
    broadcast(stage);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

/* `count` are wanted. */
static void produce_instead(struct stage *stage, int64_t count)
{
    struct hall *hall = stage->hall;
    uint64_t *number = stage->ledger->number;
    int64_t missing = 0;
    int got = take(stage, &hall->lock);
    number[TOLD] = got == COVE_RECOVERED;
    if (hall->ready == 0 && number[CONSUMED] == 0)
        missing = hall->ready = count;
    number[INSTEAD] = (uint64_t)missing;
    if (missing != 0 || got == COVE_RECOVERED ||
        (stage->scenario->operate == operate_signal_late && !stage->ledger->acknowledged))
        broadcast(stage);
    leave(stage);
}

static void second_produces_one(struct stage *stage)
{
    produce_instead(stage, 1);
}

static void second_produces_two(struct stage *stage)
{
    produce_instead(stage, 2);
}

static void verify_consumed(struct stage *stage, uint64_t wanted)
{
    const struct hall *hall = stage->hall;
    const uint64_t *number = stage->ledger->number;
    if (number[CONSUMED] != wanted || hall->ready != 0)
        finding(stage, VERDICT_LOST, "%llu were consumed, %lld are left", (unsigned long long)number[CONSUMED],
                (long long)hall->ready);
    if (stage->ledger->acknowledged && number[INSTEAD] != 0)
        finding(stage, VERDICT_LOST, "what was produced was not there");
}

static void verify_one(struct stage *stage)
{
    verify_consumed(stage, 1);
}

static void verify_two(struct stage *stage)
{
    verify_consumed(stage, 2);
}

static void verify_transaction(struct stage *stage)
{
    verify_two(stage);
    if ((stage->ledger->number[INSTEAD] == 0) != (stage->hall->goods.left == 1))
        finding(stage, VERDICT_CORRUPT, "%s was changed with what was produced",
                stage->hall->goods.left == 1 ? "more" : "less");
}

/* ---- a waiter that is killed ---------------------------------------------------------------------------------- */

static void operate_wait(struct stage *stage)
{
    enter(stage);
    must(stage, wait_a_while(stage, 1000000) == -ETIMEDOUT, "a wait that nobody ends");
    acknowledge(stage, 1);
    leave(stage);
    acknowledge(stage, 2);
}

/* The wait makes final what was changed before it, at both levels; afterwards there are two levels as before. */
static void operate_wait_in_transaction(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_begin(stage->segment) == 0 && cove_begin(stage->segment) == 0, "begin");
    enter(stage);
    pair_change(stage, &hall->goods, 1);
    must(stage, wait_a_while(stage, 1000000) == -ETIMEDOUT, "a wait that nobody ends");
    acknowledge(stage, 1);
    pair_change(stage, &hall->goods, 1);
    must(stage, cove_commit(stage->segment) == 0, "inner commit");
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 2);
}

/* The mutex was locked before the transaction began, and stays so. */
static void operate_wait_locked_before(struct stage *stage)
{
    struct hall *hall = stage->hall;
    enter(stage);
    must(stage, cove_begin(stage->segment) == 0, "begin");
    pair_change(stage, &hall->goods, 1);
    must(stage, wait_a_while(stage, 1000000) == -ETIMEDOUT, "a wait that nobody ends");
    acknowledge(stage, 1);
    pair_change(stage, &hall->goods, 1);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 2);
    leave(stage);
}

/* One signal, and the victim is dead: it must reach the one that lives. */
static void second_produces(struct stage *stage)
{
    enter(stage);
    stage->hall->ready = 1;
    must(stage, cove_condition_signal(stage->segment, &stage->hall->condition) == 0, "signal");
    leave(stage);
}

static void verify_wait(struct stage *stage)
{
    int64_t left = stage->hall->goods.left, told = stage->ledger->acknowledged;
    int changes = stage->scenario->operate == operate_wait_in_transaction ||
                  stage->scenario->operate == operate_wait_locked_before;
    verify_one(stage);
    if (changes && left < told)
        finding(stage, VERDICT_LOST, "%lld changes stand, %lld were made final", (long long)left, (long long)told);
    if (left > (changes ? told + 1 : 0))
        finding(stage, VERDICT_CORRUPT, "%lld changes stand, after %lld", (long long)left, (long long)told);
}

const struct scenario ops_condition[] = {
    {.name = "condition signal, one waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 120,
     .most = 1100,
     .operate = operate_signal,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces_one,
     .verify = verify_one},
    {.name = "condition signal after the unlock, one waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 120,
     .most = 1100,
     .operate = operate_signal_late,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces_one,
     .verify = verify_one},
    {.name = "condition signal, nobody waits yet",
     .traits = IN_HALL,
     .least = 87,
     .most = 800,
     .operate = operate_signal,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces_one,
     .verify = verify_one},
    {.name = "condition signal for nothing, one waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 71,
     .most = 690,
     .operate = operate_signal_nothing,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces,
     .verify = verify_wait},
    {.name = "condition signal for nothing, one comes",
     .traits = IN_HALL,
     .least = 71,
     .most = 690,
     .build = build_waited,
     .operate = operate_signal_nothing,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces,
     .verify = verify_wait},
    {.name = "condition broadcast, two wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 100,
     .most = 1000,
     .operate = operate_broadcast,
     .sleep = consume_two,
     .second_part = SECOND_AFTER,
     .second = second_produces_two,
     .verify = verify_two},
    {.name = "condition broadcast in a transaction",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 240,
     .most = 2100,
     .operate = operate_in_transaction,
     .sleep = consume_two,
     .second_part = SECOND_AFTER,
     .second = second_produces_two,
     .verify = verify_transaction},
    {.name = "condition signal, a transaction waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 120,
     .most = 1100,
     .operate = operate_signal,
     .sleep = consume_in_transaction,
     .second_part = SECOND_AFTER,
     .second = second_produces_one,
     .verify = verify_one},
    {.name = "condition wait, timed out, another waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 1700,
     .most = 15000,
     .operate = operate_wait,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces,
     .verify = verify_wait},
    {.name = "condition wait, timed out, nobody else waits",
     .traits = IN_HALL,
     .least = 1700,
     .most = 15000,
     .operate = operate_wait,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces,
     .verify = verify_wait},
    {.name = "condition wait in a transaction of two levels",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 2000,
     .most = 18000,
     .operate = operate_wait_in_transaction,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces,
     .verify = verify_wait},
    {.name = "condition wait in a transaction, locked before",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 2000,
     .most = 18000,
     .operate = operate_wait_locked_before,
     .sleep = consume,
     .second_part = SECOND_AFTER,
     .second = second_produces,
     .verify = verify_wait},
    {0},
};
