/* stream_ends.h - for tests of a stream with both ends in one process: opening them, bytes that tell their place.
 * SPDX-License-Identifier: Apache-2.0 OR MIT */
#ifndef STREAM_ENDS_H
#define STREAM_ENDS_H

#include "unit.h"

#define RING 4096u

static const struct cove_stream_options small = {.capacity_bytes = RING};

static inline cove_stream *open_end(cove_segment *segment, enum cove_end end, uint32_t flags)
{
    cove_stream *stream = NULL;
    struct cove_stream_options options = small;
    options.flags = flags;
    EXPECT_GOOD(cove_stream_open_in(&stream, segment, "s", end, &options));
    return stream;
}

struct ends {
    cove_segment *segment;
    cove_stream *writer, *reader;
};

static inline struct ends open_both(void)
{
    struct ends ends = {.segment = unit_open("t")};
    ends.writer = open_end(ends.segment, COVE_WRITER, 0);
    ends.reader = open_end(ends.segment, COVE_READER, 0);
    return ends;
}

static inline void close_both(struct ends *ends)
{
    unit_sound(ends->segment);
    EXPECT(0, cove_stream_close(ends->writer));
    EXPECT(0, cove_stream_close(ends->reader));
    unit_close(ends->segment);
    unit_remove("t");
}

/* What the stream's byte number i holds. */
static inline unsigned char pattern(uint64_t i)
{
    return (unsigned char)((i * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

struct flow {
    uint64_t written, read;
};

static inline void fill(unsigned char *bytes, uint64_t from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = pattern(from + i);
}

static inline void compare(const unsigned char *bytes, struct flow *flow, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != pattern(flow->read + i))
            fail_msg("byte %" PRIu64 " is wrong", flow->read + i);
    flow->read += count;
}

static inline void write_some(cove_stream *writer, struct flow *flow, size_t count)
{
    unsigned char bytes[RING] = {0};
    fill(bytes, flow->written, count);
    EXPECT((int64_t)count, cove_stream_write(writer, bytes, count, COVE_NOWAIT));
    flow->written += count;
}

/* Read all that is there. */
static inline void drain(cove_stream *reader, struct flow *flow)
{
    unsigned char bytes[RING];
    while (flow->read < flow->written) {
        int64_t count = EXPECT_GOOD(cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT));
        assert_true(count > 0);
        compare(bytes, flow, (size_t)count);
    }
    EXPECT(-EAGAIN, cove_stream_read(reader, bytes, sizeof bytes, COVE_NOWAIT));
}

/* Take all `count` bytes that are known to be there: a call may take less than that. */
static inline void read_all(cove_stream *reader, unsigned char *bytes, size_t count)
{
    for (size_t done = 0; done < count;) {
        int64_t more = EXPECT_GOOD(cove_stream_read(reader, bytes + done, count - done, COVE_NOWAIT));
        assert_true(more > 0);
        done += (size_t)more;
    }
}

#endif
