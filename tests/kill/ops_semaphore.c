/* ops_semaphore.c - the kill table's scenarios of the semaphore: owned permits and plain ones.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * An owned permit comes back when its owner dies, so in the end there are as many as in the image. Of plain ones
 * none is doubled, and at most the victim's own one is gone, and that only where its wait can have taken it: what
 * must be there follows from how far the victim was told that it had come. */
#include "hall.h"

#include <errno.h>

static cove_semaphore *permits(struct stage *stage)
{
    return &stage->hall->permits;
}

static void acquire(struct stage *stage)
{
    must(stage, cove_semaphore_acquire(stage->segment, permits(stage), PATIENCE_NS * 2) == 0, "acquire");
}

static void release(struct stage *stage)
{
    must(stage, cove_semaphore_release(stage->segment, permits(stage)) == 0, "release");
}

static void post(struct stage *stage)
{
    must(stage, cove_semaphore_post(stage->segment, permits(stage), 1) == 0, "post");
}

static void build_one(struct stage *stage)
{
    must(stage, cove_semaphore_post(stage->segment, permits(stage), 1) == 0, "building: a permit");
}

static void build_two(struct stage *stage)
{
    must(stage, cove_semaphore_post(stage->segment, permits(stage), 2) == 0, "building: two permits");
}

static void must_be(struct stage *stage, int64_t least, int64_t most)
{
    int64_t value = cove_semaphore_value(stage->segment, permits(stage));
    if (value > most)
        finding(stage, VERDICT_CORRUPT, "there are %lld permits, %lld at most can be", (long long)value,
                (long long)most);
    if (value < least)
        finding(stage, VERDICT_LOST, "there are %lld permits, %lld at least must be", (long long)value,
                (long long)least);
    for (int64_t i = 0; i < value; i++) /* and they can be had */
        must(stage, cove_semaphore_acquire(stage->segment, permits(stage), COVE_NOWAIT) == 0, "a permit that is there");
    must(stage, cove_semaphore_acquire(stage->segment, permits(stage), COVE_NOWAIT) == -EBUSY,
         "a permit that is not there");
    for (int64_t i = 0; i < value; i++)
        release(stage);
}

/* ---- owned ---------------------------------------------------------------------------------------------------- */

/* How many are inside at once, by a count of their own in the ledger; the victim does not count itself. */
enum { INSIDE = 0 };

static void sleep_acquire(struct stage *stage)
{
    uint64_t *inside = &stage->ledger->number[INSIDE];
    acquire(stage);
    if (__atomic_add_fetch(inside, 1, __ATOMIC_SEQ_CST) > (uint64_t)stage->ledger->whole)
        finding(stage, VERDICT_CORRUPT, "more have permits than there are");
    linger(stage);
    __atomic_sub_fetch(inside, 1, __ATOMIC_SEQ_CST);
    release(stage);
}

/* ledger->whole outlives the trials of a scenario: how many permits it has. */
static void operate_acquire(struct stage *stage)
{
    must(stage, cove_semaphore_acquire(stage->segment, permits(stage), PATIENCE_NS) == 0, "acquire");
    if (__atomic_load_n(&stage->ledger->number[INSIDE], __ATOMIC_SEQ_CST) + 1 > stage->ledger->whole)
        finding(stage, VERDICT_CORRUPT, "has a permit that another has too");
    acknowledge(stage, 1);
}

static void operate_release(struct stage *stage)
{
    release(stage);
    acknowledge(stage, 1);
}

static void operate_acquire_timeout(struct stage *stage)
{
    must(stage, cove_semaphore_acquire(stage->segment, permits(stage), 1000000) == -ETIMEDOUT,
         "a permit that another owns");
    acknowledge(stage, 1);
}

static void operate_in_transaction(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    acquire(stage);
    take(stage, &hall->lock);
    pair_change(stage, &hall->goods, 1);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    must(stage, cove_semaphore_value(stage->segment, permits(stage)) == 0, "a commit leaves a permit with its owner");
    acknowledge(stage, 1);
    release(stage);
    acknowledge(stage, 2);
}

static void verify_one(struct stage *stage)
{
    must_be(stage, 1, 1);
}

static void verify_two(struct stage *stage)
{
    must_be(stage, 2, 2);
}

