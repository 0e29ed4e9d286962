/* test_members.c - the roster and the lanes: a thousand at once, rows and lanes used again, and what happens when there are none left.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=180 */
#include "unit.h"

#include <signal.h>
#include <sys/resource.h>

/* ---- a thousand */

#define CROWD (UNIT_SANITIZED ? 150u : 1000u) /* a sanitizer's processes take a hundred times the memory and time */

static int gate[2]; /* they wait in a read, so that a thousand cost nothing while they wait */

static void join_and_stay(void *argument)
{
    (void)argument;
    char byte;
    assert_int_equal(close(gate[1]), 0);
    cove_segment *segment = unit_open("t");
    testing_reach(0);
    assert_int_equal(read(gate[0], &byte, 1), 0);
    unit_close(segment);
    _exit(0); /* nothing of the test's own to run at the end of each */
}

static int64_t least_attach_ns(void)
{
    int64_t least = INT64_MAX;
    for (int i = 0; i < 20; i++) {
        int64_t begun = unit_now();
        cove_segment *segment = unit_open("t");
        int64_t took = unit_now() - begun;
        unit_close(segment);
        least = took < least ? took : least;
    }
    return least;
}

static void test_members_a_thousand_at_once(void **state)
{
    (void)state;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NPROC, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < 2 * CROWD &&
        geteuid() != 0)
        testing_skip("this user may not have so many processes (ulimit -u)");
    unit_close(unit_open("t"));
    int64_t alone = least_attach_ns();
    static pid_t pids[1000];
    assert_int_equal(pipe(gate), 0);
    for (unsigned i = 0; i < CROWD - 1; i++)
        pids[i] = testing_spawn(join_and_stay, NULL);
    testing_await_count(0, CROWD - 1);
    int64_t crowded = least_attach_ns();
    print_message("attach: %" PRId64 " us alone, %" PRId64 " us with %u others\n", alone / 1000, crowded / 1000,
                  CROWD - 1);
    cove_segment *segment = unit_open("t");
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.members_alive, CROWD);
    assert_int_equal(info.members_dead, 0);
    static struct cove_member_info members[1001];
    EXPECT(CROWD, cove_segment_members(segment, members, CROWD + 1));
    for (unsigned i = 0; i < CROWD; i++) {
        assert_int_equal(members[i].alive, 1);
        assert_true(i == 0 || members[i].row > members[i - 1].row);
    }
    EXPECT(CROWD, cove_segment_members(segment, members, 3)); /* how many there are, not how many fit */
    EXPECT(CROWD, cove_segment_members(segment, NULL, 0));
    unit_sound(segment);
    assert_int_equal(close(gate[1]), 0);
    for (unsigned i = 0; i < CROWD - 1; i++)
        testing_join(pids[i]);
    assert_int_equal(close(gate[0]), 0);
    assert_int_equal(unit_stat(segment).members_alive, 1);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* ---- a full roster */

struct pair {
    cove_mutex lock;
    uint64_t value;
};

static void hold_row(void *argument)
{
    cove_segment *segment = unit_open("t");
    if (argument) {
        struct pair *pair = unit_object(segment, "p", sizeof *pair);
        EXPECT(0, cove_begin(segment));
        (void)EXPECT_GOOD(cove_mutex_lock(segment, &pair->lock, COVE_FOREVER));
        EXPECT(0, cove_save(segment, &pair->value, 8));
        pair->value = 99;
        assert_true(cove_alloc(segment, 500) != 0);
    }
    assert_true(cove_alloc(segment, 300) != 0);
    testing_reach(0);
    unit_wait_for_death();
}

