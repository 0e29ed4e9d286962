/* process_recovery.c - recoverers in difficulties: too small a mapping, two at once, a directory that runs in a
 * circle, objects that go while somebody opens them.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=120 */
#include "process.h"

#include "object/directory.h"
#include "segment/segment.h"

#include <sys/resource.h>

#define MIB ((size_t)1 << 20)

static cove_segment *inherited;

/* ---- a member that maps less than the segment has grown to */

struct far_bank { /* its cents lie where the small member cannot see them */
    cove_mutex lock;
    cove_ref cents;
};

static void die_far_away(void *unused)
{
    (void)unused;
    (void)cove_close(inherited);
    cove_segment *segment = unit_open("t");
    struct far_bank *bank = unit_object(segment, "far", sizeof *bank);
    int64_t *cents = cove_at(segment, bank->cents, sizeof *cents);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock, COVE_NOWAIT));
    EXPECT(0, cove_save(segment, cents, sizeof *cents));
    *cents = -1;
    testing_reach(1);
    unit_wait_for_death();
}

static void see_little(void *unused)
{
    (void)unused;
    (void)cove_close(inherited);
    struct rlimit limit = {160 * MIB, 160 * MIB};
    assert_int_equal(setrlimit(RLIMIT_AS, &limit), 0);
    cove_segment *segment = unit_open("t");
    struct far_bank *bank = unit_object(segment, "far", sizeof *bank);
    testing_reach(0);
    testing_await(2); /* it has grown, and somebody died far away */
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, &bank->lock, 100 * UNIT_MS)); /* it recovers nobody */
    EXPECT(-EBUSY, cove_mutex_lock(segment, &bank->lock, COVE_NOWAIT));
    assert_true(cove_recover(segment) <= 0);
    assert_int_equal(cove_alloc(segment, 100), 0);
    unit_expect_says("cove_alloc", "raise ulimit -v and open it anew", __FILE__, __LINE__);
    testing_reach(3);
    testing_await(4);
    EXPECT(0, cove_mutex_lock(segment, &bank->lock, unit_patience())); /* others did it */
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock));
    EXPECT(0, cove_close(segment));
}

static void test_recovery_is_left_to_those_who_see_all(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("sanitizers want all of the address space");
    inherited = unit_open("t");
    struct far_bank *bank = unit_object(inherited, "far", sizeof *bank);
    pid_t small = testing_spawn(see_little, NULL);
    testing_await(0);
    cove_ref filler = cove_alloc(inherited, 200 * MIB); /* growth reserves it; nobody touches it */
    if (filler == 0) {
        testing_reach(2);
        testing_kill(small);
        unit_close(inherited);
        unit_remove("t");
        testing_skip("200 MiB of shared memory are not to be had");
    }
    EXPECT(0, cove_alloc_into(inherited, &bank->cents, 8));
    int64_t *cents = cove_at(inherited, bank->cents, sizeof *cents);
    *cents = 5;
    pid_t dying = testing_spawn(die_far_away, NULL);
    testing_await(1);
    testing_kill(dying);
    testing_reach(2);
    testing_await(3);
    assert_int_equal(*cents, -1); /* still as the dead one left it */
    EXPECT(COVE_RECOVERED, cove_mutex_lock(inherited, &bank->lock, unit_patience()));
    assert_int_equal(*cents, 5);
    EXPECT(0, cove_mutex_unlock(inherited, &bank->lock));
    (void)EXPECT_GOOD(cove_recover(inherited));
    testing_reach(4);
    testing_join(small);
    EXPECT(0, cove_free(inherited, filler));
    unit_sound(inherited);
    unit_close(inherited);
    unit_remove("t");
}

/* ---- several recover one stream: its reader is told of the death once */

#define RECOVERERS 3u
#define ROUNDS 30u

static void recover_each_round(void *unused)
{
    (void)unused;
    (void)cove_close(inherited);
    cove_segment *segment = unit_open("t");
    for (unsigned round = 1; round <= ROUNDS; round++) {
        testing_reach(0);
        testing_await_count(1, round); /* all begin at once */
        (void)EXPECT_GOOD(cove_recover(segment));
        testing_reach(2);
    }
    unit_close(segment);
}

static void write_and_die(void *unused)
{
    (void)unused;
    (void)cove_close(inherited);
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open(&stream, "t/s", COVE_WRITER, NULL));
    EXPECT(4, cove_stream_write(stream, "last", 4, COVE_FOREVER));
    _exit(0);
}

static void test_recovery_by_many_tells_of_a_death_once(void **state)
{
    (void)state;
    inherited = unit_open("t");
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open_in(&stream, inherited, "s", COVE_READER, NULL));
    pid_t pids[RECOVERERS];
    for (unsigned i = 0; i < RECOVERERS; i++)
        pids[i] = testing_spawn(recover_each_round, NULL);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        char bytes[8];
        testing_await_count(0, round * RECOVERERS);
        testing_join(testing_spawn(write_and_die, NULL));
        testing_reach(1);
        EXPECT(4, cove_stream_read(stream, bytes, sizeof bytes, unit_patience()));
        EXPECT(COVE_EPEER, cove_stream_read(stream, bytes, sizeof bytes, unit_patience()));
        EXPECT(-EAGAIN, cove_stream_read(stream, bytes, sizeof bytes, COVE_NOWAIT));
        testing_await_count(2, round * RECOVERERS);
        EXPECT(-EAGAIN, cove_stream_read(stream, bytes, sizeof bytes, COVE_NOWAIT)); /* nobody told it again */
    }
    for (unsigned i = 0; i < RECOVERERS; i++)
        testing_join(pids[i]);
    EXPECT(0, cove_stream_close(stream));
    unit_sound(inherited);
    unit_close(inherited);
    unit_remove("t");
}

