/* ops_heap.c - the kill table's scenarios of memory: taken, linked, kept, given back, inside and outside transactions.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * What must be exact: the used bytes at the end of a trial are those of the image. So each verify frees what the operation
 * left on purpose, and finds a block that is neither linked nor free by the difference. The sleeper is one who allocates
 * while the victim stands in the middle of the heap. */
#include "stage.h"

#include <errno.h>
#include <string.h>

enum { BLOCK_BYTES = 200, SMALL_BYTES = 40, BIG_BYTES = 96 * 1024, IMPOSSIBLE_BYTES = 256 << 20 };

static cove_ref *slot(struct stage *stage, size_t i)
{
    return &stage->root->slot[i];
}

static void lock_root(struct stage *stage)
{
    must(stage, cove_mutex_lock(stage->segment, &stage->root->lock, PATIENCE_NS) >= 0, "the root's lock");
}

static void unlock_root(struct stage *stage)
{
    must(stage, cove_mutex_unlock(stage->segment, &stage->root->lock) == 0, "the root's unlock");
}

static void fill(struct stage *stage, cove_ref ref, size_t size_bytes)
{
    void *memory = cove_at(stage->segment, ref, size_bytes);
    if (must(stage, memory != NULL, "the address of a block"))
        fill_pattern(memory, size_bytes, 500);
}

static void must_hold(struct stage *stage, cove_ref ref, size_t size_bytes, enum verdict verdict)
{
    const void *memory = cove_at(stage->segment, ref, size_bytes);
    if (memory == NULL || !pattern_holds(memory, size_bytes, 500))
        finding(stage, verdict, "the block's content is spoilt");
}

static int in_use(struct stage *stage, cove_ref ref, size_t size_bytes)
{
    return ref != 0 && cove_usable_size(stage->segment, ref) >= size_bytes;
}

/* One that allocates while the victim stands still in the middle, and after its death. */
static void sleep_alloc(struct stage *stage)
{
    cove_ref ref = cove_alloc(stage->segment, BLOCK_BYTES);
    if (must(stage, ref != 0, "alloc")) {
        fill_pattern(cove_at(stage->segment, ref, BLOCK_BYTES), BLOCK_BYTES, 900);
        stage->ledger->result[ROLE_SLEEPER] = (int64_t)ref;
    }
}

static void sleep_alloc_after(struct stage *stage)
{
    cove_ref ref = (cove_ref)stage->ledger->result[ROLE_SLEEPER];
    const void *memory = cove_at(stage->segment, ref, BLOCK_BYTES);
    if (memory == NULL || !pattern_holds(memory, BLOCK_BYTES, 900))
        finding(stage, VERDICT_CORRUPT, "my block was written by somebody else");
    must(stage, cove_free(stage->segment, ref) == 0, "freeing my block");
}

/* ---- outside transactions ------------------------------------------------------------------------------------- */

static void operate_alloc(struct stage *stage)
{
    cove_ref ref = cove_alloc(stage->segment, BLOCK_BYTES);
    must(stage, ref != 0, "alloc");
    stage->ledger->number[0] = ref;
    acknowledge(stage, 1);
}

static void after_alloc(struct stage *stage)
{
    must(stage, cove_free(stage->segment, stage->ledger->number[0]) == 0, "free");
}

static void operate_alloc_refused(struct stage *stage)
{
    cove_ref ref = cove_alloc(stage->segment, IMPOSSIBLE_BYTES);
    must(stage, ref == 0, "a refused alloc");
    acknowledge(stage, 1);
}

static unsigned char content[BLOCK_BYTES]; /* made beforehand: its making is not to be stepped */

static void prepare_content(struct stage *stage)
{
    (void)stage;
    fill_pattern(content, sizeof content, 500);
}

static void operate_keep(struct stage *stage)
{
    cove_ref ref = cove_alloc(stage->segment, BLOCK_BYTES);
    memcpy(cove_at(stage->segment, ref, BLOCK_BYTES), content, BLOCK_BYTES);
    stage->ledger->number[0] = ref;
    acknowledge(stage, 1);
    must(stage, cove_keep(stage->segment, ref) == 0, "keep");
    acknowledge(stage, 2);
}

static void verify_kept(struct stage *stage)
{
    cove_ref ref = stage->ledger->number[0];
    int there = in_use(stage, ref, BLOCK_BYTES);
    if (stage->ledger->acknowledged == 2 && !there)
        finding(stage, VERDICT_LOST, "a kept block is gone");
    if (!there)
        return;
    must_hold(stage, ref, BLOCK_BYTES, VERDICT_LOST);
    must(stage, cove_free(stage->segment, ref) == 0, "freeing the kept block");
}

