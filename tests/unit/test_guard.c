/* test_guard.c - guarded mappings: what is left of a region, several at once, threads and children.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=60 */
#include "guard.h"

/* ---- what is left of a region */

static void test_guard_at_each_length_keeps_what_is_left(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {0, 1, 4095, 4096, 4097, 8192, SIZE - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cove_region *region = region_of("r", 0);
        memset(cove_region_data(region), 1, SIZE);
        struct visit visit = {.name = "r", .cut_to = lengths[i], .result = 3};
        /* The rest of the last page is there, zeroed by the system: touching it alone is no fault. */
        bool faults = lengths[i] <= SIZE - 4096;
        EXPECT(faults ? COVE_ETRUNCATED : 3, cove_region_guard(region, touch_all, &visit));
        EXPECT(COVE_ETRUNCATED, cove_region_guard(region, touch_nothing, &visit.result));
        drop("r", region);
    }
}

static void test_guard_passes_on_what_the_access_returns(void **state)
{
    (void)state;
    static const int results[] = {0, 1, INT32_MAX, -1, -EINTR, COVE_EPEER};
    cove_region *region = region_of("r", 0);
    for (size_t i = 0; i < sizeof results / sizeof *results; i++) {
        int result = results[i];
        assert_int_equal(cove_region_guard(region, touch_nothing, &result), result);
    }
    EXPECT(-EINVAL, cove_region_guard(region, NULL, NULL));
    EXPECT(-EINVAL, cove_region_guard(NULL, touch_nothing, NULL));
    drop("r", region);
}

static int guard_once_more(void *data, uint64_t size_bytes, void *context)
{
    struct visit *visit = context;
    (void)data;
    (void)size_bytes;
    EXPECT(COVE_ETRUNCATED, cove_region_guard(visit->region, touch_all, visit));
    EXPECT(COVE_ETRUNCATED, cove_region_guard(visit->region, touch_nothing, &visit->result));
    return visit->result;
}

static void test_guard_inside_a_guard_tells_both(void **state)
{
    (void)state;
    cove_region *region = region_of("r", 0), *other = region_of("other", 0);
    struct visit visit = {.name = "r", .region = region};
    EXPECT(COVE_ETRUNCATED, cove_region_guard(region, guard_once_more, &visit));
    EXPECT(COVE_ETRUNCATED, cove_region_guard(region, touch_nothing, &visit.result));
    visit = (struct visit){.name = "other", .region = other, .result = 4};
    drop("r", region);
    region = region_of("r", 0);
    EXPECT(4, cove_region_guard(region, guard_once_more, &visit)); /* the outer one of another region is well */
    drop("r", region);
    drop("other", other);
}

/* Cut, used, and made as long as before, as programs do that write a file anew: by then the mapping is private in
 * part. */
static void test_guard_from_the_start_is_told_though_the_file_grew_again(void **state)
{
    (void)state;
    int result = 0;
    struct cove_region_info info;
    char name[2048];
    (void)snprintf(name, sizeof name, "file:%s", unit_path("r"));
    cove_region *region = region_of(name, COVE_GUARD);
    volatile unsigned char *bytes = cove_region_data(region);
    bytes[SIZE - 1] = 1;
    cut("r", 0);
    cut("r", SIZE);
    EXPECT(0, cove_region_stat(region, &info)); /* nobody has touched it: all there, of zeros */
    assert_int_equal(bytes[SIZE - 1], 0);
    cut("r", 0);
    bytes[SIZE - 1] = 2;
    cut("r", SIZE);
    assert_int_equal(bytes[SIZE - 1], 2); /* ours alone */
    EXPECT(COVE_ETRUNCATED, cove_region_guard(region, touch_nothing, &result));
    EXPECT(COVE_ETRUNCATED, cove_region_stat(region, &info));
    EXPECT(COVE_ETRUNCATED, cove_region_sync(region, 0, 0)); /* what was stored goes nowhere */
    EXPECT(COVE_ETRUNCATED, cove_region_protect(region, 0, 0, COVE_ACCESS_READ));
    EXPECT(0, cove_region_close(region));
    EXPECT(0, cove_region_unlink(name, 0));
}

/* ---- threads */

#define GUARDS 200u

struct guarding {
    char name[8];
    unsigned told;
};

static void *guard_again_and_again(void *argument)
{
    struct guarding *guarding = argument;
    for (unsigned i = 0; i < GUARDS; i++) {
        cove_region *region = region_of(guarding->name, i % 2 ? COVE_GUARD : 0);
        memset(cove_region_data(region), 1, SIZE);
        struct visit visit = {.name = guarding->name};
        guarding->told += cove_region_guard(region, touch_all, &visit) == COVE_ETRUNCATED;
        drop(guarding->name, region);
    }
    return NULL;
}

static void test_guard_by_threads_tells_each_of_its_own(void **state)
{
    (void)state;
    struct guarding guarding[4];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        guarding[i] = (struct guarding){.told = 0};
        (void)snprintf(guarding[i].name, sizeof guarding[i].name, "r%d", i);
        threads[i] = unit_thread(guard_again_and_again, &guarding[i]);
    }
    for (int i = 0; i < 4; i++) {
        unit_thread_join(threads[i]);
        assert_int_equal(guarding[i].told, GUARDS);
    }
}

