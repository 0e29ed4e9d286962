/* test_transaction.c - changes that happen whole or not at all, and the locks that go with them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "unit.h"

#include <sys/mman.h>

struct bank {
    cove_mutex lock[4];
    int64_t cents[4];
    cove_ref ref;
};

static struct bank *open_bank(cove_segment *segment)
{
    return unit_object(segment, "bank", sizeof(struct bank));
}

struct probe {
    cove_segment *segment;
    cove_mutex *mutex;
    int result;
};

static void *probe_thread(void *argument)
{
    struct probe *probe = argument;
    probe->result = cove_mutex_lock(probe->segment, probe->mutex, COVE_NOWAIT);
    if (probe->result >= 0)
        EXPECT(0, cove_mutex_unlock(probe->segment, probe->mutex));
    return NULL;
}

/* What another thread gets that tries the lock. */
static int probe(cove_segment *segment, cove_mutex *mutex)
{
    struct probe what = {segment, mutex, 0};
    unit_in_thread(probe_thread, &what);
    return what.result;
}

static void test_transaction_commit_keeps_and_frees_locks(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
    EXPECT(0, cove_save(segment, bank->cents, 16));
    bank->cents[0] = -100;
    bank->cents[1] = 100;
    assert_int_equal(probe(segment, &bank->lock[0]), -EBUSY);
    EXPECT(0, cove_commit(segment));
    assert_int_equal(bank->cents[0], -100);
    assert_int_equal(bank->cents[1], 100);
    assert_int_equal(probe(segment, &bank->lock[0]), 0);
    assert_int_equal(probe(segment, &bank->lock[1]), 0);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_abort_puts_back_and_frees_locks(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    bank->cents[0] = 7;
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    for (int64_t i = 0; i < 5; i++) { /* the oldest bytes are those that come back */
        EXPECT(0, cove_save(segment, &bank->cents[0], 8));
        bank->cents[0] = 100 + i;
    }
    EXPECT(0, cove_abort(segment));
    assert_int_equal(bank->cents[0], 7);
    assert_int_equal(probe(segment, &bank->lock[0]), 0); /* an abort is no recovery */
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_errors_are_told(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    int64_t outside = 0;
    EXPECT(-EINVAL, cove_commit(segment));
    EXPECT(-EINVAL, cove_abort(segment));
    EXPECT(-EINVAL, cove_save(segment, bank->cents, 8));
    EXPECT(-EINVAL, cove_begin(NULL));
    EXPECT(0, cove_begin(segment));
    EXPECT(-EINVAL, cove_save(segment, &outside, sizeof outside));
    EXPECT(-EINVAL, cove_save(segment, NULL, 8));
    EXPECT(-EINVAL, cove_save(segment, bank, SIZE_MAX));
    EXPECT(-EINVAL, cove_save(segment, bank, SIZE_MAX - (size_t)(uintptr_t)bank));
    EXPECT(-EINVAL, cove_save(segment, (void *)((uintptr_t)bank & ~(uintptr_t)4095), SIZE_MAX / 2));
    EXPECT(0, cove_save(segment, bank->cents, 0)); /* nothing to keep */
    EXPECT(-EBUSY, cove_close(segment));
    EXPECT(0, cove_commit(segment));
    cove_segment *onlooker = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    EXPECT(-EPERM, cove_begin(onlooker));
    unit_close(onlooker);
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_nested_commits_at_the_outermost(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, &bank->cents[0], 8));
    bank->cents[0] = 1;
    EXPECT(0, cove_commit(segment));
    assert_int_equal(probe(segment, &bank->lock[0]), -EBUSY); /* one level up, nothing else */
    EXPECT(0, cove_abort(segment));
    assert_int_equal(bank->cents[0], 0);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_abort(segment)); /* ends all levels */
    EXPECT(-EINVAL, cove_commit(segment));
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_unlock_inside_waits_for_the_end(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[1])); /* nothing was saved yet: free at once */
    assert_int_equal(probe(segment, &bank->lock[1]), 0);
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
    EXPECT(0, cove_save(segment, &bank->cents[0], 8));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
    assert_int_equal(probe(segment, &bank->lock[0]), -EBUSY);
    EXPECT(-EPERM, cove_mutex_unlock(segment, &bank->lock[0]));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_NOWAIT)); /* taken up again */
    EXPECT(-EDEADLK, cove_mutex_lock(segment, &bank->lock[0], COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
    EXPECT(0, cove_commit(segment));
    assert_int_equal(probe(segment, &bank->lock[0]), 0);
    assert_int_equal(probe(segment, &bank->lock[1]), 0);
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_keeps_locks_taken_before_it(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    for (int abort = 0; abort < 2; abort++) {
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
        EXPECT(0, cove_save(segment, &bank->cents[0], 8));
        EXPECT(0, abort ? cove_abort(segment) : cove_commit(segment));
        assert_int_equal(probe(segment, &bank->lock[0]), -EBUSY);
        assert_int_equal(probe(segment, &bank->lock[1]), 0);
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
    }
    unit_close(segment);
    unit_remove("t");
}

/* Taken before, given back inside: it goes at the end, by commit as by abort. */
static void test_transaction_unlock_of_an_earlier_lock_is_carried_out(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    for (int abort = 0; abort < 2; abort++) {
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
        EXPECT(0, cove_save(segment, &bank->cents[0], 8));
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
        EXPECT(0, abort ? cove_abort(segment) : cove_commit(segment));
        assert_int_equal(probe(segment, &bank->lock[0]), 0);
        assert_int_equal(probe(segment, &bank->lock[1]), 0);
    }
    unit_close(segment);
    unit_remove("t");
}

/* The place of an earlier lock that was given back inside is not mistaken for it. */
static void test_transaction_lock_in_the_place_of_an_earlier_one_is_freed(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    for (int abort = 0; abort < 2; abort++) {
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0])); /* at once: nothing was saved */
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
        EXPECT(0, cove_save(segment, &bank->cents[0], 8));
        EXPECT(0, abort ? cove_abort(segment) : cove_commit(segment));
        assert_int_equal(probe(segment, &bank->lock[1]), 0);
        EXPECT(-EPERM, cove_mutex_unlock(segment, &bank->lock[1]));
    }
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_save_of_a_struct_with_its_lock_inside(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[3], COVE_FOREVER));
    EXPECT(0, cove_save(segment, bank, sizeof *bank));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[2], COVE_FOREVER)); /* taken after it was saved as free */
    memset(bank->cents, 0xee, sizeof bank->cents);
    EXPECT(0, cove_abort(segment));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(bank->cents[i], 0);
        assert_int_equal(probe(segment, &bank->lock[i]), 0);
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[i], COVE_NOWAIT));
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[i]));
    }
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* Change every byte of a stretch in pieces of odd sizes, saved one by one, and abort. */
static void save_and_abort(cove_segment *segment, size_t size_bytes, size_t piece_bytes)
{
    cove_ref ref = cove_alloc(segment, size_bytes);
    assert_true(ref != 0);
    unsigned char *bytes = cove_at(segment, ref, size_bytes);
    assert_non_null(bytes);
    for (size_t i = 0; i < size_bytes; i++)
        bytes[i] = (unsigned char)(i * 7 + 3);
    uint64_t before = unit_free_bytes(segment);
    EXPECT(0, cove_begin(segment));
    for (size_t at = 0; at < size_bytes; at += piece_bytes) {
        size_t count = size_bytes - at < piece_bytes ? size_bytes - at : piece_bytes;
        EXPECT(0, cove_save(segment, bytes + at, count));
        memset(bytes + at, 0xaa, count);
    }
    EXPECT(0, cove_abort(segment));
    for (size_t i = 0; i < size_bytes; i++)
        if (bytes[i] != (unsigned char)(i * 7 + 3))
            fail_msg("byte %zu of %zu did not come back", i, size_bytes);
    unit_sound(segment);
    struct cove_segment_info info = unit_stat(segment);
    assert_true(info.heap_free_bytes >= before);
    EXPECT(0, cove_free(segment, ref));
    assert_int_equal(unit_stat(segment).heap_free_bytes + (unit_stat(segment).heap_block_count ? 0 : 32),
                     unit_stat(segment).heap_bytes);
}