static void verify_transaction(struct stage *stage)
{
    verify_one(stage);
    if (stage->ledger->acknowledged && stage->hall->goods.left != 1)
        finding(stage, VERDICT_LOST, "an acknowledged change is undone");
}

static void acquire_both(struct stage *stage)
{
    stage->ledger->whole = 2;
    acquire(stage);
    acquire(stage);
}

static void prepare_owned(struct stage *stage)
{
    stage->ledger->whole = 1;
    acquire(stage);
}

static void prepare_one(struct stage *stage)
{
    stage->ledger->whole = 1;
}

/* ---- plain ---------------------------------------------------------------------------------------------------- */

static void operate_wait(struct stage *stage)
{
    must(stage, cove_semaphore_wait(stage->segment, permits(stage), PATIENCE_NS) == 0, "wait");
    acknowledge(stage, 1);
}

static void operate_wait_timeout(struct stage *stage)
{
    must(stage, cove_semaphore_wait(stage->segment, permits(stage), 1000000) == -ETIMEDOUT, "wait for nothing");
    acknowledge(stage, 1);
}

static void operate_post(struct stage *stage)
{
    post(stage);
    acknowledge(stage, 1);
}

static void operate_post_two(struct stage *stage)
{
    must(stage, cove_semaphore_post(stage->segment, permits(stage), 2) == 0, "post");
    acknowledge(stage, 1);
}

static void sleep_wait(struct stage *stage)
{
    must(stage, cove_semaphore_wait(stage->segment, permits(stage), PATIENCE_NS * 2) == 0, "wait");
    stage->ledger->number[stage->role] = 1;
}

/* Two threads. */
static void sleep_two_waits(struct stage *stage)
{
    struct companion other = {.stage = stage, .run = sleep_wait};
    companion_start(&other);
    sleep_wait(stage);
    companion_join(&other);
}

/* Posts what the victim did not get round to posting, so that nobody waits for ever; where the victim's permits are
 * there the sleepers must find them by themselves. */
static void post_instead(struct stage *stage, uint32_t count)
{
    stage->ledger->number[stage->role] = 0;
    if (stage->ledger->acknowledged || cove_semaphore_value(stage->segment, permits(stage)) > 0)
        return;
    must(stage, cove_semaphore_post(stage->segment, permits(stage), count) == 0, "post instead of the dead");
    stage->ledger->number[stage->role] = count;
}

static void second_posts_instead(struct stage *stage)
{
    post_instead(stage, 1);
}

static void second_posts_two_instead(struct stage *stage)
{
    post_instead(stage, 2);
}

/* `taken` were taken; the victim had posted all of its `posted`, or none. */
static void verify_posts(struct stage *stage, int64_t taken, int64_t posted)
{
    int64_t instead = (int64_t)stage->ledger->number[ROLE_SECOND];
    int64_t value = cove_semaphore_value(stage->segment, permits(stage));
    if (value + taken != instead && value + taken != instead + posted)
        finding(stage, value + taken < instead ? VERDICT_LOST : VERDICT_CORRUPT,
                "%lld were taken and %lld are there, of %lld and perhaps %lld", (long long)taken, (long long)value,
                (long long)instead, (long long)posted);
    if (stage->ledger->acknowledged && value + taken != instead + posted)
        finding(stage, VERDICT_LOST, "an acknowledged post is lost");
    must_be(stage, value, value);
}

static void verify_post(struct stage *stage)
{
    verify_posts(stage, 1, 1);
}

static void verify_post_two(struct stage *stage)
{
    verify_posts(stage, 2, 2);
}

static void verify_wait(struct stage *stage)
{
    must_be(stage, 0, stage->ledger->acknowledged ? 0 : 1);
}

/* The second one posted one, which the sleeper took; the victim had waited in vain. */
static void verify_wait_timeout(struct stage *stage)
{
    must_be(stage, 0, 0);
}

/* ---- both on one ---------------------------------------------------------------------------------------------- */

static void operate_mixed(struct stage *stage)
{
    acquire(stage);
    acknowledge(stage, 1);
    must(stage, cove_semaphore_wait(stage->segment, permits(stage), PATIENCE_NS) == 0, "wait");
    acknowledge(stage, 2);
    post(stage);
    acknowledge(stage, 3);
    release(stage);
    acknowledge(stage, 4);
}

static void verify_mixed(struct stage *stage)
{
    uint32_t told = stage->ledger->acknowledged;
    must_be(stage, told == 1 || told == 2 ? 1 : 2, 2);
}

