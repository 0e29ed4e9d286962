/* test_durable_sync.c - cove_sync beside everybody else: whom it waits for, whom it does not hold up, what it leaves.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: timeout=90 */
#include "durable.h"

#include "os/os.h"

#include <sched.h>
#include <sys/mount.h>

#define SYNCED ".synced"

static cove_segment *open_small(const char *name)
{
    return unit_open_as(durable_name(name), &(struct cove_options){.max_members = 8});
}

static cove_mutex *mutex_of(cove_segment *segment)
{
    return unit_object(segment, "mutex", sizeof(cove_mutex));
}

static void close_and_remove(cove_segment *segment, const char *name)
{
    unit_sound(segment);
    unit_close(segment);
    EXPECT(0, cove_unlink(durable_name(name), 0));
}

/* Files of the directory of COVE_DIR whose names begin so. */
static unsigned debris(void)
{
    unsigned count = 0;
    char command[1200];
    (void)snprintf(command, sizeof command, "ls -A '%s' | grep -c '^.cove-new-'", testing_dir());
    FILE *pipe = popen(command, "re");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%u", &count), 1);
    (void)pclose(pipe);
    return count;
}

/* The number in the copy, by making the original unclean and opening it in another run. */
static uint64_t number_in_copy(const char *name)
{
    cove_segment *segment = NULL;
    durable_set_clean(durable_path(name, ""), 0);
    durable_other_boot(durable_path(name, ""));
    EXPECT(COVE_RECOVERED, cove_open(&segment, durable_name(name), NULL));
    uint64_t number = *durable_number(segment);
    unit_sound(segment);
    unit_close(segment);
    return number;
}

/* ---- refusals */

static void syncs_what_it_inherited(void *segment)
{
    EXPECT(COVE_EFORKED, cove_sync(segment, COVE_NOWAIT));
    unit_drop_inherited(segment);
}

static void test_sync_where_it_cannot_be_is_refused(void **state)
{
    (void)state;
    EXPECT(-EINVAL, cove_sync(NULL, COVE_NOWAIT));
    static const char *const memory[] = {"d", "memfd:"};
    for (int i = 0; i < 2; i++) {
        cove_segment *segment = unit_open(memory[i]);
        EXPECT_SAYS(-EOPNOTSUPP, cove_sync(segment, COVE_NOWAIT), "file:");
        unit_close(segment);
    }
    unit_remove("d");
    cove_segment *segment = open_small("d"), *look = NULL;
    cove_mutex *mutex = mutex_of(segment);
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_begin(segment));
    EXPECT_SAYS(-EBUSY, cove_sync(segment, COVE_FOREVER), "this thread");
    EXPECT(0, cove_commit(segment));
    EXPECT(-EBUSY, cove_sync(segment, COVE_FOREVER));
    EXPECT(0, cove_commit(segment));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    EXPECT_SAYS(-EBUSY, cove_sync(segment, COVE_FOREVER), "lock");
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    EXPECT(0, cove_open(&look, durable_name("d"), &(struct cove_options){.flags = COVE_READONLY}));
    EXPECT(-EPERM, cove_sync(look, COVE_NOWAIT));
    unit_close(look);
    testing_join(testing_spawn(syncs_what_it_inherited, segment));
    assert_false(durable_exists("d", SYNCED));
    EXPECT(0, cove_sync(segment, COVE_NOWAIT));
    assert_true(durable_exists("d", SYNCED));
    close_and_remove(segment, "d");
}

/* ---- those who are in the middle of something */

enum holding { A_LOCK, A_TRANSACTION, A_LOCK_IN_A_TRANSACTION, HOLDINGS };

struct holder {
    enum holding what;
    bool dies;
};

