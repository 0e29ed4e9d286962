/* test_stream_peer.c - a stream between processes: who dies, who comes back, and what each is told.
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Deaths are by SIGKILL at a step that the dying process has reached; what it had acknowledged until then is known exactly. */
/* ctest: timeout=90 */
#include "unit.h"

#include <signal.h>

#define RING 4096u

static const struct cove_stream_options small = {.capacity_bytes = RING};
static const struct cove_stream_options staying = {.capacity_bytes = RING, .flags = COVE_STREAM_STAY};

static cove_stream *open_with(enum cove_end end, const struct cove_stream_options *options)
{
    cove_stream *stream = NULL;
    EXPECT_GOOD(cove_stream_open(&stream, "t/s", end, options));
    return stream;
}

static cove_stream *open_end(enum cove_end end)
{
    return open_with(end, &small);
}

static void finish(void)
{
    cove_segment *segment = unit_open("t");
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static unsigned char pattern(uint64_t i)
{
    return (unsigned char)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static void fill(unsigned char *bytes, uint64_t from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = pattern(from + i);
}

static void compare(const unsigned char *bytes, uint64_t from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != pattern(from + i))
            fail_msg("byte %" PRIu64 " is wrong", from + i);
}

/* Take all `count` bytes that were committed: a call may take less than that. */
static void read_all(cove_stream *reader, unsigned char *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        int64_t more = EXPECT_GOOD(cove_stream_read(reader, bytes + done, count - done, unit_patience()));
        assert_true(more > 0);
        done += (size_t)more;
    }
}

/* ---- a whole transfer, either end first */

#define TRANSFER (UINT64_C(3) << 20)

static void send_all(void *argument)
{
    unsigned char bytes[3000];
    uint64_t seed = (uint64_t)(uintptr_t)argument + 1;
    cove_stream *writer = open_end(COVE_WRITER);
    for (uint64_t sent = 0; sent < TRANSFER;) {
        size_t size = 1 + (size_t)(unit_random(&seed) % sizeof bytes);
        size = size < TRANSFER - sent ? size : (size_t)(TRANSFER - sent);
        fill(bytes, sent, size);
        EXPECT((int64_t)size, cove_stream_write(writer, bytes, size, COVE_FOREVER));
        if (sent == 0)
            testing_reach(1);
        sent += size;
    }
    EXPECT(0, cove_stream_close(writer));
}

static void receive_all(void *argument)
{
    unsigned char bytes[5000];
    uint64_t seed = (uint64_t)(uintptr_t)argument + 7, got = 0;
    cove_stream *reader = open_end(COVE_READER);
    testing_reach(0);
    for (;;) {
        int64_t count = EXPECT_GOOD(
            cove_stream_read(reader, bytes, 1 + (size_t)(unit_random(&seed) % sizeof bytes), COVE_FOREVER));
        if (count == 0)
            break;
        compare(bytes, got, (size_t)count);
        got += (uint64_t)count;
    }
    assert_int_equal(got, TRANSFER);
    EXPECT(0, cove_stream_close(reader));
}

static void test_stream_either_end_may_come_first(void **state)
{
    (void)state;
    pid_t reader = testing_spawn(receive_all, NULL);
    testing_await(0);
    pid_t writer = testing_spawn(send_all, NULL);
    testing_join(writer);
    testing_join(reader);
    writer = testing_spawn(send_all, (void *)1);
    testing_await_count(1, 2);
    reader = testing_spawn(receive_all, (void *)1);
    testing_join(writer);
    testing_join(reader);
    finish();
}

/* ---- the writer dies */

static void write_and_die(void *argument)
{
    unsigned char bytes[100];
    uint64_t count = *(const uint64_t *)argument;
    cove_stream *writer = open_end(COVE_WRITER);
    for (uint64_t i = 0; i < count; i++) {
        fill(bytes, i * 100, 100);
        EXPECT(100, cove_stream_write(writer, bytes, 100, COVE_NOWAIT));
    }
    void *place = NULL;
    EXPECT(0, cove_stream_reserve(writer, &place, 200, COVE_NOWAIT));
    memset(place, 0xff, 200); /* not committed: never seen */
    testing_reach(0);
    unit_wait_for_death();
}

static void expect_obituary(pid_t pid, uint64_t bytes)
{
    char part[64];
    (void)snprintf(part, sizeof part, "(pid %d) died after %" PRIu64 " bytes", (int)pid, bytes);
    unit_expect_says("the reader", part, __FILE__, __LINE__);
    assert_non_null(strstr(cove_last_error(), "test_stream_pe"));
}

