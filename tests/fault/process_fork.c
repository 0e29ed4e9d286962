/* process_fork.c - children forked at bad moments: inside a transaction, while other threads are inside calls,
 * around the handlers of fork, in a thread that holds what it must not give back.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Of a forked child others see nothing, whatever it inherited: it gives back no lock, undoes no change, keeps no
 * membership alive and holds up no opening. What it opens itself works as anywhere. Where threads were inside libc a
 * child by the raw system call may only do what a signal handler may, as libc's own locks were copied with it; so
 * here it ends at once. */
/* ctest: timeout=120 */
#include "process.h"

#include <fcntl.h>
#include <sched.h>

#define FORKS 40u

static cove_segment *segment;
static struct bank *bank;

static void begin(void)
{
    segment = unit_open("t");
    bank = bank_make(segment);
}

static void end(uint64_t free_bytes)
{
    bank_audit(segment, bank, 0);
    assert_alone(segment, free_bytes);
    unit_close(segment);
    unit_remove("t");
}

static pid_t fork_as(bool raw)
{
    (void)fflush(NULL);
    pid_t pid = raw ? raw_fork() : fork();
    assert_true(pid >= 0);
    return pid;
}

/* ---- inside a transaction */

/* Everything that would end the parent's transaction, or free its locks, if the child were the parent. */
static void meddle(void)
{
    struct bank *own_bank;
    cove_segment *own;
    EXPECT(COVE_EFORKED, cove_commit(segment));
    EXPECT(COVE_EFORKED, cove_abort(segment));
    EXPECT(COVE_EFORKED, cove_mutex_unlock(segment, &bank->lock[0]));
    EXPECT(COVE_EFORKED, cove_recover(segment));
    own = unit_open("t");
    own_bank = bank_open(own);
    EXPECT_SAYS(-ETIMEDOUT, cove_mutex_lock(own, &own_bank->lock[0], 5 * UNIT_MS), pid_phrase(getppid()));
    EXPECT(0, cove_mutex_lock(own, &own_bank->lock[2], COVE_NOWAIT));
    EXPECT(0, cove_mutex_unlock(own, &own_bank->lock[2]));
    EXPECT(0, cove_recover(own));
}

/* The ways in which a child ends. exit runs what is registered for it, pthread_exit the thread's destructors. */
static void end_child(unsigned way)
{
    switch (way) {
    case 0:
        _exit(0);
    case 1:
        exit(0);
    case 2:
        (void)cove_close(segment);
        _exit(0);
    default:
        pthread_exit(NULL); /* the only thread: the process ends with status 0 */
    }
}

static void test_fork_inside_a_transaction_changes_nothing(void **state)
{
    (void)state;
    begin();
    if (UNIT_SANITIZED)
        testing_leaves_open(); /* children that exit leak what they inherited */
    uint64_t free_bytes = unit_free_bytes(segment);
    for (unsigned i = 0; i < 8; i++) {
        if (UNIT_UNDER_TSAN && i >= 4)
            break; /* a raw clone leaves the tool's threads behind */
        bank_begin(segment, bank);
        EXPECT(0, cove_alloc_into(segment, &bank->ref, 700));
        pid_t pid = fork_as(i >= 4);
        if (pid == 0) {
            meddle();
            end_child(i % 4);
        }
        testing_join(pid);
        assert_int_equal(bank->cents[0], BANK_CENTS - 7 * (int64_t)(i + 1)); /* half done still */
        bank_end(segment, bank);
        EXPECT(0, cove_free_from(segment, &bank->ref));
    }
    end(free_bytes);
}

/* ---- while another thread is inside a call */

static _Atomic bool stop;
static _Atomic uint64_t rounds;

