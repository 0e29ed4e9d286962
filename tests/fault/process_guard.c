/* process_guard.c - another process makes the file smaller, or writes over it, while we work: an error, not a death.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * With COVE_GUARD the call in which it happens returns whatever it makes of the zeros that it finds; every call
 * after it says COVE_ETRUNCATED, and closing works. Handlers for SIGBUS that were there before go on getting what is
 * not ours. */
/* ctest: timeout=90 */
#include "process.h"

#include "segment/segment.h"

#include <fcntl.h>
#include <sys/mman.h>

static cove_segment *segment;
static struct bank *bank;
static cove_stream *stream;

/* ---- a member that works until it is told no */

static int try_transfer(void)
{
    int result = cove_begin(segment);
    if (result == 0)
        result = cove_mutex_lock(segment, &bank->lock[0], unit_patience());
    if (result == 0)
        result = cove_save(segment, bank->cents, sizeof bank->cents);
    if (result == 0) {
        bank->cents[0]--;
        bank->cents[1]++;
        result = cove_commit(segment);
    }
    return result;
}

static int try_memory(void)
{
    cove_ref ref = cove_alloc(segment, 3000);
    if (ref == 0)
        return -errno;
    void *memory = cove_at(segment, ref, 3000);
    if (memory)
        memset(memory, 5, 3000);
    return cove_free(segment, ref);
}

static int try_object(void)
{
    void *object = NULL;
    int result = cove_object_open(&object, segment, "thing", &(struct cove_type){.name = "thing", .size_bytes = 100},
                                  0);
    return result < 0 ? result : cove_object_remove(segment, "thing");
}

static int try_stream(void)
{
    static char bytes[3000];
    int64_t result = cove_stream_write(stream, bytes, sizeof bytes, COVE_NOWAIT);
    return result == -EAGAIN || result > 0 ? 0 : (int)result;
}

static int (*const ways[])(void) = {try_transfer, try_memory, try_object, try_stream};

/* Each call after the first that failed says what happened. */
static void expect_all_to_tell(void)
{
    struct cove_segment_info info;
    char byte = 0;
    EXPECT_SAYS(COVE_ETRUNCATED, cove_begin(segment), "truncated");
    EXPECT(COVE_ETRUNCATED, cove_mutex_lock(segment, &bank->lock[2], COVE_NOWAIT));
    EXPECT(COVE_ETRUNCATED, cove_segment_stat(segment, &info));
    EXPECT(COVE_ETRUNCATED, cove_recover(segment));
    EXPECT(COVE_ETRUNCATED, cove_object_remove(segment, "thing"));
    EXPECT(COVE_ETRUNCATED, cove_segment_check(segment, NULL, NULL));
    EXPECT(COVE_ETRUNCATED, cove_stream_write(stream, &byte, 1, COVE_NOWAIT));
    assert_int_equal(cove_alloc(segment, 10), 0);
}

static void work_until_truncated(void *argument)
{
    unsigned way = *(unsigned *)argument;
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_GUARD});
    bank = bank_make(segment);
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", COVE_WRITER, NULL));
    testing_reach(0);
    while (ways[way]() == 0)
        testing_reach(1);
    expect_all_to_tell();
    (void)cove_stream_close(stream);
    EXPECT(0, cove_close(segment));
    segment = NULL;
    int result = cove_open(&segment, "t", NULL); /* what is left of it is refused */
    if (result != COVE_ECORRUPT && result != COVE_ENOTCOVE)
        fail_msg("opened again: %s: %s", cove_errname(result), cove_last_error());
}

static void test_guard_member_survives_truncation(void **state)
{
    (void)state;
    static const off_t sizes[] = {0, 4096, 100000};
    unsigned round = 0;
    for (unsigned way = 0; way < sizeof ways / sizeof *ways; way++)
        for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++, round++) {
            pid_t pid = testing_spawn(work_until_truncated, &way);
            testing_await_count(0, round + 1);
            unsigned seen = testing_reached(1);
            UNTIL(testing_reached(1) > seen + 10 * i, 5000); /* it is in full swing */
            assert_int_equal(truncate(unit_path("t"), sizes[i]), 0);
            testing_join(pid);
            EXPECT(0, cove_unlink("t", 1));
        }
}

/* ---- threads of one member */

static void *work_in_thread(void *argument)
{
    while (((int (*)(void))argument)() == 0)
        testing_reach(1);
    EXPECT(COVE_ETRUNCATED, cove_begin(segment));
    return NULL;
}

