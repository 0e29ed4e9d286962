/* process_signals.c - every public operation under a storm of signals, with and without SA_RESTART.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A timer (SIGALRM, 1 kHz) and another thread (SIGUSR1, about 10 kHz) interrupt the one that works. Each call
 * returns what it returns in peace: no -EINTR, no wait that ends early, none that never ends since it begins anew at
 * each signal (reserving memory does, inside the kernel: the longer the stretch, the surer). A handler that leaves
 * by longjmp is out of scope: it would leave the library in the middle of a change, as a thread that is killed there
 * without ending. */
/* ctest: timeout=120 */
#include "process.h"

#include <cove/region.h>
#include <fcntl.h>
#include <sys/time.h>

#define STORM_NS (700 * UNIT_MS) /* a round of all operations at least, and again until this is over */

static _Atomic bool calm;
static _Atomic uint64_t handled;
static pthread_t worker, storm_thread;

static void on_signal(int signal_number)
{
    (void)signal_number;
    atomic_fetch_add_explicit(&handled, 1, memory_order_relaxed);
}

static void *send_signals(void *unused)
{
    (void)unused;
    while (!atomic_load(&calm)) {
        (void)pthread_kill(worker, SIGUSR1);
        (void)nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
    return NULL;
}

/* What fallocate(2) allows, and tmpfs long did: reserving is broken off by a signal, and what was reserved so far is
 * given back. The library's calls come here first, under the one or the other name. */
int __real_fallocate(int file, int mode, off_t offset, off_t size_bytes);
int __wrap_fallocate(int file, int mode, off_t offset, off_t size_bytes);
int __wrap_fallocate64(int file, int mode, off_t offset, off_t size_bytes);
int __wrap_fallocate(int file, int mode, off_t offset, off_t size_bytes)
{
    uint64_t before = atomic_load(&handled);
    int result = __real_fallocate(file, mode, offset, size_bytes);
    if (result != 0 || size_bytes <= 1 << 20 || atomic_load(&handled) == before)
        return result; /* what is so short hardly ever meets a signal */
    (void)__real_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size_bytes);
    errno = EINTR;
    return -1;
}

int __wrap_fallocate64(int file, int mode, off_t offset, off_t size_bytes)
{
    return __wrap_fallocate(file, mode, offset, size_bytes);
}

static void begin_storm(int flags)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};
    struct itimerval timer = {{0, 1000}, {0, 1000}};
    sigset_t both;
    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    atomic_store(&calm, false);
    worker = pthread_self();
    (void)sigemptyset(&both);
    (void)sigaddset(&both, SIGALRM);
    (void)sigaddset(&both, SIGUSR1);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &both, NULL), 0); /* for the thread that sends */
    storm_thread = unit_thread(send_signals, NULL);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &both, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void end_storm(void)
{
    atomic_store(&calm, true);
    unit_thread_join(storm_thread);
    assert_int_equal(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL), 0);
}

/* ---- the operations */

static void around_segments(void)
{
    struct cove_segment_info info;
    struct cove_member_info member;
    cove_segment *segment = NULL;
    EXPECT(COVE_CREATED, cove_open(&segment, "s", &(struct cove_options){.flags = COVE_EXCLUSIVE}));
    cove_segment *again = unit_open("s");
    EXPECT(1, cove_segment_members(segment, &member, 1));
    EXPECT(0, cove_stat("s", &info));
    EXPECT(0, cove_segment_stat(segment, &info));
    EXPECT(0, cove_recover(segment));
    EXPECT(0, cove_gc(0, NULL, NULL));
    unit_sound(segment);
    unit_close(again);
    EXPECT(-EBUSY, cove_unlink("s", 0));
    unit_close(segment);
    EXPECT(-EEXIST, cove_open(&segment, "s", &(struct cove_options){.flags = COVE_EXCLUSIVE}));
    EXPECT(0, cove_unlink("s", 0));
    EXPECT(-ENOENT, cove_unlink("s", 0));
    EXPECT(-ENOENT, cove_open(&segment, "s", &(struct cove_options){.flags = COVE_EXISTING}));
}

/* The kernel gives up reserving at each signal, and takes back what it had: a long stretch is never got at once. */
static void reserve_much(void)
{
    cove_segment *segment = unit_open_as("large", &(struct cove_options){.size_bytes = 32 << 20});
    cove_ref ref = cove_alloc(segment, 60 << 20);
    if (ref == 0)
        fail_msg("cove_alloc: %s", cove_last_error());
    EXPECT(0, cove_free(segment, ref));
    unit_close(segment);
    unit_remove("large");
}

