/* test_heap.c - memory in a segment against a model: contents, alignment, exhaustion, ownership, refs that lead nowhere.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=90 */
#include "unit.h"

#include "segment/segment.h"

#define SLOTS 400

struct slot {
    cove_ref ref;
    size_t size_bytes;
    unsigned char mark;
    bool kept;
};

struct model {
    cove_segment *segment;
    uint64_t seed;
    struct slot slots[SLOTS];
};

static void check_slot(struct model *model, const struct slot *slot)
{
    const unsigned char *bytes = cove_at(model->segment, slot->ref, slot->size_bytes);
    assert_non_null(bytes);
    for (size_t i = 0; i < slot->size_bytes; i++)
        if (bytes[i] != slot->mark)
            fail_msg("byte %zu of %zu was overwritten", i, slot->size_bytes);
}

static size_t random_size(uint64_t *seed)
{
    switch (unit_random(seed) % 8) {
    case 0:
        return 1 + (size_t)(unit_random(seed) % 16);
    case 1:
        return 1 + (size_t)(unit_random(seed) % 20000);
    case 2:
        return (size_t)1 << (unit_random(seed) % 14);
    default:
        return 1 + (size_t)(unit_random(seed) % 300);
    }
}

static void step(struct model *model)
{
    struct slot *slot = &model->slots[unit_random(&model->seed) % SLOTS];
    if (slot->ref != 0) {
        check_slot(model, slot);
        EXPECT(0, cove_free(model->segment, slot->ref));
        slot->ref = 0;
        return;
    }
    slot->size_bytes = random_size(&model->seed);
    slot->mark = (unsigned char)unit_random(&model->seed);
    slot->ref = cove_alloc(model->segment, slot->size_bytes);
    if (slot->ref == 0) {
        assert_int_equal(errno, ENOSPC);
        return;
    }
    assert_int_equal(slot->ref % 16, 0);
    assert_true(cove_usable_size(model->segment, slot->ref) >= slot->size_bytes);
    memset(cove_at(model->segment, slot->ref, slot->size_bytes), slot->mark, slot->size_bytes);
    if (unit_random(&model->seed) % 4 == 0)
        EXPECT(0, cove_keep(model->segment, slot->ref));
}

static void run_model(const struct cove_options *options, uint64_t seed, int steps)
{
    static struct model model;
    memset(&model, 0, sizeof model);
    model.segment = unit_open_as("t", options);
    model.seed = seed;
    for (int i = 0; i < steps; i++) {
        step(&model);
        if (i % 500 == 0)
            unit_sound(model.segment);
    }
    for (int i = 0; i < SLOTS; i++)
        if (model.slots[i].ref != 0) {
            check_slot(&model, &model.slots[i]);
            EXPECT(0, cove_free(model.segment, model.slots[i].ref));
        }
    struct cove_segment_info info = unit_stat(model.segment);
    assert_int_equal(info.heap_block_count, 0);
    assert_int_equal(info.heap_free_bytes + 32, info.heap_bytes); /* one free block again, and the end block */
    unit_sound(model.segment);
    unit_close(model.segment);
    unit_remove("t");
}

static void test_heap_agrees_with_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++)
        run_model(NULL, seed, testing_scale() > 1 ? 3000 : 20000);
}

static void test_heap_that_runs_out_agrees_with_a_model(void **state)
{
    (void)state;
    for (uint64_t seed = 11; seed <= 13; seed++)
        run_model(&(struct cove_options){.size_bytes = 65536, .max_size_bytes = 65536, .max_members = 2}, seed,
                  testing_scale() > 1 ? 3000 : 20000);
}

/* More than any heap has, and no more than may be asked for. */
#define NO_ROOM (SIZE_MAX > UINT32_MAX ? (size_t)(SIZE_MAX / 2 >> 19) : SIZE_MAX / 2)