static void work_in_threads(void *unused)
{
    (void)unused;
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_GUARD});
    bank = bank_make(segment);
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", COVE_WRITER, NULL));
    pthread_t threads[] = {unit_thread(work_in_thread, (void *)try_transfer),
                           unit_thread(work_in_thread, (void *)try_memory)};
    testing_reach(0);
    for (unsigned i = 0; i < 2; i++)
        unit_thread_join(threads[i]);
    expect_all_to_tell();
    EXPECT(0, cove_close(segment));
}

static void test_guard_threads_survive_truncation(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 5; round++) {
        pid_t pid = testing_spawn(work_in_threads, NULL);
        testing_await_count(0, round + 1);
        unsigned seen = testing_reached(1);
        UNTIL(testing_reached(1) > seen + 100 * round, 5000);
        assert_int_equal(truncate(unit_path("t"), 0), 0);
        testing_join(pid);
        EXPECT(0, cove_unlink("t", 1));
    }
}

/* ---- handlers of the program's own */

static volatile sig_atomic_t passed_on;
static void *own_page;

static void on_own_bus(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    (void)context;
    passed_on = info->si_addr == own_page;
    (void)mmap(own_page, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void touch_own_truncated_file(void)
{
    char path[1100];
    (void)snprintf(path, sizeof path, "%s/own", testing_dir());
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    own_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    assert_ptr_not_equal(own_page, MAP_FAILED);
    passed_on = 0;
    *(volatile char *)own_page = 1; /* there is no byte of the file */
    assert_int_equal(passed_on, 1);
    assert_int_equal(munmap(own_page, 4096) | close(file) | unlink(path), 0);
}

static void test_guard_leaves_others_their_handlers(void **state)
{
    (void)state;
    struct sigaction action = {.sa_sigaction = on_own_bus, .sa_flags = SA_SIGINFO};
    assert_int_equal(sigaction(SIGBUS, &action, NULL), 0);
    segment = unit_open_as("t", &(struct cove_options){.flags = COVE_GUARD});
    bank = bank_make(segment);
    touch_own_truncated_file();
    bank_transfer(segment, bank);
    assert_int_equal(truncate(unit_path("t"), 0), 0);
    bank->cents[0] = 3; /* zeros of our own by now */
    touch_own_truncated_file();
    EXPECT(COVE_ETRUNCATED, cove_begin(segment));
    unit_close(segment);
    EXPECT(0, cove_unlink("t", 1));
    testing_leaves_open(); /* robust mutexes of this thread lie in what was the mapping */
}

/* ---- a member that writes where it should not */

#define SCRIBBLE_NS (500 * UNIT_MS)

static void work_on(void *unused)
{
    (void)unused;
    segment = unit_open("t");
    bank = bank_open(segment);
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", COVE_WRITER, NULL));
    testing_reach(0);
    while (testing_reached(1) == 0)
        for (unsigned way = 0; way < 4; way++)
            if (ways[way]() < 0) { /* told, in a sentence; and it goes on */
                assert_true(*cove_last_error() != '\0');
                (void)cove_abort(segment);
                if (cove_mutex_unlock(segment, &bank->lock[0]) == 0)
                    testing_reach(2);
            }
    _exit(0);
}

/* Users' memory and the headers of blocks between: where a pointer that has gone astray points. */
static void test_guard_scribbled_heap_kills_nobody(void **state)
{
    (void)state;
    segment = unit_open("t");
    bank = bank_make(segment);
    pid_t pid = testing_spawn(work_on, NULL);
    testing_await(0);
    uint64_t random = 11, end = unit_stat(segment).size_bytes - segment->heap_at;
    for (int64_t until = unit_now() + SCRIBBLE_NS; unit_now() < until;) {
        uint64_t at = segment->heap_at + unit_random(&random) % end;
        *((volatile unsigned char *)covei_address(segment, at)) = (unsigned char)unit_random(&random);
    }
    testing_reach(1);
    testing_join(pid);
    (void)cove_recover(segment);
    (void)cove_segment_check(segment, NULL, NULL);
    (void)cove_close(segment);
    EXPECT(0, cove_unlink("t", 1));
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_guard_member_survives_truncation, 30),
    TEST_TIMEOUT(test_guard_threads_survive_truncation, 30),
    TEST(test_guard_leaves_others_their_handlers),
    TEST(test_guard_scribbled_heap_kills_nobody),
};

int main(void)
{
    return testing_run("process_guard", tests);
}