static void holds(void *argument)
{
    const struct holder *holder = argument;
    cove_segment *segment = open_small("d");
    uint64_t *number = durable_number(segment);
    cove_mutex *mutex = mutex_of(segment);
    if (holder->what != A_LOCK)
        EXPECT(0, cove_begin(segment));
    if (holder->what != A_TRANSACTION)
        EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    if (holder->what != A_LOCK)
        EXPECT(0, cove_save(segment, number, sizeof *number));
    *number = 100;
    testing_reach(0);
    if (holder->dies)
        (void)raise(SIGKILL);
    testing_await(1);
    *number = 2;
    if (holder->what != A_LOCK)
        EXPECT(0, cove_commit(segment)); /* frees the lock, too */
    else
        EXPECT(0, cove_mutex_unlock(segment, mutex));
    unit_close(segment);
}

static void wait_for_holder(enum holding what)
{
    char pid[32];
    cove_segment *segment = open_small("d");
    struct holder holder = {what, false};
    *durable_number(segment) = 1;
    (void)mutex_of(segment);
    EXPECT(0, cove_sync(segment, COVE_NOWAIT));
    pid_t other = testing_spawn(holds, &holder);
    testing_await(0);
    (void)snprintf(pid, sizeof pid, "pid %d", (int)other);
    EXPECT_SAYS(-ETIMEDOUT, cove_sync(segment, COVE_NOWAIT), pid);
    EXPECT_SAYS(-ETIMEDOUT, cove_sync(segment, 20 * UNIT_MS), pid);
    assert_int_equal(debris(), 0);
    testing_reach(1);
    EXPECT(0, cove_sync(segment, unit_patience()));
    testing_join(other);
    unit_close(segment);
    assert_int_equal(number_in_copy("d"), 2); /* whole: not 1, nor 100 */
    EXPECT(0, cove_unlink(durable_name("d"), 0));
}

static void test_sync_waits_for_a_lock_and_names_its_holder(void **state)
{
    (void)state;
    wait_for_holder(A_LOCK);
}

static void test_sync_waits_for_a_transaction_and_names_who_is_inside(void **state)
{
    (void)state;
    wait_for_holder(A_TRANSACTION);
}

static void test_sync_waits_for_a_transaction_with_a_lock(void **state)
{
    (void)state;
    wait_for_holder(A_LOCK_IN_A_TRANSACTION);
}

static void test_sync_recovers_the_dead_it_finds_inside(void **state)
{
    (void)state;
    for (int what = 0; what < HOLDINGS; what++) {
        cove_segment *segment = open_small("d");
        struct holder holder = {(enum holding)what, true};
        *durable_number(segment) = 1;
        (void)mutex_of(segment);
        assert_int_equal(WTERMSIG(testing_wait(testing_spawn(holds, &holder))), SIGKILL);
        EXPECT(0, cove_sync(segment, unit_patience()));
        unit_close(segment);
        assert_int_equal(number_in_copy("d"), what == A_LOCK ? 100 : 1); /* a lock alone takes nothing back */
        EXPECT(0, cove_unlink(durable_name("d"), 0));
    }
}

/* Who holds a lock goes on to its end, whatever else he does on the way there; the one who copies waits for him. */
static void *syncs_with_patience(void *segment)
{
    testing_reach(2);
    EXPECT(0, cove_sync(segment, unit_patience()));
    testing_reach(3);
    return NULL;
}

static bool gate_is_shut(void)
{
    uint64_t word = 0;
    durable_read(durable_path("d", ""), &word, sizeof word, offsetof(struct covei_header_shm, gate_lock));
    return (word & 0x3fffffff) != 0;
}