static void test_members_full_roster_is_told(void **state)
{
    (void)state;
    unit_close(unit_open_as("t", &(struct cove_options){.max_members = 3}));
    pid_t pids[3];
    for (unsigned i = 0; i < 3; i++)
        pids[i] = testing_spawn(hold_row, NULL);
    testing_await_count(0, 3);
    cove_segment *segment = NULL;
    EXPECT_SAYS(-EUSERS, cove_open(&segment, "t", NULL), "max_members");
    assert_null(segment);
    unit_close(unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY})); /* takes no row */
    assert_int_equal(kill(pids[1], SIGSTOP), 0);
    EXPECT(-EUSERS, cove_open(&segment, "t", NULL)); /* stopped is alive */
    testing_kill(pids[1]);
    segment = unit_open("t"); /* in the dead one's place */
    struct cove_segment_info info = unit_stat(segment);
    assert_int_equal(info.members_alive, 3);
    assert_int_equal(info.members_dead, 0);
    unit_sound(segment);
    testing_kill(pids[0]);
    testing_kill(pids[2]);
    EXPECT(2, cove_recover(segment));
    assert_int_equal(unit_stat(segment).heap_block_count, 0);
    unit_close(segment);
    unit_remove("t");
}

/* All rows belong to the dead, in the middle of something: whoever comes inherits one, and all of its debts. */
static void test_members_roster_full_of_the_dead_is_taken_over(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.max_members = 2});
    struct pair *pair = unit_object(segment, "p", sizeof *pair);
    pair->value = 7;
    uint64_t before = unit_free_bytes(segment);
    unit_close(segment);
    for (unsigned round = 0; round < 5; round++) {
        pid_t first = testing_spawn(hold_row, (void *)1);
        testing_await_count(0, 2 * round + 1);
        pid_t second = testing_spawn(hold_row, NULL);
        testing_await_count(0, 2 * round + 2);
        testing_kill(second);
        testing_kill(first);
        segment = unit_open("t");
        pair = unit_object(segment, "p", sizeof *pair);
        int result = cove_mutex_lock(segment, &pair->lock, unit_patience());
        EXPECT_WAS(COVE_RECOVERED, result);
        assert_int_equal(pair->value, 7);
        EXPECT(0, cove_mutex_unlock(segment, &pair->lock));
        (void)EXPECT_GOOD(cove_recover(segment));
        assert_int_equal(unit_free_bytes(segment), before);
        assert_int_equal(unit_stat(segment).members_alive, 1);
        assert_int_equal(unit_stat(segment).members_dead, 0);
        unit_sound(segment);
        unit_close(segment);
    }
    unit_remove("t");
}

/* Nobody who lives has it open: the next opener alone puts all of it right. */
static void test_members_dead_are_recovered_by_opening(void **state)
{
    (void)state;
    unit_close(unit_open("t"));
    pid_t pid = testing_spawn(hold_row, (void *)1);
    testing_await(0);
    testing_kill(pid);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_dead, 1);
    cove_segment *segment = unit_open("t");
    info = unit_stat(segment);
    assert_int_equal(info.members_alive, 1);
    assert_int_equal(info.members_dead, 0);
    assert_int_equal(info.heap_block_count, 2); /* the object and its entry */
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void note(const char *name, const char *sentence, void *context)
{
    assert_string_equal(name, "t");
    assert_non_null(strstr(sentence, "1 dead member"));
    ++*(int *)context;
}

static void test_members_dead_are_recovered_by_gc(void **state)
{
    (void)state;
    unit_close(unit_open("t"));
    pid_t pid = testing_spawn(hold_row, (void *)1);
    testing_await(0);
    EXPECT(0, cove_gc(0, note, NULL)); /* it lives */
    testing_kill(pid);
    int told = 0;
    EXPECT(1, cove_gc(1, note, &told));
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_dead, 1); /* a dry run */
    EXPECT(1, cove_gc(0, note, &told));
    assert_int_equal(told, 2);
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_dead, 0);
    EXPECT(0, cove_gc(0, note, &told));
    unit_remove("t");
}

/* ---- generations */

static void join_and_leave(void *argument)
{
    struct cove_member_info *info = argument;
    cove_segment *segment = unit_open("t");
    struct cove_member_info members[8];
    int64_t count = EXPECT_GOOD(cove_segment_members(segment, members, 8));
    for (int64_t i = 0; i < count; i++)
        if (members[i].pid == getpid())
            *info = members[i];
    unit_close(segment);
}