static void *keep_opening(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        cove_segment *other = unit_open("other");
        unit_close(other);
        int result = cove_unlink("other", 0);
        if (result < 0 && result != -ENOENT && result != -EBUSY) /* a child may be in it */
            EXPECT_WAS(0, result);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *keep_allocating(void *unused)
{
    (void)unused;
    for (size_t size = 8; !atomic_load(&stop); size = size * 3 % 9973) {
        cove_ref ref = cove_alloc(segment, size);
        assert_true(ref != 0);
        EXPECT(0, cove_free(segment, ref));
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *keep_transferring(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        bank_transfer(segment, bank);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *keep_writing(void *argument)
{
    char bytes[512] = {0};
    while (!atomic_load(&stop)) {
        EXPECT(sizeof bytes, cove_stream_write(argument, bytes, sizeof bytes, COVE_FOREVER));
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void *keep_reading(void *argument)
{
    char bytes[4096];
    while (EXPECT_GOOD(cove_stream_read(argument, bytes, sizeof bytes, COVE_FOREVER)) > 0)
        ;
    return NULL;
}

static void child_works(void)
{
    cove_segment *own = unit_open("t");
    bank_transfer(own, bank_open(own));
    cove_ref ref = cove_alloc(own, 100);
    assert_true(ref != 0);
    EXPECT(0, cove_free(own, ref));
    unit_close(own);
    cove_segment *other = NULL;
    EXPECT_GOOD(cove_open(&other, "other", NULL));
    unit_close(other);
}

/* Fork again and again; the thread goes on between any two. */
static void fork_beside(void *(*thread_function)(void *), void *argument, bool raw)
{
    atomic_store(&stop, false);
    pthread_t thread = unit_thread(thread_function, argument);
    for (unsigned i = 0; i < FORKS; i++) {
        uint64_t seen = atomic_load(&rounds);
        UNTIL(atomic_load(&rounds) != seen, 5000);
        pid_t pid = fork_as(raw);
        if (pid == 0 && !raw)
            child_works();
        if (pid == 0)
            _exit(0);
        testing_join(pid);
    }
    atomic_store(&stop, true);
    unit_thread_join(thread);
}

static void fork_beside_all(bool raw)
{
    begin();
    cove_stream *writer = NULL, *reader = NULL;
    EXPECT_GOOD(cove_stream_open_in(&writer, segment, "s", COVE_WRITER, NULL));
    EXPECT_GOOD(cove_stream_open_in(&reader, segment, "s", COVE_READER, NULL));
    uint64_t blocks = unit_stat(segment).heap_block_count;
    fork_beside(keep_opening, NULL, raw);
    fork_beside(keep_allocating, NULL, raw);
    fork_beside(keep_transferring, NULL, raw);
    pthread_t thread = unit_thread(keep_reading, reader);
    fork_beside(keep_writing, writer, raw);
    EXPECT(0, cove_stream_close(writer));
    unit_thread_join(thread);
    EXPECT(0, cove_stream_close(reader));
    assert_int_equal(unit_stat(segment).heap_block_count, blocks);
    end(unit_free_bytes(segment));
    if (unit_exists("other"))
        unit_remove("other");
}

static void test_fork_while_another_thread_is_inside_a_call(void **state)
{
    (void)state;
    fork_beside_all(false);
}

static void test_fork_around_the_handlers_while_another_thread_is_inside_a_call(void **state)
{
    (void)state;
    if (UNIT_UNDER_TSAN)
        testing_skip("a raw clone leaves the tool's threads behind");
    fork_beside_all(true);
}

/* ---- children that stay, and do nothing: they hold up nobody */

static void test_fork_children_that_stay_hold_up_nobody(void **state)
{
    (void)state;
    begin();
    atomic_store(&stop, false);
    pthread_t thread = unit_thread(keep_opening, NULL);
    pid_t pids[FORKS];
    for (unsigned i = 0; i < FORKS; i++) {
        uint64_t seen = atomic_load(&rounds);
        UNTIL(atomic_load(&rounds) != seen, 5000);
        pids[i] = fork_as(false);
        if (pids[i] == 0)
            unit_wait_for_death();
    }
    atomic_store(&stop, true);
    unit_thread_join(thread);
    cove_segment *other = unit_open("other");
    struct cove_segment_info info;
    EXPECT(0, cove_stat("other", &info));
    assert_int_equal(info.members_alive, 1);
    assert_int_equal(info.members_dead, 0);
    for (unsigned i = 0; i < FORKS; i++)
        testing_kill(pids[i]);
    unit_close(other);
    unit_remove("other");
    unit_close(segment);
    unit_remove("t");
}

/* ---- exec in the middle, by a thread other than the one that holds something */

static void *exec_sleep(void *unused)
{
    (void)unused;
    (void)execl("/bin/sleep", "sleep", "1000", (char *)NULL);
    fail();
    return NULL;
}

static void hold_and_exec_elsewhere(void *unused)
{
    (void)unused;
    (void)cove_close(segment);
    cove_segment *own = unit_open("t");
    bank_begin(own, bank_open(own));
    unit_thread_join(unit_thread(exec_sleep, NULL)); /* exec ends this thread too */
}

static void test_fork_and_exec_by_another_thread_is_the_holders_death(void **state)
{
    (void)state;
    begin();
    uint64_t free_bytes = unit_free_bytes(segment);
    pid_t pid = testing_spawn(hold_and_exec_elsewhere, NULL);
    struct cove_member_info holder;
    UNTIL(cove_mutex_holder(segment, &bank->lock[1], &holder) == 1 || bank->cents[0] != BANK_CENTS, 5000);
    bank_audit(segment, bank, COVE_RECOVERED);
    testing_kill(pid);
    end(free_bytes);
}

static const struct testing_case tests[] = {
    TEST(test_fork_inside_a_transaction_changes_nothing),
    TEST_TIMEOUT(test_fork_while_another_thread_is_inside_a_call, 30),
    TEST_TIMEOUT(test_fork_around_the_handlers_while_another_thread_is_inside_a_call, 30),
    TEST(test_fork_children_that_stay_hold_up_nobody),
    TEST(test_fork_and_exec_by_another_thread_is_the_holders_death),
};

int main(void)
{
    return testing_run("process_fork", tests);
}
