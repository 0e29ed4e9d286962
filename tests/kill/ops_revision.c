/* ops_revision.c - the kill table's scenarios of transactions whose readers take no lock, and of very large ones.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * The sleeper is an optimistic reader: it copies a pair between two looks at its revision, while the victim stands
 * in the middle of a change and after its death. It accepts nothing that is half done or half undone, and is not
 * held up for good: it puts right what the dead writer left. A second one reads all the while, from before the
 * operation until after it. */
#include "hall.h"
#include "stepper.h"

#include <errno.h>
#include <string.h>

enum { LARGE_BYTES = 16 * 1024 };
#define LARGE_NAME "large"

struct large {
    cove_mutex lock;
    uint64_t cell[LARGE_BYTES / 8]; /* all equal, under the lock */
};

static const struct cove_type large_type = {"large", 1, 0, sizeof(struct large)};

/* ---- writers -------------------------------------------------------------------------------------------------- */

static void begin(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    take(stage, &stage->hall->lock);
    must(stage, cove_revision_change(stage->segment, &stage->hall->revision) == 0, "revision");
}

static void commit(struct stage *stage)
{
    must(stage, cove_commit(stage->segment) == 0, "commit");
    acknowledge(stage, 1);
}

static void operate_commit(struct stage *stage)
{
    begin(stage);
    pair_change(stage, &stage->hall->seen, 1);
    commit(stage);
}

static void operate_abort(struct stage *stage)
{
    begin(stage);
    pair_change(stage, &stage->hall->seen, 1);
    must(stage, cove_abort(stage->segment) == 0, "abort");
    acknowledge(stage, 1);
}

/* At two levels, and the same revision again. */
static void operate_nested(struct stage *stage)
{
    struct hall *hall = stage->hall;
    begin(stage);
    pair_change(stage, &hall->seen, 1);
    must(stage, cove_begin(stage->segment) == 0, "inner begin");
    must(stage, cove_revision_change(stage->segment, &hall->revision) == 0, "revision, again");
    pair_change(stage, &stage->hall->seen, 1);
    must(stage, cove_commit(stage->segment) == 0, "inner commit");
    commit(stage);
}

/* What is saved holds the revision: it never goes back. */
static void operate_saved_with_it(struct stage *stage)
{
    struct hall *hall = stage->hall;
    begin(stage);
    must(stage, cove_save(stage->segment, &hall->revision, sizeof hall->revision + sizeof hall->seen) == 0, "save");
    hall->seen.left++;
    atomic_signal_fence(memory_order_seq_cst);
    hall->seen.right++;
    commit(stage);
}

/* With blocks that come and go: the commit has more to do than to forget bytes. */
static void operate_with_blocks(struct stage *stage)
{
    struct hall *hall = stage->hall;
    begin(stage);
    pair_change(stage, &hall->seen, 1);
    must(stage, cove_alloc_into(stage->segment, &hall->block, 200) == 0, "alloc_into");
    must(stage, cove_free_from(stage->segment, &stage->root->slot[0]) == 0, "free_from");
    commit(stage);
}

static void build_slot(struct stage *stage)
{
    must(stage, cove_alloc_into(stage->segment, &stage->root->slot[0], 200) == 0, "building: a block");
}

/* ---- readers -------------------------------------------------------------------------------------------------- */

/* Reads until it has accepted something. Returns the left one. */
static int64_t read_pair(struct stage *stage)
{
    struct hall *hall = stage->hall;
    int64_t until_ns = stepper_now_ns() + PATIENCE_NS * 2;
    struct pair pair;
    uint64_t seen;
    do {
        seen = cove_revision_read(stage->segment, &hall->revision);
        pair = hall->seen;
        if (stepper_now_ns() > until_ns)
            finding(stage, VERDICT_HANG, "revision %llu stays odd", (unsigned long long)seen);
    } while (!cove_revision_same(&hall->revision, seen) && stepper_now_ns() <= until_ns);
    pair_must_be_even(stage, &pair, "read without a lock");
    return pair.left;
}

static void sleep_reading(struct stage *stage)
{
    stage->ledger->result[stage->role] = read_pair(stage);
}

/* Never back: what was read once is not undone later. */
static void read_on(struct stage *stage)
{
    int64_t now = read_pair(stage);
    if (now < stage->ledger->result[stage->role])
        finding(stage, VERDICT_CORRUPT, "read %lld, and then %lld", (long long)stage->ledger->result[stage->role],
                (long long)now);
}

static void verify_seen(struct stage *stage, int64_t done)
{
    int64_t left = stage->hall->seen.left;
    const struct ledger *ledger = stage->ledger;
    if (ledger->acknowledged && left != done)
        finding(stage, VERDICT_LOST, "an acknowledged change is undone");
    if (left != 0 && left != done)
        finding(stage, VERDICT_CORRUPT, "half a transaction: %lld of %lld", (long long)left, (long long)done);
    if (ledger->result[ROLE_SLEEPER] > left || ledger->result[ROLE_SECOND] > left)
        finding(stage, VERDICT_CORRUPT, "a reader was given what did not come to stay");
}