static void test_members_rows_used_again_have_a_new_generation(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    struct cove_member_info *info = testing_shared(sizeof *info);
    uint32_t row = UINT32_MAX, generation = 0;
    for (int i = 0; i < 5; i++) {
        pid_t pid = testing_spawn(join_and_leave, info);
        testing_join(pid);
        assert_int_equal(info->pid, pid);
        assert_int_equal(info->uid, geteuid());
        assert_int_equal(info->alive, 1);
        assert_true(info->start_ticks > 0 && info->attached_ns > 0);
        if (row == info->row)
            assert_true(info->generation > generation);
        row = info->row;
        generation = info->generation;
    }
    assert_int_equal(generation, 5); /* it was the same row each time */
    unit_close(segment);
    unit_remove("t");
}

/* ---- lanes */

struct lanes {
    cove_segment *segment;
    int result;
};

static void *take_lane(void *argument)
{
    struct lanes *lanes = argument;
    lanes->result = cove_begin(lanes->segment);
    if (lanes->result == 0)
        EXPECT(0, cove_commit(lanes->segment));
    else
        assert_non_null(strstr(cove_last_error(), "lanes"));
    testing_reach(0);
    testing_await(1);
    return NULL;
}

static void test_members_lanes_run_out_and_come_back(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.max_members = 2}); /* 8 lanes */
    struct lanes lanes[12];
    pthread_t threads[12];
    for (int i = 0; i < 12; i++) {
        lanes[i] = (struct lanes){segment, 0};
        threads[i] = unit_thread(take_lane, &lanes[i]);
    }
    testing_await_count(0, 12);
    int good = 0;
    for (int i = 0; i < 12; i++) {
        assert_true(lanes[i].result == 0 || lanes[i].result == -EUSERS);
        good += lanes[i].result == 0;
    }
    assert_int_equal(good, 8);
    testing_reach(1);
    for (int i = 0; i < 12; i++)
        unit_thread_join(threads[i]);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_commit(segment));
    struct cove_member_info member;
    EXPECT(1, cove_segment_members(segment, &member, 1));
    assert_int_equal(member.lanes, 1);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void *take_lane_holding(void *argument)
{
    struct lanes *lanes = argument;
    cove_mutex *locks = unit_object(lanes->segment, "w", 8 * sizeof *locks);
    unsigned mine = testing_reached(0);
    EXPECT(0, cove_mutex_lock(lanes->segment, &locks[mine], COVE_NOWAIT));
    testing_reach(0);
    unit_wait_for_death();
    return NULL;
}

static void exhaust_lanes(void *argument)
{
    (void)argument;
    struct lanes lanes = {unit_open("t"), 0};
    for (unsigned i = 0; i < 8; i++) {
        (void)unit_thread(take_lane_holding, &lanes);
        testing_await_count(0, i + 1);
    }
    unit_wait_for_death();
}

/* All lanes belong to a dead process: the living get them, without having one to recover with. */
static void test_members_lanes_of_the_dead_are_freed_without_one(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.max_members = 2});
    pid_t pid = testing_spawn(exhaust_lanes, NULL);
    testing_await_count(0, 8);
    EXPECT(-EUSERS, cove_begin(segment));
    testing_kill(pid);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_commit(segment));
    cove_mutex *locks = unit_object(segment, "w", 8 * sizeof *locks);
    for (int i = 0; i < 8; i++) {
        EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &locks[i], unit_patience()));
        EXPECT(0, cove_mutex_unlock(segment, &locks[i]));
    }
    (void)EXPECT_GOOD(cove_recover(segment));
    assert_int_equal(unit_stat(segment).members_dead, 0);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_members_a_thousand_at_once, 60),
    TEST(test_members_full_roster_is_told),
    TEST(test_members_roster_full_of_the_dead_is_taken_over),
    TEST(test_members_dead_are_recovered_by_opening),
    TEST(test_members_dead_are_recovered_by_gc),
    TEST(test_members_rows_used_again_have_a_new_generation),
    TEST(test_members_lanes_run_out_and_come_back),
    TEST(test_members_lanes_of_the_dead_are_freed_without_one),
};

int main(void)
{
    return testing_run("members", tests);
}
