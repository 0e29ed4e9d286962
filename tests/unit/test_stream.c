/* test_stream.c - a stream in one process: results, the ring's bytes, zero copy.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
/* ctest: valgrind timeout=60 */
#include "stream_ends.h"

/* ---- opening */

static void test_stream_open_creates_then_opens(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_stream *writer = NULL, *reader = NULL, *other = NULL;
    EXPECT(-ENOENT, cove_stream_open_in(&reader, segment, "s", COVE_READER,
                                        &(struct cove_stream_options){.flags = COVE_EXISTING}));
    EXPECT(COVE_CREATED, cove_stream_open_in(&reader, segment, "s", COVE_READER, &small));
    EXPECT(-EEXIST, cove_stream_open_in(&writer, segment, "s", COVE_WRITER,
                                        &(struct cove_stream_options){.flags = COVE_EXCLUSIVE}));
    EXPECT(0, cove_stream_open_in(&writer, segment, "s", COVE_WRITER, NULL)); /* takes the capacity that is there */
    char pid[32];
    (void)snprintf(pid, sizeof pid, "(pid %d)", (int)getpid());
    EXPECT_SAYS(-EBUSY, cove_stream_open_in(&other, segment, "s", COVE_WRITER, NULL), pid);
    EXPECT_SAYS(-EBUSY, cove_stream_open_in(&other, segment, "s", COVE_READER, NULL), "reader already");
    assert_null(other);
    struct cove_stream_info info;
    EXPECT(0, cove_stream_stat(writer, &info));
    assert_int_equal(info.capacity_bytes, RING);
    assert_int_equal(info.writer_pid, getpid());
    assert_int_equal(info.reader_pid, getpid());
    EXPECT(0, cove_stream_close(writer));
    EXPECT(0, cove_stream_stat(reader, &info));
    assert_int_equal(info.writer_pid, 0);
    EXPECT(0, cove_stream_close(reader));
    EXPECT(0, cove_stream_close(NULL));
    unit_close(segment);
    unit_remove("t");
}

static void test_stream_open_by_full_name_counts_the_segment(void **state)
{
    (void)state;
    cove_stream *writer = NULL, *reader = NULL;
    EXPECT(-ENOENT,
           cove_stream_open(&writer, "t/a/b", COVE_WRITER, &(struct cove_stream_options){.flags = COVE_EXISTING}));
    assert_false(unit_exists("t"));
    EXPECT(COVE_CREATED, cove_stream_open(&writer, "t/a/b", COVE_WRITER, NULL));
    cove_segment *segment = unit_open("t");
    EXPECT(0, cove_stream_open(&reader, "t/a/b", COVE_READER, NULL));
    unit_close(segment); /* the streams keep it open */
    EXPECT(3, cove_stream_write(writer, "abc", 3, COVE_NOWAIT));
    char bytes[8];
    EXPECT(3, cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT));
    EXPECT(0, cove_stream_close(writer));
    EXPECT(0, cove_stream_close(reader));
    const char *const bad[] = {"t", "t/", "/a", "", "t//a", "t/a/", "t/a//b", ".t/a", "t/a b", "t/-a", NULL};
    for (int i = 0; bad[i]; i++)
        EXPECT(COVE_ENAME, cove_stream_open(&writer, bad[i], COVE_WRITER, NULL));
    EXPECT(COVE_ENAME, cove_stream_open(&writer, NULL, COVE_WRITER, NULL));
    unit_remove("t");
}