static void holder_goes_on(cove_segment *segment, bool in_transaction)
{
    cove_stream *writer = NULL, *reader = NULL;
    cove_mutex *mutex = mutex_of(segment), *second = unit_object(segment, "second", sizeof(cove_mutex));
    char bytes[8] = "bytes";
    const char *name = in_transaction ? "inside" : "outside";
    EXPECT_GOOD(cove_stream_open_in(&writer, segment, name, COVE_WRITER, NULL));
    EXPECT_GOOD(cove_stream_open_in(&reader, segment, name, COVE_READER, NULL));
    if (in_transaction)
        EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_mutex_lock(segment, mutex, COVE_NOWAIT));
    unsigned done = testing_reached(3);
    pthread_t thread = unit_thread(syncs_with_patience, segment);
    UNTIL(gate_is_shut(), 5000);
    /* All of this is still his. */
    EXPECT(0, cove_mutex_lock(segment, second, unit_patience()));
    cove_ref block = cove_alloc(segment, 100);
    assert_true(block != 0);
    EXPECT(8, cove_stream_write(writer, bytes, sizeof bytes, unit_patience()));
    EXPECT(8, cove_stream_read(reader, bytes, sizeof bytes, unit_patience()));
    EXPECT(0, cove_free(segment, block));
    assert_int_equal(testing_reached(3), done); /* and it has waited */
    EXPECT(0, cove_mutex_unlock(segment, second));
    EXPECT(0, cove_mutex_unlock(segment, mutex));
    if (in_transaction)
        EXPECT(0, cove_commit(segment));
    unit_thread_join(thread);
    assert_int_equal(testing_reached(3), done + 1);
    EXPECT(0, cove_stream_close(writer));
    EXPECT(0, cove_stream_close(reader));
}

static void test_sync_lets_a_holder_go_on_to_his_end(void **state)
{
    (void)state;
    cove_segment *segment = open_small("d");
    holder_goes_on(segment, false);
    holder_goes_on(segment, true);
    close_and_remove(segment, "d");
}

/* Readers change nothing, so nothing holds them up. */
static _Atomic bool enough;
static _Atomic uint64_t looks;

static void *reads_on(void *segment)
{
    struct cove_segment_info info;
    struct cove_object_info objects[2];
    const uint64_t *number = durable_number(segment);
    while (!atomic_load(&enough)) {
        (void)*(const volatile uint64_t *)number;
        EXPECT(0, cove_segment_stat(segment, &info));
        EXPECT_GOOD(cove_objects(segment, objects, 2));
        atomic_fetch_add(&looks, 1);
    }
    return NULL;
}

static void test_sync_and_those_who_look_go_on_together(void **state)
{
    (void)state;
    cove_segment *segment = open_small("d"), *onlooker = NULL;
    (void)durable_number(segment);
    EXPECT(0, cove_open(&onlooker, durable_name("d"), &(struct cove_options){.flags = COVE_READONLY}));
    pthread_t thread = unit_thread(reads_on, segment);
    for (uint64_t i = 0; i < 50; i++) {
        EXPECT(0, cove_sync(segment, unit_patience()));
        UNTIL(atomic_load(&looks) > i, 5000);
        assert_true(cove_segment_check(onlooker, NULL, NULL) >= 0);
    }
    atomic_store(&enough, true);
    unit_thread_join(thread);
    unit_close(onlooker);
    close_and_remove(segment, "d");
}

/* ---- several at once */

static struct covei_os slow_table;
static _Atomic bool others_turn;
static _Thread_local bool am_slow;

/* Whoever is slow has copied, and is overtaken before his copy is on the disk. */
static int slow_sync(int file)
{
    if (am_slow) {
        am_slow = false;
        testing_reach(4);
        struct testing_patience patience = testing_patience_of(300);
        while (!atomic_load(&others_turn) && testing_pause(&patience)) {} /* or he is waited for: just as good */
    }
    return covei_os_native.file_sync(file);
}

static void *syncs_slowly(void *segment)
{
    am_slow = true;
    EXPECT(0, cove_sync(segment, unit_patience()));
    return NULL;
}

