/* machine_full.c - a file system with no page free, with one, with two ...: each operation that needs memory.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * An operation is prepared with room, then exactly k pages are left and it is run, for k from 0 until it succeeds,
 * and with a few more. When it does not, it says so (-ENOSPC, with what is needed and what is free), nothing that was
 * there is lost, nothing is left of it, the segment is sound, and with room again the same operation works. All
 * memory that it was given is written to: a page that was promised and is not there is a SIGBUS, and the test dies of
 * it. */
/* ctest: timeout=60 */
#include "machine_setup.h"

static cove_segment *segment;

/* ---- what many of them do */

static void close_and_remove(void)
{
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
    segment = NULL;
}

static void prepare_small(void)
{
    segment = unit_open_as("t", &(struct cove_options){.size_bytes = 4096, .max_members = 64});
    EXPECT(0, cove_free(segment, cove_alloc(segment, 16))); /* this thread has its lane */
}

/* The segment as others see it, who look without taking part. */
static void settle_sound(int64_t result)
{
    (void)result;
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    cove_segment *look = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    unit_sound(look);
    struct cove_member_info members[4];
    assert_true(EXPECT_GOOD(cove_segment_members(look, members, 4)) >= 1);
    unit_close(look);
}

/* ---- creating */

static int64_t create_as(const struct cove_options *options)
{
    int result = cove_open(&segment, "t", options);
    if (result < 0)
        assert_null(segment);
    return result;
}

static int64_t run_create_small(void)
{
    return create_as(&(struct cove_options){.size_bytes = 4096, .max_members = 2, .flags = COVE_EXCLUSIVE});
}

static int64_t run_create(void)
{
    return create_as(NULL);
}

static void settle_create(int64_t result)
{
    assert_int_equal(unit_exists("t"), result >= 0);
    if (result >= 0)
        settle_sound(result);
}

static void test_full_create_small(void **state)
{
    (void)state;
    machine_at_each_page(&(struct machine_operation){"create, 2 members", NULL, run_create_small, settle_create,
                                                     close_and_remove, true, 6, 14});
}

static void test_full_create(void **state)
{
    (void)state;
    machine_at_each_page(
        &(struct machine_operation){"create", NULL, run_create, settle_create, close_and_remove, true, 70, 90});
}

/* ---- joining: a page of rows, four pages of lanes */

static unsigned joined;

static void join_and_wait(void *argument)
{
    (void)argument;
    cove_segment *own = unit_open("t");
    testing_reach(0);
    testing_await(1);
    unit_close(own);
}

#define ROWS_A_PAGE 32
static pid_t crowd[ROWS_A_PAGE];

/* All rows of the first page are taken. */
static void prepare_crowd(void)
{
    unit_close(unit_open_as("t", &(struct cove_options){.size_bytes = 4096, .max_members = 64}));
    for (int i = 0; i < ROWS_A_PAGE; i++)
        crowd[i] = testing_spawn(join_and_wait, NULL);
    testing_await_count(0, joined += ROWS_A_PAGE);
    segment = NULL;
}

static int64_t run_join(void)
{
    return cove_open(&segment, "t", NULL);
}

static void settle_join(int64_t result)
{
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_alive, ROWS_A_PAGE + (result >= 0));
    cove_segment *look = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    unit_sound(look);
    unit_close(look);
}

static void clear_crowd(void)
{
    for (int i = 0; i < ROWS_A_PAGE; i++)
        testing_kill(crowd[i]);
    close_and_remove();
}

static void test_full_join_as_one_more_member(void **state)
{
    (void)state;
    machine_at_each_page(
        &(struct machine_operation){"join", prepare_crowd, run_join, settle_join, clear_crowd, true, 1, 1});
}

static void prepare_no_lane(void)
{
    segment = unit_open_as("t", &(struct cove_options){.size_bytes = 4096, .max_members = 64});
}

static int64_t run_first_lane(void)
{
    cove_ref ref = cove_alloc(segment, 100);
    return ref ? cove_free(segment, ref) : -errno;
}

static void test_full_first_lane(void **state)
{
    (void)state;
    machine_at_each_page(&(struct machine_operation){"first lane", prepare_no_lane, run_first_lane, settle_sound,
                                                     close_and_remove, true, 4, 4});
}

#define LANES_A_GO 8
static pthread_t threads[LANES_A_GO - 1];
static atomic_uint threads_with_lane, threads_go;