static void around_regions(void)
{
    char name[1100];
    cove_region *region = NULL;
    struct cove_region_info info;
    struct cove_region_options options = {.size_bytes = 300000};
    (void)snprintf(name, sizeof name, "file:%s/bytes", testing_dir());
    EXPECT(COVE_CREATED, cove_region_open(&region, name, &options));
    memset(cove_region_data(region), 1, 300000);
    EXPECT(0, cove_region_sync(region, 0, 0));
    EXPECT(0, cove_region_stat(region, &info));
    EXPECT(0, cove_region_close(region));
    EXPECT(0, cove_region_replace(name, cove_version(), 5, NULL));
    EXPECT(0, cove_region_look(name, &info));
    assert_int_equal(info.size_bytes, 5);
    EXPECT(0, cove_region_unlink(name, 0));
    EXPECT(-ENOENT, cove_region_unlink(name, 0));
    (void)snprintf(name, sizeof name, "file:%s/durable", testing_dir());
    cove_segment *durable = unit_open(name);
    EXPECT(0, cove_sync(durable, COVE_FOREVER));
    unit_close(durable);
    EXPECT(0, cove_unlink(name, 0));
}

static void around_objects(cove_segment *segment)
{
    struct cove_object_info objects[4];
    void *object = NULL;
    struct cove_type type = {.name = "thing", .size_bytes = 300};
    EXPECT(COVE_CREATED, cove_object_open(&object, segment, "thing", &type, 0));
    EXPECT(0, cove_object_open(&object, segment, "thing", &type, COVE_EXISTING));
    EXPECT(2, cove_objects(segment, objects, 4));
    EXPECT(0, cove_object_remove(segment, "thing"));
    EXPECT(-ENOENT, cove_object_remove(segment, "thing"));
}

static void around_memory(cove_segment *segment, struct bank *bank)
{
    cove_ref ref = cove_alloc(segment, 1000);
    assert_true(cove_usable_size(segment, ref) >= 1000);
    EXPECT(0, cove_keep(segment, ref));
    EXPECT(0, cove_free(segment, ref));
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 500));
    EXPECT(0, cove_free_from(segment, &bank->ref));
    EXPECT(0, cove_begin(segment));
    EXPECT(0, cove_save(segment, &bank->cents[0], 8));
    bank->cents[0] += 12;
    EXPECT(0, cove_abort(segment));
    bank_transfer(segment, bank);
    assert_int_equal(bank->cents[0] + bank->cents[1], 2 * BANK_CENTS);
}

/* Waits that must last as long as they were told to. */
static void around_waits(cove_segment *segment, struct bank *bank, cove_stream *reader)
{
    char byte;
    int64_t begun = unit_now();
    EXPECT(-ETIMEDOUT, cove_mutex_lock(segment, &bank->lock[2], 20 * UNIT_MS)); /* the other process has it */
    assert_true(unit_now() - begun >= 20 * UNIT_MS);
    EXPECT(-EBUSY, cove_mutex_lock(segment, &bank->lock[2], COVE_NOWAIT));
    begun = unit_now();
    EXPECT(-ETIMEDOUT, cove_stream_read(reader, &byte, 1, 20 * UNIT_MS));
    assert_true(unit_now() - begun >= 20 * UNIT_MS);
    EXPECT(-EAGAIN, cove_stream_read(reader, &byte, 1, COVE_NOWAIT));
}

/* Ping-pong with a process that has peace. */
static void around_streams(cove_stream *to, cove_stream *from, uint64_t *sequence)
{
    unsigned char sent[5000], got[5000];
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (unsigned char)unit_random(sequence);
    EXPECT(sizeof sent, cove_stream_write(to, sent, sizeof sent, COVE_FOREVER));
    for (size_t at = 0; at < sizeof got;)
        at += (size_t)EXPECT_GOOD(cove_stream_read(from, got + at, sizeof got - at, COVE_FOREVER));
    assert_memory_equal(sent, got, sizeof sent);
    void *room = NULL;
    const void *piece = NULL;
    EXPECT(0, cove_stream_reserve(to, &room, 64, COVE_FOREVER));
    memset(room, 7, 64);
    EXPECT(0, cove_stream_commit(to, 64));
    for (size_t at = 0; at < 64;) {
        int64_t length = EXPECT_GOOD(cove_stream_peek(from, &piece, COVE_FOREVER));
        EXPECT(0, cove_stream_consume(from, (size_t)length));
        at += (size_t)length;
    }
}

