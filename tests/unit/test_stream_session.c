/* test_stream_session.c - a stream in one process: ends of sessions, timeouts, and a segment that is closed under it.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "stream_ends.h"

/* ---- ends of sessions */

static void test_stream_end_is_told_once(void **state)
{
    (void)state;
    struct ends ends = open_both();
    char bytes[RING];
    for (int round = 0; round < 300; round++) {
        EXPECT(5, cove_stream_write(ends.writer, "hello", 5, COVE_NOWAIT));
        EXPECT(0, cove_stream_close(ends.writer));
        ends.writer = open_end(ends.segment, COVE_WRITER, 0); /* its end is between the two sessions */
        EXPECT(3, cove_stream_write(ends.writer, "you", 3, COVE_NOWAIT));
        EXPECT(5, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
        EXPECT(0, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
        EXPECT(3, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
        EXPECT(-EAGAIN, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
    }
    close_both(&ends);
}

static void test_stream_session_without_bytes_has_an_end(void **state)
{
    (void)state;
    struct ends ends = open_both();
    char bytes[8];
    const void *piece = NULL;
    EXPECT(0, cove_stream_close(ends.writer));
    EXPECT(0, cove_stream_peek(ends.reader, &piece, COVE_NOWAIT));
    EXPECT_SAYS(-EAGAIN, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT), "there is no writer");
    ends.writer = open_end(ends.segment, COVE_WRITER, 0);
    close_both(&ends);
}

/* Writers come and go until the ring can hold no more ends; nothing breaks, and what was written is there. */
static void test_stream_full_ring_outlives_many_sessions(void **state)
{
    (void)state;
    struct ends ends = open_both();
    static unsigned char bytes[2 * RING];
    struct flow flow = {0, 0};
    fill(bytes, 0, sizeof bytes);
    flow.written = (uint64_t)EXPECT_GOOD(cove_stream_write(ends.writer, bytes, sizeof bytes, COVE_NOWAIT));
    while (cove_stream_write(ends.writer, &bytes[flow.written], 1, COVE_NOWAIT) == 1)
        flow.written++;
    for (int i = 0; i < 100; i++) {
        EXPECT(0, cove_stream_close(ends.writer));
        ends.writer = open_end(ends.segment, COVE_WRITER, 0);
        EXPECT(-EAGAIN, cove_stream_write(ends.writer, bytes, 1, COVE_NOWAIT));
        unit_sound(ends.segment);
    }
    EXPECT(0, cove_stream_close(ends.reader));
    ends.reader = open_end(ends.segment, COVE_READER, 0);
    read_all(ends.reader, bytes, (size_t)flow.written);
    compare(bytes, &flow, (size_t)flow.written);
    EXPECT(0, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT)); /* at least the first session's */
    int64_t more;
    while ((more = cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT)) == 0)
        ;
    EXPECT_WAS(-EAGAIN, more);
    EXPECT(-EPIPE, cove_stream_write(ends.writer, bytes, 1, COVE_NOWAIT)); /* the reader before left */
    EXPECT(1, cove_stream_write(ends.writer, bytes, 1, COVE_NOWAIT));
    close_both(&ends);
}

static void test_stream_reader_that_closes_is_told_once(void **state)
{
    (void)state;
    struct ends ends = open_both();
    char bytes[8];
    EXPECT(6, cove_stream_write(ends.writer, "012345", 6, COVE_NOWAIT));
    EXPECT(2, cove_stream_read(ends.reader, bytes, 2, COVE_NOWAIT));
    EXPECT(0, cove_stream_close(ends.reader));
    EXPECT_SAYS(-EPIPE, cove_stream_write(ends.writer, "6", 1, COVE_NOWAIT), "closed its end");
    EXPECT(1, cove_stream_write(ends.writer, "7", 1, COVE_NOWAIT));
    ends.reader = open_end(ends.segment, COVE_READER, 0); /* goes on exactly there */
    EXPECT(5, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
    assert_memory_equal(bytes, "23457", 5);
    EXPECT(0, cove_stream_close(ends.reader));
    void *place = NULL;
    EXPECT(-EPIPE, cove_stream_reserve(ends.writer, &place, 1, COVE_NOWAIT));
    ends.reader = open_end(ends.segment, COVE_READER, 0);
    EXPECT(0, cove_stream_close(ends.reader));
    EXPECT(-EPIPE, cove_stream_write_many(ends.writer, "a", 1, 1, COVE_NOWAIT));
    EXPECT(0, cove_stream_close(ends.writer));
    ends.writer = open_end(ends.segment, COVE_WRITER, COVE_STREAM_STAY);
    ends.reader = open_end(ends.segment, COVE_READER, 0);
    EXPECT(0, cove_stream_close(ends.reader));
    EXPECT(1, cove_stream_write(ends.writer, "8", 1, COVE_NOWAIT));
    ends.reader = open_end(ends.segment, COVE_READER, 0);
    close_both(&ends);
}

static void test_stream_abandoned_end_is_told_as_a_death(void **state)
{
    (void)state;
    struct ends ends = open_both();
    char bytes[8], pid[32];
    (void)snprintf(pid, sizeof pid, "(pid %d)", (int)getpid());
    for (int round = 0; round < 200; round++) {
        EXPECT(3, cove_stream_write(ends.writer, "abc", 3, COVE_NOWAIT));
        EXPECT(0, cove_stream_abandon(ends.writer));
        ends.writer = open_end(ends.segment, COVE_WRITER, 0);
        EXPECT(3, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
        EXPECT_SAYS(COVE_EPEER, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT), pid);
        EXPECT(-EAGAIN, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT)); /* once */
        EXPECT(2, cove_stream_write(ends.writer, "xy", 2, COVE_NOWAIT));
        EXPECT(1, cove_stream_read(ends.reader, bytes, 1, COVE_NOWAIT));
        EXPECT(0, cove_stream_abandon(ends.reader));
        EXPECT_SAYS(COVE_EPEER, cove_stream_write(ends.writer, "z", 1, COVE_NOWAIT), pid);
        ends.reader = open_end(ends.segment, COVE_READER, 0);
        EXPECT(1, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
        assert_int_equal(bytes[0], 'y');
        EXPECT(0, cove_stream_close(ends.writer));
        EXPECT(0, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
        ends.writer = open_end(ends.segment, COVE_WRITER, 0);
    }
    EXPECT(0, cove_stream_abandon(NULL));
    close_both(&ends);
}

/* A reader that left before the writer came is no news. */
static void test_stream_old_reader_is_no_news(void **state)
{
    (void)state;
    struct ends ends = open_both();
    EXPECT(0, cove_stream_close(ends.reader));
    EXPECT(0, cove_stream_close(ends.writer));
    ends.writer = open_end(ends.segment, COVE_WRITER, 0);
    EXPECT(1, cove_stream_write(ends.writer, "1", 1, COVE_NOWAIT));
    ends.reader = open_end(ends.segment, COVE_READER, 0);
    close_both(&ends);
}

static void test_stream_timeouts_last_as_long_as_said(void **state)
{
    (void)state;
    struct ends ends = open_both();
    static unsigned char bytes[RING];
    const void *piece = NULL;
    void *place = NULL;
    static const int64_t timeouts[] = {1, 1000, 3 * UNIT_MS, 30 * UNIT_MS};
    for (size_t i = 0; i < 4; i++) {
        int64_t begun = unit_now();
        EXPECT_SAYS(-ETIMEDOUT, cove_stream_read(ends.reader, bytes, 1, timeouts[i]), "alive");
        assert_true(unit_now() - begun >= timeouts[i]);
        EXPECT(-ETIMEDOUT, cove_stream_peek(ends.reader, &piece, timeouts[i]));
    }
    (void)EXPECT_GOOD(cove_stream_write(ends.writer, bytes, sizeof bytes, COVE_NOWAIT));
    for (size_t i = 0; i < 4; i++) {
        int64_t begun = unit_now();
        EXPECT(-ETIMEDOUT, cove_stream_write(ends.writer, bytes, RING / 4, timeouts[i]));
        assert_true(unit_now() - begun >= timeouts[i]);
        EXPECT(-ETIMEDOUT, cove_stream_write_many(ends.writer, bytes, 100, 4, timeouts[i]));
        EXPECT(-ETIMEDOUT, cove_stream_reserve(ends.writer, &place, RING / 4, timeouts[i]));
    }
    EXPECT(0, cove_stream_close(ends.writer));
    while (cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT) > 0)
        ;
    EXPECT_SAYS(-ETIMEDOUT, cove_stream_read(ends.reader, bytes, 1, UNIT_MS), "no writer");
    ends.writer = open_end(ends.segment, COVE_WRITER, 0);
    close_both(&ends);
}

static void test_stream_segment_closed_under_it(void **state)
{
    (void)state;
    struct ends ends = open_both();
    EXPECT(4, cove_stream_write(ends.writer, "left", 4, COVE_NOWAIT));
    unit_close(ends.segment);
    char bytes[8];
    const void *piece = NULL;
    struct cove_stream_info info;
    EXPECT(COVE_ECLOSED, cove_stream_write(ends.writer, "x", 1, COVE_NOWAIT));
    EXPECT(COVE_ECLOSED, cove_stream_read(ends.reader, bytes, 1, COVE_FOREVER));
    EXPECT(COVE_ECLOSED, cove_stream_peek(ends.reader, &piece, COVE_FOREVER));
    EXPECT(COVE_ECLOSED, cove_stream_commit(ends.writer, 0));
    EXPECT(COVE_ECLOSED, cove_stream_stat(ends.writer, &info));
    EXPECT(0, cove_stream_close(ends.writer));
    EXPECT(0, cove_stream_close(ends.reader));
    ends.segment = unit_open("t");
    ends.reader = open_end(ends.segment, COVE_READER, 0);
    EXPECT(4, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
    EXPECT(0, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
    ends.writer = open_end(ends.segment, COVE_WRITER, 0);
    close_both(&ends);
}

static void test_stream_that_is_open_is_not_removed(void **state)
{
    (void)state;
    struct ends ends = open_both();
    EXPECT_SAYS(-EBUSY, cove_object_remove(ends.segment, "s"), "pid");
    EXPECT(0, cove_stream_close(ends.reader));
    EXPECT(-EBUSY, cove_object_remove(ends.segment, "s"));
    EXPECT(0, cove_stream_close(ends.writer));
    EXPECT(0, cove_object_remove(ends.segment, "s"));
    assert_int_equal(unit_stat(ends.segment).object_count, 0);
    unit_sound(ends.segment);
    unit_close(ends.segment);
    unit_remove("t");
}

static const struct testing_case tests[] = {
    TEST(test_stream_end_is_told_once),
    TEST(test_stream_session_without_bytes_has_an_end),
    TEST(test_stream_full_ring_outlives_many_sessions),
    TEST(test_stream_reader_that_closes_is_told_once),
    TEST(test_stream_abandoned_end_is_told_as_a_death),
    TEST(test_stream_old_reader_is_no_news),
    TEST(test_stream_timeouts_last_as_long_as_said),
    TEST(test_stream_segment_closed_under_it),
    TEST(test_stream_that_is_open_is_not_removed),
};

int main(void)
{
    return testing_run("stream_session", tests);
}
