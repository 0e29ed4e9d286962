/* ops_once.c - the kill table's scenarios of things that are done once, outside of transactions and inside.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What is made is a pair of numbers and a block. Killed anywhere, nothing of it is there, or all of it: the next to
 * come does it then, or finds it done, and in the end it was done once: one block, one pair. */
#include "hall.h"

#include <errno.h>

enum { BLOCK_BYTES = 300, MADE = 7 };

/* ---- what is done once ---------------------------------------------------------------------------------------- */

static int make(void *context)
{
    struct stage *stage = context;
    struct hall *hall = stage->hall;
    if (hall->made.left != 0 || hall->made.right != 0 || hall->block != 0)
        finding(stage, VERDICT_CORRUPT, "what is to be made is there in part");
    pair_change(stage, &hall->made, MADE);
    linger(stage);
    if (must(stage, cove_alloc_into(stage->segment, &hall->block, BLOCK_BYTES) == 0, "alloc_into"))
        fill_pattern(cove_at(stage->segment, hall->block, BLOCK_BYTES), BLOCK_BYTES, 60);
    return 0;
}

/* Nothing is saved: the next has to look for himself. */
static int make_unsaved(void *context)
{
    struct pair *made = &((struct stage *)context)->hall->made;
    made->left = MADE;
    atomic_signal_fence(memory_order_seq_cst);
    made->right = MADE;
    return 0;
}

static int fail(void *context)
{
    (void)make(context);
    return -EIO;
}

/* Takes away what is there, under a revision, makes something else, and then fails. */
static int replace_and_fail(void *context)
{
    struct stage *stage = context;
    struct hall *hall = stage->hall;
    must(stage, cove_revision_change(stage->segment, &hall->revision) == 0, "revision");
    pair_change(stage, &hall->seen, 5);
    must(stage, cove_free_from(stage->segment, &hall->block) == 0, "free_from");
    must(stage, cove_alloc_into(stage->segment, &hall->block, BLOCK_BYTES) == 0, "alloc_into");
    return -EIO;
}

static int call(struct stage *stage, int (*what)(void *))
{
    return cove_once_call(stage->segment, &stage->hall->once, what, stage, PATIENCE_NS);
}

/* ---- the victim ----------------------------------------------------------------------------------------------- */

static void operate_call(struct stage *stage)
{
    must_have_made(stage, call(stage, make), "doing it");
    acknowledge(stage, 1);
}

static void operate_unsaved(struct stage *stage)
{
    must_have_made(stage, call(stage, make_unsaved), "doing it");
    acknowledge(stage, 1);
}

static void operate_fail(struct stage *stage)
{
    must(stage, call(stage, fail) == -EIO, "failing to do it");
    if (!stage->ledger->stands) /* else another may have done it since */
        must(stage, stage->hall->made.left == 0 && stage->hall->block == 0, "what failed is undone");
    acknowledge(stage, 1);
}