static void test_stream_writer_death_comes_after_its_bytes(void **state)
{
    (void)state;
    static const uint64_t counts[] = {0, 1, 30};
    for (unsigned i = 0; i < 3; i++) {
        cove_stream *reader = open_end(COVE_READER);
        uint64_t count = counts[i];
        pid_t pid = testing_spawn(write_and_die, &count);
        testing_await_count(0, i + 1);
        testing_kill(pid);
        unsigned char bytes[RING];
        read_all(reader, bytes, (size_t)count * 100);
        compare(bytes, 0, (size_t)count * 100);
        EXPECT(COVE_EPEER, cove_stream_read(reader, bytes, sizeof bytes, unit_patience()));
        expect_obituary(pid, count * 100);
        EXPECT(-EAGAIN, cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT)); /* once */
        cove_stream *writer = open_end(COVE_WRITER); /* and it goes on */
        EXPECT(2, cove_stream_write(writer, "ok", 2, COVE_NOWAIT));
        EXPECT(2, cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT));
        EXPECT(0, cove_stream_close(writer));
        EXPECT(0, cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT));
        EXPECT(0, cove_stream_close(reader));
    }
    finish();
}

/* Found by the next writer, not by the reader. */
static void test_stream_writer_death_is_told_before_the_next_session(void **state)
{
    (void)state;
    uint64_t count = 2;
    pid_t pid = testing_spawn(write_and_die, &count);
    testing_await(0);
    testing_kill(pid);
    cove_stream *writer = open_end(COVE_WRITER);
    EXPECT(3, cove_stream_write(writer, "new", 3, COVE_NOWAIT));
    EXPECT(0, cove_stream_close(writer));
    cove_stream *reader = open_end(COVE_READER);
    const void *piece = NULL;
    EXPECT(100, cove_stream_peek(reader, &piece, COVE_NOWAIT));
    EXPECT(0, cove_stream_consume(reader, 100));
    EXPECT(100, cove_stream_peek(reader, &piece, COVE_NOWAIT));
    EXPECT(0, cove_stream_consume(reader, 100));
    EXPECT(COVE_EPEER, cove_stream_peek(reader, &piece, COVE_NOWAIT));
    char bytes[8];
    EXPECT(3, cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT));
    assert_memory_equal(bytes, "new", 3);
    EXPECT(0, cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT));
    EXPECT(0, cove_stream_close(reader));
    finish();
}

static void read_until_death(void *argument)
{
    (void)argument;
    cove_stream *reader = open_end(COVE_READER);
    char bytes[8];
    testing_reach(1);
    int64_t begun = unit_now();
    EXPECT(COVE_EPEER, cove_stream_read(reader, bytes, sizeof bytes, COVE_FOREVER));
    assert_true(unit_now() - begun < unit_patience());
    EXPECT(0, cove_stream_close(reader));
}

/* Asleep in the counterpart when it happens. */
static void test_stream_sleeping_reader_learns_of_the_death(void **state)
{
    (void)state;
    uint64_t none = 0;
    pid_t writer = testing_spawn(write_and_die, &none);
    testing_await(0);
    pid_t reader = testing_spawn(read_until_death, NULL);
    testing_await(1);
    testing_kill(writer);
    testing_join(reader);
    finish();
}

/* ---- the reader dies */

static void read_and_die(void *argument)
{
    size_t count = *(const size_t *)argument;
    unsigned char bytes[RING];
    const void *piece = NULL;
    cove_stream *reader = open_end(COVE_READER);
    for (size_t done = 0; done < count;) { /* a read takes what is there, which may be less */
        int64_t got = cove_stream_read(reader, bytes, count - done, COVE_FOREVER);
        assert_true(got > 0);
        done += (size_t)got;
    }
    (void)EXPECT_GOOD(cove_stream_peek(reader, &piece, COVE_FOREVER)); /* looked at, not consumed */
    testing_reach(0);
    unit_wait_for_death();
}