static void test_transaction_journal_grows(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    save_and_abort(segment, 100, 1);
    save_and_abort(segment, 5000, 13);
    save_and_abort(segment, (size_t)1 << 20, (size_t)1 << 20);
    save_and_abort(segment, (size_t)1 << 20, 1000);
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_without_room_for_the_journal_changes_nothing(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as(
        "t", &(struct cove_options){.size_bytes = 65536, .max_size_bytes = 65536, .max_members = 2});
    cove_ref ref = cove_alloc(segment, 40000);
    unsigned char *bytes = cove_at(segment, ref, 40000);
    memset(bytes, 1, 40000);
    uint64_t before = unit_free_bytes(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, bytes, 100));
    memset(bytes, 2, 100);
    EXPECT(-ENOSPC, cove_save(segment, bytes + 100, 39000));
    assert_int_equal(unit_free_bytes(segment), before);
    EXPECT(0, cove_save(segment, bytes + 100, 100)); /* it goes on with what fits */
    memset(bytes + 100, 3, 100);
    EXPECT(0, cove_abort(segment));
    for (int i = 0; i < 40000; i++)
        assert_int_equal(bytes[i], 1);
    assert_int_equal(unit_free_bytes(segment), before);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_blocks_go_with_it(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 1000));
    cove_ref old = bank->ref;
    uint64_t before = unit_free_bytes(segment);

    EXPECT(0, cove_begin(segment)); /* aborted: the new one goes, the old one stays */
    EXPECT(0, cove_free_from(segment, &bank->ref));
    assert_int_equal(bank->ref, 0);
    EXPECT_SAYS(-EINVAL, cove_free(segment, old), "freed before");
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 2000));
    assert_true(bank->ref != 0 && bank->ref != old);
    assert_true(cove_alloc(segment, 300) != 0);
    EXPECT(0, cove_abort(segment));
    assert_int_equal(bank->ref, old);
    assert_int_equal(unit_free_bytes(segment), before);
    assert_true(cove_usable_size(segment, old) >= 1000);

    EXPECT(0, cove_begin(segment)); /* committed: the old one goes, the new one stays */
    EXPECT(0, cove_free_from(segment, &bank->ref));
    assert_true(cove_usable_size(segment, old) >= 1000); /* not before the commit */
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 1000));
    cove_ref both = cove_alloc(segment, 64);
    EXPECT(0, cove_free(segment, both)); /* allocated and freed in it */
    EXPECT(0, cove_commit(segment));
    assert_int_equal(unit_free_bytes(segment), before);
    EXPECT(-EINVAL, cove_free(segment, old));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_many_blocks_abort_exactly(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    uint64_t seed = 12345;
    cove_ref kept[100];
    for (int i = 0; i < 100; i++)
        kept[i] = cove_alloc(segment, 1 + (size_t)(unit_random(&seed) % 3000));
    uint64_t heap = unit_stat(segment).heap_bytes, before = unit_free_bytes(segment);
    for (int abort = 0; abort < 2; abort++) {
        EXPECT(0, cove_begin(segment));
        for (int i = 0; i < 1000; i++) {
            cove_ref ref = cove_alloc(segment, 1 + (size_t)(unit_random(&seed) % 500));
            assert_true(ref != 0);
            if (i % 3 == 0 || !abort)
                EXPECT(0, cove_free(segment, ref));
        }
        for (int i = 0; i < 100 && abort; i++)
            EXPECT(0, cove_free(segment, kept[i]));
        EXPECT(0, abort ? cove_abort(segment) : cove_commit(segment));
        uint64_t grown = unit_stat(segment).heap_bytes - heap;
        assert_int_equal(unit_free_bytes(segment), before + grown);
        unit_sound(segment);
    }
    unit_close(segment);
    unit_remove("t");
}