static void prepare_kept(struct stage *stage)
{
    cove_ref ref = cove_alloc(stage->segment, BLOCK_BYTES);
    fill(stage, ref, BLOCK_BYTES);
    must(stage, cove_keep(stage->segment, ref) == 0, "keep");
    stage->ledger->number[0] = ref;
}

static void prepare_owned(struct stage *stage)
{
    stage->ledger->number[0] = cove_alloc(stage->segment, BLOCK_BYTES);
    must(stage, stage->ledger->number[0] != 0, "alloc");
}

static void operate_free(struct stage *stage)
{
    must(stage, cove_free(stage->segment, stage->ledger->number[0]) == 0, "free");
    acknowledge(stage, 1);
}

static void verify_freed(struct stage *stage)
{
    cove_ref ref = stage->ledger->number[0];
    int there = in_use(stage, ref, 1);
    if (stage->ledger->acknowledged && there)
        finding(stage, VERDICT_LEAKED, "a freed block is in use again, by nobody");
    if (!there)
        return;
    must_hold(stage, ref, BLOCK_BYTES, VERDICT_LOST);
    must(stage, cove_free(stage->segment, ref) == 0, "freeing what the victim did not");
}

static void operate_alloc_into(struct stage *stage)
{
    must(stage, cove_alloc_into(stage->segment, slot(stage, 0), BLOCK_BYTES) == 0, "alloc_into");
    acknowledge(stage, 1);
}

static void operate_grow(struct stage *stage)
{
    must(stage, cove_alloc_into(stage->segment, slot(stage, 0), BIG_BYTES) == 0, "alloc_into that grows the segment");
    acknowledge(stage, 1);
}

static void prepare_linked(struct stage *stage)
{
    lock_root(stage);
    for (size_t i = 0; i < 2; i++)
        if (must(stage, cove_alloc_into(stage->segment, slot(stage, i), BLOCK_BYTES) == 0, "alloc_into"))
            fill(stage, *slot(stage, i), BLOCK_BYTES);
}

static void prepare_linked_unlocked(struct stage *stage)
{
    prepare_linked(stage);
    unlock_root(stage);
}

static void operate_free_from(struct stage *stage)
{
    must(stage, cove_free_from(stage->segment, slot(stage, 0)) == 0, "free_from");
    acknowledge(stage, 1);
}

/* Frees what slots 0 and 1 hold; each must be null or a block in use. Returns a bit for each that held one. */
static unsigned clear_slots(struct stage *stage, size_t size_bytes, int filled)
{
    unsigned held = 0;
    lock_root(stage);
    for (size_t i = 0; i < 2; i++) {
        cove_ref ref = *slot(stage, i);
        if (ref == 0)
            continue;
        held |= 1u << i;
        if (!in_use(stage, ref, i == 0 ? size_bytes : 1))
            finding(stage, VERDICT_CORRUPT, "a field refers to a block that is not in use");
        else if (filled)
            must_hold(stage, ref, BLOCK_BYTES, VERDICT_LOST);
        must(stage, cove_free_from(stage->segment, slot(stage, i)) == 0, "free_from");
    }
    unlock_root(stage);
    return held;
}

static void verify_one_linked(struct stage *stage)
{
    if (clear_slots(stage, BLOCK_BYTES, 0) == 0 && stage->ledger->acknowledged)
        finding(stage, VERDICT_LOST, "an acknowledged block is not linked");
}

static void verify_big_linked(struct stage *stage)
{
    if (clear_slots(stage, BIG_BYTES, 0) == 0 && stage->ledger->acknowledged)
        finding(stage, VERDICT_LOST, "an acknowledged block is not linked");
}

static void verify_one_unlinked(struct stage *stage)
{
    unsigned held = clear_slots(stage, BLOCK_BYTES, 1);
    if ((held & 1) && stage->ledger->acknowledged)
        finding(stage, VERDICT_LOST, "what was freed is linked again");
    if (!(held & 2))
        finding(stage, VERDICT_LOST, "the other block is gone");
}

/* ---- inside transactions -------------------------------------------------------------------------------------- */

static void begin(struct stage *stage)
{
    must(stage, cove_begin(stage->segment) == 0, "begin");
    lock_root(stage);
}

static void end(struct stage *stage, int commits)
{
    must(stage, (commits ? cove_commit(stage->segment) : cove_abort(stage->segment)) == 0, "end of the transaction");
    acknowledge(stage, 1);
}

/* Two blocks, one linked by the library, one by hand. */
static void take_two(struct stage *stage)
{
    begin(stage);
    must(stage, cove_alloc_into(stage->segment, slot(stage, 0), BLOCK_BYTES) == 0, "alloc_into");
    cove_ref ref = cove_alloc(stage->segment, SMALL_BYTES);
    must(stage, ref != 0, "alloc");
    must(stage, cove_save(stage->segment, slot(stage, 1), sizeof ref) == 0, "save");
    *slot(stage, 1) = ref;
}