static void test_stream_open_with_impossible_options_changes_nothing(void **state)
{
    (void)state;
    cove_segment *segment = unit_open("t");
    cove_stream *stream = NULL;
    static const uint64_t capacities[] = {1, 2048, 4095, 4097, 12288, UINT64_C(1) << 32, UINT64_MAX};
    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++)
        EXPECT_SAYS(-EINVAL,
                    cove_stream_open_in(&stream, segment, "s", COVE_WRITER,
                                        &(struct cove_stream_options){.capacity_bytes = capacities[i]}),
                    "power of two");
    EXPECT(-EINVAL, cove_stream_open_in(&stream, segment, "s", COVE_WRITER,
                                        &(struct cove_stream_options){.flags = COVE_READONLY}));
    EXPECT(-EINVAL, cove_stream_open_in(NULL, segment, "s", COVE_WRITER, NULL));
    EXPECT(-EINVAL, cove_stream_open_in(&stream, segment, "s", (enum cove_end)3, NULL));
    EXPECT(-EINVAL, cove_stream_open_in(&stream, NULL, "s", COVE_WRITER, NULL));
    (void)unit_object(segment, "u", 100);
    EXPECT_SAYS(COVE_ETYPE, cove_stream_open_in(&stream, segment, "u", COVE_WRITER, NULL), "unit");
    assert_null(stream);
    assert_int_equal(unit_stat(segment).object_count, 1);
    unit_close(segment);
    unit_remove("t");
}

static void test_stream_largest_that_does_not_fit_leaves_nothing(void **state)
{
    (void)state;
    cove_segment *segment = unit_open_as("t", &(struct cove_options){.size_bytes = 65536, .max_size_bytes = 1 << 20});
    uint64_t before = unit_free_bytes(segment);
    cove_stream *stream = NULL;
    EXPECT(-ENOSPC, cove_stream_open_in(&stream, segment, "s", COVE_WRITER,
                                        &(struct cove_stream_options){.capacity_bytes = 1 << 21}));
    assert_int_equal(unit_stat(segment).object_count, 0);
    assert_int_equal(unit_free_bytes(segment), before);
    unit_sound(segment);
    unit_close(segment);
    unit_remove("t");
}

static void test_stream_wrong_end_is_told(void **state)
{
    (void)state;
    struct ends ends = open_both();
    char bytes[8] = "";
    const void *peeked = NULL;
    void *reserved = NULL;
    EXPECT(-EPERM, cove_stream_write(ends.reader, bytes, 1, COVE_NOWAIT));
    EXPECT(-EPERM, cove_stream_write_many(ends.reader, bytes, 1, 1, COVE_NOWAIT));
    EXPECT(-EPERM, cove_stream_reserve(ends.reader, &reserved, 1, COVE_NOWAIT));
    EXPECT(-EPERM, cove_stream_commit(ends.reader, 0));
    EXPECT(-EPERM, cove_stream_read(ends.writer, bytes, 1, COVE_NOWAIT));
    EXPECT(-EPERM, cove_stream_peek(ends.writer, &peeked, COVE_NOWAIT));
    EXPECT(-EPERM, cove_stream_consume(ends.writer, 0));
    EXPECT(-EINVAL, cove_stream_read(ends.reader, bytes, 0, COVE_NOWAIT));
    EXPECT(0, cove_stream_write(ends.writer, bytes, 0, COVE_NOWAIT));
    EXPECT(-EINVAL, cove_stream_read(NULL, bytes, 1, COVE_NOWAIT));
    EXPECT(-EINVAL, cove_stream_write(NULL, bytes, 1, COVE_NOWAIT));
    close_both(&ends);
}

/* ---- the ring */

/* Every size, at every place of the ring that it comes to: the ring is emptied after each, so all of it is used again
 * and again. */
static void test_stream_wraps_with_all_sizes(void **state)
{
    (void)state;
    struct ends ends = open_both();
    struct flow flow = {0, 0};
    for (size_t size = 1; size <= RING / 4; size++) {
        write_some(ends.writer, &flow, size);
        drain(ends.reader, &flow);
    }
    for (size_t size = RING / 4; size > 0; size -= size > 7 ? 7 : size) {
        write_some(ends.writer, &flow, size);
        write_some(ends.writer, &flow, 1);
        drain(ends.reader, &flow);
    }
    close_both(&ends);
}

