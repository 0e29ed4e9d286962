/* process_races.c - many processes that create, open, close, remove and clear up one name at once.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Whoever opens gets a whole segment, and one of many has created it. tests/unit/test_segment_race.c makes single
 * races happen one by one; here all of them happen at once, for as long as $COVE_FAULT_SECONDS says (1). */
/* ctest: timeout=180 */
#include "process.h"

#include <dirent.h>
#include <fcntl.h>

#define CREATORS (UNIT_SANITIZED ? 40u : 200u)
#define RACERS 8u

static int gate[2]; /* they wait in a read, so that they cost nothing while they wait */

struct race {
    _Atomic uint32_t created, begun, lost;
    _Atomic uint64_t opened, removed;
    _Atomic bool over;
};

static struct race *race;

/* ---- two hundred at once */

static void create_and_stay(void *unused)
{
    (void)unused;
    char byte;
    assert_int_equal(close(gate[1]), 0);
    testing_reach(0);
    assert_int_equal(read(gate[0], &byte, 1), 0); /* all begin when the gate opens */
    cove_segment *segment = NULL;
    int result = cove_open(&segment, "t", NULL);
    (void)EXPECT_GOOD(result);
    atomic_fetch_add(&race->created, result == COVE_CREATED);
    atomic_fetch_add(&race->begun, 1);
    UNTIL(atomic_load(&race->over), 60000);
    unit_close(segment);
    _exit(0);
}

static uint64_t resident_of_one(void)
{
    struct cove_segment_info info;
    unit_close(unit_open("alone"));
    EXPECT(0, cove_stat("alone", &info));
    unit_remove("alone");
    return info.resident_bytes;
}

static int count_names(const char *name, void *context)
{
    (void)name;
    ++*(int *)context;
    return 0;
}

static void test_races_two_hundred_creators_make_one_segment(void **state)
{
    (void)state;
    static pid_t pids[200];
    race = testing_shared(sizeof *race);
    uint64_t alone = resident_of_one();
    assert_int_equal(pipe(gate), 0);
    for (unsigned i = 0; i < CREATORS; i++)
        pids[i] = testing_spawn(create_and_stay, NULL);
    testing_await_count(0, CREATORS);
    assert_int_equal(close(gate[1]), 0);
    UNTIL(atomic_load(&race->begun) == CREATORS, 60000);
    assert_int_equal(atomic_load(&race->created), 1);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("t", &info));
    assert_int_equal(info.members_alive, CREATORS);
    assert_int_equal(info.members_dead, 0);
    /* One segment's memory: a row for each more, and nothing of the others' that they built in vain. */
    assert_in_range(info.resident_bytes, 1, alone + CREATORS * 128 + 4096);
    int names = 0;
    EXPECT(0, cove_segments(count_names, &names));
    assert_int_equal(names, 1);
    atomic_store(&race->over, true);
    for (unsigned i = 0; i < CREATORS; i++)
        testing_join(pids[i]);
    assert_int_equal(close(gate[0]), 0);
    cove_segment *segment = unit_open("t");
    assert_alone(segment, unit_free_bytes(segment));
    unit_close(segment);
    unit_remove("t");
}

/* ---- creating and removing */

static int64_t duration_ns(void)
{
    const char *text = getenv("COVE_FAULT_SECONDS");
    double seconds = text ? strtod(text, NULL) : 0;
    return seconds > 0 ? (int64_t)(seconds * 1e9) : UNIT_S;
}

/* A whole segment: what is in it can be used, now and until it is closed, whoever removes its name. */
static void use_whole(cove_segment *segment)
{
    struct bank *bank = bank_open(segment);
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    cove_ref ref = cove_alloc(segment, 500);
    assert_true(ref != 0);
    memset(cove_at(segment, ref, 500), 7, 500);
    EXPECT(0, cove_free(segment, ref));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
}

