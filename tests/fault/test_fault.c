/* test_fault.c - each system call and each allocation fails once, in every operation that makes any.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * An operation is run with its first call failing, then with its second, until it makes no more. Each time: it succeeds all the
 * same, or says why not in a sentence; no descriptor, mapping or file is left that was not there before; and the same
 * operation, run again without a fault, succeeds, on a segment that is sound. */
#include "faulty_each.h"

/* ---- creating and opening */

static cove_segment *segment;
static const struct cove_options open_options = {.flags = COVE_NODUMP, .timeout_ns = 100 * UNIT_MS};

static void forget(void)
{
    segment = NULL;
}

static int64_t run_open(void)
{
    return cove_open(&segment, "t", &open_options);
}

static void use_and_remove(void)
{
    segment = unit_open("t");
    unit_sound(segment);
    assert_int_equal(unit_stat(segment).members_alive, 1);
    assert_int_equal(unit_stat(segment).members_dead, 0);
    cove_ref ref = cove_alloc(segment, 1000);
    assert_true(ref != 0);
    EXPECT(0, cove_free(segment, ref));
    unit_close(segment);
    EXPECT(0, cove_unlink("t", 0));
    assert_false(unit_exists("t"));
}

static void settle_create(int64_t result)
{
    if (result < 0) {
        assert_null(segment);
        assert_false(unit_exists("t")); /* neither half nor whole */
        assert_int_equal(faulty_count(testing_dir()), 2);
    } else
        unit_close(segment);
    use_and_remove();
}

static void test_fault_create(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"create", forget, run_open, settle_create, 8};
    faulty_each(&operation);
}

static int64_t run_create_with_group(void)
{
    return cove_open(&segment, "t", &(struct cove_options){.group = "root", .mode = 0660, .flags = COVE_EXCLUSIVE});
}

static void test_fault_create_with_group(void **state)
{
    (void)state;
    if (geteuid() != 0)
        testing_skip("the group root is root's to give");
    const struct faulty_operation operation = {"create with group", forget, run_create_with_group, settle_create, 9};
    faulty_each(&operation);
}

static void prepare_existing(void)
{
    unit_close(unit_open("t"));
    segment = NULL;
}

static void settle_open(int64_t result)
{
    if (result < 0)
        assert_null(segment);
    else
        unit_close(segment);
    assert_true(unit_exists("t"));
    use_and_remove();
}

static void test_fault_open(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"open", prepare_existing, run_open, settle_open, 7};
    faulty_each(&operation);
}

static int64_t run_open_held_by_children(void)
{
    return cove_open(&segment, "t", &(struct cove_options){.flags = COVE_HELD_BY_CHILDREN});
}

static void test_fault_open_held_by_children(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"open held by children", prepare_existing, run_open_held_by_children,
                                               settle_open, 9};
    faulty_each(&operation);
}

static int64_t run_open_readonly(void)
{
    return cove_open(&segment, "t", &(struct cove_options){.flags = COVE_READONLY});
}

static void test_fault_open_readonly(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"open read-only", prepare_existing, run_open_readonly, settle_open, 4};
    faulty_each(&operation);
}

static int64_t run_stat(void)
{
    struct cove_segment_info info;
    return cove_stat("t", &info);
}

static void settle_look(int64_t result)
{
    (void)result;
    use_and_remove();
}

static void test_fault_stat(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"stat", prepare_existing, run_stat, settle_look, 4};
    faulty_each(&operation);
}

/* ---- with somebody dead in it */

static unsigned deaths;

struct pair {
    cove_mutex lock;
    uint64_t value;
};

static void hold_and_die(void *argument)
{
    (void)argument;
    cove_segment *own = unit_open("t");
    struct pair *pair = unit_object(own, "p", sizeof *pair);
    EXPECT(0, cove_begin(own));
    EXPECT(0, cove_mutex_lock(own, &pair->lock, COVE_FOREVER));
    EXPECT(0, cove_save(own, &pair->value, 8));
    pair->value = 7;
    assert_true(cove_alloc(own, 5000) != 0);
    testing_reach(0);
    unit_wait_for_death();
}