/* What a cove_sync that has returned made safe is not lost by another one that began before it. */
static void test_sync_overtaken_does_not_undo_the_younger(void **state)
{
    (void)state;
    cove_segment *segment = open_small("d");
    uint64_t *number = durable_number(segment);
    slow_table = covei_os_native;
    slow_table.file_sync = slow_sync;
    covei_os = &slow_table;
    *number = 1;
    pthread_t thread = unit_thread(syncs_slowly, segment);
    testing_await(4);
    EXPECT(-ETIMEDOUT, cove_sync(segment, COVE_NOWAIT)); /* one at a time */
    *number = 2;
    EXPECT(0, cove_sync(segment, unit_patience()));
    atomic_store(&others_turn, true);
    unit_thread_join(thread);
    covei_os = &covei_os_native;
    unit_close(segment);
    assert_int_equal(number_in_copy("d"), 2);
    EXPECT(0, cove_unlink(durable_name("d"), 0));
}

static void syncs_in_a_loop(void *argument)
{
    (void)argument;
    cove_segment *segment = open_small("d");
    for (int i = 0; i < 25; i++)
        EXPECT(0, cove_sync(segment, 4 * unit_patience()));
    unit_close(segment);
}

static void test_sync_by_several_processes_leaves_one_copy(void **state)
{
    (void)state;
    cove_segment *segment = open_small("d");
    *durable_number(segment) = 7;
    pid_t pids[4];
    for (int i = 0; i < 4; i++)
        pids[i] = testing_spawn(syncs_in_a_loop, NULL);
    for (int i = 0; i < 4; i++)
        testing_join(pids[i]);
    assert_int_equal(debris(), 0);
    unit_close(segment);
    assert_int_equal(number_in_copy("d"), 7);
    EXPECT(0, cove_unlink(durable_name("d"), 0));
}

/* ---- failures and deaths inside */

static struct covei_os dying_table;
static unsigned calls_left;

static int64_t dying_write(int file, const void *data, size_t size_bytes, uint64_t offset)
{
    if (calls_left-- == 0)
        (void)raise(SIGKILL);
    return covei_os_native.file_write_at(file, data, size_bytes, offset);
}

static int dying_rename(const char *from, const char *to)
{
    (void)from;
    (void)to;
    return raise(SIGKILL);
}

static void dies_while_it_syncs(void *where)
{
    cove_segment *segment = open_small("d");
    *durable_number(segment) = 9;
    dying_table = covei_os_native;
    if (*(int *)where < 0)
        dying_table.file_rename = dying_rename;
    else {
        dying_table.file_write_at = dying_write;
        calls_left = *(unsigned *)where;
    }
    covei_os = &dying_table;
    EXPECT(0, cove_sync(segment, COVE_NOWAIT));
}

static void test_sync_killed_leaves_the_copy_before_and_holds_up_nobody(void **state)
{
    (void)state;
    for (int where = -1; where < 4; where++) {
        cove_segment *segment = open_small("d");
        *durable_number(segment) = 8;
        EXPECT(0, cove_sync(segment, COVE_NOWAIT));
        assert_int_equal(WTERMSIG(testing_wait(testing_spawn(dies_while_it_syncs, &where))), SIGKILL);
        assert_int_equal(debris(), 1);
        cove_ref block = cove_alloc(segment, 64); /* whoever meets the shut gate opens it */
        assert_true(block != 0);
        EXPECT(0, cove_free(segment, block));
        unit_close(segment);
        assert_int_equal(number_in_copy("d"), 8);
        segment = open_small("d");
        EXPECT(0, cove_sync(segment, COVE_NOWAIT));
        assert_int_equal(debris(), 0); /* the next clears up */
        close_and_remove(segment, "d");
    }
}