static void *take_lane_and_wait(void *unused)
{
    (void)unused;
    EXPECT(0, run_first_lane());
    atomic_fetch_add(&threads_with_lane, 1);
    UNTIL(atomic_load(&threads_go) != 0, 20000);
    return NULL;
}

static void prepare_all_lanes(void)
{
    prepare_small();
    atomic_store(&threads_go, 0);
    atomic_store(&threads_with_lane, 0);
    for (int i = 0; i < LANES_A_GO - 1; i++)
        threads[i] = unit_thread(take_lane_and_wait, NULL);
    UNTIL(atomic_load(&threads_with_lane) == LANES_A_GO - 1, 20000);
}

struct thread_result {
    int64_t result;
    char sentence[COVEI_ERROR_BYTES];
};

static void *one_more_lane(void *argument)
{
    struct thread_result *outcome = argument;
    outcome->result = run_first_lane();
    covei_error_save(outcome->sentence);
    return NULL;
}

static int64_t run_one_more_lane(void)
{
    struct thread_result outcome = {0};
    unit_in_thread(one_more_lane, &outcome);
    covei_error_restore(outcome.sentence);
    return outcome.result;
}

static void clear_lanes(void)
{
    atomic_store(&threads_go, 1);
    for (int i = 0; i < LANES_A_GO - 1; i++)
        unit_thread_join(threads[i]);
    close_and_remove();
}

static void test_full_one_more_lane(void **state)
{
    (void)state;
    machine_at_each_page(&(struct machine_operation){"ninth lane", prepare_all_lanes, run_one_more_lane, settle_sound,
                                                     clear_lanes, true, 4, 4});
}

/* ---- growing */

#define GROWN_BYTES (40 * (size_t)MACHINE_PAGE)

static int64_t run_grow(void)
{
    cove_ref ref = cove_alloc(segment, GROWN_BYTES);
    if (!ref)
        return -errno;
    memset(cove_at(segment, ref, GROWN_BYTES), 1, GROWN_BYTES);
    return 0;
}

static void settle_grow(int64_t result)
{
    settle_sound(result);
    assert_int_equal(unit_stat(segment).heap_block_count, result >= 0);
}

static void test_full_grow(void **state)
{
    (void)state;
    machine_at_each_page(
        &(struct machine_operation){"grow", prepare_small, run_grow, settle_grow, close_and_remove, true, 39, 41});
}

/* A journal that outgrows its lane moves to a block of the heap. */
#define SAVED_BYTES (24 * (size_t)MACHINE_PAGE)
static unsigned char *saved;

static void prepare_saved(void)
{
    prepare_small();
    saved = unit_object(segment, "b", SAVED_BYTES);
    memset(saved, 7, SAVED_BYTES);
}

static int64_t run_save(void)
{
    EXPECT(0, cove_begin(segment));
    int result = cove_save(segment, saved, SAVED_BYTES);
    char sentence[COVEI_ERROR_BYTES];
    covei_error_save(sentence);
    if (result == 0)
        memset(saved, 8, SAVED_BYTES);
    EXPECT(0, cove_abort(segment));
    covei_error_restore(sentence);
    for (size_t i = 0; i < SAVED_BYTES; i++)
        assert_int_equal(saved[i], 7);
    return result;
}

static void test_full_journal(void **state)
{
    (void)state;
    machine_at_each_page(
        &(struct machine_operation){"journal", prepare_saved, run_save, settle_sound, close_and_remove, true, 23, 27});
}

/* ---- objects */

#define OBJECT_BYTES (10 * (size_t)MACHINE_PAGE)

static int64_t run_object(void)
{
    void *object = NULL;
    int result = cove_object_open(&object, segment, "b",
                                  &(struct cove_type){.name = "unit", .size_bytes = OBJECT_BYTES}, 0);
    if (result >= 0)
        memset(object, 9, OBJECT_BYTES);
    return result;
}

static void settle_object(int64_t result)
{
    settle_sound(result);
    struct cove_object_info object;
    assert_int_equal(EXPECT_GOOD(cove_objects(segment, &object, 1)), result >= 0);
}

static void test_full_object(void **state)
{
    (void)state;
    machine_at_each_page(
        &(struct machine_operation){"object", prepare_small, run_object, settle_object, close_and_remove, true, 9, 12});
}

#define RING_BYTES (16 * (size_t)MACHINE_PAGE)

