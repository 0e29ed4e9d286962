/* ops_object.c - the kill table's scenarios of named objects.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The sleeper looks the same name up while the victim stands in the middle of the directory; it must find the object whole or not
 * at all. Used bytes and the count of objects must end as in the image. */
#include "stage.h"

#include <errno.h>
#include <string.h>

#define OBJECT_NAME "group/dave"

static const struct cove_type dave_type = {"account", 1, 0, sizeof(struct account)};

static int open_dave(struct stage *stage, uint32_t flags, struct account **dave)
{
    void *object = NULL;
    int got = cove_object_open(&object, stage->segment, OBJECT_NAME, &dave_type, flags);
    *dave = object;
    return got;
}

static void build_dave(struct stage *stage)
{
    struct account *dave;
    if (must(stage, open_dave(stage, COVE_EXCLUSIVE, &dave) == COVE_CREATED, "building: dave"))
        dave->cents = START_CENTS;
}

static void operate_create(struct stage *stage)
{
    struct account *dave;
    must_have_made(stage, open_dave(stage, 0, &dave), "creating an object");
    acknowledge(stage, 1);
}

static void operate_open(struct stage *stage)
{
    struct account *dave;
    must(stage, open_dave(stage, COVE_EXISTING, &dave) == 0 && dave->cents == START_CENTS, "opening an object");
    acknowledge(stage, 1);
}

static void operate_remove(struct stage *stage)
{
    must(stage, cove_object_remove(stage->segment, OBJECT_NAME) == 0, "removing an object");
    acknowledge(stage, 1);
}

static void remove_dave(struct stage *stage)
{
    must(stage, cove_object_remove(stage->segment, OBJECT_NAME) == 0, "removing the object");
}

/* There, whole, or not there. */
static void sleep_lookup(struct stage *stage)
{
    struct account *dave;
    int got = open_dave(stage, COVE_EXISTING, &dave);
    stage->ledger->result[ROLE_SLEEPER] = got;
    must(stage, got == 0 || got == -ENOENT, "looking the object up");
}

static void sleep_create(struct stage *stage)
{
    struct account *dave;
    int got = open_dave(stage, 0, &dave);
    stage->ledger->result[ROLE_SLEEPER] = got;
    if (must(stage, got == 0 || got == COVE_CREATED, "opening or creating the object") && dave->cents != 0)
        finding(stage, VERDICT_CORRUPT, "a new object is not all zero");
}

static void verify_created(struct stage *stage)
{
    struct account *dave;
    int got = open_dave(stage, COVE_EXISTING, &dave);
    if (got == -ENOENT) {
        if (stage->ledger->acknowledged || stage->ledger->result[ROLE_SLEEPER] >= 0)
            finding(stage, VERDICT_LOST, "an object whose creation was acknowledged is gone");
        return;
    }
    if (!must(stage, got == 0, "opening the object"))
        return;
    if (dave->cents != 0 || dave->lock.word != 0)
        finding(stage, VERDICT_CORRUPT, "a new object is not all zero");
    remove_dave(stage);
}

static void verify_there(struct stage *stage)
{
    struct account *dave;
    if (must(stage, open_dave(stage, COVE_EXISTING, &dave) == 0, "opening the object") && dave->cents != START_CENTS)
        finding(stage, VERDICT_LOST, "dave has %lld cents", (long long)dave->cents);
}

/* Puts an object of the same size in its place, so that the segment ends as it began. */
static void verify_removed(struct stage *stage)
{
    struct account *dave;
    int got = open_dave(stage, COVE_EXISTING, &dave);
    must(stage, got == 0 || got == -ENOENT, "looking for the object");
    if (got == 0 && stage->ledger->acknowledged)
        finding(stage, VERDICT_CORRUPT, "a removed object is there");
    if (got == 0 && dave->cents != START_CENTS)
        finding(stage, VERDICT_CORRUPT, "an object that was not removed has lost its content");
    if (got == -ENOENT)
        must(stage, open_dave(stage, COVE_EXCLUSIVE, &dave) == COVE_CREATED, "creating the object anew");
}

const struct scenario ops_object[] = {
    {.name = "object created",
     .least = 1600,
     .most = 14000,
     .operate = operate_create,
     .sleep = sleep_lookup,
     .verify = verify_created},
    {.name = "object created, by two at once",
     .least = 1600,
     .most = 14000,
     .operate = operate_create,
     .sleep = sleep_create,
     .verify = verify_created},
    {.name = "object opened",
     .least = 280,
     .most = 2200,
     .build = build_dave,
     .operate = operate_open,
     .sleep = sleep_lookup,
     .verify = verify_there},
    {.name = "object removed",
     .least = 1800,
     .most = 16000,
     .build = build_dave,
     .operate = operate_remove,
     .sleep = sleep_lookup,
     .verify = verify_removed},
    {0},
};