static void verify_one(struct stage *stage)
{
    verify_seen(stage, 1);
}

static void verify_two(struct stage *stage)
{
    verify_seen(stage, 2);
}

static void verify_none(struct stage *stage)
{
    verify_seen(stage, 0);
}

/* Puts blocks of the same sizes in place, so that the segment ends as it began. */
static void verify_blocks(struct stage *stage)
{
    cove_ref *taken = &stage->hall->block, *freed = &stage->root->slot[0];
    verify_one(stage);
    if ((*taken != 0) != (stage->hall->seen.left == 1) || (*freed == 0) != (stage->hall->seen.left == 1))
        finding(stage, VERDICT_CORRUPT, "the blocks and the pair are of different transactions");
    must(stage, cove_free_from(stage->segment, taken) == 0, "freeing");
    if (*freed == 0)
        must(stage, cove_alloc_into(stage->segment, freed, 200) == 0, "taking again");
}

/* ---- very large saves ----------------------------------------------------------------------------------------- */

static struct large *open_large(struct stage *stage)
{
    void *object = NULL;
    must(stage, cove_object_open(&object, stage->segment, LARGE_NAME, &large_type, 0) >= 0, "the large object");
    return stage->extra = object;
}

static void build_large(struct stage *stage)
{
    memset(open_large(stage)->cell, 1, LARGE_BYTES);
}

static void find_large(struct stage *stage)
{
    (void)open_large(stage);
}

/* The journal takes a block that is larger than all that the heap has free: the segment grows. */
static void change_large(struct stage *stage)
{
    struct large *large = stage->extra;
    must(stage, cove_begin(stage->segment) == 0, "begin");
    take(stage, &large->lock);
    must(stage, cove_save(stage->segment, large->cell, sizeof large->cell) == 0, "a very large save");
    memset(large->cell, 2, sizeof large->cell);
}

static void operate_large(struct stage *stage)
{
    change_large(stage);
    commit(stage);
}

static void operate_large_abort(struct stage *stage)
{
    change_large(stage);
    must(stage, cove_abort(stage->segment) == 0, "abort");
    acknowledge(stage, 1);
}

static int large_holds(const struct large *large, unsigned char byte)
{
    const unsigned char *bytes = (const unsigned char *)large->cell;
    return bytes[0] == byte && memcmp(bytes, bytes + 1, LARGE_BYTES - 1) == 0;
}

static void sleep_large(struct stage *stage)
{
    struct large *large = stage->extra;
    take(stage, &large->lock);
    if (!large_holds(large, 1) && !large_holds(large, 2))
        finding(stage, VERDICT_CORRUPT, "under the lock the bytes differ");
    give(stage, &large->lock);
}

static void verify_large(struct stage *stage)
{
    const struct large *large = open_large(stage);
    if (!large_holds(large, 1) && !large_holds(large, 2))
        finding(stage, VERDICT_CORRUPT, "the bytes differ");
    if (stage->ledger->acknowledged && !large_holds(large, 2))
        finding(stage, VERDICT_LOST, "an acknowledged change is undone");
}

static void verify_large_undone(struct stage *stage)
{
    if (!large_holds(open_large(stage), 1))
        finding(stage, VERDICT_CORRUPT, "what was aborted stands");
}

#define READERS                                                                                            \
    .sleep = sleep_reading, .sleep_after = read_on, .second_part = SECOND_BEHIND, .second = sleep_reading, \
    .second_after = read_on

const struct scenario ops_revision[] = {
    {.name = "revision, committed",
     .traits = IN_HALL,
     .least = 320,
     .most = 2900,
     .operate = operate_commit,
     READERS,
     .verify = verify_one},
    {.name = "revision, aborted",
     .traits = IN_HALL,
     .least = 660,
     .most = 6000,
     .operate = operate_abort,
     READERS,
     .verify = verify_none},
    {.name = "revision, nested",
     .traits = IN_HALL,
     .least = 530,
     .most = 4800,
     .operate = operate_nested,
     READERS,
     .verify = verify_two},
    {.name = "revision, saved with what it tells of",
     .traits = IN_HALL,
     .least = 310,
     .most = 2900,
     .operate = operate_saved_with_it,
     READERS,
     .verify = verify_one},
    {.name = "revision, with blocks",
     .traits = IN_HALL,
     .least = 1700,
     .most = 16000,
     .build = build_slot,
     .operate = operate_with_blocks,
     READERS,
     .verify = verify_blocks},
    {.name = "very large save",
     .traits = IN_HALL | BY_CALLS,
     .least = 16000,
     .most = 140000,
     .build = build_large,
     .prepare = find_large,
     .operate = operate_large,
     .sleep_ready = find_large,
     .sleep = sleep_large,
     .verify = verify_large},
    {.name = "very large save, aborted",
     .traits = IN_HALL | BY_CALLS,
     .least = 24000,
     .most = 210000,
     .build = build_large,
     .prepare = find_large,
     .operate = operate_large_abort,
     .sleep_ready = find_large,
     .sleep = sleep_large,
     .verify = verify_large_undone},
    {0},
};
