/* ops_event.c - the kill table's scenarios of the event: set, reset, waited for.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The version counts the sets: in the end it is what was acknowledged, or one more. Whoever sleeps comes back when
 * it was set, by himself: the second one sets it only where the victim did not get round to it. */
#include "hall.h"

#include <errno.h>

static cove_event *event(struct stage *stage)
{
    return &stage->hall->event;
}

static void set(struct stage *stage)
{
    must(stage, cove_event_set(stage->segment, event(stage)) == 0, "set");
}

static void reset(struct stage *stage)
{
    must(stage, cove_event_reset(stage->segment, event(stage)) == 0, "reset");
}

static void look(struct stage *stage, uint64_t *version, int *is_set)
{
    must(stage, cove_event_look(stage->segment, event(stage), version, is_set) == 0, "look");
}

/* ---- the victim ----------------------------------------------------------------------------------------------- */

static void operate_set(struct stage *stage)
{
    set(stage);
    acknowledge(stage, 1);
}

static void operate_reset(struct stage *stage)
{
    reset(stage);
    acknowledge(stage, 1);
}

/* Set and reset at once: who waits must not miss it. */
static void operate_pulse(struct stage *stage)
{
    set(stage);
    acknowledge(stage, 1);
    reset(stage);
    acknowledge(stage, 2);
}

static void operate_wait(struct stage *stage)
{
    must(stage, cove_event_wait(stage->segment, event(stage), PATIENCE_NS) == 0, "wait for what is set");
    acknowledge(stage, 1);
}

static void operate_wait_timeout(struct stage *stage)
{
    must(stage, cove_event_wait(stage->segment, event(stage), 1000000) == -ETIMEDOUT, "wait for what nobody sets");
    acknowledge(stage, 1);
}

static void operate_beyond_timeout(struct stage *stage)
{
    uint64_t now = 77;
    int got = cove_event_wait_beyond(stage->segment, event(stage), 1, &now, 1000000);
    must(stage, got == -ETIMEDOUT && now == 77, "wait for the version that comes next");
    acknowledge(stage, 1);
}

/* ---- those who wait ------------------------------------------------------------------------------------------- */

static void sleep_wait(struct stage *stage)
{
    must(stage, cove_event_wait(stage->segment, event(stage), PATIENCE_NS * 2) == 0, "wait");
}

static void sleep_beyond(struct stage *stage)
{
    uint64_t now = 0;
    int got = cove_event_wait_beyond(stage->segment, event(stage), 0, &now, PATIENCE_NS * 2);
    if (must(stage, got == 0, "wait for the first version") && now == 0)
        finding(stage, VERDICT_CORRUPT, "waited beyond version 0 and was told of version 0");
}

static void sleep_beyond_one(struct stage *stage)
{
    uint64_t now = 0;
    int got = cove_event_wait_beyond(stage->segment, event(stage), 1, &now, PATIENCE_NS * 2);
    must(stage, got == 0 && now == 2, "wait for the second version");
}

/* Two threads: a set wakes all. */
static void sleep_both(struct stage *stage)
{
    struct companion other = {.stage = stage, .run = sleep_beyond};
    companion_start(&other);
    sleep_wait(stage);
    companion_join(&other);
}

enum { SET_INSTEAD = 0 };

static void second_sets_instead(struct stage *stage)
{
    uint64_t version = 0;
    look(stage, &version, NULL);
    if (stage->ledger->acknowledged || version != 0)
        return;
    set(stage);
    stage->ledger->number[SET_INSTEAD] = 1;
}

static void second_sets(struct stage *stage)
{
    set(stage);
    stage->ledger->number[SET_INSTEAD] = 1;
}

/* ---- afterwards ----------------------------------------------------------------------------------------------- */

static void verify_set(struct stage *stage)
{
    uint64_t version = 0;
    int is_set = 0;
    look(stage, &version, &is_set);
    if (version != 1 || !is_set) /* by the victim, or in its place */
        finding(stage, version < 1 ? VERDICT_LOST : VERDICT_CORRUPT, "version %llu, %sset", (unsigned long long)version,
                is_set ? "" : "un");
}

static void verify_pulse(struct stage *stage)
{
    uint64_t version = 0;
    int is_set = 0;
    look(stage, &version, &is_set);
    if (version != 1)
        finding(stage, VERDICT_LOST, "version %llu", (unsigned long long)version);
    if (stage->ledger->acknowledged == 2 && is_set)
        finding(stage, VERDICT_LOST, "an acknowledged reset is undone");
}

static void verify_reset(struct stage *stage)
{
    uint64_t version = 0;
    int is_set = 0;
    look(stage, &version, &is_set);
    if (version != 1)
        finding(stage, VERDICT_CORRUPT, "a reset made it version %llu", (unsigned long long)version);
    if (stage->ledger->acknowledged && is_set)
        finding(stage, VERDICT_LOST, "an acknowledged reset is undone");
}

static void verify_second_version(struct stage *stage)
{
    uint64_t version = 0;
    look(stage, &version, NULL);
    if (version != 2)
        finding(stage, VERDICT_LOST, "version %llu", (unsigned long long)version);
}

#define INSTEAD .second_part = SECOND_AFTER, .second = second_sets_instead

const struct scenario ops_event[] = {
    {.name = "event set",
     .traits = IN_HALL,
     .least = 49,
     .most = 500,
     .operate = operate_set,
     .sleep = sleep_wait,
     INSTEAD,
     .verify = verify_set},
    {.name = "event set, two wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 72,
     .most = 700,
     .operate = operate_set,
     .sleep = sleep_both,
     INSTEAD,
     .verify = verify_set},
    {.name = "event set and reset, two wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 110,
     .most = 1100,
     .operate = operate_pulse,
     .sleep = sleep_both,
     INSTEAD,
     .verify = verify_pulse},
    {.name = "event reset",
     .traits = IN_HALL,
     .least = 43,
     .most = 420,
     .build = set,
     .operate = operate_reset,
     .sleep = sleep_beyond,
     .verify = verify_reset},
    {.name = "event wait",
     .traits = IN_HALL,
     .least = 37,
     .most = 330,
     .build = set,
     .operate = operate_wait,
     .sleep = sleep_beyond,
     .verify = verify_set},
    {.name = "event wait, timed out, another waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 2300,
     .most = 21000,
     .operate = operate_wait_timeout,
     .sleep = sleep_wait,
     .second_part = SECOND_AFTER,
     .second = second_sets,
     .verify = verify_set},
    {.name = "event wait beyond, timed out, another waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 2200,
     .most = 20000,
     .build = set,
     .operate = operate_beyond_timeout,
     .sleep = sleep_beyond_one,
     .second_part = SECOND_AFTER,
     .second = second_sets,
     .verify = verify_second_version},
    {0},
};
