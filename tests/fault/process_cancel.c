/* process_cancel.c - threads that are cancelled inside calls, in waits, and that end inside transactions.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * A cancelled thread ends wherever libc looks for cancellation: in open, close, read, nap ... So a thread is
 * cancelled just before each of these calls that an operation makes, one after the other. Whatever the operation
 * was, afterwards no descriptor is left, no lock is held, nobody's recovery is claimed for ever, and the same
 * operation works in another thread. (Asynchronous cancellation is not for libraries: POSIX lets such a thread call
 * three functions, none of them ours.) */
/* ctest: timeout=120 */
#include "process.h"

#include <cove/region.h>
#include <fcntl.h>

/* ---- the libc calls at which a thread may end; the library's own come here first */

static _Thread_local unsigned countdown; /* 1: cancelled before the next of them; 0: never */
static _Atomic unsigned reached; /* whether that came */

static void pass_cancellation_point(void)
{
    if (countdown == 0 || --countdown > 0)
        return;
    atomic_store(&reached, 1);
    (void)pthread_cancel(pthread_self());
    pthread_testcancel();
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, mode_t mode);
int __real_close(int file);
int __wrap_close(int file);
ssize_t __real_read(int file, void *data, size_t size_bytes);
ssize_t __wrap_read(int file, void *data, size_t size_bytes);
ssize_t __real_pread64(int file, void *data, size_t size_bytes, off_t offset);
ssize_t __wrap_pread64(int file, void *data, size_t size_bytes, off_t offset);
ssize_t __real_pwrite64(int file, const void *data, size_t size_bytes, off_t offset);
ssize_t __wrap_pwrite64(int file, const void *data, size_t size_bytes, off_t offset);
int __real_fallocate64(int file, int mode, off_t offset, off_t size_bytes);
int __wrap_fallocate64(int file, int mode, off_t offset, off_t size_bytes);
int __real_msync(void *address, size_t size_bytes, int flags);
int __wrap_msync(void *address, size_t size_bytes, int flags);
int __real_fsync(int file);
int __wrap_fsync(int file);
int __real_nanosleep(const struct timespec *duration, struct timespec *left);
int __wrap_nanosleep(const struct timespec *duration, struct timespec *left);

int __wrap_open64(const char *path, int flags, mode_t mode)
{
    pass_cancellation_point();
    return __real_open64(path, flags, mode);
}

int __wrap_close(int file)
{
    pass_cancellation_point();
    return __real_close(file);
}

ssize_t __wrap_read(int file, void *data, size_t size_bytes)
{
    pass_cancellation_point();
    return __real_read(file, data, size_bytes);
}

ssize_t __wrap_pread64(int file, void *data, size_t size_bytes, off_t offset)
{
    pass_cancellation_point();
    return __real_pread64(file, data, size_bytes, offset);
}

ssize_t __wrap_pwrite64(int file, const void *data, size_t size_bytes, off_t offset)
{
    pass_cancellation_point();
    return __real_pwrite64(file, data, size_bytes, offset);
}

int __wrap_fallocate64(int file, int mode, off_t offset, off_t size_bytes)
{
    pass_cancellation_point();
    return __real_fallocate64(file, mode, offset, size_bytes);
}

int __wrap_msync(void *address, size_t size_bytes, int flags)
{
    pass_cancellation_point();
    return __real_msync(address, size_bytes, flags);
}

int __wrap_fsync(int file)
{
    pass_cancellation_point();
    return __real_fsync(file);
}

int __wrap_nanosleep(const struct timespec *duration, struct timespec *left)
{
    pass_cancellation_point();
    return __real_nanosleep(duration, left);
}

/* ---- operations */

static cove_segment *segment;
static struct bank *bank;

static void open_and_close(void)
{
    cove_segment *other = unit_open("other");
    unit_close(other);
}

static void open_existing(void)
{
    cove_segment *other = unit_open_as("kept", &(struct cove_options){.flags = COVE_EXISTING});
    unit_close(other);
}

static void remove_other(void)
{
    open_and_close();
    int result = cove_unlink("other", 1);
    if (result != -ENOENT)
        EXPECT_WAS(0, result);
}

static void look(void)
{
    struct cove_segment_info info;
    EXPECT(0, cove_stat("kept", &info));
    EXPECT(0, cove_segment_stat(segment, &info));
}

static void clear_up(void)
{
    (void)EXPECT_GOOD(cove_gc(0, NULL, NULL));
}

static void grow(void)
{
    cove_ref ref = cove_alloc(segment, 400000);
    assert_true(ref != 0);
    EXPECT(0, cove_free(segment, ref));
}

static void make_object(void)
{
    (void)unit_object(segment, "object", 200000);
    EXPECT(0, cove_object_remove(segment, "object"));
}