static void test_heap_sizes_and_errors(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    static const size_t bad[] = {0, SIZE_MAX, SIZE_MAX - 15, (SIZE_MAX >> 19) + 2, SIZE_MAX / 2 + 1};
    /* With 32 bits all but 0 may be asked for. */
    for (size_t i = 0; i < (SIZE_MAX > UINT32_MAX ? sizeof bad / sizeof *bad : 1); i++) {
        assert_int_equal(cove_alloc(segment, bad[i]), 0);
        assert_int_equal(errno, EINVAL);
    }
    assert_int_equal(cove_alloc(segment, NO_ROOM), 0);
    assert_int_equal(errno, ENOSPC);
    for (size_t size = 1; size < 600; size++) {
        cove_ref ref = cove_alloc(segment, size);
        assert_in_range(cove_usable_size(segment, ref), size, size + 64);
        EXPECT(0, cove_free(segment, ref));
    }
    EXPECT(0, cove_free(segment, 0));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* Nothing that is no block can be freed, and trying changes nothing. */
static void test_heap_stray_refs_are_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_ref ref = cove_alloc(segment, 1000), behind = cove_alloc(segment, 1000);
    memset(cove_at(segment, ref, 1000), 0, 1000);
    memset(cove_at(segment, behind, 1000), 0xff, 1000);
    uint64_t before = unit_free_bytes(segment);
    for (cove_ref stray = ref - 128; stray < ref + 1200; stray++)
        if (stray != ref && stray != behind) {
            EXPECT_SAYS(-EINVAL, cove_free(segment, stray), "stray");
            EXPECT(-EINVAL, cove_keep(segment, stray));
            assert_int_equal(cove_usable_size(segment, stray), 0);
        }
    static const cove_ref bad[] = {1, 4096, 8192, 12288, UINT64_MAX, UINT64_MAX - 31, UINT64_C(1) << 40, 16, 32};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT(-EINVAL, cove_free(segment, bad[i]));
    EXPECT(0, cove_free(segment, ref));
    EXPECT_SAYS(-EINVAL, cove_free(segment, ref), "freed before");
    EXPECT(0, cove_free(segment, behind));
    EXPECT(-EINVAL, cove_free(segment, ref)); /* merged with its neighbours */
    EXPECT(-EINVAL, cove_free(segment, behind));
    assert_true(unit_free_bytes(segment) > before);
    assert_int_equal(unit_stat(segment).heap_block_count, 0);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_heap_refs_are_bounded(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_ref ref = cove_alloc(segment, 100);
    void *address = cove_at(segment, ref, 100);
    assert_non_null(address);
    assert_int_equal(cove_ref_of(segment, address), ref);
    assert_int_equal(cove_ref_of(segment, (char *)address + 5), ref + 5);
    assert_null(cove_at(segment, 0, 1));
    uint64_t size = unit_stat(segment).size_bytes;
    static const struct {
        cove_ref ref;
        size_t size_bytes;
    } bad[] = {
        {1, 1}, {4095, 1}, {UINT64_MAX, 1}, {UINT64_MAX - 7, 16}, {UINT64_C(1) << 35, 8}, {UINT64_C(1) << 62, 8}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(cove_at(segment, bad[i].ref, bad[i].size_bytes));
    assert_null(cove_at(segment, ref, SIZE_MAX));
    assert_null(cove_at(segment, ref, SIZE_MAX - ref));
    assert_null(cove_at(segment, size, 1));
    assert_null(cove_at(segment, size - 8, 9));
    assert_non_null(cove_at(segment, size - 8, 8));
    assert_int_equal(cove_ref_of(segment, NULL), 0);
    assert_int_equal(cove_ref_of(segment, &size), 0);
    assert_int_equal(cove_ref_of(segment, segment->base), 0); /* the header is no user's */
    assert_int_equal(cove_ref_of(segment, segment->base + size), 0);
    COVE_REF(uint64_t) typed = {.ref = ref};
    uint64_t *value = COVE_AT(segment, typed);
    assert_ptr_equal(value, address);
    typed.ref = size - 4;
    assert_null(COVE_AT(segment, typed));
    unit_close(segment);
    unit_remove("t");
}

static void test_heap_alloc_into_and_free_from(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_ref *field = unit_object(segment, "f", 16), outside = 0;
    uint64_t before = unit_free_bytes(segment);
    EXPECT(-EINVAL, cove_alloc_into(segment, &outside, 100));
    EXPECT(-EINVAL, cove_alloc_into(segment, NULL, 100));
    EXPECT(-EINVAL, cove_alloc_into(segment, (cove_ref *)(void *)((char *)field + 4), 100));
    EXPECT(-EINVAL, cove_alloc_into(segment, field, 0));
    EXPECT(-ENOSPC, cove_alloc_into(segment, field, NO_ROOM));
    assert_int_equal(*field, 0);
    EXPECT(0, cove_free_from(segment, field)); /* null already */
    EXPECT(0, cove_alloc_into(segment, field, 100));
    assert_true(cove_usable_size(segment, *field) >= 100);
    EXPECT(-EINVAL, cove_free_from(segment, &outside));
    cove_ref old = *field;
    EXPECT(0, cove_free_from(segment, field));
    assert_int_equal(*field, 0);
    assert_int_equal(unit_free_bytes(segment), before);
    *field = old;
    EXPECT(-EINVAL, cove_free_from(segment, field));
    assert_int_equal(*field, old); /* nothing happened */
    *field = 0;
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* ---- whose it is */

static void allocate_and_die(void *argument)
{
    cove_ref *refs = argument;
    cove_segment *segment = unit_open("t");
    for (int i = 0; i < 100; i++)
        assert_true(cove_alloc(segment, 100 + (size_t)i) != 0);
    refs[0] = cove_alloc(segment, 1000);
    EXPECT(0, cove_keep(segment, refs[0]));
    EXPECT(0, cove_keep(segment, refs[0])); /* again is no error */
    refs[1] = cove_alloc(segment, 1000);
    testing_reach(0);
    unit_wait_for_death();
}

static void test_heap_what_is_not_kept_goes_with_its_member(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    uint64_t before = unit_free_bytes(segment);
    cove_ref *refs = testing_shared(4096);
    for (unsigned round = 1; round <= 3; round++) {
        pid_t pid = testing_spawn(allocate_and_die, refs);
        testing_await_count(0, round);
        EXPECT(0, cove_free(segment, refs[1])); /* another's pending block may be freed by anybody */
        testing_kill(pid);
        EXPECT(1, cove_recover(segment));
        assert_int_equal(unit_stat(segment).heap_block_count, 1);
        EXPECT(0, cove_free(segment, refs[0]));
        assert_int_equal(unit_free_bytes(segment), before + unit_stat(segment).heap_bytes - (256 << 10));
        unit_sound(segment);
    }
    cove_ref kept = cove_alloc(segment, 64), lost = cove_alloc(segment, 64);
    EXPECT(0, cove_keep(segment, kept));
    unit_close(segment);
    segment = unit_open("t");
    assert_true(cove_usable_size(segment, kept) >= 64);
    assert_int_equal(cove_usable_size(segment, lost), 0);
    assert_int_equal(unit_stat(segment).heap_block_count, 1);
    EXPECT(0, cove_free(segment, kept));
    unit_close(segment);
    unit_remove("t");
}

struct handover {
    cove_segment *inherited;
    cove_ref ref;
    unsigned round;
};

static void allocate_and_leave(void *argument)
{
    struct handover *handover = argument;
    unit_drop_inherited(handover->inherited);
    cove_segment *segment = unit_open("t");
    handover->ref = cove_alloc(segment, 500);
    testing_reach(0);
    testing_await(1 + handover->round++);
    unit_close(segment);
}

struct taker {
    cove_segment *segment;
    cove_ref ref;
};

static void *take_memory(void *argument)
{
    struct taker *taker = argument;
    taker->ref = cove_alloc(taker->segment, 500);
    EXPECT(0, cove_keep(taker->segment, taker->ref));
    return NULL;
}

/* Freed by one in a transaction, while its owner leaves: gone once, and nobody else's memory with it. */
static void test_heap_pending_block_freed_while_its_owner_leaves(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct handover *handover = testing_shared(sizeof *handover);
    handover->inherited = segment;
    for (unsigned abort = 0; abort < 2; abort++) {
        pid_t pid = testing_spawn(allocate_and_leave, handover);
        testing_await_count(0, abort + 1);
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_free(segment, handover->ref)); /* goes at the commit */
        testing_reach(1 + abort);
        testing_join(pid); /* what it had not kept goes back */
        struct taker taker = {segment, 0};
        unit_in_thread(take_memory, &taker); /* outside of the transaction: perhaps in the same place */
        EXPECT(0, abort ? cove_abort(segment) : cove_commit(segment));
        assert_true(cove_usable_size(segment, taker.ref) >= 500);
        unit_sound(segment);
        EXPECT(0, cove_free(segment, taker.ref));
        assert_int_equal(unit_stat(segment).heap_block_count, 0);
    }
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_heap_agrees_with_a_model, 30),
    TEST_TIMEOUT(test_heap_that_runs_out_agrees_with_a_model, 30),
    TEST(test_heap_sizes_and_errors),
    TEST(test_heap_stray_refs_are_told),
    TEST(test_heap_refs_are_bounded),
    TEST(test_heap_alloc_into_and_free_from),
    TEST(test_heap_what_is_not_kept_goes_with_its_member),
    TEST(test_heap_pending_block_freed_while_its_owner_leaves),
};

int main(void)
{
    return testing_run("heap", tests);
}
