/* ops_counter.c - the kill table's scenarios of the counter, plain and spread over lines.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What was acknowledged is counted, and nothing twice: the value is what the others added, and of the victim's all
 * or nothing. Whoever sleeps until it is high enough comes by himself when it is; the second one adds what is
 * missing only where the victim did not get round to it. */
#include "hall.h"

#include <errno.h>

enum { AMOUNT = 5, LINES = 4 };
#define SPREAD_NAME "spread"

/* Written in ledger->number: what the second one added. */
enum { INSTEAD };

static cove_counter *spread(struct stage *stage)
{
    cove_counter *counter = NULL;
    struct cove_sync_options options = {.lines = LINES};
    must(stage, cove_counter_open_in(&counter, stage->segment, SPREAD_NAME, &options) >= 0,
         "opening the spread counter");
    return counter;
}

static void build_spread(struct stage *stage)
{
    (void)spread(stage);
}

/* The counter that a scenario is about. */
static void find_plain(struct stage *stage)
{
    stage->extra = &stage->hall->counter;
}

static void find_spread(struct stage *stage)
{
    stage->extra = spread(stage);
}

static int64_t value(struct stage *stage)
{
    int64_t now = INT64_MIN;
    must(stage, cove_counter_get(stage->segment, stage->extra, &now) == 0, "get");
    return now;
}

/* ---- the victim ----------------------------------------------------------------------------------------------- */

static void operate_add(struct stage *stage)
{
    int64_t now = 0;
    must(stage, cove_counter_add(stage->segment, stage->extra, AMOUNT, &now) == 0 && now == AMOUNT, "add");
    acknowledge(stage, 1);
}

static void operate_set(struct stage *stage)
{
    int64_t before = 77;
    must(stage, cove_counter_set(stage->segment, stage->extra, AMOUNT, &before) == 0 && before == 0, "set");
    acknowledge(stage, 1);
}

static void operate_wait_timeout(struct stage *stage)
{
    int got = cove_counter_wait(stage->segment, stage->extra, AMOUNT, NULL, 1000000);
    must(stage, got == -ETIMEDOUT, "wait for what nobody adds");
    acknowledge(stage, 1);
}

static void operate_change_timeout(struct stage *stage)
{
    int got = cove_counter_wait_change(stage->segment, stage->extra, 0, NULL, 1000000);
    must(stage, got == -ETIMEDOUT, "wait for a change that nobody makes");
    acknowledge(stage, 1);
}

/* ---- those who wait ------------------------------------------------------------------------------------------- */

static void sleep_until(struct stage *stage)
{
    int64_t now = 0;
    int got = cove_counter_wait(stage->segment, stage->extra, AMOUNT, &now, PATIENCE_NS * 2);
    if (must(stage, got == 0, "wait for a value") && now < AMOUNT)
        finding(stage, VERDICT_CORRUPT, "waited for %d and got %lld", AMOUNT, (long long)now);
}

static void sleep_change(struct stage *stage)
{
    int64_t now = 0;
    int got = cove_counter_wait_change(stage->segment, stage->extra, 0, &now, PATIENCE_NS * 2);
    if (must(stage, got == 0, "wait for a change") && now != AMOUNT)
        finding(stage, VERDICT_CORRUPT, "it changed to %lld, not to %d", (long long)now, AMOUNT);
}

/* Two threads; all are woken. */
static void sleep_both(struct stage *stage)
{
    struct companion other = {.stage = stage, .run = sleep_change};
    companion_start(&other);
    sleep_until(stage);
    companion_join(&other);
}

static void second_adds_instead(struct stage *stage)
{
    if (stage->ledger->acknowledged || value(stage) != 0)
        return;
    must(stage, cove_counter_add(stage->segment, stage->extra, AMOUNT, NULL) == 0, "add");
    stage->ledger->number[INSTEAD] = AMOUNT;
}

static void second_adds(struct stage *stage)
{
    must(stage, cove_counter_add(stage->segment, stage->extra, AMOUNT, NULL) == 0, "add");
    stage->ledger->number[INSTEAD] = AMOUNT;
}

/* By the victim or in its place, and never by both. */
static void verify_value(struct stage *stage)
{
    if (value(stage) != AMOUNT)
        finding(stage, value(stage) < AMOUNT ? VERDICT_LOST : VERDICT_CORRUPT, "the counter is at %lld, not at %d",
                (long long)value(stage), AMOUNT);
}

static void verify_plain(struct stage *stage)
{
    find_plain(stage);
    verify_value(stage);
}

static void verify_spread(struct stage *stage)
{
    find_spread(stage);
    verify_value(stage);
    must(stage, cove_counter_set(stage->segment, stage->extra, 0, NULL) == -EOPNOTSUPP, "setting a spread one");
}

#define PLAIN \
    .traits = IN_HALL | SLEEP_FIRST, .sleep_ready = find_plain, .second_ready = find_plain, .verify = verify_plain
#define SPREAD                                                                                                       \
    .traits = IN_HALL | SLEEP_FIRST, .build = build_spread, .sleep_ready = find_spread, .second_ready = find_spread, \
    .verify = verify_spread
#define INSTEAD_OF .second_part = SECOND_AFTER, .second = second_adds_instead
#define ADDS .second_part = SECOND_AFTER, .second = second_adds

const struct scenario ops_counter[] = {
    {.name = "counter add, two wait",
     .least = 62,
     .most = 570,
     PLAIN,
     .prepare = find_plain,
     .operate = operate_add,
     .sleep = sleep_both,
     INSTEAD_OF},
    {.name = "counter set, two wait",
     .least = 88,
     .most = 870,
     PLAIN,
     .prepare = find_plain,
     .operate = operate_set,
     .sleep = sleep_both,
     INSTEAD_OF},
    {.name = "counter wait, timed out, two wait",
     .least = 2300,
     .most = 21000,
     PLAIN,
     .prepare = find_plain,
     .operate = operate_wait_timeout,
     .sleep = sleep_both,
     ADDS},
    {.name = "counter wait for a change, timed out, two wait",
     .least = 2300,
     .most = 21000,
     PLAIN,
     .prepare = find_plain,
     .operate = operate_change_timeout,
     .sleep = sleep_both,
     ADDS},
    {.name = "spread counter add, two wait",
     .least = 130,
     .most = 1200,
     SPREAD,
     .prepare = find_spread,
     .operate = operate_add,
     .sleep = sleep_both,
     INSTEAD_OF},
    {.name = "spread counter wait, timed out, two wait",
     .least = 1300,
     .most = 11000,
     SPREAD,
     .prepare = find_spread,
     .operate = operate_wait_timeout,
     .sleep = sleep_both,
     ADDS},
    {0},
};