static void test_transaction_two_segments_are_apart(void **state)
{
    (void)state;
    cove_segment *one = unit_open("one"), *two = unit_open("two");
    struct bank *a = open_bank(one), *b = open_bank(two);
    EXPECT(0, cove_begin(one));
    EXPECT(-EINVAL, cove_save(two, b->cents, 8));
    EXPECT(0, cove_begin(two));
    EXPECT(-EINVAL, cove_save(one, b->cents, 8));
    EXPECT(-EINVAL, cove_mutex_lock(one, &b->lock[0], COVE_NOWAIT));
    EXPECT(0, cove_mutex_lock(one, &a->lock[0], COVE_NOWAIT));
    EXPECT(0, cove_mutex_lock(two, &b->lock[0], COVE_NOWAIT));
    EXPECT(0, cove_save(one, a->cents, 8));
    EXPECT(0, cove_save(two, b->cents, 8));
    a->cents[0] = b->cents[0] = 5;
    EXPECT(0, cove_abort(one));
    EXPECT(0, cove_commit(two));
    assert_int_equal(a->cents[0], 0);
    assert_int_equal(b->cents[0], 5);
    assert_int_equal(probe(one, &a->lock[0]), 0);
    assert_int_equal(probe(two, &b->lock[0]), 0);
    unit_close(one);
    unit_close(two);
    unit_remove("one");
    unit_remove("two");
}