static void create_and_remove(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument + 1;
    testing_reach(0);
    testing_await_count(0, RACERS);
    while (!atomic_load(&race->over)) {
        struct cove_options options = {.max_members = 16, .lifetime = unit_random(&random) % 2};
        cove_segment *segment = NULL;
        EXPECT_GOOD(cove_open(&segment, "t", &options));
        use_whole(segment);
        if (unit_random(&random) % 2) {
            int result = cove_unlink("t", 1);
            if (result != -ENOENT)
                EXPECT_WAS(0, result);
            atomic_fetch_add(&race->removed, result == 0);
        }
        unit_close(segment);
        atomic_fetch_add(&race->opened, 1);
    }
}

static void run_racers(void (*function)(void *argument))
{
    pid_t pids[RACERS];
    race = testing_shared(sizeof *race);
    for (uintptr_t i = 0; i < RACERS; i++)
        pids[i] = testing_spawn_named("racer", function, (void *)i);
    testing_await_count(0, RACERS);
    int64_t until = unit_now() + duration_ns();
    while (unit_now() < until)
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    atomic_store(&race->over, true);
    for (unsigned i = 0; i < RACERS; i++)
        testing_join(pids[i]);
    print_message("%" PRIu64 " openings, %" PRIu64 " removals\n", atomic_load(&race->opened),
                  atomic_load(&race->removed));
    assert_true(atomic_load(&race->opened) > RACERS);
}

static void assert_nothing_left(void)
{
    (void)EXPECT_GOOD(cove_gc(0, NULL, NULL));
    int result = cove_unlink("t", 0); /* nobody is in it any more */
    if (result != -ENOENT)
        EXPECT_WAS(0, result);
    DIR *directory = opendir(cove_directory());
    assert_non_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fail_msg("%s is left", entry->d_name);
    assert_int_equal(closedir(directory), 0);
}

static void test_races_of_creating_and_removing_lose_no_name(void **state)
{
    (void)state;
    run_racers(create_and_remove);
    assert_true(atomic_load(&race->removed) > 0);
    assert_nothing_left();
}

/* ---- all of it at once, with deaths, and gc among them */

static void open_and_die(void *unused)
{
    (void)unused;
    cove_segment *segment = NULL;
    EXPECT_GOOD(cove_open(&segment, "t", &(struct cove_options){.max_members = 32}));
    bank_begin(segment, bank_open(segment));
    _exit(0);
}

static void act(uint64_t *random)
{
    struct cove_segment_info info;
    cove_segment *segment = NULL;
    int result;
    switch (unit_random(random) % 8) {
    case 0:
        result = cove_unlink("t", (int)(unit_random(random) % 2));
        if (result != -ENOENT && result != -EBUSY)
            EXPECT_WAS(0, result);
        atomic_fetch_add(&race->removed, result == 0);
        break;
    case 1:
        (void)EXPECT_GOOD(cove_gc(0, NULL, NULL));
        break;
    case 2:
        result = cove_stat("t", &info);
        if (result != -ENOENT)
            EXPECT_WAS(0, result);
        break;
    case 3:
        testing_join(testing_spawn(open_and_die, NULL));
        break;
    default:
        EXPECT_GOOD(cove_open(&segment, "t", &(struct cove_options){.max_members = 32}));
        use_whole(segment);
        unit_close(segment);
        atomic_fetch_add(&race->opened, 1);
    }
}

static void do_anything(void *argument)
{
    uint64_t random = (uint64_t)(uintptr_t)argument * 977 + 1;
    testing_reach(0);
    testing_await_count(0, RACERS);
    while (!atomic_load(&race->over))
        act(&random);
}

static void test_races_of_everything_leave_nothing(void **state)
{
    (void)state;
    run_racers(do_anything);
    assert_nothing_left();
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_races_two_hundred_creators_make_one_segment, 90),
    TEST_TIMEOUT(test_races_of_creating_and_removing_lose_no_name, 90),
    TEST_TIMEOUT(test_races_of_everything_leave_nothing, 90),
};

int main(void)
{
    return testing_run("process_races", tests);
}