static cove_region *common;
static _Atomic bool is_cut;

static int touch_when_cut(void *data, uint64_t size_bytes, void *context)
{
    testing_reach(0);
    while (!atomic_load(&is_cut))
        (void)sched_yield();
    ((volatile unsigned char *)data)[(uintptr_t)context * 4096 % size_bytes] = 1;
    return 0;
}

static void *guard_the_common(void *which)
{
    return (void *)(intptr_t)cove_region_guard(common, touch_when_cut, which);
}

static void test_guard_by_threads_of_one_region_tells_all(void **state)
{
    (void)state;
    pthread_t threads[8];
    common = region_of("r", 0);
    for (uintptr_t i = 0; i < 8; i++)
        threads[i] = unit_thread(guard_the_common, (void *)i);
    testing_await_count(0, 8);
    cut("r", 0);
    atomic_store(&is_cut, true);
    for (int i = 0; i < 8; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_int_equal((int)(intptr_t)result, COVE_ETRUNCATED);
    }
    drop("r", common);
}

static void test_guard_of_more_than_there_are_places_is_told(void **state)
{
    (void)state;
    static cove_region *regions[300];
    unsigned count = 0;
    int result = 0;
    while (count < 300 &&
           (result = cove_region_open(&regions[count], "r",
                                      &(struct cove_region_options){.size_bytes = SIZE, .flags = COVE_GUARD})) >= 0)
        count++;
    EXPECT_WAS(-EMFILE, result);
    unit_expect_says("open", "guards 256", __FILE__, __LINE__);
    assert_int_equal(count, 256);
    cove_region *plain = region_of("r", 0);
    EXPECT(-EMFILE, cove_region_guard(plain, touch_nothing, &result));
    EXPECT(0, cove_region_close(regions[--count]));
    result = 5;
    EXPECT(5, cove_region_guard(plain, touch_nothing, &result));
    EXPECT(0, cove_region_close(plain));
    while (count > 0)
        EXPECT(0, cove_region_close(regions[--count]));
    EXPECT(0, cove_region_unlink("r", 0));
}

/* ---- children */

static void guards_in_a_child(void *argument)
{
    cove_region *inherited = argument;
    struct visit visit = {.name = "r"};
    volatile unsigned char *bytes = cove_region_data(inherited);
    cut("r", 4096);
    assert_int_equal(bytes[4096], 0); /* guarded since before the fork */
    EXPECT(COVE_ETRUNCATED, cove_region_guard(inherited, touch_all, &visit));
    EXPECT(0, cove_region_close(inherited));
}

static void test_guard_is_inherited_by_a_child_and_stays_the_parents(void **state)
{
    (void)state;
    int result = 4;
    cove_region *region = region_of("r", COVE_GUARD);
    memset(cove_region_data(region), 1, SIZE);
    testing_join(testing_spawn(guards_in_a_child, region));
    cut("r", SIZE);
    EXPECT(4, cove_region_guard(region, touch_nothing, &result)); /* this process has touched nothing */
    assert_int_equal(((unsigned char *)cove_region_data(region))[0],
                     1); /* nor has the child's private memory come here */
    drop("r", region);
}

static _Atomic bool enough;

static void *guard_all_the_time(void *argument)
{
    int result = 0;
    (void)argument;
    while (!atomic_load_explicit(&enough, memory_order_relaxed))
        EXPECT(0, cove_region_guard(common, touch_nothing, &result));
    return NULL;
}

static void guards_once(void *unused)
{
    int result = 6;
    (void)unused;
    EXPECT(6, cove_region_guard(common, touch_nothing, &result));
}

/* Whatever another thread was in the middle of when the process forked. */
static void test_guard_in_a_child_of_a_process_whose_threads_guard(void **state)
{
    (void)state;
    if (UNIT_UNDER_TSAN)
        testing_skip("ThreadSanitizer does not let a child of a threaded process start threads or lock");
    common = region_of("r", 0);
    pthread_t threads[2] = {unit_thread(guard_all_the_time, NULL), unit_thread(guard_all_the_time, NULL)};
    for (int i = 0; i < 200; i++)
        testing_join(testing_spawn(guards_once, NULL));
    atomic_store(&enough, true);
    unit_thread_join(threads[0]);
    unit_thread_join(threads[1]);
    drop("r", common);
}

static const struct testing_case tests[] = {
    TEST(test_guard_at_each_length_keeps_what_is_left),
    TEST(test_guard_passes_on_what_the_access_returns),
    TEST(test_guard_inside_a_guard_tells_both),
    TEST(test_guard_from_the_start_is_told_though_the_file_grew_again),
    TEST_TIMEOUT(test_guard_by_threads_tells_each_of_its_own, 30),
    TEST(test_guard_by_threads_of_one_region_tells_all),
    TEST(test_guard_of_more_than_there_are_places_is_told),
    TEST(test_guard_is_inherited_by_a_child_and_stays_the_parents),
    TEST_TIMEOUT(test_guard_in_a_child_of_a_process_whose_threads_guard, 30),
};

int main(void)
{
    return testing_run("guard", tests);
}