/* Both ends, and as many bytes as touch all of the ring. */
static int64_t run_stream(void)
{
    static char bytes[MACHINE_PAGE];
    const struct cove_stream_options options = {.capacity_bytes = RING_BYTES};
    cove_stream *writer = NULL, *reader = NULL;
    int result = cove_stream_open_in(&writer, segment, "s", COVE_WRITER, &options);
    if (result < 0)
        return result;
    (void)EXPECT_GOOD(cove_stream_open_in(&reader, segment, "s", COVE_READER, &options));
    for (size_t sent = 0; sent < 2 * RING_BYTES; sent += sizeof bytes) {
        EXPECT((int64_t)sizeof bytes, cove_stream_write(writer, bytes, sizeof bytes, unit_patience()));
        EXPECT((int64_t)sizeof bytes, cove_stream_read(reader, bytes, sizeof bytes, unit_patience()));
    }
    EXPECT(0, cove_stream_close(writer));
    EXPECT(0, cove_stream_close(reader));
    return 0;
}

static void test_full_stream(void **state)
{
    (void)state;
    machine_at_each_page(&(struct machine_operation){"stream", prepare_small, run_stream, settle_object,
                                                     close_and_remove, true, 15, 20});
}

/* ---- a killed program, and no room: those who come next need no memory for its recovery */

struct pair {
    cove_mutex lock;
    uint64_t value;
};

static void die_with_all_lanes(void *argument)
{
    (void)argument;
    segment = unit_open("t");
    struct pair *pair = unit_object(segment, "p", sizeof *pair);
    pair->value = 1;
    for (int i = 0; i < LANES_A_GO - 1; i++)
        threads[i] = unit_thread(take_lane_and_wait, NULL);
    UNTIL(atomic_load(&threads_with_lane) == LANES_A_GO - 1, 20000);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &pair->lock, COVE_FOREVER));
    EXPECT(0, cove_save(segment, &pair->value, sizeof pair->value));
    pair->value = 2;
    testing_reach(2);
    unit_wait_for_death();
}

static void test_full_recovery_of_all_lanes_needs_no_room(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(MACHINE_ROOM_BYTES, "");
    pid_t pid = testing_spawn(die_with_all_lanes, NULL);
    testing_await(2);
    testing_kill(pid);
    machine_leave_pages(0);
    segment = unit_open("t");
    struct pair *pair = unit_object(segment, "p", sizeof *pair);
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &pair->lock, unit_patience()));
    assert_int_equal(pair->value, 1);
    EXPECT(0, cove_mutex_unlock(segment, &pair->lock));
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(unit_stat(segment).members_dead, 0);
    settle_sound(0);
    machine_make_room();
    close_and_remove();
    machine_unmount();
}

/* ---- no names left, though there are bytes */

static void test_full_of_names_is_told(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(MACHINE_ROOM_BYTES, ",nr_inodes=3"); /* the directory, and two */
    segment = unit_open("t");
    machine_leave_pages(100);
    cove_segment *other = NULL;
    EXPECT(-ENOSPC, cove_open(&other, "other", &(struct cove_options){.size_bytes = 4096}));
    unit_expect_says("cove_open", "nr_inodes", __FILE__, __LINE__);
    assert_false(unit_exists("other"));
    unit_close(unit_open("t"));
    machine_make_room();
    other = unit_open("other");
    unit_close(other);
    unit_remove("other");
    close_and_remove();
    machine_unmount();
}

/* ---- no limit at all: such a file system says that it has no blocks, and none free */

static void test_full_never_without_a_limit(void **state)
{
    (void)state;
    machine_own_mounts();
    machine_mount(0, "");
    machine_expect_pages(0);
    machine_work_alone();
    machine_unmount();
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_full_create_small, 20),
    TEST_TIMEOUT(test_full_create, 20),
    TEST_TIMEOUT(test_full_join_as_one_more_member, 20),
    TEST_TIMEOUT(test_full_first_lane, 20),
    TEST_TIMEOUT(test_full_one_more_lane, 20),
    TEST_TIMEOUT(test_full_grow, 20),
    TEST_TIMEOUT(test_full_journal, 20),
    TEST_TIMEOUT(test_full_object, 20),
    TEST_TIMEOUT(test_full_stream, 20),
    TEST_TIMEOUT(test_full_recovery_of_all_lanes_needs_no_room, 20),
    TEST_TIMEOUT(test_full_of_names_is_told, 20),
    TEST(test_full_never_without_a_limit),
};

int main(void)
{
    return testing_run("machine_full", tests);
}