static void write_and_read(void)
{
    cove_stream *writer = NULL, *reader = NULL;
    char byte = 1;
    EXPECT_GOOD(cove_stream_open(&writer, "kept/s", COVE_WRITER, NULL));
    EXPECT_GOOD(cove_stream_open(&reader, "kept/s", COVE_READER, NULL));
    EXPECT(1, cove_stream_write(writer, &byte, 1, COVE_FOREVER));
    (void)EXPECT_GOOD(cove_stream_read(reader, &byte, 1, COVE_FOREVER));
    EXPECT(0, cove_stream_close(writer));
    EXPECT(0, cove_stream_close(reader));
}

/* Where files can be synced, what is said of them is one thing more at which a thread may end. */
static const char *file_name(const char *file)
{
    static _Thread_local char name[1100];
    (void)snprintf(name, sizeof name, "file:%s/%s", testing_dir(), file);
    return name;
}

static void use_region(void)
{
    cove_region *region = NULL;
    struct cove_region_info info;
    struct cove_region_options options = {.size_bytes = 100000};
    EXPECT_GOOD(cove_region_open(&region, file_name("bytes"), &options));
    memset(cove_region_data(region), 1, 100000);
    EXPECT(0, cove_region_stat(region, &info));
    EXPECT(0, cove_region_sync(region, 0, 0));
    EXPECT(0, cove_region_close(region));
    EXPECT(0, cove_region_look(file_name("bytes"), &info));
    EXPECT(0, cove_region_replace(file_name("bytes"), "new bytes", 9, NULL));
    EXPECT(0, cove_region_unlink(file_name("bytes"), 0));
}

static void use_nameless_region(void)
{
    cove_region *region = NULL;
    EXPECT_GOOD(cove_region_open(&region, "memfd:", &(struct cove_region_options){.size_bytes = 100000}));
    EXPECT(0, cove_region_close(region));
}

static void sync_segment(void)
{
    cove_segment *durable = unit_open(file_name("durable"));
    EXPECT(0, cove_sync(durable, unit_patience()));
    unit_close(durable);
    EXPECT(0, cove_unlink(file_name("durable"), 1));
}

static const struct operation {
    const char *name;
    void (*run)(void);
} operations[] = {
    {"open and close", open_and_close},
    {"open what exists", open_existing},
    {"unlink", remove_other},
    {"look", look},
    {"gc", clear_up},
    {"grow", grow},
    {"object", make_object},
    {"stream", write_and_read},
    {"region", use_region},
    {"nameless region", use_nameless_region},
    {"sync", sync_segment},
};

/* ---- cancelled at each point */

struct attempt {
    const struct operation *operation;
    unsigned turn;
};

static void *run_cancelled(void *argument)
{
    const struct attempt *attempt = argument;
    countdown = attempt->turn;
    attempt->operation->run();
    countdown = 0;
    return argument;
}

static void *run_in_peace(void *argument)
{
    ((const struct operation *)argument)->run();
    return NULL;
}

static int count_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* Returns whether there was such a point. */
static bool cancel_at(const struct operation *operation, unsigned turn)
{
    struct attempt attempt = {operation, turn};
    void *result = NULL;
    atomic_store(&reached, 0);
    int before = count_descriptors();
    pthread_t thread = unit_thread(run_cancelled, &attempt);
    assert_int_equal(pthread_join(thread, &result), 0);
    bool cancelled = result == PTHREAD_CANCELED;
    if (!cancelled)
        assert_ptr_equal(result, &attempt);
    unit_in_thread(run_in_peace, (void *)(uintptr_t)operation); /* as if nothing had been */
    int after = count_descriptors();
    if (after != before)
        fail_msg("%s, cancelled at its call %u: %d descriptors, then %d", operation->name, turn, before, after);
    unit_sound(segment);
    return atomic_load(&reached) != 0;
}

static void test_cancel_at_each_call_leaves_nothing(void **state)
{
    (void)state;
    segment = unit_open("t");
    bank = bank_make(segment);
    unit_close(unit_open("kept"));
    write_and_read();
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        unsigned turn = 1;
        while (cancel_at(&operations[i], turn))
            turn++;
        print_message("%s: cancelled at %u calls\n", operations[i].name, turn - 1);
    }
    assert_int_equal(unit_stat(segment).members_alive, 1);
    struct cove_segment_info info;
    EXPECT(0, cove_stat("kept", &info));
    assert_int_equal(info.members_alive + info.members_dead, 0);
    unit_close(segment);
    unit_remove("t");
    unit_remove("kept");
    remove_other();
}

/* ---- inside a recovery */

static void die_holding(void *unused)
{
    (void)unused;
    (void)cove_close(segment);
    cove_segment *own = unit_open("t");
    bank_begin(own, bank_open(own));
    assert_true(cove_alloc(own, 4000) != 0);
    _exit(0);
}

static void recover(void)
{
    (void)EXPECT_GOOD(cove_recover(segment));
}