static void operate_in_transaction(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    take(stage, &hall->lock);
    pair_change(stage, &hall->goods, 1);
    must_have_made(stage, call(stage, make), "doing it");
    pair_change(stage, &hall->goods, 1);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_aborted(struct stage *stage)
{
    struct hall *hall = stage->hall;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    take(stage, &hall->lock);
    pair_change(stage, &hall->goods, 1);
    must_have_made(stage, call(stage, make), "doing it");
    must(stage, cove_abort(stage->segment) == 0, "abort");
    acknowledge(stage, 1);
}

/* What the user did before and does after it stays; what failed goes. */
static void operate_fail_in_transaction(struct stage *stage)
{
    struct hall *hall = stage->hall;
    cove_ref block = hall->block;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    take(stage, &hall->lock);
    pair_change(stage, &hall->goods, 1);
    must(stage, call(stage, replace_and_fail) == -EIO, "failing to do it");
    must(stage, hall->block == block && hall->seen.left == 0 && hall->goods.left == 1, "exactly what failed is undone");
    pair_change(stage, &hall->goods, 1);
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

/* ---- those who come meanwhile --------------------------------------------------------------------------------- */

static void come(struct stage *stage, int (*what)(void *))
{
    int got = call(stage, what);
    stage->ledger->result[stage->role] = got;
    must(stage, got == 0 || got == COVE_CREATED || got == COVE_RECOVERED, "coming to what is done once");
    pair_must_be_even(stage, &stage->hall->made, "what was made");
    if (stage->hall->made.left != MADE)
        finding(stage, VERDICT_CORRUPT, "it is said to be done, and what was made is %lld",
                (long long)stage->hall->made.left);
}

static void sleep_come(struct stage *stage)
{
    come(stage, make);
}

static void sleep_come_unsaved(struct stage *stage)
{
    come(stage, make_unsaved);
}

static void second_come(struct stage *stage)
{
    come(stage, make);
}

/* None of those who came did it: the victim had. */
static int nobody_did(const struct ledger *ledger)
{
    return ledger->result[ROLE_SLEEPER] == 0 && ledger->result[ROLE_SECOND] == 0;
}

/* The victim was told that it is done: by itself, or by another, where it stood still. */
static int done_twice(const struct ledger *ledger)
{
    return ledger->acknowledged && ledger->result[ROLE_VICTIM] != 0 && !nobody_did(ledger);
}

static void verify_made(struct stage *stage)
{
    struct hall *hall = stage->hall;
    const struct ledger *ledger = stage->ledger;
    must(stage, call(stage, make) == 0, "it is done");
    if (done_twice(ledger))
        finding(stage, VERDICT_LOST, "it was done, and was done again");
    if (ledger->result[ROLE_SLEEPER] != 0 && ledger->result[ROLE_SECOND] != 0)
        finding(stage, VERDICT_CORRUPT, "it was done twice");
    const void *memory = cove_at(stage->segment, hall->block, BLOCK_BYTES);
    if (memory == NULL || !pattern_holds(memory, BLOCK_BYTES, 60))
        finding(stage, VERDICT_CORRUPT, "the block that was made is not there");
    must(stage, cove_free_from(stage->segment, &hall->block) == 0, "freeing it");
}

static void verify_unsaved(struct stage *stage)
{
    const struct ledger *ledger = stage->ledger;
    if (done_twice(ledger))
        finding(stage, VERDICT_LOST, "it was done, and was done again");
}

static void verify_failed(struct stage *stage)
{
    if (nobody_did(stage->ledger))
        finding(stage, VERDICT_CORRUPT, "it failed, and is said to be done");
    stage->ledger->acknowledged = 0; /* nobody was told that it is done */
    verify_made(stage);
}

/* It is done if, and only if, the transaction was. */
static void verify_transaction(struct stage *stage)
{
    int64_t done = stage->hall->goods.left;
    if (!stage->ledger->stands && done != (nobody_did(stage->ledger) ? 2 : 0))
        finding(stage, VERDICT_CORRUPT, "the transaction is at %lld of 2, and who came was told that it was %sdone",
                (long long)done, nobody_did(stage->ledger) ? "" : "not ");
    verify_made(stage);
}

static void verify_aborted(struct stage *stage)
{
    if (stage->hall->goods.left != 0)
        finding(stage, VERDICT_CORRUPT, "what was aborted stands");
    verify_failed(stage);
}

static void build_block(struct stage *stage)
{
    struct hall *hall = stage->hall;
    if (must(stage, cove_alloc_into(stage->segment, &hall->block, BLOCK_BYTES) == 0, "building: a block"))
        fill_pattern(cove_at(stage->segment, hall->block, BLOCK_BYTES), BLOCK_BYTES, 60);
}

/* An optimistic reader, while what failed is undone and afterwards. */
static void sleep_reading(struct stage *stage)
{
    struct hall *hall = stage->hall;
    struct pair pair;
    uint64_t seen;
    do {
        seen = cove_revision_read(stage->segment, &hall->revision);
        pair = hall->seen;
    } while (!cove_revision_same(&hall->revision, seen));
    if (pair.left != 0 || pair.right != 0)
        finding(stage, VERDICT_CORRUPT, "read what failed: %lld and %lld", (long long)pair.left, (long long)pair.right);
}

static void verify_joined(struct stage *stage)
{
    struct hall *hall = stage->hall;
    int64_t goods = hall->goods.left;
    if ((stage->ledger->acknowledged && goods != 2) || (goods != 0 && goods != 2))
        finding(stage, goods == 0 ? VERDICT_LOST : VERDICT_CORRUPT, "the transaction is at %lld of 2",
                (long long)goods);
    if (hall->seen.left != 0 || hall->once.done != 0)
        finding(stage, VERDICT_CORRUPT, "what failed stands");
    const void *memory = cove_at(stage->segment, hall->block, BLOCK_BYTES);
    if (memory == NULL || !pattern_holds(memory, BLOCK_BYTES, 60))
        finding(stage, VERDICT_LOST, "the block that was freed by what failed is not there");
}

#define TWO_COME .sleep = sleep_come, .second_part = SECOND_BEHIND, .second = second_come

const struct scenario ops_once[] = {
    {.name = "once",
     .traits = IN_HALL,
     .least = 4300,
     .most = 38000,
     .operate = operate_call,
     TWO_COME,
     .verify = verify_made},
    {.name = "once, nothing saved",
     .traits = IN_HALL,
     .least = 320,
     .most = 2900,
     .operate = operate_unsaved,
     .sleep = sleep_come_unsaved,
     .verify = verify_unsaved},
    {.name = "once, failing",
     .traits = IN_HALL,
     .least = 4900,
     .most = 44000,
     .operate = operate_fail,
     TWO_COME,
     .verify = verify_failed},
    {.name = "once in a transaction",
     .traits = IN_HALL,
     .least = 4600,
     .most = 41000,
     .operate = operate_in_transaction,
     TWO_COME,
     .verify = verify_transaction},
    {.name = "once in a transaction, aborted",
     .traits = IN_HALL,
     .least = 5400,
     .most = 48000,
     .operate = operate_aborted,
     TWO_COME,
     .verify = verify_aborted},
    {.name = "once in a transaction, failing",
     .traits = IN_HALL,
     .least = 2800,
     .most = 26000,
     .build = build_block,
     .operate = operate_fail_in_transaction,
     .sleep = sleep_reading,
     .verify = verify_joined},
    {0},
};