static void leave_a_dead_one(void)
{
    unit_close(unit_open("t"));
    pid_t pid = testing_spawn(hold_and_die, NULL);
    testing_await_count(0, ++deaths);
    testing_kill(pid);
    segment = NULL;
}

static void settle_dead(int64_t result)
{
    if (segment)
        unit_close(segment);
    (void)result;
    segment = unit_open("t");
    struct pair *pair = unit_object(segment, "p", sizeof *pair);
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &pair->lock, unit_patience()));
    assert_int_equal(pair->value, 0);
    EXPECT(0, cove_mutex_unlock(segment, &pair->lock));
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(unit_stat(segment).heap_block_count, 2);
    unit_close(segment);
    use_and_remove();
}

static void test_fault_open_after_a_death(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"open after a death", leave_a_dead_one, run_open, settle_dead, 10};
    faulty_each(&operation);
}

static void open_then_leave_a_dead_one(void)
{
    cove_segment *mine = unit_open("t");
    leave_a_dead_one();
    segment = mine;
}

static int64_t run_lock(void)
{
    void *pair = NULL;
    int result = cove_object_open(&pair, segment, "p",
                                  &(struct cove_type){.name = "unit", .size_bytes = sizeof(struct pair)}, 0);
    if (result < 0)
        return result;
    result = cove_mutex_lock(segment, pair, 50 * UNIT_MS);
    if (result < 0)
        return result;
    return cove_mutex_unlock(segment, pair);
}

static void test_fault_lock_after_a_death(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"lock after a death", open_then_leave_a_dead_one, run_lock, settle_dead,
                                               4};
    faulty_each(&operation);
}

static int64_t run_gc(void)
{
    return cove_gc(0, NULL, NULL);
}

static void test_fault_gc(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"gc", leave_a_dead_one, run_gc, settle_dead, 10};
    faulty_each(&operation);
}

/* ---- growing */

static struct cove_segment_info before_growth;
static cove_ref grown;

static void prepare_grow(void)
{
    segment = unit_open_as("t", &(struct cove_options){.size_bytes = 4096});
    before_growth = unit_stat(segment);
}

static int64_t run_grow(void)
{
    grown = cove_alloc(segment, (size_t)5 << 20);
    return grown ? 0 : -errno;
}

static void settle_grow(int64_t result)
{
    struct cove_segment_info now = unit_stat(segment);
    if (result < 0) {
        /* Steps that were published before one failed stay: others may be using them. They are whole, and free. */
        assert_in_range(now.size_bytes, before_growth.size_bytes, before_growth.size_bytes + ((uint64_t)8 << 20));
        assert_true(now.heap_free_bytes >= before_growth.heap_free_bytes);
        assert_int_equal(now.heap_block_count, 0);
    }
    unit_sound(segment);
    cove_ref again = cove_alloc(segment, (size_t)5 << 20);
    assert_true(again != 0);
    memset(cove_at(segment, again, (size_t)5 << 20), 1, (size_t)5 << 20);
    unit_close(segment);
    use_and_remove();
}

static void test_fault_grow(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"grow", prepare_grow, run_grow, settle_grow, 3};
    faulty_each(&operation);
}

/* ---- closing and removing */

static void prepare_close(void)
{
    segment = unit_open("t");
    assert_true(cove_alloc(segment, 100) != 0);
}

static int64_t run_close(void)
{
    return cove_close(segment);
}

static void settle_close(int64_t result)
{
    if (result < 0)
        unit_close(segment);
    use_and_remove();
}

static void test_fault_close(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"close", prepare_close, run_close, settle_close, 1};
    faulty_each(&operation);
}