static void test_stream_reader_death_loses_nothing(void **state)
{
    (void)state;
    unsigned char bytes[RING];
    cove_stream *writer = open_end(COVE_WRITER);
    uint64_t read = 0, written = 0;
    static const size_t counts[] = {100, 1, 37, 63, 250};
    for (unsigned i = 0; i < 5; i++) {
        for (int k = 0; k < 6; k++, written += 100) {
            fill(bytes, written, 100);
            EXPECT(100, cove_stream_write(writer, bytes, 100, COVE_NOWAIT));
        }
        size_t count = counts[i];
        pid_t pid = testing_spawn(read_and_die, &count);
        testing_await_count(0, i + 1);
        testing_kill(pid);
        read += count;
        cove_segment *segment = unit_open("t");
        (void)EXPECT_GOOD(cove_recover(segment));
        unit_close(segment);
        char part[32];
        (void)snprintf(part, sizeof part, "(pid %d) died", (int)pid);
        EXPECT_SAYS(COVE_EPEER, cove_stream_write(writer, "x", 1, COVE_NOWAIT), part);
        cove_stream *reader = open_end(COVE_READER);
        read_all(reader, bytes, (size_t)(written - read));
        EXPECT(-EAGAIN, cove_stream_read(reader, bytes + RING - 1, 1, COVE_NOWAIT));
        compare(bytes, read, (size_t)(written - read));
        read = written;
        EXPECT(0, cove_stream_close(reader));
        EXPECT(-EPIPE, cove_stream_write(writer, "x", 1, COVE_NOWAIT));
    }
    EXPECT(0, cove_stream_close(writer));
    finish();
}

static void write_much(void *argument)
{
    static unsigned char bytes[64 * RING];
    const struct cove_stream_options *options = argument;
    fill(bytes, 0, sizeof bytes);
    cove_stream *writer = open_with(COVE_WRITER, options);
    testing_reach(1);
    int64_t count = cove_stream_write(writer, bytes, sizeof bytes, COVE_FOREVER);
    if (options->flags & COVE_STREAM_STAY)
        EXPECT_WAS((int64_t)sizeof bytes, count);
    else {
        assert_true(count > 0 && count < (int64_t)sizeof bytes); /* fewer; the next call tells why */
        EXPECT(COVE_EPEER, cove_stream_write(writer, bytes, 1, unit_patience()));
    }
    EXPECT(0, cove_stream_close(writer));
}

static void test_stream_short_write_is_explained_by_the_next_call(void **state)
{
    (void)state;
    pid_t writer = testing_spawn(write_much, (void *)(uintptr_t)&small);
    size_t count = 1000;
    pid_t reader = testing_spawn(read_and_die, &count);
    testing_await(0);
    testing_kill(reader);
    testing_join(writer);
    finish();
}

static void test_stream_short_write_to_a_closed_reader_is_explained(void **state)
{
    (void)state;
    cove_stream *reader = open_end(COVE_READER);
    cove_stream *writer = open_end(COVE_WRITER);
    static unsigned char bytes[2 * RING];
    int64_t count = EXPECT_GOOD(cove_stream_write(writer, bytes, RING / 2, COVE_NOWAIT));
    assert_int_equal(count, RING / 2);
    EXPECT(0, cove_stream_close(reader));
    EXPECT(-EPIPE,
           cove_stream_write(writer, bytes, sizeof bytes, COVE_NOWAIT)); /* it was told before anything went in */
    EXPECT(0, cove_stream_close(writer));
    finish();
}

/* A writer that stays waits for the next reader, and the two readers together get everything once. */
static void test_stream_staying_writer_waits_for_the_next(void **state)
{
    (void)state;
    pid_t writer = testing_spawn(write_much, (void *)(uintptr_t)&staying);
    size_t count = 1000;
    pid_t dead = testing_spawn(read_and_die, &count);
    testing_await(0);
    testing_kill(dead);
    cove_stream *reader = open_end(COVE_READER);
    unsigned char bytes[RING];
    uint64_t got = count;
    int64_t more;
    while ((more = EXPECT_GOOD(cove_stream_read(reader, bytes, 777, unit_patience()))) > 0) {
        compare(bytes, got, (size_t)more);
        got += (uint64_t)more;
    }
    assert_int_equal(got, 64 * RING);
    testing_join(writer);
    EXPECT(0, cove_stream_close(reader));
    finish();
}

/* ---- stopped is not dead */

static void hold_end(void *argument)
{
    (void)open_end(*(const enum cove_end *)argument);
    testing_reach(0);
    unit_wait_for_death();
}

static void test_stream_stopped_end_keeps_its_place(void **state)
{
    (void)state;
    static const enum cove_end ends[] = {COVE_WRITER, COVE_READER};
    for (unsigned i = 0; i < 2; i++) {
        enum cove_end end = ends[i];
        pid_t pid = testing_spawn(hold_end, &end);
        testing_await_count(0, i + 1);
        assert_int_equal(kill(pid, SIGSTOP), 0);
        int status = 0;
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
        char part[32];
        (void)snprintf(part, sizeof part, "(pid %d)", (int)pid);
        cove_stream *other = NULL;
        EXPECT_SAYS(-EBUSY, cove_stream_open(&other, "t/s", end, &small), part);
        other = open_end(end == COVE_WRITER ? COVE_READER : COVE_WRITER);
        static unsigned char bytes[2 * RING];
        if (end == COVE_WRITER)
            EXPECT_SAYS(-ETIMEDOUT, cove_stream_read(other, bytes, 1, 50 * UNIT_MS), part);
        else {
            (void)EXPECT_GOOD(cove_stream_write(other, bytes, sizeof bytes, COVE_NOWAIT));
            EXPECT_SAYS(-ETIMEDOUT, cove_stream_write(other, bytes, RING / 4, 50 * UNIT_MS), part);
        }
        EXPECT(0, cove_stream_close(other));
        testing_kill(pid);
    }
    finish();
}