/* ---- an object that is removed while others open it */

static void open_object_again_and_again(void *argument)
{
    (void)cove_close(inherited);
    cove_segment *segment = unit_open("t");
    enum cove_end end = argument ? COVE_WRITER : COVE_READER;
    testing_reach(0);
    testing_await_count(0, 3);
    while (testing_reached(1) == 0) {
        cove_stream *stream = NULL;
        struct cove_stream_info info;
        EXPECT_GOOD(
            cove_stream_open_in(&stream, segment, "s", end, &(struct cove_stream_options){.capacity_bytes = 4096}));
        EXPECT(0, cove_stream_stat(stream, &info)); /* ours, whole, and still there */
        assert_int_equal(end == COVE_WRITER ? info.writer_pid : info.reader_pid, getpid());
        EXPECT(0, cove_stream_close(stream));
    }
    unit_close(segment);
}

static void remove_object_again_and_again(void *unused)
{
    (void)unused;
    (void)cove_close(inherited);
    cove_segment *segment = unit_open("t");
    uint64_t removed = 0;
    testing_reach(0);
    testing_await_count(0, 3);
    for (int64_t until = unit_now() + unit_patience(); removed < 100 && unit_now() < until;) {
        int result = cove_object_remove(segment, "s");
        if (result != -ENOENT && result != -EBUSY)
            EXPECT_WAS(0, result);
        removed += result == 0;
    }
    testing_reach(1);
    assert_true(removed > 0);
    unit_close(segment);
}

static void test_recovery_object_removed_under_its_opener_is_never_half_there(void **state)
{
    (void)state;
    inherited = unit_open("t");
    uint64_t free_bytes = unit_free_bytes(inherited);
    pid_t pids[] = {testing_spawn(open_object_again_and_again, NULL),
                    testing_spawn(open_object_again_and_again, (void *)1),
                    testing_spawn(remove_object_again_and_again, NULL)};
    for (unsigned i = 0; i < 3; i++)
        testing_join(pids[i]);
    int result = cove_object_remove(inherited, "s");
    assert_true(result == 0 || result == -ENOENT);
    assert_alone(inherited, free_bytes);
    unit_close(inherited);
    unit_remove("t");
}

/* ---- a directory that somebody scribbled a circle into */

static struct covei_entry_shm *entry_of(cove_segment *segment, const char *name)
{
    uint64_t chain = covei_hash(name, strlen(name)) % COVEI_DIRECTORY_CHAINS;
    return cove_at(segment, covei_directory(segment)->chains[chain], sizeof(struct covei_entry_shm));
}

/* Another name in the same chain: looking for it leads through the circle. */
static void find_neighbour(char name[32], const char *of)
{
    uint64_t chain = covei_hash(of, strlen(of)) % COVEI_DIRECTORY_CHAINS;
    for (unsigned i = 0;; i++) {
        (void)snprintf(name, 32, "n%u", i);
        if (covei_hash(name, strlen(name)) % COVEI_DIRECTORY_CHAINS == chain)
            return;
    }
}

static void die_with_a_stream(void *unused)
{
    (void)unused;
    (void)cove_close(inherited);
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open(&stream, "t/s", COVE_WRITER, NULL));
    testing_reach(0);
    unit_wait_for_death();
}

static void test_recovery_of_a_directory_with_a_circle_ends(void **state)
{
    (void)state;
    inherited = unit_open("t");
    (void)unit_object(inherited, "victim", 8);
    pid_t pid = testing_spawn(die_with_a_stream, NULL);
    testing_await(0);
    struct covei_entry_shm *entry = entry_of(inherited, "victim");
    uint64_t next = entry->next;
    entry->next = covei_directory(inherited)->chains[entry->hash % COVEI_DIRECTORY_CHAINS];
    testing_kill(pid);
    char neighbour[32];
    find_neighbour(neighbour, "victim");
    void *object = NULL;
    struct cove_type type = {.name = "unit", .size_bytes = 8};
    struct cove_object_info objects[4];
    EXPECT_SAYS(COVE_ECORRUPT, cove_object_open(&object, inherited, neighbour, &type, 0), "cove doctor");
    EXPECT(COVE_ECORRUPT, cove_object_remove(inherited, neighbour));
    EXPECT_SAYS(COVE_ECORRUPT, cove_objects(inherited, objects, 4), "cove doctor");
    assert_true(cove_segment_check(inherited, NULL, NULL) > 0);
    cove_segment *looker = unit_open_as("t", &(struct cove_options){.flags = COVE_READONLY});
    EXPECT(COVE_ECORRUPT, cove_objects(looker, objects, 4));
    assert_true(cove_segment_check(looker, NULL, NULL) > 0);
    unit_close(looker);
    (void)cove_recover(inherited); /* whatever it can do, it ends */
    EXPECT(0,
           cove_object_open(&object, inherited, "victim", &type, COVE_EXISTING)); /* found before the circle closes */
    entry->next = next;
    (void)EXPECT_GOOD(cove_recover(inherited));
    assert_int_equal(unit_stat(inherited).members_dead, 0);
    /* The stream may not have been found then: whoever opens it next takes the dead one's place. */
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open_in(&stream, inherited, "s", COVE_WRITER, NULL));
    EXPECT(0, cove_stream_close(stream));
    unit_sound(inherited);
    unit_close(inherited);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_recovery_is_left_to_those_who_see_all, 30),
    TEST_TIMEOUT(test_recovery_by_many_tells_of_a_death_once, 30),
    TEST_TIMEOUT(test_recovery_object_removed_under_its_opener_is_never_half_there, 30),
    TEST(test_recovery_of_a_directory_with_a_circle_ends),
};

int main(void)
{
    return testing_run("process_recovery", tests);
}