static void test_sync_on_a_full_disk_keeps_the_copy_before(void **state)
{
    (void)state;
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("cove-test", testing_dir(), "tmpfs", MS_NOSUID, "size=1m,mode=0700") != 0)
        testing_skip("no mounts of one's own here: run it as root");
    cove_segment *segment = open_small("d"); /* about 350 KiB, and its copy likewise */
    *durable_number(segment) = 8;
    EXPECT(0, cove_sync(segment, COVE_NOWAIT));
    *durable_number(segment) = 9;
    int filler = open(durable_path("filler", ""), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    for (off_t size = 1 << 20; size >= 4096; size /= 2)
        while (fallocate(filler, 0, lseek(filler, 0, SEEK_END), size) == 0) {}
    EXPECT(-ENOSPC, cove_sync(segment, COVE_NOWAIT));
    assert_int_equal(debris(), 0);
    assert_int_equal(ftruncate(filler, 0), 0);
    unit_close(segment);
    assert_int_equal(number_in_copy("d"), 8);
    segment = open_small("d");
    EXPECT(0, cove_sync(segment, COVE_NOWAIT));
    close_and_remove(segment, "d");
    assert_int_equal(close(filler), 0);
    assert_int_equal(umount2(testing_dir(), MNT_DETACH), 0);
}

/* A member that came by a descriptor is a member like the others: the copy waits for him, and he for it. */
static void moves_money_by_descriptor(void *argument)
{
    char name[16];
    (void)snprintf(name, sizeof name, "fd:%d", *(int *)argument);
    cove_segment *segment = unit_open(name);
    uint64_t *pair = unit_object(segment, "pair", 16384);
    testing_reach(5);
    while (testing_reached(6) == 0) {
        EXPECT(0, cove_begin(segment));
        EXPECT(0, cove_save(segment, &pair[0], 8));
        EXPECT(0, cove_save(segment, &pair[2047], 8));
        pair[0]++;
        pair[2047]--;
        EXPECT(0, cove_commit(segment));
    }
    unit_close(segment);
}

static void test_sync_waits_for_members_that_came_by_a_descriptor(void **state)
{
    (void)state;
    cove_segment *segment = open_small("d");
    uint64_t *pair = unit_object(segment, "pair", 16384);
    pair[2047] = UINT32_MAX;
    int file = (int)EXPECT_GOOD(cove_segment_fd(segment));
    pid_t other = testing_spawn(moves_money_by_descriptor, &file);
    testing_await(5);
    uint64_t at = cove_ref_of(segment, pair);
    for (int i = 0; i < 200; i++) {
        uint64_t first = 0, last = 0;
        EXPECT(0, cove_sync(segment, unit_patience()));
        durable_read(durable_path("d", SYNCED), &first, 8, at);
        durable_read(durable_path("d", SYNCED), &last, 8, at + 16376);
        assert_int_equal(first + last, UINT32_MAX);
    }
    testing_reach(6);
    testing_join(other);
    assert_int_equal(close(file), 0);
    close_and_remove(segment, "d");
}

static const struct testing_case tests[] = {
    TEST(test_sync_where_it_cannot_be_is_refused),
    TEST(test_sync_waits_for_a_lock_and_names_its_holder),
    TEST(test_sync_waits_for_a_transaction_and_names_who_is_inside),
    TEST(test_sync_waits_for_a_transaction_with_a_lock),
    TEST(test_sync_recovers_the_dead_it_finds_inside),
    TEST_TIMEOUT(test_sync_lets_a_holder_go_on_to_his_end, 20),
    TEST_TIMEOUT(test_sync_and_those_who_look_go_on_together, 30),
    TEST_TIMEOUT(test_sync_overtaken_does_not_undo_the_younger, 20),
    TEST_TIMEOUT(test_sync_by_several_processes_leaves_one_copy, 30),
    TEST(test_sync_killed_leaves_the_copy_before_and_holds_up_nobody),
    TEST(test_sync_on_a_full_disk_keeps_the_copy_before),
    TEST_TIMEOUT(test_sync_waits_for_members_that_came_by_a_descriptor, 30),
};

int main(void)
{
    return testing_run("durable_sync", tests);
}