/* ---- the other process: an echo, which holds a lock meanwhile */

static void echo(void *unused)
{
    (void)unused;
    char bytes[4096];
    cove_segment *segment = unit_open("t");
    cove_stream *from = NULL, *to = NULL;
    EXPECT_GOOD(cove_stream_open_in(&from, segment, "there", COVE_READER, NULL));
    EXPECT_GOOD(cove_stream_open_in(&to, segment, "back", COVE_WRITER, NULL));
    struct bank *bank = bank_make(segment);
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[2], COVE_NOWAIT));
    testing_reach(0);
    for (int64_t count; (count = EXPECT_GOOD(cove_stream_read(from, bytes, sizeof bytes, COVE_FOREVER))) > 0;)
        EXPECT(count, cove_stream_write(to, bytes, (size_t)count, COVE_FOREVER));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[2]));
    EXPECT(0, cove_stream_close(to));
    unit_close(segment);
}

static void work_in_storm(int flags)
{
    pid_t pid = testing_spawn(echo, NULL);
    testing_await(0);
    cove_segment *segment = unit_open("t");
    struct bank *bank = bank_open(segment);
    cove_stream *to = NULL, *from = NULL, *silent = NULL;
    EXPECT_GOOD(cove_stream_open_in(&to, segment, "there", COVE_WRITER, NULL));
    EXPECT_GOOD(cove_stream_open_in(&from, segment, "back", COVE_READER, NULL));
    EXPECT_GOOD(cove_stream_open(&silent, "silent/s", COVE_READER, NULL));
    uint64_t sequence = 1, before = atomic_load(&handled);
    cove_segment *plain = unit_open("plain");
    struct bank *plain_bank = bank_make(plain);
    int64_t until = unit_now() + STORM_NS;
    begin_storm(flags);
    do {
        around_segments();
        around_regions();
        around_objects(plain);
        around_memory(plain, plain_bank);
        around_waits(segment, bank, silent);
        around_streams(to, from, &sequence);
    } while (unit_now() < until);
    reserve_much();
    EXPECT(0, cove_stream_close(to));
    char byte;
    EXPECT(0, cove_stream_read(from, &byte, 1, COVE_FOREVER)); /* the echo has ended */
    end_storm();
    assert_true(atomic_load(&handled) - before > 100);
    testing_join(pid);
    EXPECT(0, cove_stream_close(from));
    EXPECT(0, cove_stream_close(silent));
    unit_sound(segment);
    unit_sound(plain);
    unit_close(segment);
    unit_close(plain);
    unit_remove("t");
    unit_remove("plain");
    unit_remove("silent");
}

static void test_signals_without_restart_change_no_answer(void **state)
{
    (void)state;
    work_in_storm(0);
}

static void test_signals_with_restart_change_no_answer(void **state)
{
    (void)state;
    work_in_storm(SA_RESTART);
}

/* ---- recovery in a storm */

static void die_holding(void *unused)
{
    (void)unused;
    cove_segment *segment = unit_open("t");
    bank_begin(segment, bank_open(segment));
    assert_true(cove_alloc(segment, 4000) != 0);
    _exit(0);
}

static void test_signals_inside_recovery_change_no_answer(void **state)
{
    (void)state;
    unit_close(unit_open("t"));
    for (int i = 0; i < 40; i++) {
        cove_segment *segment = unit_open("t");
        struct bank *bank = bank_make(segment);
        uint64_t free_bytes = unit_free_bytes(segment);
        unit_close(segment);
        testing_join(testing_spawn(die_holding, NULL));
        begin_storm(i & 1 ? SA_RESTART : 0);
        segment = unit_open("t"); /* recovers, or the lock does */
        bank = bank_open(segment);
        int result = cove_mutex_lock(segment, &bank->lock[0], unit_patience());
        EXPECT_WAS(COVE_RECOVERED, result);
        EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
        assert_int_equal(bank->cents[0], BANK_CENTS);
        (void)EXPECT_GOOD(cove_recover(segment));
        end_storm();
        assert_alone(segment, free_bytes);
        unit_close(segment);
    }
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_signals_without_restart_change_no_answer, 30),
    TEST_TIMEOUT(test_signals_with_restart_change_no_answer, 30),
    TEST_TIMEOUT(test_signals_inside_recovery_change_no_answer, 30),
};

int main(void)
{
    return testing_run("process_signals", tests);
}