/* One random step of the writer; false where there was no room, and then nothing went in. */
static bool random_write(cove_stream *writer, struct flow *flow, uint64_t *seed)
{
    unsigned char bytes[RING / 2] = {0};
    size_t size = 1 + (size_t)(unit_random(seed) % (unit_random(seed) % 4 ? 40 : RING / 4));
    switch (unit_random(seed) % 3) {
    case 0: {
        fill(bytes, flow->written, size);
        int64_t count = cove_stream_write(writer, bytes, size, COVE_NOWAIT);
        if (count == -EAGAIN)
            return false;
        EXPECT_WAS((int64_t)size, count); /* up to a quarter: whole or not at all */
        break;
    }
    case 1: {
        size_t piece = 1 + size % 100, count = 1 + (size_t)(unit_random(seed) % 8);
        size = piece * count;
        fill(bytes, flow->written, size);
        int64_t result = cove_stream_write_many(writer, bytes, piece, count, COVE_NOWAIT);
        if (result == -EAGAIN)
            return false;
        EXPECT_WAS((int64_t)count, result);
        break;
    }
    default: {
        void *place = NULL;
        size_t used = (size_t)(unit_random(seed) % (size + 1));
        int result = cove_stream_reserve(writer, &place, size, COVE_NOWAIT);
        if (result == -EAGAIN)
            return false;
        EXPECT_WAS(0, result);
        memset(place, 0xff, size); /* what is not committed must not be seen */
        fill(place, flow->written, used);
        EXPECT(0, cove_stream_commit(writer, used));
        size = used;
    }
    }
    flow->written += size;
    return true;
}

static void random_read(cove_stream *reader, struct flow *flow, uint64_t *seed)
{
    unsigned char bytes[RING];
    size_t most = 1 + (size_t)(unit_random(seed) % (unit_random(seed) % 2 ? 16 : sizeof bytes));
    if (unit_random(seed) % 2) {
        int64_t count = cove_stream_read(reader, bytes, most, COVE_NOWAIT);
        if (flow->read == flow->written)
            EXPECT_WAS(-EAGAIN, count);
        else {
            assert_true(count > 0 && (size_t)count <= most);
            compare(bytes, flow, (size_t)count);
        }
        return;
    }
    const void *piece = NULL;
    int64_t length = cove_stream_peek(reader, &piece, COVE_NOWAIT);
    if (flow->read == flow->written) {
        EXPECT_WAS(-EAGAIN, length);
        return;
    }
    assert_true(length > 0);
    size_t taken = (size_t)(unit_random(seed) % ((uint64_t)length + 1));
    compare(piece, flow, taken);
    EXPECT(0, cove_stream_consume(reader, taken));
}

static void test_stream_agrees_with_a_model(void **state)
{
    (void)state;
    struct ends ends = open_both();
    struct flow flow = {0, 0};
    uint64_t seed = 20240607;
    struct cove_stream_info info;
    for (int i = 0; i < 60000; i++) {
        uint64_t unread = flow.written - flow.read;
        if (unit_random(&seed) % 2 == 0 && !random_write(ends.writer, &flow, &seed))
            assert_true(unread > 0); /* an empty ring takes a quarter of itself */
        if (unit_random(&seed) % 2 == 0)
            random_read(ends.reader, &flow, &seed);
        if (i % 1000 == 0) {
            EXPECT(0, cove_stream_stat(ends.reader, &info));
            assert_int_equal(info.bytes_read, flow.read);
            assert_int_equal(info.bytes_unread, flow.written - flow.read);
            unit_sound(ends.segment);
        }
        if (i % 5000 == 0) { /* a new reader, a new writer: the model knows nothing of it */
            EXPECT(0, cove_stream_close(ends.reader));
            ends.reader = open_end(ends.segment, COVE_READER, 0);
            EXPECT(0, cove_stream_close(ends.writer));
            ends.writer = open_end(ends.segment, COVE_WRITER, 0);
            unsigned char bytes[RING];
            int64_t count;
            while ((count = EXPECT_GOOD(cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT))) > 0)
                compare(bytes, &flow, (size_t)count);
            assert_int_equal(flow.read, flow.written);
        }
    }
    drain(ends.reader, &flow);
    close_both(&ends);
}