/* ---- a killed batch is whole or not there */

static void write_batches(void *argument)
{
    _Atomic uint64_t *done = argument;
    cove_stream *writer = open_end(COVE_WRITER);
    uint64_t words[16];
    testing_reach(0);
    for (uint64_t batch = 1;; batch++) {
        for (int i = 0; i < 16; i++)
            words[i] = batch;
        if (batch % 2)
            EXPECT(16, cove_stream_write_many(writer, words, sizeof *words, 16, COVE_FOREVER));
        else
            EXPECT((int64_t)sizeof words, cove_stream_write(writer, words, sizeof words, COVE_FOREVER));
        atomic_store(done, batch);
    }
}

static void test_stream_batches_are_whole_whoever_dies(void **state)
{
    (void)state;
    _Atomic uint64_t *done = testing_shared(sizeof *done);
    for (unsigned round = 0; round < 20; round++) {
        cove_stream *reader = open_end(COVE_READER);
        atomic_store(done, 0);
        pid_t pid = testing_spawn(write_batches, done);
        testing_await_count(0, round + 1);
        uint64_t words[16], seen = 0, stop = 50 + 97 * round;
        int64_t result;
        for (;;) {
            size_t got = 0;
            while (got < sizeof words &&
                   (result = cove_stream_read(reader, (char *)words + got, sizeof words - got, unit_patience())) > 0)
                got += (size_t)result;
            if (got < sizeof words) {
                assert_int_equal(got, 0); /* no part of a batch */
                break;
            }
            seen++;
            for (int i = 0; i < 16; i++)
                assert_int_equal(words[i], seen);
            if (seen == stop)
                testing_kill(pid);
        }
        EXPECT_WAS(COVE_EPEER, result);
        assert_in_range(seen, atomic_load(done), atomic_load(done) + 1); /* nothing acknowledged is lost */
        EXPECT(0, cove_stream_close(reader));
    }
    finish();
}

/* ---- forks */

static void use_inherited(void *argument)
{
    cove_stream *stream = argument;
    char byte;
    EXPECT(COVE_EFORKED, cove_stream_write(stream, "x", 1, COVE_NOWAIT));
    EXPECT(COVE_EFORKED, cove_stream_read(stream, &byte, 1, COVE_NOWAIT));
    struct cove_stream_info info;
    EXPECT(COVE_EFORKED, cove_stream_stat(stream, &info));
    (void)cove_stream_close(stream); /* frees the copy, ends nothing */
    cove_stream *reader = open_end(COVE_READER);
    EXPECT(2, cove_stream_read(reader, (char[8]){0}, 8, unit_patience()));
    EXPECT(0, cove_stream_close(reader));
}

static void test_stream_forked_child_has_no_end(void **state)
{
    (void)state;
    cove_stream *writer = open_end(COVE_WRITER);
    EXPECT(2, cove_stream_write(writer, "ab", 2, COVE_NOWAIT));
    testing_join(testing_spawn(use_inherited, writer));
    EXPECT(-EPIPE, cove_stream_write(writer, "c", 1, COVE_NOWAIT)); /* the child's reader closed */
    EXPECT(1, cove_stream_write(writer, "c", 1, COVE_NOWAIT));
    EXPECT(0, cove_stream_close(writer));
    finish();
}

static const struct testing_case tests[] = {
    TEST_TIMEOUT(test_stream_either_end_may_come_first, 30),
    TEST(test_stream_writer_death_comes_after_its_bytes),
    TEST(test_stream_writer_death_is_told_before_the_next_session),
    TEST(test_stream_sleeping_reader_learns_of_the_death),
    TEST(test_stream_reader_death_loses_nothing),
    TEST(test_stream_short_write_is_explained_by_the_next_call),
    TEST(test_stream_short_write_to_a_closed_reader_is_explained),
    TEST(test_stream_staying_writer_waits_for_the_next),
    TEST(test_stream_stopped_end_keeps_its_place),
    TEST_TIMEOUT(test_stream_batches_are_whole_whoever_dies, 30),
    TEST(test_stream_forked_child_has_no_end),
};

int main(void)
{
    return testing_run("stream_peer", tests);
}