static void take_lock(void)
{
    (void)EXPECT_GOOD(cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    assert_int_equal(bank->cents[0], BANK_CENTS);
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
}

static void test_cancel_inside_a_recovery_is_made_good(void **state)
{
    (void)state;
    static const struct operation ways[] = {{"recover", recover}, {"lock", take_lock}, {"gc", clear_up}};
    segment = unit_open("t");
    bank = bank_make(segment);
    uint64_t free_bytes = unit_free_bytes(segment);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        bool more = true;
        for (unsigned turn = 1; more; turn++) {
            testing_join(testing_spawn(die_holding, NULL));
            more = cancel_at(&ways[i], turn);
            take_lock();
            assert_alone(segment, free_bytes);
        }
    }
    unit_close(segment);
    unit_remove("t");
}

/* ---- in waits: no call of Cove's is an end, so the wait is waited out, and what it got goes back */

static void *wait_for_lock(void *unused)
{
    (void)unused;
    testing_reach(0);
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_FOREVER));
    bank->cents[0] -= 1; /* not saved: the lock is all that goes back */
    pthread_testcancel();
    fail();
    return NULL;
}

static void *wait_for_bytes(void *stream)
{
    static char bytes[8]; /* no frame of a cancelled thread: AddressSanitizer would not learn that it is gone */
    testing_reach(1);
    EXPECT(3, cove_stream_read(stream, bytes, sizeof bytes, COVE_FOREVER));
    pthread_testcancel();
    fail();
    return NULL;
}

static bool sleeps_on(const cove_mutex *mutex)
{
    return (atomic_load((const _Atomic uint64_t *)(const void *)&mutex->word) & UINT64_C(0x80000000)) != 0;
}

static void join_cancelled(pthread_t thread)
{
    void *result = NULL;
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_ptr_equal(result, PTHREAD_CANCELED);
}

static void test_cancel_inside_waits_loses_nothing(void **state)
{
    (void)state;
    segment = unit_open("t");
    bank = bank_make(segment);
    cove_stream *writer = NULL, *reader = NULL;
    EXPECT_GOOD(cove_stream_open_in(&writer, segment, "s", COVE_WRITER, NULL));
    EXPECT_GOOD(cove_stream_open_in(&reader, segment, "s", COVE_READER, NULL));
    EXPECT(0, cove_mutex_lock(segment, &bank->lock[0], COVE_NOWAIT));
    pthread_t locker = unit_thread(wait_for_lock, NULL), eater = unit_thread(wait_for_bytes, reader);
    UNTIL(sleeps_on(&bank->lock[0]), 5000);
    testing_await(1);
    assert_int_equal(pthread_cancel(locker) | pthread_cancel(eater), 0);
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
    EXPECT(3, cove_stream_write(writer, "abc", 3, COVE_FOREVER));
    join_cancelled(locker);
    join_cancelled(eater);
    /* Its thread ended holding it. */
    EXPECT(COVE_RECOVERED, cove_mutex_lock(segment, &bank->lock[0], unit_patience()));
    EXPECT(0, cove_mutex_unlock(segment, &bank->lock[0]));
    char byte;
    EXPECT(1, cove_stream_write(writer, "d", 1, COVE_FOREVER)); /* both ends live on: they are the process's */
    EXPECT(1, cove_stream_read(reader, &byte, 1, COVE_FOREVER));
    EXPECT(0, cove_stream_close(writer));
    EXPECT(0, cove_stream_close(reader));
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

/* ---- ends inside transactions, by pthread_exit and by cancellation, with and without a handler that clears up */

static void abort_transfer(void *unused)
{
    (void)unused;
    EXPECT(0, cove_abort(segment));
}

static void *end_in_transfer(void *argument)
{
    unsigned way = *(unsigned *)argument;
    bank_begin(segment, bank);
    EXPECT(0, cove_begin(segment)); /* nested */
    EXPECT(0, cove_alloc_into(segment, &bank->ref, 5000));
    pthread_cleanup_push(abort_transfer, NULL);
    if (way & 1)
        (void)pthread_cancel(pthread_self());
    if (way & 2) {
        pthread_testcancel();
        pthread_exit(NULL);
    }
    pthread_cleanup_pop(0);
    pthread_testcancel();
    pthread_exit(NULL);
}

static void test_cancel_and_exit_inside_a_transaction_roll_back(void **state)
{
    (void)state;
    if (UNIT_SANITIZED)
        testing_skip("AddressSanitizer takes the frames of a cancelled thread for alive");
    segment = unit_open("t");
    bank = bank_make(segment);
    uint64_t free_bytes = unit_free_bytes(segment);
    for (unsigned way = 0; way < 4; way++) {
        unit_in_thread(end_in_transfer, &way);
        bank_audit(segment, bank, way & 2 ? 0 : COVE_RECOVERED); /* aborted by the handler, or by the thread's end */
        assert_int_equal(bank->cents[0], BANK_CENTS);
        assert_int_equal(bank->ref, 0);
        assert_alone(segment, free_bytes);
    }
    unit_close(segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_cancel_at_each_call_leaves_nothing, 60),
    TEST_TIMEOUT(test_cancel_inside_a_recovery_is_made_good, 30),
    TEST(test_cancel_inside_waits_loses_nothing),
    TEST(test_cancel_and_exit_inside_a_transaction_roll_back),
};

int main(void)
{
    return testing_run("process_cancel", tests);
}