const struct scenario ops_semaphore[] = {
    {.name = "semaphore acquire",
     .traits = IN_HALL,
     .least = 120,
     .most = 1100,
     .build = build_one,
     .prepare = prepare_one,
     .operate = operate_acquire,
     .after = release,
     .sleep = sleep_acquire,
     .second_part = SECOND_BEHIND,
     .second = sleep_acquire,
     .verify = verify_one},
    {.name = "semaphore acquire, the owner dead",
     .traits = IN_HALL,
     .least = 5200,
     .most = 50000,
     .build = build_one,
     .prepare = prepare_one,
     .operate = operate_acquire,
     .after = release,
     .sleep = sleep_acquire,
     .second_part = SECOND_DIES,
     .second_ready = acquire,
     .verify = verify_one},
    {.name = "semaphore acquire, timed out",
     .traits = IN_HALL,
     .least = 3900,
     .most = 37000,
     .build = build_one,
     .prepare = prepare_one,
     .operate = operate_acquire_timeout,
     .sleep = sleep_acquire,
     .second_part = SECOND_AFTER,
     .second_ready = acquire,
     .second = release,
     .verify = verify_one},
    {.name = "semaphore acquire, a stopped one owns one",
     .traits = IN_HALL,
     .least = 420,
     .most = 4100,
     .build = build_two,
     .prepare = prepare_one,
     .operate = operate_acquire,
     .after = release,
     .sleep = sleep_acquire,
     .second_part = SECOND_STOPPED,
     .second_ready = acquire,
     .second_after = release,
     .verify = verify_two},
    {.name = "semaphore release, two wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 140,
     .most = 1200,
     .build = build_one,
     .prepare = prepare_owned,
     .operate = operate_release,
     .sleep = sleep_acquire,
     .second_part = SECOND_BEHIND,
     .second = sleep_acquire,
     .verify = verify_one},
    {.name = "semaphore release, of two, two wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 140,
     .most = 1200,
     .build = build_two,
     .prepare = acquire_both,
     .operate = operate_release,
     .after = release,
     .sleep = sleep_acquire,
     .second_part = SECOND_BEHIND,
     .second = sleep_acquire,
     .verify = verify_two},
    {.name = "semaphore acquire in a transaction",
     .traits = IN_HALL,
     .least = 710,
     .most = 6600,
     .build = build_one,
     .prepare = prepare_one,
     .operate = operate_in_transaction,
     .sleep = sleep_acquire,
     .verify = verify_transaction},
    {.name = "semaphore wait",
     .traits = IN_HALL,
     .least = 33,
     .most = 300,
     .build = build_one,
     .operate = operate_wait,
     .verify = verify_wait},
    {.name = "semaphore wait, timed out, another waits",
     .traits = IN_HALL,
     .least = 1500,
     .most = 14000,
     .operate = operate_wait_timeout,
     .sleep = sleep_wait,
     .second_part = SECOND_AFTER,
     .second = post,
     .verify = verify_wait_timeout},
    {.name = "semaphore post, one waits",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 70,
     .most = 710,
     .operate = operate_post,
     .sleep = sleep_wait,
     .second_part = SECOND_AFTER,
     .second = second_posts_instead,
     .verify = verify_post},
    {.name = "semaphore post of two, two wait",
     .traits = IN_HALL | SLEEP_FIRST,
     .least = 70,
     .most = 710,
     .operate = operate_post_two,
     .sleep = sleep_two_waits,
     .second_part = SECOND_AFTER,
     .second = second_posts_two_instead,
     .verify = verify_post_two},
    {.name = "semaphore, owned and plain",
     .traits = IN_HALL,
     .least = 700,
     .most = 6500,
     .build = build_two,
     .prepare = prepare_one,
     .operate = operate_mixed,
     .sleep = sleep_acquire,
     .verify = verify_mixed},
    {.name = "file: semaphore acquire",
     .traits = IN_HALL,
     .least = 470,
     .most = 4400,
     .backend = ON_FILE,
     .build = build_one,
     .prepare = prepare_one,
     .operate = operate_acquire,
     .after = release,
     .sleep = sleep_acquire,
     .second_part = SECOND_BEHIND,
     .second = sleep_acquire,
     .verify = verify_one},
    {0},
};