/* ---- killed in it */

static void change_and_die(void *argument)
{
    (void)argument;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[1], COVE_FOREVER));
    EXPECT(0, cove_save(segment, bank->cents, sizeof bank->cents));
    memset(bank->cents, 0xee, sizeof bank->cents);
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 5000));
    cove_ref large = cove_alloc(segment, 100000);
    void *bytes = cove_at(segment, large, 100000);
    EXPECT(0, cove_save(segment, bytes, 100000)); /* the journal lies in the heap by now */
    assert_true(cove_alloc(segment, 77) != 0);
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[1])); /* marked only */
    testing_reach(0);
    unit_wait_for_death();
}

static void test_transaction_killed_is_undone_to_the_byte(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct bank *bank = open_bank(segment);
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 10));
    cove_ref old = bank->ref;
    uint64_t heap = unit_stat(segment).heap_bytes, before = unit_free_bytes(segment);
    for (unsigned i = 1; i <= 3; i++) {
        pid_t pid = testing_spawn(change_and_die, NULL);
        testing_await_count(0, i);
        EXPECT(-EBUSY, cove_mutex_lock(segment, &bank->lock[1], COVE_NOWAIT));
        testing_kill(pid);
        EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &bank->lock[1], unit_patience()));
        EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &bank->lock[0], unit_patience()));
        for (int k = 0; k < 4; k++)
            assert_int_equal(bank->cents[k], 0);
        assert_int_equal(bank->ref, old);
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[1]));
        EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_NOWAIT)); /* told once */
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
        (void)EXPECT_GOOD(cove_recover(segment));
        assert_int_equal(unit_free_bytes(segment), before + unit_stat(segment).heap_bytes - heap);
        assert_int_equal(unit_stat(segment).members_alive, 1);
        assert_int_equal(unit_stat(segment).members_dead, 0);
        unit_sound(segment);
    }
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_transaction_commit_keeps_and_frees_locks),
    TEST(test_transaction_abort_puts_back_and_frees_locks),
    TEST(test_transaction_errors_are_told),
    TEST(test_transaction_nested_commits_at_the_outermost),
    TEST(test_transaction_unlock_inside_waits_for_the_end),
    TEST(test_transaction_keeps_locks_taken_before_it),
    TEST(test_transaction_unlock_of_an_earlier_lock_is_carried_out),
    TEST(test_transaction_lock_in_the_place_of_an_earlier_one_is_freed),
    TEST(test_transaction_save_of_a_struct_with_its_lock_inside),
    TEST(test_transaction_journal_grows),
    TEST(test_transaction_without_room_for_the_journal_changes_nothing),
    TEST(test_transaction_blocks_go_with_it),
    TEST(test_transaction_many_blocks_abort_exactly),
    TEST(test_transaction_two_segments_are_apart),
    TEST(test_transaction_killed_is_undone_to_the_byte),
};

int main(void)
{
    return testing_run("transaction", tests);
}