static void test_stream_capacity_limits_are_told(void **state)
{
    (void)state;
    struct ends ends = open_both();
    static unsigned char bytes[8 * RING];
    void *place = NULL;
    EXPECT(-EMSGSIZE, cove_stream_reserve(ends.writer, &place, RING / 4 + 1, COVE_NOWAIT));
    EXPECT(-EMSGSIZE, cove_stream_reserve(ends.writer, &place, 0, COVE_NOWAIT));
    EXPECT(-EMSGSIZE, cove_stream_reserve(ends.writer, &place, SIZE_MAX, COVE_NOWAIT));
    EXPECT(-EMSGSIZE, cove_stream_write_many(ends.writer, bytes, RING / 4 + 1, 1, COVE_NOWAIT));
    EXPECT(-EMSGSIZE, cove_stream_write_many(ends.writer, bytes, 8, RING, COVE_NOWAIT));
    EXPECT(-EMSGSIZE, cove_stream_write_many(ends.writer, bytes, 16, SIZE_MAX / 8, COVE_NOWAIT));
    EXPECT(-EMSGSIZE, cove_stream_write_many(ends.writer, bytes, SIZE_MAX, 1, COVE_NOWAIT));
    EXPECT(0, cove_stream_write_many(ends.writer, bytes, 8, 0, COVE_NOWAIT));
    int64_t count = EXPECT_GOOD(cove_stream_write(ends.writer, bytes, sizeof bytes, COVE_NOWAIT)); /* as much as fits */
    assert_in_range((uint64_t)count, RING / 2, RING);
    EXPECT_SAYS(-EAGAIN, cove_stream_write(ends.writer, bytes, RING / 4, COVE_NOWAIT), "alive");
    EXPECT(-EAGAIN, cove_stream_write_many(ends.writer, bytes, 100, 5, COVE_NOWAIT));
    EXPECT(-EAGAIN, cove_stream_reserve(ends.writer, &place, RING / 4, COVE_NOWAIT));
    read_all(ends.reader, bytes, (size_t)count);
    EXPECT(-EAGAIN, cove_stream_read(ends.reader, bytes, 1, COVE_NOWAIT));
    close_both(&ends);
}

/* A quarter of the ring goes in and out, whatever place the ring is at. */
static void test_stream_quarter_fits_at_every_place(void **state)
{
    (void)state;
    struct ends ends = open_both();
    struct flow flow = {0, 0};
    for (int i = 0; i < 2000; i++) {
        write_some(ends.writer, &flow, RING / 4);
        drain(ends.reader, &flow);
        write_some(ends.writer, &flow, 1 + (size_t)i % 40);
        drain(ends.reader, &flow);
    }
    close_both(&ends);
}

/* ---- zero copy */