static void operate_take_two(struct stage *stage)
{
    take_two(stage);
    end(stage, 1);
}

static void operate_take_two_abort(struct stage *stage)
{
    take_two(stage);
    end(stage, 0);
}

static void give_two(struct stage *stage)
{
    begin(stage);
    must(stage, cove_free_from(stage->segment, slot(stage, 0)) == 0, "free_from");
    cove_ref ref = *slot(stage, 1);
    must(stage, cove_save(stage->segment, slot(stage, 1), sizeof ref) == 0, "save");
    *slot(stage, 1) = 0;
    must(stage, cove_free(stage->segment, ref) == 0, "free");
}

static void operate_give_two(struct stage *stage)
{
    give_two(stage);
    end(stage, 1);
}

static void operate_give_two_abort(struct stage *stage)
{
    give_two(stage);
    end(stage, 0);
}

static void both_or_none(struct stage *stage, unsigned held)
{
    if (held == 1 || held == 2)
        finding(stage, VERDICT_CORRUPT, "half of a transaction: slots held %u", held);
}

static void verify_taken(struct stage *stage)
{
    unsigned held = clear_slots(stage, BLOCK_BYTES, 0);
    both_or_none(stage, held);
    if (stage->ledger->acknowledged && held == 0)
        finding(stage, VERDICT_LOST, "a committed transaction is undone");
}

static void verify_not_taken(struct stage *stage)
{
    if (clear_slots(stage, BLOCK_BYTES, 0) != 0)
        finding(stage, VERDICT_CORRUPT, "what was not committed is linked");
}

static void verify_given(struct stage *stage)
{
    unsigned held = clear_slots(stage, BLOCK_BYTES, 1);
    both_or_none(stage, held);
    if (stage->ledger->acknowledged && held != 0)
        finding(stage, VERDICT_LOST, "a committed transaction is undone");
}

static void verify_not_given(struct stage *stage)
{
    if (clear_slots(stage, BLOCK_BYTES, 1) != 3)
        finding(stage, VERDICT_LOST, "a block is gone whose freeing was not committed");
}

#define WITH_SLEEPER .sleep = sleep_alloc, .sleep_after = sleep_alloc_after

const struct scenario ops_heap[] = {
    {.name = "alloc", .least = 470, .most = 4100, .operate = operate_alloc, .after = after_alloc, WITH_SLEEPER},
    {.name = "alloc, too much", .least = 2200, .most = 18000, .operate = operate_alloc_refused, WITH_SLEEPER},
    {.name = "alloc and keep",
     .least = 670,
     .most = 5700,
     .prepare = prepare_content,
     .operate = operate_keep,
     WITH_SLEEPER,
     .verify = verify_kept},
    {.name = "free of a kept block",
     .least = 530,
     .most = 4800,
     .prepare = prepare_kept,
     .operate = operate_free,
     WITH_SLEEPER,
     .verify = verify_freed},
    {.name = "free of an own block",
     .least = 560,
     .most = 5000,
     .prepare = prepare_owned,
     .operate = operate_free,
     WITH_SLEEPER},
    {.name = "alloc_into",
     .least = 570,
     .most = 4900,
     .prepare = lock_root,
     .operate = operate_alloc_into,
     .after = unlock_root,
     WITH_SLEEPER,
     .verify = verify_one_linked},
    {.name = "free_from",
     .least = 480,
     .most = 4200,
     .prepare = prepare_linked,
     .operate = operate_free_from,
     .after = unlock_root,
     WITH_SLEEPER,
     .verify = verify_one_unlinked},
    {.name = "transaction that takes two blocks",
     .least = 1600,
     .most = 14000,
     .operate = operate_take_two,
     WITH_SLEEPER,
     .verify = verify_taken},
    {.name = "the same, aborted",
     .least = 2900,
     .most = 25000,
     .operate = operate_take_two_abort,
     WITH_SLEEPER,
     .verify = verify_not_taken},
    {.name = "transaction that frees two blocks",
     .least = 1900,
     .most = 17000,
     .prepare = prepare_linked_unlocked,
     .operate = operate_give_two,
     WITH_SLEEPER,
     .verify = verify_given},
    {.name = "the same frees, aborted",
     .least = 1800,
     .most = 15000,
     .prepare = prepare_linked_unlocked,
     .operate = operate_give_two_abort,
     WITH_SLEEPER,
     .verify = verify_not_given},
    {.name = "alloc_into that grows the segment",
     .traits = EVERY_POINT,
     .least = 1300,
     .most = 12000,
     .prepare = lock_root,
     .operate = operate_grow,
     .after = unlock_root,
     WITH_SLEEPER,
     .verify = verify_big_linked},
    {0},
};