static void prepare_last_out(void)
{
    segment = unit_open_as("t", &(struct cove_options){.lifetime = COVE_LAST_OUT});
}

static void settle_last_out(int64_t result)
{
    if (result < 0)
        unit_close(segment);
    if (unit_exists("t")) /* it could not be removed: that is left to gc */
        assert_true(EXPECT_GOOD(cove_gc(0, NULL, NULL)) >= 1);
    assert_false(unit_exists("t"));
}

static void test_fault_close_of_the_last_out(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"close of the last out", prepare_last_out, run_close, settle_last_out,
                                               4};
    faulty_each(&operation);
}

static int64_t run_unlink(void)
{
    return cove_unlink("t", 0);
}

static void settle_unlink(int64_t result)
{
    assert_int_equal(unit_exists("t"), result < 0);
    use_and_remove(); /* the old one or a new one */
}

static void test_fault_unlink(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"unlink", prepare_existing, run_unlink, settle_unlink, 8};
    faulty_each(&operation);
}

/* ---- a stream */

static const struct cove_stream_options stream_options = {.capacity_bytes = (uint64_t)1 << 20};

static void prepare_stream(void)
{
    segment = NULL;
}

static int64_t run_stream(void)
{
    cove_stream *writer = NULL, *reader = NULL;
    int64_t result = cove_stream_open(&writer, "t/s", COVE_WRITER, &stream_options);
    if (result < 0)
        return result;
    result = cove_stream_open(&reader, "t/s", COVE_READER, &stream_options);
    char bytes[4];
    if (result >= 0)
        result = cove_stream_write(writer, "abcd", 4, 100 * UNIT_MS);
    if (result >= 0)
        result = cove_stream_read(reader, bytes, 4, 100 * UNIT_MS);
    if (result >= 0)
        result = cove_stream_read(reader, bytes, 4, 2 * UNIT_MS) == -ETIMEDOUT ? 0 : -EIO;
    int closed = cove_stream_close(writer);
    result = result < 0 || !reader ? result : closed;
    closed = cove_stream_close(reader);
    return result < 0 ? result : closed;
}

static void settle_stream(int64_t result)
{
    (void)result;
    cove_stream *reader = NULL; /* what a run that failed left in it: bytes, and the ends of sessions */
    (void)EXPECT_GOOD(cove_stream_open(&reader, "t/s", COVE_READER, &stream_options));
    char bytes[16];
    while (cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT) != -EAGAIN)
        ;
    EXPECT(0, cove_stream_close(reader));
    EXPECT(0, run_stream());
    segment = unit_open("t");
    unit_sound(segment);
    assert_int_equal(unit_stat(segment).object_count, 1);
    assert_int_equal(unit_stat(segment).heap_block_count, 2);
    unit_close(segment);
    use_and_remove();
}

static void test_fault_stream(void **state)
{
    (void)state;
    const struct faulty_operation operation = {"stream", prepare_stream, run_stream, settle_stream, 15};
    faulty_each(&operation);
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_fault_create, 30),
    TEST_TIMEOUT(test_fault_create_with_group, 30),
    TEST_TIMEOUT(test_fault_open, 30),
    TEST_TIMEOUT(test_fault_open_held_by_children, 30),
    TEST_TIMEOUT(test_fault_open_readonly, 30),
    TEST_TIMEOUT(test_fault_stat, 30),
    TEST_TIMEOUT(test_fault_open_after_a_death, 30),
    TEST_TIMEOUT(test_fault_lock_after_a_death, 30),
    TEST_TIMEOUT(test_fault_gc, 30),
    TEST_TIMEOUT(test_fault_grow, 30),
    TEST_TIMEOUT(test_fault_close, 30),
    TEST_TIMEOUT(test_fault_close_of_the_last_out, 30),
    TEST_TIMEOUT(test_fault_unlink, 30),
    TEST_TIMEOUT(test_fault_stream, 30),
};

int main(void)
{
    return testing_run("fault", tests);
}