static void test_stream_reservation_is_dropped_or_shortened(void **state)
{
    (void)state;
    struct ends ends = open_both();
    void *place = NULL;
    const void *piece = NULL;
    char bytes[RING];
    EXPECT(-EINVAL, cove_stream_commit(ends.writer, 1));
    EXPECT(0, cove_stream_reserve(ends.writer, &place, 100, COVE_NOWAIT));
    memset(place, 0xff, 100);
    EXPECT(-EINVAL, cove_stream_commit(ends.writer, 101));
    EXPECT(0, cove_stream_commit(ends.writer, 0));
    EXPECT(-EINVAL, cove_stream_commit(ends.writer, 1));
    EXPECT(-EAGAIN, cove_stream_peek(ends.reader, &piece, COVE_NOWAIT));
    EXPECT(0, cove_stream_reserve(ends.writer, &place, 1000, COVE_NOWAIT));
    memset(place, 0xff, 1000);
    EXPECT(0, cove_stream_reserve(ends.writer, &place, 10, COVE_NOWAIT)); /* replaces */
    memcpy(place, "0123456789", 10);
    EXPECT(-EAGAIN, cove_stream_peek(ends.reader, &piece, COVE_NOWAIT));
    EXPECT(0, cove_stream_commit(ends.writer, 4));
    EXPECT(0, cove_stream_reserve(ends.writer, &place, 500, COVE_NOWAIT));
    memset(place, 0xff, 500);
    EXPECT(3, cove_stream_write(ends.writer, "xyz", 3, COVE_NOWAIT)); /* a write drops the reservation */
    EXPECT(-EINVAL, cove_stream_commit(ends.writer, 1));
    EXPECT(7, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
    assert_memory_equal(bytes, "0123xyz", 7);
    EXPECT(0, cove_stream_reserve(ends.writer, &place, 500, COVE_NOWAIT));
    memset(place, 0xff, 500);
    EXPECT(0, cove_stream_close(ends.writer)); /* abandoned */
    EXPECT(0, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
    EXPECT(-EAGAIN, cove_stream_read(ends.reader, bytes, sizeof bytes, COVE_NOWAIT));
    ends.writer = open_end(ends.segment, COVE_WRITER, 0);
    close_both(&ends);
}

static void test_stream_peek_and_consume_in_parts(void **state)
{
    (void)state;
    struct ends ends = open_both();
    const void *piece = NULL, *again = NULL;
    EXPECT(10, cove_stream_write(ends.writer, "0123456789", 10, COVE_NOWAIT));
    EXPECT(3, cove_stream_write(ends.writer, "abc", 3, COVE_NOWAIT));
    EXPECT(-EINVAL, cove_stream_consume(ends.reader, 1)); /* nothing was shown yet */
    EXPECT(10, cove_stream_peek(ends.reader, &piece, COVE_NOWAIT));
    EXPECT(10, cove_stream_peek(ends.reader, &again, COVE_NOWAIT));
    assert_ptr_equal(piece, again);
    EXPECT(-EINVAL, cove_stream_consume(ends.reader, 11));
    EXPECT(0, cove_stream_consume(ends.reader, 0));
    EXPECT(0, cove_stream_consume(ends.reader, 4));
    EXPECT(0, cove_stream_consume(ends.reader, 1));
    EXPECT(-EINVAL, cove_stream_consume(ends.reader, 6));
    EXPECT(5, cove_stream_peek(ends.reader, &piece, COVE_NOWAIT));
    assert_memory_equal(piece, "56789", 5);
    EXPECT(0, cove_stream_consume(ends.reader, 5));
    EXPECT(-EINVAL, cove_stream_consume(ends.reader, 1));
    char bytes[8];
    EXPECT(1, cove_stream_read(ends.reader, bytes, 1, COVE_NOWAIT)); /* a part of a record, by reading */
    EXPECT(2, cove_stream_peek(ends.reader, &piece, COVE_NOWAIT));
    assert_memory_equal(piece, "bc", 2);
    EXPECT(0, cove_stream_consume(ends.reader, 2));
    close_both(&ends);
}

static void test_stream_write_many_comes_in_pieces(void **state)
{
    (void)state;
    struct ends ends = open_both();
    const void *piece = NULL;
    for (int round = 0; round < 100; round++) {
        EXPECT(5, cove_stream_write_many(ends.writer, "aaabbbcccdddeee", 3, 5, COVE_NOWAIT));
        for (int i = 0; i < 5; i++) {
            EXPECT(3, cove_stream_peek(ends.reader, &piece, COVE_NOWAIT));
            assert_int_equal(*(const char *)piece, 'a' + i);
            EXPECT(0, cove_stream_consume(ends.reader, 3));
        }
    }
    close_both(&ends);
}

static const struct testing_case tests[] = {
    TEST(test_stream_open_creates_then_opens),
    TEST(test_stream_open_by_full_name_counts_the_segment),
    TEST(test_stream_open_with_impossible_options_changes_nothing),
    TEST(test_stream_largest_that_does_not_fit_leaves_nothing),
    TEST(test_stream_wrong_end_is_told),
    TEST(test_stream_wraps_with_all_sizes),
    TEST_TIMEOUT(test_stream_agrees_with_a_model, 20),
    TEST(test_stream_capacity_limits_are_told),
    TEST(test_stream_quarter_fits_at_every_place),
    TEST(test_stream_reservation_is_dropped_or_shortened),
    TEST(test_stream_peek_and_consume_in_parts),
    TEST(test_stream_write_many_comes_in_pieces),
};

int main(void)
{
    return testing_run("stream", tests);
}
